"""CONCATENATION, RESHAPE, PAD, TRANSPOSE: codes that only move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfloat.formats.tflite.builtins import MAX_CONCATENATED, MAX_RANK
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import emit_reshape
from unfloat.ir.instruction import Instruction


def _concatenation(scope: Scope, i: Instruction) -> None:
    """In portions where there are too many operands: all share their QParams, so nothing is rounded."""
    axis, names = i.attributes["axis"], i.inputs
    while len(names) > MAX_CONCATENATED:
        portion, rest = names[:MAX_CONCATENATED], names[MAX_CONCATENATED:]
        shape = list(scope.shape(portion[0]))
        shape[axis] = sum(scope.shape(name)[axis] for name in portion)
        names = (scope.between(f"{i.name}/portion", i.name, tuple(shape)), *rest)
        scope.emit("CONCATENATION", portion, names[0], Axis=axis)
    scope.emit("CONCATENATION", names, i.name, Axis=axis)


def _reshape(scope: Scope, i: Instruction) -> None:
    emit_reshape(scope, i.inputs[0], i.name)


def _pad(scope: Scope, i: Instruction) -> None:
    pairs = np.array(i.attributes["paddings"]).reshape(-1, 2)
    high = len(pairs) > MAX_RANK
    version = 4 if len(pairs) > 4 else None
    _emit_move(scope, i, "PAD", "paddings", pairs[1:] if high else pairs, version)


def _transpose(scope: Scope, i: Instruction) -> None:
    axes = i.attributes["permutation"]
    high = len(axes) > MAX_RANK
    version = 4 if len(axes) > 4 and not scope.is_wide(i.name) else None
    _emit_move(scope, i, "TRANSPOSE", "permutation", [axis - 1 for axis in axes[1:]] if high else axes, version)


def _emit_move(
    scope: Scope, i: Instruction, builtin: str, role: str, values: Sequence[int] | np.ndarray, version: int | None
) -> None:
    """A PAD or TRANSPOSE; of rank 6 between two RESHAPEs that take the batch of 1 away and bring it back."""
    source, target = i.inputs[0], i.name
    if len(scope.shape(source)) > MAX_RANK:
        source = scope.between(f"{i.name}/unbatched", source, scope.shape(source)[1:])
        target = scope.between(f"{i.name}/moved", i.name, scope.shape(i.name)[1:])
        emit_reshape(scope, i.inputs[0], source)
    scope.emit(builtin, (source, scope.numbers(f"{i.name}/{role}", values)), target, version=version)
    if target != i.name:
        emit_reshape(scope, target, i.name)


WRITERS = {"concatenation": _concatenation, "reshape": _reshape, "pad": _pad, "transpose": _transpose}
