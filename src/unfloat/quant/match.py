"""Whether a Program was made from a model: layer by layer, the first difference is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

import numpy as np

from unfloat.ir.graph import Graph, Node, Port, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._linear import fold_norm
from unfloat.ops._operator import Request
from unfloat.program.lower import node_params
from unfloat.program.program import Program
from unfloat.quant.simulate import Simulation
from unfloat.spec.errors import UnfloatError
from unfloat.spec.qparams import dequantize

NOT_THIS = "this Program was not made from this model"
TRY = "give the model, and the checkpoint, that the Program was quantized from"
Rows = Iterable[tuple[str, ...]]
SLACK = 1 + 1e-6  # room for float32 scales


class DifferentNetworkError(UnfloatError):
    """A Program was not made from this model."""


def require_same_network(simulation: Simulation, program: Program) -> dict[str, np.ndarray]:
    """Check that a Program has this Graph's layers, and weights that can be its weights' codes.

    The labels of the Program become the Simulation's, once names and shapes are known to agree.

    Returns:
        The codes of each layer's bias as the model has it, without a correction; only of layers that were not trained.

    Raises:
        DifferentNetworkError: Names the first difference.
    """
    graph = simulation.graph
    alias = _aliases(graph)
    _require_equal("input", map(_border, graph.inputs), map(_border, program.inputs))
    _require_equal("constant", *_constants(graph, program))
    _require_equal("layer", _layers_of_graph(graph, alias), _layers_of_program(program))
    wanted = [(p.name, *_border(p)[1:], f"made by {alias[p.value]}") for p in graph.outputs]
    _require_equal("output", wanted, [(p.name, *_border(p)[1:], f"made by {p.value}") for p in program.outputs])
    simulation.labels = {value: program.tensors[name].qparams for value, name in alias.items()}
    instructions = {instruction.name: instruction for instruction in program.instructions}
    biases = {}
    for node in graph.nodes:
        if node.name in instructions:
            instruction = instructions[node.name]
            own = _require_same_attributes(simulation, node, instruction)
            _require_near_weights(simulation, node, instruction)
            if "weight" in own and np.array_equal(own["weight"], instruction.constants["weight"]):
                biases[node.name] = own["bias"]
    return biases


def _aliases(graph: Graph) -> dict[str, str]:
    """The Program's name of each value: what vanishes passes its input on."""
    alias = {port.value: port.value for port in graph.inputs}
    for node in graph.nodes:
        alias[node.name] = alias[node.inputs[0]] if REGISTRY[node.op].vanishes else node.name
    return alias


def _border(port: Port) -> tuple[str, str, str]:
    return port.name, _shape(port.shape), f"axes {tuple(port.permutation)}"


def _constants(graph: Graph, program: Program) -> tuple[Rows, Rows]:
    found = [(t.name, "x".join(map(str, t.shape))) for t in program.tensors.values() if t.data is not None]
    return [(n.name, "x".join(map(str, n.shape))) for n in graph.nodes if not n.inputs], found


def _layers_of_graph(graph: Graph, alias: dict[str, str]) -> Iterator[tuple[str, ...]]:
    for node in graph.nodes:
        if node.inputs and not REGISTRY[node.op].vanishes:
            yield node.name, node.op, _shape(node.shape), "of " + " and ".join(alias[name] for name in node.inputs)


def _layers_of_program(program: Program) -> Iterator[tuple[str, ...]]:
    for i in program.instructions:
        yield i.name, i.op, _shape(program.tensors[i.name].shape), "of " + " and ".join(i.inputs)


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape[1:])) or "one number"


def _require_equal(kind: str, wanted: Rows, found: Rows) -> None:
    for number, (mine, its) in enumerate(zip_longest(wanted, found)):
        if mine != its:
            model, program = (", ".join(side) if side else f"no {kind}" for side in (mine, its))
            raise DifferentNetworkError(
                f"{NOT_THIS}: {kind} {number} of the model is {model}; of the Program {program}; {TRY}"
            )


def _require_same_attributes(simulation: Simulation, node: Node, instruction: Instruction) -> Mapping[str, np.ndarray]:
    """What the operator and its fused clamp do, and the shapes of the constants; the model's own constants."""
    inputs = tuple(simulation.tensor(name) for name in node.inputs)
    params, rule, rounding = node_params(node, simulation.fetch), simulation.rule(node), simulation.recipe.rounding
    request = Request(node.attributes, params, node.clamp, inputs, simulation.tensor(node.name), rule, rounding)
    attributes, constants, _ = REGISTRY[node.op].lower(request)
    wanted = attributes | {f"shape of {role}": array.shape for role, array in constants.items()}
    found = dict(instruction.attributes) | {f"shape of {k}": a.shape for k, a in instruction.constants.items()}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise DifferentNetworkError(
                f"{NOT_THIS}: layer {node.name}, {name}: of the model {value}, of the Program {found.get(name)}; {TRY}"
            )
    return constants


def _require_near_weights(simulation: Simulation, node: Node, instruction: Instruction) -> None:
    """Rounding and clipping towards zero leave a weight nearer to its codes than to zero; another's are further."""
    axis, label = REGISTRY[node.op].quant.weight_axis, instruction.labels.get("weight")
    if axis is None or label is None:
        return
    weight = fold_norm(node_params(node, simulation.fetch), axis).weight
    codes = dequantize(instruction.constants["weight"], label)
    if np.square(weight - codes).sum() > SLACK * np.square(weight).sum():
        raise DifferentNetworkError(
            f"{NOT_THIS}: layer {node.name}: its weights in the Program are further from the model's than zeros are; "
            f"{TRY}"
        )
