"""A Program made ready to be written as C: layers with their parameters, a memory plan, a symbol for each constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfloat.formats.c.layer import Layer, Parameters, Prepared, storage_bytes
from unfloat.formats.c.names import require_name
from unfloat.formats.c.table import EMITTERS
from unfloat.formats.c.text import identifiers
from unfloat.ir.graph import Port
from unfloat.ops._indices import rows_by_index
from unfloat.program.plan import Plan, plan
from unfloat.program.program import Program
from unfloat.program.states import remembers
from unfloat.spec.errors import ExportError

ALIGNMENT = 8  # of the arena and of all in it: 64-bit accumulators lie there


@dataclass(frozen=True)
class Net:
    """What the writers of the single files read.

    Attributes:
        name: The prefix of every symbol.
        program: The Program.
        layers: Its instructions, in order.
        parameters: Of each layer.
        memory: Where activations and scratch lie.
        symbols: The C name of each instruction and constant operand, without the prefix.
        constants: Every constant array by its symbol, prefix included.
        inputs, outputs: Ports by their C names.
        rows: Of each value that chooses rows: how many there are.
    """

    name: str
    program: Program
    layers: tuple[Layer, ...]
    parameters: tuple[Parameters, ...]
    memory: Plan
    symbols: Mapping[str, str]
    constants: Mapping[str, np.ndarray]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    rows: Mapping[str, int]

    @property
    def states(self) -> dict[str, int]:
        """The symbol of each layer's memory, and its bytes."""
        kept = [layer.prepared for layer in self.layers if layer.prepared.state]
        return {self.constant(prepared.name, "state"): prepared.state for prepared in kept}

    @property
    def state_bytes(self) -> int:
        """Of all layers' memory."""
        return sum(self.states.values())

    @property
    def remembers(self) -> bool:
        """Whether a run's outputs depend on the runs before it."""
        return remembers(self.program)

    @property
    def kernels(self) -> list[str]:
        """The kernels in use, sorted."""
        return sorted({layer.prepared.kernel for layer in self.layers})

    @property
    def constant_bytes(self) -> int:
        """Of all constants."""
        return sum(array.nbytes for array in self.constants.values())

    def constant(self, owner: str, role: str) -> str:
        """The symbol of a constant: of a layer by its role, or of a constant operand ("codes").

        No part has two underscores in a row, so no two constants, of one network or of several, share a symbol.
        """
        return f"{self.name}__{self.symbols[owner]}__{role}"

    def own(self, side: Mapping[str, Port]) -> list[tuple[str, Port]]:
        """Ports whose codes the arena holds for them alone, so that a user may read or write them there."""
        values = [port.value for port in (*self.program.inputs, *self.program.outputs)]
        return [(n, p) for n, p in side.items() if p.value in self.memory.offsets and values.count(p.value) == 1]


def make_net(program: Program, name: str, prepared: Sequence[Prepared]) -> Net:
    """Collect what the writers need.

    Raises:
        ExportError: The network cannot have this name, the Program has no layer, or some operators have no emitter; the
            message lists all of them.
    """
    require_name(name)
    _require_emitters(program)
    layers = tuple(_layer(program, index, made) for index, made in enumerate(prepared))
    parameters = tuple(EMITTERS[layer.instruction.op].parameters(layer) for layer in layers)
    operands = [tensor.name for tensor in program.tensors.values() if tensor.data is not None]
    symbols = identifiers([*(layer.instruction.name for layer in layers), *operands])
    memory = plan(program, ALIGNMENT, {made.name: made.scratch for made in prepared})
    inputs, outputs = (dict(zip(_names(ports), ports, strict=True)) for ports in (program.inputs, program.outputs))
    rows = rows_by_index(program.instructions, program.shapes())
    net = Net(name, program, layers, parameters, memory, symbols, {}, inputs, outputs, rows)
    return replace(net, constants=_constants(net))


def _names(ports: Sequence[Port]) -> list[str]:
    return list(identifiers([port.name for port in ports]).values())


def _require_emitters(program: Program) -> None:
    if not program.instructions:
        raise ExportError(
            "the export to C required a Program of one layer at least, found none: it only passes codes on"
        )
    missing = [f"{i.name} ({i.op})" for i in program.instructions if i.op not in EMITTERS]
    if missing:
        raise ExportError("\n  - ".join(["the export to C does not know the operators of these layers:", *missing]))


def _layer(program: Program, index: int, made: Prepared) -> Layer:
    instruction = program.instructions[index]
    inputs = tuple(program.tensors[name] for name in instruction.inputs)
    return Layer(index, instruction, inputs, program.tensors[instruction.name], made)


def _constants(net: Net) -> dict[str, np.ndarray]:
    found: list[tuple[str, np.ndarray]] = []
    for layer, parameters in zip(net.layers, net.parameters, strict=True):
        arrays = dict(parameters.constants)
        if layer.prepared.packed:
            arrays["packed"] = np.frombuffer(layer.prepared.packed, EMITTERS[layer.instruction.op].packed)
        found += [(net.constant(layer.instruction.name, role), array) for role, array in arrays.items()]
    for name, tensor in net.program.tensors.items():
        if tensor.data is not None:
            found.append((net.constant(name, "codes"), storage_bytes(tensor.data)))
    return _once_each(found)


def _once_each(pairs: Sequence[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """As a dictionary. A symbol of two constants would be one layer with another's numbers: no names may lead there."""
    found = dict(pairs)
    if len(found) != len(pairs):
        symbols = [symbol for symbol, _ in pairs]
        raise RuntimeError(f"constants that share a symbol: {sorted({s for s in symbols if symbols.count(s) > 1})}")
    return found
