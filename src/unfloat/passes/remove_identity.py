"""Remove nodes that change nothing, and join reshapes of reshapes."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Node, Shape
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
    """A reshape reads past the reshape before it, which dies if nothing else needs it."""
    before = nodes.get(node.inputs[0]) if node.op == "reshape" else None
    return replace(node, inputs=before.inputs) if before is not None and before.op == "reshape" else node


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
