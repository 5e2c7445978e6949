"""Fixed-point primitives: specification = oracle = exact rationals = PyTorch = C, on ties, ends and random numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.spec import vectors
from tests.spec.vectors import INT32_MAX, INT32_MIN
from unfloat import _native
from unfloat.spec import fixedpoint as fp
from unfloat.spec.errors import NumericDomainError

INT32 = st.integers(INT32_MIN, INT32_MAX)
LIBRARIES = [pytest.param(np.asarray, id="numpy"), pytest.param(torch.tensor, id="torch")]
Maker = Callable[[Any], Any]


def int64(make: Maker, values: Any) -> Any:
    return make(np.asarray(values, np.int64))


def int32(values: Any) -> np.ndarray:
    return np.asarray(values, np.int32)


# eq. 9: the high multiplication ---------------------------------------------------------------------------------------


def srdhm_pairs() -> list[tuple[int, int]]:
    some = vectors.edges()[::3]
    ties = [(x, m) for m in vectors.MULTIPLIERS for x in vectors.high_product_ties(m)]
    return [(a, b) for a in some for b in some] + ties + [(INT32_MIN, INT32_MIN)]


def test_high_multiplication_formulations_agree() -> None:
    pairs = srdhm_pairs()
    assert sum(a * b % 2**31 == 2**30 and a * b < 0 for a, b in pairs) > 20  # there are ties that tell up from away
    for a, b in pairs:
        assert oracle.saturating_rounding_doubling_high_mul(a, b) == vectors.exact_srdhm(a, b), (a, b)


@pytest.mark.parametrize("make", LIBRARIES)
def test_high_multiplication(make: Maker) -> None:
    a, b = np.array(srdhm_pairs(), np.int64).T
    expected = [vectors.exact_srdhm(x, y) for x, y in srdhm_pairs()]
    assert fp.saturating_rounding_doubling_high_mul(int64(make, a), int64(make, b)).tolist() == expected


def test_high_multiplication_in_c() -> None:
    a, b = int32(srdhm_pairs()).T.copy()
    out = np.empty_like(a)
    _native.srdhm(a, b, out)
    assert out.tolist() == [vectors.exact_srdhm(x, y) for x, y in srdhm_pairs()]


@pytest.mark.parametrize(
    ("a", "expected"),
    [(-5, -2), (-3, -1), (-1, 0), (1, 1), (3, 2), (5, 3)],  # halves: ties away would give -3, -2, -1
)
def test_high_multiplication_ties_go_up(a: int, expected: int) -> None:
    assert fp.saturating_rounding_doubling_high_mul(np.array(a), np.array(2**30)) == expected


@given(INT32, INT32)
def test_high_multiplication_is_the_nearest_and_commutes(a: int, b: int) -> None:
    found = int(fp.saturating_rounding_doubling_high_mul(np.array(a), np.array(b)))
    assert found == fp.saturating_rounding_doubling_high_mul(np.array(b), np.array(a))
    assert found == vectors.exact_srdhm(a, b)


# eq. 10: the rounding division ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", range(32))
def test_rounding_division(exponent: int) -> None:
    values = sorted({*vectors.edges(), *vectors.division_ties(exponent)})
    expected = [vectors.exact_rdbp(x, exponent) for x in values]
    assert [oracle.rounding_divide_by_pot(x, exponent) for x in values] == expected
    for make in (np.asarray, torch.tensor):
        assert fp.rounding_divide_by_pot(int64(make, values), int64(make, exponent)).tolist() == expected
    out = np.empty(len(values), np.int32)
    _native.rounding_divide_by_pot(int32(values), exponent, out)
    assert out.tolist() == expected


@pytest.mark.parametrize("exponent", range(1, 31))
def test_rounding_division_ties_go_away_from_zero(exponent: int) -> None:
    half, n = np.array(2 ** (exponent - 1)), np.array(exponent)
    assert fp.rounding_divide_by_pot(-half, n) == -1  # ties up would give 0
    assert fp.rounding_divide_by_pot(half, n) == 1
    assert fp.rounding_divide_by_pot(1 - half, n) == 0


def test_rounding_division_broadcasts_exponents() -> None:
    x, exponents = np.array([[-12], [12]]), np.arange(5)
    assert fp.rounding_divide_by_pot(x, exponents).tolist() == [[-12, -6, -3, -2, -1], [12, 6, 3, 2, 1]]


@given(st.integers(-INT32_MAX, INT32_MAX), st.integers(0, 31))
def test_rounding_division_is_odd(x: int, exponent: int) -> None:
    there, back = (fp.rounding_divide_by_pot(np.array(v), np.array(exponent)) for v in (x, -x))
    assert there == -back


@pytest.mark.parametrize("exponent", [-1, 32])
def test_rounding_division_in_c_refuses(exponent: int) -> None:
    with pytest.raises(ValueError, match="exponent"):
        _native.rounding_divide_by_pot(int32([1]), exponent, int32([0]))


# eq. 11 and 12: requantization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
def test_requantization_formulations_agree(rounding: Any) -> None:
    for x, m, s in vectors.requantizations():
        assert oracle.requantize(x, m, s, rounding) == vectors.exact_requantize(x, m, s, rounding), (x, m, s)


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
def test_requantization(rounding: str, make: Maker) -> None:
    triples = vectors.requantizations()
    expected = [vectors.exact_requantize(*triple, rounding) for triple in triples]
    x, m, s = (int64(make, column) for column in np.array(triples, np.int64).T)
    assert fp.requantize(x, m, s, rounding).tolist() == expected


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
@pytest.mark.parametrize("shift", vectors.SHIFTS)
@pytest.mark.parametrize("multiplier", vectors.MULTIPLIERS)
def test_requantization_in_c(multiplier: int, shift: int, rounding: str) -> None:
    values = vectors.accumulators(multiplier, shift)
    expected = [vectors.exact_requantize(x, multiplier, shift, rounding) for x in values]
    whole = int32(values).reshape(1, -1)
    _native.requantize(whole, int32([multiplier]), np.array([shift], np.int8), rounding)
    assert whole[0].tolist() == expected


WIDE_MULTIPLIERS = (2**30, 2**30 + 2**15 - 1, 2**30 + 2**15, 0x5A827999, 0x7FFF0000 - 1, 0x7FFF0000, 2**31 - 1)


def wide_requantizations() -> list[tuple[int, int, int]]:
    """Accumulators at the ends of 48 bits, about ties, and at random, whose results fit int32."""
    rng = np.random.default_rng(7)
    triples = []
    for multiplier, shift in itertools.product(WIDE_MULTIPLIERS, (-31, -30, -17, -16, -1, 0, 1, 7)):
        reduced = min((multiplier + 2**15) >> 16, 2**15 - 1)
        most = min(2**47 - 1, (2**31 - 2) * 2 ** (15 - shift) // reduced)
        half = 2 ** (14 - shift)
        ties = [(2 * k + 1) * half // reduced + d for k in (-3, -2, -1, 0, 1, 2) for d in (-1, 0, 1)]
        values = [-most, most, 0, 1, -1, *ties, *rng.integers(-most, most + 1, 20).tolist()]
        triples += [(x, multiplier, shift) for x in values if abs(x) <= most]
    return triples


@pytest.mark.parametrize("make", LIBRARIES)
def test_requantization_of_wide_accumulators(make: Maker) -> None:
    triples = wide_requantizations()
    expected = [oracle.requantize(*triple, "acc64") for triple in triples]
    x, m, s = (int64(make, column) for column in np.array(triples, np.int64).T)
    assert fp.requantize(x, m, s, "acc64").tolist() == expected
    exact = [
        math.floor(Fraction(x * min((m + 2**15) >> 16, 2**15 - 1), 2 ** (15 - s)) + Fraction(1, 2))
        for x, m, s in triples
    ]
    assert exact == expected


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
def test_requantization_in_c_takes_each_channel_its_own(rounding: str) -> None:
    pairs = [(m, s) for m in vectors.MULTIPLIERS for s in vectors.SHIFTS]
    multiplier, shift = int32([m for m, _ in pairs]), np.array([s for _, s in pairs], np.int8)
    rng = np.random.default_rng(3)
    room = 2 ** (31 - np.maximum(shift.astype(np.int64), 0))
    table = rng.integers(-room, room, (17, len(pairs)))
    expected = fp.requantize(table, multiplier.astype(np.int64), shift.astype(np.int64), rounding)
    found = table.astype(np.int32)
    _native.requantize(found, multiplier, shift, rounding)
    assert (found == expected).all()


@pytest.mark.parametrize(
    ("multiplier", "shift", "rounding"),
    [(2**30, 31, "double"), (2**30, -32, "single"), (-1, 0, "double"), (2**30, 0, "triple")],
)
def test_requantization_in_c_refuses(multiplier: int, shift: int, rounding: str) -> None:
    with pytest.raises(ValueError, match="must"):
        _native.requantize(int32([[1]]), int32([multiplier]), np.array([shift], np.int8), rounding)


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "double", "single"),
    [
        (1, 2**30, -1, 1, 0),  # 0.25: 0.5 up to 1, 0.5 away to 1
        (-3, 2**30, -1, -1, -1),  # -0.75: -1.5 up to -1, -0.5 away to -1; ties up in the second step would give 0
        (-2, 2**30, -1, -1, 0),  # -0.5: only the second step is a tie, and goes away from zero
        (-5, 2**30, 0, -2, -2),  # -2.5: only the first step is, and goes up
        (-7, 2**30, 2, -14, -14),
        (INT32_MIN, INT32_MAX, 0, -INT32_MAX, -INT32_MAX),
        (INT32_MIN, 2**30, -31, -1, 0),  # -0.5
        (INT32_MAX, 2**30, -31, 1, 0),  # just below 0.5, and a tie after the first step
        (1, 2**30, 30, 2**29, 2**29),
    ],
)
def test_requantization_by_hand(x: int, multiplier: int, shift: int, double: int, single: int) -> None:
    arguments = [np.array(v) for v in (x, multiplier, shift)]
    assert fp.requantize(*arguments, "double") == double
    assert fp.requantize(*arguments, "single") == single


@st.composite
def factors(draw: st.DrawFn) -> tuple[int, int, int]:
    """A multiplier, a shift, and the greatest accumulator that the shift leaves room for."""
    shift = draw(st.integers(-31, 30))
    return draw(st.integers(2**30, INT32_MAX)), shift, INT32_MAX >> max(shift, 0)


@given(factors(), st.data(), st.sampled_from(fp.ROUNDINGS))
def test_requantization_is_monotone_exact_at_zero_and_near(
    factor: tuple[int, int, int], data: st.DataObject, rounding: str
) -> None:
    multiplier, shift, most = factor
    x = sorted([0, data.draw(st.integers(-most, most)), data.draw(st.integers(-most, most))])
    found = fp.requantize(np.array(x), np.array(multiplier), np.array(shift), rounding)
    assert (np.diff(found) >= 0).all()
    assert found[x.index(0)] == 0
    off = max(abs(int(r) - vectors.real_product(v, multiplier, shift)) for r, v in zip(found, x, strict=True))
    # Once: half. Twice, to the right: half of the first step, scaled, comes on top.
    assert off <= Fraction(1, 2) + (Fraction(1, 2 ** (1 - shift)) if rounding == "double" and shift < 0 else 0)


@given(factors(), st.data())
def test_both_roundings_are_one_apart_at_most(factor: tuple[int, int, int], data: st.DataObject) -> None:
    multiplier, shift, most = factor
    arguments = [np.array(v) for v in (data.draw(st.integers(-most, most)), multiplier, shift)]
    difference = abs(fp.requantize(*arguments, "double") - fp.requantize(*arguments, "single"))
    assert difference <= (shift < 0)


@given(INT32, st.integers(-128, 255), st.integers(0, 255))
def test_saturation_is_idempotent(x: int, low: int, width: int) -> None:
    once = fp.saturate(np.array(x), low, low + width)
    assert low <= once <= low + width
    assert fp.saturate(once, low, low + width) == once
    assert once == oracle.clamp(x, low, low + width)


# eq. 32 to 34: forms for vector kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(1, 24), 24, 27, 31])
@pytest.mark.parametrize("multiplier", [m for m in vectors.MULTIPLIERS if m])
def test_one_shift_for_both_roundings(multiplier: int, n: int) -> None:
    """Python's integers, so that no domain hides an error; the sign term, and its absence above the zero point."""
    values = vectors.accumulators(multiplier, -n)
    for x, r in ((x, vectors.exact_requantize(x, multiplier, -n, "double")) for x in values):
        p = x * multiplier
        nudge = 2**30 + 2 ** (30 + n)
        assert (p + nudge - (2**31 if p < -(2**30) else 0)) >> (31 + n) == r
        for z, low in ((0, 0), (0, 1), (128, 128), (100, 200), (255, 255)):
            merged = (p + nudge + z * 2 ** (31 + n)) >> (31 + n)
            assert oracle.clamp(merged, low, 255) == oracle.clamp(z + r, low, 255)
            assert n > 23 or abs(p + nudge + z * 2 ** (31 + n)) < 2**63


