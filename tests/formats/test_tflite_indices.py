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


def counted_elsewhere() -> TfModel:
    """The counted numbers are the table too, along an axis of as many cells: another GATHER's indices are constant."""
    model = embedding()
    ids = TfTensor("given", (1, ROWS), "int32")
    resized = {name: replace(model.tensors[name], shape=(1, ROWS)) for name in ("below", "added", "counted")}
    fixed = TfTensor("fixed", (STEPS,), "int32", None, np.arange(STEPS, dtype=np.int32))
    some = TfTensor("some", (1, STEPS), "int32")
    table = TfTensor("table", (50, WIDTH), "int8", LABEL, np.arange(50 * WIDTH, dtype=np.int8).reshape(50, WIDTH))
    tensors = {**model.tensors, "given": ids, **resized, "fixed": fixed, "some": some, "table": table}
    along = TfOperator("GATHER", 2, ("counted", "fixed"), ("some",), "GatherOptions", {"Axis": 1, "BatchDims": 0})
    *before, gather, mean = model.operators
    return replace(model, tensors=tensors, operators=(*before, along, replace(gather, inputs=("table", "some")), mean))


def test_numbers_are_counted_where_they_are_indices_alone() -> None:
    with pytest.raises(UnsupportedError, match=r"LESS.*computes with them"):
        from_bytes(file(counted_elsewhere()))
    clamped = with_operator(embedding(), "ADD", fields={"FusedActivationFunction": ("ActivationFunctionType", "RELU6")})
    with pytest.raises(UnsupportedError, match=r"LESS.*computes with them"):
        from_bytes(file(clamped))


def small(tensors: list[TfTensor], *operators: TfOperator, inputs: str = "ids") -> bytes:
    found = {tensor.name: tensor for tensor in tensors}
    names = [(name, name) for name in inputs.split()]
    return file(TfModel(found, operators, tuple(names), (("y", "y"),)))


IDS = TfTensor("ids", (1, STEPS), "int32")


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_table_without_rows_is_refused(dtype: str, tmp_path: Path) -> None:
    label = LABEL if dtype == "int8" else None
    tensors = [IDS, TfTensor("table", (), dtype, label, np.array(3, dtype)), TfTensor("y", (1, STEPS), dtype, label)]
    content = small(tensors, TfOperator("EMBEDDING_LOOKUP", 1, ("ids", "table"), ("y",), ""))
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    with pytest.raises(UnsupportedError, match="required a constant table of rows"):
        unfloat.quantize(path, [np.zeros((1, STEPS), np.int32)]) if dtype == "float32" else from_bytes(content)


@pytest.mark.parametrize("builtin", ["RELU", "QUANTIZE"])
def test_integers_come_from_inputs_and_arg_max(builtin: str) -> None:
    table = TfTensor("table", (ROWS, WIDTH), "int8", LABEL, np.zeros((ROWS, WIDTH), np.int8))
    tensors = [TfTensor("x", (1, STEPS), "int8", LABEL), IDS, table, TfTensor("y", (1, STEPS, WIDTH), "int8", LABEL)]
    made = TfOperator(builtin, 1, ("x",), ("ids",), "QuantizeOptions" if builtin == "QUANTIZE" else "")
    gather = TfOperator("GATHER", 2, ("table", "ids"), ("y",), "GatherOptions", {"Axis": 0, "BatchDims": 0})
    with pytest.raises(UnsupportedError, match=rf"{builtin}.*integers come from inputs"):
        from_bytes(small(tensors, made, gather, inputs="x"))


def test_computed_real_numbers_are_no_indices(tmp_path: Path) -> None:
    table = TfTensor("table", (ROWS, WIDTH), "float32", None, np.zeros((ROWS, WIDTH), np.float32))
    tensors = [TfTensor(name, (1, STEPS), "float32") for name in ("x", "s")]
    tensors += [IDS, table, TfTensor("y", (1, STEPS, WIDTH), "float32")]
    operators = (
        TfOperator("LOGISTIC", 1, ("x",), ("s",), ""),
        TfOperator("CAST", 1, ("s",), ("ids",), "CastOptions"),
        TfOperator("GATHER", 1, ("table", "ids"), ("y",), "GatherOptions", {"Axis": 0, "BatchDims": 0}),
    )
    path = tmp_path / "net.tflite"
    path.write_bytes(small(tensors, *operators, inputs="x"))
    with pytest.raises(UnsupportedError, match=r"CAST.*real numbers are computed"):
        unfloat.quantize(path, [np.zeros((1, STEPS), np.float32)])


@pytest.mark.parametrize("inputs", ["ids x", "x ids"])
def test_indices_without_a_batch(inputs: str) -> None:
    """Where another input's leading dimension cannot be the batch, one goes before all; whichever comes first."""
    x, ids = TfTensor("x", (1, 9, 3), "int8", LABEL), TfTensor("ids", (4,), "int32")
    tensors = [ids, x, TfTensor("y", (1, 4, 3), "int8", LABEL)]
    gather = TfOperator("GATHER", 2, ("x", "ids"), ("y",), "GatherOptions", {"Axis": 1, "BatchDims": 0})
    content = small(tensors, gather, inputs=inputs)
    program = from_bytes(content)
    codes, numbers = (
        np.random.default_rng(5).integers(low, high, (6, *shape)).astype(dtype)
        for low, high, shape, dtype in ((-128, 128, (1, 9, 3), np.int8), (0, 9, (4,), np.int16))
    )
    given = [numbers, codes] if inputs == "ids x" else [codes, numbers]
    ((found,),) = peer("tflm")([(content, given)])
    own = [x.reshape(-1, *port.shape[1:]) for x, port in zip(given, program.inputs, strict=True)]
    assert np.array_equal(found.reshape(-1), interpret(program, own)[0].reshape(-1))


def test_shapes_of_indices_are_known_and_shapes_by_data_are_not() -> None:
    table = TfTensor("table", (ROWS, WIDTH), "int8", LABEL, np.arange(ROWS * WIDTH, dtype=np.int8).reshape(ROWS, WIDTH))
    rows, wanted = TfTensor("rows", (1, STEPS, WIDTH), "int8", LABEL), TfTensor("wanted", (2,), "int32")
    y = TfTensor("y", (1, STEPS), "int32")
    gather = TfOperator("GATHER", 2, ("table", "ids"), ("rows",), "GatherOptions", {"Axis": 0, "BatchDims": 0})
    shape = TfOperator("SHAPE", 1, ("ids",), ("wanted",), "ShapeOptions", {"OutType": ("TensorType", "INT32")})
    known = TfOperator("RESHAPE", 1, ("ids", "wanted"), ("y",), "ReshapeOptions")
    tensors = [IDS, table, rows, wanted, y]
    found = file(
        TfModel({t.name: t for t in tensors}, (gather, shape, known), (("ids", "ids"),), (("y", "y"), ("r", "rows")))
    )
    assert [i.op for i in from_bytes(found).instructions] == ["take"]
    size = TfTensor("size", (2,), "int32")
    by_data = TfOperator("RESHAPE", 1, ("ids", "size"), ("y",), "ReshapeOptions")
    with pytest.raises(UnsupportedError, match=r"RESHAPE.*data decide"):
        from_bytes(small([IDS, size, y], by_data, inputs="ids size"))


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
