"""Move zero padding into the padding of the convolutions that read it, and join a pad with a pad."""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Node

# Pools are not here: a maximum must see the zeros, and an average counts them.
CONVOLUTIONS = frozenset({"conv2d", "depthwise_conv2d"})


def run(graph: Graph) -> Graph:
    """The Graph with pads fused into each reader that can take them; a pad nothing reads any more is left dead."""
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        pad = nodes.get(node.inputs[0]) if node.inputs else None
        nodes[node.name] = node if pad is None or pad.op != "pad" else _fused(node, pad)
    return replace(graph, nodes=tuple(nodes.values()))


def _fused(node: Node, pad: Node) -> Node:
    paddings = pad.attributes["paddings"]
    if node.op == "pad":
        both = tuple(a + b for a, b in zip(paddings, node.attributes["paddings"], strict=True))
        return replace(node, inputs=pad.inputs, attributes={"paddings": both})
    if node.op not in CONVOLUTIONS or any(paddings[6:]):  # the last two pad channels
        return node
    top, bottom, left, right = paddings[2:6]
    more = (top, left, bottom, right)
    padding = tuple(a + b for a, b in zip(node.attributes["padding"], more, strict=True))
    return replace(node, inputs=pad.inputs, attributes={**node.attributes, "padding": padding})
