"""The interpreter: a Program run in NumPy, instruction by instruction, by the operators' integer meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from unfloat.ir.graph import Port
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.program.states import kept_states
from unfloat.spec.errors import InputError, InvalidProgramError
from unfloat.spec.numpy_backend import NumpyBackend
from unfloat.spec.qparams import STORAGE, QParams, stray_codes

Memory: TypeAlias = dict[str, Mapping[str, np.ndarray]]  # by instruction, its states' codes by role


def interpret(program: Program, inputs: Sequence[np.ndarray], memory: Memory | None = None) -> list[np.ndarray]:
    """Run a Program on codes.

    Args:
        program: A verified Program.
        inputs: Codes of each input port, inner layout (NHWC), with the batch in front.
        memory: What instructions remember from one run to the next: empty before the first, and filled here. None to
            begin anew.

    Returns:
        Codes of each output port.

    Raises:
        InputError: An input's number, dtype or shape is wrong, or the batch is not what the memory remembers.
    """
    values = trace(program, inputs, memory)
    return [values[port.value] for port in program.outputs]


def trace(program: Program, inputs: Sequence[np.ndarray], memory: Memory | None = None) -> dict[str, np.ndarray]:
    """Run a Program and keep the codes of every tensor by name: the witness for each site.

    Raises:
        InputError: As of `interpret`.
    """
    backend, memory = NumpyBackend(), {} if memory is None else memory
    values: dict[str, np.ndarray] = {name: t.data for name, t in program.tensors.items() if t.data is not None}
    values |= _checked_inputs(program, inputs)
    for instruction in program.instructions:
        operands = [backend.constant(values[name]) for name in instruction.inputs]
        codes = _run(backend, program, instruction, operands, memory)
        values[instruction.name] = codes.astype(STORAGE[program.tensors[instruction.name].qparams.dtype])
    return values


def _run(
    backend: NumpyBackend, program: Program, instruction: Instruction, operands: list[np.ndarray], memory: Memory
) -> np.ndarray:
    """One instruction's codes; what it remembers goes into `memory`."""
    operator, attributes = REGISTRY[instruction.op], instruction.attributes
    if operator.integer_meaning is None:
        raise InvalidProgramError(f"instruction {instruction.name}: {instruction.op} has no integer meaning")
    constants = {role: backend.constant(array) for role, array in instruction.constants.items()}
    if operator.step is None or not kept_states(program, instruction):
        return operator.integer_meaning(backend, attributes, constants, operands)
    batch, states = operands[0].shape[0], memory.get(instruction.name)
    held = batch if states is None else len(next(iter(states.values())))
    if held != batch:
        raise InputError(f"layer {instruction.name} remembers {held} samples, found a batch of {batch}: begin anew")
    codes, memory[instruction.name] = operator.step(backend, attributes, constants, operands, states)
    return codes


def _checked_inputs(program: Program, inputs: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
    if len(inputs) != len(program.inputs):
        raise InputError(f"the Program takes {len(program.inputs)} inputs, found {len(inputs)}")
    for port, codes in zip(program.inputs, inputs, strict=True):
        _require_input(port, codes, program.tensors[port.value].qparams)
    batches = [len(codes) for codes in inputs]
    if len(set(batches)) > 1:
        raise InputError(f"inputs differ in their batch: {batches}")
    return {port.value: codes for port, codes in zip(program.inputs, inputs, strict=True)}


def _require_input(port: Port, codes: np.ndarray, label: QParams) -> None:
    dtype = STORAGE[label.dtype]
    if not isinstance(codes, np.ndarray):
        raise InputError(f"input {port.name} must be an array of {dtype}, found {type(codes).__name__}")
    if codes.dtype != dtype or codes.ndim != len(port.shape) or codes.shape[1:] != port.shape[1:]:
        shape = ", ".join(map(str, ("n", *port.shape[1:])))
        raise InputError(f"input {port.name} must be {dtype} of shape ({shape}), found {codes.dtype} {codes.shape}")
    stray = stray_codes(codes, label)
    if stray:
        raise InputError(f"input {port.name}: required {stray}")
