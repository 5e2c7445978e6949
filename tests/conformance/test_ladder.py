"""The ladder: oracle = integer meaning = interpreter = PyTorch = scalar C = every vector kernel, 0 mismatches."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, Draw, build, codes_for, drawn_cases
from tests.conformance.witness import Witness, by_engine, by_interpreter, by_oracle, by_torch
from unfloat import _native
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, Operator
from unfloat.runtime.engine import Engine
from unfloat.spec.fixedpoint import ROUNDINGS

CASES = [pytest.param(o, case, draw, id=f"{o.name}: {case.label}-{draw.name}") for o, case, draw in drawn_cases()]
THREADED = [param for param in CASES if param.values[2].name in ("int8-ties", "int16x8-ties")]
BARE = [param for param in CASES if param.values[2].name in ("int8", "int16x8")]
ORACLE_WORK = 60_000  # multiply-accumulates of one sample that the plain Python oracle is asked for


def mismatches(witness: Witness, truth: np.ndarray, program: object, inputs: list[np.ndarray]) -> int:
    found = witness(program, inputs)  # type: ignore[arg-type]
    assert found.shape == truth.shape
    return int((found != truth).sum())


def test_every_operator_has_cases() -> None:
    for operator in REGISTRY.values():
        if operator.integer_meaning is not None:
            assert len(list(operator.cases())) >= 2, operator.name


LINEAR = sorted(operator.name for operator in REGISTRY.values() if "shift" in operator.constants)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", LINEAR)
def test_factors_lie_on_both_sides_of_one(name: str, rounding: str) -> None:
    """Left shifts, none and right shifts: each is a branch of its own in every rung."""
    programs = (
        build(operator, case, draw)
        for operator, case, draw in drawn_cases()
        if operator.name == name and draw.rounding == rounding
    )
    signs = {int(sign) for program in programs for sign in np.sign(program.instructions[0].constants["shift"])}
    assert signs == {-1, 0, 1}


@pytest.mark.parametrize(("operator", "case", "draw"), CASES)
def test_ladder(operator: Operator, case: Case, draw: Draw) -> None:
    program = build(operator, case, draw)
    inputs = codes_for(program, 2, f"{operator.name}/{case.label}/{draw.name}")
    truth = by_interpreter(program, inputs)
    assert mismatches(by_torch, truth, program, inputs) == 0
    for level in _native.levels():
        assert mismatches(by_engine(level), truth, program, inputs) == 0, level
    if program.verify().macs <= ORACLE_WORK:
        one = [x[:1] for x in inputs]
        assert mismatches(by_oracle, truth[:1], program, one) == 0


@pytest.mark.parametrize(("draw", "ending"), [("int8", ""), ("int8-4bits", "_int4"), ("int16x8", "_int16")])
@pytest.mark.parametrize("name", ["conv2d", "fully_connected"])
def test_narrow_weights_and_wide_codes_have_kernels_of_their_own(name: str, draw: str, ending: str) -> None:
    programs = [build(o, case, d) for o, case, d in drawn_cases() if o.name == name and d.name == draw]
    for level in {"scalar", "avx512vnni"} & set(_native.levels()):
        kernels = {kernel for program in programs for kernel in Engine(program, level=level).kernels().values()}
        assert f"{name}__{level}{ending}" in kernels


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("operator", "case", "draw"), THREADED)
def test_threads_and_batches_change_nothing(operator: Operator, case: Case, draw: Draw, threads: int) -> None:
    program = build(operator, case, draw)
    inputs = codes_for(program, 3, case.label)
    truth = by_interpreter(program, inputs)
    for level in _native.levels():
        assert mismatches(by_engine(level, threads), truth, program, inputs) == 0, level


@pytest.mark.parametrize(("operator", "case", "draw"), BARE)
def test_nothing_gives_nothing(operator: Operator, case: Case, draw: Draw) -> None:
    """An empty batch has a result of its shape, everywhere."""
    program = build(operator, case, draw)
    inputs = codes_for(program, 0, case.label)
    shape = (0, *program.outputs[0].shape[1:])
    for witness in (by_interpreter, by_torch, by_engine("scalar")):
        assert witness(program, inputs).shape == shape


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("average_pool2d", {"kernel": (256, 256), "stride": (1, 1), "padding": (0, 0, 0, 0)}),
        ("mean", {"axes": (1, 2), "keep_dims": 0}),
    ],
)
def test_the_most_words_that_32_bits_can_sum(name: str, attributes: dict[str, object]) -> None:
    """65,536 of the lowest code are the least int32, which has no magnitude."""
    draw = next(draw for draw in DRAWS if draw.name == "int16x8")
    program = build(REGISTRY[name], Case("256 x 256", ((256, 256, 2),), attributes), draw)
    inputs = [np.full((1, 256, 256, 2), -32768, np.int16)]
    inputs[0][..., 1] = 32767
    truth = by_interpreter(program, inputs)
    assert mismatches(by_torch, truth, program, inputs) == 0
    for level in _native.levels():
        assert mismatches(by_engine(level), truth, program, inputs) == 0, level
    assert mismatches(by_oracle, truth, program, inputs) == 0
