"""Functions of one value in TensorFlow Lite Micro: one-operator models at random, every int16 code, what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.conformance.generate import generator
from tests.peers.call import Peer, peer
from tests.peers.protocol import Arrays
from unfloat.formats.tflite.activation import activation_codes
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import TfModel
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import BATCH, Clamp, Node, Port
from unfloat.ir.instruction import Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import WeightRule
from unfloat.ops.slopes import slope_pair
from unfloat.program.interpret import interpret
from unfloat.program.lower import make_instruction
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError
from unfloat.spec.qparams import STORAGE, QParams, float32

MODELS = int(os.environ.get("UNFLOAT_RANDOM_MODELS", "60"))  # of each operator and storage type
KINDS = [
    (name, dtype)
    for name in ("logistic", "tanh", "hard_swish", "leaky_relu", "abs", "prelu", "rescale")
    for dtype in ("int8", "int16")
    if dtype in REGISTRY[name].storages
]


@pytest.fixture(scope="module")
def tflm() -> Peer:
    return peer("tflm")


def program_of(op: str, inputs: list[Tensor], label: QParams, **rest: object) -> Program:
    """The Program of one node."""
    shape = inputs[0].shape
    attributes, clamp = rest.get("attributes", {}), rest.get("clamp")
    node = Node("out", op, tuple(x.name for x in inputs), shape, attributes, {}, None, clamp)  # type: ignore[arg-type]
    output = Tensor("out", shape, label)
    instruction = make_instruction(node, {}, inputs, output, WeightRule(), "double")
    ports = [Port(x.name, x.name, x.shape, tuple(range(len(x.shape)))) for x in (*inputs, output)]
    return Program(tuple(ports[:-1]), (ports[-1],), {x.name: x for x in (*inputs, output)}, (instruction,))


def random_program(op: str, dtype: str, rng: np.random.Generator) -> Program:
    """Shapes, scales, zero points, slopes and clamps at random."""
    shape = (BATCH, *(int(n) for n in rng.integers(1, 9, rng.integers(1, 4))))
    lift = 2.0**-8 if dtype == "int16" else 1.0

    def label(low: float, high: float) -> QParams:
        zero_point = 0 if dtype == "int16" else int(rng.integers(-128, 128))
        scale = float32(2.0 ** rng.uniform(low, high) * lift)
        return QParams((scale,), zero_point, dtype, 16 if dtype == "int16" else 8)

    inputs = [Tensor("x", shape, label(-12, 2))]
    if op == "prelu":
        inputs.append(Tensor("slopes", (BATCH, *(1,) * (len(shape) - 2), shape[-1]), label(-10, 0)))
    quant = REGISTRY[op].quant
    nearby = float32(inputs[0].qparams.scale[0] * 2.0 ** rng.uniform(-4, 4))
    if op == "prelu":
        nearby = float32(nearby * 2.0 ** rng.uniform(0, 4))
    output = (
        quant.fixed[dtype]
        if quant.output == "fixed"
        else QParams((nearby,), label(0, 0).zero_point, dtype, inputs[0].qparams.bits)
    )
    attributes = {"slope": slope_pair(rng.normal(0, 0.7))} if op == "leaky_relu" else {}
    clamps = (None, Clamp(0.0, float("inf")), Clamp(-40 * nearby, 50 * nearby))
    clamp = clamps[rng.integers(3)] if "clamp" in REGISTRY[op].slots else None
    return program_of(op, inputs, output, attributes=attributes, clamp=clamp)


def all_codes(program: Program, rng: np.random.Generator) -> Arrays:
    """Enough samples that most codes of bytes occur."""
    found = []
    for port in program.inputs:
        label = program.tensors[port.value].qparams
        samples = min(64, max(4, 512 // int(np.prod(port.shape[1:]))))
        codes = rng.integers(label.qmin, label.qmax + 1, (samples, *port.shape[1:]))
        found.append(codes.astype(STORAGE[label.dtype]))
    least = min(len(codes) for codes in found)
    return [codes[:least] for codes in found]


@pytest.mark.parametrize(("op", "dtype"), KINDS)
def test_random_models(op: str, dtype: str, tflm: Peer) -> None:
    rng = generator("random models", op, dtype)
    programs = [random_program(op, dtype, rng) for _ in range(MODELS)]
    inputs = [all_codes(program, rng) for program in programs]
    answers = tflm([(to_bytes(program), codes) for program, codes in zip(programs, inputs, strict=True)])
    for program, codes, answer in zip(programs, inputs, answers, strict=True):
        assert not isinstance(answer, str), answer
        assert np.array_equal(answer[0], interpret(program, codes)[0]), program.instructions


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-11, float32(3e-4), float32(1e-3), float32(2.6), float32(1e-6)])
@pytest.mark.parametrize("op", ["logistic", "tanh"])
def test_every_int16_code(op: str, scale: float, tflm: Peer) -> None:
    source = Tensor("x", (BATCH, 256, 256), QParams((scale,), 0, "int16", 16))
    program = program_of(op, [source], REGISTRY[op].quant.fixed["int16"])
    codes = [np.arange(-(2**15), 2**15).astype(np.int16).reshape(1, 256, 256)]
    (answer,) = tflm([(to_bytes(program), codes)])
    assert np.array_equal(answer[0], interpret(program, codes)[0])


def test_hard_swish_forms_its_factors_in_double(tflm: Peer) -> None:
    """Scales at which a factor formed in float32 has another last bit of 16, and a code hangs on it."""
    label, output = QParams((0.5137585401535034,), 33), QParams((0.9498062133789062,), 90)
    program = program_of("hard_swish", [Tensor("x", (BATCH, 256), label)], output)
    codes = [np.arange(-128, 128).astype(np.int8)[None]]
    (answer,) = tflm([(to_bytes(program), codes)])
    assert np.array_equal(answer[0], interpret(program, codes)[0])
    with pytest.raises(ExportError, match="in float32"):
        unsigned = [QParams(q.scale, q.zero_point + 128, "uint8") for q in (label, output)]
        to_bytes(program_of("hard_swish", [Tensor("x", (BATCH, 256), unsigned[0])], unsigned[1]))


@pytest.mark.parametrize("builtin", ["RELU", "RELU6"])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_clamp_that_stands_alone_is_a_rescale(builtin: str, dtype: str, tflm: Peer) -> None:
    """RELU rescales as QUANTIZE does, then clamps; RELU6 wants the QParams of its input and only clamps."""
    rng = generator("standing alone", builtin, dtype)
    high = float("inf") if builtin == "RELU" else 6.0
    for _ in range(20):
        program = random_program("rescale", dtype, rng)
        source = program.tensors["x"]
        label = program.tensors["out"].qparams if builtin == "RELU" else source.qparams
        program = program_of("rescale", [source], label, clamp=Clamp(0.0, high))
        assert activation_codes(builtin, label) == tuple(
            program.instructions[0].attributes[name] for name in ("clamp_min", "clamp_max")
        )
        scope = Scope(program)
        scope.emit(builtin, ("x",), "out")
        file = encode(TfModel(scope.tensors, tuple(scope.operators), (("x", "x"),), (("out", "out"),)), "")
        codes = all_codes(program, rng)
        (answer,) = tflm([(file, codes)])
        assert np.array_equal(answer[0], interpret(program, codes)[0])
        assert from_bytes(file).instructions[0].op == "rescale"
        assert np.array_equal(answer[0], interpret(from_bytes(file), codes)[0])


def _label(scale: float, zero_point: int = 0, dtype: str = "int8") -> QParams:
    return QParams((scale,), zero_point, dtype)


REFUSED = {
    "a large step": ("logistic", {}, _label(8.0), "below 8.0"),
    "unsigned codes": ("tanh", {}, _label(0.5, 3, "uint8"), "floating point"),
    "unsigned codes, again": ("abs", {}, _label(0.5, 3, "uint8"), "found uint8"),
    "a tiny step": ("hard_swish", {}, _label(2.0**-23), "at least"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str) -> None:
    op, attributes, label, words = REFUSED[kind]
    fixed = REGISTRY[op].quant.fixed
    output = fixed[label.dtype] if fixed else _label(label.scale[0])
    program = program_of(op, [Tensor("x", (BATCH, 9), label)], output, attributes=attributes)
    with pytest.raises(ExportError, match=words):
        to_bytes(program)


def test_a_gelu_with_a_tie_is_refused() -> None:
    """float32 gives 63 / 8 exactly where it is a little less, and half of a step is rounded up."""
    program = program_of(
        "gelu", [Tensor("x", (BATCH, 9), _label(0.125))], _label(0.25), attributes={"approximate": "none"}
    )
    with pytest.raises(ExportError, match="halfway between two codes"):
        to_bytes(program)


def test_an_instruction_without_words_in_tflite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unfloat.formats.tflite.write.WRITERS", {})
    program = program_of(
        "gelu", [Tensor("x", (BATCH, 9), _label(0.125))], _label(0.125), attributes={"approximate": "none"}
    )
    with pytest.raises(ExportError, match="no such operator"):
        to_bytes(program)
