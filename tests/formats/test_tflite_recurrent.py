"""SVDF and UNIDIRECTIONAL_SEQUENCE_LSTM: TensorFlow Lite Micro's bits over several runs in a row, and what is refused.

UNFLOAT_RANDOM_MODELS is how many random models of each kind are run; 30 unless it is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unfloat
from tests.conformance.generate import codes_for, generator
from tests.formats.test_tflite_peers import differing
from tests.peers.call import peer
from tests.peers.programs import in_a_row, legacy_pair
from tests.peers.protocol import Arrays
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.draft import snug
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import drafted, from_bytes, from_model
from unfloat.formats.tflite.read_float import FloatDraft
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import BATCH, Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.program.interpret import interpret
from unfloat.program.lower import complete
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError, UnsupportedError
from unfloat.spec.fixedpoint import quantize_multiplier, requantize
from unfloat.spec.qparams import QParams, float32

COUNT = int(os.environ.get("UNFLOAT_RANDOM_MODELS", "30"))
STEP = 74.0  # the root mean square of codes from -128 to 127
Rng = np.random.Generator
CLAMP = {"clamp_min": -128, "clamp_max": 127, "rounding": "double"}


def program_of(bare: Instruction, source: Tensor, output: Tensor) -> Program:
    instruction = complete(bare, REGISTRY[bare.op].derive(bare, [source], output))
    ports = [Port(t.name, t.name, t.shape, tuple(range(len(t.shape)))) for t in (source, output)]
    return Program((ports[0],), (ports[1],), {t.name: t for t in (source, output)}, (instruction,))


def scale(rng: Rng, middle: float, spread: float = 1.0) -> float:
    return float32(middle * 2.0 ** rng.uniform(-spread, spread))


def label(rng: Rng, middle: float) -> QParams:
    return QParams((scale(rng, middle),), int(rng.integers(-128, 128)))


def weights(rng: Rng, *shape: int) -> np.ndarray:
    """Now and then with the lowest code."""
    return rng.integers(rng.choice([-128, -127]), 128, shape).astype(np.int8)


def svdf(rng: Rng, dtype: str) -> Program:
    """Scales under which features and outputs saturate now and then; sums that 32 bits hold."""
    depth, units, rank, memory = (int(n) for n in rng.integers(1, (25, 9, 4, 13)))
    source = Tensor("x", (BATCH, depth), label(rng, 0.02))
    weight, top = weights(rng, units * rank, depth), 2 ** (15 if dtype == "int16" else 7)
    weight_scale = scale(rng, 0.005)
    reach = source.qparams.scale[0] * weight_scale * STEP**2 * depth**0.5
    state = QParams((scale(rng, 2 * reach / top),), 0, dtype, 16 if dtype == "int16" else 8)
    most = min(top - 1, int(2**30 / (2 * top * memory * rank)))
    time = rng.integers(-most, most + 1, (units * rank, memory)).astype(dtype)
    time_scale = scale(rng, 1 / most)
    spread = reach * time_scale * most * (memory * rank) ** 0.5
    bias = rng.normal(0, spread / (state.scale[0] * time_scale), units)
    output = Tensor("y", (BATCH, units), label(rng, spread / 64))
    labels = {
        "weight": snug(weight, QParams((weight_scale,))),
        "time": QParams((time_scale,), 0, dtype, state.bits),
        "state": state,
    }
    constants = {"weight": weight, "time": time, "bias": bias.clip(-(2**29), 2**29).astype(np.int32)}
    return program_of(Instruction("svdf", "y", ("x",), {"rank": rank, **CLAMP}, constants, labels), source, output)


def lstm(rng: Rng) -> Program:
    """Cells of every exponent, clips from one code to none, gates that saturate now and then."""
    steps, depth, units = (int(n) for n in rng.integers(1, (21, 25, 25)))
    source = Tensor("x", (BATCH, steps, depth), label(rng, 0.02))
    output = Tensor("y", (BATCH, steps, units), label(rng, 2.0**-7))
    weight, recurrent = weights(rng, 4, units, depth), weights(rng, 4, units, units)
    scales = [scale(rng, 1 / (source.qparams.scale[0] * STEP**2 * depth**0.5), 2) for _ in range(4)]
    own = [scale(rng, 1 / (output.qparams.scale[0] * STEP**2 * units**0.5), 2) for _ in range(4)]
    bias = rng.normal(0, 1, (4, units)) / (source.qparams.scale[0] * np.array(scales)[:, None])
    clip = int(2 ** rng.uniform(0, 15)) if rng.random() < 0.5 else 0
    labels = {
        "weight": snug(weight, QParams(tuple(scales), axis=0)),
        "recurrent": snug(recurrent, QParams(tuple(own), axis=0)),
        "cell": QParams((2.0 ** -int(rng.integers(9, 16)),), 0, "int16", 16),
    }
    constants = {"weight": weight, "recurrent": recurrent, "bias": bias.round().astype(np.int32)}
    fields = {"carried": 1, "cell_clip": clip, **CLAMP}
    return program_of(Instruction("lstm", "y", ("x",), fields, constants, labels), source, output)


KINDS: dict[str, Callable[[Rng], Program]] = {
    "svdf, int16 state": lambda rng: svdf(rng, "int16"),
    "svdf, int8 state": lambda rng: svdf(rng, "int8"),
    "lstm": lstm,
}


@pytest.mark.parametrize("kind", KINDS)
def test_random_models_over_runs_in_a_row(kind: str) -> None:
    """Three to five runs of each give Micro's bits; a file read again is the Program, to the byte."""
    rng, jobs = generator("recurrent", kind), {}
    for index in range(COUNT):
        program = KINDS[kind](rng)
        assert from_bytes(to_bytes(program)).digest() == program.digest()
        jobs[f"{kind} {index}"] = (program, codes_for(program, int(rng.integers(3, 6)), f"{kind} {index}"))
    assert not differing(peer("tflm"), jobs)
    assert any(remembered(program, inputs) for program, inputs in jobs.values())


