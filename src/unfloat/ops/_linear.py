"""What convolutions, of each channel by itself and transposed too, and fully connected share: a weight, a bias, a requantization.

They differ only in what they accumulate (`linear_operator`). The bias is added to the integer accumulator, never inside it, so that the
accumulation itself may run as an exact float product (docs/numerics.md, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CLAMP, CODE, Domain, Operator, Params, QuantRecord, Request, WeightRule
from unfloat.ops._rescaling import clamp_fields, code_span, scale_of
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import (
    ROUNDINGS,
    SHIFT_MAX,
    WIDE_ROUNDING,
    WIDE_SHIFT_MAX,
    array_namespace,
    quantize_multipliers,
    round_half_away,
    saturate,
)
from unfloat.spec.qparams import STORAGE, TINY, QParams, qparams_from_range
from unfloat.spec.record import Record

LINEAR_SLOTS = frozenset({"bias", "norm", "clamp"})
LINEAR_CONSTANTS = ("weight", "bias", "multiplier", "shift")
LINEAR_FIELDS = {
    "input_zero_point": CODE,
    "weight_zero_point": CODE,
    "output_zero_point": CODE,
    "rounding": Domain("name", choices=(*ROUNDINGS, WIDE_ROUNDING)),
    **CLAMP,
}
BIAS_BITS = 24  # a bias code stays below 2^24, so that accumulator and bias fit int32 together with room to spare
WIDE_BIAS_BITS = 30  # the same for 64-bit accumulators; more would let the factor of a channel of zeros vanish


Accumulate = Callable[[Backend, Attributes, Params, Sequence[Array]], Array]


class Folded(Record):
    """Weight and bias with the norm folded in (eq. 19), float64."""

    weight: np.ndarray
    bias: np.ndarray


def norm_gain(params: Mapping[str, Array]) -> Array | None:
    """What a norm multiplies each channel by, `g / sqrt(v + eps)`; None without a norm. NumPy or PyTorch, float64."""
    if "norm.variance" not in params:
        return None
    variance = params["norm.variance"]
    return params.get("norm.weight", 1.0) / array_namespace(variance).sqrt(variance + params["norm.eps"])


def norm_bias(params: Mapping[str, Array], gain: Array | None) -> Array:
    """The bias of each channel, norm and correction included (eq. 19): `(b - m) * gain + beta + correction`.

    Returns:
        An array of one number a channel, or 0.0 where there is neither bias nor norm.
    """
    bias = params.get("bias", 0.0)
    if gain is not None:
        bias = (bias - params["norm.mean"]) * gain + params.get("norm.bias", 0.0)
    return bias + params["correction"] if "correction" in params else bias


def fold_norm(params: Mapping[str, np.ndarray], channel_axis: int) -> Folded:
    """Fold batch normalisation into weight and bias: `w * g / sqrt(v + eps)`, `(b - m) * g / sqrt(v + eps) + beta`.

    Args:
        params: float64 arrays "weight", optionally "bias", "norm.mean", "norm.variance", "norm.eps", "norm.weight",
            "norm.bias", and "correction", a shift of the final bias measured by calibration.
        channel_axis: The weight's output channel axis.
    """
    weight, gain = params["weight"], norm_gain(params)
    channels = weight.shape[channel_axis]
    bias = np.broadcast_to(np.asarray(norm_bias(params, gain), np.float64), (channels,))
    return Folded(weight if gain is None else weight * along(gain, channel_axis, weight.ndim), bias)


def along(values: Array, axis: int, rank: int) -> Array:
    """One number a channel, shaped to broadcast along `axis` of an array of `rank` dimensions."""
    return values.reshape([-1 if d == axis % rank else 1 for d in range(rank)])


def least_scales(bias: Array, input_scale: float, bits: int = BIAS_BITS) -> Array:
    """The least weight scales for which every bias fits its code: `|b| / (S_in * 2^bits)` (eq. 20)."""
    return abs(bias) / (input_scale * 2**bits)


def is_wide(input_label: QParams) -> bool:
    """Whether a linear operator on such codes accumulates in 64 bits."""
    return input_label.dtype == "int16"


def least_scales_on(input_label: QParams, bias: Array) -> Array:
    """`least_scales` of a layer that reads such codes."""
    return least_scales(bias, scale_of(input_label), WIDE_BIAS_BITS if is_wide(input_label) else BIAS_BITS)


def symmetric_scales(reach: Array, least: Array, rule: WeightRule) -> Array:
    """Symmetric weight scales, float32 values in float64: one a channel, or one in all (eq. 20).

    A channel of zeros without a bias takes the largest scale of the others: any positive one is exact.

    Args:
        reach: The greatest magnitude of each channel's folded weight, float64.
        least: See `least_scales`.
        rule: Bits, and whether each channel has its own scale.
    """
    xp = array_namespace(reach)
    scales = xp.maximum(reach / (2 ** (rule.bits - 1) - 1), least)
    greatest = xp.max(scales)
    if not rule.per_channel:
        scales = xp.reshape(greatest, (1,))
    scales = xp.where(scales > 0, scales, xp.where(greatest > 0, greatest, xp.ones_like(greatest)))
    return xp.astype(xp.clip(xp.astype(scales, xp.float32), TINY, None), xp.float64)


def weight_label(folded: Folded, input_label: QParams, rule: WeightRule, axis: int) -> QParams:
    """Choose the weight's QParams so that every bias fits (eq. 20).

    int8 weights are symmetric; uint8 ones affine, per tensor, the paper's scheme.
    """
    least = least_scales_on(input_label, folded.bias)
    if rule.dtype == "uint8":
        low, high = float(folded.weight.min()), float(folded.weight.max())
        return qparams_from_range(low, high, rule.dtype, rule.bits, narrow=True, least_scale=float(least.max()))
    others = tuple(d for d in range(folded.weight.ndim) if d != axis % folded.weight.ndim)
    return symmetric_label(symmetric_scales(np.abs(folded.weight).max(axis=others), least, rule), rule, axis)


def symmetric_label(scales: np.ndarray, rule: WeightRule, axis: int) -> QParams:
    """The QParams of symmetric weights with these scales."""
    label_axis = axis if rule.per_channel else None
    return QParams(tuple(scales.tolist()), 0, rule.dtype, rule.bits, label_axis, narrow=True)


def lower_linear(request: Request, axis: int) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]:
    """Weight codes, bias codes and clamp codes of a linear operator: the one maker of these constants."""
    folded = fold_norm(request.params, axis)
    input_label = request.inputs[0].qparams
    wide = is_wide(input_label)
    label = _label(request, folded, axis)
    scales = label.scales(folded.weight.ndim).astype(np.float64)
    codes = saturate(round_half_away(folded.weight / scales) + label.zero_point, label.qmin, label.qmax)
    bias = bias_codes(folded.bias, scale_of(input_label), scales.reshape(-1))
    bias = bias.astype(np.int64 if wide else np.int32)
    constants = {"weight": codes.astype(STORAGE[label.dtype]), "bias": bias}
    attributes = {**request.attributes, **clamp_fields(request)}
    return attributes | ({"rounding": WIDE_ROUNDING} if wide else {}), constants, {"weight": label}


def _label(request: Request, folded: Folded, axis: int) -> QParams:
    """The weight's QParams: clipped where training has learned to, else over the weight's whole range."""
    input_label = request.inputs[0].qparams
    if "weight_clip" not in request.params:
        return weight_label(folded, input_label, request.weights, axis)
    others = tuple(d for d in range(folded.weight.ndim) if d != axis)
    reach = np.abs(folded.weight).max(axis=others) * request.params["weight_clip"]
    scales = symmetric_scales(reach, least_scales_on(input_label, folded.bias), request.weights)
    return symmetric_label(scales, request.weights, axis)


def bias_codes(bias: Array, input_scale: float, scales: Array) -> Array:
    """`round(b / (S_in * S_w))` (eq. 18)."""
    return round_half_away(bias / (input_scale * scales))


def linear_factors(input_scale: float, scales: np.ndarray, output: QParams, channels: int) -> np.ndarray:
    """`M[c] = (S_in * S_w[c]) / S_out` (eq. 7), float64, one a channel."""
    products = input_scale * scales
    if output.dtype == "uint8":  # TFLite's uint8 kernels round the product, the bias's scale, to float32 first
        products = products.astype(np.float32).astype(np.float64)
    factors = products / scale_of(output)
    return factors if factors.shape == (channels,) else np.broadcast_to(factors, channels)


def derive_linear(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M[c]` as multipliers and shifts, and the three zero points."""
    label, channels = instruction.labels["weight"], instruction.constants["bias"].shape[0]
    factors = linear_factors(scale_of(inputs[0]), label.exact, output.qparams, channels)
    multiplier, shift = quantize_multipliers(factors, WIDE_SHIFT_MAX if is_wide(inputs[0].qparams) else SHIFT_MAX)
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
    weight, zero_point = codes.reshape(codes.shape[0], -1), instruction.attributes["weight_zero_point"]
    if zero_point:
        weight = weight.astype(np.int16) - np.int16(zero_point)
    least, greatest = (instruction.constants["bias"] + ends for ends in sum_ends(weight, code_span(inputs[0])))
    shift = np.maximum(instruction.constants["shift"].astype(np.int64), 0)
    return least, greatest, shift * 0 if is_wide(inputs[0].qparams) else shift


