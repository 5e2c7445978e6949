"""SOFTMAX.

Where the exponentials of a row sum to 512 or more (that many nearly equal classes), every output stands for 0, but the
public kernels would shift by 32 bits: they abort, and without assertions their answer is undefined.
"""

from __future__ import annotations

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import require_operands
from unfloat.ir.instruction import Instruction


def _softmax(scope: Scope, i: Instruction) -> None:
    scope.emit("SOFTMAX", i.inputs, i.name, Beta=1.0)


WRITERS = {"softmax": _softmax}


def _read_softmax(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    if operator.fields.get("Beta", 1.0) != 1.0:
        raise UnreadableError(f"required beta = 1, found {operator.fields['Beta']}")
    draft.define(operator.outputs[0], "softmax", (draft.operand(operator.inputs[0]),), {})


READERS = {"SOFTMAX": _read_softmax}