def remembered(program: Program, inputs: Arrays) -> bool:
    """Whether the runs before count."""
    return any((a != b).any() for a, b in zip(in_a_row(program, inputs), interpret(program, inputs), strict=True))


def test_micro_forms_the_gates_factors_in_double() -> None:
    """Biases of the cell's gate at which a factor formed in float32 gives another code, seen through open gates."""
    rng, zero = generator("recurrent", "factors"), np.zeros((1, 1, 1), np.int8)
    programs = [open_gates(rng) for _ in range(10)]
    assert all((interpret(p, [zero])[0] != interpret(legacy(p), [zero])[0]).all() for p in programs)
    jobs = {str(k): (program, [zero]) for k, program in enumerate(programs)}
    assert not differing(peer("tflm"), jobs)


def open_gates(rng: Rng) -> Program:
    """A cell that shows the bits of its gate: one unit, whose bias lies where the two factors differ."""
    while True:
        scales = float32(2.0 ** rng.uniform(-20, -18)), float32(2.0 ** rng.uniform(-20, -18))
        exact, legacy = legacy_pair(*scales, 2.0**-12)
        near = (rng.integers(-14, 14, 4000) + 0.5) * 2.0**-12 / (scales[0] * scales[1])
        biases = near.astype(np.int64) + rng.integers(-40, 41, 4000)
        hard = biases[scaled(biases, exact) != scaled(biases, legacy)]
        if len(hard):
            break
    source, output = (Tensor(name, (BATCH, 1, 1), QParams((s,))) for name, s in (("x", scales[0]), ("y", 2.0**-15)))
    bias = np.array([[2**30], [0], [hard[0]], [2**30]], np.int32)
    constants = {"weight": np.zeros((4, 1, 1), np.int8), "recurrent": np.zeros((4, 1, 1), np.int8), "bias": bias}
    labels = {
        "weight": QParams((2.0**-10, 1.0, scales[1], 2.0**-10), axis=0, narrow=True),
        "recurrent": QParams((1.0,) * 4, axis=0, narrow=True),
        "cell": QParams((2.0**-15,), 0, "int16", 16),
    }
    fields = {"carried": 1, "cell_clip": 0, **CLAMP}
    return program_of(Instruction("lstm", "y", ("x",), fields, constants, labels), source, output)


def legacy(program: Program) -> Program:
    """The same with the factor of its cell's gate formed in float32."""
    (instruction,), source = program.instructions, program.tensors["x"].qparams
    constants = {role: np.array(instruction.constants[role]) for role in ("multiplier", "shift")}
    _, pair = legacy_pair(source.scale[0], instruction.labels["weight"].scale[2], 2.0**-12)
    constants["multiplier"][2], constants["shift"][2] = pair
    return replace(program, instructions=(replace(instruction, constants={**instruction.constants, **constants}),))


