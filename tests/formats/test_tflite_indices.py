"""Files whose data choose: as Keras writes an embedding, quantized and in real numbers, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unfloat
from tests.formats.embeddings import LABEL, ROWS, STEPS, WIDTH, embedding, file, left_in_floats
from tests.peers.call import peer
from unfloat.formats.tflite.model import TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import interpret
from unfloat.spec.errors import CalibrationError, UnsupportedError


@pytest.mark.parametrize("integers", ["int32", "int64"])
def test_kerass_embedding_counts_from_the_end(integers: str) -> None:
    content = file(embedding(integers=integers))
    program = from_bytes(content)
    assert [i.op for i in program.instructions] == ["take", "mean"]
    x = np.random.default_rng(1).integers(-ROWS, ROWS, (50, STEPS)).astype(np.int16)
    (expected,) = interpret(program, [x])
    assert np.array_equal(program.compile().run(x), expected)
    ((found,),) = peer("litert")([(content, [x])])
    assert np.array_equal(found, expected)
    again = to_bytes(program)
    assert from_bytes(again).digest() == from_bytes(to_bytes(from_bytes(again))).digest()
    ((found,),) = peer("tflm")([(again, [x % ROWS])])  # TensorFlow Lite Micro knows no SELECT of integers
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("cast", [False, True])
def test_kerass_float_file_is_quantized(cast: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    model = embedding("float32", cast=cast)
    path.write_bytes(file(model))
    batches = [np.random.default_rng(k).integers(-ROWS, ROWS, (16, STEPS)) for k in range(3)]
    program = unfloat.quantize(path, batches)
    table = model.tensors["table"].data
    assert table is not None
    assert np.abs(program.compile()(batches[0]) - table[batches[0]].mean(1)).max() < 0.03
    with pytest.raises(CalibrationError, match=f"given: required indices below {ROWS}"):
        unfloat.quantize(path, [np.full((1, STEPS), ROWS)])


def with_operator(model: TfModel, name: str, **changes: object) -> TfModel:
    operators = [replace(o, **changes) if o.builtin == name else o for o in model.operators]  # type: ignore[arg-type]
    return replace(model, operators=tuple(operators))


def shifted(model: TfModel) -> TfModel:
    """The GATHER reads what ADD made."""
    return with_operator(model, "GATHER", inputs=("table", "added"))


def unused(model: TfModel) -> TfModel:
    """Another table is read: the numbers choose nothing."""
    constant = TfTensor("fixed", (STEPS,), "int32", None, np.zeros(STEPS, np.int32))
    chosen = TfTensor("other", (1, ROWS, WIDTH), "int8", LABEL)
    tensors = {**model.tensors, "fixed": constant, "other": chosen}
    gather = TfOperator("GATHER", 2, ("other", "fixed"), ("taken",), "GatherOptions", {"Axis": 1, "BatchDims": 0})
    inputs = (*model.inputs, ("other", "other"))
    return replace(model, tensors=tensors, operators=(gather, model.operators[-1]), inputs=inputs)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (embedding(rows=ROWS + 1), r"LESS.*integers may only move and choose rows"),
        (embedding(leaves=True), r"(?s)LESS.*ADD.*SELECT"),
        (shifted(embedding()), r"ADD.*integers may only move"),
        (
            with_operator(embedding(), "LESS", builtin="GREATER", options="GreaterOptions"),
            r"GREATER.*integers may only",
        ),
        (with_operator(embedding(), "GATHER", fields={"Axis": 1, "BatchDims": 0}), r"GATHER"),
        (with_operator(embedding(), "GATHER", fields={"Axis": 2, "BatchDims": 0}), r"GATHER"),
        (with_operator(embedding(), "GATHER", fields={"Axis": 0, "BatchDims": 2}), r"GATHER"),
        (with_operator(embedding(), "GATHER", fields={"Axis": 0, "BatchDims": -1}), r"GATHER"),
    ],
)
def test_other_uses_of_integers_are_refused(model: TfModel, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        from_bytes(file(model))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("builtin", ["GATHER", "EMBEDDING_LOOKUP"])
def test_a_table_left_in_floats_is_quantized_beforehand(builtin: str, dtype: str) -> None:
    content = file(left_in_floats(builtin, dtype))
    program = from_bytes(content)
    assert [i.op for i in program.instructions] == ["take"]
    x = np.random.default_rng(4).integers(0, ROWS, (20, STEPS)).astype(np.int16)
    ((found,),) = peer("litert")([(content, [x])])
    assert np.array_equal(found.reshape(-1, WIDTH), interpret(program, [x.reshape(-1)])[0])


def test_a_table_whose_rows_are_seen_is_an_island() -> None:
    with pytest.raises(UnsupportedError, match=r"GATHER.*computes with floats"):
        from_bytes(file(left_in_floats("GATHER", "int8", seen=True)))


def test_lookups_of_one_table_are_bounded_by_the_file() -> None:
    """Each would have codes of its own: 4,096 bytes of a file may not become as many megabytes."""
    model = left_in_floats("GATHER", "int8")
    tensors, operators = dict(model.tensors), []
    for k in range(80):
        tensors |= {f"{n}{k}": replace(model.tensors[n], name=f"{n}{k}") for n in ("taken", "y")}
        gather, quantizes = model.operators
        operators += [replace(gather, outputs=(f"taken{k}",))]
        operators += [replace(quantizes, inputs=(f"taken{k}",), outputs=(f"y{k}",))]
    outputs = tuple((f"y{k}", f"y{k}") for k in range(80))
    many = replace(model, tensors=tensors, operators=tuple(operators), outputs=outputs)
    assert len(from_bytes(file(replace(many, operators=many.operators[:20], outputs=outputs[:10]))).instructions) == 10
    with pytest.raises(UnsupportedError, match="computes with floats"):
        from_bytes(file(replace(many, operators=tuple(operators))))


def test_integers_that_choose_nothing_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="given"):
        from_bytes(file(unused(embedding())))


def test_a_border_of_real_numbers_takes_integers(tmp_path: Path) -> None:
    """A CAST at the entry is the border, as QUANTIZE is."""
    content = file(embedding(cast=True))
    program = from_bytes(content)
    x = np.random.default_rng(2).integers(-ROWS, ROWS, (20, STEPS))
    ((found,),) = peer("litert")([(content, [x.astype(np.float32)])])
    assert np.array_equal(found, interpret(program, [x.astype(np.int16)])[0])
    program.export(tmp_path / "net.tflite", float_border=True)
    ((found,),) = peer("tflm")([((tmp_path / "net.tflite").read_bytes(), [(x % ROWS).astype(np.int16)])])
    assert np.array_equal(found, program.compile()(x))


def test_integers_that_also_leave_are_said_once(tmp_path: Path) -> None:
    """An input that is an output too is copied, as any other."""
    program = from_bytes(file(embedding()))
    port = replace(program.inputs[0], name="seen")
    both = replace(program, outputs=(*program.outputs, port), structure=("tuple", 2))
    x = np.random.default_rng(3).integers(0, ROWS, (5, STEPS)).astype(np.int16)
    (answer,) = peer("tflm")([(to_bytes(both), [x])])
    for found, expected in zip(answer, interpret(both, [x]), strict=True):
        assert np.array_equal(found, expected)
