"""Integers that a file computes from shapes: shapes are known when it is read, so these are too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import INTEGERS, TfOperator
from unfloat.formats.tflite.table._common import require_plain
from unfloat.formats.tflite.table.parts import cell_alone

Folding = Callable[[Draft, TfOperator], np.ndarray]
MOST_INTEGERS = 1 << 10  # that one operator takes: shapes are short, and joining a list to itself doubles it


def fold(draft: Draft, operator: TfOperator) -> bool:
    """Compute an operator whose result is plain integers; False where that is not its kind."""
    folding = FOLDS.get(operator.builtin)
    read = operator.inputs if operator.builtin != "SHAPE" else ()  # which reads no numbers
    tensors = [draft.tensor(name) for name in (*read, *operator.outputs) if name is not None]
    plain = all(tensor.dtype in INTEGERS and tensor.quantization is None for tensor in tensors)
    if folding is None or len(operator.outputs) != 1 or not plain or any(name in draft.values for name in read):
        return False
    output, (count, fold_with) = draft.tensor(operator.outputs[0]), folding
    sizes = [draft.numbers(name).size for name in read]
    if len(operator.inputs) != (count or max(len(operator.inputs), 1)) or sum(sizes) > MOST_INTEGERS:
        raise UnreadableError(
            f"required {count or 'some'} operands of {MOST_INTEGERS} integers at most, found {len(operator.inputs)}"
        )
    try:
        found = np.asarray(fold_with(draft, operator)).astype(output.dtype)
    except (ValueError, IndexError, TypeError) as error:  # NumPy's
        raise UnreadableError(f"required integers that fit each other, found that they do not: {error}") from error
    if found.shape != output.shape:
        raise UnreadableError(f"required integers of shape {output.shape}, found {found.shape}")
    draft.known[operator.outputs[0]] = found
    return True


def _shape(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.array(draft.tensor(operator.inputs[0]).shape, np.int64)


def _strided_slice(draft: Draft, operator: TfOperator) -> np.ndarray:
    """Of one dimension, as computations with shapes are: of each mask the first bit counts."""
    source, begin, end, stride = (draft.numbers(name) for name in operator.inputs)
    masks = ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")
    on = {mask for mask in masks if number(operator, f"{mask}Mask") & 1}
    if source.ndim != 1 or not begin.size == end.size == stride.size == 1 or on & {"Ellipsis", "NewAxis"}:
        raise UnreadableError(f"required a slice of one dimension of integers, found {source.shape}")
    if "ShrinkAxis" in on:
        return np.asarray(source[cell_alone(int(begin[0]), int(stride[0]), source.size, begins="Begin" in on)])
    first = None if "Begin" in on else int(begin[0])
    last = None if "End" in on else int(end[0])
    return source[slice(first, last, int(stride[0]))]


def _pack(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.stack([draft.numbers(name) for name in operator.inputs], axis=number(operator, "Axis"))


def _concatenation(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.concatenate([draft.numbers(name) for name in operator.inputs], axis=number(operator, "Axis"))


def _gather(draft: Draft, operator: TfOperator) -> np.ndarray:
    source, indices = (draft.numbers(name) for name in operator.inputs)
    if number(operator, "BatchDims"):
        raise UnreadableError("required the same indices for all integers, found a batch of them")
    return np.take(source, indices, axis=number(operator, "Axis"), mode="raise")


def _pair(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Folding:
    """Of two operands that broadcast."""

    def fold_with(draft: Draft, operator: TfOperator) -> np.ndarray:
        require_plain(operator)
        first, second = (draft.numbers(name) for name in operator.inputs)
        return function(first, second)

    return fold_with


def _product(draft: Draft, operator: TfOperator) -> np.ndarray:
    source, axes = (draft.numbers(name) for name in operator.inputs)
    found: np.ndarray = np.prod(source, tuple(axes.reshape(-1).tolist()), keepdims=bool(number(operator, "KeepDims")))
    return found


def _slice(draft: Draft, operator: TfOperator) -> np.ndarray:
    """A size of -1 is all that follows."""
    source, begin, size = (draft.numbers(name) for name in operator.inputs)
    if (begin < 0).any():
        raise UnreadableError(f"required a slice from 0 or more, found {begin.tolist()}")
    cells = zip(begin.tolist(), size.tolist(), strict=True)
    return source[tuple(slice(first, None if count == -1 else first + count) for first, count in cells)]


def _same(draft: Draft, operator: TfOperator) -> np.ndarray:
    """The same integers: the file gives their shape with the result."""
    return draft.numbers(operator.inputs[0]).reshape(draft.tensor(operator.outputs[0]).shape)


# How many operands each has, None for any number of them.
FOLDS: Mapping[str, tuple[int | None, Folding]] = {
    "ADD": (2, _pair(np.add)),
    "CAST": (1, _same),
    "CONCATENATION": (None, _concatenation),
    "EXPAND_DIMS": (2, _same),
    "GATHER": (2, _gather),
    "MAXIMUM": (2, _pair(np.maximum)),
    "MINIMUM": (2, _pair(np.minimum)),
    "MUL": (2, _pair(np.multiply)),
    "PACK": (None, _pack),
    "REDUCE_PROD": (2, _product),
    "RESHAPE": (None, _same),
    "SHAPE": (1, _shape),
    "SLICE": (3, _slice),
    "SQUEEZE": (1, _same),
    "STRIDED_SLICE": (4, _strided_slice),
    "SUB": (2, _pair(np.subtract)),
}
