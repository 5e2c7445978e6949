"""Softmax over the last axis in fixed point, no float: TFLite's reference.

8 bits without a table (eq. 26 to 30), int16 with two of 513 points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODE, MULTIPLIER, Case, Domain, Operator, Params, QuantRecord
from unfloat.ops._rescaling import scale_of
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import (
    exp_on_negative_values,
    quantize_multiplier,
    reciprocal,
    requantize,
    rounding_divide_by_pot,
    saturate,
    saturating_rounding_doubling_high_mul,
    scalar_like,
)
from unfloat.spec.qparams import QParams
from unfloat.spec.record import Record
from unfloat.spec.transcendental import exponential_table, interpolate, over_their_sum, reciprocal_table

DIFFERENCE_BITS = 5  # differences are Q5.26: e^-32 is below every output code
SUM_BITS = 12  # the sum is Q12.19: room for 4,095 classes, since each of equal ones rounds to 1
OUTPUT_BITS = 8
TABLE_RANGE = 10 / 65535  # the real that a step of the exponential's table stands for
EVERY_DIFFERENCE = -(2**16 - 1)  # of int16 codes; the least difference of bytes is a multiple of 31
FIXED = MappingProxyType(
    {
        "int8": QParams((2.0**-8,), -128),
        "uint8": QParams((2.0**-8,), 0, "uint8"),
        "int16": QParams((2.0**-15,), 0, "int16", 16),
    }
)
FIELDS = {
    "multiplier": MULTIPLIER,
    "shift": Domain("int", -31, 31),
    "diff_min": Domain("int", -(2**31), 0),
    "output_zero_point": CODE,
}


def beta_pair(beta: float) -> tuple[int, int]:
    """A positive float32 as (mantissa, exponent), `mantissa * 2^exponent`, the mantissa odd: an attribute of integers."""
    numerator, denominator = beta.as_integer_ratio()
    zeros = (numerator & -numerator).bit_length() - 1
    return numerator >> zeros, zeros - denominator.bit_length() + 1


def _beta(attributes: Attributes) -> float:
    """What multiplies differences before their exponentials; 1 where it is left out."""
    mantissa, exponent = attributes.get("beta", (1, 0))
    if mantissa < 1 or not -149 <= exponent <= 128 - mantissa.bit_length():
        raise NumericDomainError(f"beta must be a positive float32, found {mantissa} * 2^{exponent}")
    return math.ldexp(mantissa, exponent)


def softmax_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """Of the input; its last axis has a limit."""
    if len(inputs[0]) < 2 or inputs[0][-1] >= 2**SUM_BITS:
        raise ValueError(f"softmax takes at most {2**SUM_BITS - 1} classes on the last axis, found shape {inputs[0]}")
    return inputs[0]


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """The factor from codes to Q5.26; of int16 codes, to steps of a table over [-10, 0] (eq. 30)."""
    if output.qparams.dtype != "int16":
        return derive_differences(instruction, inputs, output)
    multiplier, shift = quantize_multiplier(scale_of(inputs[0]) * _beta(instruction.attributes) / TABLE_RANGE, most=15)
    return {"multiplier": multiplier, "shift": shift, "diff_min": EVERY_DIFFERENCE, "output_zero_point": 0}


def derive_differences(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """The factor from codes to Q5.26, and the least difference whose exponential is not zero."""
    factor = min(scale_of(inputs[0]) * _beta(instruction.attributes) * 2 ** (31 - DIFFERENCE_BITS), 2**31 - 1.0)
    multiplier, shift = quantize_multiplier(factor, most=31)
    if factor <= 1:
        raise NumericDomainError(f"softmax needs an input scale above 2^-26, found {scale_of(inputs[0])}")
    return {
        "multiplier": multiplier,
        "shift": shift,
        "diff_min": -((((1 << DIFFERENCE_BITS) - 1) << (31 - DIFFERENCE_BITS)) >> shift),
        "output_zero_point": output.qparams.zero_point,
    }


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return (_wide if attributes["diff_min"] == EVERY_DIFFERENCE else _narrow)(b, attributes, inputs[0])


def _wide(b: Backend, attributes: Attributes, codes: Array) -> Array:
    """int16: exponentials and the reciprocal of their sum from tables, Q0.15 (eq. 26' and 27')."""
    x = b.xp.astype(codes, b.xp.int64)
    exp, reciprocals = (b.constant(table) for table in (exponential_table(), reciprocal_table()))
    difference = x - b.xp.max(x, axis=-1, keepdims=True)
    factor = (scalar_like(x, attributes["multiplier"]), scalar_like(x, attributes["shift"]))
    steps = requantize(difference, *factor, "double")
    terms = interpolate(exp, saturate(steps + 2**15 - 1, -(2**15), 2**15 - 1))
    return over_their_sum(b.xp.astype(terms, b.xp.int64), reciprocals)


def _narrow(b: Backend, attributes: Attributes, codes: Array) -> Array:
    found = exponentials(b, attributes, codes)
    mantissa, exponent = reciprocal(found.total, SUM_BITS)
    product = saturating_rounding_doubling_high_mul(mantissa, found.powers)
    codes = rounding_divide_by_pot(product, exponent + (31 - OUTPUT_BITS))
    return saturate(b.xp.where(found.inside, codes, codes * 0), 0, 255) + attributes["output_zero_point"]


class Exponentials(Record):
    """Of the differences from a row's greatest code, int64.

    Attributes:
        inside: Where the exponential is not zero.
        differences: Codes, at most 0; 0 outside.
        scaled: The same in Q5.26.
        powers: Their exponentials, Q0.31.
        total: The sum of those inside, Q12.19, one a row.
    """

    inside: Array
    differences: Array
    scaled: Array
    powers: Array
    total: Array


def exponentials(b: Backend, attributes: Attributes, codes: Array) -> Exponentials:
    """What softmax and its logarithm begin with (eq. 26, 27 and 30)."""
    x = b.xp.astype(codes, b.xp.int64)  # products of two int32 values follow
    difference = x - b.xp.max(x, axis=-1, keepdims=True)
    inside = difference >= attributes["diff_min"]
    difference = b.xp.where(inside, difference, difference * 0)
    scaled = saturating_rounding_doubling_high_mul(difference << attributes["shift"], attributes["multiplier"])
    powers = exp_on_negative_values(scaled, DIFFERENCE_BITS)
    terms = rounding_divide_by_pot(powers, difference * 0 + SUM_BITS)
    total = b.xp.sum(b.xp.where(inside, terms, terms * 0), axis=-1, keepdims=True)
    return Exponentials(inside, difference, scaled, powers, total)


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    real = inputs[0] * _beta(attributes)
    powers = b.exp(real - b.xp.max(real, axis=-1, keepdims=True))
    return powers / b.xp.sum(powers, axis=-1, keepdims=True)


def cases() -> Iterator[Case]:
    """Depths 1 to 1,000."""
    for depth in (1, 2, 10, 17, 1000):
        yield Case(f"{depth} classes", ((depth,),))
    yield Case("rank 3", ((5, 7),))


def _scaled_cases() -> Iterator[Case]:
    """And factors of the differences: less than 1, and more."""
    yield from cases()
    for beta in (0.75, 5.0):
        yield Case(f"beta {beta}", ((3, 9),), {"beta": beta_pair(beta)})


OPERATORS = (
    Operator(
        name="softmax",
        summary="The softmax over the last axis, output scale 1/256, or 1/32768.",
        arity=(1, 1),
        optional={"beta": Domain("ints", -149, 2**24, 2)},
        fields=FIELDS,
        shape=softmax_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        quant=QuantRecord(output="fixed", fixed=FIXED),
        derive=_derive,
        cases=_scaled_cases,
    ),
)