def test_micro_forms_the_svdf_factors_in_double() -> None:
    """Sums at which factors formed in float32 give other codes, into the state and out of it."""
    rng, jobs = generator("recurrent", "svdf factors"), {}
    for index in range(10):
        jobs[f"out of the state {index}"] = hard_biases(rng)
        jobs[f"into the state {index}"] = hard_features(rng)
    assert not differing(peer("tflm"), jobs)


def hard_sums(rng: Rng, exponents: tuple[float, float, float], most: int) -> tuple[list[float], np.ndarray]:
    """Three scales, and sums up to `most` whose codes are others where `first * second / third` is in float32."""
    while True:
        first, second, third = scales = [float32(2.0 ** rng.uniform(e, e + 2)) for e in exponents]
        exact, single = (quantize_multiplier(f) for f in (first * second / third, float32(first * second) / third))
        singles = quantize_multiplier(float32(float32(first * second) / third))
        near = (rng.integers(-100, 100, 4000) + 0.5) * third / (first * second)
        sums = near.astype(np.int64) + rng.integers(-6, 7, 4000)
        differ = (scaled(sums, exact) != scaled(sums, single)) & (scaled(sums, exact) != scaled(sums, singles))
        if (found := sums[differ & (np.abs(sums) <= most)]).size:
            return scales, found[:32]


def hard_biases(rng: Rng) -> tuple[Program, Arrays]:
    """Outputs that are their biases, scaled out of the state."""
    (state, time, out), sums = hard_sums(rng, (-12, -16, -4), 2**30)
    units = len(sums)
    constants = {"weight": np.zeros((units, 1)), "time": np.zeros((units, 1)), "bias": sums}
    return an_exact_svdf((0.5, 0.5, state, time, out), constants), [np.zeros((1, 1), np.int8)]


def hard_features(rng: Rng) -> tuple[Program, Arrays]:
    """Outputs that are the newest feature: a product of 127s and one 1 with weights that sum to what is asked."""
    depth = 128
    (scale, weight, state), sums = hard_sums(rng, (-10, -10, -4), 127 * 127 * (depth - 2))
    rest, ones = np.divmod(np.abs(sums), 127)
    rows = np.stack([np.clip(rest - 127 * k, 0, 127) for k in range(depth - 1)], axis=1)
    rows = np.concatenate([rows, ones[:, None]], axis=1) * np.sign(sums)[:, None]
    units = len(sums)
    constants = {"weight": rows, "time": np.ones((units, 1)), "bias": np.zeros(units)}
    program = an_exact_svdf((scale, weight, state, 1.0, state), constants)
    return program, [np.append(np.full(depth - 1, 127), 1).astype(np.int8)[None]]


def an_exact_svdf(scales: tuple[float, ...], constants: dict[str, np.ndarray]) -> Program:
    """An SVDF of rank 1 and no zero points; scales of input, weight, state, time and output."""
    dtypes = {"weight": np.int8, "time": np.int16, "bias": np.int32}
    units, depth = constants["weight"].shape
    source, output = Tensor("x", (BATCH, depth), QParams(scales[:1])), Tensor("y", (BATCH, units), QParams(scales[4:]))
    labels = {
        "weight": QParams(scales[1:2], narrow=True),
        "time": QParams(scales[3:4], 0, "int16", 16),
        "state": QParams(scales[2:3], 0, "int16", 16),
    }
    made = {role: array.astype(dtypes[role]) for role, array in constants.items()}
    return program_of(Instruction("svdf", "y", ("x",), {"rank": 1, **CLAMP}, made, labels), source, output)


