"""sub, sum, batch_matmul, log_softmax, l2_normalization."""

from __future__ import annotations

import numpy as np

from unfloat.formats.c.layer import Emitter, Layer, Parameters
from unfloat.formats.c.table.arithmetic import add, mean, scale, softmax, zero_points
from unfloat.spec.fixedpoint import WIDE_ROUNDING, reduced_multiplier


def _sub(layer: Layer) -> Parameters:
    return Parameters("add", {**add(layer).fields, "sign": -1})


def _batch_matmul(layer: Layer) -> Parameters:
    flags = [i for i, flag in enumerate(layer.numbers("transpose")) if flag]
    parameters = scale(layer, layer.numbers("input_zero_points"), flags)
    if layer.instruction.attributes["rounding"] != WIDE_ROUNDING:
        return parameters
    reduced = int(reduced_multiplier(np.int64(layer.number("multiplier"))))
    return Parameters("scale", {**parameters.fields, "multiplier": reduced})


def _log_softmax(layer: Layer) -> Parameters:
    reverse = {name: layer.number(name) for name in ("reverse_multiplier", "reverse_shift")}
    return Parameters("softmax", {**softmax(layer).fields, **reverse})


def _l2_normalization(layer: Layer) -> Parameters:
    return Parameters("scale", {"input_zero_point": zero_points(layer, [layer.number("input_zero_point")])})


EMITTERS = {
    "sub": Emitter(_sub, packed="int32"),
    "sum": Emitter(mean),
    "batch_matmul": Emitter(_batch_matmul),
    "log_softmax": Emitter(_log_softmax, packed="int32"),
    "l2_normalization": Emitter(_l2_normalization),
}
