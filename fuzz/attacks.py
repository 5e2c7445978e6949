"""The shapes of attack that model loaders have fallen to, as files: each with what the refusal must say.

Root and buffer offsets, operand indices, products of sizes that overflow, ranks confused, strides, groups and blocks of
zero, negative counts and padding, indices that data decide, huge counts, cycles, names that repeat, constants and
tables that are shared until a small file is much work, JSON that is deep or long.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tflite
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from tests.conformance.generate import DRAWS, build

from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Field, Quantization, TfModel, TfOperator, TfTensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.ops.softmax import beta_pair
from unfloat.program.file import KEY, to_bytes

Attack = tuple[Callable[[], bytes], str]
LABEL = Quantization((1.0,))
MANY = 4000


def codes(name: str, *shape: int) -> TfTensor:
    """An activation."""
    return TfTensor(name, shape, "int8", LABEL)


def numbers(name: str, values: Any) -> TfTensor:
    """A constant of int32."""
    data = np.array(values, np.int32)
    return TfTensor(name, data.shape, "int32", None, data)


def net(builtin: str, options: str, *tensors: TfTensor, y: TfTensor | None = None, **fields: Field) -> bytes:
    """A file of one operator on `tensors`, the first of them its input; the output is of [1, 4] unless it is given."""
    out = codes("y", 1, 4) if y is None else y
    operator = TfOperator(builtin, 1, tuple(t.name for t in tensors), (out.name,), options, fields)
    every = {t.name: t for t in (*tensors, out)}
    return encode(TfModel(every, (operator,), (("x", tensors[0].name),), (("y", out.name),)), "")


def plain() -> bytes:
    """A valid file: a RESHAPE."""
    return net("RESHAPE", "ReshapeOptions", codes("x", 1, 4), numbers("shape", [1, 4]))


def patched(content: bytes, table: Callable[[Any], Any], slot: int, value: int, inside: int | None = None) -> bytes:
    """A file with the scalar in a table's slot overwritten, or number `inside` of its vector; -1 is the length."""
    found = table(tflite.Model.GetRootAs(content))._tab
    offset = found.Offset(4 + 2 * slot)
    place = found.Pos + offset if inside is None else found.Vector(offset) + 4 * inside
    changed = bytearray(content)
    struct.pack_into("<I", changed, place, value & 0xFFFFFFFF)
    return bytes(changed)


def _tensor(index: int) -> Callable[[Any], Any]:
    return lambda model: model.Subgraphs(0).Tensors(index)


def _first_operator(model: Any) -> Any:
    return model.Subgraphs(0).Operators(0)


def _graph(model: Any) -> Any:
    return model.Subgraphs(0)


def _pool(**fields: Field) -> bytes:
    window = {"FilterHeight": 2, "FilterWidth": 2, "StrideH": 1, "StrideW": 1, "Padding": ("Padding", "VALID")}
    image, out = codes("x", 1, 4, 4, 4), codes("y", 1, 3, 3, 4)
    return net("MAX_POOL_2D", "Pool2DOptions", image, y=out, **{**window, **fields})


def _many(tensors: Mapping[str, TfTensor], operator: TfOperator, count: int, output: str) -> bytes:
    model = TfModel(tensors, (operator,) * count, (("x", "x"),), (("y", output),))
    return encode(model, "")


def _shared_vectors() -> bytes:
    """Operators that are one table, whose operands are one long vector."""
    content = bytearray(
        _many({"x": codes("x", 1, 4)}, TfOperator("PACK", 1, ("x",) * 8, ("x",), "PackOptions", {}), 64, "x")
    )
    found = tflite.Model.GetRootAs(content).Subgraphs(0)
    first = found.Operators(0)._tab.Pos
    start = found._tab.Vector(found._tab.Offset(10))
    content += b"\0" * (-len(content) % 4)
    vector = len(content)
    content += struct.pack("<I", MANY) + struct.pack(f"<{MANY}I", *(0 for _ in range(MANY)))
    place = first + tflite.Model.GetRootAs(content).Subgraphs(0).Operators(0)._tab.Offset(6)
    struct.pack_into("<I", content, place, vector - place)
    for i in range(64):
        struct.pack_into("<I", content, start + 4 * i, first - (start + 4 * i))
    return bytes(content)


