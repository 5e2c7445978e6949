"""Bilinear resizing of images in integers: coordinates of 10 bits, exact products, one rounding (eq. 39 to 41)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from unfloat.ir.graph import Attributes, Shape
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.ops._spatial import require_rank
from unfloat.spec.backend import Array, Backend
from unfloat.spec.resize import MOST_CELLS, ONE, bilinear_coordinates, round_blend


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    require_rank(inputs[0], 4, "the image")
    if max(inputs[0][1:3]) > MOST_CELLS:
        raise ValueError(f"an image has at most {MOST_CELLS} rows and columns, found {inputs[0]}")
    if attributes["align_corners"] and attributes["half_pixel_centers"]:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    return (inputs[0][0], *attributes["size"], inputs[0][3])


def _blended(b: Backend, attributes: Attributes, x: Array, one: float) -> Array:
    """Rows between rows, then columns between columns, `one` being the sum of both shares."""
    modes = bool(attributes["align_corners"]), bool(attributes["half_pixel_centers"])
    for axis, target in zip((1, 2), attributes["size"], strict=True):
        where = bilinear_coordinates(x.shape[axis], target, *modes)
        along = tuple(-1 if d == axis else 1 for d in range(4))
        share = b.xp.reshape(b.constant(where.share), along)
        share = b.xp.astype(share, x.dtype) * (one / ONE) if one != ONE else b.xp.astype(share, x.dtype)
        first, second = (b.xp.take(x, b.constant(cells), axis=axis) for cells in (where.first, where.second))
        x = first * (one - share) + second * share
    return x


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    """The same coordinates: a share differs from the real one by 2^-11 at most."""
    return _blended(b, attributes, inputs[0], 1.0)


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    x = b.xp.astype(inputs[0], b.xp.int64)  # 16 bits, twice 10 more
    return round_blend(_blended(b, attributes, x, ONE))


def cases() -> Iterator[Case]:
    """Every mode; up, down, both, and to one pixel."""
    modes = {"plain": (0, 0), "corners": (1, 0), "centres": (0, 1)}
    images = (((4, 5, 3), (8, 10)), ((7, 6, 1), (3, 4)), ((3, 8, 17), (7, 5)), ((5, 4, 2), (1, 1)), ((1, 1, 9), (3, 4)))
    for (name, (corners, centres)), (image, size) in product(modes.items(), images):
        attributes = {"size": size, "align_corners": corners, "half_pixel_centers": centres}
        yield Case(f"{name}, {image[:2]} to {size}", (image,), attributes)


FLAG = Domain("int", 0, 1)

OPERATORS = (
    Operator(
        name="resize_bilinear",
        summary="An image of another size; each pixel blends the four it lies between.",
        arity=(1, 1),
        attributes={"size": Domain("ints", 1, MOST_CELLS, 2), "align_corners": FLAG, "half_pixel_centers": FLAG},
        shape=_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        quant=QuantRecord(output="same"),
        cases=cases,
    ),
)
