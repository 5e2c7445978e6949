"""SLICE, STRIDED_SLICE, GATHER, RESIZE_NEAREST_NEIGHBOR: codes chosen by where they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from unfloat.formats.tflite.builtins import MAX_RANK, MAX_STRIDED_RANK
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import emit_reshape
from unfloat.formats.tflite.table.movement import join
from unfloat.ir.instruction import Instruction
from unfloat.spec.resize import nearest_indices

Cells = tuple[int, int, int]  # begin, stride, size along an axis


def _slice(scope: Scope, i: Instruction) -> None:
    a, source = i.attributes, scope.shape(i.inputs[0])
    cells = [(0, 1, source[0]), *zip(a["begin"][1:], a["stride"][1:], a["size"][1:], strict=True)]
    select(scope, i.inputs[0], i.name, cells)


def select(scope: Scope, source: str, target: str, cells: Sequence[Cells]) -> None:
    """Cells of every axis: a SLICE where all strides are 1, else a STRIDED_SLICE; high ranks in parts."""
    plain = all(stride == 1 for _, stride, _ in cells)
    if len(cells) > (MAX_RANK if plain else MAX_STRIDED_RANK):
        _in_parts(scope, source, target, cells)
    elif plain:
        begin, _, size = zip(*cells, strict=True)
        scope.emit("SLICE", (source, *_numbers(scope, target, begin=begin, size=size)), target)
    else:
        # A backward end before cell 0 cannot be said as a number: the mask says "all the way".
        ends = [begin + (size - 1) * stride + (1 if stride > 0 else -1) for begin, stride, size in cells]
        begin, stride, _ = zip(*cells, strict=True)
        numbers = _numbers(scope, target, begin=begin, end=[max(end, 0) for end in ends], strides=stride)
        mask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
        scope.emit("STRIDED_SLICE", (source, *numbers), target, EndMask=mask)


def _in_parts(scope: Scope, source: str, target: str, cells: Sequence[Cells]) -> None:
    """One axis at a time, seen as [before, axis, behind]."""
    last, name = scope.shape(source), source
    for axis, (begin, stride, size) in enumerate(cells):
        if (begin, stride, size) == (0, 1, last[axis]):
            continue
        outer, inner = math.prod(last[:axis]), math.prod(last[axis + 1 :])
        seen = scope.between(f"{target}/axis_{axis}", source, (outer, last[axis], inner))
        emit_reshape(scope, name, seen)
        name = scope.between(f"{target}/selected_{axis}", source, (outer, size, inner))
        select(scope, seen, name, ((0, 1, outer), (begin, stride, size), (0, 1, inner)))
        last = (*last[:axis], size, *last[axis + 1 :])
    emit_reshape(scope, name, target)


def _numbers(scope: Scope, target: str, **roles: Sequence[int]) -> list[str]:
    return [scope.numbers(f"{target}/{role}", values) for role, values in roles.items()]


def _gather(scope: Scope, i: Instruction) -> None:
    axis, indices = i.attributes["axis"], i.attributes["indices"]
    if _nearest(scope, i):
        return
    if scope.is_wide(i.name):
        _joined_runs(scope, i)
        return
    inputs = (i.inputs[0], scope.numbers(f"{i.name}/indices", indices))
    scope.emit("GATHER", inputs, i.name, Axis=axis, BatchDims=0)


def _nearest(scope: Scope, i: Instruction) -> bool:
    """A nearest-neighbour resize of rows or of columns, where that is what the indices say."""
    axis, indices, shape = i.attributes["axis"], i.attributes["indices"], scope.shape(i.inputs[0])
    if len(shape) != 4 or axis == 3 or len(indices) == shape[axis]:
        return False
    for corners, centres in product((False, True), repeat=2):
        other = shape[3 - axis]
        still = nearest_indices(other, other, corners, centres) == tuple(range(other))
        if still and nearest_indices(shape[axis], len(indices), corners, centres) == tuple(indices):
            inputs = (i.inputs[0], scope.numbers(f"{i.name}/size", scope.shape(i.name)[1:3]))
            scope.emit("RESIZE_NEAREST_NEIGHBOR", inputs, i.name, AlignCorners=corners, HalfPixelCenters=centres)
            return True
    return False


def _joined_runs(scope: Scope, i: Instruction) -> None:
    """TensorFlow Lite Micro's GATHER knows no int16: slices where the indices are evenly spaced, joined."""
    axis, shape = i.attributes["axis"], scope.shape(i.inputs[0])
    runs = list(_runs(i.attributes["indices"]))
    parts = []
    for run in runs:
        part_shape = (*shape[:axis], run[2], *shape[axis + 1 :])
        parts.append(scope.between(f"{i.name}/run", i.name, part_shape) if len(runs) > 1 else i.name)
        cells = [run if d == axis else (0, 1, size) for d, size in enumerate(shape)]
        select(scope, i.inputs[0], parts[-1], cells)
    if len(runs) > 1:
        join(scope, parts, i.name, axis)


def _runs(indices: Sequence[int]) -> Iterator[Cells]:
    """The indices as evenly spaced runs, greedily."""
    at = 0
    while at < len(indices):
        stride = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        size = 1
        while stride and at + size < len(indices) and indices[at + size] - indices[at + size - 1] == stride:
            size += 1
        yield indices[at], stride if size > 1 else 1, size
        at += size


WRITERS = {"slice": _slice, "gather": _gather}