def _shared_weight() -> bytes:
    """Every operator takes the one weight: a small file, much work."""
    tensors = {f"t{i}": codes(f"t{i}", 1, 256) for i in range(64)}
    tensors |= {"x": codes("x", 1, 256), "w": TfTensor("w", (256, 256), "int8", LABEL, np.ones((256, 256), np.int8))}
    operators = tuple(
        TfOperator("FULLY_CONNECTED", 4, ("x", "w"), (f"t{i}",), "FullyConnectedOptions", {}) for i in range(64)
    )
    return encode(TfModel(tensors, operators, (("x", "x"),), (("y", "t0"),)), "")


def _doubling() -> bytes:
    """A shape joined to itself, again and again."""
    tensors = {"x": codes("x", 1, 4), "n0": numbers("n0", [1, 4])}
    tensors |= {f"n{i}": TfTensor(f"n{i}", (2 << i,), "int32") for i in range(1, 29)}
    operators = tuple(
        TfOperator("CONCATENATION", 1, (f"n{i}", f"n{i}"), (f"n{i + 1}",), "ConcatenationOptions", {})
        for i in range(28)
    )
    return encode(TfModel(tensors, operators, (("x", "x"),), (("y", "x"),)), "")


def _foreign_options() -> bytes:
    """A RESHAPE whose options say that they are BUCKETIZE's, hence that their vector holds floats."""
    nan = int.from_bytes(struct.pack("<f", float("nan")), "little")
    out = codes("y", 1, 5)
    content = bytearray(net("RESHAPE", "ReshapeOptions", codes("x", 1, 4), y=out, NewShape=(nan,)))
    table = _first_operator(tflite.Model.GetRootAs(content))._tab
    content[table.Pos + table.Offset(10)] = tflite.BuiltinOptions.BucketizeOptions
    return bytes(content)


def _cycle() -> bytes:
    tensors = {name: codes(name, 1, 4) for name in "xab"}
    operators = (
        TfOperator("ADD", 2, ("x", "b"), ("a",), "AddOptions", {}),
        TfOperator("ADD", 2, ("x", "a"), ("b",), "AddOptions", {}),
    )
    return encode(TfModel(tensors, operators, (("x", "x"),), (("y", "b"),)), "")


def _same_output_twice() -> bytes:
    tensors = {name: codes(name, 1, 4) for name in "xa"}
    operator = TfOperator("ADD", 2, ("x", "x"), ("a",), "AddOptions", {})
    return encode(TfModel(tensors, (operator, replace(operator, inputs=("a", "a"))), (("x", "x"),), (("y", "a"),)), "")


