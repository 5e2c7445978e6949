"""Coordinates of resized axes: against plain integers and exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests import oracle
from unfloat.spec.resize import bilinear_coordinates, nearest_indices, reads_past_the_end

SIZES = [(1, 1), (1, 7), (2, 3), (3, 2), (7, 1), (5, 10), (10, 5), (13, 29), (29, 13), (224, 7), (1001, 3000)]
MODES = [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", SIZES)
def test_bilinear_coordinates_are_the_oracles(sizes: tuple[int, int], mode: tuple[bool, bool]) -> None:
    between = bilinear_coordinates(*sizes, *mode)
    assert (between.share >= 0).all()
    assert (between.share < 1024).all()
    for index in range(sizes[1]):
        low, high, distance = oracle.resize_coordinate(index, *sizes, *mode)
        assert between.first[index] == low
        if low != high:
            assert (between.second[index], between.share[index]) == (high, distance)
        else:
            assert between.share[index] == 0


def test_a_rounded_step_may_lead_past_the_end() -> None:
    assert reads_past_the_end(1001, 3000, align_corners=False, half_pixel_centers=False)
    assert bilinear_coordinates(1001, 3000, False, False).first[-1] == 1000
    assert not any(reads_past_the_end(*sizes, *mode) for sizes in SIZES[:-1] for mode in MODES)


@pytest.mark.parametrize("mode", [*MODES, (True, True)])
@pytest.mark.parametrize("sizes", SIZES)
def test_nearest_indices_are_near(sizes: tuple[int, int], mode: tuple[bool, bool]) -> None:
    """Where the exact coordinate is not within a float32 rounding of a border, its cell is the one."""
    source, target = sizes
    corners, centres = mode
    aligned = corners and target > 1
    step = Fraction(source - 1, target - 1) if aligned else Fraction(source, target)
    found = nearest_indices(*sizes, *mode)
    for index, cell in enumerate(found):
        at = (index + Fraction(int(centres), 2)) * step + (Fraction(1, 2) if corners else 0)
        if abs(at - round(at)) > at * Fraction(1, 2**22):
            assert cell == min(int(at), source - 1)


def test_nearest_scales_are_float32() -> None:
    """The step is rounded, and so is each product."""
    assert nearest_indices(5, 3, False, False) == (0, 1, 3)
    scale = np.float32(10) / np.float32(41)
    assert [int(np.float32(i) * scale) for i in range(41)] == list(nearest_indices(10, 41, False, False))
