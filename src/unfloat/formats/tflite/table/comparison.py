"""MAXIMUM, MINIMUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX."""

from __future__ import annotations

from unfloat.formats.tflite.builtins import MAX_RANK, UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, Writer, emit_reshape, require_operands
from unfloat.formats.tflite.table.selection import select
from unfloat.ir.instruction import Instruction
from unfloat.spec.qparams import INDEX


def _pairwise(builtin: str) -> Writer:
    def write(scope: Scope, i: Instruction) -> None:
        inputs, target = list(i.inputs), i.name
        broadcast = scope.shape(i.inputs[0]) != scope.shape(i.inputs[1])
        if broadcast and len(scope.shape(i.name)) > MAX_RANK:  # the batch of 1 goes, and comes back
            inputs = [_unbatched(scope, i, name) for name in i.inputs]
            target = scope.between(f"{i.name}/picked", i.name, scope.shape(i.name)[1:])
        scope.emit(builtin, inputs, target)
        if target != i.name:
            emit_reshape(scope, target, i.name)

    return write


def _unbatched(scope: Scope, i: Instruction, name: str) -> str:
    target = scope.between(f"{i.name}/unbatched", name, scope.shape(name)[1:])
    emit_reshape(scope, name, target)
    return target


def _reduction(builtin: str, pairwise: str) -> Writer:
    def write(scope: Scope, i: Instruction) -> None:
        if scope.is_wide(i.name):
            _halving(scope, i, pairwise)
            return
        inputs = (i.inputs[0], scope.numbers(f"{i.name}/axes", i.attributes["axes"]))
        scope.emit(builtin, inputs, i.name, KeepDims=bool(i.attributes["keep_dims"]))

    return write


def _halving(scope: Scope, i: Instruction, pairwise: str) -> None:
    """TensorFlow Lite Micro's reductions know no int16: one half of an axis against the other, until one cell is left.

    The halves of an odd axis share its middle cell, which changes nothing.
    """
    name = i.inputs[0]
    for axis in i.attributes["axes"]:
        while (size := scope.shape(name)[axis]) > 1:
            half, shape = (size + 1) // 2, list(scope.shape(name))
            shape[axis] = half
            halves = []
            for begin in (0, size - half):
                halves.append(scope.between(f"{i.name}/half", i.name, tuple(shape)))
                cells = [(begin if d == axis else 0, 1, count) for d, count in enumerate(shape)]
                select(scope, name, halves[-1], cells)
            name = scope.between(f"{i.name}/picked", i.name, tuple(shape))
            scope.emit(pairwise, halves, name)
    emit_reshape(scope, name, i.name)


def _arg_max(scope: Scope, i: Instruction) -> None:
    """Indices are plain int32 in TFLite."""
    if scope.is_wide(i.inputs[0]):
        raise UnsayableError("required int8 or uint8 codes, which TFLite's ARG_MAX knows, found int16")
    inputs = (i.inputs[0], scope.numbers(f"{i.name}/axis", [i.attributes["axis"]]))
    scope.emit("ARG_MAX", inputs, i.name, OutputType=("TensorType", "INT32"))


WRITERS = {
    "maximum": _pairwise("MAXIMUM"),
    "minimum": _pairwise("MINIMUM"),
    "reduce_max": _reduction("REDUCE_MAX", "MAXIMUM"),
    "reduce_min": _reduction("REDUCE_MIN", "MINIMUM"),
    "arg_max": _arg_max,
}


def _read_bound(*, below: bool) -> Reader:
    """MAXIMUM or MINIMUM: with one constant, how TFLite says a clamp that no activation has; else of two values."""

    def read(draft: Draft, operator: TfOperator) -> None:
        source, bound = require_operands(operator, 2)
        if draft.tensor(source).data is not None:
            source, bound = bound, source
        if draft.tensor(bound).data is None or draft.constant(bound).size != 1:
            _read_pair(draft, operator, "maximum" if below else "minimum")
            return
        name, label = operator.outputs[0], draft.label(source)
        for other in (bound, name):
            draft.require_same(draft.tensor(other).name, label)
        draft.bounded(name, draft.tensor(source).name, draft.constant(bound), below=below)

    return read


def _read_pair(draft: Draft, operator: TfOperator, op: str) -> None:
    """Codes of one meaning compare as they are."""
    output = operator.outputs[0]
    for name in operator.inputs:
        draft.require_same(output, draft.label(name))
    rank = max(len(draft.shape(name)) for name in (*operator.inputs, output))
    draft.define(output, op, [draft.operand(name, rank) for name in operator.inputs], {})


def _read_reduction(op: str) -> Reader:
    def read(draft: Draft, operator: TfOperator) -> None:
        source, axes = require_operands(operator, 2)
        found = sorted({draft.axis(int(axis), source) for axis in draft.numbers(axes).reshape(-1)})
        output = operator.outputs[0]
        draft.require_same(output, draft.label(source))
        attributes = {"axes": tuple(found), "keep_dims": number(operator, "KeepDims")}
        draft.define(output, op, (draft.operand(source),), attributes)

    return read


def _read_arg_max(draft: Draft, operator: TfOperator) -> None:
    """Indices: plain int32 or int64 in the file, int16 codes of scale 1 in the Program."""
    source, axis = require_operands(operator, 2)
    output, found = operator.outputs[0], draft.axis(draft.one(axis), source)
    if draft.shape(source)[found] > INDEX.qmax + 1:
        raise UnreadableError(f"required at most {INDEX.qmax + 1} classes, found {draft.shape(source)[found]}")
    value = draft.emit("arg_max", (draft.operand(source),), INDEX, {"axis": found}, name=output)
    draft.values[output] = draft.reshaped(value, draft.shape(output))


READERS: dict[str, Reader] = {
    "ARG_MAX": _read_arg_max,
    "MAXIMUM": _read_bound(below=True),
    "MINIMUM": _read_bound(below=False),
    "REDUCE_MAX": _read_reduction("reduce_max"),
    "REDUCE_MIN": _read_reduction("reduce_min"),
}
