"""Remove nodes and constants that no output depends on."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph


def run(graph: Graph) -> Graph:
    """The Graph without nodes and constants that nothing reads."""
    wanted = {port.value for port in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    nodes = tuple(node for node in graph.nodes if node.name in wanted)
    named = {param.name for node in nodes for param in node.params.values()}
    constants = {name: array for name, array in graph.constants.items() if name in named}
    return replace(graph, nodes=nodes, constants=constants)
