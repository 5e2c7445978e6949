"""One linear node in a training step: weight codes, accumulation, batch norm, requantization, gradients through all.

Batch norm is folded before weights are quantized (paper, section 3). Until a norm is frozen, three ways are offered:
"batch" folds with the batch's own variance (CVPR eq. 14), which costs a second convolution; "average" folds with the
moving averages (arXiv eq. 14); "correct" quantizes weights folded with the moving averages, so that their codes do not
jitter, and corrects the accumulator to the batch's statistics (whitepaper eq. 22 to 31). A frozen norm is "average"
without movement, and equals `eval()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.ops._linear import (
    along,
    bias_codes,
    least_scales,
    linear_factors,
    norm_bias,
    norm_gain,
    symmetric_scales,
)
from unfloat.ops._operator import WeightRule
from unfloat.quant.backend import TrainingBackend
from unfloat.quant.straight_through import Finish, RoundedWeight
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import quantize_multipliers
from unfloat.spec.qparams import QParams, clamp_code, qparams_from_range


@dataclass(frozen=True)
class Operand:
    """A node's input: steps under a label, or real numbers while activations are not quantized yet (label None)."""

    value: Tensor
    label: QParams | None

    @property
    def scale(self) -> float:
        """The real value of one step."""
        return 1.0 if self.label is None else self.label.scale[0]

    def real(self) -> Tensor:
        """Real numbers."""
        return self.value if self.label is None else self.value * self.scale


@dataclass(frozen=True)
class Moments:
    """Batch statistics of a norm's input, per channel, for its moving averages.

    Attributes:
        mean, variance: Float64, the variance biased.
        moves: False for channels whose statistics cannot be told (a gain of zero).
        count: Values a channel.
    """

    mean: Tensor
    variance: Tensor
    moves: Tensor
    count: int