def test_the_merged_form_needs_its_premises() -> None:
    """Below the zero point, and without a shift, the merged form is another function."""
    x, multiplier, n = -2, 2**30, 1  # -0.5: the tie goes to -1
    assert vectors.exact_requantize(x, multiplier, -n, "double") == -1
    assert (x * multiplier + 2**30 + 2 ** (30 + n)) >> (31 + n) == 0
    assert vectors.exact_requantize(1, 2**30 - 1, 0, "double") == 0  # just below 1/2
    assert (2**30 - 1 + 2**30 + 2**30) >> 31 == 1  # with the second nudge of a shift of 0


# eq. 8: multipliers ---------------------------------------------------------------------------------------------------

REALS = (
    0.0, 0.25, 0.5, 0.75, 1.0, 3.0, 0.1, 0.7,
    0.5 + 2**-32, 0.5 + 3 * 2**-32,  # ties
    1 - 2**-31, 1 - 2**-32, math.nextafter(1.0, 0.0),  # at the carry
    2.0**-32, math.nextafter(2.0**-32, 0.0), 0.75 * 2.0**-32, 5e-324,  # at the flush
    0.75 * 2**30, math.nextafter(2.0**30, 0.0) - 2**-1, (2**31 - 1) / 2.0,
)  # fmt: skip


