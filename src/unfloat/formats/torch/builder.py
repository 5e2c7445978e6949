"""The Graph while it is read: nodes, names, constants. Operator tables write into it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfloat.formats.torch.operands import Operand, RefusedError, Turned, Value, Weight, batch_elsewhere, name_of
from unfloat.ir.graph import BATCH, EMPTY, Attributes, Clamp, Node, Norm, Param, Shape
from unfloat.ops import REGISTRY


@dataclass(frozen=True)
class Call:
    """The aten call that is being read.

    Attributes:
        name: What the node it makes will be called, before it is made unique.
        source: "file:line" in the user's code, or "".
        shape: The shape torch gives its result, BATCH for the batch; None where the result is not one tensor.
        used: Which of its several results are read.
    """

    name: str
    source: str = ""
    shape: Shape | None = None
    used: frozenset[int] = frozenset()


@dataclass
class Builder:
    """Writes nodes.

    Attributes:
        nodes: In order.
        constants: Arrays by the name a Param refers to.
        taken: Names of all values so far, the inputs' included.
        call: The call that is being read; `emit` names its nodes after it.
        training: Whether what trains is read: what has a meaning in gradients alone, too.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    call: Call = Call("")
    training: bool = False

    def emit(
        self,
        op: str,
        inputs: Sequence[Value],
        attributes: Attributes = EMPTY,
        params: Mapping[str, Weight | None] = EMPTY,
        *,
        norm: Norm | None = None,
        clamp: Clamp | None = None,
        part: str = "",
    ) -> Value:
        """Write a node; its shape follows from the operator's own rule.

        Args:
            op: Operator of the registry.
            inputs: Operands.
            attributes: As the operator's signature says.
            params: Parameters by role; None is left out.
            norm: The norm slot.
            clamp: The clamp slot.
            part: Marks a node that only helps the call's main one: it is named "<call>:<part>".

        Raises:
            RefusedError: The operator's shape rule does not take these operands.
        """
        operands = tuple(map(name_of, inputs))
        filled = {role: weight for role, weight in params.items() if weight is not None}
        shapes = {role: weight.shape for role, weight in filled.items()}
        try:
            shape = REGISTRY[op].shape(attributes, [value.shape for value in inputs], shapes)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        name = self._name(part)
        views = {role: weight.param for role, weight in filled.items()}
        self.nodes.append(Node(name, op, operands, shape, dict(attributes), views, norm, clamp, self.call.source))
        return Value(name, shape)

    def _name(self, part: str) -> str:
        """The call's name, made unique by ":2", ":3"... where the same module is called again."""
        wanted = f"{self.call.name}:{part}" if part else self.call.name
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}:{count}"
        self.taken.add(name)
        return name

    def reshape(self, x: Operand, shape: Shape, part: str = "") -> Operand:
        """The same values in another shape; a parameter gets a view."""
        if x.shape == shape:
            return x
        return x.reshaped(shape) if isinstance(x, Weight) else self.reshape_value(x, shape, part)

    def reshape_value(self, x: Value, shape: Shape, part: str = "") -> Value:
        """As `reshape`, of an activation."""
        if x.shape == shape:
            return x
        if isinstance(x, Turned) and shape[:2] == x.shape[:2]:
            return Turned.of(self.reshape_value(x.front, (BATCH, shape[0], *shape[2:]), part))
        if isinstance(x, Turned) and x.shape[0] == 1 and shape[0] == BATCH:
            return self.reshape_value(x.front, shape, part)
        if BATCH in shape[1:]:
            raise batch_elsewhere(shape)
        return self.emit("reshape", [x], {"shape": shape}, part=part)

    def transpose(self, x: Operand, axes: Sequence[int], part: str = "") -> Operand:
        """The axes in another order; a parameter gets a view."""
        axes = tuple(axes)
        if isinstance(x, Weight):
            return x.permuted(axes)
        if isinstance(x, Turned):
            moved = [changed_over(axis) for axis in axes]
            return x.front if moved == sorted(moved) else self.transpose(x.front, moved, part)
        if axes[1:2] == (0,):
            order = (0, axes[0], *axes[2:])
            front = x if order == tuple(range(len(order))) else self.transpose(x, order, part)
            assert isinstance(front, Value)
            return Turned.of(front)
        if axes[0] != 0:
            raise RefusedError(f"dimension 0 is the batch and must stay in front, found the order {axes}")
        return self.emit("transpose", [x], {"permutation": axes}, part=part)

    def channels_last(self, x: Value) -> Value:
        """(N, C, ...) as (N, ..., C)."""
        rank = len(x.shape)
        if rank < 3:
            return x
        return self.emit("transpose", [x], {"permutation": (0, *range(2, rank), 1)}, part="channels_last")

    def channels_first(self, x: Value) -> Value:
        """(N, ..., C) as (N, C, ...)."""
        rank = len(x.shape)
        if rank < 3:
            return x
        return self.emit("transpose", [x], {"permutation": (0, rank - 1, *range(1, rank - 1))}, part="channels_first")

    def array(self, array: np.ndarray, part: str) -> Weight:
        """A constant of the Graph's own."""
        name, count = f"{self.call.name}:{part}", 1
        while name in self.constants:
            count += 1
            name = f"{self.call.name}:{part}:{count}"
        self.constants[name] = array
        return Weight(Param(name), tuple(array.shape))

    def scalar(self, value: float, rank: int) -> Value:
        """One number as a constant operand of that rank."""
        return self.constant(self.array(np.full((1,) * rank, value, np.float32), "scalar"), rank)

    def constant(self, weight: Weight, rank: int) -> Value:
        """A parameter as a constant operand of that rank, leading axes of size 1 added.

        Raises:
            RefusedError: It has more axes, or values for single samples of a batch.
        """
        shape = (1,) * (rank - len(weight.shape)) + weight.shape
        if len(shape) > rank or shape[0] != 1:
            raise RefusedError(
                f"a constant of shape {weight.shape} does not broadcast over the batch of a value of rank {rank}"
            )
        return self.emit("constant", [], params={"value": weight.reshaped(shape)}, part="constant")

    def result_shape(self) -> Shape:
        """The shape torch gives the call's result."""
        if self.call.shape is None:
            raise RefusedError("its result is not a single tensor")
        return self.call.shape


def changed_over(axis: int) -> int:
    """The axis, counted from the front, where the first two change places."""
    return 1 - axis if axis in (0, 1) else axis


def size(shape: Shape) -> int:
    """Values a sample."""
    return math.prod(extent for extent in shape if extent != BATCH)
