"""Fixed-point primitives: rounding, saturation, multipliers (docs/numerics.md, equations 8 to 12 and 24 to 29).

Every function works on NumPy arrays and on PyTorch tensors alike, through the array API standard, elementwise and
with broadcasting. Integers are int64 and hold int32 values, so that no intermediate result overflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from unfloat.spec.errors import NumericDomainError
from unfloat.spec.record import Record

Array = Any  # a NumPy array or a PyTorch tensor

ARITHMETIC = 1  # the version of these meanings: with it, a Program's hash names its bits
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
ROUNDINGS = ("double", "single")
WIDE_ROUNDING = "acc64"  # of 64-bit accumulators: linear operators on int16 codes
WIDE_ACCUMULATOR_MAX = 2**47 - 1
WIDE_SHIFT_MAX = 7
SHIFT_MIN, SHIFT_MAX = -31, 30
ADD_LEFT_SHIFT = 20  # head-room of Add's common scale: 9-bit differences << 20, two of them, stay inside int32
WIDE_ADD_LEFT_SHIFT = 15  # the same for int16 codes


def array_namespace(x: Array) -> Any:
    """The library of an array, as the array API standard has it. NumPy 2 is one itself; others need a thin wrapper."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    from array_api_compat import array_namespace as wrapped_namespace

    return wrapped_namespace(x)


def scalar_like(array: Array, value: int) -> Array:
    """`value` as an array of one element, of the same library, dtype and device as `array`."""
    return array_namespace(array).full((1,), value, dtype=array.dtype, device=array.device)


def round_half_away(x: Array) -> Array:
    """Round to the nearest integer, ties away from zero; exact for every float64 (`x + 0.5` is not).

    Args:
        x: float64 or float32 array, finite or infinite.

    Returns:
        An array of the same dtype holding integers.
    """
    xp = array_namespace(x)
    whole = xp.trunc(x)
    with np.errstate(invalid="ignore"):  # inf - inf; an infinity is already whole
        away = xp.abs(x - whole) >= 0.5
    return whole + xp.where(away, xp.sign(x), xp.zeros_like(x))


def round_to_int(x: float) -> int:
    """Round one finite float64 to an integer, ties away from zero; `round_half_away` for one number, without an array."""
    whole = math.trunc(x)
    rest = x - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


@lru_cache(maxsize=1 << 12)
def quantize_multiplier(real: float, most: int = SHIFT_MAX) -> tuple[int, int]:
    """Split a real factor as `M = M0 * 2^shift`, M0 in Q0.31 (eq. 8): TFLite's QuantizeMultiplier.

    Args:
        real: The factor, at least 0.
        most: The largest left shift that the caller can use.

    Returns:
        (multiplier, shift): multiplier in {0} or [2^30, 2^31), shift in [-31, most], positive to the left.
        A factor below 2^-32 flushes to (0, 0).

    Raises:
        NumericDomainError: The factor is negative, not finite, or at least 2^most.
    """
    multipliers, shifts = quantize_multipliers(np.array([real], np.float64), most)
    return int(multipliers[0]), int(shifts[0])


