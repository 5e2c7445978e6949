"""Turn an average pool over the whole image into a mean.

The two compute the same, but TFLite's AVERAGE_POOL_2D gives codes on the scale of what it reads, its MEAN on a scale of
its own. Averages of a ReLU's many zeros and few large values are small: on the scale of those values the pool before a
classifier would have a quarter of the codes, or less, left to tell them apart.
"""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Node, Shape


def run(graph: Graph) -> Graph:
    """The Graph with `mean` for every `average_pool2d` whose one window is all of its image and more than a pixel."""
    shapes = graph.shapes()
    nodes = (_as_mean(node) if _is_global(node, shapes) else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _is_global(node: Node, shapes: dict[str, Shape]) -> bool:
    if node.op != "average_pool2d" or any(node.attributes["padding"]):
        return False
    image = tuple(shapes[node.inputs[0]][1:3])
    return node.attributes["kernel"] == image != (1, 1)


def _as_mean(node: Node) -> Node:
    return replace(node, op="mean", attributes={"axes": (1, 2), "keep_dims": 1})
