"""Move a clamp that stands alone into the clamp slot of the operator before it, where it alone reads that operator."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Clamp, Graph, Node
from unfloat.ops import REGISTRY
from unfloat.passes._edit import rebuilt

# Operators that give each value or the greatest of several: a clamp before them equals one after them.
TRANSPARENT = frozenset({"reshape", "transpose", "max_pool2d"})


def run(graph: Graph) -> Graph:
    """The Graph with clamps fused; a clamp after a clamp composes with it."""
    readers = graph.readers()
    nodes: dict[str, Node] = {}
    instead: dict[str, str] = {}
    for node in graph.nodes:
        host = _host(node, nodes, readers, instead) if node.op == "rescale" and node.clamp is not None else None
        if host is None or node.clamp is None:
            nodes[node.name] = node
        else:
            nodes[host.name] = replace(host, clamp=_composed(host.clamp, node.clamp))
            instead[node.name] = node.inputs[0]
    return rebuilt(graph, tuple(nodes.values()), instead)


def _host(node: Node, nodes: dict[str, Node], readers: dict[str, list[str]], instead: dict[str, str]) -> Node | None:
    """The producer, seen through transparent operators, if it has the slot and nothing else reads on the way."""
    name = node.inputs[0]
    while True:
        if len(readers[name]) != 1:
            return None
        while name in instead:
            name = instead[name]
        host = nodes.get(name)
        if host is None:
            return None
        if host.op not in TRANSPARENT:
            return host if "clamp" in REGISTRY[host.op].slots else None
        name = host.inputs[0]


def _composed(before: Clamp | None, after: Clamp) -> Clamp:
    return after if before is None else before.then(after)
