"""What an aten operator is called with: values of the Graph, parameters, and the reason a call is refused."""

from __future__ import annotations

from collections.abc import Sequence
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
    """An activation as torch sees it where the batch is its second axis, (time, batch, ...): no value of the Graph.

    Attributes:
        front: The same with the first two axes changed over, as the Graph has it.
    """

    front: Value

    @staticmethod
    def of(front: Value) -> Turned:
        """What `front` is, changed over."""
        return Turned("", (front.shape[1], front.shape[0], *front.shape[2:]), front)


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
    """

    param: Param
    shape: Shape
    tensor: torch.Tensor | None = None

    def permuted(self, axes: tuple[int, ...]) -> Weight:
        """With its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        tensor = None if self.tensor is None else self.tensor.permute(axes)
        return Weight(self.param.then("permute", *axes), shape, tensor)

    def reshaped(self, shape: Shape) -> Weight:
        """In another shape."""
        if shape == self.shape:
            return self
        tensor = None if self.tensor is None else self.tensor.reshape(shape)
        return Weight(self.param.then("reshape", *shape), shape, tensor)


Operand: TypeAlias = Value | Weight


def need_value(operand: object, what: str = "its input") -> Value:
    """The operand as an activation.

    Raises:
        RefusedError: It is a parameter or something else.
    """
    if not isinstance(operand, Value):
        raise RefusedError(f"{what} must depend on the network's inputs", "compute it before forward()")
    return operand


def batch_elsewhere(shape: Shape) -> RefusedError:
    """The refusal of a value whose batch is not in front."""
    printed = ", ".join("batch" if extent == BATCH else str(extent) for extent in shape)
    return RefusedError(f"dimension 0 must be the batch, found ({printed})", "x.transpose(0, 1) before it")


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
