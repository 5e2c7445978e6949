"""Files as few converters write them: the public runtimes' bits, or a refusal that says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.unusual import (
    LABEL,
    WEIGHT,
    WIDER,
    agrees,
    agrees_in_floats,
    codes,
    constant,
    file,
    integers,
    numbers,
    operator,
    reals,
    refused,
    with_fields,
)
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.read_float import read
from unfloat.ir.graph import BATCH, Shape
from unfloat.ops import REGISTRY
from unfloat.spec.errors import UnsupportedError


@pytest.mark.parametrize(
    ("tensors", "operators"),
    [
        (
            [codes("x", (3, 3, 2)), numbers("axes", [1]), codes("m", (3, 2)), codes("y", (3, 3, 2))],
            [operator("MEAN", "x axes", "m", "ReducerOptions"), operator("SUB", "x m", "y", "SubOptions")],
        ),
        (
            [codes("x", (3, 3)), codes("z", (3,)), codes("y", (3, 3))],
            [operator("MUL", "x z", "y", "MulOptions")],
        ),
        (
            [codes("x", (2, 2, 3, 4)), codes("z", (2, 4, 5)), codes("y", (2, 2, 3, 5), WIDER)],
            [operator("BATCH_MATMUL", "x z", "y", "BatchMatMulOptions")],
        ),
    ],
    ids=["mean", "factor", "matrices"],
)
def test_a_dimension_as_long_as_the_batch_is_not_the_batch(tensors: list, operators: list) -> None:
    """TFLite aligns dimensions from behind."""
    agrees(file(tensors, operators))


def test_a_softmax_of_real_numbers_keeps_its_beta(tmp_path: Path) -> None:
    made = operator("SOFTMAX", "x", "y", "SoftmaxOptions", Beta=3.0)
    agrees_in_floats(file([reals("x", (4, 10)), reals("y", (4, 10))], [made]), tmp_path)


def bordered(value: float) -> bytes:
    """A PADV2 of real numbers."""
    tensors = [reals("x", (1, 3, 2)), numbers("pairs", [[0, 0], [1, 2], [0, 1]]), reals("v", (), value)]
    return file([*tensors, reals("y", (1, 6, 3))], [operator("PADV2", "x pairs v", "y", "PadV2Options")])


def test_a_border_of_real_numbers_is_zeros(tmp_path: Path) -> None:
    agrees_in_floats(bordered(0.0), tmp_path)


@pytest.mark.parametrize("value", [1.0, -0.5, -np.inf, np.nan, float(np.finfo(np.float32).min)])
def test_another_border_of_real_numbers_is_refused(value: float, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(bordered(value))
    with pytest.raises(UnsupportedError, match=r"PADV2.*required a border of zeros in a model to quantize, found"):
        read(path)


WEIGHTED: dict[str, tuple[str, Shape, str, dict[str, Any]]] = {  # operands, weight, options
    "CONV_2D": ("x w b", (3, 3, 3, 3), "Conv2DOptions", {"StrideH": 1, "StrideW": 1}),
    "DEPTHWISE_CONV_2D": (
        "x w b", (1, 3, 3, 3), "DepthwiseConv2DOptions", {"StrideH": 1, "StrideW": 1, "DepthMultiplier": 1}
    ),
    "TRANSPOSE_CONV": ("shape w x b", (3, 3, 3, 3), "TransposeConvOptions", {"StrideH": 1, "StrideW": 1}),
    "FULLY_CONNECTED": ("x w b", (3, 3), "FullyConnectedOptions", {"KeepNumDims": True}),
}  # fmt: skip


def weighted(builtin: str, weight: Quantization = WEIGHT, dtype: str = "int8", bias: str = "int32") -> bytes:
    """A linear operator on int8 codes."""
    operands, shape, options, fields = WEIGHTED[builtin]
    tensors = [
        codes("x", (1, 4, 4, 3)),
        *([numbers("shape", [1, 4, 4, 3])] if "shape" in operands else []),
        constant("w", shape, weight, dtype),
        replace(numbers("b", [60, -90, 7], bias), quantization=Quantization((0.0005,))),
        codes("y", (1, 4, 4, 3), WIDER),
    ]
    return file(tensors, [operator(builtin, operands, "y", options, **fields)])


@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"])
def test_int8_weights_with_a_zero_point_are_refused(builtin: str) -> None:
    """TensorFlow Lite Micro and LiteRT take them for symmetric ones."""
    agrees(weighted(builtin))
    refused(weighted(builtin, Quantization((0.01,), 7)), f"{builtin}.*required int8 weights of zero point 0, found 7")


def test_int8_weights_of_a_fully_connected_layer_may_have_a_zero_point() -> None:
    agrees(weighted("FULLY_CONNECTED", Quantization((0.01,), 7)), "tflm")


@pytest.mark.parametrize(
    ("last", "reader"),
    [
        (codes("y", (1, 8), WIDER), operator("QUANTIZE", "f", "y", "QuantizeOptions")),
        (integers("y", (1,)), operator("ARG_MAX", "f axis", "y", "ArgMaxOptions")),
    ],
    ids=["quantize", "arg_max"],
)
def test_real_numbers_that_leave_and_are_read_again_are_no_codes(last: TfTensor, reader: TfOperator) -> None:
    made = [operator("DEQUANTIZE", "x", "f", "DequantizeOptions"), reader]
    axis = [numbers("axis", 1)] if "axis" in reader.inputs else []
    refused(
        file([codes("x", (1, 8)), *axis, reals("f", (1, 8)), last], made, "y f"), r"DEQUANTIZE.*it computes with floats"
    )


def padded(*made: TfTensor | TfOperator, result: Shape = (5, 6)) -> bytes:
    """A PAD of [3, 5] by what integers "p" are computed."""
    tensors = [codes("x", (3, 5)), integers("p", (2, 2)), *(t for t in made if isinstance(t, TfTensor))]
    operators = [*(o for o in made if isinstance(o, TfOperator)), operator("PAD", "x p", "y", "PadOptions")]
    return file([*tensors, codes("y", result)], operators)


@pytest.mark.parametrize(
    "made",
    [
        [
            numbers("a", [2, 1]),
            numbers("b", [0, 0]),
            operator("PACK", "a b", "p", "PackOptions", Axis=1, ValuesCount=2),
        ],
        [
            numbers("a", [[2], [1]]),
            numbers("b", [[0], [0]]),
            operator("CONCATENATION", "a b", "p", "ConcatenationOptions", Axis=-1),
        ],
        [
            numbers("a", [[0, 2], [0, 1]]),
            numbers("b", [1, 0]),
            operator("GATHER", "a b", "p", "GatherOptions", Axis=1),
        ],
    ],
    ids=["pack", "concatenation", "gather"],
)
def test_integers_are_joined_and_chosen_along_an_axis(made: list[TfTensor | TfOperator]) -> None:
    agrees(padded(*made), "litert")  # TensorFlow Lite Micro knows no shapes that are computed


def sliced(begin: int, end: int, stride: int, **masks: int) -> list[TfTensor | TfOperator]:
    """One integer of [7, 2, 4], sliced, as both paddings of [3, 5] in front."""
    bounds = [numbers(name, [value]) for name, value in (("begin", begin), ("end", end), ("stride", stride))]
    return [
        numbers("a", [2, 7, 1]),
        *bounds,
        integers("s", ()),
        operator("STRIDED_SLICE", "a begin end stride", "s", "StridedSliceOptions", **masks),
        numbers("rows", [0, 0]),
        integers("r", (2,)),
        numbers("zero", 0),
        operator("PACK", "s zero", "r", "PackOptions", ValuesCount=2),
        operator("PACK", "r rows", "p", "PackOptions", ValuesCount=2),
    ]


def test_an_axis_of_integers_that_goes_has_the_first_where_a_mask_begins_it() -> None:
    agrees(padded(*sliced(1, 2, 1, BeginMask=1, ShrinkAxisMask=1), result=(5, 5)), "litert")
    agrees(padded(*sliced(-1, 0, 1, ShrinkAxisMask=1), result=(4, 5)), "litert")
    agrees(padded(*sliced(-1, 0, 1, BeginMask=2, ShrinkAxisMask=1), result=(4, 5)), "litert")


@pytest.mark.parametrize("mask", ["EllipsisMask", "NewAxisMask"])
def test_new_axes_of_integers_are_refused(mask: str) -> None:
    refused(padded(*sliced(0, 1, 1, ShrinkAxisMask=1, **{mask: 1})), "STRIDED_SLICE.*required a slice of one dimension")


def test_a_batch_of_indices_of_integers_is_refused() -> None:
    tensors = [numbers("a", [[0, 2], [0, 1]]), numbers("b", [[1, 0], [1, 0]])]
    gather = operator("GATHER", "a b", "p", "GatherOptions", Axis=1, BatchDims=1)
    refused(padded(*tensors, gather), "GATHER.*required the same indices for all integers")


def strided(stride: int, **masks: int) -> bytes:
    """A slice of a row of 5."""
    bounds = [numbers("begin", [0, 3]), numbers("end", [1, 4]), numbers("stride", [1, stride])]
    slice_ = operator("STRIDED_SLICE", "x begin end stride", "y", "StridedSliceOptions", **masks)
    return file([codes("x", (1, 5)), *bounds, codes("y", (1,))], [slice_])


def test_an_axis_that_goes_has_its_first_cell_where_a_mask_begins_it() -> None:
    agrees(strided(1, BeginMask=2, ShrinkAxisMask=2))


def test_an_axis_that_goes_backwards_is_refused() -> None:
    refused(strided(-1, ShrinkAxisMask=2), "STRIDED_SLICE.*required an index into 5 cells, a stride of 1, found 3, -1")


@pytest.mark.parametrize(("subgraph", "name"), [(0, "user"), (1, "x")])
def test_a_signature_names_the_tensors_of_its_own_subgraph(
    subgraph: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fields(monkeypatch, "SignatureDef", SubgraphIndex=lambda _: subgraph)
    tensors = {tensor.name: tensor for tensor in (codes("x", (1, 8)), codes("y", (1, 8)))}
    made = encode(TfModel(tensors, (operator("RELU", "x", "y"),), (("user", "x"),), (("y", "y"),)), "a signature")
    assert from_bytes(made).inputs[0].name == name


def test_a_result_that_contradicts_what_the_operator_makes_is_refused() -> None:
    resize = operator("RESIZE_NEAREST_NEIGHBOR", "x size", "y", "ResizeNearestNeighborOptions")
    content = file([codes("x", (1, 4, 3, 2)), numbers("size", [8, 6]), codes("y", (1, 6, 8, 2))], [resize])
    refused(content, r"RESIZE_NEAREST_NEIGHBOR.*required a result of \(-1, 8, 6, 2\), found")


def rows(shape: Shape, result: Shape) -> bytes:
    """A FULLY_CONNECTED of rows of 8, which become rows of 3."""
    layer = operator("FULLY_CONNECTED", "x w b", "y", "FullyConnectedOptions")
    bias = replace(numbers("b", [60, -90, 7]), quantization=Quantization((0.0005,)))
    return file([codes("x", shape), constant("w", (3, 8), WEIGHT), bias, codes("y", result, WIDER)], [layer])


@pytest.mark.parametrize(("shape", "result"), [((8,), (3,)), ((8,), (1, 3)), ((2, 4), (1, 3)), ((3, 2, 4, 2), (6, 3))])
def test_rows_may_be_cut_by_other_dimensions(shape: Shape, result: Shape) -> None:
    agrees(rows(shape, result), "tflm")


@pytest.mark.parametrize(("shape", "result"), [((2, 4), (2, 3)), ((2, 8), (2, 4)), ((1, 7), (1, 3))])
def test_rows_that_do_not_fit_are_refused(shape: Shape, result: Shape) -> None:
    refused(rows(shape, result), "FULLY_CONNECTED.*required rows of 8 values that become 3, found")


@pytest.mark.parametrize("bias", ["int8", "int16", "int64"])
@pytest.mark.parametrize("builtin", WEIGHTED)
def test_a_bias_of_another_type_is_refused(builtin: str, bias: str) -> None:
    refused(weighted(builtin, bias=bias), f"{builtin}.*required a bias of int32 for 8-bit codes, found {bias}")


UNSIGNED = Quantization((0.05,), 131)


@pytest.mark.parametrize(
    ("builtin", "operands", "options", "result"),
    [
        ("ADD", [codes("x", (1, 8)), codes("z", (1, 8), UNSIGNED, "uint8")], "AddOptions", codes("y", (1, 8))),
        ("MUL", [codes("x", (1, 8)), codes("z", (1, 8), dtype="int16")], "MulOptions", codes("y", (1, 8))),
        ("RELU", [codes("x", (1, 8))], "", codes("y", (1, 8), UNSIGNED, "uint8")),
        ("HARD_SWISH", [codes("x", (1, 8))], "HardSwishOptions", codes("y", (1, 8), UNSIGNED, "uint8")),
        ("MEAN", [codes("x", (1, 8)), numbers("a", [1])], "ReducerOptions", codes("y", (1,), UNSIGNED, "uint8")),
        ("PRELU", [codes("x", (1, 8)), constant("s", (8,), UNSIGNED, "uint8")], "", codes("y", (1, 8))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_codes_of_two_types_are_refused(builtin: str, operands: list[TfTensor], options: str, result: TfTensor) -> None:
    made = operator(builtin, " ".join(t.name for t in operands), "y", options)
    refused(file([*operands, result], [made]), f"{builtin}.*required codes of one type, found")


@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"])
def test_weights_of_another_type_are_refused(builtin: str) -> None:
    content = weighted(builtin, Quantization((0.01,), 131), "uint8")
    refused(content, f"{builtin}.*required codes of one type, found int8, uint8")


def test_real_0_may_be_the_lowest_code_of_weights_that_do_not_use_it() -> None:
    """A blur: all weights are positive."""
    label, weight = Quantization((0.05,), 3), Quantization((0.001,))
    blur = TfTensor(
        "w", (1, 3, 3, 1), "uint8", weight, np.array([1, 2, 1, 2, 4, 2, 1, 2, 1], np.uint8).reshape(1, 3, 3, 1) * 16
    )
    image, bias = codes("x", (1, 4, 4, 1), label, "uint8"), replace(numbers("b", [0]), quantization=weight)
    fields = {"StrideH": 1, "StrideW": 1, "DepthMultiplier": 1}
    made = operator("DEPTHWISE_CONV_2D", "x w b", "y", "DepthwiseConv2DOptions", **fields)
    agrees(file([image, blur, bias, codes("y", (1, 4, 4, 1), label, "uint8")], [made]), "litert")
    agrees(weighted("FULLY_CONNECTED", Quantization((0.01,), -128)), "tflm")


CLASSES = Quantization((2.0**-8,), -128)
UNIT = Quantization((2.0**-7,))


@pytest.mark.parametrize(
    ("tensors", "made"),
    [
        (
            [codes("x", (1, 4)), codes("z", (1, 4)), codes("y", (2, 4))],
            operator("CONCATENATION", "x z", "y", "ConcatenationOptions", Axis=0),
        ),
        ([codes("x", (10,)), codes("y", (10,), CLASSES)], operator("SOFTMAX", "x", "y", "SoftmaxOptions", Beta=1.0)),
        (
            [codes("x", (10,)), codes("y", (10,), Quantization((1 / 16,), 127))],
            operator("LOG_SOFTMAX", "x", "y", "LogSoftmaxOptions"),
        ),
        ([codes("x", (10,)), codes("y", (10,), UNIT)], operator("L2_NORMALIZATION", "x", "y", "L2NormOptions")),
        (
            [codes("x", (1, 4)), codes("z", (4, 5)), codes("y", (1, 5), WIDER)],
            operator("BATCH_MATMUL", "x z", "y", "BatchMatMulOptions"),
        ),
    ],
    ids=lambda value: value.builtin if isinstance(value, TfOperator) else "",
)
def test_a_batch_goes_before_dimensions_that_are_computed_with(tensors: list[TfTensor], made: TfOperator) -> None:
    agrees(file(tensors, [made]), "tflm")


@pytest.mark.parametrize("builtin", ["MEAN", "SUM"])
def test_a_result_that_begins_with_1_gets_the_batch(builtin: str) -> None:
    tensors = [codes("x", (1, 3, 4)), codes("s", (3, 4)), numbers("axes", [0]), codes("y", (1, 4), WIDER)]
    squeeze = operator("SQUEEZE", "x", "s", "SqueezeOptions", SqueezeDims=(0,))
    agrees(file(tensors, [squeeze, operator(builtin, "s axes", "y", "ReducerOptions", KeepDims=True)]), "tflm")


@pytest.mark.parametrize(
    ("tensors", "made", "reason"),
    [
        (
            [codes("x", (1, 2, 4)), numbers("axes", np.zeros(0, np.int32)), codes("y", (1, 2, 4))],
            operator("MEAN", "x axes", "y", "ReducerOptions"),
            r"MEAN.*axes \(\) do not name dimensions",
        ),
        (
            [codes("x", (1, 2, 4)), codes("z", (1, 3, 4)), codes("y", (1, 2, 8))],
            operator("CONCATENATION", "x z", "y", "ConcatenationOptions", Axis=2),
            "CONCATENATION.*do not join along axis",
        ),
    ],
    ids=lambda value: value.builtin if isinstance(value, TfOperator) else "",
)
def test_an_operator_that_no_instruction_is_is_named(tensors: list[TfTensor], made: TfOperator, reason: str) -> None:
    refused(file(tensors, [made]), reason)


SHAPE = [
    numbers("zero", [0]),
    integers("s", (3,)),
    operator("SHAPE", "x", "s", "ShapeOptions", OutType=("TensorType", "INT32")),
]


def reshaped(*made: TfTensor | TfOperator) -> bytes:
    """A RESHAPE of [1, 4, 6] to [4, 6] by the shape "p" that is computed of the input's own, "s"."""
    parts = [*SHAPE, *made]
    tensors = [codes("x", (1, 4, 6)), integers("p", (2,)), *(t for t in parts if isinstance(t, TfTensor))]
    operators = [*(o for o in parts if isinstance(o, TfOperator)), operator("RESHAPE", "x p", "y", "ReshapeOptions")]
    return file([*tensors, codes("y", (4, 6))], operators)


