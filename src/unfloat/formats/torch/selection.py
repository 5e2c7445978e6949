"""Operators that choose values by where they lie: slices, parts, constant indices, mirrored borders, pixel shuffles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import (
    LastRows,
    Operand,
    RefusedError,
    Value,
    Weight,
    need_value,
    need_weight,
    printed,
)
from unfloat.ir.graph import BATCH, Shape


def cut(build: Builder, x: Value, dim: int, first: int, count: int, step: int = 1, part: str = "") -> Value:
    """`count` cells along an axis, from `first` on; nothing where that is all of it."""
    axis = dim % len(x.shape)
    if axis == 0:
        raise RefusedError("a slice may not cut the batch")
    if (first, count, step) == (0, x.shape[axis], 1):
        return x
    begin, stride, size = [0] * len(x.shape), [1] * len(x.shape), list(x.shape)
    begin[axis], stride[axis], size[axis] = first, step, count
    return build.emit("slice", [x], {"begin": tuple(begin), "stride": tuple(stride), "size": tuple(size)}, part=part)


def part_slice(
    build: Builder,
    x: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
    **_: object,
) -> Operand:
    """aten.slice: `x[:, a:b:c]`; all of the batch."""
    extent = x.shape[dim % len(x.shape)]
    whole = (start or 0) == 0 and step == 1 and (end is None or end >= (extent if extent != BATCH else 2**63 - 1))
    if whole:
        return x
    value = need_value(x, "what is sliced")
    if extent == BATCH:
        raise RefusedError("a slice may not cut the batch")
    cells = range(extent)[start:end:step]
    if not cells:
        raise RefusedError(f"a slice of {extent} cells from {start} to {end} is empty")
    return cut(build, value, dim, cells[0], len(cells), step)


def narrow(build: Builder, x: object, dim: int, start: int, length: int, **_: object) -> Value:
    """aten.narrow."""
    value = need_value(x)
    return cut(build, value, dim, start % max(value.shape[dim], 1), length)


def select(build: Builder, x: object, dim: int, index: int, **_: object) -> Operand:
    """aten.select: `x[:, i]`; the axis goes."""
    if isinstance(x, LastRows) and dim % len(x.shape) == 0:
        x, dim, index = x.sequences[index], 1, -1
    value = need_value(x)
    axis = dim % len(value.shape)
    one = cut(build, value, axis, index % value.shape[axis] if axis else 0, 1, part="cell")
    return build.reshape(one, (*value.shape[:axis], *value.shape[axis + 1 :]))


def split(build: Builder, x: object, split_size: object = None, dim: int = 0, **arguments: Any) -> tuple[Value, ...]:
    """aten.split, split_with_sizes: parts of one size, the last may be less, or of given sizes."""
    value = _whole(x)
    wanted = arguments.get("split_sizes", split_size)
    extent = _cells(value, dim)
    sizes = [min(wanted, extent - at) for at in range(0, extent, wanted)] if isinstance(wanted, int) else list(wanted)
    return _parts(build, value, dim, sizes)


def chunk(build: Builder, x: object, chunks: int, dim: int = 0, **_: object) -> tuple[Value, ...]:
    """aten.chunk: as many parts, the last ones may be less or missing."""
    value = _whole(x)
    return split(build, value, max(-(-_cells(value, dim) // chunks), 1), dim)


def _whole(x: object) -> Value:
    """What is taken apart: no parameter, as nn.MultiheadAttention does with its own where it gets different values."""
    if isinstance(x, Weight):
        instead = "nn.Linear for each of q, k and v, and torch.nn.functional.scaled_dot_product_attention"
        hint = f"a parameter for each part; for nn.MultiheadAttention of different values, {instead}"
        raise RefusedError(f"a parameter may not be taken apart, found {x.param.name}", hint)
    return need_value(x)


def _cells(x: Value, dim: int) -> int:
    """How many cells an axis has that is taken apart."""
    axis = dim % len(x.shape)
    if axis == 0:
        raise RefusedError("the batch may not be taken apart")
    return x.shape[axis]


def _parts(build: Builder, x: Value, dim: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(cut(build, x, dim, start, size, part="part") for start, size in zip(starts, sizes, strict=True))


def unbind(build: Builder, x: object, dim: int = 0, **_: object) -> tuple[Operand, ...]:
    """aten.unbind: every cell of an axis, which goes."""
    value = need_value(x)
    return tuple(select(build, value, dim, i) for i in range(_cells(value, dim)))


def stack(build: Builder, tensors: Sequence[object], dim: int = 0, **_: object) -> Value:
    """aten.stack: values one after the other along a new axis."""
    values = [need_value(tensor, "each part of a stack") for tensor in tensors]
    axis = dim % (len(values[0].shape) + 1)
    if axis == 0:
        raise RefusedError("a stack may not run along the batch")
    shape = (*values[0].shape[:axis], 1, *values[0].shape[axis:])
    return build.emit("concatenation", [build.reshape_value(value, shape, "row") for value in values], {"axis": axis})


def pick(build: Builder, x: Value, axis: int, indices: Sequence[int], part: str = "") -> Value:
    """The cells of an axis that a fixed list names; nothing where that is all of them in order."""
    if axis == 0:
        raise RefusedError("samples of the batch may not be chosen")
    if list(indices) == list(range(x.shape[axis])):
        return x
    return build.emit("gather", [x], {"axis": axis, "indices": tuple(indices)}, part=part)


def _constant_indices(index: object, extent: int) -> list[int]:
    """The values of a constant index tensor of one axis."""
    tensor = index.tensor if isinstance(index, Weight) else index
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 1:
        raise RefusedError("indices must be a constant list", "register them as a buffer")
    return [int(i) % extent for i in tensor]


def index_select(build: Builder, x: object, dim: int, index: object, **_: object) -> Value:
    """aten.index_select with constant indices."""
    value = need_value(x)
    axis = dim % len(value.shape)
    return pick(build, value, axis, _constant_indices(index, value.shape[axis]))


def index(build: Builder, x: object, indices: Sequence[object], **_: object) -> Value:
    """aten.index: `x[:, :, i]`, constant indices along one axis."""
    value = need_value(x)
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1:
        raise RefusedError("indices along several axes at once are not known", "index one axis at a time")
    axis, chosen = given[0]
    return pick(build, value, axis, _constant_indices(chosen, value.shape[axis]))


def embedding(
    build: Builder,
    weight: object,
    indices: object,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    **_: object,
) -> Operand:
    """aten.embedding: the rows of a parameter that an input's integers name; or all of them, where a list does."""
    table = need_weight(weight, "an embedding's table")
    if build.training and scale_grad_by_freq:
        raise RefusedError("gradients of rows are not scaled by how often they are read", "scale_grad_by_freq=False")
    if isinstance(indices, Value):
        constant = build.constant(table, 1 + len(table.shape))
        if build.training and padding_idx >= 0:
            constant = build.emit("still_row", [constant], {"row": padding_idx}, part="padding")
        return build.emit("take", [constant, indices])
    numbers = indices.tensor if isinstance(indices, Weight) else None
    rows, *row = table.shape
    if numbers is None or numbers.reshape(-1).tolist() != list(range(rows)):
        reason = f"a constant list must name all {rows} rows of an embedding in order"
        raise RefusedError(reason, "an embedding of as many rows as the list is long")
    return table.reshaped((*numbers.shape, *row))