@pytest.mark.parametrize("real", REALS)
def test_multiplier(real: float) -> None:
    assert fp.quantize_multiplier(real) == oracle.quantize_multiplier(real)


@given(st.floats(2.0**-40, 2.0**29))
def test_multiplier_is_the_nearest(real: float) -> None:
    multiplier, shift = fp.quantize_multiplier(real)
    assert (multiplier, shift) == oracle.quantize_multiplier(real)
    if multiplier:
        assert 2**30 <= multiplier <= INT32_MAX
        scaled = Fraction(real) / Fraction(2) ** (shift - 31)
        assert abs(multiplier - scaled) <= Fraction(1, 2)
    else:
        assert real < 2.0**-32


@pytest.mark.parametrize("real", [-0.5, -5e-324, math.nan, math.inf, -math.inf, 2.0**30, math.nextafter(2.0**30, 0.0)])
def test_multiplier_refuses(real: float) -> None:
    with pytest.raises(NumericDomainError, match="factor"):
        fp.quantize_multiplier(real)


def test_multiplier_may_have_another_limit() -> None:
    assert fp.quantize_multiplier(2.0**30, most=31) == (2**30, 31)
    with pytest.raises(NumericDomainError, match=r"2\^31"):
        fp.quantize_multiplier(2.0**31, most=31)