@pytest.mark.parametrize(
    "made",
    [
        [  # Keras 2's Tensordot
            numbers("which", [0, 1]),
            integers("g", (2,)),
            operator("GATHER", "s which", "g", "GatherOptions"),
            integers("m", ()),
            operator("REDUCE_PROD", "g zero", "m", "ReducerOptions"),
            numbers("six", 6),
            operator("PACK", "m six", "p", "PackOptions", ValuesCount=2),
        ],
        [
            numbers("one", [1]),
            integers("f", (1,)),
            operator("SLICE", "s one one", "f", "SliceOptions"),
            numbers("two", 2),
            integers("t", (1,)),
            operator("MUL", "f two", "t", "MulOptions"),
            integers("h", (1,)),
            operator("SUB", "t f", "h", "SubOptions"),
            integers("w", (1,)),
            operator("ADD", "h two", "w", "AddOptions"),
            integers("c", (2,)),
            operator("CONCATENATION", "h w", "c", "ConcatenationOptions"),
            operator("MAXIMUM", "c zero", "p", "MaximumMinimumOptions"),
        ],
        [
            TfTensor("l", (3,), "int64"),
            operator("CAST", "s", "l", "CastOptions"),
            integers("i", (3,)),
            operator("CAST", "l", "i", "CastOptions"),
            numbers("column", [3, 1]),
            integers("r", (3, 1)),
            operator("RESHAPE", "i column", "r", "ReshapeOptions"),
            integers("q", (3,)),
            operator("SQUEEZE", "r", "q", "SqueezeOptions", SqueezeDims=(1,)),
            integers("e", (1, 3)),
            operator("EXPAND_DIMS", "q zero", "e", "ExpandDimsOptions"),
            numbers("begin", [0, 1]),
            numbers("size", [1, -1]),
            integers("d", (1, 2)),
            operator("SLICE", "e begin size", "d", "SliceOptions"),
            operator("SQUEEZE", "d", "p", "SqueezeOptions", SqueezeDims=(0,)),
        ],
    ],
    ids=["tensordot", "arithmetic", "moves"],
)
def test_arithmetic_with_shapes_is_done_beforehand(made: list[TfTensor | TfOperator]) -> None:
    assert not agrees(reshaped(*made), "litert")  # no instruction is left


