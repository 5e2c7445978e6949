"""BATCH_MATMUL."""

from __future__ import annotations

from unfloat.formats.tflite.activation import emit_plain
from unfloat.formats.tflite.builtins import MAX_RANK, UnsayableError
from unfloat.formats.tflite.draft import BatchTouchedError, Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, Writer, clamp_of, require_operands
from unfloat.ir.instruction import Instruction


def _batch_matmul(scope: Scope, i: Instruction) -> None:
    rank = len(scope.shape(i.name))
    if rank > MAX_RANK:
        raise UnsayableError(f"required factors of at most {MAX_RANK} dimensions, found {rank}")
    first, second = map(bool, i.attributes["transpose"])
    emit_plain(scope, "BATCH_MATMUL", i.inputs, i.name, clamp_of(i), AdjX=first, AdjY=second)


WRITERS: dict[str, Writer] = {"batch_matmul": _batch_matmul}


def _read_batch_matmul(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 2)
    rank = max(len(draft.tensor(name).shape) + draft.lead_of(name) for name in operator.inputs)
    if rank < 3:
        raise BatchTouchedError("required a batch of matrices, found one whose rows are the batch")
    operands = [draft.operand(name, rank) for name in operator.inputs]
    attributes = {"transpose": (number(operator, "AdjX"), number(operator, "AdjY")), **draft.clamp(operator)}
    draft.define(operator.outputs[0], "batch_matmul", operands, attributes)


READERS: dict[str, Reader] = {"BATCH_MATMUL": _read_batch_matmul}