def linear_reach(instruction: Instruction, inputs: Sequence[Tensor]) -> int:
    """A magnitude that no accumulator passes after its left shift, as if every weight were as large as its label allows."""
    weight, bias = instruction.constants["weight"], instruction.constants["bias"]
    label, (low, high) = instruction.labels["weight"], code_span(inputs[0])
    most = max(label.zero_point - label.qmin, label.qmax - label.zero_point)
    sums = weight.size // bias.size * most * max(-low, high) + max(-int(bias.min()), int(bias.max()))
    return sums << max(int(instruction.constants["shift"].max()), 0)


def sum_ends(weight: np.ndarray, span: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest sum over the last axis of weights times steps of a span that holds 0, int64."""
    low, high = span  # low <= 0 <= high, so a weight's sign decides which end gives its most
    positive = np.maximum(weight, 0).sum(axis=-1, dtype=np.int64)
    negative = weight.sum(axis=-1, dtype=np.int64) - positive
    return positive * low + negative * high, positive * high + negative * low


def centred(codes: Array, zero_point: int) -> Array:
    """`q - Z`; no copy where nothing is subtracted."""
    return codes - zero_point if zero_point else codes


def finish_linear(b: Backend, attributes: Attributes, constants: Params, accumulator: Array) -> Array:
    """Bias, requantization, clamp: the second half of every linear operator (eq. 11 and 13)."""
    factors = (constants["bias"], constants["multiplier"], constants["shift"])
    codes = (attributes["output_zero_point"], attributes["clamp_min"], attributes["clamp_max"])
    return b.finish(accumulator, factors, codes, attributes["rounding"])


def linear_operator(*, weight_axis: int, accumulate: Accumulate, **own: Any) -> Operator:
    """An operator of this kind.

    Args:
        weight_axis: The weight's output channel axis.
        accumulate: (backend, attributes, constants, inputs) -> `sum w * (x - Z)`, without the bias.
        own: What else is its own; see `Operator`.
    """

    def integer_meaning(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
        return finish_linear(b, attributes, constants, accumulate(b, attributes, constants, inputs))

    return Operator(
        arity=(1, 1),
        fields=LINEAR_FIELDS,
        constants=LINEAR_CONSTANTS,
        slots=LINEAR_SLOTS,
        integer_meaning=integer_meaning,
        accumulate=accumulate,
        finish=finish_linear,
        quant=QuantRecord(weight_axis=weight_axis),
        lower=lambda request: lower_linear(request, weight_axis),
        derive=derive_linear,
        accumulators=lambda instruction, inputs: linear_accumulators(instruction, inputs, weight_axis),
        reach=linear_reach,
        **own,
    )