def flip(build: Builder, x: object, dims: Sequence[int], **_: object) -> Value:
    """aten.flip: backwards."""
    value = need_value(x)
    for dim in dims:
        axis = dim % len(value.shape)
        value = cut(build, value, axis, value.shape[axis] - 1, value.shape[axis], -1, part="flipped")
    return value


def roll(build: Builder, x: object, shifts: Sequence[int], dims: Sequence[int] = (), **_: object) -> Value:
    """aten.roll along named axes."""
    value = need_value(x)
    if not dims:
        raise RefusedError("a roll must name its axes")
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % len(value.shape)
        extent = value.shape[axis]
        value = pick(build, value, axis, [(i - shift) % extent for i in range(extent)], "rolled")
    return value


def repeat(build: Builder, x: object, repeats: Sequence[int] = (), dims: Sequence[int] = (), **_: object) -> Value:
    """aten.repeat, aten.tile: all of an axis, again and again; the last axes are named, more than there are in front."""
    value, counts = need_value(x), list(repeats or dims)
    counts = [1] * (len(value.shape) - len(counts)) + counts
    if len(counts) > len(value.shape) or counts[0] != 1:
        raise RefusedError("neither the batch may be repeated nor axes come before it", "unsqueeze behind the batch")
    for axis, count in enumerate(counts[1:], 1):
        value = pick(build, value, axis, list(range(value.shape[axis])) * count, "repeated")
    return value


