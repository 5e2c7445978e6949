"""Calibration data: any iterable of batches, checked and turned into one tensor for each input."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from unfloat.ir.graph import Graph, own_shape
from unfloat.ops._indices import rows_by_index, wrong_index
from unfloat.program.program import Program
from unfloat.spec.errors import CalibrationError

CALIBRATION = "calibration"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def example_of(batch: Any, model: Any, what: str = CALIBRATION) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
    """The part of a batch that the model takes, to trace it with: labels and other company are left out.

    Of a tuple these are as many elements as forward() has arguments without a default, for what follows may be labels;
    all of them where it has `*args`. Of a dict, the entries that forward() takes by name; all where it has `**kwargs`.

    Raises:
        CalibrationError: What the model needs is missing, or is no tensor.
    """
    where = f"{what} batch 0"
    if isinstance(batch, Mapping):
        takes = _takes(model, *POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
        required = _required(takes)
        if any(name not in batch for name in required):
            raise CalibrationError(f"{where}: required entries {required}, found {list(batch)}")
        others = bool(_takes(model, inspect.Parameter.VAR_KEYWORD))  # **kwargs takes them all
        wanted = [name for name in batch if name in takes or others] or list(batch)
        return {name: _float32(_tensor(batch[name], f"{where}, entry {name!r}")) for name in wanted}
    values = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    required = _required(_takes(model, *POSITIONAL))
    count = max(len(required), 1)
    if _takes(model, inspect.Parameter.VAR_POSITIONAL):  # *args takes them all
        count = max(count, len(values))
    if len(values) < count:
        raise CalibrationError(f"{where}: required {count} inputs{_list(required)}, found {len(values)}")
    return tuple(_float32(_tensor(value, f"{where}, element {i}")) for i, value in enumerate(values[:count]))


def _list(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _required(takes: Mapping[str, inspect.Parameter]) -> list[str]:
    return [name for name, parameter in takes.items() if parameter.default is inspect.Parameter.empty]


def _takes(model: Any, *kinds: Any) -> dict[str, inspect.Parameter]:
    """The arguments of those kinds of a module's forward(); none of what has no forward() that Python can look into."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):  # which take whatever there is
        model = model.module
    try:
        signature = inspect.signature(model.forward) if isinstance(model, nn.Module) else inspect.Signature()
    except ValueError:  # a scripted module, which the reader refuses
        return {}
    return {name: parameter for name, parameter in signature.parameters.items() if parameter.kind in kinds}


def as_called(examples: Any) -> Any:
    """Example inputs as the model takes them: arrays as tensors, and other floats as float32, as in all batches."""

    def leaf(value: Any) -> Any:
        return _float32(_tensor(value, "example inputs")) if isinstance(value, (torch.Tensor, np.ndarray)) else value

    return tree_map(leaf, examples)


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def refused_by(model: nn.Module, example: tuple[torch.Tensor, ...] | dict[str, torch.Tensor]) -> str:
    """What the model itself says when it is called with a batch, and what that is; "" where it takes it."""
    given = example if isinstance(example, dict) else dict(enumerate(example))
    flags = [(module, module.training) for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # a call may change them
    try:
        args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
        with torch.no_grad():
            torch.func.functional_call(model.eval(), buffers, args, kwargs)
    except Exception as error:  # whatever the model's own code runs into
        found = " and ".join(f"{tensor.dtype} of shape {tuple(tensor.shape)}" for tensor in given.values())
        reason = str(error).strip().partition("\n")[0]
        floats = "type" not in reason or all(tensor.is_floating_point() for tensor in given.values())
        hint = "" if floats else "; try: floats, preprocessed as for the model, where it does not choose rows by them"
        return f"the model cannot be called with it, {found}: {type(error).__name__}: {reason}{hint}"
    finally:
        for module, flag in flags:
            module.training = flag
    return ""


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
        try:
            return torch.from_numpy(np.ascontiguousarray(value))
        except TypeError as error:
            raise CalibrationError(f"{where}: required numbers, found an array of {value.dtype}") from error
    raise CalibrationError(f"{where}: required a tensor or an array, found {type(value).__name__}")


def non_empty(batches: Iterable[Any], what: str = CALIBRATION) -> tuple[Any, Iterator[Any]]:
    """The first batch, and an iterator over all of them (the first included).

    Raises:
        CalibrationError: There is none, or what is given is one batch itself.
    """
    required = f"{what} data: required batches (a list, a DataLoader)"
    if isinstance(batches, (torch.Tensor, np.ndarray)):
        found = f"one {type(batches).__name__} of shape {tuple(batches.shape)}"
        raise CalibrationError(f"{required}, found {found}; for one batch X, pass [X]")
    if isinstance(batches, (Mapping, str)):
        raise CalibrationError(f"{required}, found one {type(batches).__name__}; for one batch X, pass [X]")
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise CalibrationError(f"{required}, found {batches!r}; for one batch X, pass [X]")
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise CalibrationError(f"{what} data: required at least one batch, found none") from None

    def everything() -> Iterator[Any]:
        yield first
        yield from iterator

    return first, everything()
