"""GATHER by indices that data decide, and EMBEDDING_LOOKUP: rows of a table."""

from __future__ import annotations

from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import BatchTouchedError, Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.ir.instruction import Instruction


def _write(scope: Scope, i: Instruction) -> None:
    """Rows are the first axis of a constant, or the axis behind the batch."""
    if scope.is_wide(i.name):
        raise UnsayableError("required int8 or uint8 codes, which TensorFlow Lite Micro's GATHER knows, found int16")
    behind = int(i.inputs[0] not in scope.tables)
    scope.emit("GATHER", i.inputs, i.name, Axis=behind, BatchDims=behind)


WRITERS = {"take": _write}


def read_take(draft: Draft, operator: TfOperator, source: str | None, indices: str | None) -> None:
    """By indices that data decide: along the first axis of a constant, or any axis behind the batch."""
    output, own = operator.outputs[0], draft.tensor(source)
    axis, together, rank = number(operator, "Axis"), number(operator, "BatchDims"), len(own.shape)
    if not -rank <= axis < rank or not 0 <= together <= 1:
        raise UnreadableError(f"required an axis of {rank}, behind one in common at most, found {axis} and {together}")
    draft.require_same(output, draft.label(source))
    chosen_by = draft.index(indices)
    if own.data is not None:
        if axis % rank != together:
            raise UnreadableError(f"required the rows of a constant, found its axis {axis}, with {together} in common")
        table, axis = draft.operand(source, rank + 1 - together), 1
    else:
        table, axis = draft.operand(source), draft.axis(axis, source)
        if together > 1 - draft.lead or (draft.batch != 1 and not draft.lead and not together):
            raise BatchTouchedError(f"required each sample's own indices, found {together} axes that both have")
    _take(draft, output, table, chosen_by, axis)


def _take(draft: Draft, output: str, table: str, indices: str, axis: int) -> None:
    """Cells of an axis, which goes in front for that; their dimensions take its place."""
    shape, label = draft.tensors[table].shape, draft.tensors[table].qparams
    rest = [d for d in range(1, len(shape)) if d != axis]
    moved = (0, axis, *rest)
    if axis != 1:
        table = draft.emit("transpose", (table,), label, {"permutation": moved})
    chosen_by = draft.tensors[indices].shape
    if axis == 1:
        draft.define(output, "take", (table, indices), {})
        return
    own, count = len(chosen_by) - 1, axis - 1  # of the indices' axes behind the batch, and of those before the axis
    back = (
        0,
        *range(1 + own, 1 + own + count),
        *range(1, 1 + own),
        *range(1 + own + count, len(chosen_by) + len(rest)),
    )
    taken = draft.emit("take", (table, indices), label, {})
    draft.define(output, "transpose", (taken,), {"permutation": back})


def _read_lookup(draft: Draft, operator: TfOperator) -> None:
    """The rows of a constant, as PyTorch's converter writes an embedding."""
    indices, table = require_operands(operator, 2)
    draft.require_same(operator.outputs[0], draft.label(table))
    found = draft.tensor(table)
    if found.data is None or not found.shape:
        raise UnreadableError(f"required a constant table of rows, found {found.name}, {found.shape}")
    rows = draft.operand(table, 1 + len(found.shape))
    _take(draft, operator.outputs[0], rows, draft.index(indices), 1)


READERS: dict[str, Reader] = {"EMBEDDING_LOOKUP": _read_lookup}
