"""CONCATENATION, RESHAPE, PAD, TRANSPOSE: codes that only move; CAST of indices, which only changes their type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfloat.formats.tflite.builtins import MAX_CONCATENATED, MAX_RANK, UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, emit_reshape, require_operands, require_plain
from unfloat.ir.graph import BATCH, Shape
from unfloat.ir.instruction import Instruction


def _concatenation(scope: Scope, i: Instruction) -> None:
    join(scope, i.inputs, i.name, i.attributes["axis"])


def join(scope: Scope, names: Sequence[str], target: str, axis: int) -> None:
    """In portions where there are too many operands: all share their QParams, so nothing is rounded."""
    while len(names) > MAX_CONCATENATED:
        portion, rest = names[:MAX_CONCATENATED], names[MAX_CONCATENATED:]
        shape = list(scope.shape(portion[0]))
        shape[axis] = sum(scope.shape(name)[axis] for name in portion)
        names = (scope.between(f"{target}/portion", target, tuple(shape)), *rest)
        scope.emit("CONCATENATION", portion, names[0], Axis=axis)
    scope.emit("CONCATENATION", names, target, Axis=axis)


def _reshape(scope: Scope, i: Instruction) -> None:
    emit_reshape(scope, i.inputs[0], i.name)


def _pad(scope: Scope, i: Instruction) -> None:
    pairs = np.array(i.attributes["paddings"]).reshape(-1, 2)
    high = len(pairs) > MAX_RANK
    version, label, value = 4 if len(pairs) > 4 else None, scope.label(i.name), i.attributes["value"]
    border = () if value == label.zero_point else (scope.codes(f"{i.name}/value", [value], label),)
    builtin = "PADV2" if border else "PAD"
    _emit_move(scope, i, builtin, "paddings", pairs[1:] if high else pairs, version, border)


def _transpose(scope: Scope, i: Instruction) -> None:
    axes = i.attributes["permutation"]
    high = len(axes) > MAX_RANK
    version = 4 if len(axes) > 4 and not scope.is_wide(i.name) else None
    _emit_move(scope, i, "TRANSPOSE", "permutation", [axis - 1 for axis in axes[1:]] if high else axes, version)


def _emit_move(
    scope: Scope,
    i: Instruction,
    builtin: str,
    role: str,
    values: Sequence[int] | np.ndarray,
    version: int | None,
    more: Sequence[str] = (),
) -> None:
    """A PAD or TRANSPOSE; of rank 6 between two RESHAPEs that take the batch of 1 away and bring it back."""
    source, target = i.inputs[0], i.name
    if len(scope.shape(source)) > MAX_RANK:
        source = scope.between(f"{i.name}/unbatched", source, scope.shape(source)[1:])
        target = scope.between(f"{i.name}/moved", i.name, scope.shape(i.name)[1:])
        emit_reshape(scope, i.inputs[0], source)
    scope.emit(builtin, (source, scope.numbers(f"{i.name}/{role}", values), *more), target, version=version)
    if target != i.name:
        emit_reshape(scope, target, i.name)


WRITERS = {"concatenation": _concatenation, "reshape": _reshape, "pad": _pad, "transpose": _transpose}


def _read_concatenation(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1, len(operator.inputs))
    require_plain(operator)
    name = operator.outputs[0]
    for source in operator.inputs:
        draft.require_same(name, draft.label(source))
    axis, *others = (draft.axis(number(operator, "Axis"), source) for source in operator.inputs)
    if any(other != axis for other in others):
        raise UnreadableError(f"required operands of one rank, found axes {axis} and {', '.join(map(str, others))}")
    read_joined(draft, operator, axis)


def read_joined(draft: Draft, operator: TfOperator, axis: int, row: Shape | None = None) -> None:
    """Operands one after the other along an axis; each is seen as `row` if that is given.

    Constants are no sample's: what is computed is padded where they lie, and they are put there afterwards.
    """
    output, at = operator.outputs[0], 0
    activations: list[str] = []
    borders: list[list[int]] = []  # along the axis, before and behind each of those
    constants: list[tuple[int, np.ndarray]] = []  # where each begins, and its content
    for source in operator.inputs:
        if draft.tensor(source).data is None:
            value = draft.operand(source)
            activations.append(draft.reshaped(value, row) if row else value)
            borders.append([0 if borders else at, 0])
            at += draft.tensors[activations[-1]].shape[axis]
        else:
            constants.append((at, draft.for_every_sample(source, row)))
            size = constants[-1][1].shape[axis]
            if borders:
                borders[-1][1] += size
            at += size
    if not activations:
        raise UnreadableError("required one operand that is computed, found constants")
    if not constants:
        draft.define(output, "concatenation", activations, {"axis": axis})
        return
    whole = _with_gaps(draft, activations, borders, axis)
    _fill(draft, output, whole, constants, axis)


def _with_gaps(draft: Draft, values: Sequence[str], borders: Sequence[Sequence[int]], axis: int) -> str:
    """Values one after the other, with cells before and behind each that change no constant put there."""
    padded = []
    for value, (before, behind) in zip(values, borders, strict=True):
        label, rank = draft.tensors[value].qparams, len(draft.tensors[value].shape)
        paddings = (0, 0) * axis + (before, behind) + (0, 0) * (rank - axis - 1)
        attributes = {"paddings": paddings, **draft.gap(label)}
        padded.append(draft.emit("pad", (value,), label, attributes) if before or behind else value)
    if len(padded) == 1:
        return padded[0]
    return draft.emit("concatenation", padded, draft.tensors[padded[0]].qparams, {"axis": axis})


def _fill(draft: Draft, output: str, value: str, constants: Sequence[tuple[int, np.ndarray]], axis: int) -> None:
    """Put constants into the gaps of a value."""
    tensor = draft.tensors[value]
    content = np.full((1, *tensor.shape[1:]), draft.gap(tensor.qparams).get("value", 0), constants[0][1].dtype)
    draft.spend(content.nbytes)
    for first, constant in constants:
        cells = (*(slice(None),) * axis, slice(first, first + constant.shape[axis]))
        if content[cells].shape != constant.shape:
            raise UnreadableError(f"required a constant of {content[cells].shape}, found {constant.shape}")
        content[cells] = constant
    draft.define(output, draft.filler, (value, draft.declared(f"{output}/constants", content, tensor.qparams)), {})


def _read_reshape(draft: Draft, operator: TfOperator) -> None:
    """The file gives the result's shape with the result; however it is computed, it is known."""
    require_operands(operator, 1, 2)
    if any(name in draft.values for name in operator.inputs[1:]):
        raise UnreadableError("required a shape that is known beforehand, found one that data decide")
    source, name = operator.inputs[0], operator.outputs[0]
    draft.alias(name, draft.operand(source))
    if draft.tensor(source).shape == (1, *draft.tensor(name).shape) and not draft.lead_of(source):
        draft.unbatched.add(name)