def test_a_border_of_no_cells_is_no_instruction() -> None:
    tensors = [codes("x", (1, 6)), numbers("axes", [1]), codes("m", (1,)), numbers("pairs", [[0, 0]]), codes("y", (1,))]
    made = [operator("REDUCE_MAX", "x axes", "m", "ReducerOptions"), operator("PAD", "m pairs", "y", "PadOptions")]
    assert agrees(file(tensors, made)) == ["reduce_max"]


def test_a_batch_alone_has_no_border() -> None:
    with pytest.raises(ValueError, match="of one at least beside the batch"):
        REGISTRY["pad"].shape({"paddings": (0, 0)}, [(BATCH,)], {})


def joined(operands: list[TfTensor], axis: int, result: Shape, builtin: str = "CONCATENATION") -> bytes:
    """Operands one after the other."""
    options = {"CONCATENATION": "ConcatenationOptions", "PACK": "PackOptions"}[builtin]
    count = {"ValuesCount": len(operands)} if builtin == "PACK" else {}
    made = operator(builtin, " ".join(t.name for t in operands), "y", options, Axis=axis, **count)
    return file([*operands, replace(operands[0], name="y", shape=result, data=None)], [made])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_constants_are_joined_to_what_is_computed(dtype: str) -> None:
    """As a class's token is put in front of an image's."""
    label = Quantization((0.05,), 3 if dtype == "int8" else 0)
    token, end = (constant(name, (1, count, 8), label, dtype) for name, count in (("token", 1), ("end", 2)))
    x, z = (codes(name, (1, count, 8), label, dtype) for name, count in (("x", 4), ("z", 3)))
    assert agrees(joined([token, x], 1, (1, 5, 8))) == ["pad", "maximum"]
    assert agrees(joined([x, end], 1, (1, 6, 8))) == ["pad", "maximum"]
    many = ["pad", "concatenation", "maximum"]
    assert agrees(joined([token, end, x, z], -2, (1, 10, 8))) == many
    assert agrees(joined([x, token, end, z], 1, (1, 10, 8))) == many
    assert agrees(joined([token, x, end, z, token], 1, (1, 11, 8))) == ["pad", *many]


