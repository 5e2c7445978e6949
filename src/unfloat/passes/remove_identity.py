"""Remove nodes that change nothing, and join reshapes of reshapes and slices of slices."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Attributes, Graph, Node, Shape
from unfloat.passes._edit import identity, rebuilt


def run(graph: Graph) -> Graph:
    """The Graph without identities."""
    shapes = graph.shapes()
    nodes: dict[str, Node] = {}
    instead: dict[str, str] = {}
    for old in graph.nodes:
        node = _joined(replace(old, inputs=tuple(instead.get(name, name) for name in old.inputs)), nodes)
        if node.inputs and _is_identity(node, shapes[node.inputs[0]]):
            instead[node.name] = node.inputs[0]
        else:
            nodes[node.name] = node
    return rebuilt(graph, tuple(nodes.values()), instead)


def _joined(node: Node, nodes: dict[str, Node]) -> Node:
    """A reshape or slice reads past the one before it, which dies if nothing else needs it."""
    before = nodes.get(node.inputs[0]) if node.op in ("reshape", "slice") else None
    if before is None or before.op != node.op:
        return node
    attributes = node.attributes if node.op == "reshape" else _slice_of_slice(before.attributes, node.attributes)
    return replace(node, inputs=before.inputs, attributes=attributes)


def _slice_of_slice(first: Attributes, then: Attributes) -> Attributes:
    """Cell i of the second is cell `begin + i * stride` of the first, and so on."""
    axes = list(zip(first["begin"], first["stride"], then["begin"], then["stride"], strict=True))
    return {
        "begin": tuple(begin + cell * stride for begin, stride, cell, _ in axes),
        "stride": tuple(stride * step for _, stride, _, step in axes),
        "size": then["size"],
    }


def _is_identity(node: Node, source: Shape) -> bool:
    attributes = node.attributes
    if node.op == "reshape":
        return node.shape == source
    if node.op == "transpose":
        return bool(attributes["permutation"] == identity(len(source)))
    if node.op == "dropout":
        return bool(attributes["rate"] == 0.0)
    if node.op in ("average_pool2d", "max_pool2d"):
        return attributes["kernel"] == attributes["stride"] == (1, 1)
    if node.op == "rescale":
        return node.clamp is None
    if node.op == "pad":
        return not any(attributes["paddings"])
    return node.op == "concatenation" and len(node.inputs) == 1
