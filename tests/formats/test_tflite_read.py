"""Reading `.tflite`: what is written comes back, others' files give the public runtimes' bits, damage is an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import unfloat
from tests.conformance.generate import DRAWS, build, codes_for
from tests.formats.test_tflite_peers import exportable
from tests.peers.call import Peer, peer
from tests.peers.programs import CASES
from tests.program.nets import small_codes, small_net
from unfloat.formats.tflite.builtins import MAX_RANK
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.table import WRITERS
from unfloat.formats.tflite.write import to_bytes
from unfloat.ops import REGISTRY, lookup
from unfloat.ops._operator import Case, Operator
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

OPERATORS = [operator for operator in REGISTRY.values() if operator.name in WRITERS]
DOUBLE = [draw for draw in DRAWS if draw.rounding == "double"]
INT8, UINT8 = "int8", "uint8"


def written(operator: Operator) -> Iterator[tuple[str, Program]]:
    """Every case of an operator that can be written."""
    for draw, case in product(DOUBLE, (*operator.cases(), *(case for name, case in CASES if name == operator.name))):
        if draw.storage not in operator.storages:
            continue
        program = build(operator, case, draw)
        if draw.scheme != "uint8":
            if exportable(program, case):
                yield f"{draw.name}: {case.label}", program
            continue
        try:
            to_bytes(program)
        except unfloat.ExportError:  # scales at which LiteRT's uint8 kernels would differ
            continue
        yield f"{draw.name}: {case.label}", program


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_what_is_written_comes_back(operator: Operator) -> None:
    """The same codes; and a Program read from its own file again is the same to the byte.

    Not so where TFLite knows no such rank and reshapes stand in the file: each writing adds its own.
    """
    count = 0
    for label, program in written(operator):
        read = from_bytes(to_bytes(program))
        codes = codes_for(program, 2, label)
        expected, found = interpret(program, codes), interpret(read, codes)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one.reshape(other.shape), other, err_msg=label)
        if all(len(tensor.shape) <= MAX_RANK for tensor in program.tensors.values()):
            assert from_bytes(to_bytes(read)).digest() == read.digest(), label
        count += 1
    assert count


def test_a_network_comes_back() -> None:
    program = small_net()
    read = from_bytes(to_bytes(program))
    assert [port.name for port in (*read.inputs, *read.outputs)] == ["x", "y"]
    np.testing.assert_array_equal(interpret(read, [small_codes(3)])[0], interpret(program, [small_codes(3)])[0])


def test_a_border_of_floats_is_the_border(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    small_net().export(path, float_border=True)
    read = unfloat.load(path)
    x = np.random.default_rng(0).normal(0, 0.5, (2, 6, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(read.compile()(x), small_net().compile()(x.transpose(0, 3, 1, 2)))


PUBLIC = {  # file: who says what is right; Micro knows no uint8, LiteRT refuses one file
    "hello_world_int8": ("tflm", "litert"),
    "mbnet128_0.25_q": ("tflm", "litert"),
    "micro_speech_quantized": ("tflm", "litert"),
    "mnist_resnet_q": ("tflm", "litert"),
    "mobilenet_v1_0.25_128_quant": ("litert",),
    "person_detect": ("tflm",),
    "pretrainedResnet_quant": ("tflm", "litert"),
    "tf2_mobilenet_v2_1.0_224_ptq": ("tflm", "litert"),
    "vww_96_int8": ("tflm", "litert"),
}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLIC)
def test_public_files(name: str, data_folder: Path) -> None:
    """Interpreter, engine and the public runtimes agree; written and read again it is the same Program."""
    path = data_folder / "tflite" / f"{name}.tflite"
    program = unfloat.load(path)
    codes = codes_for(program, 3, name)
    expected = interpret(program, codes)[0]
    np.testing.assert_array_equal(Engine(program).run(*codes), expected)
    for runtime in PUBLIC[name]:
        (answer,) = peer(runtime)([(path.read_bytes(), codes)])
        assert not isinstance(answer, str), answer
        np.testing.assert_array_equal(answer[0], expected)
    assert from_bytes(to_bytes(program)).digest() == program.digest()


@pytest.mark.data
def test_a_float_model_is_refused_with_what_to_do(data_folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="computes with floats"):
        unfloat.load(data_folder / "tflite" / "vww_96_float.tflite")


def one_operator(builtin: str, weight: np.ndarray, **fields: tuple[str, str] | int) -> bytes:
    """A file of one linear operator whose weight is given as it is, over an image of 4 x 4."""
    channels = weight.shape[3] if builtin == "CONV_2D" else weight.shape[-1]
    outputs = weight.shape[0] if builtin == "CONV_2D" else weight.shape[-1]
    kind = str(weight.dtype)
    zero, scale = (7, 131) if kind == UINT8 else (0, 3), (0.5, 0.25, 2.0)
    tensors = [
        TfTensor("x", (1, 4, 4, channels), kind, Quantization(scale[:1], zero[1])),
        TfTensor("w", weight.shape, kind, Quantization(scale[1:2], zero[0]), weight),
        TfTensor("b", (outputs,), "int32", Quantization((0.125,)), np.arange(outputs, dtype=np.int32) * 50),
        TfTensor("y", (1, 4, 4, outputs), kind, Quantization(scale[2:], zero[1])),
    ]
    options = "Conv2DOptions" if builtin == "CONV_2D" else "DepthwiseConv2DOptions"
    padding: dict[str, tuple[str, str] | int] = {"Padding": ("Padding", "SAME"), "StrideH": 1, "StrideW": 1}
    operator = TfOperator(builtin, 3, ("x", "w", "b"), ("y",), options, {**padding, **fields})
    return encode(TfModel({t.name: t for t in tensors}, (operator,), (("x", "x"),), (("y", "y"),)), "a test")


@pytest.mark.parametrize("runtime", ["tflm", "litert"])
@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_weights_of_minus_128(runtime: str, builtin: str) -> None:
    """Files made by others may use the lowest code."""
    shape = (5, 3, 3, 4) if builtin == "CONV_2D" else (1, 3, 3, 8)
    fields = {} if builtin == "CONV_2D" else {"DepthMultiplier": 1}
    content = one_operator(builtin, np.full(shape, -128, np.int8), **fields)
    _agrees(content, peer(runtime))


@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_weights_with_a_zero_point(builtin: str) -> None:
    """The paper's own scheme, all codes of a byte: LiteRT's legacy kernels are the witness."""
    shape = (5, 3, 3, 4) if builtin == "CONV_2D" else (1, 3, 3, 8)
    fields = {} if builtin == "CONV_2D" else {"DepthMultiplier": 1}
    weight = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    weight.reshape(-1)[:2] = 0, 255
    _agrees(one_operator(builtin, weight, **fields), peer("litert"))


def _agrees(content: bytes, runtime: Peer) -> None:
    program = from_bytes(content)
    codes = codes_for(program, 3, "weights")
    (answer,) = runtime([(content, codes)])
    assert not isinstance(answer, str), answer
    expected = interpret(program, codes)[0]
    np.testing.assert_array_equal(answer[0], expected)
    for level in unfloat.runtime.engine.levels():
        np.testing.assert_array_equal(Engine(program, level=level).run(*codes), expected)


def test_all_problems_are_listed_at_once() -> None:
    tensors = [
        TfTensor("x", (1, 4), "int8", Quantization((1.0,))),
        TfTensor("a", (1, 4), "int8", Quantization((1.0,))),
        TfTensor("y", (1, 4), "float32"),
    ]
    operators = (
        TfOperator("CUMSUM", 1, ("x",), ("a",), "CumsumOptions", {}),
        TfOperator("DEQUANTIZE", 1, ("a",), ("f",), "DequantizeOptions", {}),
        TfOperator("EXP", 1, ("f",), ("y",), "ExpOptions", {}),
    )
    tensors.insert(2, TfTensor("f", (1, 4), "float32"))
    content = encode(TfModel({t.name: t for t in tensors}, operators, (("x", "x"),), (("y", "y"),)), "a test")
    with pytest.raises(UnsupportedError) as caught:
        from_bytes(content)
    problems = caught.value.problems
    assert ["CUMSUM" in problems[0], "DEQUANTIZE" in problems[1], "EXP" in problems[2]] == [True] * 3
    assert "Unfloat has no integer operator for it" in problems[0]
    assert "it computes with floats (float32 in f)" in problems[2]


def test_what_follows_from_a_fault_is_no_fault_of_its_own() -> None:
    """Each operator that cannot be read is listed, none for the one before it."""
    label = Quantization((0.1,))
    tensors = {name: TfTensor(name, (1, 4), "int8", label) for name in ("x", "a", "b", "c", "y")}
    operators = (
        TfOperator("CUMSUM", 1, ("x",), ("a",), "CumsumOptions", {}),
        TfOperator("ADD", 1, ("a", "x"), ("b",), "AddOptions", {}),
        TfOperator("SQRT", 1, ("b",), ("c",), "", {}),
        TfOperator("RESHAPE", 1, ("c",), ("y",), "ReshapeOptions", {}),
    )
    with pytest.raises(UnsupportedError) as caught:
        from_bytes(encode(TfModel(tensors, operators, (("x", "x"),), (("y", "y"),)), "a test"))
    assert [problem.split(",")[0] for problem in caught.value.problems] == ["operator 0 (CUMSUM)", "operator 2 (SQRT)"]


def test_operator_codes_in_the_newer_field_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some converters write them, though the older field could hold them."""
    expected = to_bytes(small_net())
    monkeypatch.setattr("unfloat.formats.tflite.encode.LAST_OLD_CODE", 0)
    content = to_bytes(small_net())
    assert content != expected
    assert from_bytes(content).digest() == from_bytes(expected).digest()