def scaled(values: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    multiplier, shift = (np.array([value], np.int64) for value in pair)
    return np.asarray(requantize(values, multiplier, shift, "double"))


def test_runs_that_begin_anew_are_those_of_a_runtime_that_is_reset() -> None:
    """And without a reset a runtime goes on, whatever the Program says."""
    program = lstm(generator("recurrent", "anew"))
    anew = replace(program, instructions=(with_fields(program.instructions[0], carried=0),))
    assert to_bytes(anew) == to_bytes(program)
    (codes,) = codes_for(program, 4, "anew")
    jobs = [(to_bytes(anew), [codes[k : k + 1]]) for k in range(4)]
    answers = [answer[0] for answer in peer("tflm")(jobs)]
    np.testing.assert_array_equal(np.concatenate(answers), interpret(anew, [codes])[0])
    assert (in_a_row(anew, [codes])[0] != interpret(anew, [codes])[0]).any()


def with_fields(instruction: Instruction, **fields: Any) -> Instruction:
    return replace(instruction, attributes={**instruction.attributes, **fields})


def test_an_svdf_is_clamped_after_it() -> None:
    """The integer kernels compute no activation."""
    rng, jobs = generator("recurrent", "clamp"), {}
    for index in range(8):
        program = svdf(rng, "int16")
        low, high = sorted(int(code) for code in rng.integers(-60, 60, 2))
        narrow = replace(program, instructions=(with_fields(program.instructions[0], clamp_min=low, clamp_max=high),))
        jobs[str(index)] = (narrow, codes_for(program, 3, f"clamp {index}"))
        again = from_bytes(to_bytes(narrow)).instructions
        assert [i.op for i in again] == ["svdf"], "the clamp joins the instruction before it"
    assert not differing(peer("tflm"), jobs)


@pytest.mark.parametrize(("fields", "message"), [({"clamp_min": 0}, "all codes"), ({"rounding": "single"}, "rounding")])
def test_what_a_file_cannot_say_of_an_lstm(fields: dict[str, Any], message: str) -> None:
    program = lstm(generator("recurrent", "unsayable"))
    narrow = replace(program, instructions=(with_fields(program.instructions[0], **fields),))
    with pytest.raises(ExportError, match=message):
        to_bytes(narrow)


# --- others' files ---


def an_lstm() -> TfModel:
    return decode(to_bytes(lstm(generator("recurrent", "file"))))


def an_svdf() -> TfModel:
    return decode(to_bytes(svdf(generator("recurrent", "file"), "int16")))


def changed(model: TfModel, operands: dict[int, str | None] | None = None, **fields: Any) -> TfModel:
    """A model of one operator with other operands and options."""
    (operator,) = model.operators
    inputs = tuple((operands or {}).get(k, name) for k, name in enumerate(operator.inputs))
    return replace(model, operators=(replace(operator, inputs=inputs, fields={**operator.fields, **fields}),))


def retyped(model: TfModel, name: str, **changes: Any) -> TfModel:
    """A model with another meaning of one tensor."""
    return replace(model, tensors={**model.tensors, name: replace(model.tensors[name], **changes)})


def activation(name: str) -> tuple[str, str]:
    return "ActivationFunctionType", name


LSTMS: dict[str, tuple[Callable[[TfModel], TfModel], str]] = {
    "peephole": (lambda m: changed(m, {10: "y/bias_cell"}), "peepholes"),
    "projection": (lambda m: changed(m, {16: "y/weight_cell"}), "a projection"),
    "normalization": (lambda m: changed(m, {20: "y/bias_cell"}), "layer normalization"),
    "CIFG": (lambda m: changed(m, {1: None}), "CIFG"),
    "activation": (lambda m: changed(m, FusedActivationFunction=activation("RELU")), "the activation RELU"),
    "diagonal": (lambda m: changed(m, DiagonalRecurrentTensors=True), "diagonal"),
    "clip below a step": (lambda m: changed(m, CellClip=1e-9), "clip of one code at least"),
    "negative clip": (lambda m: changed(m, CellClip=-1.0), "clip of the cell of 0 or more"),
    "no variable": (lambda m: retyped(m, "y/hidden", variable=False), "variable tensor"),
    "shared state": (lambda m: changed(m, {18: "y/cell"}), "which others read"),
    "state that leaves": (lambda m: replace(m, outputs=(*m.outputs, ("c", "y/cell"))), "which others read"),
    "state of another label": (lambda m: retyped(m, "y/hidden", quantization=Quantization((0.5,))), "the output's"),
    "state of another size": (lambda m: retyped(m, "y/cell", shape=(1, 999)), "required a state of"),
    "cell of no power of two": (lambda m: retyped(m, "y/cell", quantization=Quantization((0.75,))), "power of two"),
    "cell of bytes": (lambda m: retyped(m, "y/cell", dtype="int8"), "a cell of int16"),
    "int16": (lambda m: retyped(retyped(m, "x", dtype="int16"), "x", quantization=Quantization((0.5,))), "int8 rows"),
    "hybrid": (lambda m: retyped(m, "x", dtype="float32", quantization=None), "computes with floats"),
    "several scales": (
        lambda m: retyped(m, "y/weight_cell", quantization=Quantization((0.5,) * 99, 0, 0)),
        "one scale",
    ),
    "asymmetric weights": (lambda m: retyped(m, "y/recurrent_cell", quantization=Quantization((0.5,), 3)), "symmetric"),
}


@pytest.mark.parametrize("name", LSTMS)
def test_other_lstms_are_refused_by_what_they_are(name: str) -> None:
    change, message = LSTMS[name]
    with pytest.raises(UnsupportedError, match=message):
        from_model(change(an_lstm()))


SVDFS: dict[str, tuple[Callable[[TfModel], TfModel], str]] = {
    "activation": (lambda m: changed(m, FusedActivationFunction=activation("RELU6")), "found RELU6"),
    "rank": (lambda m: changed(m, Rank=1000), "rows of 1000 filters"),
    "no variable": (lambda m: retyped(m, "y/state", variable=False), "variable tensor"),
    "state of another size": (lambda m: retyped(m, "y/state", shape=(1, 3)), "required a state of"),
    "state of bytes": (lambda m: retyped(m, "y/state", dtype="int8"), "stored alike"),
    "state with a zero point": (
        lambda m: retyped(
            retyped(m, "y/time", dtype="int8", data=m.tensors["y/time"].data.astype(np.int8)),
            "y/state",
            dtype="int8",
            quantization=Quantization((0.5,), 3),
        ),
        "symmetric state",
    ),
    "float": (lambda m: retyped(m, "x", dtype="float32", quantization=None), "computes with floats"),
}


@pytest.mark.parametrize("name", SVDFS)
def test_other_svdfs_are_refused_by_what_they_are(name: str) -> None:
    change, message = SVDFS[name]
    with pytest.raises(UnsupportedError, match=message):
        from_model(change(an_svdf()))


def test_states_that_operators_share_are_refused() -> None:
    """Two operators one after the other, with one state."""
    model = an_svdf()
    (first,) = model.operators
    tensors = {**model.tensors, "z": replace(model.tensors["y"], name="z")}
    second = replace(first, outputs=("z",))
    shared = replace(model, tensors=tensors, operators=(first, second), outputs=(("y", "y"), ("z", "z")))
    with pytest.raises(UnsupportedError, match="which others read"):
        from_model(shared)


def test_options_and_operands_that_change_nothing() -> None:
    """Twenty operands, a clip of the projection that there is not; SVDF without activation or bias."""
    model = an_lstm()
    (operator,) = model.operators
    short = changed(replace(model, operators=(replace(operator, inputs=operator.inputs[:20]),)), ProjClip=3.0)
    assert from_model(short).digest() == from_model(model).digest()
    plain = changed(an_svdf(), {3: None}, FusedActivationFunction=activation("NONE"))
    assert not from_model(plain).instructions[0].constants["bias"].any()


def test_time_may_come_first() -> None:
    """One sample's steps in front are no batch; several samples behind them are refused."""
    model = an_lstm()
    first = time_first(model, 1)
    program, plain = from_model(first), from_model(model)
    assert program.inputs[0].shape == (BATCH, *first.tensors["x"].shape)
    (codes,) = codes_for(plain, 3, "time")
    (found,) = in_a_row(program, [codes[:, :, None]])
    np.testing.assert_array_equal(found[:, :, 0], in_a_row(plain, [codes])[0])
    with pytest.raises(UnsupportedError, match="states of one sample"):
        from_model(time_first(model, 2))


def test_time_in_front_between_reshapes() -> None:
    """As Micro computes it."""
    model = time_first(an_lstm(), 1)
    numbers = {n: np.array([1, *model.tensors[n].shape[::2]], np.int32) for n in "xy"}
    turned = {n: TfTensor(n, tuple(numbers[n]), "int8", model.tensors[n].quantization) for n in "xy"}
    inner = {f"{n}/turned": replace(model.tensors[n], name=f"{n}/turned") for n in "xy"}
    shapes = [TfTensor("in", (3,), "int32", None, np.array(model.tensors["x"].shape, np.int32))]
    shapes.append(TfTensor("out", (3,), "int32", None, numbers["y"]))
    (operator,) = model.operators
    operators = (
        TfOperator("RESHAPE", 1, ("x", "in"), ("x/turned",), "ReshapeOptions"),
        replace(operator, inputs=("x/turned", *operator.inputs[1:]), outputs=("y/turned",)),
        TfOperator("RESHAPE", 1, ("y/turned", "out"), ("y",), "ReshapeOptions"),
    )
    tensors = {**model.tensors, **turned, **inner, **{t.name: t for t in shapes}}
    content = encode(replace(model, tensors=tensors, operators=operators), "time first")
    program = from_bytes(content)
    (codes,) = codes_for(program, 4, "reshaped")
    (answer,) = peer("tflm")([(content, [codes.reshape(4, *numbers["x"][1:])])])
    assert not isinstance(answer, str), answer
    (expected,) = in_a_row(program, [codes])
    np.testing.assert_array_equal(answer[0].reshape(expected.shape), expected)


def time_first(model: TfModel, samples: int) -> TfModel:
    """A model of one LSTM with its steps in front of its samples."""
    states = {name: (samples, model.tensors[name].shape[1]) for name in ("y/hidden", "y/cell")}
    shapes = {n: (model.tensors[n].shape[1], samples, model.tensors[n].shape[2]) for n in "xy"} | states
    tensors = {n: replace(model.tensors[n], shape=shape) for n, shape in shapes.items()}
    return changed(replace(model, tensors={**model.tensors, **tensors}), TimeMajor=True)


def test_a_batch_of_samples_has_states_of_its_own() -> None:
    """The file's two samples are the Program's batch."""
    model = an_lstm()
    shapes = {name: (2, *model.tensors[name].shape[1:]) for name in ("x", "y", "y/hidden", "y/cell")}
    tensors = {name: replace(model.tensors[name], shape=shape) for name, shape in shapes.items()}
    assert from_model(replace(model, tensors={**model.tensors, **tensors})).digest() == from_model(model).digest()


def real(model: TfModel) -> TfModel:
    """The same of real numbers."""

    def one(tensor: TfTensor) -> TfTensor:
        data = None if tensor.data is None else tensor.data.astype(np.float32)
        return replace(tensor, dtype="float32", quantization=None, data=data)

    return replace(model, tensors={n: one(t) for n, t in model.tensors.items()})


def test_a_float_lstm_begins_anew_with_each_run() -> None:
    draft, _ = drafted(changed(real(an_lstm()), CellClip=10.0), FloatDraft)
    (node,) = draft.nodes
    assert (node.op, dict(node.attributes)) == ("lstm", {"carried": 0})
    assert {role: draft.arrays[param.name].ndim for role, param in node.params.items()} == {
        "weight": 3, "recurrent": 3, "bias": 2,
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"below 10\.0"):
        drafted(changed(real(an_lstm()), CellClip=2.0), FloatDraft)


def test_a_float_svdf_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="earlier runs"):
        drafted(real(an_svdf()), FloatDraft)


