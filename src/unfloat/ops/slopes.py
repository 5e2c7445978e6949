"""Two straight lines that meet at 0: leaky ReLU, PReLU, absolute value (eq. 48)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Clamp, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODE, CODES, MULTIPLIER, RESCALING, SHIFT, Case, Domain, Operator, Params, Request
from unfloat.ops._rescaling import clamp_fields, code_span, scale_of
from unfloat.ops.elementwise import broadcast_shape
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import quantize_multiplier, saturate, scalar_like
from unfloat.spec.qparams import float32

SLOPE_BITS = 24  # of a float32's fraction
BELOW = {"below_multiplier": MULTIPLIER, "below_shift": SHIFT}
Bounds = tuple[np.ndarray, np.ndarray, np.ndarray]


def slope_pair(slope: float) -> tuple[int, int]:
    """A float32 as integers, (fraction, exponent): `fraction * 2^exponent`, exactly."""
    fraction, exponent = math.frexp(float32(slope))
    return int(fraction * 2**SLOPE_BITS), exponent - SLOPE_BITS


def slope_value(attributes: Attributes) -> float:
    """The slope below 0 of a leaky ReLU."""
    fraction, exponent = attributes["slope"]
    if not -149 - SLOPE_BITS <= exponent <= 128 - SLOPE_BITS:
        raise NumericDomainError(f"a slope must be a float32, found {fraction} * 2^{exponent}")
    return math.ldexp(fraction, exponent)


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    return {**request.attributes, **clamp_fields(request)}, {}, {}


def _sides(above: float, below: float, output: Tensor) -> dict[str, Any]:
    """The two factors, the lower one's magnitude."""
    (multiplier, shift), (below_multiplier, below_shift) = quantize_multiplier(above), quantize_multiplier(abs(below))
    return {
        "multiplier": multiplier,
        "shift": shift,
        "below_multiplier": below_multiplier,
        "below_shift": below_shift,
        "output_zero_point": output.qparams.zero_point,
    }


