"""Graph: the float network, nodes in order. It names the model's parameters and never copies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from unfloat.spec.record import Record

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
BATCH = -1  # dimension 0 of every activation: any number of samples, never baked in
OPERAND = ":operand"  # `layer:operand` is what a pass put before a layer, to be quantized as the layer is


class _Empty(Mapping[str, Any]):
    """No entries, for ever: what a record may have as a default, and what a copy or a pickle of a record may hold.

    A `MappingProxyType` of nothing can be neither copied nor pickled.
    """

    def __getitem__(self, key: str) -> NoReturn:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> str:
        return "EMPTY"  # by its name, so that there is one


EMPTY: Mapping[str, Any] = _Empty()


class View(Record):
    """A change of shape that copies no data: "permute" by axes, or "reshape" to a shape."""

    kind: str
    argument: tuple[int, ...]


class Param(Record):
    """One of the model's parameters or buffers, by name, seen through views (layout changes)."""

    name: str
    views: tuple[View, ...] = ()

    def then(self, kind: str, *argument: int) -> Param:
        """The same parameter with one more view."""
        return Param(self.name, (*self.views, View(kind, argument)))


class Norm(Record):
    """Batch normalisation as a slot: `(x - mean) / sqrt(variance + eps) * weight + bias`, channels last."""

    mean: Param
    variance: Param
    weight: Param | None
    bias: Param | None
    eps: float
    momentum: float | None = 0.1


class Clamp(Record):
    """`min(max(x, low), high)`; a bound may be infinite. ReLU is (0, inf), ReLU6 (0, 6)."""

    low: float
    high: float

    def then(self, after: Clamp) -> Clamp:
        """The one clamp that equals this one followed by `after`."""
        return Clamp(min(max(self.low, after.low), after.high), min(max(self.high, after.low), after.high))


class Node(Record):
    """One operator of `ops/`, one future instruction. Its value carries its name.

    Attributes:
        name: Unique: the module path, with a suffix where a module calls several operators.
        op: The operator's name in the registry.
        inputs: Names of the values it reads (nodes or graph inputs).
        shape: Shape of its value; dimension 0 is BATCH, except for constants.
        attributes: As the operator's signature says.
        params: Float slots filled by the model's parameters, for example "weight" and "bias".
        norm, clamp: Slots applied in this order after the operator and its bias.
        source: "file:line" in the user's code, or "".
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    attributes: Attributes = EMPTY
    params: Mapping[str, Param] = EMPTY
    norm: Norm | None = None
    clamp: Clamp | None = None
    source: str = ""


class Port(Record):
    """An input or output of the network.

    Attributes:
        name: The user's name: argument name, or output key.
        value: The value it is (inputs: equal to `name`).
        shape: Shape inside (NHWC); dimension 0 is BATCH.
        permutation: Axes that turn the model's own layout into the inner one (inputs), or the inner one into the
            model's own (outputs). The identity where nothing moves.
    """

    name: str
    value: str
    shape: Shape
    permutation: tuple[int, ...]

    @property
    def layout(self) -> str:
        """Say "NHWC" where the border permutes an image, else "as given"."""
        return "NHWC" if self.permutation in ((0, 2, 3, 1), (0, 3, 1, 2)) else "as given"


def own_shape(port: Port) -> Shape:
    """The shape of an input in the model's own layout."""
    own = dict(zip(port.permutation, port.shape, strict=True))
    return tuple(own[axis] for axis in range(len(own)))


def own_output_shape(port: Port) -> Shape:
    """The shape of an output in the model's own layout."""
    return tuple(port.shape[axis] for axis in port.permutation)


class Graph(Record):
    """The float network.

    Attributes:
        inputs, outputs: The border.
        nodes: In an order in which every value is made before it is read.
        constants: Arrays that passes computed from constants alone, by the name a Param refers to.
        structure: How outputs are handed back, opaque to every room but the reader's; None for a single tensor.
    """

    inputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Port, ...]
    constants: Mapping[str, np.ndarray] = EMPTY
    structure: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """Itself, for it never changes: so a student can be copied."""
        return self

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def shapes(self) -> dict[str, Shape]:
        """The shape of every value."""
        return {**{p.value: p.shape for p in self.inputs}, **{n.name: n.shape for n in self.nodes}}

    def readers(self) -> dict[str, list[str]]:
        """For every value the nodes that read it, in order; a graph output reads as "output:<name>"."""
        readers: dict[str, list[str]] = {name: [] for name in self.shapes()}
        for node in self.nodes:
            for value in node.inputs:
                readers[value].append(node.name)
        for port in self.outputs:
            readers[port.value].append(f"output:{port.name}")
        return readers