@pytest.mark.parametrize("exponent", [-33, -32, -31, 6, 7, 29, 30])
def test_multipliers_at_the_ends_of_their_shifts(exponent: int) -> None:
    """Where a factor is flushed, carried to the next shift, or too large: alone and beside others."""
    limit, most = 2.0 ** max(exponent, 0), max(exponent, 0)
    for near in (2.0**exponent, 2.0**exponent * (1 - 2.0**-32), 2.0**exponent * (1 - 2.0**-33)):
        for real in (math.nextafter(near, 0.0), near, math.nextafter(near, math.inf)):
            fits = math.frexp(real)[1] + (math.frexp(real)[0] >= 1 - 2.0**-32) <= most
            for reals in ([real], [real, limit / 4], [limit / 4, real]):
                if fits:
                    multiplier, shift = fp.quantize_multipliers(np.array(reals), most)
                    found = list(zip(multiplier.tolist(), shift.tolist(), strict=True))
                    assert found == [oracle.quantize_multiplier(one) for one in reals]
                else:
                    with pytest.raises(NumericDomainError, match="too small"):
                        fp.quantize_multipliers(np.array(reals), most)


def test_multipliers_have_the_types_of_a_program() -> None:
    multiplier, shift = fp.quantize_multipliers(np.array([0.0, 0.3, 4.0, 2.0**-32]))
    assert (multiplier.dtype, shift.dtype) == (np.int32, np.int8)
    pairs = zip(multiplier.tolist(), shift.tolist(), strict=True)
    assert list(pairs) == [oracle.quantize_multiplier(real) for real in (0.0, 0.3, 4.0, 2.0**-32)]


