"""SLICE, STRIDED_SLICE, REVERSE_V2, SPLIT, SPLIT_V, UNPACK, PACK, GATHER, TILE, MIRROR_PAD read: slices, gathers, joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import INDEX_BYTES, Draft, number, text
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.formats.tflite.table.movement import read_joined
from unfloat.formats.tflite.table.take import read_take
from unfloat.ir.graph import BATCH

Cells = tuple[int, int, int]  # begin, stride, size along an axis


def cut(draft: Draft, output: str, source: str | None, cells: Sequence[Cells]) -> None:
    """An activation of the file is cells of another one, given for each of the file's dimensions."""
    extents = draft.tensor(source).shape
    if not draft.lead_of(source):
        if cells[0] != (0, 1, extents[0]):
            draft.axis(0, source)
        cells = cells[1:]
    shape = draft.shape(source)
    draft.require_same(output, draft.label(source))
    if all(axis == (0, 1, extent) for axis, extent in zip(cells, shape[1:], strict=True)):
        draft.alias(output, draft.operand(source))
        return
    begin, stride, size = zip((0, 1, BATCH), *cells, strict=True)
    attributes = {"begin": begin, "stride": stride, "size": size}
    draft.define(output, "slice", (draft.operand(source),), attributes)


def _whole(draft: Draft, source: str | None) -> list[Cells]:
    return [(0, 1, extent) for extent in draft.tensor(source).shape]


def cells_of(cells: range, found: object) -> Cells:
    """A range as begin, stride and size; it must not be empty."""
    if not cells:
        raise UnreadableError(f"required a slice that is not empty, found {found}")
    return (cells[0], cells.step, len(cells)) if len(cells) > 1 else (cells[0], 1, 1)


def _own_axis(draft: Draft, source: str | None, axis: int) -> int:
    """A dimension as the file counts them, from the front."""
    return draft.axis(axis, source) - draft.lead_of(source)


def _read_slice(draft: Draft, operator: TfOperator) -> None:
    source, *numbers = require_operands(operator, 3)
    extents = draft.tensor(source).shape
    begin, size = (draft.numbers(name).reshape(-1) for name in numbers)
    if not len(begin) == len(size) == len(extents) or (begin < 0).any():
        raise UnreadableError(f"required begin and size of {len(extents)} dimensions, found {begin}, {size}")
    stops = [
        extent if count == -1 else first + count for first, count, extent in zip(begin, size, extents, strict=True)
    ]
    if any(stop > extent for stop, extent in zip(stops, extents, strict=True)):
        raise UnreadableError(f"required cells of {extents}, found {begin} and {size}")
    found = (begin.tolist(), size.tolist())
    cut(
        draft,
        operator.outputs[0],
        source,
        [cells_of(range(int(a), int(b)), found) for a, b in zip(begin, stops, strict=True)],
    )


