"""Turn a batch norm that found no linear operator before it into a depthwise 1x1 convolution with a weight of ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from unfloat.ir.graph import EMPTY, Graph, Node, Param, Shape
from unfloat.passes._edit import fresh

POINTWISE = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}


def run(graph: Graph) -> Graph:
    """The Graph without `batch_norm`: the norm becomes the slot of a depthwise convolution that multiplies by one."""
    constants = dict(graph.constants)
    taken = set(graph.shapes())
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op != "batch_norm":
            nodes.append(node)
            continue
        channels = node.shape[-1]
        ones = f"ones:{channels}"
        constants.setdefault(ones, np.ones((1, 1, channels), np.float32))
        new = list(_depthwise(node, Param(ones), taken))
        taken.update(n.name for n in new)
        nodes += new
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _depthwise(node: Node, weight: Param, taken: set[str]) -> Iterator[Node]:
    """The convolution; a value that is no image becomes one and is turned back after it."""
    convolution = replace(node, op="depthwise_conv2d", attributes=POINTWISE, params={"weight": weight})
    if len(node.shape) == 4:
        yield convolution
        return
    image = _as_image(node.shape)
    to_image, back = fresh(f"{node.name}:image", taken), fresh(f"{node.name}:convolution", taken)
    yield Node(to_image, "reshape", node.inputs, image, {"shape": image}, source=node.source)
    yield replace(convolution, name=back, inputs=(to_image,), shape=image)
    yield Node(node.name, "reshape", (back,), node.shape, {"shape": node.shape}, EMPTY, source=node.source)


def _as_image(shape: Shape) -> Shape:
    """(N, C) as (N, 1, 1, C), (N, L, C) as (N, 1, L, C), (N, D, H, W, C) as (N, D * H, W, C)."""
    pixels = 1
    for size in shape[1:-2]:
        pixels *= size
    columns = shape[-2] if len(shape) > 2 else 1
    return (shape[0], pixels, columns, shape[-1])