def _read_pad(draft: Draft, operator: TfOperator) -> None:
    """PADV2 names the border's code."""
    source, _, border = require_operands(operator, 2, 3)
    name = operator.outputs[0]
    pairs = draft.pairs(operator.inputs[1], len(draft.tensor(source).shape))
    value, lead = _operand(draft, source, bool(pairs[:1].any()))
    if lead:
        pairs = np.concatenate([np.zeros((1, 2), pairs.dtype), pairs])
    elif pairs[0].any():
        draft.axis(0, source)
    draft.require_same(name, draft.label(source))
    if not pairs.any():
        draft.alias(name, value)
        return
    attributes: dict[str, object] = {"paddings": tuple(int(cells) for cells in pairs.reshape(-1))}
    if border is not None:
        draft.require_same(name, draft.label(border))
        attributes |= draft.border(border)
    draft.define(name, "pad", (value,), attributes)


def _operand(draft: Draft, source: str | None, computes: bool) -> tuple[str, int]:
    """The Program's value of an activation, and whether all of the file's dimensions lie behind the batch.

    Args:
        draft: What was read so far.
        source: The file's activation.
        computes: Whether the operator computes with the first of them. It may where a RESHAPE took the batch away: then
            the 1 that leads is a sample's own, as in what is written of an instruction with 6 dimensions.
    """
    value = draft.operand(source)
    if computes and source in draft.unbatched:
        return draft.reshaped(value, (BATCH, *draft.tensor(source).shape)), 1
    return value, draft.lead_of(source)


def _read_transpose(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 2)
    source, name = operator.inputs[0], operator.outputs[0]
    axes = [int(axis) for axis in draft.numbers(operator.inputs[1]).reshape(-1)]
    value, lead = _operand(draft, source, axes[:1] != [0])
    rest = axes if lead or axes[:1] != [0] else axes[1:]
    permutation = (0, *(draft.axis(axis, source, lead) for axis in rest))
    draft.require_same(name, draft.label(source))
    shape = draft.tensors[value].shape
    if sorted(permutation) != list(range(len(shape))):
        raise UnreadableError(f"required an order of {len(shape)} axes, found {axes}")
    draft.define(name, "transpose", (value,), {"permutation": permutation})


def _read_cast(draft: Draft, operator: TfOperator) -> None:
    """Integers of one type from those of another, or from the real numbers of an input."""
    (source,) = require_operands(operator, 1)
    entry = any(source == name for _, name in draft.model.inputs)
    if not draft.tensor(operator.outputs[0]).is_index or not (entry or draft.tensor(source).is_index):
        raise UnreadableError("required integers of integers or of an input, found that real numbers are computed")
    draft.alias(operator.outputs[0], draft.operand(source))


READERS: dict[str, Reader] = {
    "CAST": _read_cast,
    "CONCATENATION": _read_concatenation,
    "PAD": _read_pad,
    "PADV2": _read_pad,
    "RESHAPE": _read_reshape,
    "SQUEEZE": _read_reshape,
    "EXPAND_DIMS": _read_reshape,
    "TRANSPOSE": _read_transpose,
}
