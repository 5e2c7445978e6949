"""Compute what depends on constants alone. Parameters stay live: only arrays of `Graph.constants` are folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unfloat.ir.graph import EMPTY, Graph, Node, Param
from unfloat.ops import REGISTRY
from unfloat.passes._edit import fresh, is_constant, viewed
from unfloat.spec.numpy_backend import NumpyBackend


def run(graph: Graph) -> Graph:
    """The Graph with `constant` nodes in place of nodes whose operands are all constant arrays."""
    arrays: dict[str, np.ndarray] = {}
    constants = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        value = _value(node, arrays, graph.constants)
        if value is None:
            nodes.append(node)
            continue
        arrays[node.name] = value
        if node.op != "constant":
            name = fresh(node.name, constants)
            constants[name] = value.astype(np.float32)
            node = replace(node, op="constant", inputs=(), attributes=EMPTY, params={"value": Param(name)}, clamp=None)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _value(node: Node, arrays: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The node's value in float64, or None if it depends on an activation or a parameter."""
    live = any(param.name not in constants for param in node.params.values())
    if live or any(name not in arrays for name in node.inputs):
        return None
    if node.norm is not None or "bias" in node.params or not is_constant(node.shape):
        return None
    params = {role: viewed(np.asarray(constants[p.name], np.float64), p) for role, p in node.params.items()}
    inputs = [arrays[name] for name in node.inputs]
    result = REGISTRY[node.op].float_meaning(NumpyBackend(), node.attributes, inputs, params)
    return np.asarray(result if node.clamp is None else np.clip(result, node.clamp.low, node.clamp.high))
