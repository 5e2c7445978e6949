"""Where each activation lies in the arena: lifetimes overlap, bytes do not. And an independent check of that.

Offsets and sizes are for one sample; a batch of n multiplies all of them by n, which keeps every distance.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping

from unfloat.ir.graph import EMPTY
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.qparams import STORAGE
from unfloat.spec.record import Record

ALIGNMENT = 64  # one cache line, one AVX-512 register
MAX_BYTES = 1 << 40  # of a sample's arena, as the engine has it: far past any memory


class Plan(Record):
    """The arena.

    Attributes:
        offsets: First byte of each activation.
        size: Bytes of the whole arena.
        lives: The first and the last instruction of each activation's bytes: -1 for an input, the number of
            instructions for an output. One that is computed in place shares them.
        scratch: First byte of the scratch of each instruction that was said to need some.
        alignment: Of every offset, in bytes.
    """

    offsets: Mapping[str, int]
    size: int
    lives: Mapping[str, tuple[int, int]] = EMPTY
    scratch: Mapping[str, int] = EMPTY
    alignment: int = ALIGNMENT


class _Buffer:
    """Tensors that share bytes because one is computed in place of another: how many, first and last instruction."""

    def __init__(self, size: int, first: int, last: int) -> None:
        self.size, self.first, self.last = size, first, last


_Place = tuple[int, int, int, int]  # of a buffer: its first byte and its end, its first and its last instruction


def plan(program: Program, alignment: int = ALIGNMENT, scratch: Mapping[str, int] = EMPTY) -> Plan:
    """Greedy by size: the largest buffer first, each at the lowest offset free during its whole life.

    An output takes over its input's bytes where the operator allows it, the shapes agree and the input dies there.

    Args:
        program: What to plan for.
        alignment: Of every offset, in bytes.
        scratch: Bytes that an instruction needs for itself while it runs, by its name; none where it is not named.

    Raises:
        InvalidProgramError: A sample's arena would be larger than any memory.
    """
    owner, buffers = _buffers(program, alignment)
    scratch_owner = {}
    for step, instruction in enumerate(program.instructions):
        if scratch.get(instruction.name):
            scratch_owner[instruction.name] = len(buffers)
            buffers[len(buffers)] = _Buffer(_aligned(scratch[instruction.name], alignment), step, step)
    placed: list[_Place] = []
    offset_of: dict[int, int] = {}
    for key in sorted(buffers, key=lambda k: (-buffers[k].size, buffers[k].first, k)):
        buffer = buffers[key]
        offset_of[key] = offset = _lowest_free(buffer, placed)
        insort(placed, (offset, offset + buffer.size, buffer.first, buffer.last))
    size = max((end for _, end, _, _ in placed), default=0)
    if size > MAX_BYTES:
        raise InvalidProgramError(f"memory plan: required an arena of at most {MAX_BYTES} bytes a sample, found {size}")
    lives = {name: (buffers[key].first, buffers[key].last) for name, key in owner.items()}
    offsets, scratches = ({name: offset_of[key] for name, key in of.items()} for of in (owner, scratch_owner))
    result = Plan(offsets, size, lives, scratches, alignment)
    check(program, result, scratch)
    return result


def tensor_bytes(program: Program, name: str, alignment: int = ALIGNMENT) -> int:
    """Bytes of one sample of an activation, rounded up to the alignment."""
    return _aligned(_sample_bytes(program, name), alignment)


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _sample_bytes(program: Program, name: str) -> int:
    tensor = program.tensors[name]
    return math.prod(tensor.shape[1:]) * STORAGE[tensor.qparams.dtype].itemsize


def _buffers(program: Program, alignment: int) -> tuple[dict[str, int], dict[int, _Buffer]]:
    end = len(program.instructions)
    last_read = {name: step for step, i in enumerate(program.instructions) for name in i.inputs}
    last_read |= {port.value: end for port in program.outputs}
    owner: dict[str, int] = {}
    buffers: dict[int, _Buffer] = {}

    def new(name: str, step: int) -> None:
        owner[name] = len(buffers)
        buffers[owner[name]] = _Buffer(tensor_bytes(program, name, alignment), step, last_read.get(name, step))

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


def _lowest_free(buffer: _Buffer, placed: list[_Place]) -> int:
    """`placed` is in the order of offsets. Plain, as a large Program comes here tens of millions of times."""
    size, first, last = buffer.size, buffer.first, buffer.last
    offset = 0
    for start, end, rival_first, rival_last in placed:
        if end > offset and rival_first <= last and first <= rival_last:
            if offset + size <= start:
                break
            offset = end
    return offset


def check(program: Program, candidate: Plan, scratch: Mapping[str, int] = EMPTY) -> None:
    """Run the Program on an arena that only remembers which values are whole; every read must find its value so.

    An instruction writes its scratch before it reads anything, and while it writes its output.

    Values are held as intervals, so that neither time nor memory grows with the bytes that a file asks for. Written
    apart from `plan` and without its notion of lifetimes, so that a mistake there is found here.

    Raises:
        InvalidProgramError: An activation would be overwritten before its last reader, or lies outside the arena.
    """
    activations = [name for name, tensor in program.tensors.items() if tensor.data is None]
    cells = {
        name: _cells(candidate, name, candidate.offsets[name], _sample_bytes(program, name)) for name in activations
    }
    whole = _Whole(cells)
    for port in program.inputs:
        whole.write(port.value)
    for instruction in program.instructions:
        if scratch.get(instruction.name):
            name = f"the scratch of {instruction.name}"
            own = _cells(candidate, name, candidate.scratch[instruction.name], scratch[instruction.name])
            whole.overwrite(own)
            _check_overlap(instruction, own, cells[instruction.name], name, False)
        for name in instruction.inputs:
            if name in cells:
                whole.require(name, instruction.name)
                alike = _sample_bytes(program, name) == _sample_bytes(program, instruction.name)
                _check_overlap(instruction, cells[name], cells[instruction.name], name, alike)
        whole.write(instruction.name)
    for port in program.outputs:
        if port.value in cells:
            whole.require(port.value, f"output {port.name}")


class _Whole:
    """The values that nothing has written over since they were made: no two of them share a cell."""

    def __init__(self, cells: Mapping[str, slice]) -> None:
        self._cells = cells
        self._starts: list[int] = []  # of those that are whole, in order
        self._names: list[str] = []  # beside them

    def write(self, name: str) -> None:
        """A value is made."""
        place = self.overwrite(self._cells[name])
        self._starts.insert(place, self._cells[name].start)
        self._names.insert(place, name)

    def overwrite(self, cells: slice) -> int:
        """Forget the values that have some of these cells; the place of a value there among those that are left."""
        first = bisect_right(self._starts, cells.start)
        if first and self._cells[self._names[first - 1]].stop > cells.start:
            first -= 1
        last = bisect_left(self._starts, cells.stop, first)
        del self._starts[first:last], self._names[first:last]
        return first

    def require(self, name: str, reader: str) -> None:
        """Raise InvalidProgramError unless the value is whole."""
        place = bisect_left(self._starts, self._cells[name].start)
        if self._names[place : place + 1] != [name]:
            raise InvalidProgramError(f"memory plan: {name} is overwritten before {reader} reads it")


def _cells(candidate: Plan, name: str, start: int, size: int) -> slice:
    """The aligned cells of the arena that an activation, or scratch, takes."""
    alignment = candidate.alignment
    end = start + _aligned(size, alignment)
    if start < 0 or start % alignment or end > candidate.size:
        raise InvalidProgramError(
            f"memory plan: {name} at {start} to {end} leaves the arena of {candidate.size} bytes, or its alignment"
        )
    return slice(start // alignment, end // alignment)


def _check_overlap(instruction: Instruction, source: slice, out: slice, name: str, alike: bool) -> None:
    """`alike`: whether both have as many bytes; a batch multiplies those."""
    overlaps = source.start < out.stop and out.start < source.stop
    if overlaps and not (REGISTRY[instruction.op].in_place and source == out and alike):
        raise InvalidProgramError(f"memory plan: {instruction.name} would overwrite its own input {name}")
