"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.activation import emit_fused
from unfloat.formats.tflite.builtins import UnsayableError
from unfloat.formats.tflite.geometry import framed
from unfloat.formats.tflite.model import Field, Quantization
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import clamp_of, emit_reshape, strides
from unfloat.ir.instruction import Instruction
from unfloat.spec.qparams import QParams, positive_scale


def _weights(scope: Scope, i: Instruction, weight: np.ndarray, label: QParams) -> tuple[str, str]:
    """The constants of a linear instruction: the weight, and the bias with its scale `S_in * S_w`."""
    stored = (scope.label(i.inputs[0]).dtype, label.dtype, scope.label(i.name).dtype)
    if len(set(stored)) > 1 and stored != ("int16", "int8", "int16"):
        raise UnsayableError("required input, weight and output stored alike, but for int8 weights between int16 codes")
    input_scale = scope.label(i.inputs[0]).scale[0]
    bias = Quantization(tuple(positive_scale(input_scale * scale) for scale in label.scale))
    return (
        scope.constant(f"{i.name}/weight", weight, Quantization.of(label)),
        scope.constant(f"{i.name}/bias", i.constants["bias"], bias),
    )


def _dilations(i: Instruction) -> dict[str, Field]:
    height, width = i.attributes["dilation"]
    return {"DilationHFactor": height, "DilationWFactor": width}


def _conv2d(scope: Scope, i: Instruction) -> None:
    weight = i.constants["weight"]
    source, padding = framed(scope, i, (weight.shape[1], weight.shape[2]))
    inputs = (source, *_weights(scope, i, weight, i.labels["weight"]))
    version = 6 if i.attributes["groups"] > 1 else None
    fields = {**strides(i, padding), **_dilations(i)}
    emit_fused(scope, "CONV_2D", inputs, i.name, clamp_of(i), version=version, **fields)


def _depthwise_conv2d(scope: Scope, i: Instruction) -> None:
    """TFLite's weight is [1, height, width, channels]."""
    weight, label = i.constants["weight"], i.labels["weight"]
    source, padding = framed(scope, i, (weight.shape[0], weight.shape[1]))
    inputs = (source, *_weights(scope, i, weight[None], label if label.axis is None else replace(label, axis=3)))
    version = 2 if label.dtype == "uint8" and i.attributes["dilation"] != (1, 1) else None
    fields = {**strides(i, padding), **_dilations(i), "DepthMultiplier": weight.shape[2] // scope.shape(source)[3]}
    emit_fused(scope, "DEPTHWISE_CONV_2D", inputs, i.name, clamp_of(i), version=version, **fields)


def _fully_connected(scope: Scope, i: Instruction) -> None:
    if scope.label(i.name).dtype == "uint8":
        _pointwise(scope, i)
        return
    inputs = (*i.inputs, *_weights(scope, i, i.constants["weight"], i.labels["weight"]))
    keep = len(scope.shape(i.name)) > 2
    version = 5 if keep and not scope.is_wide(i.name) else None
    emit_fused(scope, "FULLY_CONNECTED", inputs, i.name, clamp_of(i), version=version, KeepNumDims=keep)


def _pointwise(scope: Scope, i: Instruction) -> None:
    """A fully connected uint8 layer as a 1x1 CONV_2D: LiteRT requantizes FULLY_CONNECTED in floating point.

    Rows of values become rows of pixels: [1, ..., K] is [1, rows, 1, K].
    """
    weight, shape = i.constants["weight"], scope.shape(i.name)
    rows = math.prod(shape[:-1])
    source = scope.between(f"{i.name}/pixels", i.inputs[0], (1, rows, 1, weight.shape[1]))
    target = scope.between(f"{i.name}/convolved", i.name, (1, rows, 1, weight.shape[0]))
    constants = _weights(scope, i, weight[:, None, None], i.labels["weight"])
    emit_reshape(scope, i.inputs[0], source)
    fields: dict[str, Field] = {"Padding": ("Padding", "VALID"), "StrideH": 1, "StrideW": 1}
    emit_fused(scope, "CONV_2D", (source, *constants), target, clamp_of(i), version=None, **fields)
    emit_reshape(scope, target, i.name)


WRITERS = {"conv2d": _conv2d, "depthwise_conv2d": _depthwise_conv2d, "fully_connected": _fully_connected}
