"""logistic, tanh, hard_swish, gelu, leaky_relu, abs, prelu: functions of one value."""

from __future__ import annotations

import numpy as np

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.text import Value

CURVE = ("multiplier", "shift", "segment_bits", "centre", "output_shift")


def _lookup(layer: Layer) -> Parameters:
    """A table of bytes; its entries come in the order of the codes' bytes."""
    table = layer.instruction.constants["table"]
    source, target = (byte_offset(tensor.qparams) for tensor in (layer.inputs[0], layer.output))
    return Parameters("lookup", {}, {"bytes": (np.roll(table, source) + target).astype(np.uint8)})


def _curve(layer: Layer) -> Parameters:
    if layer.output.qparams.dtype != "int16":
        return _lookup(layer)
    fields: dict[str, Value] = {"curve": {name: layer.number(name) for name in CURVE}}
    return Parameters("lookup", fields, {"ends": layer.instruction.constants["table"]})


def _slopes(layer: Layer, zero_points: list[int], fields: dict[str, Value]) -> Parameters:
    offsets = [byte_offset(tensor.qparams) for tensor in layer.inputs]
    shared = ("multiplier", "shift", "below_multiplier", "below_shift")
    numbers: dict[str, Value] = {
        "input_zero_point": [z + offset for z, offset in zip(zero_points, offsets, strict=True)],
        **{name: layer.number(name) for name in shared},
        **fields,
        "output": layer.output_stage(),
    }
    return Parameters("slopes", numbers)


def _two_slopes(layer: Layer) -> Parameters:
    return _slopes(layer, [layer.number("input_zero_point")], {"below_sign": layer.number("below_sign")})


def _prelu(layer: Layer) -> Parameters:
    return _slopes(layer, layer.numbers("input_zero_points"), {})


EMITTERS = {
    "logistic": Emitter(_curve),
    "tanh": Emitter(_curve),
    "hard_swish": Emitter(_lookup),
    "gelu": Emitter(_lookup),
    "leaky_relu": Emitter(_two_slopes),
    "abs": Emitter(_two_slopes),
    "prelu": Emitter(_prelu),
}
