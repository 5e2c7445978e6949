"""The certificate says what holds, and every way to break it is caught by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unfloat
from tests.conformance.generate import DRAWS, all_cases, build, codes_for
from tests.program.nets import small_net
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.survey import survey_of
from unfloat.ir.instruction import Instruction
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError, NumericDomainError

Break = Callable[[Program], Program]


def with_layer(name: str, change: Callable[[Instruction], Instruction]) -> Break:
    """The program with one instruction changed."""

    def broken(program: Program) -> Program:
        layers = tuple(change(i) if i.name == name else i for i in program.instructions)
        return replace(program, instructions=layers)

    return broken


def attribute(name: str, role: str, change: Callable[[Any], Any]) -> Break:
    return with_layer(name, lambda i: replace(i, attributes={**i.attributes, role: change(i.attributes[role])}))


def constant(name: str, role: str, change: Callable[[np.ndarray], np.ndarray]) -> Break:
    return with_layer(name, lambda i: replace(i, constants={**i.constants, role: change(i.constants[role].copy())}))


def label(name: str, **changes: Any) -> Break:
    def broken(program: Program) -> Program:
        tensor = program.tensors[name]
        changed = replace(tensor, qparams=replace(tensor.qparams, **changes))
        return replace(program, tensors={**program.tensors, name: changed})

    return broken


def first(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """An array with another first element."""

    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[0] = value
        return array

    return change


def added(difference: int) -> Callable[[Any], Any]:
    return lambda value: value + difference


def overflow_by(excess: int) -> Break:
    """The bias of a layer without left shift at which the greatest accumulator is 2^31 - 1, and `excess` more."""

    def broken(program: Program) -> Program:
        bound = next(bound for bound in program.verify().bounds if bound.name == "fc")
        layer = next(i for i in program.instructions if i.name == "fc")
        weight = layer.constants["weight"].astype(np.int64)
        span = program.tensors[layer.inputs[0]].qparams
        ends = [end - span.zero_point for end in (span.qmin, span.qmax)]
        greatest = np.maximum(weight * ends[0], weight * ends[1]).sum(axis=1)
        assert bound.greatest == (greatest + layer.constants["bias"]).max()
        return constant("fc", "bias", first(2**31 - 1 - int(greatest[0]) + excess))(program)

    return broken


BROKEN: dict[str, tuple[Break, str]] = {
    "weights that are floats": (constant("a", "weight", lambda w: w.astype(np.float32)), "a.*weight of int8"),
    "a bias that is a float": (constant("b", "bias", lambda b: b.astype(np.float64)), "b.*bias of int32"),
    "a multiplier that is a float": (attribute("sum", "output_multiplier", float), "sum.*output_multiplier"),
    "an overflow by one": (overflow_by(1), "fc.*accumulators that fit int32"),
    "a shift one too large": (constant("a", "shift", lambda s: s + np.int8(1)), r"a.*shift\[0\]"),
    "a shift one too small": (constant("fc", "shift", lambda s: s - np.int8(1)), r"fc.*shift\[0\]"),
    "a scalar shift that is wrong": (attribute("pool", "shift", added(1)), "pool.*shift"),
    "a multiplier one too large": (constant("b", "multiplier", lambda m: m + np.int32(1)), r"b.*multiplier\[0\]"),
    "an input multiplier of a sum": (
        attribute("sum", "input_multipliers", lambda m: (m[0], m[1] - 1)),
        "sum.*input_mu",
    ),
    "another zero point": (attribute("a", "input_zero_point", added(1)), "a.*input_zero_point"),
    "a label that multipliers do not follow": (label("b", scale=(0.5,)), r"b.*multiplier\[0\]"),
    "a clamp outside the codes": (attribute("a", "clamp_min", lambda _: -129), "a.*clamp codes in order"),
    "a rounding that nobody knows": (attribute("a", "rounding", lambda _: "nearest"), "a.*rounding"),
    "a rounding of other accumulators": (attribute("a", "rounding", lambda _: "acc64"), "a.*bias of int64"),
    "an operator that nobody knows": (with_layer("pool", lambda i: replace(i, op="exp")), "pool.*integer operator"),
    "an operand from nowhere": (with_layer("b", lambda i: replace(i, inputs=("ghost",))), "b.*already known"),
    "a weight for other channels": (constant("fc", "weight", lambda w: w[:, :7]), "fc"),
    "a weight outside its bits": (
        with_layer("b", lambda i: replace(i, labels={"weight": replace(i.labels["weight"], bits=4)})),
        "b.*weight codes in",
    ),
    "a reshape that changes its codes' meaning": (label("flat", zero_point=1), "flat.*QParams of its output"),
    "an attribute too many": (
        with_layer("a", lambda i: replace(i, attributes={**i.attributes, "scale": 0.5})),
        "a.*attributes",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_programs_are_caught_by_name(name: str) -> None:
    broken, message = BROKEN[name]
    with pytest.raises((InvalidProgramError, NumericDomainError), match=f"instruction {message}"):
        broken(small_net()).verify()


def test_the_last_accumulator_that_fits_is_proved() -> None:
    """One less than the overflow above."""
    bound = next(bound for bound in overflow_by(0)(small_net()).verify().bounds if bound.name == "fc")
    assert (bound.greatest, bound.bits, bound.margin) == (2**31 - 1, 32, 0)


def test_what_a_certificate_says() -> None:
    program = small_net()
    found = program.verify()
    assert [(c.role, c.name, c.dtype) for c in found.border] == [("input", "x", "int8"), ("output", "y", "int8")]
    assert found.roundings == ("double",)
    assert [value.name for value in found.ranges] == ["x", *(i.name for i in program.instructions)]
    relu6 = next(value for value in found.ranges if value.name == "a")
    assert relu6.real_least == 0
    assert relu6.real_greatest <= 6


@pytest.mark.parametrize("draw", DRAWS, ids=lambda d: d.name)
def test_values_stay_in_their_ranges(draw: Any) -> None:
    """On codes chosen to reach far, of every operator's cases."""
    for operator, case in all_cases():
        if draw.storage not in operator.storages:
            continue
        program = build(operator, case, draw)
        found = {value.name: value for value in program.verify().ranges}
        codes = interpret(program, codes_for(program, 2, case.label))[0]
        assert found["out"].least <= codes.min(), (operator.name, case.label)
        assert codes.max() <= found["out"].greatest, (operator.name, case.label)


