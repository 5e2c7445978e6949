"""Functions of one value, from codes to codes (docs/numerics.md, section 14): what tables of all codes are made of.

Integers are int64 and hold int32 values, as in `fixedpoint`. Reals are float64 and see + - * / only, so that every
machine makes the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import (
    INT32_MAX,
    Array,
    array_namespace,
    exp_on_negative_values,
    one_minus_x_over_one_plus_x,
    one_over_one_plus_x,
    quantize_multiplier,
    requantize,
    round_half_away,
    rounding_divide_by_pot,
    saturate,
)
from unfloat.spec.qparams import QParams, float32
from unfloat.spec.record import Record

INPUT_BITS = 4  # integer bits of the argument: at 15 logistic and tanh are 1 to the last of 8 bits, and of 16
LEAST_SCALE = 2.0**-28  # of an input of 8 bits; below it TFLite's kernels shift by a negative number
REACH = (1 << INPUT_BITS) - 1
LOGISTIC_BEYOND, TANH_BEYOND = 2**15 - 2, 2**15 - 1  # what stands for all beyond a curve's ends, see `logistic_ends`
WORD_MIN, WORD_MAX = -(2**15), 2**15 - 1


def logistic(a: Array, integer_bits: int) -> Array:
    """`1 / (1 + exp(-a))` of a in Q(integer_bits), result in Q0.31 (eq. 43); the paper's appendix A.1."""
    xp = array_namespace(a)
    positive = one_over_one_plus_x(exp_on_negative_values(-xp.abs(a), integer_bits))
    half = a * 0 + (1 << 30)
    return xp.where(a == 0, half, xp.where(a > 0, positive, INT32_MAX - positive))


def tanh(a: Array, integer_bits: int) -> Array:
    """`tanh(a)` of a in Q(integer_bits), result in Q0.31 (eq. 44); `2 a` is `a` with its point moved."""
    xp = array_namespace(a)
    positive = one_minus_x_over_one_plus_x(exp_on_negative_values(-xp.abs(a), integer_bits + 1))
    return xp.where(a == 0, a * 0, xp.where(a > 0, positive, -positive))


def sigmoid_input(scale: float) -> tuple[int, int]:
    """The factor from steps to Q4.27, as (multiplier, shift).

    From a scale of 4 on, one step is outside the reach: only the step 0 is scaled, and any factor will do. Up to a scale
    of `LEAST_SCALE` all of 255 steps are 0 to 8 bits: any factor up to that one's gives the curve's code at 0.
    """
    return quantize_multiplier(min(max(scale, LEAST_SCALE) * 2.0 ** (31 - INPUT_BITS), 2.0**29))


def logistic_steps(steps: Array, factor: tuple[int, int]) -> Array:
    """`logistic` of steps `q - Z`, in 256ths, 0 to 255 (eq. 43): TFLite's reference, saturated outside +-15."""
    inside, argument = _reached(steps, factor)
    values = rounding_divide_by_pot(logistic(argument, INPUT_BITS), steps * 0 + (31 - 8))
    return _saturated(steps, inside, values, 0, 255)


def tanh_steps(steps: Array, factor: tuple[int, int]) -> Array:
    """`tanh` of steps `q - Z`, in 128ths, -128 to 127 (eq. 44): TFLite's reference, saturated outside +-15."""
    inside, argument = _reached(steps, factor)
    values = rounding_divide_by_pot(tanh(argument, INPUT_BITS), steps * 0 + (31 - 7))
    return _saturated(steps, inside, values, -128, 127)


def _reached(steps: Array, factor: tuple[int, int]) -> tuple[Array, Array]:
    """Which steps lie within +-15, and those in Q4.27."""
    multiplier, shift = factor
    radius = (REACH << (31 - INPUT_BITS)) >> shift
    inside = abs(steps) < radius
    within = array_namespace(steps).where(inside, steps, steps * 0)
    return inside, requantize(within, steps * 0 + multiplier, steps * 0 + shift, "double")


def _saturated(steps: Array, inside: Array, values: Array, low: int, high: int) -> Array:
    where = array_namespace(steps).where
    ends = where(steps > 0, steps * 0 + high, steps * 0 + low)
    return where(inside, saturate(values, low, high), ends)


