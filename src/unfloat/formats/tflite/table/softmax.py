"""SOFTMAX, LOG_SOFTMAX, L2_NORMALIZATION.

Where the exponentials of a row sum to 512 or more (that many nearly equal classes), every output stands for 0, but the
public kernels would shift by 32 bits: they abort, and without assertions their answer is undefined.
"""

from __future__ import annotations

import math

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, emit_reshape, require_operands, require_plain
from unfloat.ir.instruction import Instruction
from unfloat.ops.softmax import beta_pair

MAX_NORMALIZED_RANK = 4


def _softmax(scope: Scope, i: Instruction) -> None:
    mantissa, exponent = i.attributes.get("beta", (1, 0))
    scope.emit("SOFTMAX", i.inputs, i.name, Beta=mantissa * 2.0**exponent)


def _log_softmax(scope: Scope, i: Instruction) -> None:
    scope.emit("LOG_SOFTMAX", i.inputs, i.name)


def _l2_normalization(scope: Scope, i: Instruction) -> None:
    """TensorFlow Lite Micro takes four dimensions at most; more rows in fewer dimensions are the same rows."""
    shape = scope.shape(i.name)
    source, target = i.inputs[0], i.name
    if len(shape) > MAX_NORMALIZED_RANK:
        flat = (1, math.prod(shape[:-1]), shape[-1])
        source = scope.between(f"{i.name}/rows", source, flat)
        target = scope.between(f"{i.name}/normalized", i.name, flat)
        emit_reshape(scope, i.inputs[0], source)
    scope.emit("L2_NORMALIZATION", (source,), target)
    if target != i.name:
        emit_reshape(scope, target, i.name)


WRITERS = {"softmax": _softmax, "log_softmax": _log_softmax, "l2_normalization": _l2_normalization}


def _read_softmax(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    beta = operator.fields.get("Beta", 0.0)  # the schema's default
    if not isinstance(beta, float) or not 0 < beta < math.inf:
        raise UnreadableError(f"required a positive beta, found {beta}")
    attributes = {} if beta == 1.0 else {"beta": beta_pair(beta)}
    draft.define(operator.outputs[0], "softmax", (draft.operand(operator.inputs[0]),), attributes)


def _read_rows(op: str) -> Reader:
    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 1)
        require_plain(operator)
        draft.define(operator.outputs[0], op, (draft.operand(operator.inputs[0]),), {})

    return read


READERS: dict[str, Reader] = {
    "SOFTMAX": _read_softmax,
    "LOG_SOFTMAX": _read_rows("log_softmax"),
    "L2_NORMALIZATION": _read_rows("l2_normalization"),
}
