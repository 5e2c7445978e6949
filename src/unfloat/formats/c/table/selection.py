"""slice, gather, take; maximum, minimum, reduce_max, reduce_min, arg_max; resize_bilinear."""

from __future__ import annotations

import numpy as np

from unfloat.formats.c.layer import Emitter, Layer, Parameters
from unfloat.formats.c.text import Value
from unfloat.spec.resize import bilinear_scale


def _slice(layer: Layer) -> Parameters:
    return Parameters("move", {"before": layer.numbers("begin"), "stride": layer.numbers("stride")})


def _gather(layer: Layer) -> Parameters:
    indices = np.array(layer.numbers("indices"), np.int32)
    return Parameters("move", {"axis": layer.number("axis")}, {"indices": indices})


def _of_tensors(layer: Layer) -> Parameters:
    """Its tensors say all."""
    return Parameters()


def _reduction(layer: Layer) -> Parameters:
    return Parameters("move", {"axes": sum(1 << axis for axis in layer.numbers("axes"))})


def _arg_max(layer: Layer) -> Parameters:
    return Parameters("move", {"axis": layer.number("axis")})


def _resize_bilinear(layer: Layer) -> Parameters:
    modes = bool(layer.number("align_corners")), bool(layer.number("half_pixel_centers"))
    axes: dict[str, Value] = {}
    for name, dimension in (("rows", 1), ("columns", 2)):
        source = layer.inputs[0].shape[dimension]
        scale, start = bilinear_scale(source, layer.output.shape[dimension], *modes)
        axes[name] = {"source": source, "scale": scale, "start": start}
    return Parameters("resize", axes)


EMITTERS = {
    "slice": Emitter(_slice),
    "gather": Emitter(_gather),
    "take": Emitter(_of_tensors),
    "maximum": Emitter(_of_tensors),
    "minimum": Emitter(_of_tensors),
    "reduce_max": Emitter(_reduction),
    "reduce_min": Emitter(_reduction),
    "arg_max": Emitter(_arg_max),
    "resize_bilinear": Emitter(_resize_bilinear),
}