def test_constants_are_packed_with_what_is_computed() -> None:
    content = joined([constant("c", (1, 8)), codes("x", (1, 8)), constant("d", (1, 8))], 1, (1, 3, 8), "PACK")
    assert agrees(content) == ["reshape", "pad", "maximum"]


def test_real_constants_are_joined_to_what_is_computed(tmp_path: Path) -> None:
    content = joined([reals("t", (1, 1, 8), 0.7), reals("x", (1, 4, 8)), reals("e", (1, 2, 8), -3.0)], 1, (1, 7, 8))
    agrees_in_floats(content, tmp_path)


def test_constants_that_do_not_fit_or_alone_are_refused() -> None:
    refused(joined([codes("x", (1, 8)), constant("c", (1, 7))], 1, (1, 2, 8), "PACK"), "PACK.*required a constant")
    refused(
        joined([codes("x", (1, 4, 8)), constant("c", (1, 1, 7))], 1, (1, 5, 8)), "CONCATENATION.*required a constant"
    )
    refused(
        joined([constant("c", (1, 1, 8)), constant("d", (1, 1, 8))], 1, (1, 2, 8)),
        "CONCATENATION.*required one operand",
    )


def test_weights_of_float16_are_read(tmp_path: Path) -> None:
    """As converters write them to halve a file: each is made float32 by a DEQUANTIZE."""
    rng = np.random.default_rng(0)
    halves = {"w": rng.normal(0, 0.3, (4, 3, 3, 2)), "b": rng.normal(0, 0.1, 4)}
    tensors = [TfTensor(f"{n}16", a.shape, "float16", None, a.astype(np.float16)) for n, a in halves.items()]
    tensors += [reals(name, array.shape) for name, array in halves.items()]
    made = [operator("DEQUANTIZE", f"{name}16", name, "DequantizeOptions") for name in halves]
    made.append(operator("CONV_2D", "x w b", "y", "Conv2DOptions", StrideH=1, StrideW=1))
    agrees_in_floats(file([*tensors, reals("x", (1, 5, 6, 2)), reals("y", (1, 5, 6, 4))], made), tmp_path)


