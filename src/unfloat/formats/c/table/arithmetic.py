"""add, sub, mul, rescale, mean, sum, batch_matmul."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.text import Value
from unfloat.spec.fixedpoint import WIDE_ROUNDING, reduced_multiplier


def _add(layer: Layer) -> Parameters:
    fields: dict[str, Value] = {
        "sign": 1,
        "left_shift": layer.number("left_shift"),
        "input_zero_point": zero_points(layer, layer.numbers("input_zero_points")),
        "input_multiplier": layer.numbers("input_multipliers"),
        "input_shift": layer.numbers("input_shifts"),
        "multiplier": layer.number("output_multiplier"),
        "shift": layer.number("output_shift"),
        "output": layer.output_stage(),
    }
    return Parameters("add", fields)


def _sub(layer: Layer) -> Parameters:
    return Parameters("add", {**_add(layer).fields, "sign": -1})


def _scale(layer: Layer, zeros: Sequence[int], axes: Sequence[int] = ()) -> Parameters:
    """Of an operator with one multiplier: the zero points of its inputs, and the axes or inputs that `axes` names."""
    fields: dict[str, Value] = {
        "input_zero_point": zero_points(layer, zeros),
        "multiplier": layer.number("multiplier"),
        "shift": layer.number("shift"),
        "axes": f"{sum(1 << axis for axis in axes)}u",
        "output": layer.output_stage(),
    }
    return Parameters("scale", fields)


def _mul(layer: Layer) -> Parameters:
    return _scale(layer, layer.numbers("input_zero_points"))


def _rescale(layer: Layer) -> Parameters:
    return _scale(layer, [layer.number("input_zero_point")])


def _mean(layer: Layer) -> Parameters:
    return _scale(layer, [layer.number("input_zero_point")], layer.numbers("axes"))


def _batch_matmul(layer: Layer) -> Parameters:
    flags = [i for i, flag in enumerate(layer.numbers("transpose")) if flag]
    parameters = _scale(layer, layer.numbers("input_zero_points"), flags)
    if layer.instruction.attributes["rounding"] != WIDE_ROUNDING:
        return parameters
    reduced = int(reduced_multiplier(np.int64(layer.number("multiplier"))))
    return Parameters("scale", {**parameters.fields, "multiplier": reduced})


def zero_points(layer: Layer, zeros: Sequence[int]) -> list[Value]:
    """The inputs' zero points in byte space."""
    return [z + byte_offset(tensor.qparams) for z, tensor in zip(zeros, layer.inputs, strict=True)]


EMITTERS = {
    "add": Emitter(_add, packed="int32"),
    "sub": Emitter(_sub, packed="int32"),
    "mul": Emitter(_mul),
    "rescale": Emitter(_rescale),
    "mean": Emitter(_mean),
    "sum": Emitter(_mean),
    "batch_matmul": Emitter(_batch_matmul),
}
