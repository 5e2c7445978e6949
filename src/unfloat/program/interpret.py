"""The interpreter: a Program run in NumPy, instruction by instruction, by the operators' integer meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.spec.backend import NumpyBackend
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.qparams import STORAGE


def interpret(program: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a Program on codes.

    Args:
        program: A verified Program.
        inputs: Codes of each input port, inner layout (NHWC), with the batch in front.

    Returns:
        Codes of each output port.
    """
    values = trace(program, inputs)
    return [values[port.value] for port in program.outputs]


def trace(program: Program, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Run a Program and keep the codes of every tensor by name: the witness for each site."""
    backend = NumpyBackend()
    values: dict[str, np.ndarray] = {name: t.data for name, t in program.tensors.items() if t.data is not None}
    values |= _checked_inputs(program, inputs)
    for instruction in program.instructions:
        operator = REGISTRY[instruction.op]
        if operator.integer_meaning is None:
            raise InvalidProgramError(f"instruction {instruction.name}: {instruction.op} has no integer meaning")
        constants = {role: backend.constant(array) for role, array in instruction.constants.items()}
        operands = [backend.constant(values[name]) for name in instruction.inputs]
        codes = operator.integer_meaning(backend, instruction.attributes, constants, operands)
        values[instruction.name] = codes.astype(STORAGE[program.tensors[instruction.name].qparams.dtype])
    return values


def _checked_inputs(program: Program, inputs: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
    if len(inputs) != len(program.inputs):
        raise ValueError(f"the Program takes {len(program.inputs)} inputs, found {len(inputs)}")
    for port, codes in zip(program.inputs, inputs, strict=True):
        dtype = STORAGE[program.tensors[port.value].qparams.dtype]
        if codes.dtype != dtype or codes.shape[1:] != port.shape[1:]:
            raise ValueError(
                f"input {port.name} must be {dtype} of shape (n, {port.shape[1:]}), found {codes.dtype} {codes.shape}"
            )
    return {port.value: codes for port, codes in zip(program.inputs, inputs, strict=True)}