def hard_swish_steps(steps: Array, input_scale: float, output_scale: float, *, single: bool = False) -> Array:
    """`x min(max(x + 3, 0), 6) / 6` in steps of the output (eq. 45): TFLite's 16-bit reference.

    Args:
        steps: int64, `q - Z` of the input.
        input_scale: float32.
        output_scale: float32.
        single: Form the factors in float32, as LiteRT does.

    Raises:
        NumericDomainError: The output's scale is below the input's / 128, which TFLite's kernels do not take either.
    """
    fine, formed = input_scale / 128, float32 if single else float
    to_output, output_shift = quantize_multiplier(formed(fine / output_scale))
    to_unit, unit_shift = quantize_multiplier(formed(fine / (3 / 2**15)))
    if output_shift > 0:
        raise NumericDomainError(
            f"hard_swish needs an output scale above its input's / 128, found {output_scale} and {input_scale}"
        )
    raised = steps << 7
    scaled = _word_product(raised, _word_multiplier(to_output))
    unit = raised
    if unit_shift > 0:  # the last bit is shifted after the product, so that only it saturates
        unit = saturate(unit << min(unit_shift - 1, 16), WORD_MIN, WORD_MAX)
    unit = _word_product(unit, _word_multiplier(to_unit))
    unit = saturate(unit << 1, WORD_MIN, WORD_MAX) if unit_shift > 0 else _shifted_right(unit, -unit_shift)
    share = (unit + 2**15) >> 1  # from [-1, 1] to [0, 1]
    product = share * scaled
    truncated = array_namespace(product).where(product < 0, -((-product) >> 15), product >> 15)
    return _shifted_right(truncated, -output_shift)


def _word_multiplier(multiplier: int) -> int:
    """A multiplier's 16 high bits, to nearest."""
    return min((multiplier + 2**15) >> 16, WORD_MAX)


def _word_product(a: Array, multiplier: int) -> Array:
    """`floor((a b + 2^14) / 2^15)`: eq. 9 in 16 bits, for a multiplier that is not negative."""
    return (a * multiplier + 2**14) >> 15


def _shifted_right(x: Array, exponent: int) -> Array:
    return rounding_divide_by_pot(x, x * 0 + exponent)


def gelu(reals: np.ndarray, approximate: str) -> np.ndarray:
    """GELU at real values (eq. 46).

    Args:
        reals: float64.
        approximate: "none" for `x (1 + erf(x / sqrt 2)) / 2`, "tanh" for its approximation by a logistic.
    """
    x = np.clip(reals, -NORMAL_REACH, NORMAL_REACH)
    values = x / (1 + _exp(-2 * _GELU_SLOPE * (x + 0.044715 * (x * x * x)))) if approximate == "tanh" else x * normal(x)
    return np.where(reals > NORMAL_REACH, reals, values)


def gelu_codes(reals: np.ndarray, approximate: str, output: QParams) -> np.ndarray:
    """The nearest codes of GELU at real values, saturated."""
    steps = round_half_away(gelu(reals, approximate) / output.scale[0])
    return saturate(steps + output.zero_point, output.qmin, output.qmax)


NORMAL_REACH = 8.0  # beyond it GELU is 0 or x to 14 digits
_GELU_SLOPE = 0.7978845608028654  # sqrt(2 / pi), the nearest double
_DENSITY = 0.3989422804014327  # 1 / sqrt(2 pi)


def _exp(x: np.ndarray) -> np.ndarray:
    """e^x in float64: a Taylor series of x / 2^12, squared twelve times. Relative error below 2^-36 up to |x| = 90."""
    small = x / 2**12
    total = term = np.ones_like(x)
    for n in range(1, 12):
        term = term * small / n
        total = total + term
    for _ in range(12):
        total = total * total
    return total


def normal(x: np.ndarray) -> np.ndarray:
    """The normal distribution function: `1/2 + density(x) (x + x^3 / 3 + x^5 / 15 + ...)`, terms of one sign."""
    total = term = np.abs(x)
    for n in range(3, 300, 2):
        term = term * (x * x) / n
        total = total + term
    half = _DENSITY * total / _exp(x * x / 2)
    return np.where(x < 0, 0.5 - half, 0.5 + half)


