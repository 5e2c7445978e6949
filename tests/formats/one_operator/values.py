"""Operators on one or two values, pools and reductions that round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.formats.one_operator.built import (
    WIDTHS,
    Built,
    Maker,
    Rng,
    activation,
    codes,
    filled,
    fixed,
    label_of,
    moved,
    near,
    sizes,
    windows,
)
from tests.formats.one_operator.moves import pair, reduction
from unfloat.formats.tflite.model import Quantization
from unfloat.spec.qparams import WIDE_BITS, QParams


def joint(op: str) -> Maker:
    """ADD, SUB, MUL: values that broadcast, the second one sometimes a constant."""

    def build(rng: Rng, dtype: str) -> Built:
        first, second = pair(rng).operands
        labels = [label_of(rng, dtype) for _ in range(2)]
        greater = max(labels, key=lambda label: label.scale[0])
        if op == "MUL":
            scale = labels[0].scale[0] * labels[1].scale[0] * (1 << (14 if dtype == "int16" else 6))
            greater = Quantization((scale,))
        operands = [codes(v.shape, label) for v, label in zip((first, second), labels, strict=True)]
        if rng.random() < 0.2:
            operands[1] = filled(rng, operands[1], dtype)
        fields = activation(rng)
        if op != "MUL" and dtype == "int16":
            fields["PotScaleInt16"] = bool(rng.integers(2))  # asks for nothing: not all scales are powers of two
        shape = np.broadcast_shapes(first.shape, second.shape)
        return Built(operands, [codes(shape, near(rng, greater, dtype, -1, 3))], f"{op.capitalize()}Options", fields)

    return build


def function(*, result: str = "", options: str = "", low: float = -12, high: float = 2) -> Maker:
    """An operator on one value: under a label near its own, or under the one that its kernels demand."""

    def build(rng: Rng, dtype: str) -> Built:
        shape, source = sizes(rng), label_of(rng, dtype, low, high)
        target = fixed(result, dtype) if result else near(rng, source, dtype, -4, 4)
        return Built([codes(shape, source)], [codes(shape, target)], options)

    return build


def sigmoid(op: str) -> Maker:
    """LOGISTIC, TANH; int16 scales often near a power of two, for which the kernels take them."""
    make = function(result=op)

    def build(rng: Rng, dtype: str) -> Built:
        built = make(rng, dtype)
        if dtype != "int16" or rng.random() < 0.5:
            return built
        scale = float(np.float32(2.0 ** (rng.integers(-13, -9) + rng.uniform(-0.002, 0.002))))
        return built._replace(operands=[codes(built.operands[0].shape, Quantization((scale,)))])

    return build


def bounded(rng: Rng, dtype: str) -> Built:
    """RELU6 and RELU_N1_TO_1 of one label."""
    shape, label = sizes(rng), label_of(rng, dtype, -8, 0)
    return Built([codes(shape, label)], [codes(shape, label)])


def agreeing(make: Maker, obstacle: Callable[[list[QParams], dict[str, Any]], str]) -> Maker:
    """An operator under labels by which the public kernels' tables and factors, formed in float32, are the integers'."""

    def build(rng: Rng, dtype: str) -> Built:
        bits = WIDE_BITS if dtype == "int16" else 8
        while True:
            built = make(rng, dtype)
            labels = [value.label for value in (*built.operands, *built.results)]
            if not obstacle([QParams(label.scale, label.zero_point, dtype, bits) for label in labels], built.fields):
                return built

    return build


def gelu(rng: Rng, dtype: str) -> Built:
    built = function(options="GeluOptions", low=-9, high=-1)(rng, dtype)
    return built._replace(fields={"Approximate": bool(rng.integers(2))})


def leaky_relu(rng: Rng, dtype: str) -> Built:
    built = function(options="LeakyReluOptions")(rng, dtype)
    return built._replace(fields={"Alpha": float(np.float32(rng.normal(0, 0.7)))})


def prelu(rng: Rng, dtype: str) -> Built:
    """A constant slope for each channel, or for each cell."""
    (source,), (result,) = function()(rng, dtype)[:2]
    slopes = source.shape[1:] if rng.random() < 0.3 else (*(1 for _ in source.shape[2:]), source.shape[-1])
    label = label_of(rng, dtype, -10, 0)
    return Built([source, filled(rng, codes(slopes, label), dtype)], [result])


def rows(op: str, options: str, most: int = 200) -> Maker:
    """SOFTMAX, LOG_SOFTMAX, L2_NORMALIZATION: of fewer classes than the public kernels' 512 equal ones."""

    def build(rng: Rng, dtype: str) -> Built:
        shape = (*sizes(rng, 1, 3), int(rng.integers(1, most)))
        fields = {"Beta": float(np.float32(2.0 ** rng.uniform(-2, 2)))} if op == "softmax" else {}
        return Built([codes(shape, label_of(rng, dtype))], [codes(shape, fixed(op, dtype))], options, fields)

    return build


def quantize(rng: Rng, dtype: str) -> Built:
    """From codes to codes, of either width."""
    target = str(rng.choice(WIDTHS))
    source = label_of(rng, dtype)
    real = Quantization((source.scale[0] * (2.0**8 if dtype == "int16" else 1) / (2.0**8 if target == "int16" else 1),))
    shape = sizes(rng)
    return Built([codes(shape, source)], [codes(shape, near(rng, real, target), target)], "QuantizeOptions")


def folding(rng: Rng, dtype: str) -> Built:
    """MEAN, SUM: to a label of their own."""
    built, source = reduction(rng), label_of(rng, dtype)
    count = math.prod(built.operands[0].shape) // math.prod(built.results[0].shape)
    target = near(rng, Quantization((source.scale[0] * math.sqrt(count),)), dtype)
    operands = [codes(built.operands[0].shape, source), *built.operands[1:]]
    return built._replace(operands=operands, results=[codes(built.results[0].shape, target)])


def pool(rng: Rng, dtype: str) -> Built:
    image, kernel, stride, _, padding, counts = windows(rng, dilated=False)
    channels = int(rng.integers(1, 10))
    fields = {**stride, "Padding": padding, "FilterHeight": kernel[0], "FilterWidth": kernel[1], **activation(rng)}
    return moved([codes((1, *image, channels))], [(1, *counts, channels)], "Pool2DOptions", fields)