def quantize_multipliers(real: np.ndarray, most: int = SHIFT_MAX) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_multiplier` of each element of a float64 array: (multipliers int32, shifts int8)."""
    if not real.size:
        return real.astype(np.int32), real.astype(np.int8)
    least, greatest = real.min(), real.max()
    if not (least >= 0 and greatest < np.inf):  # of a NaN neither holds
        worst = real[~(np.isfinite(real) & (real >= 0))][0]
        raise NumericDomainError(
            f"a rescaling factor must be finite and >= 0, found {worst!r}: look for a NaN or an empty range"
        )
    fraction, shift = np.frexp(real)
    # A fraction has 53 bits, 31 of them before the point after the shift: the product and the sum are exact. Ties go
    # up, which is away from zero.
    multiplier = (fraction * 2.0**31 + 0.5).astype(np.int64)
    if multiplier.max() == 2**31:
        carried = multiplier == 2**31
        multiplier, shift = np.where(carried, 2**30, multiplier), shift + carried
    if greatest >= 2.0**most * (1 - 2.0**-32):  # from there on it is rounded to 2^most at least
        raise NumericDomainError(
            f"a rescaling factor must be below 2^{most}, found {greatest!r}: the output's range is far too small"
        )
    if least < 2.0 ** (SHIFT_MIN - 1):
        flushed = (shift < SHIFT_MIN) | (real == 0)
        multiplier, shift = np.where(flushed, 0, multiplier), np.where(flushed, 0, shift)
    return multiplier.astype(np.int32), shift.astype(np.int8)


def saturate(x: Array, low: int, high: int) -> Array:
    """Clamp integers to [low, high] (eq. 5's clamp, on codes)."""
    return array_namespace(x).clip(x, low, high)


def saturating_rounding_doubling_high_mul(a: Array, b: Array) -> Array:
    """`floor((a*b + 2^30) / 2^31)`: the high half of 2ab, ties up (eq. 9); NEON's SQRDMULH.

    The one pair that does not fit, (INT32_MIN, INT32_MIN), saturates to INT32_MAX.
    """
    return saturate((a * b + 2**30) >> 31, INT32_MIN, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array) -> Array:
    """`x / 2^exponent`, to nearest, ties away from zero (eq. 10); exponent in [0, 31].

    A plain rounding shift would send ties up; the paper's appendix B reports that this bias costs accuracy.
    """
    mask = ((x * 0 + 1) << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + _as_int(x < 0, x)
    return (x >> exponent) + _as_int(remainder > threshold, x)


def requantize(accumulator: Array, multiplier: Array, shift: Array, rounding: str) -> Array:
    """Scale accumulators by `M0 * 2^(shift - 31)` (eq. 11, 12 and 38): TFLite's MultiplyByQuantizedMultiplier.

    Args:
        accumulator: int64 array holding int32 values such that `accumulator * 2^max(shift, 0)` fits int32; for "acc64"
            magnitudes below 2^47.
        multiplier: int64, in [0, 2^31); broadcast against the accumulator.
        shift: int64, in [-31, 30], positive to the left; broadcast. At most 7 for "acc64".
        rounding: "double" (the paper, TFLite, CMSIS-NN), "single", or "acc64": the multiplier's 16 high bits, one
            rounding, ties up.

    Returns:
        int64 array holding int32 values.
    """
    if rounding == WIDE_ROUNDING:
        reduced = reduced_multiplier(multiplier)
        return (accumulator * reduced + ((reduced * 0 + 1) << (14 - shift))) >> (15 - shift)
    if rounding == "single":
        return (accumulator * multiplier + ((multiplier * 0 + 1) << (30 - shift))) >> (31 - shift)
    left = saturate(shift, 0, SHIFT_MAX)
    high = saturating_rounding_doubling_high_mul(accumulator << left, multiplier)
    return rounding_divide_by_pot(high, left - shift)


def reduced_multiplier(multiplier: Array) -> Array:
    """The high half of a multiplier, to nearest: at most 15 bits, so that products with 48-bit accumulators fit."""
    return saturate((multiplier + 2**15) >> 16, 0, 2**15 - 1)


Factors = tuple[Array, Array, Array]  # bias, multiplier, shift of each channel
CodeRange = tuple[int, int, int]  # zero point, lowest code, highest code


def finish(accumulator: Array, factors: Factors, codes: CodeRange, rounding: str) -> Array:
    """`clamp(Z + requantize(accumulator + bias))`: what follows the accumulator of every linear operator."""
    bias, multiplier, shift = factors
    zero_point, low, high = codes
    return saturate(requantize(accumulator + bias, multiplier, shift, rounding) + zero_point, low, high)


class Addition(Record):
    """How two operands are brought to one scale, added and rescaled (eq. 21).

    Attributes:
        zero_points, multipliers, shifts: Each operand's.
        left_shift: Head-room of the common scale.
        factor: Multiplier and shift of the sum.
        codes: Zero point, lowest and highest code of the output.
    """

    zero_points: tuple[int, int]
    multipliers: tuple[int, int]
    shifts: tuple[int, int]
    left_shift: int
    factor: tuple[int, int]
    codes: CodeRange


def add(inputs: Sequence[Array], by: Addition, rounding: str) -> Array:
    """`clamp(Z + requantize(sum of requantize((q - Z_i) << left_shift)))`: TFLite's rule (eq. 21)."""
    first, second = _on_common_scale(inputs, by, rounding)
    return _from_common_scale(first + second, by, rounding)


def subtract(inputs: Sequence[Array], by: Addition, rounding: str) -> Array:
    """`add` with the difference of the rescaled operands (eq. 21)."""
    first, second = _on_common_scale(inputs, by, rounding)
    return _from_common_scale(first - second, by, rounding)


def _on_common_scale(inputs: Sequence[Array], by: Addition, rounding: str) -> list[Array]:
    return [
        requantize((x - zero_point) << by.left_shift, scalar_like(x, multiplier), scalar_like(x, shift), rounding)
        for x, zero_point, multiplier, shift in zip(inputs, by.zero_points, by.multipliers, by.shifts, strict=True)
    ]


def _from_common_scale(total: Array, by: Addition, rounding: str) -> Array:
    multiplier, shift = by.factor
    zero_point, low, high = by.codes
    steps = requantize(total, scalar_like(total, multiplier), scalar_like(total, shift), rounding)
    return saturate(steps + zero_point, low, high)


def average(total: Array, count: Array) -> Array:
    """`total / count` to nearest, ties away from code 0 (eq. 24): TFLite's average pool.

    Args:
        total: int64 sums of raw codes.
        count: int64, at least 1; broadcast.
    """
    xp = array_namespace(total)
    total = xp.astype(total, xp.int64, copy=False)  # the sum of 65,536 int16 codes has no magnitude in 32 bits
    magnitude = (xp.abs(total) + count // 2) // count
    return xp.where(total < 0, -magnitude, magnitude)


def fold_mean(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Fold 1/count into a multiplier (eq. 25): TFLite's MEAN, which truncates the folded multiplier.

    Returns:
        (multiplier, shift) whose product with a sum over `count` cells is the rescaled mean.
    """
    lift = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << lift) // count, shift - lift


def exp_on_negative_values(a: Array, integer_bits: int) -> Array:
    """`exp(a)` for a <= 0 in Q(integer_bits), result in Q0.31 (eq. 27); the paper's appendix A.1, no table.

    The two low fractional bits upward of 1/4 form a barrel shifter: one fixed factor e^-(2^k) for each set bit.
    """
    xp = array_namespace(a)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    low = (a & (quarter - 1)) - quarter
    result = _exp_on_quarter_interval(low << integer_bits)
    remainder = low - a
    factors = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
    for exponent, factor in factors.items():
        if exponent < integer_bits:
            bit = 1 << (fraction_bits + exponent)
            scaled = saturating_rounding_doubling_high_mul(result, factor)
            result = xp.where(remainder & bit != 0, scaled, result)
    if integer_bits > 5:
        result = xp.where(a < -(32 << fraction_bits), result * 0, result)
    return xp.where(a == 0, result * 0 + INT32_MAX, result)


def _exp_on_quarter_interval(a: Array) -> Array:
    """`exp(a)` on [-1/4, 0) in Q0.31: the Taylor polynomial of degree 4 about -1/8 (eq. 26)."""
    srdhm = saturating_rounding_doubling_high_mul
    exp_minus_eighth, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = srdhm(x, x)
    x3 = srdhm(x2, x)
    x4_over_4 = rounding_divide_by_pot(srdhm(x2, x2), x * 0 + 2)
    series = rounding_divide_by_pot(srdhm(x4_over_4 + x3, third) + x2, x * 0 + 1)
    return exp_minus_eighth + srdhm(x + series, exp_minus_eighth)


def one_over_one_plus_x(a: Array) -> Array:
    """`1 / (1 + a)` for a in [0, 1), Q0.31 to Q0.31: three Newton steps in Q2.29 (eq. 28); appendix A.1."""
    return saturate(_reciprocal_of_half(a) << 1, INT32_MIN, INT32_MAX)


def one_minus_x_over_one_plus_x(a: Array) -> Array:
    """`(1 - a) / (1 + a)` for a in [0, 1), Q0.31 to Q0.31: `2 / (1 + a) - 1` (eq. 28 and 44); appendix A.1."""
    return saturate((_reciprocal_of_half(a) - (1 << 29)) << 2, INT32_MIN, INT32_MAX)


def _reciprocal_of_half(a: Array) -> Array:
    """`2 / (1 + a)` in Q2.29, by Newton's iteration."""
    srdhm = saturating_rounding_doubling_high_mul
    half_denominator = _rounding_half_sum(a, INT32_MAX)
    x = 1515870810 + srdhm(half_denominator, -1010580540)
    for _ in range(3):
        one_minus_product = (1 << 29) - srdhm(half_denominator, x)
        x = x + saturate(srdhm(x, one_minus_product) << 2, INT32_MIN, INT32_MAX)
    return x


def _rounding_half_sum(a: Array, b: int) -> Array:
    """`(a + b) / 2`, ties away from zero."""
    total = a + b
    magnitude = (abs(total) + 1) >> 1
    return array_namespace(total).where(total < 0, -magnitude, magnitude)


def count_leading_zeros(x: Array) -> Array:
    """Leading zero bits of positive int32 values (32 for 0), by bisection."""
    xp = array_namespace(x)
    zeros = x * 0 + 32
    for width in (16, 8, 4, 2, 1):
        top = x >> width
        zeros = xp.where(top != 0, zeros - width, zeros)
        x = xp.where(top != 0, top, x)
    return zeros - _as_int(x != 0, x)


def reciprocal(total: Array, integer_bits: int) -> tuple[Array, Array]:
    """`1 / total` for a positive fixed-point sum: gemmlowp's GetReciprocal (eq. 29).

    Args:
        total: int64, Q(integer_bits) in int32, at least one unit.
        integer_bits: Integer bits of `total`.

    Returns:
        (mantissa in Q0.31, exponent): the reciprocal is mantissa * 2^-exponent.
    """
    headroom = count_leading_zeros(total)
    return one_over_one_plus_x((total << headroom) - 2**31), integer_bits - headroom


def _as_int(condition: Array, like: Array) -> Array:
    """A boolean array as 0 and 1 of `like`'s dtype."""
    return array_namespace(like).astype(condition, like.dtype)
