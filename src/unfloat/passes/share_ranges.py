"""Make ties structural: an operator that shares its QParams with several inputs gets inputs that are free to share.

A value that something else reads too, a border value, a constant, a fixed range (softmax) or one of other bits keeps
its own QParams; an explicit `rescale` (TFLite's QUANTIZE) stands between it and, say, a concatenation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from unfloat.ir.graph import Graph, Node
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index
from unfloat.passes._edit import fresh


def run(graph: Graph, bits: Callable[[str], int] = lambda name: 8) -> Graph:
    """The Graph with a rescale wherever a tie would bind a value that must stay free.

    Args:
        graph: After all other passes.
        bits: The activation bits wished for a value.
    """
    readers = graph.readers()
    made = {node.name: node for node in graph.nodes}
    shapes = graph.shapes()
    taken = set(shapes)
    nodes: list[Node] = []
    indices = rows_by_index(graph.nodes, shapes)  # have no range: all of them share one label anyhow
    for node in graph.nodes:
        if len(REGISTRY[node.op].quant.tied(node.inputs)) > 1 and node.name not in indices:
            inputs = list(node.inputs)
            for i, name in enumerate(inputs):
                if bits(name) != bits(node.name) or not _may_share(name, made, readers):
                    inputs[i] = fresh(f"{node.name}:rescale", taken)
                    taken.add(inputs[i])
                    nodes.append(Node(inputs[i], "rescale", (name,), shapes[name]))
            node = replace(node, inputs=tuple(inputs))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _may_share(name: str, made: Mapping[str, Node], readers: Mapping[str, list[str]]) -> bool:
    """Whether the value, followed back to where its QParams are chosen, has this one reader and a range of its own."""
    while True:
        node = made.get(name)
        if node is None or not node.inputs or len(readers[name]) > 1:
            return False
        record = REGISTRY[node.op].quant
        tied = record.tied(node.inputs)
        if len(tied) != 1:  # none, or several: they were freed when that node was
            return record.output != "fixed"
        name = tied[0]