def windows(builtin: str, options: str, **fields: Any) -> bytes:
    """A pool of 4 x 4 pixels, or a convolution of them."""
    linear = builtin == "DEPTHWISE_CONV_2D"
    bias = replace(numbers("b", [60, -90, 7]), quantization=Quantization((0.0005,)))
    constants = [constant("w", (1, 1, 1, 3), WEIGHT), bias] if linear else []
    made = operator(builtin, "x w b" if linear else "x", "y", options, **fields)
    return file([codes("x", (1, 4, 4, 3)), *constants, codes("y", (1, 4, 4, 3))], [made])


@pytest.mark.parametrize("builtin", ["MAX_POOL_2D", "AVERAGE_POOL_2D", "DEPTHWISE_CONV_2D"])
def test_windows_without_options_are_refused(builtin: str) -> None:
    refused(windows(builtin, ""), f"{builtin}.*required options, found none")


@pytest.mark.parametrize("multiplier", [0, 1, 2])
def test_a_depth_multiplier_fits_the_shapes(multiplier: int) -> None:
    fields = {"StrideH": 1, "StrideW": 1, "DepthMultiplier": multiplier}
    content = windows("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", **fields)
    if multiplier < 2:
        agrees(content, "litert")  # TensorFlow Lite Micro makes no channels where it is 0
    else:
        refused(content, "DEPTHWISE_CONV_2D.*required 3 channels from 3, found a multiplier of 2")


