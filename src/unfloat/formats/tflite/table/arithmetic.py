"""ADD, MUL, QUANTIZE between codes, MEAN."""

from __future__ import annotations

from unfloat.formats.tflite.activation import emit_fused, emit_plain
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, clamp_codes, number
from unfloat.formats.tflite.model import Field, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, clamp_of, require_operands
from unfloat.ir.instruction import Instruction


def _add(scope: Scope, i: Instruction) -> None:
    fields: dict[str, Field] = {"PotScaleInt16": False} if scope.is_wide(i.name) else {}
    emit_fused(scope, "ADD", i.inputs, i.name, clamp_of(i), version=None, **fields)


def _mul(scope: Scope, i: Instruction) -> None:
    version = 3 if i.attributes["shift"] > 0 and not scope.is_wide(i.name) else None  # a factor of 1 or more
    emit_fused(scope, "MUL", i.inputs, i.name, clamp_of(i), version=version)


def _rescale(scope: Scope, i: Instruction) -> None:
    emit_plain(scope, "QUANTIZE", i.inputs, i.name, clamp_of(i))


def _mean(scope: Scope, i: Instruction) -> None:
    inputs = (*i.inputs, scope.numbers(f"{i.name}/axes", i.attributes["axes"]))
    emit_plain(scope, "MEAN", inputs, i.name, clamp_of(i), KeepDims=bool(i.attributes["keep_dims"]))


WRITERS = {"add": _add, "mul": _mul, "rescale": _rescale, "mean": _mean}


def _read_pair(op: str) -> Reader:
    """A reader of an operator on two values that broadcast."""

    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 2)
        rank = len(draft.shape(operator.outputs[0]))
        operands = [draft.operand(name, rank) for name in operator.inputs]
        draft.define(operator.outputs[0], op, operands, clamp_codes(draft, operator))

    return read


def _read_add(draft: Draft, operator: TfOperator) -> None:
    """int16 sums of the general rule; the older one shifts scales that are powers of two."""
    if draft.label(operator.outputs[0]).dtype == "int16" and number(operator, "PotScaleInt16", 1):
        raise UnreadableError("required pot_scale_int16 = false for int16 codes, found scales that are powers of two")
    _read_pair("add")(draft, operator)


def _read_quantize(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    draft.define(operator.outputs[0], "rescale", (draft.operand(operator.inputs[0]),), clamp_codes(draft, operator))


def _read_mean(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 2)
    source, axes = operator.inputs
    found = sorted({draft.axis(int(axis), source) for axis in draft.numbers(axes).reshape(-1)})
    keep = number(operator, "KeepDims")
    attributes = {"axes": tuple(found), "keep_dims": keep, **clamp_codes(draft, operator)}
    draft.define(operator.outputs[0], "mean", (draft.operand(source),), attributes)


READERS: dict[str, Reader] = {
    "ADD": _read_add,
    "MUL": _read_pair("mul"),
    "QUANTIZE": _read_quantize,
    "MEAN": _read_mean,
}