# rounding of reals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_half_away(dtype: type) -> None:
    below = np.nextafter(dtype(0.5), dtype(0))
    large = dtype(2 ** np.finfo(dtype).nmant - 0.5)  # the last number with a fraction; adding 0.5 would be inexact
    values = np.array([0, -0.0, 0.5, -0.5, 1.5, -2.5, below, -below, large, -large, 1e30, 2.4, -2.6], dtype)
    found = fp.round_half_away(values)
    assert found.dtype == dtype
    assert [int(v) for v in found] == [oracle.round_half_away(float(v)) for v in values]
    assert fp.round_half_away(np.array([np.inf, -np.inf], dtype)).tolist() == [np.inf, -np.inf]


@given(st.floats(-(2.0**60), 2.0**60))
def test_round_half_away_is_odd_and_nearest(x: float) -> None:
    assert fp.round_to_int(x) == -fp.round_to_int(-x) == oracle.round_half_away(x)


# eq. 24 and 25: averages ----------------------------------------------------------------------------------------------


def average_pairs() -> list[tuple[int, int]]:
    halves = {k * n // 2 + step for n in (2, 3, 4, 49) for k in range(-9, 10) for step in (-1, 0, 1)}
    return [(t, n) for t in sorted({*vectors.edges(), *halves}) for n in vectors.COUNTS]


@pytest.mark.parametrize("make", LIBRARIES)
def test_average(make: Maker) -> None:
    pairs = average_pairs()
    expected = []
    for t, n in pairs:
        whole = (abs(t) + n // 2) // n
        expected.append(whole if t >= 0 else -whole)
        if n % 2 == 0 or n == 1:
            assert expected[-1] == vectors.nearest_away(Fraction(t, n))
        assert expected[-1] == oracle.truncating_divide(t + n // 2 if t > 0 else t - n // 2, n)
    total, count = (int64(make, column) for column in np.array(pairs, np.int64).T)
    assert fp.average(total, count).tolist() == expected


def test_average_in_c() -> None:
    total, count = int32(average_pairs()).T.copy()
    out = np.empty_like(total)
    _native.average(total, count, out)
    assert (out == fp.average(total.astype(np.int64), count.astype(np.int64))).all()


def test_average_of_int32_tensors() -> None:
    total, count = torch.tensor([[-5, -3], [3, 5]], dtype=torch.int32), torch.tensor([[2]], dtype=torch.int32)
    assert fp.average(total, count).tolist() == [[-3, -2], [2, 3]]


@pytest.mark.parametrize("count", vectors.COUNTS)
def test_fold_mean(count: int) -> None:
    for multiplier in vectors.MULTIPLIERS[2:]:
        for shift in vectors.SHIFTS:
            folded, moved = fp.fold_mean(multiplier, shift, count)
            assert (folded, moved) == oracle.fold_mean(multiplier, shift, count)
            assert -31 <= moved <= 30
            real, before = Fraction(folded) * Fraction(2) ** moved, Fraction(multiplier, count) * Fraction(2) ** shift
            assert 0 <= before - real < Fraction(2) ** moved  # truncated: never above, less than one unit below
            if moved > -31:
                assert 2**29 <= folded <= INT32_MAX


def test_fold_mean_truncates() -> None:
    assert fp.fold_mean(*fp.quantize_multiplier(7 / 8), 3) == (1252698794, -1)  # of 1252698794.67


# eq. 26 to 29: the paper's appendix A.1 -------------------------------------------------------------------------------


def exponents(integer_bits: int) -> list[int]:
    quarter = 2 ** (29 - integer_bits)
    centres = [*(quarter * k for k in range(10)), *(quarter << k for k in range(8))]  # the last is 32
    borders = {step - centre for centre in centres for step in (-1, 0, 1)}
    rng = np.random.default_rng(integer_bits)
    anywhere = {int(x) for x in rng.integers(INT32_MIN, 0, 300)}
    return sorted(x for x in borders | anywhere | {INT32_MIN} if INT32_MIN <= x <= 0)


@pytest.mark.parametrize("integer_bits", [0, 1, 2, 3, 4, 5, 6, 8, 12, 20, 29])
def test_exp(integer_bits: int) -> None:
    values = exponents(integer_bits)
    expected = [oracle.exp_on_negative_values(x, integer_bits) for x in values]
    for make in (np.asarray, torch.tensor):
        assert fp.exp_on_negative_values(int64(make, values), integer_bits).tolist() == expected
    out = np.empty(len(values), np.int32)
    _native.exp_on_negative_values(int32(values), integer_bits, out)
    assert out.tolist() == expected


def test_exp_is_near() -> None:
    values = np.concatenate([np.random.default_rng(0).integers(INT32_MIN, 0, 100_000), exponents(5)])
    error = fp.exp_on_negative_values(values, 5) / 2.0**31 - np.exp(values / 2.0**26)
    assert abs(error).max() < 2.5e-7
    assert fp.exp_on_negative_values(np.array([0]), 5) == INT32_MAX


def reciprocal_arguments() -> list[int]:
    anywhere = {int(x) for x in np.random.default_rng(0).integers(0, 2**31, 500)}
    return sorted(anywhere | {abs(x) for x in vectors.edges() if x != INT32_MIN})


def test_one_over_one_plus_x() -> None:
    values = reciprocal_arguments()
    expected = [oracle.one_over_one_plus_x(x) for x in values]
    for make in (np.asarray, torch.tensor):
        assert fp.one_over_one_plus_x(int64(make, values)).tolist() == expected
    out = np.empty(len(values), np.int32)
    _native.one_over_one_plus_x(int32(values), out)
    assert out.tolist() == expected
    exact = [1 / (1 + x / 2.0**31) for x in values]
    assert max(abs(np.array(expected) / 2.0**31 - exact)) < 2.0**-27


@pytest.mark.parametrize("make", LIBRARIES)
def test_reciprocal(make: Maker) -> None:
    values = [*(x for x in vectors.edges() if x >= 2**19), 511 * 2**19, 512 * 2**19, 4095 * 2**19]
    mantissa, exponent = fp.reciprocal(int64(make, values), 12)
    assert list(zip(mantissa.tolist(), exponent.tolist(), strict=True)) == [oracle._reciprocal(x) for x in values]
    for x, m, e in zip(values, mantissa.tolist(), exponent.tolist(), strict=True):
        assert abs(Fraction(m, 2**31 * 2**e) * Fraction(x, 2**19) - 1) < Fraction(1, 2**26)


@pytest.mark.parametrize("make", LIBRARIES)
def test_count_leading_zeros(make: Maker) -> None:
    values = [0, *(x for x in vectors.edges() if x > 0)]
    assert fp.count_leading_zeros(int64(make, values)).tolist() == [32 - x.bit_length() for x in values]
