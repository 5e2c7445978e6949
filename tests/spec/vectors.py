"""Numbers that tell one rounding from another: ties of every step, ends of int32, shifts at their limits.

And the exact meaning of each primitive in rational arithmetic, the third formulation beside the specification (floors)
and the oracle (truncations as in C). None of the three is trusted before they agree.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SHIFTS = (-31, -30, -24, -23, -16, -8, -2, -1, 0, 1, 2, 7, 16, 29, 30)
MULTIPLIERS = (0, 1, 2**30, 2**30 + 1, 3 * 2**29, 0x5A82799A, 2**31 - 3, INT32_MAX)
COUNTS = (1, 2, 3, 4, 5, 6, 7, 9, 48, 49, 63, 64, 65, 255, 256, 1000, 2**15, 2**20 + 1, INT32_MAX)


def _near(*centres: int) -> set[int]:
    """Each centre and its neighbours, both signs, as far as they fit int32."""
    around = {sign * centre + step for centre in centres for sign in (-1, 1) for step in (-1, 0, 1)}
    return {x for x in around if INT32_MIN <= x <= INT32_MAX}


def edges() -> list[int]:
    """Ends of int32, zero, powers of two, small numbers, and some of no particular kind."""
    rng = np.random.default_rng(1)
    anywhere = {int(x) for x in rng.integers(INT32_MIN, INT32_MAX, 40, endpoint=True)}
    return sorted(_near(*(2**k for k in range(32))) | set(range(-20, 21)) | anywhere)


def high_product_ties(multiplier: int) -> list[int]:
    """Accumulators whose product with the multiplier is an odd multiple of 2^30: a tie of the high multiplication."""
    twos = (multiplier & -multiplier).bit_length() - 1
    if multiplier == 0 or twos > 30:
        return []
    unit = 2 ** (30 - twos)
    most = INT32_MAX // unit
    odds = {*range(-13, 14, 2), most - 1 + most % 2, 1 - most - most % 2}
    return sorted(x for x in (unit * odd for odd in odds) if INT32_MIN <= x <= INT32_MAX)


def division_ties(exponent: int) -> list[int]:
    """Odd multiples of 2^(exponent - 1) and their neighbours: ties of the division by 2^exponent."""
    if exponent == 0:
        return []
    half = 2 ** (exponent - 1)
    return sorted(_near(*(half * k for k in (1, 3, 5, 7, 101)), half * (INT32_MAX // half)))


def accumulators(multiplier: int, shift: int) -> list[int]:
    """Accumulators for a requantization: edges and ties of both steps, that leave room for the left shift."""
    left, right = max(shift, 0), max(-shift, 0)
    found = set(edges()) | set(high_product_ties(multiplier)) | set(high_product_ties(multiplier << left))
    if multiplier:
        for tie in division_ties(right):  # an x whose high product is the tie, or next to it
            nearest = (tie * 2**31) // multiplier
            found |= {nearest - 1, nearest, nearest + 1}
    return sorted(x for x in found if INT32_MIN <= x << left <= INT32_MAX)


def requantizations() -> list[tuple[int, int, int]]:
    """(accumulator, multiplier, shift), all of the above."""
    return [(x, m, s) for m, s in itertools.product(MULTIPLIERS, SHIFTS) for x in accumulators(m, s)]


def nearest_up(x: Fraction) -> int:
    """The nearest integer, ties toward plus infinity."""
    return math.floor(x + Fraction(1, 2))


def nearest_away(x: Fraction) -> int:
    """The nearest integer, ties away from zero."""
    return nearest_up(x) if x >= 0 else -nearest_up(-x)


def exact_srdhm(a: int, b: int) -> int:
    """Equation 9."""
    return min(nearest_up(Fraction(a * b, 2**31)), INT32_MAX)


def exact_rdbp(x: int, exponent: int) -> int:
    """Equation 10."""
    return nearest_away(Fraction(x, 2**exponent))


def exact_requantize(x: int, multiplier: int, shift: int, rounding: str) -> int:
    """Equations 11 and 12."""
    if rounding == "single":
        return nearest_up(real_product(x, multiplier, shift))
    return exact_rdbp(exact_srdhm(x * 2 ** max(shift, 0), multiplier), max(-shift, 0))


def real_product(x: int, multiplier: int, shift: int) -> Fraction:
    """What a requantization approximates."""
    return Fraction(x * multiplier) * Fraction(2) ** (shift - 31)
