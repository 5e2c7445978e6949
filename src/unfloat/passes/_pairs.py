"""Neighbouring linear nodes between which a positive scale for each channel may move without changing the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from unfloat.ir.graph import Clamp, Graph, Node, Param
from unfloat.ops import REGISTRY

# What commutes with a positive scale for each channel (the last axis), as far as `_passed` agrees.
TRANSPARENT = frozenset({"rescale", "dropout", "max_pool2d", "average_pool2d", "mean", "sum", "pad", "reshape"})
INPUT_AXIS = {"conv2d": 3, "depthwise_conv2d": 2, "fully_connected": 1}  # of the weight
UNBOUNDED = Clamp(-np.inf, np.inf)


@dataclass(frozen=True)
class Pair:
    """A producer whose value only one consumer reads.

    Attributes:
        producer, consumer: Linear nodes.
        axis: The consumer's weight axis that goes with its inputs.
        channels: For each index along `axis`, the producer's output channel that it reads.
        clamps: Those that the value meets, the producer's own first (it may be unbounded).
    """

    producer: Node
    consumer: Node
    axis: int
    channels: tuple[int, ...]
    clamps: tuple[Clamp, ...]


def find_pairs(graph: Graph, frozen: Collection[str] = ()) -> tuple[Pair, ...]:
    """All pairs of a Graph, in network order.

    A parameter that two nodes share, that is one of the Graph's constants or that is frozen cannot be scaled; its node
    is then in no pair that would scale it.

    Args:
        graph: After all passes.
        frozen: Names of parameters that must stay as they are.
    """
    uses = Counter(param.name for node in graph.nodes for param in _all_params(node))
    free = {name for name, count in uses.items() if count == 1} - set(graph.constants) - set(frozen)
    nodes, readers = {node.name: node for node in graph.nodes}, graph.readers()
    pairs = []
    for node in graph.nodes:
        outgoing = scaled_outputs(node)
        if outgoing and all(param.name in free for param, _ in outgoing):
            pair = _follow(node, nodes, readers)
            if pair is not None and pair.consumer.params["weight"].name in free:
                pairs.append(pair)
    return tuple(pairs)


def scaled_outputs(node: Node) -> tuple[tuple[Param, int], ...]:
    """The parameters that scale a linear node's outputs, each with its channel axis; none if there are no such.

    With a norm these are its weight and bias: what comes before them, and the statistics, are as they were.
    """
    if node.op not in INPUT_AXIS:
        return ()
    if node.norm is None:
        bias = node.params.get("bias")
        return ((node.params["weight"], output_axis(node)), *(() if bias is None else ((bias, 0),)))
    if node.norm.weight is None:
        return ()
    return tuple((param, 0) for param in (node.norm.weight, node.norm.bias) if param is not None)


def output_axis(node: Node) -> int:
    """The axis of a linear node's weight that goes with its outputs."""
    axis = REGISTRY[node.op].quant.weight_axis
    assert axis is not None
    return axis


def _all_params(node: Node) -> list[Param]:
    norm = node.norm
    slots = [] if norm is None else [norm.mean, norm.variance, norm.weight, norm.bias]
    return [*node.params.values(), *(param for param in slots if param is not None)]


def _follow(producer: Node, nodes: Mapping[str, Node], readers: Mapping[str, list[str]]) -> Pair | None:
    """The producer's one consumer, if only transparent nodes stand between the two."""
    node, channels, clamps = producer, np.arange(producer.shape[-1]), [producer.clamp or UNBOUNDED]
    while len(readers[node.name]) == 1 and readers[node.name][0] in nodes:
        before, node = node, nodes[readers[node.name][0]]
        if node.op in INPUT_AXIS:
            return _pair(producer, node, channels, clamps)
        passed = _passed(node, before.shape, channels)
        if passed is None:
            return None
        channels = passed
        clamps += [] if node.clamp is None else [node.clamp]
    return None


def _pair(producer: Node, consumer: Node, channels: np.ndarray, clamps: list[Clamp]) -> Pair | None:
    if consumer.attributes.get("groups", 1) != 1:  # inputs of each group have weights of their own only
        return None
    if output_axis(consumer) == INPUT_AXIS[consumer.op]:  # depthwise: output o reads o // m
        channels = np.repeat(channels, consumer.shape[-1] // len(channels))
    return Pair(producer, consumer, INPUT_AXIS[consumer.op], tuple(channels.tolist()), tuple(clamps))


def _passed(node: Node, shape: tuple[int, ...], channels: np.ndarray) -> np.ndarray | None:
    """The producer's channel at each index of the last axis after a transparent node; None if it mixes channels.

    Args:
        node: What follows.
        shape: Its input's.
        channels: The same before it.
    """
    if node.op not in TRANSPARENT:
        return None
    if node.op in ("mean", "sum"):
        return None if len(shape) - 1 in node.attributes["axes"] else channels
    if node.op == "pad":
        return None if any(node.attributes["paddings"][-2:]) else channels
    if node.op == "reshape":  # a flattened image, pixels one after the other, repeats its channels
        times, rest = divmod(node.shape[-1], shape[-1])
        return None if rest else np.tile(channels, times)
    return channels
