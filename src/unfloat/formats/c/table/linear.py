"""conv2d, depthwise_conv2d, fully_connected, transpose_conv2d."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unfloat.formats.c.layer import BYTE_OFFSET, Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.table.pooling import window
from unfloat.formats.c.text import Value
from unfloat.spec.fixedpoint import reduced_multiplier


def _linear(layer: Layer, fields: Mapping[str, Value]) -> Parameters:
    constants = layer.instruction.constants
    wide = layer.inputs[0].qparams.dtype == "int16"
    weight, shift = constants["weight"], 0
    if weight.dtype == np.uint8:  # kernels take signed weights: codes and zero point move down together
        weight, shift = (weight.astype(np.int16) - BYTE_OFFSET).astype(np.int8), BYTE_OFFSET
    multiplier = constants["multiplier"].astype(np.int64)
    arrays = {
        "weight": weight,
        "wide_bias" if wide else "bias": constants["bias"],
        "multiplier": (reduced_multiplier(multiplier) if wide else multiplier).astype(np.int32),
        "shift": constants["shift"],
    }
    if layer.prepared.packed:
        del arrays["weight"]
    numbers: dict[str, Value] = {
        **fields,
        "input_zero_point": layer.number("input_zero_point") + byte_offset(layer.inputs[0].qparams),
        "weight_zero_point": layer.number("weight_zero_point") - shift,
        "output": layer.output_stage(),
    }
    return Parameters("linear", numbers, arrays)


def _conv2d(layer: Layer) -> Parameters:
    kernel = layer.instruction.constants["weight"].shape[1:3]
    return _linear(layer, {"window": window(layer, kernel), "groups": layer.number("groups")})


def _depthwise_conv2d(layer: Layer) -> Parameters:
    return _linear(layer, {"window": window(layer, layer.instruction.constants["weight"].shape[:2])})


def _fully_connected(layer: Layer) -> Parameters:
    return _linear(layer, {})


def _transpose_conv2d(layer: Layer) -> Parameters:
    kernel_h, kernel_w = layer.instruction.constants["weight"].shape[1:3]
    (stride_h, stride_w), (top, left) = layer.numbers("stride"), layer.numbers("crop")
    sides: dict[str, Value] = {"kernel_h": kernel_h, "kernel_w": kernel_w, "stride_h": stride_h, "stride_w": stride_w}
    return _linear(layer, {"window": {**sides, "pad_top": top, "pad_left": left}})


EMITTERS = {
    "conv2d": Emitter(_conv2d),
    "depthwise_conv2d": Emitter(_depthwise_conv2d),
    "fully_connected": Emitter(_fully_connected),
    "transpose_conv2d": Emitter(_transpose_conv2d),
}
