"""Logarithm, inverse square root and interpolated tables in fixed point (docs/numerics.md, sections 9 and 12).

As `fixedpoint.py`: array API, int64 arrays of int32 values, Qm with m integer bits and 31 - m fractional ones.
"""

from __future__ import annotations

import functools

import numpy as np

from unfloat.spec.fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    Array,
    array_namespace,
    count_leading_zeros,
    exp_on_negative_values,
    one_over_one_plus_x,
    rounding_divide_by_pot,
    saturate,
    saturating_rounding_doubling_high_mul,
)

SUM_BITS = 12  # of the sum of exponentials, which is Q12
LOGARITHM_BITS = 5  # of its logarithm, which is Q5
SEGMENTS = 512  # of a table over the int16 codes, 128 codes each
EXP_TABLE_RANGE = 10  # exponents below -10 count as -10


def logarithm(x: Array) -> Array:
    """`ln(x)` for x >= 1 in Q12, the result in Q5: gemmlowp's log_x_for_x_greater_than_or_equal_to_1.

    x is r times a power of 2^(1/2), with r as near 2^(-1/4) as that allows; about it a quotient of two polynomials is
    the logarithm of r.
    """
    srdhm, xp = saturating_rounding_doubling_high_mul, array_namespace(x)
    quarter, fraction_bits = 1 << 23, 30 - LOGARITHM_BITS  # 1/4 in Q6, which the sum below is
    half_root, quarter_root, ln2 = 1518500250, 1805811301, 1488522236  # 2^(-1/2), 2^(-1/4), ln 2
    zeros = count_leading_zeros(x)
    even = _shift_left(srdhm(_shift_left(x, zeros - 1), half_root), x * 0 + 1)
    even_power = ((SUM_BITS - zeros) << fraction_bits) + quarter
    zeros = count_leading_zeros(srdhm(x, half_root)) - 1
    odd = _shift_left(x, zeros)
    odd_power = ((SUM_BITS - zeros) << fraction_bits) - quarter
    r, power = xp.minimum(even, odd), xp.maximum(even_power, odd_power)
    p, q = (r + quarter_root + 1) >> 1, 2 * (r - quarter_root)
    square = srdhm(q, q)
    numerator = srdhm(q, r) + srdhm(srdhm(q, square), 117049297)
    beyond_one = srdhm(p, 1057819769 + q + srdhm(square, 127690142)) + srdhm(q, 638450708)
    quotient = srdhm(rounding_divide_by_pot(numerator, x * 0 + LOGARITHM_BITS + 1), one_over_one_plus_x(beyond_one))
    return _shift_left(srdhm(power, ln2) + quotient, x * 0 + 1)


def inverse_square_root(total: Array) -> tuple[Array, Array]:
    """`1 / sqrt(total)` for 0 <= total < 2^31 as (multiplier, shift), as `requantize` takes them; 0 counts as 1.

    Newton's iteration in Q3, five steps from 1, on the total brought to [2^27, 2^29) by powers of 4:
    TFLite's GetInvSqrtQuantizedMultiplierExp.
    """
    srdhm, xp = saturating_rounding_doubling_high_mul, array_namespace(total)
    large = xp.clip(total, 2, None)
    for _ in range(2):
        large = xp.where(large >= 2**29, large >> 2, large)
    fours = xp.astype(total >= 2**29, large.dtype) + xp.astype(total >> 2 >= 2**29, large.dtype)
    pairs = ((count_leading_zeros(large) - 1) >> 1) - 1
    right = 11 + fours - pairs
    a = (large << (2 * pairs)) >> 1
    half_a = rounding_divide_by_pot(a, a * 0 + 1)
    x = a * 0 + (1 << 28)
    for _ in range(5):
        cube = _shift_left(srdhm(srdhm(x, x), x), x * 0 + 6)
        x = _shift_left(srdhm(x, 3 << 27) - srdhm(half_a, cube), x * 0 + 3)
    multiplier = srdhm(x, 1518500250) << xp.clip(-right, 0, None)
    tiny = total <= 1
    return xp.where(tiny, multiplier * 0 + INT32_MAX, multiplier), xp.where(tiny, right * 0, -xp.clip(right, 0, None))


def _shift_left(x: Array, bits: Array) -> Array:
    return saturate(x << bits, INT32_MIN, INT32_MAX)


@functools.cache
def exponential_table() -> np.ndarray:
    """`exp` on [-10, 0] in Q0.15, int16 [513]: the table of TFLite's softmax on int16 codes."""
    steps = np.arange(-2 * SEGMENTS, 1, dtype=np.int64)
    return _table(exp_on_negative_values(steps * (EXP_TABLE_RANGE << 26) // (2 * SEGMENTS), 5))


@functools.cache
def reciprocal_table() -> np.ndarray:
    """`1 / (1 + x)` on [0, 1] in Q0.15, int16 [513]."""
    points = np.arange(2 * SEGMENTS, 4 * SEGMENTS + 1, dtype=np.int64)
    return _table((((2 * SEGMENTS) << 32) // points + 1) >> 1)


def _table(values: np.ndarray) -> np.ndarray:
    """Samples, each lowered by half the error of interpolating in the middle of the segment that it begins.

    TFLite's gen_lut: its numbers have the 24 significant bits of a float32, on which three points hang.

    Args:
        values: Q0.31 at the ends and middles of all segments, [2 * 512 + 1].
    """
    values = _significant24(values)
    samples = rounding_divide_by_pot(values, values * 0 + 16)
    ends, middles = samples[::2], samples[1::2]
    between = rounding_divide_by_pot(_significant24(values[2::2] + (ends[:-1] << 16)), middles * 0 + 17)
    lowered = ends.copy()
    lowered[:-1] -= rounding_divide_by_pot(between - middles, middles * 0 + 1)
    return np.asarray(saturate(lowered, -(2**15), 2**15 - 1), np.int16)


def _significant24(x: np.ndarray) -> np.ndarray:
    """Positive integers to 24 significant bits, ties to even."""
    return x.astype(np.float32).astype(np.int64)


def interpolate(table: Array, x: Array) -> Array:
    """A table's value at int16 codes: linear between its points, ties up."""
    xp = array_namespace(x)
    segment, offset = (x >> 7) + SEGMENTS // 2, x & 127
    low, high = (xp.reshape(xp.take(table, xp.reshape(i, (-1,)), axis=0), x.shape) for i in (segment, segment + 1))
    return low + (((high - low) * offset + 64) >> 7)


def over_their_sum(terms: Array, reciprocals: Array) -> Array:
    """Terms in Q0.15 over their sum along the last axis, in Q0.15; `reciprocals` is `reciprocal_table()`.

    The sum, at least 1/2, is brought to [1, 2) and its reciprocal read off the table.
    """
    xp = array_namespace(terms)
    total = xp.sum(terms, axis=-1, keepdims=True)
    zeros = count_leading_zeros(total)
    beyond_one = (((total << (zeros - 1)) + 2**13) >> 14) - 2**16 - 2**15
    inverse = xp.astype(interpolate(reciprocals, saturate(beyond_one, -(2**15), 2**15 - 1)), terms.dtype)
    return saturate((terms * inverse + ((zeros * 0 + 1) << (30 - zeros))) >> (31 - zeros), 0, 2**15 - 1)
