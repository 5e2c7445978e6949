"""Add, subtract and multiply two values, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import BATCH, Attributes, Clamp, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODES, MULTIPLIER, RESCALING, SHIFT, Case, Domain, Operator, Params, Request
from unfloat.ops._rescaling import clamp_fields, code_span, requantize_single, scale_of, single_factor
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import ADD_LEFT_SHIFT, WIDE_ADD_LEFT_SHIFT, Addition, quantize_multiplier, subtract
from unfloat.spec.qparams import float32


def broadcast_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """The common shape of two operands; a constant operand has 1 where the other has BATCH."""
    a, b = inputs
    if len(a) != len(b):
        raise ValueError(f"two operands must have the same number of dimensions, found {a} and {b}")
    for x, y in zip(a, b, strict=True):
        if x != y and 1 not in (x, y):
            raise ValueError(f"shapes {a} and {b} do not broadcast")
    return tuple(BATCH if BATCH in pair else max(pair) for pair in zip(a, b, strict=True))


def _zero_points(inputs: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.qparams.zero_point for tensor in inputs)


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    return clamp_fields(request), {}, {}


def _derive_add(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """Both inputs go to the scale `2 max(S1, S2) / 2^20`, the sum to S_out (eq. 21): TFLite's rule. int16: 2^15."""
    scales = [scale_of(tensor) for tensor in inputs]
    twice = 2.0 * max(scales)
    pairs = [quantize_multiplier(scale / twice) for scale in scales]
    left_shift = WIDE_ADD_LEFT_SHIFT if inputs[0].qparams.dtype == "int16" else ADD_LEFT_SHIFT
    factor = twice / (2**left_shift * scale_of(output))
    if factor >= 1:
        raise _sum_too_fine(scales, scale_of(output), left_shift)
    multiplier, shift = quantize_multiplier(factor)
    return {
        "left_shift": left_shift,
        "input_zero_points": _zero_points(inputs),
        "input_multipliers": tuple(m for m, _ in pairs),
        "input_shifts": tuple(s for _, s in pairs),
        "output_multiplier": multiplier,
        "output_shift": shift,
        "output_zero_point": output.qparams.zero_point,
    }


def _sum_too_fine(scales: Sequence[float], output: float, left_shift: int) -> NumericDomainError:
    """The refusal of a sum whose codes are finer than the common scale of its operands."""
    coarse, finest = max(scales), max(scales) / 2 ** (left_shift - 1)
    narrower = (
        "" if left_shift == ADD_LEFT_SHIFT else ", or 8 bits for this layer (an override with activation_bits = 8)"
    )
    return NumericDomainError(
        f"the scale of a sum must be above 2^-{left_shift - 1} of its operands' greater one: required more than "
        f"{finest:.4g} (of {coarse:.4g}), found {output:.4g}; try: leave out an operand that is always 0 (it has the "
        f"scale 1){narrower}"
    )


def _addition(attributes: Attributes) -> Addition:
    """An add instruction's fields as arithmetic takes them."""
    a = attributes
    return Addition(
        a["input_zero_points"],
        a["input_multipliers"],
        a["input_shifts"],
        a["left_shift"],
        (a["output_multiplier"], a["output_shift"]),
        (a["output_zero_point"], a["clamp_min"], a["clamp_max"]),
    )


def _add(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return b.add(inputs, _addition(attributes), attributes["rounding"])


def _sub(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    wide = [b.xp.astype(x, b.xp.int64) for x in inputs]  # products of two int32 values follow
    return subtract(wide, _addition(attributes), attributes["rounding"])


def _derive_mul(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = (S1 * S2) / S_out` (eq. 22)."""
    factor = scale_of(inputs[0]) * scale_of(inputs[1]) / scale_of(output)
    if output.qparams.dtype == "uint8":  # TFLite's uint8 kernel computes the factor in float32 throughout
        factor = float32(float32(scale_of(inputs[0]) * scale_of(inputs[1])) / scale_of(output))
    return {"input_zero_points": _zero_points(inputs), **single_factor(factor, output)}


def _mul(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    first, second = (x - z for x, z in zip(inputs, attributes["input_zero_points"], strict=True))
    return requantize_single(b, attributes, first * second)


def _mul_accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    corners = [x * y for x in code_span(inputs[0]) for y in code_span(inputs[1])]
    shift = max(instruction.attributes["shift"], 0)
    return np.array([min(corners)]), np.array([max(corners)]), np.array([shift])


def cases() -> Iterator[Case]:
    """Equal shapes, tails, broadcasts of every kind."""
    for channels in (1, 3, 16, 65):
        yield Case(f"{channels} channels", ((3, 5, channels), (3, 5, channels)))
    yield Case("with a clamp", ((4, 4, 10), (4, 4, 10)), clamp=Clamp(0.0, float("inf")))
    yield Case("with a clamp on both sides", ((4, 4, 10), (4, 4, 10)), clamp=Clamp(-1.0, 1.0))
    yield Case("a value for each channel", ((4, 5, 7), (1, 1, 7)))
    yield Case("a value for each pixel", ((4, 5, 1), (4, 5, 6)))
    yield Case("rank 2", ((33,), (33,)))
    yield Case("rank 2, one value", ((33,), (1,)))


_ADD_FIELDS = {
    "left_shift": Domain("int", 0, ADD_LEFT_SHIFT),
    "input_zero_points": CODES,
    "input_multipliers": Domain("ints", 0, 2**31 - 1, 2),
    "input_shifts": Domain("ints", -31, 0, 2),
    "output_multiplier": MULTIPLIER,
    "output_shift": SHIFT,
    **{name: domain for name, domain in RESCALING.items() if name not in ("multiplier", "shift")},
}

OPERATORS = (
    Operator(
        name="add",
        summary="The sum of two values, each rescaled to a common scale.",
        arity=(2, 2),
        fields=_ADD_FIELDS,
        slots=frozenset({"clamp"}),
        shape=broadcast_shape,
        float_meaning=lambda b, attributes, inputs, params: inputs[0] + inputs[1],
        integer_meaning=_add,
        addition=_addition,
        lower=_lower,
        derive=_derive_add,
        in_place=True,
        cases=cases,
    ),
    Operator(
        name="sub",
        summary="The difference of two values, each rescaled to a common scale.",
        arity=(2, 2),
        fields=_ADD_FIELDS,
        slots=frozenset({"clamp"}),
        shape=broadcast_shape,
        float_meaning=lambda b, attributes, inputs, params: inputs[0] - inputs[1],
        integer_meaning=_sub,
        lower=_lower,
        derive=_derive_add,
        in_place=True,
        cases=cases,
    ),
    Operator(
        name="mul",
        summary="The product of two values.",
        arity=(2, 2),
        fields={"input_zero_points": CODES, **RESCALING},
        slots=frozenset({"clamp"}),
        shape=broadcast_shape,
        float_meaning=lambda b, attributes, inputs, params: inputs[0] * inputs[1],
        integer_meaning=_mul,
        lower=_lower,
        derive=_derive_mul,
        accumulators=_mul_accumulators,
        in_place=True,
        cases=cases,
    ),
)