TFLITE: dict[str, Attack] = {
    "a root outside the file": (lambda: struct.pack("<I", 2**32 - 1) + plain()[4:], "root"),
    "a root at the file's end": (lambda: struct.pack("<I", len(plain()) - 1) + plain()[4:], "root|version"),
    "a buffer that is not there": (
        lambda: patched(plain(), _tensor(1), 2, 9999),
        r"tensor 1 \(shape\) buffer: required one of 2, found 9999",
    ),
    "an operand that is not there": (
        lambda: patched(plain(), _first_operator, 1, 77, 0),
        "operator 0 .*inputs: required an index of -1 to 2, found 77",
    ),
    "a negative operand": (lambda: patched(plain(), _first_operator, 1, -2, 0), "inputs: required an index"),
    "a result that is not there": (lambda: patched(plain(), _first_operator, 2, -1, 0), "outputs: required an index"),
    "an output of the network that is not there": (lambda: patched(plain(), _graph, 2, 3, 0), "subgraph outputs"),
    "an operator code that is not there": (
        lambda: patched(net("MUL", "MulOptions", codes("x", 1, 4)), lambda m: _first_operator(m), 1, 2**31, -1),
        "inputs",
    ),
    "operators past the file": (lambda: patched(plain(), _graph, 3, 2**31 - 1, -1), "operators: .*more than the file"),
    "tensors past the file": (lambda: patched(plain(), _graph, 0, 2**32 - 1, -1), "tensors: .*more than the file"),
    "a negative size": (lambda: patched(plain(), _tensor(0), 0, -4, 1), "shape: required"),
    "sizes whose product overflows": (
        lambda: net("RELU", "", codes("x", 1, 65536, 65536, 4), y=codes("y", 1, 65536, 65536, 4)),
        "product fits int32|positive sizes",
    ),
    "a constant larger than its bytes": (
        lambda: patched(plain(), _tensor(1), 0, 2**30, 0),
        "buffer: required 4294967296 bytes",
    ),
    "hundreds of dimensions": (
        lambda: net("RELU", "", codes("x", *[1] * 300)),
        "shape: required at most 8 sizes",
    ),
    "a reshape to more cells": (
        lambda: net("RESHAPE", "ReshapeOptions", codes("x", 1, 4), y=codes("y", 1, 4000)),
        "as many values",
    ),
    "a stride of zero": (lambda: _pool(StrideH=0), "strides"),
    "a negative stride": (lambda: _pool(StrideW=-(2**31)), "strides"),
    "a window of zero": (lambda: _pool(FilterHeight=0), "strides, dilations and padding|kernel"),
    "a window past 31 bits": (
        lambda: _pool(FilterHeight=2**31 - 1, Padding=("Padding", "SAME")),
        "kernel|padding",
    ),
    "an unknown padding": (lambda: _pool(Padding=99), "Padding"),
    "a block of zero": (
        lambda: net("SPACE_TO_DEPTH", "SpaceToDepthOptions", codes("x", 1, 4, 4, 1), BlockSize=0),
        "block|SPACE_TO_DEPTH",
    ),
    "a negative block": (
        lambda: net("DEPTH_TO_SPACE", "DepthToSpaceOptions", codes("x", 1, 4, 4, 4), BlockSize=-2),
        "block|DEPTH_TO_SPACE",
    ),
    "channels that no group divides": (
        lambda: net(
            "CONV_2D",
            "Conv2DOptions",
            codes("x", 1, 4, 4, 5),
            TfTensor("w", (4, 1, 1, 2), "int8", LABEL, np.ones((4, 1, 1, 2), np.int8)),
            y=codes("y", 1, 4, 4, 4),
            StrideH=1,
            StrideW=1,
        ),
        "group|channels",
    ),
    "negative padding": (
        lambda: net("PAD", "PadOptions", codes("x", 1, 4), numbers("p", [[0, 0], [-2, 2]])),
        "PAD|paddings",
    ),
    "half a pair of paddings": (
        lambda: net("PAD", "PadOptions", codes("x", 1, 4), numbers("p", [0, 0, 1])),
        "required a pair of paddings",
    ),
    "a mirrored border of half a billion cells": (
        lambda: net("MIRROR_PAD", "MirrorPadOptions", codes("x", 1, 2**29), numbers("p", [[0, 0], [2**28, 2**28]])),
        "constants and indices of no more than",
    ),
    "an image of 2^40 pixels": (
        lambda: net(
            "RESIZE_NEAREST_NEIGHBOR",
            "ResizeNearestNeighborOptions",
            codes("x", 1, 4, 4, 1),
            numbers("s", [2**20, 2**20]),
        ),
        "rows and columns, at most 65536",
    ),
    "an index outside": (
        lambda: net("GATHER", "GatherOptions", codes("x", 1, 4), numbers("i", [0, 1, 2, 2**31 - 1]), Axis=1),
        "required indices below 4",
    ),
    "an output that is a constant": (
        lambda: encode(
            TfModel(
                {
                    "x": codes("x", 1, 4),
                    "c": TfTensor("c", (1, 4), "int8", Quantization((1.0,)), np.zeros((1, 4), np.int8)),
                },
                (),
                (("x", "x"),),
                (("y", "c"),),
            ),
            "",
        ),
        "output y: required a value that is computed, found a constant",
    ),
    "a tile of half a billion cells": (
        lambda: net("TILE", "TileOptions", codes("x", 1, 4), numbers("m", [1, 2**27])),
        "constants and indices of no more than",
    ),
    "a tile of nothing": (
        lambda: net("TILE", "TileOptions", codes("x", 1, 4), numbers("m", [1, 0])),
        "required a number of times for each of 2 dimensions",
    ),
    "indices that data decide": (
        lambda: net("GATHER", "GatherOptions", codes("x", 1, 4), codes("i", 1, 4), Axis=1),
        "required",
    ),
    "an axis outside": (
        lambda: net("CONCATENATION", "ConcatenationOptions", codes("x", 1, 4), Axis=2**31 - 1),
        "required an axis",
    ),
    "a scale of NaN": (
        lambda: net("RELU", "", TfTensor("x", (1, 4), "int8", Quantization((float("nan"),)))),
        "a scale must be",
    ),
    "a zero point of 64 bits": (
        lambda: net("RELU", "", TfTensor("x", (1, 4), "int8", Quantization((1.0,), 2**40))),
        "a zero point must be",
    ),
    "options of another operator, with NaN": (_foreign_options, "required as many values"),
    "a fold without operands": (
        lambda: encode(
            TfModel(
                {"x": codes("x", 1, 4), "n": TfTensor("n", (1,), "int32")},
                (TfOperator("GATHER", 1, (), ("n",), "GatherOptions", {}),),
                (("x", "x"),),
                (("y", "x"),),
            ),
            "",
        ),
        "required 2 operands",
    ),
    "a cycle": (_cycle, "computed before"),
    "two makers of one tensor": (
        _same_output_twice,
        r"operator 1 \(ADD\) outputs: required a tensor that nothing else makes",
    ),
    "too many operators": (
        lambda: _many({"x": codes("x", 1, 4)}, TfOperator("RELU", 2, ("x",), ("x",), "", {}), 5000, "x"),
        "operators: required at most 4096, found 5000",
    ),
    "vectors that tables share": (_shared_vectors, "operands and results|tables share less"),
    "a weight that operators share": (_shared_weight, "constants and indices of no more than"),
    "a shape that doubles": (_doubling, "of 1024 integers at most"),
}


