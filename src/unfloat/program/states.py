"""What a Program's instructions remember from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping

from unfloat.ir.graph import EMPTY
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._operator import State
from unfloat.program.program import Program


def kept_states(program: Program, instruction: Instruction) -> Mapping[str, State]:
    """What one instruction remembers, by role; nothing where every run begins anew."""
    operator = REGISTRY[instruction.op]
    if operator.states is None or not instruction.attributes.get("carried", 1):
        return EMPTY
    return operator.states(instruction, program.tensors[instruction.name])


def remembers(program: Program) -> bool:
    """Whether a run's outputs depend on the runs before it."""
    return any(kept_states(program, instruction) for instruction in program.instructions)
