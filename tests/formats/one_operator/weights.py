"""Linear operators: weights, biases, and results whose scale suits them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.formats.one_operator.built import (
    Built,
    Rng,
    Value,
    activation,
    codes,
    filled,
    label_of,
    near,
    numbers,
    sizes,
    windows,
)
from unfloat.formats.tflite.model import Quantization
from unfloat.ir.graph import Shape


def conv2d(rng: Rng, dtype: str) -> Built:
    image, kernel, stride, dilation, padding, counts = windows(rng, dilated=True)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    depth, outputs = int(rng.integers(1, 10)), groups * int(rng.integers(1, 10))
    source = label_of(rng, dtype)
    linear = _linear(rng, dtype, source, (outputs, *kernel, depth), 0)
    fields = {**stride, **dilation, "Padding": padding, **activation(rng)}
    return Built(
        [codes((1, *image, depth * groups), source), *linear[:-1]],
        [codes((1, *counts, outputs), linear[-1])],
        "Conv2DOptions",
        fields,
    )


def depthwise_conv2d(rng: Rng, dtype: str) -> Built:
    """One channel of the image may become several."""
    image, kernel, stride, dilation, padding, counts = windows(rng, dilated=True)
    channels, multiplier = (int(n) for n in rng.integers(1, (12, 4)))
    source = label_of(rng, dtype)
    linear = _linear(rng, dtype, source, (1, *kernel, channels * multiplier), 3)
    fields = {**stride, **dilation, "Padding": padding, "DepthMultiplier": multiplier, **activation(rng)}
    return Built(
        [codes((1, *image, channels), source), *(value for value in linear[:-1] if value)],
        [codes((1, *counts, channels * multiplier), linear[-1])],
        "DepthwiseConv2DOptions",
        fields,
    )


def transpose_conv(rng: Rng, dtype: str) -> Built:
    """VALID makes whole kernels, SAME as many rows as strides reach."""
    image, kernel, stride = (tuple(int(n) for n in rng.integers(1, most + 1, 2)) for most in (6, 4, 3))
    same = bool(rng.integers(2))
    counts = [n * s if same else (n - 1) * s + k for n, k, s in zip(image, kernel, stride, strict=True)]
    depth, outputs = (int(n) for n in rng.integers(1, 8, 2))
    source = label_of(rng, dtype)
    weight, bias, label = _linear(rng, dtype, source, (outputs, *kernel, depth), 0)
    padding = ("Padding", "SAME" if same else "VALID")
    fields = {"Padding": padding, "StrideH": stride[0], "StrideW": stride[1]}
    shape = (1, *counts, outputs)
    operands = [numbers(list(shape)), weight, codes((1, *image, depth), source), bias]
    return Built(operands, [codes(shape, label)], "TransposeConvOptions", fields)


def fully_connected(rng: Rng, dtype: str) -> Built:
    """Rows of values; a file that does not keep their dimensions makes them one."""
    shape, outputs = sizes(rng), int(rng.integers(1, 20))
    keep = bool(rng.integers(2))
    source = label_of(rng, dtype)
    linear = _linear(rng, dtype, source, (outputs, shape[-1]), 0)
    rows = shape[:-1] if keep else (math.prod(shape[:-1]),)
    return Built(
        [codes(shape, source), *linear[:-1]],
        [codes((*rows, outputs), linear[-1])],
        "FullyConnectedOptions",
        {"KeepNumDims": keep, **activation(rng)},
    )


def batch_matmul(rng: Rng, dtype: str) -> Built:
    """Either factor as it is or transposed; the second one may be a constant."""
    batch, (rows, depth, columns) = sizes(rng, 2, 3), (int(n) for n in rng.integers(1, 12, 3))
    turned = rng.integers(0, 2, 2)
    first, second = (
        ((depth, rows) if turned[0] else (rows, depth)),
        ((columns, depth) if turned[1] else (depth, columns)),
    )
    labels = [label_of(rng, dtype) for _ in range(2)]
    scale = labels[0].scale[0] * labels[1].scale[0] * math.sqrt(depth) * (1 << (14 if dtype == "int16" else 6))
    result = near(rng, Quantization((scale,)), dtype)
    factors = [codes((*batch, *pair), label) for pair, label in zip((first, second), labels, strict=True)]
    if rng.random() < 0.3:
        factors[1] = filled(rng, factors[1], dtype)
    fields = {"AdjX": bool(turned[0]), "AdjY": bool(turned[1])}
    return Built(factors, [codes((*batch, rows, columns), result)], "BatchMatMulOptions", fields)


def _linear(rng: Rng, dtype: str, source: Quantization, shape: Shape, axis: int) -> tuple[Any, ...]:
    """Weight, bias, and a label for the result: one scale or one for each channel, some of whose weights are all 0.

    Weights of uint8 have one scale, and a zero point.
    """
    channels = shape[axis]
    lowest = int(rng.choice([-127, -127, -128]))
    weight = rng.integers(lowest, 128, shape)
    weight[(slice(None),) * axis + (rng.random(channels) < 0.1,)] = 0
    count = channels if rng.random() < 0.7 and dtype != "uint8" else 1
    scales = np.float32(2.0 ** rng.uniform(-9, -5, count))
    products = np.float32(source.scale[0]) * scales
    norms = np.sqrt((np.moveaxis(weight, axis, 0).reshape(channels, -1).astype(float) ** 2).sum(1)) * scales
    label = near(rng, Quantization((source.scale[0] * float(max(norms.max(), scales.max())),)), dtype, -3, 1.5)
    bias = np.round(rng.normal(0, 2.0 ** rng.uniform(0, 7), channels) * label.scale[0] / products)
    kind = "int64" if dtype == "int16" else "int32"
    weights = Value(shape, Quantization(_floats(scales), 0, axis), "int8", weight.astype(np.int8))
    if dtype == "uint8":
        zero_point = int(rng.choice([0, *rng.integers(1, 256, 3)]))
        shifted = np.clip(weight + zero_point, int(rng.integers(0, 2)), 255)
        weights = Value(shape, Quantization(_floats(scales), zero_point), dtype, shifted.astype(np.uint8))
    biases = Value((channels,), Quantization(_floats(products)), kind, bias.astype(kind))
    bare = rng.random() >= 0.85 and dtype != "uint8"  # LiteRT's kernels of uint8 want a bias
    return weights, None if bare else biases, label


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
