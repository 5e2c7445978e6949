"""add, mul, rescale, mean, softmax."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.text import Value


def _add(layer: Layer) -> Parameters:
    fields: dict[str, Value] = {
        "left_shift": layer.number("left_shift"),
        "input_zero_point": _zero_points(layer, layer.numbers("input_zero_points")),
        "input_multiplier": layer.numbers("input_multipliers"),
        "input_shift": layer.numbers("input_shifts"),
        "multiplier": layer.number("output_multiplier"),
        "shift": layer.number("output_shift"),
        "output": layer.output_stage(),
    }
    return Parameters("add", fields)


def _scale(layer: Layer, zero_points: Sequence[int], axes: Sequence[int] = ()) -> Parameters:
    fields: dict[str, Value] = {
        "input_zero_point": _zero_points(layer, zero_points),
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


def _softmax(layer: Layer) -> Parameters:
    return Parameters("softmax", {name: layer.number(name) for name in ("multiplier", "shift", "diff_min")})


def _zero_points(layer: Layer, zero_points: Sequence[int]) -> list[Value]:
    return [z + byte_offset(tensor.qparams) for z, tensor in zip(zero_points, layer.inputs, strict=True)]


EMITTERS = {
    "add": Emitter(_add, packed="int32"),
    "mul": Emitter(_mul),
    "rescale": Emitter(_rescale),
    "mean": Emitter(_mean),
    "softmax": Emitter(_softmax, packed="int32"),
}
