"""ADD, SUB, MUL, QUANTIZE between codes, MEAN, SUM."""

from __future__ import annotations

import math

from unfloat.formats.tflite.activation import emit_fused, emit_plain
from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import Field, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, Writer, clamp_of, require_operands
from unfloat.ir.instruction import Instruction
from unfloat.spec.qparams import QParams

NEAR = 2.0**1e-3


def _addition(builtin: str) -> Writer:
    def write(scope: Scope, i: Instruction) -> None:
        fields: dict[str, Field] = {"PotScaleInt16": False} if scope.is_wide(i.name) else {}
        emit_fused(scope, builtin, i.inputs, i.name, clamp_of(i), version=None, **fields)

    return write


def _mul(scope: Scope, i: Instruction) -> None:
    version = 3 if i.attributes["shift"] > 0 and not scope.is_wide(i.name) else None  # a factor of 1 or more
    emit_fused(scope, "MUL", i.inputs, i.name, clamp_of(i), version=version)


def _rescale(scope: Scope, i: Instruction) -> None:
    emit_plain(scope, "QUANTIZE", i.inputs, i.name, clamp_of(i))


def _reduction(builtin: str) -> Writer:
    def write(scope: Scope, i: Instruction) -> None:
        inputs = (*i.inputs, scope.numbers(f"{i.name}/axes", i.attributes["axes"]))
        emit_plain(scope, builtin, inputs, i.name, clamp_of(i), KeepDims=bool(i.attributes["keep_dims"]))

    return write


def _sum(scope: Scope, i: Instruction) -> None:
    label = scope.label(i.name)
    if label.dtype == "uint8" and label == scope.label(i.inputs[0]):
        raise UnsayableError("LiteRT adds uint8 codes as they are where input and output have one scale and zero point")
    _reduction("SUM")(scope, i)


WRITERS = {
    "add": _addition("ADD"),
    "sub": _addition("SUB"),
    "mul": _mul,
    "rescale": _rescale,
    "mean": _reduction("MEAN"),
    "sum": _sum,
}


def _read_pair(op: str) -> Reader:
    """A reader of an operator on two values that broadcast."""

    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 2)
        rank = len(draft.shape(operator.outputs[0]))
        operands = [draft.operand(name, rank) for name in operator.inputs]
        draft.define(operator.outputs[0], op, operands, draft.clamp(operator))

    return read


def _read_addition(op: str) -> Reader:
    """int16 sums and differences of the general rule; an older one shifts, where all scales are powers of two."""

    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 2)
        labels = [draft.label(name) for name in (*operator.inputs, operator.outputs[0])]
        shifts = labels[-1].dtype == "int16" and number(operator, "PotScaleInt16", 1)
        if shifts and all(map(_is_power_of_two, labels)):
            raise UnreadableError(
                "required pot_scale_int16 = false or a scale that is no power of two, found neither; "
                "TensorFlow Lite Micro and LiteRT compute different codes for it"
            )
        _read_pair(op)(draft, operator)

    return read


def _is_power_of_two(label: QParams) -> bool:
    """As LiteRT takes a scale for one: its logarithm is within a thousandth of a whole number."""
    fraction, _ = math.frexp(label.scale[0])  # from 1/2 to 1
    return not 0.5 * NEAR < fraction < 1 / NEAR


def _read_quantize(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    draft.define(operator.outputs[0], "rescale", (draft.operand(operator.inputs[0]),), draft.clamp(operator))


def _read_reduction(op: str) -> Reader:
    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 2)
        source, axes = operator.inputs
        found = sorted({draft.axis(int(axis), source) for axis in draft.numbers(axes).reshape(-1)})
        keep = number(operator, "KeepDims")
        attributes = {"axes": tuple(found), "keep_dims": keep, **draft.clamp(operator)}
        draft.define(operator.outputs[0], op, (draft.operand(source),), attributes)

    return read


READERS: dict[str, Reader] = {
    "ADD": _read_addition("add"),
    "SUB": _read_addition("sub"),
    "MUL": _read_pair("mul"),
    "QUANTIZE": _read_quantize,
    "MEAN": _read_reduction("mean"),
    "SUM": _read_reduction("sum"),
}
