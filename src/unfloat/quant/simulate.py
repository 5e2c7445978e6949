"""Simulation: the Graph run in PyTorch, in float or in the Program's own integers.

Calibration and training both run through here. In exact mode every node is lowered by the one maker of constants
(`program/lower.py`) and run by its operator's integer meaning, so the codes are the Program's by construction.
"""

from __future__ import annotations

import zlib
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
from unfloat.program.lower import (
    Quantization,
    constant_tensor,
    lower,
    make_instruction,
    node_params,
    norm_slots,
    view,
)
from unfloat.program.program import Program
from unfloat.quant.backend import TorchBackend
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import NumericDomainError, TrainingError
from unfloat.spec.fixedpoint import round_half_away
from unfloat.spec.qparams import QParams

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
        weight_clips: Shares of weights' ranges that are kept, by node, where training learns them.
        counts: What was unusual but normal, for the summary.
    """

    graph: Graph
    parameters: Mapping[str, torch.Tensor]
    recipe: Recipe
    labels: dict[str, QParams] = field(default_factory=dict)
    corrections: dict[str, np.ndarray] = field(default_factory=dict)
    weight_clips: Mapping[str, torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _cache: dict[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Constants live where the parameters live."""
        self.shapes = self.graph.shapes()
        self.use(self.parameters)

    def use(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Take these parameters from now on: a module's own may have been replaced, or moved to another device."""
        self.parameters = parameters
        self.backend = TorchBackend(next((p.device for p in parameters.values()), torch.device("cpu")))

    def forget(self) -> None:
        """Make all constants anew when they are asked for next."""
        self._cache.clear()

    def parameter(self, name: str) -> torch.Tensor:
        """A live parameter, or one of the Graph's own constants on the device."""
        if name not in self.graph.constants:
            return self._own(name)
        made: torch.Tensor = torch.from_numpy(np.array(self.graph.constants[name], np.float32))
        return made.to(self.backend.device)

    def _own(self, name: str) -> torch.Tensor:
        if name not in self.parameters:
            raise TrainingError(
                f"parameter {name}: the student computes with it, found none of that name any more: prepare another "
                "student after changing layers (of pruned ones, after torch.nn.utils.prune.remove)"
            )
        return self.parameters[name]

    def live_params(self, node: Node) -> dict[str, Any]:
        """A node's parameters by role with their gradients; the weight float32."""
        params = {role: view(self.parameter(p.name), p) for role, p in node.params.items()}
        if node.norm is not None:
            params |= {role: view(self.parameter(p.name), p) for role, p in norm_slots(node.norm).items()}
        if "weight" in params:
            params["weight"] = params["weight"].to(torch.float32)
        return params if node.norm is None else {**params, "norm.eps": node.norm.eps}

    def extras(self, node: Node) -> dict[str, np.ndarray]:
        """What the node has beside its parameters; see `program.lower.Quantization`."""
        found = {}
        if node.name in self.corrections:
            found["correction"] = self.corrections[node.name]
        if node.name in self.weight_clips:
            found["weight_clip"] = self.weight_clips[node.name].detach().cpu().to(torch.float64).numpy()
        return found

    def fetch(self, name: str) -> np.ndarray:
        """A parameter's value, float64."""
        if name in self.graph.constants:
            return np.asarray(self.graph.constants[name], np.float64)
        return self._own(name).detach().cpu().to(torch.float64).numpy()

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
            names += [p.name for p in norm_slots(node.norm).values()]
        read = [self.parameters[name] for name in names if name in self.parameters]
        if node.name in self.weight_clips:
            read.append(self.weight_clips[node.name])
        versions = tuple((p._version, p.data_ptr(), _checksum(p)) for p in read)
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
        params = {**node_params(node, self.fetch), **self.extras(node)}
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
        """Inputs from the model's own layout (NCHW) to the inner one (NHWC), float32: indices too."""
        ports = self.graph.inputs
        return [x.permute(port.permutation).to(torch.float32) for port, x in zip(ports, inputs, strict=True)]

    def quantize_inputs(self, inner: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The border: float inputs to codes, by the same function as everywhere."""
        quantized = []
        for port, x in zip(self.graph.inputs, inner, strict=True):
            label = self.labels[port.value]
            if bool(torch.isnan(x).any()):
                raise NumericDomainError(f"input {port.name}: cannot quantize NaN, the input must hold numbers")
            steps = border_steps(x.to(self.backend.device, torch.float32), label)
            quantized.append(steps.to(torch.int32) + label.zero_point)
        return quantized

    def exact(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run the Program's integers on float inputs in the model's own layout; codes of each output, inner layout."""
        with torch.no_grad():
            return self.execute(self.quantize_inputs(self.to_inner(inputs)), self.exact_value)

    def convert(self, metadata: Mapping[str, Any] = EMPTY) -> Program:
        """The Program: the integers that `exact` computes."""
        rules = {node.name: self.rule(node) for node in self.graph.nodes}
        extras = {node.name: self.extras(node) for node in self.graph.nodes}
        quantization = Quantization(self.labels, rules, extras, self.recipe.rounding)
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


def border_steps(x: torch.Tensor, label: QParams) -> torch.Tensor:
    """Float32 values as steps `clamp(round_half_away(x / S))` (eq. 5), float32: what `spec.qparams.quantize` gives."""
    # A scale on the same device: PyTorch may turn a division by a number into a product with its reciprocal.
    scale = torch.tensor(label.scale[0], dtype=torch.float32, device=x.device).expand_as(x)
    return round_half_away(x / scale).clamp_(label.qmin - label.zero_point, label.qmax - label.zero_point)


def _checksum(tensor: torch.Tensor) -> int:
    """Of a tensor's bytes in order: `tensor.data` may be written to, or permuted, without a new version."""
    return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
