"""ADD, MUL, QUANTIZE between codes, MEAN."""

from __future__ import annotations

from unfloat.formats.tflite.activation import emit_fused, emit_plain
from unfloat.formats.tflite.model import Field
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import clamp_of
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
