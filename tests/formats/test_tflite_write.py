"""What the `.tflite` writer says, read back through the schema, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.generate import DRAWS, build
from tests.peers.programs import clamped_sum
from tests.program.nets import small_net
from unfloat.formats.tflite import encode
from unfloat.formats.tflite import write as writer
from unfloat.formats.tflite.activation import BOUNDS, activation_codes, fused_activation
from unfloat.formats.tflite.geometry import frame
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table import WRITERS
from unfloat.formats.tflite.write import to_bytes, write
from unfloat.ir.graph import BATCH, Clamp, Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError, InvalidProgramError, MissingExtraError
from unfloat.spec.qparams import QParams, float32

INT8, UINT8_TIES = DRAWS[0], next(draw for draw in DRAWS if draw.name == "uint8-ties")
BUILTIN_NAMES = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}


def read(content: bytes) -> tflite.Model:
    assert tflite.Model.ModelBufferHasIdentifier(content, 0)
    return tflite.Model.GetRootAs(content, 0)


def tensors(model: tflite.Model) -> dict[str, tflite.Tensor]:
    graph = model.Subgraphs(0)
    return {graph.Tensors(k).Name().decode(): graph.Tensors(k) for k in range(graph.TensorsLength())}


def operators(model: tflite.Model) -> list[tuple[str, int]]:
    """Name and version of each operator, in order; the two code fields agree."""
    graph, found = model.Subgraphs(0), []
    for k in range(graph.OperatorsLength()):
        code = model.OperatorCodes(graph.Operators(k).OpcodeIndex())
        assert code.DeprecatedBuiltinCode() == code.BuiltinCode()
        found.append((BUILTIN_NAMES[code.BuiltinCode()], code.Version()))
    return found


def written(op: str, case: Case, draw: object = INT8) -> list[tuple[str, int]]:
    return operators(read(to_bytes(build(REGISTRY[op], case, draw))))  # type: ignore[arg-type]


# The file -------------------------------------------------------------------------------------------------------------


def test_network() -> None:
    model = read(to_bytes(small_net()))
    assert model.Version() == 3
    assert operators(model) == [
        ("CONV_2D", 3),
        ("CONV_2D", 3),
        ("ADD", 2),
        ("MEAN", 2),
        ("RESHAPE", 1),
        ("FULLY_CONNECTED", 4),
    ]
    named = tensors(model)
    assert set(small_net().tensors) <= set(named)
    assert list(named["x"].ShapeAsNumpy()) == [1, 6, 5, 3]
    signature = model.SignatureDefs(0)
    assert signature.SignatureKey() == b"serving_default"
    assert signature.Inputs(0).Name() == b"x"
    assert signature.Outputs(0).Name() == b"y"
    graph = model.Subgraphs(0)
    assert graph.Tensors(signature.Outputs(0).TensorIndex()).Name() == b"fc"
    assert [graph.Tensors(k).Name() for k in (*graph.InputsAsNumpy(), *graph.OutputsAsNumpy())] == [b"x", b"fc"]


def test_buffers_are_inline_and_aligned() -> None:
    content = to_bytes(small_net())
    model = read(content)
    assert model.Buffers(0).DataIsNone()
    for k in range(1, model.BuffersLength()):
        buffer = model.Buffers(k)
        assert buffer.Offset() == buffer.Size() == 0
        assert buffer.DataLength() > 0
        vector = buffer._tab.Vector(buffer._tab.Offset(4))
        assert vector % 16 == 0


def test_weights_and_labels() -> None:
    program = small_net()
    model = read(to_bytes(program))
    instruction = next(i for i in program.instructions if i.name == "b")
    weight, bias, out = (tensors(model)[name] for name in ("b/weight", "b/bias", "b"))
    data = model.Buffers(weight.Buffer()).DataAsNumpy().view(np.int8).reshape(weight.ShapeAsNumpy())
    np.testing.assert_array_equal(data, instruction.constants["weight"])
    scales = weight.Quantization().ScaleAsNumpy()
    np.testing.assert_array_equal(scales, np.float32(instruction.labels["weight"].scale))
    assert weight.Quantization().QuantizedDimension() == 0
    expected = np.float32([program.tensors["a"].qparams.scale[0] * s for s in instruction.labels["weight"].scale])
    np.testing.assert_array_equal(bias.Quantization().ScaleAsNumpy(), expected)
    assert bias.Type() == tflite.TensorType.INT32
    assert not bias.Quantization().ZeroPointAsNumpy().any()
    assert out.Quantization().ZeroPoint(0) == program.tensors["b"].qparams.zero_point


def test_same_program_same_bytes(tmp_path: Path) -> None:
    write(small_net(), tmp_path / "a.tflite")
    small_net().export(tmp_path / "b.tflite")
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes() == to_bytes(small_net())


def test_float_border() -> None:
    model = read(to_bytes(small_net(), float_border=True))
    names = [name for name, _ in operators(model)]
    assert (names[0], names[-1]) == ("QUANTIZE", "DEQUANTIZE")
    graph = model.Subgraphs(0)
    ends = [graph.Tensors(k) for k in (graph.Inputs(0), graph.Outputs(0))]
    assert [end.Type() for end in ends] == [tflite.TensorType.FLOAT32] * 2


def test_names_stay_unique() -> None:
    program = build(REGISTRY["fully_connected"], Case("x", ((4,),), {}, {"weight": (3, 4)}), INT8)
    tensor = program.tensors["x0"]
    renamed = {"out/weight": replace(tensor, name="out/weight"), "out": program.tensors["out"]}
    port = replace(program.inputs[0], value="out/weight")
    instruction = replace(program.instructions[0], inputs=("out/weight",))
    model = read(to_bytes(Program((port,), program.outputs, renamed, (instruction,))))
    assert len(tensors(model)) == model.Subgraphs(0).TensorsLength() == 4


SPATIAL = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
WINDOW = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
IMAGE = ((8, 8, 4),)


@pytest.mark.parametrize(
    ("op", "case", "expected"),
    [
        ("conv2d", Case("", IMAGE, {**SPATIAL, "groups": 2}, {"weight": (6, 1, 1, 2)}), [("CONV_2D", 6)]),
        ("depthwise_conv2d", Case("", IMAGE, SPATIAL, {"weight": (3, 3, 8)}), [("DEPTHWISE_CONV_2D", 3)]),
        (
            "depthwise_conv2d",
            Case("", IMAGE, {**SPATIAL, "stride": (2, 2), "padding": (1, 1, 1, 1)}, {"weight": (3, 3, 4)}),
            [("PAD", 2), ("DEPTHWISE_CONV_2D", 3)],
        ),
        ("max_pool2d", Case("", IMAGE, WINDOW), [("PADV2", 2), ("MAX_POOL_2D", 2)]),
        ("fully_connected", Case("", ((5, 4),), {}, {"weight": (3, 4)}), [("FULLY_CONNECTED", 5)]),
        ("rescale", Case("", ((5,),)), [("QUANTIZE", 1)]),
        ("transpose", Case("", ((2, 3, 4, 5),), {"permutation": (0, 2, 1, 4, 3)}), [("TRANSPOSE", 4)]),
        (
            "pad",
            Case("", ((2, 3, 2, 3, 2),), {"paddings": (0, 0, *(1, 1) * 5)}),
            [("RESHAPE", 1), ("PAD", 4), ("RESHAPE", 1)],
        ),
        ("concatenation", Case("", ((2,),) * 11, {"axis": 1}), [("CONCATENATION", 2)] * 2),
    ],
)
def test_operators_and_versions(op: str, case: Case, expected: list[tuple[str, int]]) -> None:
    assert written(op, case) == expected


@pytest.mark.parametrize(
    ("op", "case", "expected"),
    [
        (
            "depthwise_conv2d",
            Case("", IMAGE, {**SPATIAL, "dilation": (2, 2)}, {"weight": (3, 3, 4)}),
            [("DEPTHWISE_CONV_2D", 2)],
        ),
        ("conv2d", Case("", IMAGE, {**SPATIAL, "groups": 1}, {"weight": (6, 1, 1, 4)}), [("CONV_2D", 1)]),
        (
            "fully_connected",
            Case("", ((7,),), {}, {"weight": (3, 7)}),
            [("RESHAPE", 1), ("CONV_2D", 1), ("RESHAPE", 1)],
        ),
        ("mean", Case("", IMAGE, {"axes": (1, 2), "keep_dims": 0}), [("MEAN", 1)]),
    ],
)
def test_uint8_operators_and_versions(op: str, case: Case, expected: list[tuple[str, int]]) -> None:
    assert written(op, case, UINT8_TIES) == expected


def test_table_names_operators_that_exist() -> None:
    assert set(WRITERS) <= set(REGISTRY)


# Words ----------------------------------------------------------------------------------------------------------------


@given(
    size=st.integers(1, 12), kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    before=st.integers(0, 4), after=st.integers(0, 4),
)  # fmt: skip
def test_framing_keeps_every_window(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> None:
    """TFLite's own rule, written from its documentation, puts as many windows at the same places."""
    span = (kernel - 1) * dilation + 1
    count = (size + before + after - span) // stride + 1
    if count < 1:
        return
    x, out = (Tensor(name, (BATCH, n, 1, 1), QParams((1.0,))) for name, n in (("x", size), ("out", count)))
    attributes = {"stride": (stride, 1), "dilation": (dilation, 1), "padding": (before, 0, after, 0)}
    instruction = Instruction("conv2d", "out", ("x",), attributes)
    ports = [Port(t.name, t.name, t.shape, (0, 1, 2, 3)) for t in (x, out)]
    program = Program((ports[0],), (ports[1],), {"x": x, "out": out}, (instruction,))
    framing = frame(Scope(program), instruction, (kernel, 1))
    padded = framing.before[0] + size + framing.after[0]
    if framing.padding == "SAME":
        assert not framing.explicit
        windows = -(-size // stride)
        first = max((windows - 1) * stride + span - size, 0) // 2
    else:
        windows = -(-(padded - span + 1) // stride)
        first = framing.before[0]
    assert (windows, first) == (count, before)


@given(
    scale=st.floats(1e-3, 1.0), zero_point=st.integers(-128, 127), ends=st.tuples(*[st.integers(-128, 127)] * 2),
    named=st.sampled_from([None, *BOUNDS]),
)  # fmt: skip
def test_fused_activation_never_cuts_into_a_clamp(
    scale: float, zero_point: int, ends: tuple[int, int], named: str | None
) -> None:
    label = QParams((float32(scale),), zero_point)
    clamp = (min(ends), max(ends)) if named is None else activation_codes(named, label)
    low, high = activation_codes(fused_activation(clamp, label), label)
    assert low <= clamp[0] <= clamp[1] <= high
    assert named is None or (low, high) == clamp


@pytest.mark.parametrize(
    ("clamp", "expected"),
    [
        (Clamp(-np.inf, np.inf), ["ADD"]),
        (Clamp(0.0, np.inf), ["ADD"]),
        (Clamp(0.0, 6.0), ["ADD"]),
        (Clamp(-1.0, 1.0), ["ADD"]),
        (Clamp(0.0, 1.0), ["ADD", "MINIMUM"]),
        (Clamp(-3.0, 6.0), ["ADD", "MAXIMUM", "MINIMUM"]),
    ],
)
def test_clamps(clamp: Clamp, expected: list[str]) -> None:
    program = clamped_sum(clamp, QParams((2.0**-4,)))
    assert [name for name, _ in operators(read(to_bytes(program)))] == expected


# Refusals -------------------------------------------------------------------------------------------------------------


def test_every_offender_is_named() -> None:
    net = small_net()
    single = tuple(
        replace(i, attributes={**i.attributes, "rounding": "single"}) if i.name in ("a", "sum") else i
        for i in net.instructions
    )
    with pytest.raises(ExportError) as caught:
        to_bytes(replace(net, instructions=single))
    assert "a (conv2d)" in str(caught.value)
    assert "sum (add)" in str(caught.value)
    assert "b (conv2d)" not in str(caught.value)
    assert '"double"' in str(caught.value)


def test_average_that_leaves_out_its_own_padding() -> None:
    with pytest.raises(ExportError, match=r"out \(average_pool2d\).*SAME's or VALID's.*\(1, 1, 1, 1\)"):
        written("average_pool2d", Case("", IMAGE, WINDOW))


def test_mixed_storage() -> None:
    program = build(REGISTRY["fully_connected"], Case("", ((4,),), {}, {"weight": (3, 4)}), INT8)
    odd = replace(program.tensors["x0"], qparams=replace(program.tensors["x0"].qparams, dtype="uint8", zero_point=0))
    (bare,) = program.instructions
    derived = REGISTRY["fully_connected"].derive(bare, [odd], program.tensors["out"])
    fields = {name: value for name, value in derived.items() if name in bare.attributes}
    mixed = replace(bare, attributes={**bare.attributes, **fields})
    with pytest.raises(ExportError, match="stored alike"):
        to_bytes(replace(program, tensors={**program.tensors, "x0": odd}, instructions=(mixed,)))


def test_operator_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(WRITERS, "add")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"sum \(add\): TFLite has no such operator"):
        to_bytes(small_net())


def test_broken_program() -> None:
    net = small_net()
    with pytest.raises(InvalidProgramError):
        to_bytes(replace(net, instructions=net.instructions[1:]))


@pytest.mark.parametrize("name", ["no/such/folder/net.tflite", "."])
def test_path_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot write"):
        write(small_net(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_refusal_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.tflite"
    write(small_net(), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", _refuse)
    with pytest.raises(ExportError):
        write(small_net(), path, float_border=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _refuse(*names: object) -> None:
    raise PermissionError("no")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[tflite\]'"):
        to_bytes(small_net())


def test_extra_is_imported_late() -> None:
    """Importing the writer needs neither schema bindings nor flatbuffers."""
    code = (
        f"import sys, {writer.__name__}, {encode.__name__}; assert not {{'tflite', 'flatbuffers'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
