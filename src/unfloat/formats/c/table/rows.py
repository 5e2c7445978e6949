"""softmax, log_softmax, l2_normalization: operators on the rows of the last axis."""

from __future__ import annotations

from unfloat.formats.c.layer import Emitter, Layer, Parameters
from unfloat.formats.c.table.arithmetic import zero_points

DIFFERENCES = ("multiplier", "shift", "diff_min")


def _softmax(layer: Layer) -> Parameters:
    return Parameters("softmax", {name: layer.number(name) for name in DIFFERENCES})


def _log_softmax(layer: Layer) -> Parameters:
    names = (*DIFFERENCES, "reverse_multiplier", "reverse_shift")
    return Parameters("softmax", {name: layer.number(name) for name in names})


def _l2_normalization(layer: Layer) -> Parameters:
    return Parameters("scale", {"input_zero_point": zero_points(layer, [layer.number("input_zero_point")])})


EMITTERS = {
    "softmax": Emitter(_softmax, packed="int32"),
    "log_softmax": Emitter(_log_softmax, packed="int32"),
    "l2_normalization": Emitter(_l2_normalization),
}
