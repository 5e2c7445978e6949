"""The certificate: exact bounds, attained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, all_cases, build
from tests.program.nets import small_net
from unfloat.ir.instruction import Tensor
from unfloat.ops import REGISTRY
from unfloat.program.certificate import verify
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.numpy_backend import NumpyBackend
from unfloat.spec.qparams import STORAGE, QParams, positive_scale


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


def test_no_accumulator_passes_the_reach() -> None:
    """What is asked first, before sums are made: too large is slow, too small would let an overflow through."""
    asked = 0
    for operator, case in all_cases():
        if operator.reach is None:
            continue
        for draw in DRAWS:
            program = build(operator, case, draw)
            (instruction,) = (i for i in program.instructions if i.op == operator.name)
            inputs = [program.tensors[name] for name in instruction.inputs]
            low, high, shift = operator.accumulators(instruction, inputs)  # type: ignore[misc]
            greatest = max(int((high << shift).max()), -int((low << shift).min()))
            assert greatest <= operator.reach(instruction, inputs), (operator.name, case.label, draw.name)
            asked += 1
    assert asked > 100


def test_the_largest_accumulators_are_summed_exactly() -> None:
    """A layer whose weights may be too large, but are not: the reach says no, the sums say yes."""
    operator, case = next((o, c) for o, c in all_cases() if c.label == "4 -> 16")
    program = build(operator, case, DRAWS[0])
    (layer,) = program.instructions
    bias = layer.constants["bias"].copy()
    exact = operator.accumulators(layer, [program.tensors["x0"]])  # type: ignore[misc]
    room = 2**31 - 1 - (int(exact[1][3]) - int(bias[3]))
    for at, fits in ((room, True), (room + 1, False)):
        bias[3] = at
        changed = changed_layer(program, bias=bias)
        (instruction,) = changed.instructions
        assert operator.reach(instruction, [program.tensors["x0"]]) > 2**31 - 1  # type: ignore[misc]
        if fits:
            assert max(bound.greatest for bound in verify(changed).bounds) == 2**31 - 1
        else:
            with pytest.raises(InvalidProgramError, match="accumulators that fit int32"):
                verify(changed)


def wide_layer() -> Program:
    """A fully connected layer of 1,280 inputs on int16 codes."""
    operator, case = next((o, c) for o, c in all_cases() if c.label == "1280 -> 100")
    return build(operator, case, next(draw for draw in DRAWS if draw.name == "int16x8"))


def changed_layer(program: Program, output: QParams | None = None, **constants: np.ndarray) -> Program:
    """Its one layer with other constants, or with another output label and what follows from it."""
    (layer,) = program.instructions
    tensors = dict(program.tensors)
    if output is not None:
        tensors["out"] = replace(tensors["out"], qparams=output)
        derived = REGISTRY[layer.op].derive(layer, [tensors["x0"]], tensors["out"])
        constants = {role: derived[role] for role in ("multiplier", "shift")}
    return replace(program, tensors=tensors, instructions=(replace(layer, constants={**layer.constants, **constants}),))


def test_wide_accumulators_are_proved_too() -> None:
    program = wide_layer()
    assert verify(program).bounds[0].bits <= 47
    (layer,) = program.instructions
    for wrong, message in (
        (2**47 - 1, "accumulators that fit 48 bits"),
        (-(2**47) + 1, "accumulators that fit 48 bits"),
        (2**47, "a bias that fits 48 bits"),
        (2**63 - 1, "a bias that fits 48 bits"),  # a sum with it would wrap to an innocent one
        (-(2**63), "a bias that fits 48 bits"),
    ):
        large = layer.constants["bias"].copy()
        large[7] = wrong
        with pytest.raises(InvalidProgramError, match=message):
            verify(changed_layer(program, bias=large))
    unit = program.tensors["x0"].qparams.scale[0] * max(layer.labels["weight"].scale)
    tiny = QParams((positive_scale(unit / 100),), 0, "int16", 16)
    with pytest.raises(InvalidProgramError, match="fit int32 before they are clamped"):
        verify(changed_layer(program, tiny))


@pytest.mark.parametrize(("rounding", "wide"), [("double", True), ("acc64", False)])
def test_the_rounding_follows_the_storage(rounding: str, wide: bool) -> None:
    program = wide_layer() if wide else small_net()
    layer = next(i for i in program.instructions if REGISTRY[i.op].accumulate is not None)
    bias = layer.constants["bias"].astype(np.int64 if rounding == "acc64" else np.int32)
    changed = replace(
        layer, attributes={**layer.attributes, "rounding": rounding}, constants={**layer.constants, "bias": bias}
    )
    instructions = tuple(changed if i is layer else i for i in program.instructions)
    with pytest.raises(InvalidProgramError, match="acc64 rounding on int16 codes alone"):
        verify(replace(program, instructions=instructions))


def test_widths_do_not_mix() -> None:
    program = wide_layer()
    narrow = replace(program.tensors["out"], qparams=QParams((1.0,), 0))
    with pytest.raises(InvalidProgramError, match="codes of one width, found int16, int8"):
        verify(replace(program, tensors={**program.tensors, "out": narrow}))


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


def test_an_output_that_is_a_constant_is_refused() -> None:
    program = small_net()
    port, value = program.outputs[0], "of the file"
    label = program.tensors[port.value].qparams
    constant = Tensor(value, (1, 3), label, np.full((1, 3), label.zero_point, STORAGE[label.dtype]))
    tensors = {**program.tensors, value: constant}
    other = replace(port, name="more", value=value, shape=(1, 3), permutation=(0, 1))
    with pytest.raises(InvalidProgramError, match="output more: required an activation, found a constant"):
        verify(replace(program, tensors=tensors, outputs=(port, other)))