def _derive_leaky_relu(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = S_in / S_out` and `S_in slope / S_out` (eq. 48)."""
    slope, scale, output_scale = slope_value(instruction.attributes), scale_of(inputs[0]), scale_of(output)
    sides = _sides(scale / output_scale, scale * slope / output_scale, output)
    sign = -1 if slope < 0 else 1
    return {"input_zero_point": inputs[0].qparams.zero_point, "below_sign": sign, **sides}


def _derive_abs(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = S_in / S_out` on both sides, with the other sign below 0."""
    factor = scale_of(inputs[0]) / scale_of(output)
    zero_point = inputs[0].qparams.zero_point
    return {"input_zero_point": zero_point, "below_sign": -1, **_sides(factor, factor, output)}


def _derive_prelu(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = S_in / S_out` and `S_in S_slope / S_out`."""
    scale, slope = (scale_of(tensor) for tensor in inputs)
    sides = _sides(scale / scale_of(output), scale * slope / scale_of(output), output)
    return {"input_zero_points": tuple(tensor.qparams.zero_point for tensor in inputs), **sides}


def _joined(b: Backend, attributes: Attributes, steps: Array, below: Array) -> Array:
    """`clamp(Z + R(steps))` from 0 on, `clamp(Z + R'(below))` under it."""
    results = []
    for accumulator, prefix in ((steps, ""), (below, "below_")):
        multiplier, shift = (scalar_like(steps, attributes[f"{prefix}{name}"]) for name in ("multiplier", "shift"))
        results.append(b.requantize(accumulator, multiplier, shift, attributes["rounding"]))
    joined = b.xp.where(steps < 0, results[1], results[0])
    return saturate(joined + attributes["output_zero_point"], attributes["clamp_min"], attributes["clamp_max"])


def _two_slopes(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    """A negative factor is a positive one of the negated step: (9) sees their product only."""
    steps = inputs[0] - attributes["input_zero_point"]
    return _joined(b, attributes, steps, steps * attributes["below_sign"])


def _prelu(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    steps, slope = (x - z for x, z in zip(inputs, attributes["input_zero_points"], strict=True))
    return _joined(b, attributes, steps, steps * slope)


def _two_slopes_accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> Bounds:
    low, high = code_span(inputs[0])
    below = low * instruction.attributes["below_sign"]
    return _two_sided(instruction, (0, high), (min(below, 0), max(below, 0)))


def _prelu_accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> Bounds:
    (low, high), slopes = code_span(inputs[0]), code_span(inputs[1])
    corners = [0, *(low * slope for slope in slopes)]
    return _two_sided(instruction, (0, high), (min(corners), max(corners)))


def _two_sided(instruction: Instruction, above: tuple[int, int], below: tuple[int, int]) -> Bounds:
    shifts = [max(instruction.attributes[name], 0) for name in ("shift", "below_shift")]
    return np.array([above[0], below[0]]), np.array([above[1], below[1]]), np.array(shifts)


def _float_leaky_relu(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.xp.where(inputs[0] > 0, inputs[0], inputs[0] * slope_value(attributes))


def _prelu_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    shape = broadcast_shape(attributes, inputs, params)
    if shape != inputs[0]:
        raise ValueError(f"slopes of shape {inputs[1]} do not broadcast to values of shape {inputs[0]}")
    return shape


def cases() -> Iterator[Case]:
    """Tails; ranks 2 to 4; clamps."""
    yield Case("all codes", ((16, 16),))
    yield Case("a tail", ((3, 5, 13),))
    yield Case("one value", ((1,),))
    yield Case("with a clamp", ((65,),), clamp=Clamp(-1.0, 1.0))


def leaky_cases() -> Iterator[Case]:
    """Slopes of either sign, below and above 1, and none."""
    for slope in (0.01, 0.3, 1.0, 1.7, -0.2, 0.0):
        for case in cases():
            yield Case(f"{slope}, {case.label}", case.inputs, {"slope": slope_pair(slope)}, clamp=case.clamp)


def prelu_cases() -> Iterator[Case]:
    """A slope for each channel, each value, and one for all."""
    yield Case("a slope for each channel", ((4, 5, 7), (1, 1, 7)))
    yield Case("a slope for each value", ((4, 4, 10), (4, 4, 10)))
    yield Case("one slope", ((33,), (1,)))
    yield Case("rank 3, with a clamp", ((9, 17), (1, 17)), clamp=Clamp(-1.0, 1.0))


_TWO_SLOPES = {
    "input_zero_point": CODE,
    "below_sign": Domain("int", -1, 1),
    **BELOW,
    **RESCALING,
}


def _operator(name: str, summary: str, **rest: Any) -> Operator:
    shared: dict[str, Any] = {
        "arity": (1, 1),
        "fields": _TWO_SLOPES,
        "shape": lambda attributes, inputs, params: inputs[0],
        "integer_meaning": _two_slopes,
        "accumulators": _two_slopes_accumulators,
        "cases": cases,
        **rest,
    }
    return Operator(name=name, summary=summary, slots=frozenset({"clamp"}), lower=_lower, in_place=True, **shared)


OPERATORS = (
    _operator(
        "leaky_relu",
        "The value itself from 0 on, times a constant slope below.",
        attributes={"slope": Domain("ints", -(2**SLOPE_BITS), 2**SLOPE_BITS, 2)},
        float_meaning=_float_leaky_relu,
        derive=_derive_leaky_relu,
        cases=leaky_cases,
    ),
    _operator(
        "abs",
        "The absolute value.",
        float_meaning=lambda b, attributes, inputs, params: b.xp.abs(inputs[0]),
        derive=_derive_abs,
    ),
    _operator(
        "prelu",
        "The value itself from 0 on, times a slope of its channel below.",
        arity=(2, 2),
        fields={"input_zero_points": CODES, **BELOW, **RESCALING},
        shape=_prelu_shape,
        float_meaning=lambda b, attributes, inputs, params: b.xp.where(inputs[0] > 0, inputs[0], inputs[0] * inputs[1]),
        integer_meaning=_prelu,
        accumulators=_prelu_accumulators,
        derive=_derive_prelu,
        storages=("int8", "uint8"),  # TFLite wants slopes of 8 bits beside codes of 16
        cases=prelu_cases,
    ),
)
