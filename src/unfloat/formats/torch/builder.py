"""The Graph while it is read: nodes, names, constants. Operator tables write into it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfloat.formats.torch.operands import Operand, RefusedError, Turned, Value, Weight, name_of, printed
from unfloat.ir.graph import BATCH, EMPTY, Attributes, Clamp, Node, Norm, Param, Shape
from unfloat.ops import REGISTRY


@dataclass(frozen=True)
class Call:
    """The aten call that is being read.

    Attributes:
        name: What the node it makes will be called, before it is made unique.
        source: "file:line" in the user's code, or "".
        shape: The shape torch gives its result, BATCH for the batch; None where the result is not one tensor.
        shapes: The same of several results; empty where the result is one tensor.
        used: Which of its several results are read.
    """

    name: str
    source: str = ""
    shape: Shape | None = None
    shapes: tuple[Shape | None, ...] = ()
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
        place, cells = _batch_in(x, shape)
        front = x.front if isinstance(x, Turned) else x
        inside = (BATCH, *shape[:place], *(count for count in cells if count > 1), *shape[place + 1 :])
        return Turned.of(front if inside == front.shape else self._reshape(front, inside, part), place, cells)

    def _reshape(self, x: Value, shape: Shape, part: str) -> Value:
        return self.emit("reshape", [x], {"shape": shape}, part=part)

    def transpose(self, x: Operand, axes: Sequence[int], part: str = "") -> Operand:
        """The axes in another order; a parameter gets a view."""
        axes = tuple(axes)
        if isinstance(x, Weight):
            return x.permuted(axes)
        turned = x if isinstance(x, Turned) else Turned("", x.shape, x, 0, (1, 1))
        place = axes.index(turned.place)
        first = 1 + turned.place
        cells = range(first, first + len(turned.front.shape) - len(axes))
        before, after = (map(turned.axis, part) for part in (axes[:place], axes[place + 1 :]))
        order = (0, *before, *cells, *after)
        front = turned.front
        if order != tuple(range(len(order))):
            front = self.emit("transpose", [front], {"permutation": order}, part=part)
        return Turned.of(front, place, turned.cells)

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


def _batch_in(x: Value, shape: Shape) -> tuple[int, tuple[int, int]]:
    """Where a view of `x` has the batch, and how many cells of each sample come before and after it in that axis.

    A view keeps the order of values, so as many lie before and after a sample's own as did.

    Raises:
        RefusedError: The view joins values of several samples.
    """
    place, cells = (x.place, x.cells) if isinstance(x, Turned) else (0, (1, 1))
    before, after = math.prod(x.shape[:place]) * cells[0], math.prod(x.shape[place + 1 :]) * cells[1]
    target = next((i for i, extent in enumerate(shape) if extent < 0), 0)
    outer, inner = math.prod(shape[:target]), math.prod(shape[target + 1 :])
    if before % outer or after % inner:
        reason = f"a view of {printed(x.shape)} as {printed(shape)} joins values of several samples"
        raise RefusedError(reason, "x.transpose(0, 1) before it" if place else "x.flatten(1)")
    return target, (before // outer, after // inner)


def size(shape: Shape) -> int:
    """Values a sample."""
    return math.prod(extent for extent in shape if extent != BATCH)
