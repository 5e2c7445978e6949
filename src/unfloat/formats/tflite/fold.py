"""Integers that a file computes from shapes: shapes are known when it is read, so these are too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import INTEGERS, TfOperator

MOST_INTEGERS = 1 << 10  # that one operator takes: shapes are short, and joining a list to itself doubles it


def fold(draft: Draft, operator: TfOperator) -> bool:
    """Compute an operator whose result is plain integers; False where that is not its kind."""
    outputs = [draft.tensor(name) for name in operator.outputs]
    folding = FOLDS.get(operator.builtin)
    plain = all(tensor.dtype in INTEGERS and tensor.quantization is None for tensor in outputs)
    by_data = operator.builtin != "SHAPE" and draft.takes_indices(operator)
    if folding is None or len(outputs) != 1 or not plain or by_data:
        return False
    count, fold_with = folding
    sizes = [draft.numbers(name).size for name in operator.inputs] if operator.builtin != "SHAPE" else []
    if len(operator.inputs) != (count or max(len(operator.inputs), 1)) or sum(sizes) > MOST_INTEGERS:
        raise UnreadableError(
            f"required {count or 'some'} operands of {MOST_INTEGERS} integers at most, found {len(operator.inputs)}"
        )
    try:
        found = fold_with(draft, operator)
    except (ValueError, IndexError, TypeError) as error:  # NumPy's
        raise UnreadableError(f"required integers that fit each other, found that they do not: {error}") from error
    if found.shape != outputs[0].shape:
        raise UnreadableError(f"required integers of shape {outputs[0].shape}, found {found.shape}")
    draft.known[operator.outputs[0]] = found
    return True


def _shape(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.array(draft.tensor(operator.inputs[0]).shape, np.int64)


def _strided_slice(draft: Draft, operator: TfOperator) -> np.ndarray:
    """Of one dimension, as computations with shapes are."""
    source, begin, end, stride = (draft.numbers(name) for name in operator.inputs)
    if source.ndim != 1 or stride.size != 1 or stride[0] == 0:
        raise UnreadableError(f"required a slice of one dimension of integers, found {source.shape}")
    first = None if number(operator, "BeginMask") else int(begin[0])
    last = None if number(operator, "EndMask") else int(end[0])
    if number(operator, "ShrinkAxisMask"):
        if first is None or not -source.size <= first < source.size:
            raise UnreadableError(f"required an index into {source.size} integers, found {first}")
        return np.asarray(source[first])
    return source[slice(first, last, int(stride[0]))]


def _pack(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.stack([draft.numbers(name) for name in operator.inputs])


def _concatenation(draft: Draft, operator: TfOperator) -> np.ndarray:
    return np.concatenate([draft.numbers(name) for name in operator.inputs])


def _gather(draft: Draft, operator: TfOperator) -> np.ndarray:
    source, indices = (draft.numbers(name) for name in operator.inputs)
    return np.take(source, indices, axis=0, mode="raise")


# How many operands each has, None for any number of them.
FOLDS: Mapping[str, tuple[int | None, Callable[[Draft, TfOperator], np.ndarray]]] = {
    "SHAPE": (1, _shape),
    "STRIDED_SLICE": (4, _strided_slice),
    "PACK": (None, _pack),
    "CONCATENATION": (None, _concatenation),
    "GATHER": (2, _gather),
}
