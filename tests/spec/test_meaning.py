"""Every operator's integers against its own reals: the codes lie within one step of what the float meaning gives.

The ladder compares integers with integers, made from the same multipliers and zero points; here those are on trial too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.generate import Draw, build, codes_for, drawn_cases
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, Operator
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.backend import NumpyBackend
from unfloat.spec.qparams import QParams

CASES = [pytest.param(o, case, draw, id=f"{o.name}: {case.label}-{draw.name}") for o, case, draw in drawn_cases()]
# Half a step, and what two roundings in a row or a truncated factor can add to it.
NEAR = 0.75 + 1e-6
REDUCED = 2.0**-15  # of a result: what a multiplier of 15 bits may add
# On int16 codes TFLite's rule is lines between the points of a table: steps of 2^-15 that they lie off the curve. The
# exponentials of a softmax's row are summed, and divided by, in 16 bits.
TABLED = {"logistic": 1.5, "tanh": 2.5, "softmax": 33.0}


def real(codes: np.ndarray, label: QParams) -> np.ndarray:
    """The numbers that codes stand for, in float64."""
    return label.scales(codes.ndim).astype(np.float64) * (codes.astype(np.float64) - label.zero_point)


def real_params(instruction: Instruction, input_label: QParams) -> dict[str, Any]:
    """Weight and bias as reals, from their codes."""
    if "weight" not in instruction.constants:
        return {}
    label = instruction.labels["weight"]
    weight = real(instruction.constants["weight"], label)
    bias = instruction.constants["bias"] * (input_label.scale[0] * np.asarray(label.scale))
    return {"weight": weight, "bias": bias}


def real_result(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """The float meaning of a Program of one instruction, in steps of the output, the zero point added, clamped."""
    (instruction,) = program.instructions
    operator = REGISTRY[instruction.op]
    labels = [program.tensors[name].qparams for name in instruction.inputs]
    params = real_params(instruction, labels[0])
    operands = [real(x, label) for x, label in zip(inputs, labels, strict=True)]
    result = operator.float_meaning(NumpyBackend(), instruction.attributes, operands, params)
    result = result + params.get("bias", 0.0)
    output = program.tensors[instruction.name].qparams
    low = instruction.attributes.get("clamp_min", output.qmin)
    high = instruction.attributes.get("clamp_max", output.qmax)
    return np.clip(result / output.scale[0] + output.zero_point, low, high)


@pytest.mark.parametrize(("operator", "case", "draw"), CASES)
def test_codes_are_within_a_step_of_the_reals(operator: Operator, case: Case, draw: Draw) -> None:
    program = build(operator, case, draw)
    inputs = codes_for(program, 2, f"{operator.name}/{case.label}/{draw.name}")
    found = interpret(program, inputs)[0].astype(np.float64)
    near = NEAR + (REDUCED * np.abs(found) + TABLED.get(operator.name, 0.0) if draw.storage == "int16" else 0.0)
    assert (np.abs(found - real_result(program, inputs)) <= near).all()
