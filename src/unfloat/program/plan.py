"""Where each activation lies in the arena: lifetimes overlap, bytes do not. And an independent check of that.

Offsets and sizes are for one sample; a batch of n multiplies all of them by n, which keeps every distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.qparams import STORAGE

ALIGNMENT = 64  # one cache line, one AVX-512 register


@dataclass(frozen=True)
class Plan:
    """The arena.

    Attributes:
        offsets: First byte of each activation.
        size: Bytes of the whole arena.
        lives: The first and the last instruction of each activation's bytes: -1 for an input, the number of
            instructions for an output. One that is computed in place shares them.
    """

    offsets: Mapping[str, int]
    size: int
    lives: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class _Buffer:
    """Tensors that share bytes because one is computed in place of another."""

    size: int
    first: int
    last: int


def plan(program: Program) -> Plan:
    """Greedy by size: the largest buffer first, each at the lowest offset free during its whole life.

    An output takes over its input's bytes where the operator allows it, the shapes agree and the input dies there.
    """
    owner, buffers = _buffers(program)
    placed: list[tuple[int, _Buffer]] = []
    offset_of: dict[int, int] = {}
    for key in sorted(buffers, key=lambda k: (-buffers[k].size, buffers[k].first, k)):
        buffer = buffers[key]
        offset_of[key] = _lowest_free(buffer, placed)
        placed.append((offset_of[key], buffer))
    size = max((offset + buffer.size for offset, buffer in placed), default=0)
    lives = {name: (buffers[key].first, buffers[key].last) for name, key in owner.items()}
    result = Plan({name: offset_of[key] for name, key in owner.items()}, size, lives)
    check(program, result)
    return result


def tensor_bytes(program: Program, name: str) -> int:
    """Bytes of one sample of an activation, rounded up to the alignment."""
    return -(-_sample_bytes(program, name) // ALIGNMENT) * ALIGNMENT


def _sample_bytes(program: Program, name: str) -> int:
    tensor = program.tensors[name]
    return math.prod(tensor.shape[1:]) * STORAGE[tensor.qparams.dtype].itemsize


def _buffers(program: Program) -> tuple[dict[str, int], dict[int, _Buffer]]:
    end = len(program.instructions)
    last_read = {name: step for step, i in enumerate(program.instructions) for name in i.inputs}
    last_read |= {port.value: end for port in program.outputs}
    owner: dict[str, int] = {}
    buffers: dict[int, _Buffer] = {}

    def new(name: str, step: int) -> None:
        owner[name] = len(buffers)
        buffers[owner[name]] = _Buffer(tensor_bytes(program, name), step, last_read.get(name, step))

    for port in program.inputs:
        new(port.value, -1)
    for step, instruction in enumerate(program.instructions):
        reusable = [
            name
            for name in instruction.inputs
            if name in owner
            and REGISTRY[instruction.op].in_place
            and buffers[owner[name]].last == step
            and _sample_bytes(program, name) == _sample_bytes(program, instruction.name)
        ]
        if reusable:
            # The one made last: whoever has just made it does not read it, and may be followed by this instruction.
            taken = owner[max(reusable, key=lambda name: buffers[owner[name]].first)]
            owner[instruction.name] = taken
            buffers[taken].last = max(step, last_read.get(instruction.name, step))
        else:
            new(instruction.name, step)
    return owner, buffers


def _lowest_free(buffer: _Buffer, placed: list[tuple[int, _Buffer]]) -> int:
    rivals = sorted((o, b.size) for o, b in placed if b.first <= buffer.last and buffer.first <= b.last)
    offset = 0
    for start, size in rivals:
        if offset + buffer.size <= start:
            break
        offset = max(offset, start + size)
    return offset


def check(program: Program, candidate: Plan) -> None:
    """Run the Program on bytes that only remember who wrote them; every read must find its writer.

    Written apart from `plan` and without its notion of lifetimes, so that a mistake there is found here.

    Raises:
        InvalidProgramError: An activation would be overwritten before its last reader, or lies outside the arena.
    """
    cells = {name: _cells(program, candidate, name) for name, t in program.tensors.items() if t.data is None}
    writer = np.full(candidate.size // ALIGNMENT, "", object)
    for port in program.inputs:
        writer[cells[port.value]] = port.value
    for instruction in program.instructions:
        for name in instruction.inputs:
            if name in cells:
                _check_read(writer, cells[name], name, instruction.name)
                alike = _sample_bytes(program, name) == _sample_bytes(program, instruction.name)
                _check_overlap(instruction, cells[name], cells[instruction.name], name, alike)
        writer[cells[instruction.name]] = instruction.name
    for port in program.outputs:
        if port.value in cells:
            _check_read(writer, cells[port.value], port.value, f"output {port.name}")


def _cells(program: Program, candidate: Plan, name: str) -> slice:
    """The aligned cells of the arena that an activation takes."""
    start, size = candidate.offsets[name], tensor_bytes(program, name)
    if start < 0 or start % ALIGNMENT or start + size > candidate.size:
        where = f"{name} at {start} to {start + size}"
        raise InvalidProgramError(f"memory plan: {where} leaves the arena of {candidate.size} bytes")
    return slice(start // ALIGNMENT, (start + size) // ALIGNMENT)


def _check_read(writer: np.ndarray, cells: slice, name: str, reader: str) -> None:
    if not (writer[cells] == name).all():
        raise InvalidProgramError(f"memory plan: {name} is overwritten before {reader} reads it")


def _check_overlap(instruction: Instruction, source: slice, out: slice, name: str, alike: bool) -> None:
    """`alike`: whether both have as many bytes; a batch multiplies those."""
    overlaps = source.start < out.stop and out.start < source.stop
    if overlaps and not (REGISTRY[instruction.op].in_place and source == out and alike):
        raise InvalidProgramError(f"memory plan: {instruction.name} would overwrite its own input {name}")
