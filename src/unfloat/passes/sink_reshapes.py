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
    """The Graph with elementwise operators above the reshapes they read; a reshape that nothing reads is left dead."""
    shapes = graph.shapes()
    taken = set(shapes)
    nodes: dict[str, Node] = {}
    instead: dict[str, str] = {}
    for old in graph.nodes:
        node = replace(old, inputs=tuple(instead.get(name, name) for name in old.inputs))
        before = nodes.get(node.inputs[0]) if node.op in ELEMENTWISE else None
        if before is None or before.op != "reshape" or not _commutes(node, before, shapes[before.inputs[0]]):
            nodes[node.name] = node
            continue
        shapes[node.name] = shapes[before.inputs[0]]
        nodes[node.name] = replace(node, inputs=before.inputs, shape=shapes[node.name])
        after = fresh(f"{node.name}:reshape", taken)
        taken.add(after)
        nodes[after] = replace(before, name=after, inputs=(node.name,))
        instead[node.name] = after
    outputs = tuple(replace(port, value=instead.get(port.value, port.value)) for port in graph.outputs)
    return replace(graph, nodes=tuple(nodes.values()), outputs=outputs)


def _commutes(node: Node, reshape: Node, source: tuple[int, ...]) -> bool:
    """Operators of one value at a time always; of one channel at a time if the reshape leaves the channels alone."""
    alone = node.op == "rescale" or (node.op == "dropout" and not node.attributes["channels"])
    return alone or source[-1] == reshape.shape[-1]