def wide_sum(builtin: str, *scales: float) -> bytes:
    """Of int16 codes, with pot_scale_int16, which is the schema's default."""
    tensors = [TfTensor(n, (1, 50), "int16", Quantization((s,))) for n, s in zip("abc", scales, strict=True)]
    operator = TfOperator(builtin, 2, ("a", "b"), ("c",), f"{builtin.title()}Options", {"PotScaleInt16": True})
    ports = ((("a", "a"), ("b", "b")), (("c", "c"),))
    return encode(TfModel({t.name: t for t in tensors}, (operator,), *ports), "a test")


@pytest.mark.parametrize("builtin", ["ADD", "SUB"])
@pytest.mark.parametrize("runtime", ["tflm", "litert"])
def test_int16_sums_follow_the_general_rule_where_a_scale_is_no_power_of_two(builtin: str, runtime: str) -> None:
    _agrees(wide_sum(builtin, 2**-10, 2**-9, 0.003), peer(runtime))


@pytest.mark.parametrize("builtin", ["ADD", "SUB"])
def test_int16_sums_of_powers_of_two_are_refused(builtin: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{builtin}.*pot_scale_int16 = false or a scale that is no power"):
        from_bytes(wide_sum(builtin, 2**-10, 2**-9, 2**-9))


def moved(builtin: str, options: str, target: tuple[int, ...], **operands: list[int]) -> Program:
    """A file of one operator that moves codes of [1, 6], read."""
    label = Quantization((1.0,))
    tensors = [TfTensor("x", (1, 6), "int8", label), TfTensor("y", target, "int8", label)]
    tensors += [TfTensor(n, (len(v),), "int32", None, np.array(v, np.int32)) for n, v in operands.items()]
    operator = TfOperator(builtin, 1, ("x", *operands), ("y",), options, {})
    return from_bytes(
        encode(TfModel({t.name: t for t in tensors}, (operator,), (("x", "x"),), (("y", "y"),)), "a test")
    )


def test_a_tensor_that_begins_with_no_batch_gets_one() -> None:
    read = moved("RESHAPE", "ReshapeOptions", (2, 3))
    codes = np.arange(24, dtype=np.int8).reshape(4, 6)
    np.testing.assert_array_equal(Engine(read).run(codes), codes.reshape(4, 2, 3))


def test_a_leading_dimension_that_is_computed_with_is_no_batch() -> None:
    read = moved("TRANSPOSE", "TransposeOptions", (6, 1), axes=[1, 0])
    codes = np.arange(24, dtype=np.int8).reshape(4, 1, 6)
    np.testing.assert_array_equal(Engine(read).run(codes), codes.reshape(4, 6, 1))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("transpose", {"permutation": (0, 2, 4, 3, 5, 1)}),
        ("transpose", {"permutation": (0, 2, 1, 3, 4, 5)}),
        ("pad", {"paddings": (0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0)}),
    ],
)
def test_a_1_behind_the_batch_that_was_taken_away_is_no_batch(op: str, attributes: dict[str, object]) -> None:
    """6 dimensions are written as the 5 behind the batch, the first of which may be 1 too: one channel's pixels."""
    program = build(REGISTRY[op], Case("", ((1, 4, 3, 2, 2),), attributes), DRAWS[0])
    read, codes = from_bytes(to_bytes(program)), codes_for(program, 3, op)
    assert read.inputs[0].shape == program.inputs[0].shape
    np.testing.assert_array_equal(interpret(read, codes)[0], interpret(program, codes)[0])


