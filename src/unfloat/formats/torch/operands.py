"""What an aten operator is called with: values of the Graph, parameters, and the reason a call is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from unfloat.ir.graph import BATCH, Param, Shape

INDEX_TYPES = (torch.int64, torch.int32)  # of what chooses rows


class RefusedError(Exception):
    """A call that cannot be read.

    Attributes:
        hint: What the user may try, or "".
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class Value:
    """An activation: a value of the Graph; one without a name only stands between calls that are read as one."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Turned(Value):
    """An activation as torch sees it where the batch is not the first axis alone, say (time, batch, ...): no value of the Graph.

    In `shape`, an extent below 0 is that many cells of each sample: BATCH is one, and batch and 4 heads in one axis -4.

    Attributes:
        front: The same as the Graph has it: batch, axes before it, its `cells` where there are several, axes after it.
        place: Which of torch's axes has the batch.
        cells: Of each sample in that axis: it runs over so many, then over the batch, then over so many.
    """

    front: Value
    place: int
    cells: tuple[int, int]

    @staticmethod
    def of(front: Value, place: int = 1, cells: tuple[int, int] = (1, 1)) -> Value:
        """What `front` is to torch; itself, where the batch is first and alone."""
        if place == 0 and cells == (1, 1):
            return front
        after = 1 + place + sum(count > 1 for count in cells)
        shape = (*front.shape[1 : 1 + place], BATCH * math.prod(cells), *front.shape[after:])
        return Turned("", shape, front, place, cells)

    def axis(self, dim: int) -> int:
        """The axis of `front` that is torch's `dim`; that of the batch is 0."""
        dim %= len(self.shape)
        if dim == self.place:
            return 0
        return dim + 1 if dim < self.place else dim + len(self.front.shape) - len(self.shape)

    def alike(self, other: Turned) -> bool:
        """Whether both have the batch in the same place."""
        return (len(self.shape), self.place, self.cells) == (len(other.shape), other.place, other.cells)


@dataclass(frozen=True)
class LastRows(Value):
    """The last row in time of each of several sequences, (sequences, batch, ...): nothing is written until it is read."""

    sequences: tuple[Value, ...]

    @staticmethod
    def of(sequences: Sequence[Value]) -> LastRows:
        """Of sequences alike, (batch, time, ...)."""
        return LastRows("", (len(sequences), BATCH, *sequences[0].shape[2:]), tuple(sequences))


@dataclass(frozen=True)
class Zeros:
    """Zeros for each sample of the batch, however they are laid out."""


@dataclass(frozen=True)
class Weight:
    """A parameter, buffer or constant, through views.

    Attributes:
        param: Its name and views.
        shape: After the views.
        tensor: Its value after the views where training leaves it alone (buffers and constants), else None.
        trained: As `tensor`, where training changes it but none will follow.
    """

    param: Param
    shape: Shape
    tensor: torch.Tensor | None = None
    trained: torch.Tensor | None = None

    @property
    def value(self) -> torch.Tensor | None:
        """What may be computed with."""
        return self.trained if self.tensor is None else self.tensor

    def permuted(self, axes: tuple[int, ...]) -> Weight:
        """With its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return self._through("permute", axes, shape, lambda tensor: tensor.permute(axes))

    def reshaped(self, shape: Shape) -> Weight:
        """In another shape."""
        if shape == self.shape:
            return self
        return self._through("reshape", shape, shape, lambda tensor: tensor.reshape(shape))

    def _through(
        self, kind: str, argument: Shape, shape: Shape, move: Callable[[torch.Tensor], torch.Tensor]
    ) -> Weight:
        moved = [None if tensor is None else move(tensor) for tensor in (self.tensor, self.trained)]
        return Weight(self.param.then(kind, *argument), shape, *moved)


Operand: TypeAlias = Value | Weight


def need_value(operand: object, what: str = "its input") -> Value:
    """The operand as an activation.

    Raises:
        RefusedError: It is a parameter or something else.
    """
    if not isinstance(operand, Value):
        raise RefusedError(f"{what} must depend on the network's inputs", "compute it before forward()")
    return operand


def printed(shape: Sequence[object]) -> str:
    """A shape for messages, by what its extents are called; numbers below 0 are so many cells of each sample."""

    def extent(number: object) -> str:
        if not isinstance(number, int) or number >= 0:
            return str(number)
        return "batch" if number == BATCH else f"{number // BATCH} * batch"

    return f"({', '.join(map(extent, shape))})"


def batch_elsewhere(shape: Shape) -> RefusedError:
    """The refusal of a value whose batch is not in front, or not alone there."""
    alone = BATCH in shape
    hint = "x.transpose(0, 1) before it" if alone else "a view in which the batch is an axis of its own before it"
    return RefusedError(f"dimension 0 must be the batch, found {printed(shape)}", hint)


def name_of(value: Value) -> str:
    """A value's name in the Graph.

    Raises:
        RefusedError: It has none: its batch is not in front, or it is a norm (`norms.Length`).
    """
    if isinstance(value, Turned | LastRows):
        raise batch_elsewhere(value.shape)
    if not value.name:
        raise RefusedError("a norm is read where its own value is divided by it", "torch.nn.functional.normalize")
    return value.name


def need_weight(operand: object, what: str) -> Weight:
    """The operand as a parameter.

    Raises:
        RefusedError: It is computed.
    """
    if not isinstance(operand, Weight):
        reason = f"{what} must be a parameter or a view of one, found a computed value"
        raise RefusedError(reason, "a plain parameter (torch.nn.utils.parametrize.remove_parametrizations)")
    return operand


def optional_weight(operand: object, what: str) -> Weight | None:
    """As `need_weight`, None passing through."""
    return None if operand is None else need_weight(operand, what)
