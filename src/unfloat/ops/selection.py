"""Operators that choose codes by where they lie, and compute nothing: slice and gather. Both share their QParams.

Other selections are these two, with reshapes and transposes: splitting and unpacking are slices; mirrored borders,
repeated pixels (nearest-neighbour resize) and any other fixed choice along an axis are gathers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unfloat.ir.graph import BATCH, Attributes, Shape
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.spec.backend import Array, Backend

SAME = QuantRecord(output="same")
MOST = 2**31 - 1


def _slice_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    begin, stride, size = (attributes[name] for name in ("begin", "stride", "size"))
    source = inputs[0]
    if not len(begin) == len(stride) == len(size) == len(source) or (begin[0], stride[0], size[0]) != (0, 1, BATCH):
        raise ValueError(
            f"a slice names begin, stride and size of each axis of {source}, the whole batch first; "
            f"found {begin}, {stride}, {size}"
        )
    for first, step, count, extent in zip(begin[1:], stride[1:], size[1:], source[1:], strict=True):
        last = first + (count - 1) * step
        if step == 0 or count < 1 or not (0 <= first < extent and 0 <= last < extent):
            raise ValueError(f"begin {begin}, stride {stride} and size {size} leave {source}")
    return tuple(size)


def _slice(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    """Backwards is forwards, turned round: not every array library steps backwards."""
    chosen, backwards = [slice(None)], []
    axes = zip(attributes["begin"], attributes["stride"], attributes["size"], strict=True)
    for axis, (first, step, count) in enumerate(axes):
        if axis == 0:
            continue
        ends = sorted((first, first + (count - 1) * step))
        chosen.append(slice(ends[0], ends[1] + 1, abs(step)))
        backwards += [axis] if step < 0 else []
    x = inputs[0][tuple(chosen)]
    return b.xp.flip(x, axis=tuple(backwards)) if backwards else x


def _gather_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    axis, indices, source = attributes["axis"], attributes["indices"], inputs[0]
    if axis >= len(source):
        raise ValueError(f"{source} has no axis {axis}")
    if not indices or max(indices) >= source[axis]:
        found = f"up to {max(indices)}" if indices else "none"
        raise ValueError(f"indices along axis {axis} of {source} must lie below {source[axis]}, found {found}")
    return (*source[:axis], len(indices), *source[axis + 1 :])


def _gather(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.xp.take(inputs[0], b.constant(np.array(attributes["indices"])), axis=attributes["axis"])


def slice_cases() -> Iterator[Case]:
    """Every rank; steps forwards and backwards; one cell of an axis, and all of it."""

    def case(label: str, shape: Shape, *axes: tuple[int, int, int]) -> Case:
        begin, stride, size = zip((0, 1, BATCH), *axes, strict=True)
        return Case(label, (shape,), {"begin": begin, "stride": stride, "size": size})

    yield case("a window", (7, 5, 3), (2, 1, 4), (0, 1, 5), (0, 1, 3))
    yield case("channels", (3, 4, 17), (0, 1, 3), (0, 1, 4), (5, 1, 9))
    yield case("every second pixel", (7, 6, 5), (0, 2, 4), (1, 2, 3), (0, 1, 5))
    yield case("backwards", (5, 7, 4), (4, -1, 5), (6, -3, 3), (3, -2, 2))
    yield case("channels, every third", (3, 2, 64), (0, 1, 3), (0, 1, 2), (1, 3, 21))
    yield case("one channel, backwards", (6, 5, 1), (5, -2, 3), (0, 1, 5), (0, 1, 1))
    yield case("rank 2", (9,), (3, 1, 4))
    yield case("rank 2, backwards", (9,), (8, -4, 3))
    yield case("rank 3, one row", (4, 5), (2, 1, 1), (0, 1, 5))
    yield case("rank 5", (2, 3, 4, 5), (1, 1, 1), (0, 1, 3), (1, 1, 2), (0, 1, 5))
    yield case("rank 5, strides", (3, 3, 4, 5), (0, 2, 2), (2, -1, 3), (1, 2, 2), (0, 1, 5))
    yield case("rank 6", (2, 3, 2, 3, 4), (0, 1, 2), (1, 1, 2), (0, 1, 1), (0, 1, 3), (2, 1, 2))
    yield case("rank 6, strides", (3, 3, 2, 3, 4), (0, 2, 2), (2, -1, 3), (1, -1, 2), (0, 1, 3), (3, -2, 2))


def gather_cases() -> Iterator[Case]:
    """Each axis; indices that repeat, go back, and leave cells out."""
    yield Case("rows repeated", ((3, 4, 5),), {"axis": 1, "indices": (0, 0, 1, 1, 2, 2)})
    yield Case("columns mirrored", ((3, 4, 5),), {"axis": 2, "indices": (2, 1, 0, 1, 2, 3, 2)})
    yield Case("channels", ((3, 2, 17),), {"axis": 3, "indices": (16, 0, 3, 3, 8)})
    yield Case("one channel, many times", ((2, 3, 1),), {"axis": 3, "indices": (0,) * 33})
    yield Case("rank 2", ((9,),), {"axis": 1, "indices": (8, 1, 1, 0)})
    yield Case("rank 3, one row", ((4, 5),), {"axis": 1, "indices": (3,)})
    yield Case("rank 6", ((2, 3, 2, 3, 4),), {"axis": 4, "indices": (2, 0)})


AXES = {"begin": Domain("ints", 0, MOST), "stride": Domain("ints", -MOST, MOST), "size": Domain("ints", BATCH, MOST)}

OPERATORS = (
    Operator(
        name="slice",
        summary="Every stride-th cell of each axis from its begin on, forwards or backwards.",
        arity=(1, 1),
        attributes=AXES,
        shape=_slice_shape,
        float_meaning=_slice,
        integer_meaning=lambda b, attributes, constants, inputs: _slice(b, attributes, inputs, constants),
        quant=SAME,
        moves=True,
        cases=slice_cases,
    ),
    Operator(
        name="gather",
        summary="The cells of an axis that a fixed list of indices names.",
        arity=(1, 1),
        attributes={"axis": Domain("int", 1, 5), "indices": Domain("ints", 0, MOST)},
        shape=_gather_shape,
        float_meaning=_gather,
        integer_meaning=lambda b, attributes, constants, inputs: _gather(b, attributes, inputs, constants),
        quant=SAME,
        moves=True,
        cases=gather_cases,
    ),
)
