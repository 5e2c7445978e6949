"""Push reshapes below operators that treat each value, or each channel, alone.

A one-dimensional convolution is a reshape, a convolution and a reshape back; with the reshape out of the way its norm
and its clamp stand next to it and fuse.
"""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Node
from unfloat.passes._edit import fresh

ELEMENTWISE = frozenset({"rescale", "batch_norm", "dropout"})


def run(graph: Graph) -> Graph:
    """The Graph with each elementwise operator above the reshape it read; the old reshape dies if nothing else reads it."""
    nodes: dict[str, Node] = {}
    shapes = graph.shapes()
    taken = set(shapes)
    for node in graph.nodes:
        before = nodes.get(node.inputs[0]) if node.op in ELEMENTWISE else None
        if before is None or before.op != "reshape" or not _commutes(node, before, shapes[before.inputs[0]]):
            nodes[node.name] = node
            continue
        inner = fresh(f"{node.name}:value", taken)
        taken.add(inner)
        shapes[inner] = shapes[before.inputs[0]]
        nodes[inner] = replace(node, name=inner, inputs=before.inputs, shape=shapes[inner])
        nodes[node.name] = replace(before, name=node.name, inputs=(inner,))
    return replace(graph, nodes=tuple(nodes.values()))


def _commutes(node: Node, reshape: Node, source: tuple[int, ...]) -> bool:
    """Operators of one value at a time always; of one channel at a time if the reshape leaves the channels alone."""
    alone = node.op == "rescale" or (node.op == "dropout" and not node.attributes["channels"])
    return alone or source[-1] == reshape.shape[-1]