def _read_strided_slice(draft: Draft, operator: TfOperator) -> None:
    """New axes and those that go are reshapes: the result's shape is in the file."""
    source, *numbers = require_operands(operator, 4)
    begin, end, stride = (draft.numbers(name).reshape(-1).tolist() for name in numbers)
    if number(operator, "Offset"):
        raise UnreadableError("required ends that are cells, found that they are counted from the begins (offset)")
    if not len(begin) == len(end) == len(stride) or 0 in stride:
        raise UnreadableError(f"required begins, ends and strides alike, found {begin}, {end}, {stride}")
    masks = {role: number(operator, f"{role}Mask") for role in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")}
    extents, cells = list(draft.tensor(source).shape), []
    for entry, bounds in enumerate(zip(begin, end, stride, strict=True)):
        on = {role for role, mask in masks.items() if mask >> entry & 1}
        if "Ellipsis" in on:
            rest = range(entry + 1, len(begin))
            kept = len(extents) - sum(not masks["NewAxis"] >> other & 1 for other in rest)
            cells += [(0, 1, extents.pop(0)) for _ in range(max(kept, 0))]
        elif "NewAxis" not in on:
            if not extents:
                raise UnreadableError(f"required at most {len(cells)} dimensions, found {len(begin)}")
            cells.append(_entry(*bounds, extents.pop(0), on))
    cut(draft, operator.outputs[0], source, [*cells, *((0, 1, extent) for extent in extents)])


def _entry(begin: int, end: int, stride: int, extent: int, on: set[str]) -> Cells:
    """One axis; an axis that goes has one cell, wherever the end is."""
    if "ShrinkAxis" in on:
        return cell_alone(begin, stride, extent, begins="Begin" in on), 1, 1
    cells = range(extent)[slice(None if "Begin" in on else begin, None if "End" in on else end, stride)]
    return cells_of(cells, (begin, end, stride))


def cell_alone(begin: int, stride: int, extent: int, *, begins: bool) -> int:
    """The cell of an axis that goes: the first where a mask `begins` the slice there, as the public runtimes have it."""
    first = 0 if begins else begin
    if stride != 1 or not -extent <= first < extent:
        raise UnreadableError(f"required an index into {extent} cells, a stride of 1, found {first}, {stride}")
    return first % extent


def _read_reverse(draft: Draft, operator: TfOperator) -> None:
    source, axes = require_operands(operator, 2)
    cells = _whole(draft, source)
    for axis in draft.numbers(axes).reshape(-1):
        own = _own_axis(draft, source, int(axis))
        extent = cells[own][2]
        cells[own] = (extent - 1, -1, extent) if extent > 1 else (0, 1, 1)
    cut(draft, operator.outputs[0], source, cells)


def _read_split(draft: Draft, operator: TfOperator) -> None:
    axis, source = _operands(operator, 2)
    own = _own_axis(draft, source, draft.one(axis))
    count, extent = len(operator.outputs), draft.tensor(source).shape[own]
    if extent % count:
        raise UnreadableError(f"required a size that {count} parts divide, found {extent}")
    _part(draft, operator, source, own, [extent // count] * count)


def _read_split_v(draft: Draft, operator: TfOperator) -> None:
    """One size may be -1: what the others leave."""
    source, sizes, axis = _operands(operator, 3)
    own = _own_axis(draft, source, draft.one(axis))
    extent, found = draft.tensor(source).shape[own], [int(size) for size in draft.numbers(sizes).reshape(-1)]
    wanted = [extent - sum(s for s in found if s != -1) if size == -1 else size for size in found]
    if sum(wanted) != extent or min(wanted, default=0) < 1 or len(wanted) != len(operator.outputs):
        raise UnreadableError(f"required sizes of {len(operator.outputs)} parts of {extent} cells, found {found}")
    _part(draft, operator, source, own, wanted)


def _read_unpack(draft: Draft, operator: TfOperator) -> None:
    (source,) = _operands(operator, 1)
    own = _own_axis(draft, source, number(operator, "Axis"))
    extent = draft.tensor(source).shape[own]
    if extent != len(operator.outputs):
        raise UnreadableError(f"required {len(operator.outputs)} cells to unpack, found {extent}")
    _part(draft, operator, source, own, [1] * extent)


def _part(draft: Draft, operator: TfOperator, source: str | None, own: int, sizes: Sequence[int]) -> None:
    first = 0
    for output, size in zip(operator.outputs, sizes, strict=True):
        cells = _whole(draft, source)
        cells[own] = (first, 1, size)
        cut(draft, output, source, cells)
        first += size


def _operands(operator: TfOperator, count: int) -> tuple[str | None, ...]:
    """Operands of an operator of any number of results."""
    if len(operator.inputs) != count:
        raise UnreadableError(f"required {count} operands, found {len(operator.inputs)}")
    return operator.inputs


def _read_pack(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1, len(operator.inputs))
    output = operator.outputs[0]
    axis = draft.axis(number(operator, "Axis"), output)
    row = tuple(1 if d == axis else size for d, size in enumerate(draft.shape(output)))
    for source in operator.inputs:
        draft.require_same(output, draft.label(source))
    read_joined(draft, operator, axis, row)


def _read_gather(draft: Draft, operator: TfOperator) -> None:
    """By a list of indices of any shape, whose dimensions take the place of the axis."""
    source, indices = require_operands(operator, 2)
    if draft.tensor(indices).name in draft.values:
        read_take(draft, operator, source, indices)
        return
    numbers = draft.numbers(indices).reshape(-1)
    draft.spend(INDEX_BYTES * numbers.size)
    found = [int(index) for index in numbers]
    axis = draft.axis(number(operator, "Axis"), source)
    if number(operator, "BatchDims") or not found or not 0 <= min(found) <= max(found) < draft.shape(source)[axis]:
        raise UnreadableError(f"required indices below {draft.shape(source)[axis]}, the same for all, found {found}")
    draft.require_same(operator.outputs[0], draft.label(source))
    gathered = draft.emit("gather", (draft.operand(source),), draft.label(source), _choice(axis, found))
    draft.alias(operator.outputs[0], gathered)


def _choice(axis: int, indices: Sequence[int]) -> dict[str, object]:
    return {"axis": axis, "indices": tuple(indices)}


def choose(draft: Draft, value: str, output: str, choices: Mapping[int, Sequence[int]]) -> None:
    """Gather along several axes, those aside whose indices are all cells in order; the last one makes `output`."""
    shape, label = draft.tensors[value].shape, draft.tensors[value].qparams
    draft.require_same(output, label)
    draft.spend(INDEX_BYTES * sum(shape[axis] for axis in choices))
    needed = {axis: found for axis, found in choices.items() if list(found) != list(range(shape[axis]))}
    for done, (axis, indices) in enumerate(needed.items(), 1):
        if done == len(needed):
            draft.define(output, "gather", (value,), _choice(axis, indices))
        else:
            value = draft.emit("gather", (value,), label, _choice(axis, indices))
    if not needed:
        draft.alias(output, value)


def _read_mirror_pad(draft: Draft, operator: TfOperator) -> None:
    """REFLECT leaves the edge cell out, SYMMETRIC repeats it."""
    source, paddings = require_operands(operator, 2)
    extents = draft.tensor(source).shape
    pairs = draft.pairs(paddings, len(extents))
    skipped = 1 if text(operator, "Mode", "REFLECT") == "REFLECT" else 0
    choices = {}
    for own, (extent, (before, after)) in enumerate(zip(extents, pairs.tolist(), strict=True)):
        if not 0 <= min(before, after) <= max(before, after) <= extent - skipped:
            raise UnreadableError(f"required a border of at most {extent - skipped} cells, found {before} and {after}")
        if before or after:
            draft.spend(INDEX_BYTES * (extent + before + after))
            cells = np.pad(np.arange(extent), (before, after), "reflect" if skipped else "symmetric")
            choices[draft.axis(own, source)] = [int(cell) for cell in cells]
    choose(draft, draft.operand(source), operator.outputs[0], choices)


def _read_tile(draft: Draft, operator: TfOperator) -> None:
    """All cells of an axis, again and again."""
    source, multiples = require_operands(operator, 2)
    extents, counts = draft.tensor(source).shape, draft.numbers(multiples).reshape(-1).tolist()
    if len(counts) != len(extents) or min(counts, default=0) < 1:
        raise UnreadableError(f"required a number of times for each of {len(extents)} dimensions, found {counts}")
    choices = {}
    for own, (extent, count) in enumerate(zip(extents, counts, strict=True)):
        if count > 1:
            draft.spend(INDEX_BYTES * extent * count)
            choices[draft.axis(own, source)] = list(range(extent)) * count
    choose(draft, draft.operand(source), operator.outputs[0], choices)


READERS: dict[str, Reader] = {
    "GATHER": _read_gather,
    "MIRROR_PAD": _read_mirror_pad,
    "PACK": _read_pack,
    "REVERSE_V2": _read_reverse,
    "SLICE": _read_slice,
    "SPLIT": _read_split,
    "SPLIT_V": _read_split_v,
    "STRIDED_SLICE": _read_strided_slice,
    "TILE": _read_tile,
    "UNPACK": _read_unpack,
}
