"""Calibration data: any iterable of batches, checked and turned into one tensor for each input."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unfloat.ir.graph import Graph, own_shape
from unfloat.ops._indices import rows_by_index, wrong_index
from unfloat.program.program import Program
from unfloat.spec.errors import CalibrationError

CALIBRATION = "calibration"


def example_of(batch: Any, model: Any, what: str = CALIBRATION) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
    """The part of a batch that the model takes, to trace it with: labels and other company are left out."""
    forward = getattr(model, "forward", None)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = {name: p for name, p in inspect.signature(forward).parameters.items() if p.kind in kinds} if forward else {}
    if isinstance(batch, Mapping):
        wanted = [name for name in batch if name in takes] or list(batch)
        return {name: _tensor(batch[name], f"{what} batch 0, entry {name!r}") for name in wanted}
    values = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    required = sum(p.default is inspect.Parameter.empty for p in takes.values())
    count = max(required, 1)
    return tuple(_tensor(value, f"{what} batch 0, element {i}") for i, value in enumerate(values[:count]))


def inputs_of(batch: Any, graph: Graph | Program, number: int, what: str = CALIBRATION) -> list[torch.Tensor]:
    """The batch as one tensor for each input port, checked; whatever follows (labels) is ignored.

    Args:
        batch: A tensor or array; a sequence whose first elements are the inputs; or a mapping from input names.
        graph: Names and shapes that inputs must have.
        number: The batch's position, for messages.
        what: What the data are for, for messages.

    Raises:
        CalibrationError: An input is missing, has another shape or dtype, holds NaN or infinity, or an index of no row.
    """
    where = f"{what} batch {number}"
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
    steps = graph.nodes if isinstance(graph, Graph) else graph.instructions
    rows = rows_by_index(steps, graph.shapes())
    for port, tensor in zip(ports, tensors, strict=True):
        own, found = own_shape(port), tuple(tensor.shape)
        if len(found) != len(own) or found[1:] != own[1:] or not found[0]:
            raise CalibrationError(
                f"{where}, input {port.name}: required shape (n, {', '.join(map(str, own[1:]))}), found {found}"
            )
        if port.value in rows:
            wrong = wrong_index(tensor, rows[port.value])
            if wrong:
                raise CalibrationError(f"{where}, input {port.name}: {wrong}")
        elif not tensor.is_floating_point():
            raise CalibrationError(
                f"{where}, input {port.name}: required floats, preprocessed as for the model, found {tensor.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise CalibrationError(f"{where}, input {port.name}: required finite numbers, found NaN or infinity")
    return [t.detach().to(t.dtype if p.value in rows else torch.float32) for p, t in zip(ports, tensors, strict=True)]


def _tensor(value: Any, where: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    raise CalibrationError(f"{where}: required a tensor or an array, found {type(value).__name__}")


def non_empty(batches: Iterable[Any], what: str = CALIBRATION) -> tuple[Any, Iterator[Any]]:
    """The first batch, and an iterator over all of them (the first included).

    Raises:
        CalibrationError: There is none.
    """
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise CalibrationError(f"{what} data: required at least one batch, found none") from None

    def everything() -> Iterator[Any]:
        yield first
        yield from iterator

    return first, everything()
