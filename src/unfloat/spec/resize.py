"""Where the cells of a resized axis come from (docs/numerics.md, equations 39 to 42): TFLite's reference kernels.

Coordinates are constants of two sizes. Bilinear ones are integers from the start, in 1/1024ths of a cell; nearest ones
are computed in float32, as TFLite does, once, and are a list of whole cells from then on.
"""

from __future__ import annotations

import numpy as np

from unfloat.spec.fixedpoint import Array, rounding_divide_by_pot, scalar_like
from unfloat.spec.record import Record

COORDINATE_BITS = 10
ONE = 1 << COORDINATE_BITS
MOST_CELLS = 1 << 16  # of an axis, before and after: every coordinate fits int32


class Between(Record):
    """The two source cells that each target cell lies between, and the share of the second, in 1/1024ths."""

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray


def bilinear_scale(source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> tuple[int, int]:
    """The step from one target cell to the next and the coordinate of the first, in 1/1024ths (eq. 39)."""
    aligned = align_corners and target > 1
    cells, steps = (source - 1, target - 1) if aligned else (source, target)
    scale = (ONE * cells + steps // 2) // steps
    return scale, scale // 2 - ONE // 2 if half_pixel_centers else 0


def bilinear_coordinates(source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> Between:
    """For each of `target` cells what it lies between among `source` cells (eq. 39 and 40).

    A cell that lies at or past an edge is that edge's cell alone: first and second are the same, the share is 0.
    """
    at = _coordinates(source, target, align_corners, half_pixel_centers)
    at = np.clip(at, 0, (source - 1) * ONE)
    first = at >> COORDINATE_BITS
    return Between(first, np.minimum(first + 1, source - 1), at - first * ONE)


def reads_past_the_end(source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> bool:
    """Whether a rounded scale carries a coordinate past the last cell, where TFLite's kernels forget to stop."""
    return bool(_coordinates(source, target, align_corners, half_pixel_centers)[-1] >= source * ONE)


def _coordinates(source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> np.ndarray:
    scale, start = bilinear_scale(source, target, align_corners, half_pixel_centers)
    return np.arange(target, dtype=np.int64) * scale + start


def round_blend(total: Array) -> Array:
    """A sum of codes whose shares add up to 2^20, to nearest, ties away from code 0 (eq. 41)."""
    return rounding_divide_by_pot(total, scalar_like(total, 2 * COORDINATE_BITS))


def nearest_indices(source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> tuple[int, ...]:
    """For each of `target` cells the nearest of `source` cells, in float32 throughout (eq. 42)."""
    aligned = align_corners and target > 1
    cells, steps = (source - 1, target - 1) if aligned else (source, target)
    scale = np.float32(cells) / np.float32(steps)
    at = (np.arange(target, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0.0)) * scale
    whole = np.floor(at)
    if align_corners:  # ties away from zero
        whole += at - whole >= np.float32(0.5)
    return tuple(int(index) for index in np.clip(whole, 0, source - 1))