def edited(content: bytes, edit: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> bytes:
    """A `.unfloat` file with its document and arrays changed."""
    arrays = load_arrays(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"][KEY])
    edit(document, arrays)
    return bytes(save_arrays(arrays, {KEY: json.dumps(document)}))


def texted(text: str) -> bytes:
    """A `.unfloat` file of a document that may be no JSON."""
    return bytes(save_arrays({}, {KEY: text}))


UNFLOAT: dict[str, Attack] = {
    "JSON that is deep": (lambda: texted("[" * 100_000), "not a whole .unfloat file"),
    "JSON that is deep inside": (
        lambda: texted('{"version":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "not a whole .unfloat file",
    ),
    "a number of a hundred thousand digits": (lambda: texted("9" * 100_000), "not a whole .unfloat file"),
    "a field that occurs twice": (lambda: texted('{"version":1,"version":1}'), "two fields of the same name"),
    "a document that is a list": (lambda: texted("[]"), "required dict"),
    "a header of 2^63 bytes": (lambda: struct.pack("<Q", 2**63) + b"{}", "not a whole .unfloat file"),
    "an array past the file": (
        lambda: _raw({"a": {"dtype": "I8", "shape": [2**40], "data_offsets": [0, 2**40]}}),
        "not a whole .unfloat file",
    ),
    "sizes whose product overflows": (
        lambda: _raw({"a": {"dtype": "I32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}),
        "not a whole .unfloat file",
    ),
    "arrays that overlap": (
        lambda: _raw({n: {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]} for n in "ab"}, b"\0" * 4),
        "not a whole .unfloat file",
    ),
    "a beta past every float": (lambda: _softmax(1, 2000), r"beta must be a positive float32, found 1 \* 2\^2000"),
    "a negative beta": (lambda: _softmax(-3, 0), "beta must be a positive float32"),
    "a beta of zero": (lambda: _softmax(0, 0), "beta must be a positive float32"),
    "no document": (lambda: bytes(save_arrays({}, {"other": "1"})), "not a whole .unfloat file"),
}


def _softmax(*beta: int) -> bytes:
    """A softmax whose differences are multiplied by `mantissa * 2^exponent`."""
    program = build(REGISTRY["softmax"], Case("", ((9,),), {"beta": beta_pair(0.75)}), DRAWS[0])
    return edited(to_bytes(program), lambda d, a: d["instructions"][0]["attributes"].update(beta=list(beta)))


def _raw(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ATTACKS: Mapping[str, Mapping[str, Attack]] = {"tflite": TFLITE, "unfloat": UNFLOAT}
