"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.activation import emit_fused
from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.geometry import framed
from unfloat.formats.tflite.model import Field, Quantization, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import clamp_of, emit_reshape, require_operands, strides, window
from unfloat.ir.graph import Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.spec.qparams import QParams, positive_scale


def weights_of(scope: Scope, i: Instruction, weight: np.ndarray, label: QParams) -> tuple[str, str]:
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
    inputs = (source, *weights_of(scope, i, weight, i.labels["weight"]))
    version = 6 if i.attributes["groups"] > 1 else None
    fields = {**strides(i, padding), **_dilations(i)}
    emit_fused(scope, "CONV_2D", inputs, i.name, clamp_of(i), version=version, **fields)


def _depthwise_conv2d(scope: Scope, i: Instruction) -> None:
    """TFLite's weight is [1, height, width, channels]."""
    weight, label = i.constants["weight"], i.labels["weight"]
    source, padding = framed(scope, i, (weight.shape[0], weight.shape[1]))
    inputs = (source, *weights_of(scope, i, weight[None], label if label.axis is None else replace(label, axis=3)))
    version = 2 if label.dtype == "uint8" and i.attributes["dilation"] != (1, 1) else None
    fields = {**strides(i, padding), **_dilations(i), "DepthMultiplier": weight.shape[2] // scope.shape(source)[3]}
    emit_fused(scope, "DEPTHWISE_CONV_2D", inputs, i.name, clamp_of(i), version=version, **fields)


def _fully_connected(scope: Scope, i: Instruction) -> None:
    if scope.label(i.name).dtype == "uint8":
        _pointwise(scope, i)
        return
    inputs = (*i.inputs, *weights_of(scope, i, i.constants["weight"], i.labels["weight"]))
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
    constants = weights_of(scope, i, weight[:, None, None], i.labels["weight"])
    emit_reshape(scope, i.inputs[0], source)
    fields: dict[str, Field] = {"Padding": ("Padding", "VALID"), "StrideH": 1, "StrideW": 1}
    emit_fused(scope, "CONV_2D", (source, *constants), target, clamp_of(i), version=None, **fields)
    emit_reshape(scope, target, i.name)


WRITERS = {"conv2d": _conv2d, "depthwise_conv2d": _depthwise_conv2d, "fully_connected": _fully_connected}


def read_linear(
    draft: Draft,
    operator: TfOperator,
    source: str,
    weight: tuple[np.ndarray, QParams],
    attributes: Mapping[str, object],
) -> None:
    """The instruction of a linear operator; `weight` in the Program's layout."""
    channels = weight[0].shape[REGISTRY[OPERATORS[operator.builtin]].quant.weight_axis or 0]
    bias = _bias(draft, operator, channels, wide=draft.is_wide(source))
    constants, labels, rounding = draft.weights(source, weight, bias)
    fields = {**attributes, **draft.clamp(operator), **rounding}
    draft.define(operator.outputs[0], OPERATORS[operator.builtin], (source,), fields, constants, labels)


def _bias(draft: Draft, operator: TfOperator, channels: int, *, wide: bool) -> np.ndarray:
    """One number for each channel; zeros where the bias is left out."""
    name = operator.inputs[2] if len(operator.inputs) > 2 else None
    if name is None:
        return np.zeros(channels, np.int64 if wide else np.int32)
    bias = draft.constant(name)
    if bias.size != channels:
        raise UnreadableError(f"required a bias of {channels} channels, found {bias.shape}")
    return bias.reshape(-1)


def read_weight(draft: Draft, operator: TfOperator, rank: int, axis: int) -> tuple[np.ndarray, QParams]:
    """A weight's codes and label, which has one scale or one for each index along `axis`.

    Kernels of int8 look at a zero point in FULLY_CONNECTED alone: elsewhere a file that has one means other weights.
    """
    require_operands(operator, 2, 3)
    codes, label = draft.constant(operator.inputs[1]), draft.label(operator.inputs[1])
    if codes.ndim != rank or not codes.size:
        raise UnreadableError(f"required a weight of {rank} dimensions, found {codes.shape}")
    if label.dtype == "int8" and label.zero_point and operator.builtin != "FULLY_CONNECTED":
        raise UnreadableError(f"required int8 weights of zero point 0, found {label.zero_point}")
    if label.axis is not None and (label.axis != axis or len(label.scale) != codes.shape[axis]):
        found = f"{len(label.scale)} along {label.axis} of {codes.shape}"
        raise UnreadableError(f"required a scale of the weight for each index along its axis {axis}, found {found}")
    return codes, label


def _window(draft: Draft, operator: TfOperator, kernel: Shape) -> dict[str, object]:
    dilation = (number(operator, "DilationHFactor", 1), number(operator, "DilationWFactor", 1))
    return {**window(draft, operator, kernel), "dilation": dilation}


def _read_conv2d(draft: Draft, operator: TfOperator) -> None:
    codes, label = read_weight(draft, operator, 4, 0)
    source = draft.image(operator.inputs[0])
    channels = draft.tensors[source].shape[3]
    if channels % codes.shape[3]:
        raise UnreadableError(f"required a weight for a part of {channels} channels, found {codes.shape}")
    attributes = {**_window(draft, operator, codes.shape[1:3]), "groups": channels // codes.shape[3]}
    read_linear(draft, operator, source, (codes, label), attributes)


def _read_depthwise_conv2d(draft: Draft, operator: TfOperator) -> None:
    codes, label = read_weight(draft, operator, 4, 3)
    source = draft.image(operator.inputs[0])
    if codes.shape[0] != 1:
        raise UnreadableError(f"required a weight of [1, height, width, channels], found {codes.shape}")
    multiplier, channels = number(operator, "DepthMultiplier"), draft.tensors[source].shape[3]
    if multiplier not in (0, codes.shape[3] / channels):  # 0 where a file leaves it to the shapes
        raise UnreadableError(f"required {codes.shape[3]} channels from {channels}, found a multiplier of {multiplier}")
    weight = (codes[0], label if label.axis is None else replace(label, axis=2))
    attributes = _window(draft, operator, codes.shape[1:3])
    read_linear(draft, operator, source, weight, attributes)


def _read_fully_connected(draft: Draft, operator: TfOperator) -> None:
    """Rows of the weight's depth, however the dimensions of the input and of the result cut them."""
    codes, label = read_weight(draft, operator, 2, 0)
    source, made = draft.operand(operator.inputs[0]), draft.shape(operator.outputs[0])
    values, (outputs, depth) = draft.tensors[source].shape, codes.shape
    rows = (*made[:-1], depth)
    if len(made) == 1 or made[-1] != outputs or math.prod(rows[1:]) != math.prod(values[1:]):
        required = f"required rows of {depth} values that become {outputs}"
        raise draft.unlike(f"{required}, found {values} and {made}")
    read_linear(draft, operator, draft.reshaped(source, rows), (codes, label), {})


OPERATORS = {
    "CONV_2D": "conv2d",
    "DEPTHWISE_CONV_2D": "depthwise_conv2d",
    "FULLY_CONNECTED": "fully_connected",
    "TRANSPOSE_CONV": "transpose_conv2d",
}
READERS = {
    "CONV_2D": _read_conv2d,
    "DEPTHWISE_CONV_2D": _read_depthwise_conv2d,
    "FULLY_CONNECTED": _read_fully_connected,
}
