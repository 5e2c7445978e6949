"""The operator table: Unfloat's instructions in TFLite's builtin operators, options and versions.

Kernels recompute multipliers from the scales in the file, so nothing numeric is decided here. An instruction that
TFLite cannot say raises `UnsayableError` with the reason.

Softmax: where the exponentials of a row sum to 512 or more (that many nearly equal classes), every output stands for
0, but the public kernels would shift by 32 bits: they abort, and without assertions their answer is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.activation import Codes, emit_fused, emit_plain, whole_storage
from unfloat.formats.tflite.builtins import MAX_CONCATENATED, MAX_RANK, UnsayableError
from unfloat.formats.tflite.geometry import frame, framed
from unfloat.formats.tflite.model import Field, Quantization
from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction
from unfloat.spec.qparams import QParams, positive_scale


def _clamp(i: Instruction) -> Codes:
    return i.attributes["clamp_min"], i.attributes["clamp_max"]


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


def _strides(i: Instruction, padding: str) -> dict[str, Field]:
    height, width = i.attributes["stride"]
    return {"Padding": ("Padding", padding), "StrideH": height, "StrideW": width}


def _dilations(i: Instruction) -> dict[str, Field]:
    height, width = i.attributes["dilation"]
    return {"DilationHFactor": height, "DilationWFactor": width}


def _conv2d(scope: Scope, i: Instruction) -> None:
    weight = i.constants["weight"]
    source, padding = framed(scope, i, (weight.shape[1], weight.shape[2]))
    inputs = (source, *_weights(scope, i, weight, i.labels["weight"]))
    version = 6 if i.attributes["groups"] > 1 else None
    fields = {**_strides(i, padding), **_dilations(i)}
    emit_fused(scope, "CONV_2D", inputs, i.name, _clamp(i), version=version, **fields)


def _depthwise_conv2d(scope: Scope, i: Instruction) -> None:
    """TFLite's weight is [1, height, width, channels]."""
    weight, label = i.constants["weight"], i.labels["weight"]
    source, padding = framed(scope, i, (weight.shape[0], weight.shape[1]))
    inputs = (source, *_weights(scope, i, weight[None], label if label.axis is None else replace(label, axis=3)))
    version = 2 if label.dtype == "uint8" and i.attributes["dilation"] != (1, 1) else None
    fields = {**_strides(i, padding), **_dilations(i), "DepthMultiplier": weight.shape[2] // scope.shape(source)[3]}
    emit_fused(scope, "DEPTHWISE_CONV_2D", inputs, i.name, _clamp(i), version=version, **fields)


def _fully_connected(scope: Scope, i: Instruction) -> None:
    if scope.label(i.name).dtype == "uint8":
        _pointwise(scope, i)
        return
    inputs = (*i.inputs, *_weights(scope, i, i.constants["weight"], i.labels["weight"]))
    keep = len(scope.shape(i.name)) > 2
    version = 5 if keep and not scope.is_wide(i.name) else None
    emit_fused(scope, "FULLY_CONNECTED", inputs, i.name, _clamp(i), version=version, KeepNumDims=keep)


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
    emit_fused(scope, "CONV_2D", (source, *constants), target, _clamp(i), version=None, **fields)
    emit_reshape(scope, target, i.name)


def _add(scope: Scope, i: Instruction) -> None:
    fields: dict[str, Field] = {"PotScaleInt16": False} if scope.is_wide(i.name) else {}
    emit_fused(scope, "ADD", i.inputs, i.name, _clamp(i), version=None, **fields)


def _mul(scope: Scope, i: Instruction) -> None:
    version = 3 if i.attributes["shift"] > 0 and not scope.is_wide(i.name) else None  # a factor of 1 or more
    emit_fused(scope, "MUL", i.inputs, i.name, _clamp(i), version=version)


def _rescale(scope: Scope, i: Instruction) -> None:
    emit_plain(scope, "QUANTIZE", i.inputs, i.name, _clamp(i))


def _mean(scope: Scope, i: Instruction) -> None:
    inputs = (*i.inputs, scope.numbers(f"{i.name}/axes", i.attributes["axes"]))
    emit_plain(scope, "MEAN", inputs, i.name, _clamp(i), KeepDims=bool(i.attributes["keep_dims"]))


def _pool(scope: Scope, i: Instruction, builtin: str, source: str, padding: str) -> None:
    height, width = i.attributes["kernel"]
    fields: dict[str, Field] = {**_strides(i, padding), "FilterHeight": height, "FilterWidth": width}
    scope.emit(builtin, (source,), i.name, version=None, **fields)


def _max_pool2d(scope: Scope, i: Instruction) -> None:
    """Padding is the lowest code that the storage holds: no maximum is lost to it."""
    lowest = whole_storage(scope.label(i.name)).qmin
    _pool(scope, i, "MAX_POOL_2D", *framed(scope, i, i.attributes["kernel"], lowest))


def _average_pool2d(scope: Scope, i: Instruction) -> None:
    """Padding does not count, so a PAD cannot stand for it."""
    framing = frame(scope, i, i.attributes["kernel"])
    if framing.explicit:
        found = i.attributes["padding"]
        raise UnsayableError(f"required SAME's or VALID's padding, which averages leave out, found {found}; use a pad")
    _pool(scope, i, "AVERAGE_POOL_2D", i.inputs[0], framing.padding)


def _concatenation(scope: Scope, i: Instruction) -> None:
    """In portions where there are too many operands: all share their QParams, so nothing is rounded."""
    axis, names = i.attributes["axis"], i.inputs
    while len(names) > MAX_CONCATENATED:
        portion, rest = names[:MAX_CONCATENATED], names[MAX_CONCATENATED:]
        shape = list(scope.shape(portion[0]))
        shape[axis] = sum(scope.shape(name)[axis] for name in portion)
        names = (scope.between(f"{i.name}/portion", i.name, tuple(shape)), *rest)
        scope.emit("CONCATENATION", portion, names[0], Axis=axis)
    scope.emit("CONCATENATION", names, i.name, Axis=axis)


def _reshape(scope: Scope, i: Instruction) -> None:
    emit_reshape(scope, i.inputs[0], i.name)


def emit_reshape(scope: Scope, source: str, target: str) -> None:
    """A copy in the target's shape."""
    scope.emit("RESHAPE", (source, scope.numbers(f"{target}/shape", scope.shape(target))), target)


def _pad(scope: Scope, i: Instruction) -> None:
    pairs = np.array(i.attributes["paddings"]).reshape(-1, 2)
    high = len(pairs) > MAX_RANK
    version = 4 if len(pairs) > 4 else None
    _emit_move(scope, i, "PAD", "paddings", pairs[1:] if high else pairs, version)


def _transpose(scope: Scope, i: Instruction) -> None:
    axes = i.attributes["permutation"]
    high = len(axes) > MAX_RANK
    version = 4 if len(axes) > 4 and not scope.is_wide(i.name) else None
    _emit_move(scope, i, "TRANSPOSE", "permutation", [axis - 1 for axis in axes[1:]] if high else axes, version)


def _emit_move(
    scope: Scope, i: Instruction, builtin: str, role: str, values: Sequence[int] | np.ndarray, version: int | None
) -> None:
    """A PAD or TRANSPOSE; of rank 6 between two RESHAPEs that take the batch of 1 away and bring it back."""
    source, target = i.inputs[0], i.name
    if len(scope.shape(source)) > MAX_RANK:
        source = scope.between(f"{i.name}/unbatched", source, scope.shape(source)[1:])
        target = scope.between(f"{i.name}/moved", i.name, scope.shape(i.name)[1:])
        emit_reshape(scope, i.inputs[0], source)
    scope.emit(builtin, (source, scope.numbers(f"{i.name}/{role}", values)), target, version=version)
    if target != i.name:
        emit_reshape(scope, target, i.name)


def _softmax(scope: Scope, i: Instruction) -> None:
    scope.emit("SOFTMAX", i.inputs, i.name, Beta=1.0)


TABLE: Mapping[str, Callable[[Scope, Instruction], None]] = {
    "add": _add,
    "average_pool2d": _average_pool2d,
    "concatenation": _concatenation,
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "fully_connected": _fully_connected,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "mul": _mul,
    "pad": _pad,
    "rescale": _rescale,
    "reshape": _reshape,
    "softmax": _softmax,
    "transpose": _transpose,
}