def test_the_identity_names_arithmetic_and_rounding() -> None:
    program = small_net()
    single = [
        replace(i, attributes={**i.attributes, "rounding": "single"}) for i in program.instructions if i.name == "a"
    ]
    other = replace(program, instructions=(*single, *program.instructions[1:]))
    found, changed = program.verify(), other.verify()
    assert changed.roundings == ("double", "single")
    assert len({found.identity, changed.identity, found.digest, changed.digest}) == 4
    assert found.identity == small_net().verify().identity


def test_islands_and_border_are_told_apart() -> None:
    """QUANTIZE and DEQUANTIZE of the border, an island of two between codes."""
    label = Quantization((0.5,))
    shapes = {"x": "float32", "q": "int8", "f": "float32", "g": "float32", "r": "int8", "y": "float32"}
    tensors = {n: TfTensor(n, (1, 4), kind, label if kind == "int8" else None) for n, kind in shapes.items()}
    steps = [("QUANTIZE", "x", "q"), ("DEQUANTIZE", "q", "f"), ("EXP", "f", "g"), ("QUANTIZE", "g", "r")]
    steps.append(("DEQUANTIZE", "r", "y"))
    options = {"QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions", "EXP": "ExpOptions"}
    operators = tuple(TfOperator(b, 1, (source,), (made,), options[b], {}) for b, source, made in steps)
    found = survey_of(TfModel(tensors, operators, (("x", "x"),), (("y", "y"),)))
    assert [place.index for place in found.border] == [0, 4]
    assert [place.index for place in found.islands] == [1, 2, 3]
    assert not found.integer_only
    assert str(found.islands[1]) == "operator 2 (EXP), which makes g: float32 in f"


def test_a_file_is_surveyed_whether_it_can_be_read_or_not(tmp_path: Path) -> None:
    label = Quantization((0.5,))
    tensors = {n: TfTensor(n, (1, 4), "int8", label) for n in ("x", "y")}
    operator = TfOperator("CUMSUM", 1, ("x",), ("y",), "CumsumOptions", {})
    path = tmp_path / "net.tflite"
    path.write_bytes(encode(TfModel(tensors, (operator,), (("x", "x"),), (("y", "y"),)), "a test"))
    assert unfloat.survey(path).integer_only
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InvalidProgramError, match=r"net\.tflite"):
        unfloat.survey(path)


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "mbnet128_0.25_q", "mobilenet_v1_0.25_128_quant", "person_detect",
        "pretrainedResnet_quant", "tf2_mobilenet_v2_1.0_224_ptq", "vww_96_int8",
    ],
)  # fmt: skip
def test_public_models_are_integer_only(name: str, data_folder: Path) -> None:
    path = data_folder / "tflite" / f"{name}.tflite"
    assert unfloat.survey(path).integer_only
    found = unfloat.load(path).verify()
    assert found.widest is not None
    assert found.widest.margin >= 0


@pytest.mark.data
def test_a_public_float_model_is_not(data_folder: Path) -> None:
    found = unfloat.survey(data_folder / "tflite" / "vww_96_float.tflite")
    assert (len(found.islands), found.operators, found.border) == (31, 31, ())
