"""Calibration data: any iterable of batches, checked and turned into one tensor for each input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unfloat.ir.graph import Graph, own_shape
from unfloat.spec.errors import CalibrationError


def example_of(batch: Any) -> tuple[torch.Tensor, ...]:
    """All tensors of a batch that could be inputs, in order: what the reader may trace with."""
    if isinstance(batch, Mapping):
        return tuple(_tensor(value, f"entry {key!r}") for key, value in batch.items())
    if isinstance(batch, (tuple, list)):
        return tuple(_tensor(value, f"element {i}") for i, value in enumerate(batch))
    return (_tensor(batch, "the batch"),)


def inputs_of(batch: Any, graph: Graph, number: int) -> list[torch.Tensor]:
    """The batch as one tensor for each input port, checked; whatever follows (labels) is ignored.

    Args:
        batch: A tensor or array; a sequence whose first elements are the inputs; or a mapping from input names.
        graph: Names and shapes that inputs must have.
        number: The batch's position, for messages.

    Raises:
        CalibrationError: An input is missing, has another shape or dtype, or holds NaN or infinity.
    """
    where = f"calibration batch {number}"
    ports = graph.inputs
    if isinstance(batch, Mapping):
        missing = [p.name for p in ports if p.name not in batch]
        if missing:
            raise CalibrationError(f"{where}: required entries {[p.name for p in ports]}, found {list(batch)}")
        values: Sequence[Any] = [batch[p.name] for p in ports]
    else:
        values = batch if isinstance(batch, (tuple, list)) else [batch]
    if len(values) < len(ports):
        raise CalibrationError(f"{where}: required {len(ports)} inputs, found {len(values)}")
    tensors = [_tensor(value, f"{where}, input {p.name}") for p, value in zip(ports, values, strict=False)]
    for port, tensor in zip(ports, tensors, strict=True):
        own, found = own_shape(port), tuple(tensor.shape)
        if len(found) != len(own) or found[1:] != own[1:] or not found[0]:
            raise CalibrationError(
                f"{where}, input {port.name}: required shape (n, {', '.join(map(str, own[1:]))}), found {found}"
            )
        if not tensor.is_floating_point():
            raise CalibrationError(
                f"{where}, input {port.name}: required floats, preprocessed as for the model, found {tensor.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise CalibrationError(f"{where}, input {port.name}: required finite numbers, found NaN or infinity")
    return [t.detach().to(torch.float32) for t in tensors]


def _tensor(value: Any, where: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    raise CalibrationError(f"{where}: required a tensor or an array, found {type(value).__name__}")


def non_empty(batches: Iterable[Any]) -> tuple[Any, Iterator[Any]]:
    """The first batch, and an iterator over all of them (the first included).

    Raises:
        CalibrationError: There is none.
    """
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise CalibrationError("calibration data: required at least one batch, found none") from None

    def everything() -> Iterator[Any]:
        yield first
        yield from iterator

    return first, everything()
