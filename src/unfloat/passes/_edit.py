"""What rewrites share: fresh names, redirected readers, permutations, views."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from unfloat.ir.graph import BATCH, Graph, Node, Param, Shape

Axes = tuple[int, ...]


def is_constant(shape: Shape) -> bool:
    """Whether a value of this shape depends on constants and parameters alone."""
    return shape[:1] != (BATCH,)


def fresh(name: str, taken: Collection[str]) -> str:
    """`name`, or `name:2`, `name:3`... if it is taken."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}:{count}"
    return candidate


def rebuilt(graph: Graph, nodes: Sequence[Node], instead: Mapping[str, str]) -> Graph:
    """The Graph with these nodes, every reader of a key of `instead` reading its value's end instead."""

    def final(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    redirected = tuple(replace(node, inputs=tuple(map(final, node.inputs))) for node in nodes)
    outputs = tuple(replace(port, value=final(port.value)) for port in graph.outputs)
    return replace(graph, nodes=redirected, outputs=outputs)


def identity(rank: int) -> Axes:
    """The permutation that moves nothing."""
    return tuple(range(rank))


def inverse(axes: Axes) -> Axes:
    """The permutation that undoes `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def compose(first: Axes, then: Axes) -> Axes:
    """The one permutation that equals `first` followed by `then`."""
    return tuple(first[axis] for axis in then)


def permuted(shape: Shape, axes: Axes) -> Shape:
    """The shape after a transpose."""
    return tuple(shape[axis] for axis in axes)


def viewed(array: np.ndarray, param: Param) -> np.ndarray:
    """A parameter's array seen through its views."""
    for view in param.views:
        array = array.transpose(view.argument) if view.kind == "permute" else array.reshape(view.argument)
    return array