class Curve(Record):
    """How int16 codes meet a table of segment ends (eq. 47): TFLite's logistic and tanh on 16 bits.

    Attributes:
        multiplier, shift: From steps to 3 * 4096ths, `(q multiplier + 2^(shift - 1)) >> shift`.
        segment_bits: The table has an end at every 2^segment_bits of those.
        centre: What the curve is at 0, before the output's shift.
        output_shift: To the right, with ties up.
    """

    multiplier: int
    shift: int
    segment_bits: int
    centre: int
    output_shift: int


SEGMENTS = 255
CURVE_STEPS = 3 * 2**12  # of the argument, for 1


NEAR_POWERS = {  # scales that TFLite takes for 2^-12, 2^-11: logarithms less than 10^-3 away, to float32
    -12: (float.fromhex("0x1.ffa538p-13"), float.fromhex("0x1.002d6ap-12")),
    -11: (float.fromhex("0x1.ffa530p-12"), float.fromhex("0x1.002d6ep-11")),
}
LOGISTIC_POWERS = (-12,)
TANH_POWERS = (-12, -11)


def curve_input(scale: float, powers: Sequence[int] = ()) -> tuple[int, int]:
    """The factor `scale * 3 * 4096` as 15 bits and a shift to the right; truncated, as TFLite's is.

    Args:
        scale: Of the codes.
        powers: Exponents of two for which scales near them are taken.

    Raises:
        NumericDomainError: The factor does not fit 15 bits.
    """
    for power in powers:
        least, most = NEAR_POWERS[power]
        if least <= scale <= most:
            return 3 << (power + 12), 0
    factor, shift = scale * CURVE_STEPS, 0
    while factor <= WORD_MAX / 2 and shift < 31:
        factor, shift = factor * 2, shift + 1
    if factor > WORD_MAX:
        raise NumericDomainError(f"logistic and tanh on int16 codes need an input scale below 8 / 3, found {scale}")
    return int(factor), shift


def logistic_curve(multiplier: int, shift: int) -> Curve:
    """The logistic on int16 codes, with its input's factor."""
    return Curve(multiplier, shift, 9, 2**24, 10)


def tanh_curve(multiplier: int, shift: int) -> Curve:
    """Tanh, `2 logistic(2 x) - 1`, likewise: the logistic's ends, twice as dense."""
    return Curve(multiplier, shift, 8, 0, 8)


@lru_cache
def logistic_ends(beyond: int) -> np.ndarray:
    """`2^16 (logistic(k / 24) - 1/2)` for k from 0 to 254, to nearest; the last end; what stands for all above it.

    A chord lies under the curve: each end is raised by half of what its segment's chord misses at its middle. The last
    is the greatest number of 16 bits.
    """
    curve = 1 / (1 + _exp(-np.arange(2 * SEGMENTS + 1) / 48))  # the ends, and the middles between them
    ends, middles, chords = curve[:-1:2], curve[1::2], (curve[:-1:2] + curve[2::2]) / 2
    raised = round_half_away(2**16 * (ends + (middles - chords) / 2)) - 2**15
    ends = np.append(raised, (WORD_MAX, beyond)).astype(np.int16)
    ends.setflags(write=False)  # all who ask get the same array
    return ends


def along_curve(codes: Array, table: Array, curve: Curve) -> Array:
    """The curve at int16 codes (eq. 47): straight between the ends of segments, odd about its centre."""
    xp = array_namespace(codes)
    bits, halves = curve.segment_bits, curve.output_shift - 1
    x = (codes * curve.multiplier + ((1 << curve.shift) >> 1)) >> curve.shift
    magnitude = xp.abs(x)
    beyond = (magnitude >> bits) >= SEGMENTS
    segment = xp.where(beyond, magnitude * 0 + (SEGMENTS - 1), magnitude >> bits)
    start, end = table[segment], table[segment + 1]
    height = (start << bits) + (magnitude & ((1 << bits) - 1)) * (end - start)
    height = xp.where(beyond, table[-1] << bits, height)
    return (xp.where(x < 0, -height - 1, height) + curve.centre + (1 << halves)) >> curve.output_shift
