"""Calls on values whose batch is another axis than the first, as torch.nn.LSTM has it by default, or shares one with heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import LastRows, RefusedError, Turned, Value, Weight
from unfloat.formats.torch.selection import cut
from unfloat.ir.graph import Shape

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


def is_turned(arguments: Mapping[str, Any], last: int) -> bool:
    """Whether a call is on such values, all alike, and on no other ones; the batch may not be in the `last` axes."""
    values = [leaf for leaf in _leaves(list(arguments.values())) if isinstance(leaf, Value)]
    turned = [value for value in values if isinstance(value, Turned)]
    if not turned or len(turned) < len(values):
        return False
    return all(one.alike(turned[0]) and one.place < len(one.shape) - last for one in turned)


def read_turned(build: Builder, handler: Callable[..., Any], arguments: Mapping[str, Any], last: int) -> Any:
    """The call's result, read with the batch in front.

    Args:
        build: Where nodes go.
        handler: One that knows axes by `dim` and `dims` alone, or by counting from the last.
        arguments: Of the call.
        last: How many of the last axes it takes as a whole.
    """
    turned = next(leaf for leaf in _leaves(list(arguments.values())) if isinstance(leaf, Turned))
    arguments = {name: _over(name, argument, turned, last) for name, argument in arguments.items()}
    result = handler(build, **arguments)
    if not isinstance(result, tuple):
        return _back(result, build.call.shape, turned)
    return tuple(_back(one, shape, turned) for one, shape in zip(result, build.call.shapes, strict=True))


def _over(name: str, argument: Any, turned: Turned, last: int) -> Any:
    """An argument as it is where the batch is in front."""
    if isinstance(argument, list | tuple):
        return [_over(name, item, turned, last) for item in argument]
    if isinstance(argument, Turned):
        return argument.front
    if isinstance(argument, Weight) and name in ("x", "other") and len(argument.shape) > last:
        return _beside(argument, turned)
    return turned.axis(argument) if name in ("dim", "dims") and isinstance(argument, int) else argument


def _beside(weight: Weight, turned: Turned) -> Weight:
    """A parameter that meets a value cell by cell: its axes follow the value's."""
    rank, place = len(turned.shape), turned.place
    if len(weight.shape) < rank - place:
        return weight
    whole = weight.reshaped((1,) * (rank - len(weight.shape)) + weight.shape)
    moved = whole.permuted((place, *(axis for axis in range(rank) if axis != place)))
    cells = (1,) * (len(turned.front.shape) - rank)
    return moved.reshaped((*moved.shape[: 1 + place], *cells, *moved.shape[1 + place :]))


def _back(result: Any, shape: Shape | None, turned: Turned) -> Any:
    """A result as torch has it: an axis before the batch may have gone."""
    if not isinstance(result, Value):
        return result
    if shape is None:
        raise RefusedError("each of its results must have one axis for the batch", "x.transpose(0, 1) before it")
    return Turned.of(result, next(axis for axis, extent in enumerate(shape) if extent < 0), turned.cells)


def _leaves(argument: Any) -> list[Any]:
    return [leaf for item in argument for leaf in _leaves(item)] if isinstance(argument, list | tuple) else [argument]
