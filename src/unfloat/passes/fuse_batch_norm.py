"""Move a batch norm into the norm slot of the linear operator before it, where it alone reads that operator."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Node
from unfloat.ops import REGISTRY
from unfloat.passes._edit import rebuilt


def run(graph: Graph) -> Graph:
    """The Graph with batch norms fused into their producers.

    The slots' order is bias, norm, clamp, so a producer that already has a norm or a clamp takes no other norm.
    """
    readers = graph.readers()
    nodes: dict[str, Node] = {}
    instead: dict[str, str] = {}
    for node in graph.nodes:
        producer = nodes.get(instead.get(node.inputs[0], node.inputs[0])) if node.op == "batch_norm" else None
        if producer is not None and _fits(producer) and len(readers[node.inputs[0]]) == 1:
            nodes[producer.name] = replace(producer, norm=node.norm)
            instead[node.name] = producer.name
        else:
            nodes[node.name] = node
    return rebuilt(graph, tuple(nodes.values()), instead)


def _fits(producer: Node) -> bool:
    return "norm" in REGISTRY[producer.op].slots and producer.norm is None and producer.clamp is None
