"""Operators that choose codes by where they lie, and compute nothing: slice, gather, take. All share their QParams.

Other fixed selections are the first two, with reshapes and transposes: splitting and unpacking are slices; mirrored
borders, repeated pixels (nearest-neighbour resize) and any other fixed choice along an axis are gathers. What `take`
chooses the data decide: an embedding looks up the rows of a constant table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import BATCH, Attributes, Shape
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.spec.backend import Array, Backend
from unfloat.spec.qparams import INDEX

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


def _take_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    table, indices = inputs
    if len(table) < 2 or table[0] not in (1, BATCH) or indices[0] != BATCH:
        raise ValueError(
            f"a table has one sample or the batch in front, then its rows, and indices have the batch in front; "
            f"found {table} and {indices}"
        )
    if table[1] > INDEX.qmax + 1:
        raise ValueError(f"a table has at most {INDEX.qmax + 1} rows, found {table[1]}")
    return (*indices, *table[2:])


def _take(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    """Indices below 0 count from the end; one outside takes the row next to it, as codes saturate (eq. 54)."""
    table, indices = inputs
    samples, rows = table.shape[:2]
    first = b.constant(rows * np.arange(samples).reshape(samples, *(1 for _ in indices.shape[1:])))
    numbers = b.xp.astype(indices, first.dtype)
    places = first + b.xp.clip(b.xp.where(numbers < 0, numbers + rows, numbers), 0, rows - 1)
    flat = b.xp.reshape(table, (samples * rows, *table.shape[2:]))
    taken = b.xp.take(flat, b.xp.reshape(places, (-1,)), axis=0)
    return b.xp.reshape(taken, (*indices.shape, *table.shape[2:]))


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


def take_cases() -> Iterator[Case]:
    """Tables that are constant, and that every sample has its own of; rows of one code and of many."""
    constant: dict[str, Any] = {"constants": frozenset({0})}
    yield Case("an embedding", ((50, 16), (7,)), **constant)
    yield Case("an embedding, one row", ((1, 5), (3,)), **constant)
    yield Case("an embedding, one index", ((300, 33), ()), **constant)
    yield Case("numbers", ((40,), (6, 5)), **constant)
    yield Case("rows of images", ((9, 2, 3, 5), (4,)), **constant)
    yield Case("a table for each sample", ((11, 8), (6,)))
    yield Case("one row for each sample", ((12, 3, 7), ()))
    yield Case("one code for each sample", ((10,), ()))
    yield Case("rank 6", ((4, 3, 2), (2, 1, 3)))


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
    Operator(
        name="take",
        summary="The rows of a table that the second operand's numbers name; those below 0 count from the end.",
        arity=(2, 2),
        shape=_take_shape,
        float_meaning=_take,
        integer_meaning=lambda b, attributes, constants, inputs: _take(b, attributes, inputs, constants),
        quant=QuantRecord(output="same", indices=frozenset({1})),
        moves=True,
        cases=take_cases,
    ),
)