def test_a_float_lstm_is_quantized(tmp_path: Path) -> None:
    """Near torch.nn.LSTM, whose gates have the file's order."""
    model = real(an_lstm())
    small = {n: t if t.data is None else replace(t, data=t.data * np.float32(0.01)) for n, t in model.tensors.items()}
    (operator,) = model.operators
    (tmp_path / "net.tflite").write_bytes(encode(replace(model, tensors={**model.tensors, **small}), "real numbers"))

    def stacked(first: int) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([small[str(n)].data for n in operator.inputs[first : first + 4]]))

    _, times, inputs = model.tensors["x"].shape
    layer = torch.nn.LSTM(inputs, model.tensors["y"].shape[2], bias=True, batch_first=True)
    states = {"weight_ih_l0": stacked(1), "weight_hh_l0": stacked(5), "bias_ih_l0": stacked(12)}
    layer.load_state_dict({**states, "bias_hh_l0": stacked(12) * 0})
    x = np.random.default_rng(0).normal(0, 1, (32, times, inputs)).astype(np.float32)
    found = unfloat.quantize(tmp_path / "net.tflite", [x]).compile()(x)
    with torch.no_grad():
        expected = layer(torch.from_numpy(x))[0].numpy()
    assert np.abs(found - expected).max() < 0.05 < np.abs(expected).max()
