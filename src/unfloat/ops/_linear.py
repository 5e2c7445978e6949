"""What convolution, depthwise convolution and fully connected share: a weight, a bias, a requantization.

They differ only in `accumulate`. The bias is added to the integer accumulator, never inside it, so that the
accumulation itself may run as an exact float product (docs/numerics.md, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CLAMP, CODE, ROUNDING, Params, Request, WeightRule
from unfloat.ops._rescaling import clamp_fields, code_span, scale_of
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import quantize_multipliers, round_half_away, saturate
from unfloat.spec.qparams import STORAGE, QParams, positive_scale, qparams_from_range

LINEAR_SLOTS = frozenset({"bias", "norm", "clamp"})
LINEAR_CONSTANTS = ("weight", "bias", "multiplier", "shift")
LINEAR_FIELDS = {
    "input_zero_point": CODE,
    "weight_zero_point": CODE,
    "output_zero_point": CODE,
    "rounding": ROUNDING,
    **CLAMP,
}
BIAS_BITS = 24  # a bias code stays below 2^24, so that accumulator and bias fit int32 together with room to spare


@dataclass(frozen=True)
class Folded:
    """Weight and bias with the norm folded in (eq. 19), float64."""

    weight: np.ndarray
    bias: np.ndarray


def fold_norm(params: Mapping[str, np.ndarray], channel_axis: int) -> Folded:
    """Fold batch normalisation into weight and bias: `w * g / sqrt(v + eps)`, `(b - m) * g / sqrt(v + eps) + beta`.

    Args:
        params: float64 arrays "weight", optionally "bias", "norm.mean", "norm.variance", "norm.eps", "norm.weight",
            "norm.bias", and "correction", a shift of the final bias measured by calibration.
        channel_axis: The weight's output channel axis.
    """
    weight = params["weight"]
    channels = weight.shape[channel_axis]
    bias = params.get("bias", np.zeros(channels))
    if "norm.variance" in params:
        gain = params.get("norm.weight", np.ones(channels)) / np.sqrt(params["norm.variance"] + params["norm.eps"])
        weight = weight * _along(gain, channel_axis, weight.ndim)
        bias = (bias - params["norm.mean"]) * gain + params.get("norm.bias", np.zeros(channels))
    return Folded(weight, bias + params.get("correction", np.zeros(channels)))


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if d == axis % rank else 1 for d in range(rank)])


def weight_label(folded: Folded, input_scale: float, rule: WeightRule, axis: int) -> QParams:
    """Choose the weight's QParams so that every bias fits: `S_w >= |b| / (S_in * 2^24)` (eq. 20).

    int8 weights are symmetric; uint8 ones affine, per tensor, the paper's scheme. A channel of zeros without a bias
    takes the largest scale of the others: any positive one is exact.
    """
    least = np.abs(folded.bias) / (input_scale * 2**BIAS_BITS)
    if rule.dtype == "uint8":
        low, high = float(folded.weight.min()), float(folded.weight.max())
        return qparams_from_range(low, high, rule.dtype, rule.bits, narrow=True, least_scale=float(least.max()))
    others = tuple(d for d in range(folded.weight.ndim) if d != axis % folded.weight.ndim)
    reach = np.abs(folded.weight).max(axis=others) / (2 ** (rule.bits - 1) - 1)
    scales = np.maximum(reach, least) if rule.per_channel else np.array([max(reach.max(), least.max())])
    scales = np.where(scales > 0, scales, scales.max() if scales.max() > 0 else 1.0)
    label_axis = axis % folded.weight.ndim if rule.per_channel else None
    return QParams(tuple(positive_scale(float(s)) for s in scales), 0, rule.dtype, rule.bits, label_axis, narrow=True)


def lower_linear(request: Request, axis: int) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]:
    """Weight codes, bias codes and clamp codes of a linear operator: the one maker of these constants."""
    folded = fold_norm(request.params, axis)
    input_scale = scale_of(request.inputs[0])
    label = weight_label(folded, input_scale, request.weights, axis)
    scales = label.scales(folded.weight.ndim).astype(np.float64)
    codes = saturate(round_half_away(folded.weight / scales) + label.zero_point, label.qmin, label.qmax)
    bias = round_half_away(folded.bias / (input_scale * scales.reshape(-1)))
    constants = {"weight": codes.astype(STORAGE[label.dtype]), "bias": bias.astype(np.int32)}
    return {**request.attributes, **clamp_fields(request)}, constants, {"weight": label}


def derive_linear(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M[c] = (S_in * S_w[c]) / S_out` (eq. 7) as multipliers and shifts, and the three zero points."""
    label, channels = instruction.labels["weight"], instruction.constants["bias"].shape[0]
    products = scale_of(inputs[0]) * np.asarray(label.scale, np.float64)
    if output.qparams.dtype == "uint8":  # TFLite's uint8 kernels round the product, the bias's scale, to float32 first
        products = products.astype(np.float32).astype(np.float64)
    factors = products / scale_of(output)
    multiplier, shift = quantize_multipliers(np.broadcast_to(factors, channels))
    return {
        "multiplier": multiplier,
        "shift": shift,
        "input_zero_point": inputs[0].qparams.zero_point,
        "weight_zero_point": label.zero_point,
        "output_zero_point": output.qparams.zero_point,
    }


def linear_accumulators(
    instruction: Instruction, inputs: Sequence[Tensor], axis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The exact least and greatest accumulator of each channel over all inputs (eq. 16), and its left shift."""
    codes = np.moveaxis(instruction.constants["weight"], axis, 0)
    weight = codes.reshape(codes.shape[0], -1).astype(np.int16) - np.int16(instruction.attributes["weight_zero_point"])
    low, high = code_span(inputs[0])  # low <= 0 <= high, so a weight's sign decides which end gives its most
    positive = np.maximum(weight, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(weight, 0).sum(axis=1, dtype=np.int64)
    bias = instruction.constants["bias"].astype(np.int64)
    greatest = bias + positive * high + negative * low
    least = bias + positive * low + negative * high
    return least, greatest, np.maximum(instruction.constants["shift"].astype(np.int64), 0)


def finish_linear(b: Backend, attributes: Attributes, constants: Params, accumulator: Array) -> Array:
    """Bias, requantization, clamp: the second half of every linear operator (eq. 11 and 13)."""
    factors = (constants["bias"], constants["multiplier"], constants["shift"])
    codes = (attributes["output_zero_point"], attributes["clamp_min"], attributes["clamp_max"])
    return b.finish(accumulator, factors, codes, attributes["rounding"])
