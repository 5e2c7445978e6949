"""Calls on values whose batch is the second axis, as torch.nn.LSTM has it by default: read with the batch in front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unfloat.formats.torch.builder import Builder, changed_over
from unfloat.formats.torch.operands import LastRows, Turned, Value
from unfloat.formats.torch.selection import cut
from unfloat.ir.graph import BATCH, Shape

TIME = 1


def stacked(build: Builder, argument: Any) -> Any:
    """An argument in which last rows are one value."""
    if isinstance(argument, list | tuple):
        return [stacked(build, item) for item in argument]
    if not isinstance(argument, LastRows):
        return argument
    rows = [cut(build, x, TIME, x.shape[TIME] - 1, 1, part="row") for x in argument.sequences]
    whole = rows[0] if len(rows) == 1 else build.emit("concatenation", rows, {"axis": TIME}, part="rows")
    return Turned.of(whole)


def is_turned(arguments: Mapping[str, Any]) -> bool:
    """Whether a call is on such values, and on no other ones."""
    values = [leaf for leaf in _leaves(list(arguments.values())) if isinstance(leaf, Value)]
    return bool(values) and all(isinstance(value, Turned) for value in values)


def read_turned(build: Builder, handler: Callable[..., Any], arguments: Mapping[str, Any], shape: Shape | None) -> Any:
    """The call's result, read with the first two axes changed over.

    Args:
        build: Where nodes go.
        handler: One that knows axes by `dim` and `dims` alone.
        arguments: Of the call.
        shape: The shape torch gives its result.
    """
    rank = next(len(leaf.shape) for leaf in _leaves(list(arguments.values())) if isinstance(leaf, Turned))
    result = handler(build, **{name: _over(name, argument, rank) for name, argument in arguments.items()})
    return Turned.of(result) if shape is not None and shape[0] != BATCH else result


def _over(name: str, argument: Any, rank: int) -> Any:
    if isinstance(argument, list | tuple):
        return [_over(name, item, rank) for item in argument]
    if isinstance(argument, Turned):
        return argument.front
    return changed_over(argument % rank) if name in ("dim", "dims") and isinstance(argument, int) else argument


def _leaves(argument: Any) -> list[Any]:
    return [leaf for item in argument for leaf in _leaves(item)] if isinstance(argument, list | tuple) else [argument]