@dataclass(frozen=True)
class LinearStep:
    """What one node needs beside its input.

    Attributes:
        node: Any node whose operator has a weight.
        params: Its parameters by role as tensors, weight float32 and the others float64, with gradients.
        rule: How the weight becomes codes.
        output: The label of its value, or None for real numbers.
        scale: The output's learned scale, or None.
        clip: The learned share of each channel's weight range that is kept, or None for all of it.
        norm: "batch", "average", "correct", or "frozen".
        rounding: Of the requantization.
    """

    node: Node
    params: Mapping[str, Tensor]
    rule: WeightRule
    output: QParams | None
    scale: Tensor | None
    clip: Tensor | None
    norm: str
    rounding: str

    def __call__(self, x: Operand) -> tuple[Tensor, Tensor, Moments | None]:
        """Run.

        Returns:
            (steps or real numbers, least and greatest real number before rounding and clamping, what moves the norm's
            averages).
        """
        if self.node.norm is not None and self.norm == "batch":
            moments, step = self._with_batch_statistics(x)
        else:
            moments, step = None, self
        gain = norm_gain(step.params)
        bias = step._channels(norm_bias(step.params, gain))
        weight, scales = step._weight(gain, bias, x.scale)
        accumulator = step._accumulate(x, weight)
        unit = (x.scale * scales).broadcast_to(bias.shape)  # the real value of one step of the accumulator
        if self.node.norm is not None and self.norm in ("average", "correct"):
            moments = _moments(accumulator, unit, gain, self.params, differentiable=self.norm == "correct")
        if self.node.norm is not None and self.norm == "correct":
            assert moments is not None and gain is not None
            unit, bias = _corrected(unit, gain, moments, self.params)
            moments = replace(moments, mean=moments.mean.detach(), variance=moments.variance.detach())
            return *step._finish(accumulator, unit, bias, None), moments
        exact = None
        if x.label is not None and self.output is not None and self.norm != "batch":
            exact = step._exact(accumulator, bias, scales, x.scale, self.output)
        return *step._finish(accumulator, unit, bias, exact), moments

    @property
    def _axis(self) -> int:
        axis = REGISTRY[self.node.op].quant.weight_axis
        assert axis is not None
        return axis

    def _channels(self, bias: Tensor | float) -> Tensor:
        weight = self.params["weight"]
        zeros = torch.zeros(weight.shape[self._axis], dtype=torch.float64, device=weight.device)
        return zeros + bias

    def _weight(self, gain: Tensor | None, bias: Tensor, input_scale: float) -> tuple[Tensor, Tensor]:
        """The weight as steps, and its scales ([C] or [1], float64): the numbers `ops/_linear.py` makes, on the device."""
        weight, axis, rule = self.params["weight"], self._axis, self.rule
        along_gain = None if gain is None else along(gain, axis, weight.ndim)
        low, high = -(2 ** (rule.bits - 1) - 1), 2 ** (rule.bits - 1) - 1
        with torch.no_grad():
            least = least_scales(bias.detach(), input_scale)
        if rule.dtype == "uint8":
            label = self._affine_label(along_gain, float(least.max()))
            low, high = label.qmin - label.zero_point, label.qmax - label.zero_point
            scales = torch.full((1,), label.scale[0], dtype=torch.float64, device=weight.device)
        else:
            reach = self._reach(gain)
            scales = symmetric_scales(reach if self.clip is None else reach * self.clip, least, rule)
        broadcast = along(scales, axis, weight.ndim) if scales.numel() > 1 else scales.reshape((1,) * weight.ndim)
        return RoundedWeight.apply(weight, along_gain, broadcast, low, high), scales.detach()

    @torch.no_grad()
    def _reach(self, gain: Tensor | None) -> Tensor:
        """The greatest magnitude of each channel's folded weight, float64."""
        weight = self.params["weight"]
        others = tuple(d for d in range(weight.ndim) if d != self._axis)
        reach = weight.abs().amax(dim=others).to(torch.float64)
        return reach if gain is None else reach * gain.abs()

    @torch.no_grad()
    def _affine_label(self, along_gain: Tensor | None, least: float) -> QParams:
        folded = self.params["weight"].to(torch.float64)
        low, high = torch.aminmax(folded if along_gain is None else folded * along_gain)
        rule = self.rule
        return qparams_from_range(float(low), float(high), rule.dtype, rule.bits, narrow=True, least_scale=least)

    def _accumulate(self, x: Operand, weight: Tensor) -> Tensor:
        operator, attributes = REGISTRY[self.node.op], self.node.attributes
        backend = TrainingBackend(x.value.device, _span(x.label) if x.label else (0, 0))
        if x.label is None:
            return operator.float_meaning(backend, attributes, [x.value], {"weight": weight})
        assert operator.accumulate is not None
        centred = {**attributes, "input_zero_point": 0, "weight_zero_point": 0}
        return operator.accumulate(backend, centred, {"weight": weight}, [x.value])

    @torch.no_grad()
    def _exact(self, accumulator: Tensor, bias: Tensor, scales: Tensor, input_scale: float, output: QParams) -> Tensor:
        """The steps that the Program's integers are: the same constants, the same requantization."""
        try:
            factors = linear_factors(input_scale, scales.cpu().numpy(), output, bias.numel())
            multiplier, shift = (torch.from_numpy(a.astype(np.int32)) for a in quantize_multipliers(factors))
        except NumericDomainError as error:
            raise NumericDomainError(f"layer {self.node.name}, {self.node.op}: {error}") from error
        device = accumulator.device
        codes = bias_codes(bias, input_scale, scales).to(torch.int32)
        low, high = self._bounds(output)
        backend = TrainingBackend(device, (0, 0))
        constants = (codes, multiplier.to(device), shift.to(device))
        zero_point = output.zero_point
        limits = (zero_point, low + zero_point, high + zero_point)
        return backend.finish(accumulator, constants, limits, self.rounding).to(torch.float32) - zero_point

    def _finish(self, accumulator: Tensor, unit: Tensor, bias: Tensor, exact: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.output is None:
            value = accumulator * unit.to(torch.float32) + bias.to(torch.float32)
            clamp = self.node.clamp
            return (value if clamp is None else value.clamp(clamp.low, clamp.high)), extremes(value)
        step = self.output.scale[0]
        factor, offset = ((t / step).to(torch.float32) for t in (unit, bias))
        low, high = self._bounds(self.output)
        steps, value = Finish.apply(accumulator, factor, offset, self.scale, exact, low, high)
        return steps, extremes(value) * step

    def _bounds(self, label: QParams) -> tuple[int, int]:
        return clamp_steps(self.node, label)

    def _with_batch_statistics(self, x: Operand) -> tuple[Moments, LinearStep]:
        """The norm folded with the statistics of a first convolution with the weight as it is (paper, figure C.7)."""
        operator = REGISTRY[self.node.op]
        weight = self.params["weight"]
        backend = TrainingBackend(weight.device, (0, 0))
        raw = operator.float_meaning(backend, self.node.attributes, [x.real()], {"weight": weight})
        mean, variance, count = _mean_and_variance(raw)
        mean, variance = mean.to(torch.float64) + self.params.get("bias", 0.0), variance.to(torch.float64)
        folded = replace(self, params={**self.params, "norm.mean": mean, "norm.variance": variance})
        everywhere = torch.ones_like(mean, dtype=torch.bool)
        return Moments(mean.detach(), variance.detach(), everywhere, count), folded


def clamp_steps(node: Node, label: QParams) -> tuple[int, int]:
    """The least and greatest step that a node can give: its fused clamp's codes, or the whole code range."""
    low, high = _span(label)
    if node.clamp is None:
        return low, high
    return tuple(clamp_code(end, label) - label.zero_point for end in (node.clamp.low, node.clamp.high))  # type: ignore[return-value]


@torch.no_grad()
def extremes(values: Tensor) -> Tensor:
    """[2]: the least and the greatest value; a NaN anywhere shows in both."""
    return torch.stack(torch.aminmax(values))


def _span(label: QParams) -> tuple[int, int]:
    return label.qmin - label.zero_point, label.qmax - label.zero_point


def _mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel, and how many values a channel has."""
    variance, mean = torch.var_mean(values, dim=tuple(range(values.ndim - 1)), correction=0)
    return mean, variance, values.numel() // values.shape[-1]


def _moments(
    accumulator: Tensor, unit: Tensor, gain: Tensor | None, params: Mapping[str, Tensor], *, differentiable: bool
) -> Moments:
    """The batch statistics of the norm's input, from an accumulator that has the gain folded in."""
    assert gain is not None
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        mean, variance, count = _mean_and_variance(accumulator)
        tells = gain != 0
        per_step = unit / torch.where(tells, gain, 1.0)
        inner_mean = mean.to(torch.float64) * per_step + params.get("bias", 0.0)
        return Moments(inner_mean, variance.to(torch.float64) * per_step**2, tells, count)


def _corrected(unit: Tensor, gain: Tensor, moments: Moments, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Unit and bias that give what the batch's own statistics would: `c = sigma_B / sigma` (whitepaper eq. 22)."""
    eps = params["norm.eps"]
    ratio = torch.sqrt((params["norm.variance"] + eps) / (moments.variance + eps))
    centre = (params.get("bias", 0.0) - moments.mean) * gain * ratio + params.get("norm.bias", 0.0)
    return unit * ratio, centre
