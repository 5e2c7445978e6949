"""The certificate: exact bounds, attained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, all_cases, build
from tests.program.nets import small_net
from unfloat.ops import REGISTRY
from unfloat.program.verify import verify
from unfloat.spec.backend import NumpyBackend
from unfloat.spec.errors import InvalidProgramError


def test_certificate_of_a_small_net() -> None:
    certificate = small_net().verify()
    assert certificate.instructions == 6
    assert certificate.macs == 30 * 8 * 27 + 30 * 8 * 72 + 40
    assert certificate.widest is not None
    assert certificate.widest.bits <= 24
    assert certificate.digest == small_net().digest()


def test_the_accumulator_bound_is_attained() -> None:
    """The inputs that reach the greatest and least accumulator are found, and give exactly the bound."""
    operator, case = next((o, c) for o, c in all_cases() if o.accumulate is not None and c.label == "4 -> 16")
    program = build(operator, case, DRAWS[0])
    (instruction,) = program.instructions
    label = program.tensors["x0"].qparams
    weight = instruction.constants["weight"].astype(np.int64)
    backend = NumpyBackend()
    constants = {role: backend.constant(a) for role, a in instruction.constants.items()}
    low, high, shift = REGISTRY[operator.name].accumulators(instruction, [program.tensors["x0"]])  # type: ignore[misc]
    for channel in range(16):
        for bound, codes in ((high, (label.qmin, label.qmax)), (low, (label.qmax, label.qmin))):
            x = np.where(weight[channel] > 0, codes[1], codes[0])[None]
            found = operator.accumulate(backend, instruction.attributes, constants, [x])  # type: ignore[misc]
            assert found[0, channel] + constants["bias"][channel] == bound[channel]
    assert program.verify().bounds[0].greatest == int((high << shift).max())


def test_a_zero_channel_and_a_large_bias_are_normal() -> None:
    program = small_net()
    weight = program.instructions[1].constants["weight"].copy()
    assert verify(program)
    weight[3] = 0
    changed = replace(program.instructions[1], constants={**program.instructions[1].constants, "weight": weight})
    verify(replace(program, instructions=(program.instructions[0], changed, *program.instructions[2:])))


def test_a_constant_that_is_empty_is_refused() -> None:
    program = small_net()
    empty = replace(
        program.instructions[0], constants={**program.instructions[0].constants, "bias": np.zeros(0, np.int32)}
    )
    with pytest.raises(InvalidProgramError, match="bias not to be empty"):
        verify(replace(program, instructions=(empty, *program.instructions[1:])))
