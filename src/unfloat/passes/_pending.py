"""Values of an old Graph as views of values of a new one; the state of `sink_transposes`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unfloat.ir.graph import Graph, Node, Shape
from unfloat.passes._edit import Axes, compose, fresh, identity, inverse, is_constant, permuted


@dataclass(frozen=True)
class Fold:
    """The last axis is a flattened block in another order: `flatten(transpose(block, axes))` is what was meant.

    Attributes:
        block: The block as it is stored.
        axes: The order in which it should have been flattened.
    """

    block: Shape
    axes: Axes


@dataclass(frozen=True)
class Pending:
    """An old value as a view: `transpose(value, axes)`, its last axis then put in order by `fold`.

    Attributes:
        value: The value of the new Graph.
        axes: The pending transpose.
        fold: The pending order inside the last axis; only where `axes` moves nothing.
    """

    value: str
    axes: Axes
    fold: Fold | None = None


class Sinker:
    """The new Graph while it is written.

    Attributes:
        source: Shapes of the old values.
        pending: What each old value is.
        shapes: Shapes of the new values.
        nodes: The new nodes by name, in order.
    """

    def __init__(self, graph: Graph) -> None:
        self.source = graph.shapes()
        self.pending: dict[str, Pending] = {}
        self.shapes: dict[str, Shape] = {}
        self.nodes: dict[str, Node] = {}
        self._settled: dict[tuple[Pending, Axes], str] = {}

    def emit(self, node: Node) -> str:
        """Write a node."""
        self.nodes[node.name] = node
        self.shapes[node.name] = node.shape
        return node.name

    def follow(self, node: Node, value: Pending) -> None:
        """Write the node on the value as it is stored: it gives what is stored, in the same order."""
        self.emit(replace(node, inputs=(value.value,), shape=self.shapes[value.value]))
        self.pending[node.name] = replace(value, value=node.name)

    def settled(self, name: str, order: Axes | None = None) -> str:
        """A new value that is the old one in an order: `transpose(result, order)` is `name`; by default as it was."""
        pending = self.unfolded(name)
        wanted = identity(len(pending.axes)) if order is None else order
        key = (pending, wanted)
        if key not in self._settled:
            self._settled[key] = self.transposed(pending.value, compose(pending.axes, inverse(wanted)), name)
        return self._settled[key]

    def transposed(self, value: str, axes: Axes, purpose: str) -> str:
        """Write a transpose of a new value, or what is cheaper: nothing, a view of a constant, a reshape."""
        shape = permuted(self.shapes[value], axes)
        if axes == identity(len(axes)):
            return value
        if is_constant(self.shapes[value]) and self.nodes[value].op == "constant":
            param = self.nodes[value].params["value"].then("permute", *axes)
            return self.emit(replace(self.nodes[value], name=self._name(purpose), shape=shape, params={"value": param}))
        moved = [axis for axis in axes if self.shapes[value][axis] != 1]
        if moved == sorted(moved) and not is_constant(shape):
            return self.reshaped(value, shape, purpose)
        return self.emit(Node(self._name(purpose), "transpose", (value,), shape, {"permutation": axes}))

    def reshaped(self, value: str, shape: Shape, purpose: str, name: str | None = None, source: str = "") -> str:
        """Write a reshape of a new value, unless it has the shape."""
        if name is None and shape == self.shapes[value]:
            return value
        return self.emit(Node(name or self._name(purpose), "reshape", (value,), shape, {"shape": shape}, source=source))

    def unfolded(self, name: str) -> Pending:
        """What the old value is, any fold written out."""
        pending = self.pending[name]
        if pending.fold is not None:
            pending = self.pending[name] = self._unfold(pending, pending.fold, name)
        return pending

    def _unfold(self, pending: Pending, fold: Fold, purpose: str) -> Pending:
        outer = self.shapes[pending.value][:-1]
        block = self.reshaped(pending.value, (*outer, *fold.block), purpose)
        inner = tuple(len(outer) + axis for axis in fold.axes)
        ordered = self.transposed(block, (*identity(len(outer)), *inner), purpose)
        return Pending(self.reshaped(ordered, (*outer, math.prod(fold.block)), purpose), pending.axes)

    def _name(self, purpose: str) -> str:
        return fresh(f"{purpose}:ordered", {*self.nodes, *self.source})