def repeat_interleave(build: Builder, x: object, repeats: object, dim: int | None = None, **_: object) -> Value:
    """aten.repeat_interleave by one number along an axis: each cell several times."""
    value = need_value(x)
    if dim is None or not isinstance(repeats, int):
        raise RefusedError("cells must be repeated along one axis, each as often", "name the axis and one number")
    axis = dim % len(value.shape)
    return pick(build, value, axis, [i for i in range(value.shape[axis]) for _ in range(repeats)])


def expand(build: Builder, x: object, size: Sequence[int], **_: object) -> Value:
    """aten.expand: the one cell of an axis as often as is asked for."""
    value = need_value(x)
    if len(size) != len(value.shape):
        raise RefusedError("an expansion may not put axes before the batch", "unsqueeze behind the batch first")
    for axis, (wanted, extent) in enumerate(zip(size, value.shape, strict=True)):
        if axis and wanted not in (-1, extent):
            value = pick(build, value, axis, (0,) * wanted, "expanded")
    return value


def followed(build: Builder, x: Value, axis: int, move: Callable[[torch.Tensor], torch.Tensor], part: str) -> Value:
    """A move of whole cells along an axis, by what PyTorch makes of the numbers 0, 1, 2... in their place."""
    numbers = torch.arange(x.shape[axis], dtype=torch.float32)[None, None]
    return pick(build, x, axis, [int(i) for i in move(numbers)[0, 0]], part)


def border(build: Builder, x: Value, pad: Sequence[int], mode: str) -> Value:
    """Padding with cells of the value itself, the last axis first: "reflect", "replicate", "circular"."""
    for i in range(0, len(pad), 2):
        amounts = tuple(pad[i : i + 2])
        axis = len(x.shape) - 1 - i // 2
        x = followed(build, x, axis, lambda row, a=amounts: functional.pad(row, a, mode), "border")  # type: ignore[misc]
    return x


def reflection_pad(build: Builder, x: object, padding: Sequence[int], **_: object) -> Value:
    """aten.reflection_pad1d, reflection_pad2d, reflection_pad3d."""
    return border(build, need_value(x), padding, "reflect")


def replication_pad(build: Builder, x: object, padding: Sequence[int], **_: object) -> Value:
    """aten.replication_pad1d, replication_pad2d, replication_pad3d."""
    return border(build, need_value(x), padding, "replicate")


def _images(value: Value) -> Shape:
    """The shape of a batch of images.

    Raises:
        RefusedError: They are none.
    """
    if len(value.shape) != 4:
        raise RefusedError(f"it takes a batch of images (batch, channels, rows, columns), found {printed(value.shape)}")
    return value.shape


def pixel_shuffle(build: Builder, x: object, upscale_factor: int, **_: object) -> Value:
    """aten.pixel_shuffle: channels become pixels."""
    value = need_value(x)
    batch, channels, rows, columns = _images(value)
    r = upscale_factor
    split_up = build.reshape_value(value, (batch, channels // (r * r), r, r, rows, columns), "blocks")
    moved = build.emit("transpose", [split_up], {"permutation": (0, 1, 4, 2, 5, 3)}, part="moved")
    return build.reshape_value(moved, (batch, channels // (r * r), rows * r, columns * r))


def pixel_unshuffle(build: Builder, x: object, downscale_factor: int, **_: object) -> Value:
    """aten.pixel_unshuffle: pixels become channels."""
    value = need_value(x)
    batch, channels, rows, columns = _images(value)
    r = downscale_factor
    split_up = build.reshape_value(value, (batch, channels, rows // r, r, columns // r, r), "blocks")
    moved = build.emit("transpose", [split_up], {"permutation": (0, 1, 3, 5, 2, 4)}, part="moved")
    return build.reshape_value(moved, (batch, channels * r * r, rows // r, columns // r))
