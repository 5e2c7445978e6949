"""add, mul, rescale, mean, softmax."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.text import Value


def add(layer: Layer) -> Parameters:
    """Of add; `sign` is that of the second operand."""
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


def scale(layer: Layer, zeros: Sequence[int], axes: Sequence[int] = ()) -> Parameters:
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
    return scale(layer, layer.numbers("input_zero_points"))


def _rescale(layer: Layer) -> Parameters:
    return scale(layer, [layer.number("input_zero_point")])


def mean(layer: Layer) -> Parameters:
    """Of mean and sum."""
    return scale(layer, [layer.number("input_zero_point")], layer.numbers("axes"))


def softmax(layer: Layer) -> Parameters:
    """Of softmax."""
    return Parameters("softmax", {name: layer.number(name) for name in ("multiplier", "shift", "diff_min")})


def zero_points(layer: Layer, zeros: Sequence[int]) -> list[Value]:
    """The inputs' zero points in byte space."""
    return [z + byte_offset(tensor.qparams) for z, tensor in zip(zeros, layer.inputs, strict=True)]


EMITTERS = {
    "add": Emitter(add, packed="int32"),
    "mul": Emitter(_mul),
    "rescale": Emitter(_rescale),
    "mean": Emitter(mean),
    "softmax": Emitter(softmax, packed="int32"),
}
