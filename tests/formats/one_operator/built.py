"""One operator as plain data, and the file of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unfloat.formats.tflite.builtins import BUILTINS as VERSIONS
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Field, Quantization, TfModel, TfOperator, TfTensor
from unfloat.ir.graph import Shape
from unfloat.ops import REGISTRY

Rng = np.random.Generator
Numbers = np.ndarray | list[int] | int
WIDTHS = ("int8", "int16")
ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


class Value(NamedTuple):
    """An operand or a result.

    Attributes:
        shape: With the batch.
        label: What its codes mean; None where all values of the model have one label, see `file_of`.
        dtype: As in the schema, "" for the model's.
        data: A constant's content.
    """

    shape: Shape
    label: Quantization | None = None
    dtype: str = ""
    data: np.ndarray | None = None


class Built(NamedTuple):
    """One operator: operands in order, None for one left out, results, the options' table and its fields."""

    operands: Sequence[Value | None]
    results: Sequence[Value]
    options: str = ""
    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed


Maker = Callable[[Rng, str], Built]  # of a model of some width


def codes(shape: Sequence[int], label: Quantization | None = None, dtype: str = "") -> Value:
    """An activation."""
    return Value(tuple(int(size) for size in shape), label, dtype)


def numbers(values: Numbers) -> Value:
    """A shape, axes or indices."""
    data = np.array(values, np.int32)
    return Value(data.shape, None, "int32", data)


def moved(
    operands: Sequence[Value], results: Sequence[Sequence[int]], options: str, fields: dict[str, Any] | None = None
) -> Built:
    """An operator under whose one label codes only move."""
    return Built(operands, [codes(shape) for shape in results], options, fields or {})


def label_of(rng: Rng, dtype: str, low: float = -8, high: float = -3) -> Quantization:
    """A scale between powers of two, finer for more bits, and any zero point."""
    scale = 2.0 ** rng.uniform(low, high) * (2.0**-8 if dtype == "int16" else 1.0)
    return Quantization((float(np.float32(scale)),), _zero_point(rng, dtype))


def _zero_point(rng: Rng, dtype: str) -> int:
    ends = np.iinfo(dtype)
    return 0 if dtype == "int16" else int(rng.choice([ends.min, ends.max, *rng.integers(ends.min, ends.max + 1, 3)]))


def near(rng: Rng, label: Quantization, dtype: str, low: float = -2, high: float = 2) -> Quantization:
    """A label whose scale is another's times 2^low to 2^high."""
    scale = label.scale[0] * 2.0 ** rng.uniform(low, high)
    return Quantization((float(np.float32(scale)),), _zero_point(rng, dtype))


def fixed(op: str, dtype: str) -> Quantization:
    """The output's label that an operator's kernels demand."""
    return Quantization.of(REGISTRY[op].quant.fixed[dtype])


def activation(rng: Rng) -> dict[str, Field]:
    """A fused activation."""
    return {"FusedActivationFunction": ("ActivationFunctionType", str(rng.choice(ACTIVATIONS)))}


def sizes(rng: Rng, least: int = 2, most: int = 4) -> Shape:
    """A shape with the batch of 1."""
    return (1, *(int(size) for size in rng.integers(1, 8, int(rng.integers(least, most + 1)) - 1)))


def file_of(builtin: str, built: Built, rng: Rng, dtype: str = "int8") -> bytes:
    """The model of one operator; codes without a label of their own are under one random label."""
    label = label_of(rng, dtype)
    values = {f"operand{index}": value for index, value in enumerate(built.operands) if value is not None}
    values |= {f"result{index}": value for index, value in enumerate(built.results)}
    tensors = {
        name: TfTensor(name, v.shape, v.dtype or dtype, label if v.label is None and not v.dtype else v.label, v.data)
        for name, v in values.items()
    }
    operands = tuple(f"operand{i}" if value is not None else None for i, value in enumerate(built.operands))
    results = tuple(f"result{i}" for i in range(len(built.results)))
    inputs = tuple((name, name) for name in operands if name is not None and tensors[name].data is None)
    operator = TfOperator(builtin, version(builtin, dtype), operands, results, built.options, built.fields)
    return encode(TfModel(tensors, (operator,), inputs, tuple((n, n) for n in results)), "one operator")


def version(builtin: str, dtype: str) -> int:
    """Of the operator for a width."""
    _, *versions = VERSIONS.get(builtin, ("", 1, 1, 1))
    return versions[("int8", "uint8", "int16").index(dtype)]


def filled(rng: Rng, value: Value, dtype: str) -> Value:
    ends = np.iinfo(dtype)
    return value._replace(data=rng.integers(ends.min, ends.max + 1, value.shape).astype(dtype))


def windows(rng: Rng, *, dilated: bool) -> tuple[Any, ...]:
    """Image, kernel, the fields of stride and dilation, padding, and how many windows there are."""
    padding = str(rng.choice(["SAME", "VALID"]))
    kernel, stride, dilation = (
        tuple(int(n) for n in rng.integers(1, most + 1, 2)) for most in (4, 3, 2 if dilated else 1)
    )
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    image = [int(rng.integers(r if padding == "VALID" else 1, r + 7)) for r in reach]
    counts = [
        -(-n // s) if padding == "SAME" else (n - r) // s + 1 for n, r, s in zip(image, reach, stride, strict=True)
    ]
    strides = {"StrideH": stride[0], "StrideW": stride[1]}
    dilations = {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
    return image, kernel, strides, dilations, ("Padding", padding), counts