def test_sparse_constants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fields(monkeypatch, "Tensor", Sparsity=lambda encoder: encoder.table("SparsityParameters"))
    refused(weighted("FULLY_CONNECTED"), "tensor 0.*required that all numbers are stored, found a sparse tensor")


@pytest.mark.parametrize("signature", [[1, -1, -1, 3], [-1, 1, -1, 3]])
def test_sizes_that_only_a_run_decides_are_refused(signature: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 1 stands for them in the file."""
    tensors, relu = [codes("x", (1, 1, 1, 3)), codes("y", (1, 1, 1, 3))], operator("RELU", "x", "y")
    with_fields(monkeypatch, "Tensor", ShapeSignature=lambda encoder: encoder.numbers(signature, np.int32))
    refused(file(tensors, [relu]), "input x: required sizes that are known but for the batch")


@pytest.mark.parametrize("signature", [[-1, 1, 1, 3], [], [1, 1, 1, 3]])
def test_a_batch_that_only_a_run_decides_is_any(signature: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, relu = [codes("x", (1, 1, 1, 3)), codes("y", (1, 1, 1, 3))], operator("RELU", "x", "y")
    with_fields(monkeypatch, "Tensor", ShapeSignature=lambda encoder: encoder.numbers(signature, np.int32))
    agrees(file(tensors, [relu]))


def test_a_tensor_is_one_input() -> None:
    tensors = {tensor.name: tensor for tensor in (codes("x", (1, 8)), codes("y", (1, 8)))}
    ports = ((("a", "x"), ("b", "x")), (("y", "y"),))
    refused(
        encode(TfModel(tensors, (operator("RELU", "x", "y"),), *ports), "twice"),
        "input b: required a tensor of its own",
    )


CHANNELS = Quantization((0.05, 0.1, 0.2, 0.4), 0, 1)


@pytest.mark.parametrize(
    ("tensors", "made", "reason"),
    [
        (
            [codes("x", (1, 8)), codes("y", (1, 8))],
            operator("SOFTMAX", "x", "y", "SoftmaxOptions", Beta=1.0),
            "operator 0 .SOFTMAX., which makes y: .*required an output of QParams",
        ),
        (
            [codes("x", (1, 4)), codes("y", (1, 4), CHANNELS)],
            operator("QUANTIZE", "x", "y", "QuantizeOptions"),
            "QUANTIZE.*required one scale for all of y",
        ),
        (
            [codes("x", (1, 4)), constant("c", (1, 4), CHANNELS), codes("y", (1, 4))],
            operator("ADD", "x c", "y", "AddOptions"),
            "ADD.*required one scale for all of c",
        ),
        (
            [codes("x", (1, 4), CHANNELS), codes("y", (1, 4))],
            operator("QUANTIZE", "x", "y", "QuantizeOptions"),
            "input x: required one scale",
        ),
        (
            [codes(n, (1, 2, 2), LABEL, "uint8") for n in "xzy"],
            operator("BATCH_MATMUL", "x z", "y", "BatchMatMulOptions"),
            "BATCH_MATMUL.*required codes of int8 or int16, found uint8",
        ),
        (
            [codes("x", (1, 4)), *(numbers(n, [0, 1]) for n in "bes"), codes("y", (1, 1))],
            operator("STRIDED_SLICE", "x b e s", "y", "StridedSliceOptions", Offset=True),
            "STRIDED_SLICE.*counted from the begins",
        ),
        (
            [codes("x", (1, 2, 2, 1), LABEL, "uint8"), numbers("s", [4, 4]), codes("y", (1, 4, 4, 1), LABEL, "uint8")],
            operator("RESIZE_BILINEAR", "x s", "y", "ResizeBilinearOptions"),
            "RESIZE_BILINEAR.*required int8 or int16 codes, found uint8",
        ),
    ],
    ids=lambda value: value.builtin if isinstance(value, TfOperator) else "",
)
def test_what_an_instruction_may_not_mean_is_said_of_its_operator(
    tensors: list[TfTensor], made: TfOperator, reason: str
) -> None:
    refused(file(tensors, [made]), reason)
