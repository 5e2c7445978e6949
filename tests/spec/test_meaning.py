"""Every operator's integers against its own reals: the codes lie within one step of what the float meaning gives.

The ladder compares integers with integers, made from the same multipliers and zero points; here those are on trial too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.generate import Draw, build, codes_for, drawn_cases
from tests.conformance.witness import operands_of
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, Operator
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.numpy_backend import NumpyBackend
from unfloat.spec.qparams import QParams

CASES = [pytest.param(o, case, draw, id=f"{o.name}: {case.label}-{draw.name}") for o, case, draw in drawn_cases()]
# Half a step, and what two roundings in a row or a truncated factor can add to it.
NEAR = 0.75 + 1e-6
REDUCED = 2.0**-15  # of a result: what a multiplier of 15 bits may add
# On int16 codes TFLite's rule is lines between the points of a table: steps of 2^-15 that they lie off the curve. The
# exponentials of a softmax's row are summed, and divided by, in 16 bits.
TABLED = {"logistic": 1.5, "tanh": 2.5, "softmax": 33.0}
GATED = 2.0**-9  # of an LSTM's first row: gates in Q3.12, which end at 8, tables, and a cell of 16 bits


def real(codes: np.ndarray, label: QParams) -> np.ndarray:
    """The numbers that codes stand for, in float64."""
    return label.scales(codes.ndim).astype(np.float64) * (codes.astype(np.float64) - label.zero_point)


def real_params(instruction: Instruction, input_label: QParams) -> dict[str, Any]:
    """Weights and bias as reals, from their codes."""
    labels, constants = instruction.labels, instruction.constants
    params = {role: real(constants[role], labels[role]) for role in labels.keys() & constants.keys()}
    if "weight" not in params:
        return {}
    scales = input_label.scale[0] * np.asarray(labels["weight"].scale)
    if instruction.op == "svdf":
        scales = np.asarray(labels["state"].scale) * np.asarray(labels["time"].scale)
    gates = constants["bias"].ndim - 1  # an LSTM's have units behind them
    return {**params, "bias": constants["bias"] * scales.reshape(-1, *(1 for _ in range(gates)))}


def real_result(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """The float meaning of a Program of one instruction, in steps of the output, the zero point added, clamped."""
    (instruction,) = program.instructions
    operator = REGISTRY[instruction.op]
    labels = [program.tensors[name].qparams for name in instruction.inputs]
    params = real_params(instruction, labels[0])
    operands = [real(x, label) for x, label in zip(operands_of(program, inputs), labels, strict=True)]
    result = operator.float_meaning(NumpyBackend(), instruction.attributes, operands, params)
    result = result if operator.own_bias else result + params.get("bias", 0.0)
    output = program.tensors[instruction.name].qparams
    low = instruction.attributes.get("clamp_min", output.qmin)
    high = instruction.attributes.get("clamp_max", output.qmax)
    return np.clip(result / output.scale[0] + output.zero_point, low, high)


def inner_error(instruction: Instruction, output: QParams) -> float | np.ndarray:
    """What is rounded on the way to the output's steps, in these steps."""
    if instruction.op == "lstm":
        return GATED / output.scale[0]
    if instruction.op == "svdf":  # a feature, of which the newest alone is not zero
        weights = np.abs(instruction.constants["time"][:, -1].astype(np.float64))
        step = instruction.labels["state"].scale[0] * instruction.labels["time"].scale[0] / output.scale[0]
        return NEAR * step * weights.reshape(-1, instruction.attributes["rank"]).sum(axis=1)
    return 0.0


@pytest.mark.parametrize(("operator", "case", "draw"), CASES)
def test_codes_are_within_a_step_of_the_reals(operator: Operator, case: Case, draw: Draw) -> None:
    program = build(operator, case, draw)
    inputs = codes_for(program, 2, f"{operator.name}/{case.label}/{draw.name}")
    found = interpret(program, inputs)[0].astype(np.float64)
    near = NEAR + (REDUCED * np.abs(found) + TABLED.get(operator.name, 0.0) if draw.storage == "int16" else 0.0)
    expected = real_result(program, inputs)
    if operator.name == "lstm":  # later rows see what was rounded, and clamped, before them
        found, expected = found[:, :1], expected[:, :1]
    (instruction,) = program.instructions
    near = near + inner_error(instruction, program.tensors["out"].qparams)
    assert (np.abs(found - expected) <= near).all()
