"""Tables of functions: near the real function, odd or mirrored, monotone; and nobody may change one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests import oracle
from tests.conformance.generate import DRAWS, build
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import BATCH
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.ops.slopes import slope_pair, slope_value
from unfloat.program.interpret import interpret
from unfloat.program.lower import complete
from unfloat.program.verify import check
from unfloat.spec import activation as act
from unfloat.spec.errors import ExportError, InvalidProgramError, NumericDomainError
from unfloat.spec.qparams import QParams, float32

STEPS = np.arange(-255, 256)
SCALES = [float32(2.0**k) for k in np.linspace(-20, 6, 53)]


@pytest.mark.parametrize("scale", SCALES)
def test_logistic_and_tanh_are_monotone_and_mirrored(scale: float) -> None:
    factor = act.sigmoid_input(scale)
    logistic, tanh = act.logistic_steps(STEPS, factor), act.tanh_steps(STEPS, factor)
    assert (np.diff(logistic) >= 0).all()
    assert (np.diff(tanh) >= 0).all()
    assert logistic[255] == 128
    assert tanh[255] == 0
    assert (np.abs(logistic + logistic[::-1] - 256) <= 1).all()  # 255 stands for 1
    assert (np.abs(tanh + tanh[::-1]) <= 1).all()  # and 127 for 1, where -128 is -1


@pytest.mark.parametrize("exponent", [-28, -29, -33, -60, -126])
def test_the_least_scales_give_the_code_at_zero(exponent: int) -> None:
    """An untrained network's: `255 * 2^-28` moves neither curve by a thousandth of a code."""
    factor = act.sigmoid_input(2.0**exponent)
    assert set(act.logistic_steps(STEPS, factor).tolist()) == {128}
    assert set(act.tanh_steps(STEPS, factor).tolist()) == {0}
    for op, witness in (("logistic", oracle.logistic), ("tanh", oracle.tanh)):
        program = build(REGISTRY[op], Case("least", ((256,),)), DRAWS[0])
        quiet = replace(program.tensors["x0"], qparams=QParams((2.0**exponent,), 3))
        (instruction,) = program.instructions
        made = complete(instruction, REGISTRY[op].derive(instruction, [quiet], program.tensors["out"]))
        program = replace(program, tensors={**program.tensors, "x0": quiet}, instructions=(made,))
        check(program)
        every = np.arange(-128, 128, dtype=np.int8)[None]
        expected = witness(oracle.Tensor.of((256,), lambda at: at[0] - 128), 2.0**exponent, 3, signed=True)
        assert {expected.at(i) for i in range(256)} == {0}
        assert not interpret(program, [every])[0].any()
        assert not np.any(program.compile().run(every))
        if exponent < -28:  # Micro's kernels shift by a negative number and give the ends
            with pytest.raises(ExportError, match="required an input scale from"):
                to_bytes(program)


@pytest.mark.parametrize("power", [-12, -11])
@pytest.mark.parametrize(("end", "inwards"), [(0, 1), (1, -1)])
def test_scales_near_a_power_of_two_are_taken_for_it(power: int, end: int, inwards: int) -> None:
    """The last float32 on either side of what TFLite's CheckedLog2 says, in both meanings."""
    last = np.float32(act.NEAR_POWERS[power][end])
    outside = np.nextafter(last, np.float32(-inwards), dtype=np.float32)
    assert act.curve_input(float(last), (power,)) == (3 << (power + 12), 0)
    assert act.curve_input(float(outside), (power,)) == act.curve_input(float(outside)) != (3 << (power + 12), 0)
    for scale in (float(last), float(outside)):
        for operator, witness, powers in (
            (act.logistic_curve, oracle.logistic_int16, act.LOGISTIC_POWERS),
            (act.tanh_curve, oracle.tanh_int16, act.TANH_POWERS),
        ):
            steps = np.arange(-32768, 32768, 97)
            ends = act.logistic_ends(act.LOGISTIC_BEYOND if operator is act.logistic_curve else act.TANH_BEYOND)
            found = act.along_curve(steps, ends.astype(np.int64), operator(*act.curve_input(scale, powers)))
            expected = witness(oracle.Tensor.of((len(steps),), lambda at, steps=steps: int(steps[at[0]])), scale)
            assert found.tolist() == [expected.at(i) for i in range(len(steps))]


def test_a_scale_out_of_reach_is_an_error() -> None:
    with pytest.raises(NumericDomainError, match="logistic and tanh"):
        act.curve_input(float32(8 / 3))


def test_hard_swish_needs_an_output_scale_of_its_size() -> None:
    assert 255 * 127 - act.hard_swish_steps(STEPS, 1.0, float32(1 / 127)).max() in (0, 1)  # 32767 stands for 1
    with pytest.raises(NumericDomainError, match="above its input's / 128"):
        act.hard_swish_steps(STEPS, 1.0, 2.0**-8)


@pytest.mark.parametrize("scale", SCALES)
def test_hard_swish_is_near_the_real_one(scale: float) -> None:
    real = scale * STEPS * np.clip(scale * STEPS + 3, 0, 6) / 6
    output_scale = float32(max(real.max() / 255, scale / 100))
    found = act.hard_swish_steps(STEPS, scale, output_scale)
    assert np.abs(found - real / output_scale).max() < 0.9


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("scale", SCALES)
def test_gelu_is_the_nearest_code(scale: float, approximate: str) -> None:
    label = QParams((float32(scale * 0.7),), -100)
    reals = STEPS * scale
    if approximate == "none":
        exact = np.array([x / 2 * math.erfc(-x / math.sqrt(2)) for x in reals])
    else:
        exact = reals / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (reals + 0.044715 * reals**3)))
    nearest = np.clip(np.sign(exact) * np.floor(np.abs(exact) / label.scale[0] + 0.5) - 100, -128, 127)
    assert (act.gelu_codes(reals, approximate, label) == nearest).all()


@pytest.mark.parametrize("slope", [0.0, 1.0, -0.3, 0.01, 1e-30, 3e30])
def test_a_slope_is_a_float32_in_integers(slope: float) -> None:
    assert slope_value({"slope": slope_pair(slope)}) == float32(slope)


def test_a_slope_that_is_no_float32_is_an_error() -> None:
    source = Tensor("x", (BATCH, 2), QParams((0.5,)))
    bad = Instruction("leaky_relu", "y", ("x",), {"slope": (1, 200)})
    with pytest.raises(NumericDomainError, match="must be a float32"):
        REGISTRY["leaky_relu"].derive(bad, [source], source)


@pytest.mark.parametrize("draw", ["int8", "uint8", "int16x8"])
def test_a_changed_table_is_an_error(draw: str) -> None:
    operator = REGISTRY["logistic"]
    program = build(operator, next(iter(operator.cases())), next(d for d in DRAWS if d.name == draw))
    (instruction,) = program.instructions
    table = instruction.constants["table"].copy()
    table[7] ^= 1
    changed = replace(program, instructions=(replace(instruction, constants={"table": table}),))
    with pytest.raises(InvalidProgramError, match=r"table\[7\] = -?\d+, which follows from the labels"):
        check(changed)
