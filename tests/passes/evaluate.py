"""A tiny evaluator of the float Graph, and helpers that build Graphs by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unfloat.ir.graph import EMPTY, Clamp, Graph, Node, Norm, Param, Port, Shape
from unfloat.ops import REGISTRY
from unfloat.spec.numpy_backend import NumpyBackend

Arrays = Mapping[str, np.ndarray]


def evaluate(graph: Graph, parameters: Arrays, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a Graph in float64, from the model's own layout to the model's own layout."""
    arrays = {**parameters, **graph.constants}
    values = {
        port.value: x.astype(np.float64).transpose(port.permutation)
        for port, x in zip(graph.inputs, inputs, strict=True)
    }
    for node in graph.nodes:
        values[node.name] = _node(node, [values[name] for name in node.inputs], arrays)
        assert values[node.name].shape[1:] == node.shape[1:], node
    return [values[port.value].transpose(port.permutation) for port in graph.outputs]


def _node(node: Node, inputs: Sequence[np.ndarray], arrays: Arrays) -> np.ndarray:
    params = {role: see(arrays, param) for role, param in node.params.items()}
    result = REGISTRY[node.op].float_meaning(NumpyBackend(), node.attributes, inputs, params)
    if "bias" in params and not REGISTRY[node.op].own_bias:
        result = result + params["bias"]
    if node.norm is not None:
        result = _normalized(result, node.norm, arrays)
    return result if node.clamp is None else np.clip(result, node.clamp.low, node.clamp.high)


def _normalized(x: np.ndarray, norm: Norm, arrays: Arrays) -> np.ndarray:
    x = (x - see(arrays, norm.mean)) / np.sqrt(see(arrays, norm.variance) + norm.eps)
    x = x if norm.weight is None else x * see(arrays, norm.weight)
    return x if norm.bias is None else x + see(arrays, norm.bias)


def see(arrays: Arrays, param: Param) -> np.ndarray:
    """A parameter through its views."""
    array = np.asarray(arrays[param.name], np.float64)
    for view in param.views:
        array = array.transpose(view.argument) if view.kind == "permute" else array.reshape(view.argument)
    return array


def port(name: str, shape: Shape, value: str = "", permutation: tuple[int, ...] = ()) -> Port:
    return Port(name, value or name, shape, permutation or tuple(range(len(shape))))


def node(
    op: str,
    name: str,
    inputs: str,
    shape: Shape,
    /,
    params: Mapping[str, str] = EMPTY,
    norm: Norm | None = None,
    clamp: tuple[float, float] | None = None,
    **attributes: object,
) -> Node:
    """A node; operands separated by spaces."""
    roles = {role: Param(param) for role, param in params.items()}
    return Node(name, op, tuple(inputs.split()), shape, attributes, roles, norm, clamp and Clamp(*clamp))


def norm(prefix: str) -> Norm:
    """A norm whose parameters are named as PyTorch names them."""
    return Norm(
        Param(f"{prefix}.running_mean"),
        Param(f"{prefix}.running_var"),
        Param(f"{prefix}.weight"),
        Param(f"{prefix}.bias"),
        1e-5,
    )


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def norm_arrays(prefix: str, channels: int) -> dict[str, np.ndarray]:
    names = ("running_mean", "running_var", "weight", "bias")
    arrays = {f"{prefix}.{name}": random(channels, seed=i) for i, name in enumerate(names)}
    return {**arrays, f"{prefix}.running_var": np.abs(arrays[f"{prefix}.running_var"]) + 0.5}


def shapes_of(parameters: Arrays) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in parameters.items()}
