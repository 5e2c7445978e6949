"""Simulation: the Graph run in PyTorch, in float or in the Program's own integers.

Calibration and training both run through here. In exact mode every node is lowered by the one maker of constants
(`program/lower.py`) and run by its operator's integer meaning, so the codes are the Program's by construction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from unfloat.ir.graph import EMPTY, Graph, Node
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._linear import fold_norm
from unfloat.ops._operator import WeightRule
from unfloat.program.lower import Quantization, constant_tensor, lower, make_instruction, node_params
from unfloat.program.program import Program
from unfloat.quant.backend import TorchBackend
from unfloat.quant.recipe import Recipe
from unfloat.spec.qparams import QParams
from unfloat.spec.qparams import quantize as quantize_array

Value = TypeVar("Value")


@dataclass
class Simulation:
    """A Graph with live parameters, and, once chosen, its labels.

    Attributes:
        graph: After all passes.
        parameters: The model's parameters and buffers by name, shared, never copied.
        recipe: The user's wishes.
        labels: QParams of every value, filled by calibration.
        corrections: Shifts of biases by node, filled by bias correction.
        counts: What was unusual but normal, for the summary.
    """

    graph: Graph
    parameters: Mapping[str, torch.Tensor]
    recipe: Recipe
    labels: dict[str, QParams] = field(default_factory=dict)
    corrections: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _cache: dict[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Constants live where the parameters live."""
        device = next((p.device for p in self.parameters.values()), torch.device("cpu"))
        self.backend = TorchBackend(device)
        self.shapes = self.graph.shapes()

    def fetch(self, name: str) -> np.ndarray:
        """A parameter's value, float64."""
        if name in self.graph.constants:
            return np.asarray(self.graph.constants[name], np.float64)
        return self.parameters[name].detach().cpu().to(torch.float64).numpy()

    def execute(self, inputs: Sequence[Value], compute: Callable[[Node, list[Value]], Value]) -> list[Value]:
        """Run `compute` node by node; a value is let go after its last reader."""
        values: dict[str, Value] = {p.value: x for p, x in zip(self.graph.inputs, inputs, strict=True)}
        remaining = Counter({name: len(readers) for name, readers in self.graph.readers().items()})
        for node in self.graph.nodes:
            values[node.name] = compute(node, [values[name] for name in node.inputs])
            for name in node.inputs:
                remaining[name] -= 1
                if not remaining[name]:
                    values.pop(name, None)
        return [values[port.value] for port in self.graph.outputs]

    def float_value(self, node: Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """A node's float meaning with its slots applied: bias, folded norm, clamp."""
        return clamped(node, self.before_clamp(node, inputs), inputs)

    def before_clamp(self, node: Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """A node's float meaning with bias and norm, before its clamp."""
        operator = REGISTRY[node.op]
        params = self._cached(node, "float", self._float_params)
        result = operator.float_meaning(self.backend, node.attributes, inputs, params)
        return result.add_(params["bias"]) if operator.quant.weight_axis is not None else result

    def _float_params(self, node: Node) -> dict[str, torch.Tensor]:
        params: Mapping[str, np.ndarray] = node_params(node, self.fetch)
        axis = REGISTRY[node.op].quant.weight_axis
        if axis is not None:
            folded = fold_norm(params, axis)
            params = {"weight": folded.weight, "bias": folded.bias}
        return {role: torch.from_numpy(np.array(a, np.float32)).to(self.backend.device) for role, a in params.items()}

    def _cached(self, node: Node, kind: str, make: Callable[[Node], Any]) -> Any:
        """`make(node)`, made again only when a parameter it reads, a label or a correction has changed."""
        names = [p.name for p in node.params.values()]
        if node.norm is not None:
            slots = (node.norm.mean, node.norm.variance, node.norm.weight, node.norm.bias)
            names += [p.name for p in slots if p is not None]
        versions = tuple(self.parameters[name]._version for name in names if name in self.parameters)
        labels = tuple(self.labels.get(name) for name in (*node.inputs, node.name))
        stamp = (versions, labels, id(self.corrections.get(node.name)))
        found = self._cache.get((node.name, kind))
        if found is None or found[0] != stamp:
            found = self._cache[node.name, kind] = (stamp, make(node))
        return found[1]

    def tensor(self, name: str) -> Tensor:
        """The Program tensor of a value."""
        return Tensor(name, self.shapes[name], self.labels[name])

    def rule(self, node: Node) -> WeightRule:
        """How the node's weight becomes codes."""
        return self.recipe.weight_rule(node.name)

    def instruction(self, node: Node) -> Instruction:
        """The node's instruction under the present parameters and labels."""
        params = node_params(node, self.fetch)
        if node.name in self.corrections:
            params["correction"] = self.corrections[node.name]
        inputs = [self.tensor(name) for name in node.inputs]
        return make_instruction(node, params, inputs, self.tensor(node.name), self.rule(node), self.recipe.rounding)

    def lowered(self, node: Node) -> tuple[Instruction, dict[str, torch.Tensor]]:
        """The instruction and its constants on the device."""

        def make(node: Node) -> tuple[Instruction, dict[str, torch.Tensor]]:
            instruction = self.instruction(node)
            return instruction, {role: self.backend.constant(a) for role, a in instruction.constants.items()}

        return self._cached(node, "exact", make)

    def exact_value(self, node: Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """A node's codes: the Program's own. Linear operators subtract and widen; others need int32 from the start."""
        operator = REGISTRY[node.op]
        if operator.vanishes:
            return inputs[0]
        if operator.accumulate is None:
            inputs = [codes.to(torch.int32) for codes in inputs]
        if not node.inputs:
            return self.constant_codes(node)
        instruction, constants = self.lowered(node)
        if operator.integer_meaning is None:
            raise TypeError(f"{node.name}: {node.op} should have been rewritten by the passes")
        return operator.integer_meaning(self.backend, instruction.attributes, constants, inputs)

    def constant_codes(self, node: Node) -> torch.Tensor:
        """The codes of a constant."""
        data = constant_tensor(node, node_params(node, self.fetch), self.labels[node.name]).data
        assert data is not None
        return self.backend.constant(data)

    def to_inner(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Inputs from the model's own layout (NCHW) to the inner one (NHWC)."""
        return [x.permute(port.permutation) for port, x in zip(self.graph.inputs, inputs, strict=True)]

    def quantize_inputs(self, inner: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The border: float inputs to codes, by the same function as everywhere."""
        ports = zip(self.graph.inputs, inner, strict=True)
        return [self.backend.constant(quantize_array(x.cpu().numpy(), self.labels[p.value])) for p, x in ports]

    def exact(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run the Program's integers on float inputs in the model's own layout; codes of each output, inner layout."""
        with torch.no_grad():
            return self.execute(self.quantize_inputs(self.to_inner(inputs)), self.exact_value)

    def convert(self, metadata: Mapping[str, Any] = EMPTY) -> Program:
        """The Program: the integers that `exact` computes."""
        rules = {node.name: self.rule(node) for node in self.graph.nodes}
        quantization = Quantization(self.labels, rules, self.corrections, self.recipe.rounding)
        return lower(self.graph, quantization, self.fetch, metadata)


def clamped(node: Node, values: torch.Tensor, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """A node's value with its clamp applied, in place where it is not one of the node's inputs."""
    if node.clamp is None:
        return values
    bounds = (node.clamp.low, node.clamp.high)
    return values.clamp(*bounds) if any(values is x for x in inputs) else values.clamp_(*bounds)


def dequantize_codes(codes: torch.Tensor, label: QParams) -> torch.Tensor:
    """`r = S (q - Z)` in float32."""
    return (codes - label.zero_point).to(torch.float32).mul_(label.scale[0])
