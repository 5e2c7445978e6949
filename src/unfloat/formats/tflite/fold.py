"""Integers that a file computes from shapes: shapes are known when it is read, so these are too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import INTEGERS, TfOperator
from unfloat.formats.tflite.table.parts import cell_alone

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


# How many operands each has, None for any number of them.
FOLDS: Mapping[str, tuple[int | None, Callable[[Draft, TfOperator], np.ndarray]]] = {
    "SHAPE": (1, _shape),
    "STRIDED_SLICE": (4, _strided_slice),
    "PACK": (None, _pack),
    "CONCATENATION": (None, _concatenation),
    "GATHER": (2, _gather),
}