def test_equal_labels_have_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derived once, of the instructions' own: to change one changes no other."""
    label, made = Quantization((2.0**-8,), -128), []
    derive = lookup.logistic_steps
    monkeypatch.setattr(lookup, "logistic_steps", lambda *of: made.append(of) or derive(*of))
    tensors = [TfTensor(f"t{i}", (1, 3), "int8", label) for i in range(41)]
    operators = tuple(TfOperator("LOGISTIC", 1, (f"t{i}",), (f"t{i + 1}",), "") for i in range(40))
    model = TfModel({t.name: t for t in tensors}, operators, (("x", "t0"),), (("y", "t40"),))
    tables = [i.constants["table"] for i in from_bytes(encode(model, "a test")).instructions]
    assert len(made) <= 1
    tables[0][:] = 0
    assert tables[1].any()
    assert all(np.array_equal(table, tables[1]) for table in tables[2:])


def test_every_truncation_is_refused() -> None:
    content = to_bytes(small_net())
    for length in range(len(content)):
        with pytest.raises((InvalidProgramError, UnsupportedError)):
            from_bytes(content[:length])


def test_damage_is_refused_or_harmless() -> None:
    """Words overwritten at random: an error of one kind, or a verified Program."""
    content, rng = to_bytes(small_net()), np.random.default_rng(0)
    words = [0, 1, -1, 2**31 - 1, -(2**31), 255, 65536, len(content)]
    refused = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(0, len(content) - 4)) // 4 * 4
            damaged[at : at + 4] = struct.pack("<i", int(rng.choice(words)))
        try:
            from_bytes(bytes(damaged)).verify()
        except (InvalidProgramError, UnsupportedError):
            refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    ("field", "damage"),
    [
        ("identifier", lambda b: b[:4] + b"TFL2" + b[8:]),
        ("root", lambda b: struct.pack("<I", 2**32 - 1) + b[4:]),
        ("identifier", lambda b: b""),
    ],
)
def test_the_error_names_the_field(field: str, damage: object, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(damage(to_bytes(small_net())))  # type: ignore[operator]
    with pytest.raises(InvalidProgramError, match=rf"net\.tflite: {field}"):
        unfloat.load(path)
