"""Graph and labels to Program. The one maker of every integer constant: `eval()` and `convert()` both call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unfloat.ir.graph import EMPTY, Graph, Node, Norm, Param
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Request, WeightRule
from unfloat.program.program import Program
from unfloat.program.verify import check
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import array_namespace
from unfloat.spec.qparams import QParams, quantize
from unfloat.spec.record import Record

Fetch = Callable[[str], np.ndarray]  # a parameter's value by name, float64


class Quantization(Record):
    """All that lowering needs beyond the Graph.

    Attributes:
        labels: QParams of every value.
        weights: How each node's weight becomes codes.
        extras: What nodes have beside their parameters, by node and role: "correction", a shift of the bias that
            calibration measured; "weight_clip", the share of its range that training
            learned to keep.
        rounding: "double" or "single".
    """

    labels: Mapping[str, QParams]
    weights: Mapping[str, WeightRule] = EMPTY
    extras: Mapping[str, Mapping[str, np.ndarray]] = EMPTY
    rounding: str = "double"


def view(array: Any, param: Param) -> Any:
    """A parameter, a NumPy array or a PyTorch tensor, seen through its views."""
    for step in param.views:
        permute = step.kind == "permute"
        array = array_namespace(array).permute_dims(array, step.argument) if permute else array.reshape(step.argument)
    return array


def node_params(node: Node, fetch: Fetch) -> dict[str, np.ndarray]:
    """The real parameters of a node by role, float64: its slots' too, as "norm.mean" and so on."""

    def value(role: str, param: Param) -> np.ndarray:
        array = view(np.asarray(fetch(param.name), np.float64), param)
        if not np.isfinite(array).all():
            where = f" ({node.source})" if node.source else ""
            raise NumericDomainError(
                f"layer {node.name}{where}: its {role}, parameter {param.name}, must hold finite numbers, found "
                f"{int((~np.isfinite(array)).sum())} NaN or infinite: load a sound checkpoint"
            )
        return array

    params = {role: value(role, param) for role, param in node.params.items()}
    if node.norm is not None:
        params |= {role: value(role, param) for role, param in norm_slots(node.norm).items()}
        params["norm.eps"] = np.asarray(node.norm.eps, np.float64)
    return params


def norm_slots(norm: Norm) -> dict[str, Param]:
    """The parameters of a norm by role, as "norm.mean" and so on; those that it has."""
    slots = {"mean": norm.mean, "variance": norm.variance, "weight": norm.weight, "bias": norm.bias}
    return {f"norm.{role}": param for role, param in slots.items() if param is not None}


def make_instruction(
    node: Node,
    params: Mapping[str, np.ndarray],
    inputs: Sequence[Tensor],
    output: Tensor,
    rule: WeightRule,
    rounding: str,
) -> Instruction:
    """Lower one node: its constants from its operator's `lower`, and all that follows from labels from `derive`.

    Raises:
        NumericDomainError: A factor is out of range; the message names the layer.
    """
    operator = REGISTRY[node.op]
    try:
        request = Request(node.attributes, params, node.clamp, tuple(inputs), output, rule, rounding)
        attributes, constants, labels = operator.lower(request)
        instruction = Instruction(node.op, node.name, tuple(t.name for t in inputs), attributes, constants, labels)
        return complete(instruction, operator.derive(instruction, inputs, output))
    except NumericDomainError as error:
        where = f" ({node.source})" if node.source else ""
        raise NumericDomainError(f"layer {node.name}{where}, {node.op}: {error}") from error


def complete(instruction: Instruction, derived: Mapping[str, Any]) -> Instruction:
    """Add what follows from the labels: arrays are constants, the rest attributes."""
    arrays = {name: value for name, value in derived.items() if isinstance(value, np.ndarray)}
    scalars = {name: value for name, value in derived.items() if name not in arrays}
    return replace(
        instruction, attributes={**instruction.attributes, **scalars}, constants={**instruction.constants, **arrays}
    )


def constant_tensor(node: Node, params: Mapping[str, np.ndarray], label: QParams) -> Tensor:
    """The codes of a `constant` node."""
    value = params["value"]
    return Tensor(node.name, value.shape, label, quantize(value.astype(np.float32), label))


def lower(graph: Graph, quantization: Quantization, fetch: Fetch, metadata: Mapping[str, Any] = EMPTY) -> Program:
    """Make the Program of a Graph.

    Args:
        graph: After all passes.
        quantization: Labels of every value, weight rules, bias corrections, rounding.
        fetch: Parameter values by name.
        metadata: Strings and numbers that travel with the Program.

    Raises:
        NumericDomainError: A parameter is not finite or a factor out of range; names the layer.
        InvalidProgramError: The result breaks a rule (an accumulator could overflow, say).
    """
    labels = quantization.labels
    tensors = {p.value: Tensor(p.value, p.shape, labels[p.value]) for p in graph.inputs}
    alias = {name: name for name in tensors}
    instructions = []
    for node in graph.nodes:
        if REGISTRY[node.op].vanishes:
            alias[node.name] = alias[node.inputs[0]]
            continue
        alias[node.name] = node.name
        params = node_params(node, fetch)
        if not node.inputs:
            tensors[node.name] = constant_tensor(node, params, labels[node.name])
            continue
        params |= quantization.extras.get(node.name, EMPTY)
        inputs = [tensors[alias[name]] for name in node.inputs]
        tensors[node.name] = Tensor(node.name, node.shape, labels[node.name])
        rule = quantization.weights.get(node.name, WeightRule())
        instructions.append(make_instruction(node, params, inputs, tensors[node.name], rule, quantization.rounding))
    outputs = tuple(replace(port, value=alias[port.value]) for port in graph.outputs)
    program = Program(graph.inputs, outputs, tensors, tuple(instructions), graph.structure, metadata)
    check(program)
    return program
