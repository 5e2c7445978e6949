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
from unfloat.quant.loops import Bounds, Integers, mean_and_variance, reach
from unfloat.quant.ranges import diverged
from unfloat.quant.straight_through import Finish, RoundedWeight, Statistics
from unfloat.spec.errors import NumericDomainError, TrainingError
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
        moves: False for channels whose statistics cannot be told (a gain of zero); they have the moving averages.
        count: Values a channel.
        joined: Whether they are already those of all processes.
    """

    mean: Tensor
    variance: Tensor
    moves: Tensor
    count: int
    joined: bool = False

    def detached(self) -> Moments:
        """Without gradients."""
        return replace(self, mean=self.mean.detach(), variance=self.variance.detach())


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
        synchronize: Whether batch statistics are those of all processes' joined batches.
    """

    node: Node
    params: Mapping[str, Tensor]
    rule: WeightRule
    output: QParams | None
    scale: Tensor | None
    clip: Tensor | None
    norm: str
    rounding: str
    synchronize: bool = False

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
        weight, sums, scales = step._weight(gain, bias, x.scale)
        accumulator = step._accumulate(x, weight, sums)
        unit = (x.scale * scales).broadcast_to(bias.shape)  # the real value of one step of the accumulator
        if self.node.norm is not None and self.norm in ("average", "correct"):
            if self.norm == "correct":
                accumulator, mean, variance, count = Statistics.apply(accumulator, self.synchronize)
            else:
                mean, variance = mean_and_variance(accumulator)
                count = accumulator.numel() // accumulator.shape[-1]
            moments = _moments(mean, variance, count, unit, gain, self.params)
            moments = replace(moments, joined=self.synchronize and self.norm == "correct")
        if self.node.norm is not None and self.norm == "correct":
            assert moments is not None and gain is not None
            unit, bias = _corrected(unit, gain, moments, self.params)
            return *step._finish(accumulator, unit, bias, None), moments.detached()
        exact = None
        if x.label is not None and self.output is not None and self.norm != "batch":
            exact = step._integers(bias, scales, x.scale, self.output)
        return *step._finish(accumulator, unit, bias, exact), None if moments is None else moments.detached()

    @property
    def _axis(self) -> int:
        axis = REGISTRY[self.node.op].quant.weight_axis
        assert axis is not None
        return axis

    def _channels(self, bias: Tensor | float) -> Tensor:
        weight = self.params["weight"]
        zeros = torch.zeros(weight.shape[self._axis], dtype=torch.float64, device=weight.device)
        return zeros + bias

    def _weight(self, gain: Tensor | None, bias: Tensor, input_scale: float) -> tuple[Tensor, Tensor | None, Tensor]:
        """The weight as steps, their sums, and its scales ([channels] or [1], float64): `ops/_linear.py`'s own numbers."""
        weight, axis, rule = self.params["weight"], self._axis, self.rule
        bounds = Bounds(-(2 ** (rule.bits - 1) - 1), 2 ** (rule.bits - 1) - 1)
        with torch.no_grad():
            least = least_scales(bias.detach(), input_scale)
        if rule.dtype == "uint8":
            label = self._affine_label(gain, float(least.max()))
            bounds = Bounds(label.qmin - label.zero_point, label.qmax - label.zero_point)
            scales = torch.full((1,), label.scale[0], dtype=torch.float64, device=weight.device)
        else:
            with torch.no_grad():
                greatest = reach(weight, axis) if gain is None else reach(weight, axis) * gain.abs()
            self._require_finite(greatest)
            scales = symmetric_scales(greatest if self.clip is None else greatest * self.clip, least, rule)
        return *RoundedWeight.apply(weight, gain, scales, axis, bounds), scales.detach()

    @torch.no_grad()
    def _affine_label(self, gain: Tensor | None, least: float) -> QParams:
        folded = self.params["weight"].to(torch.float64)
        low, high = torch.aminmax(folded if gain is None else folded * along(gain, self._axis, folded.ndim))
        self._require_finite(torch.stack([low, high]))
        rule = self.rule
        return qparams_from_range(float(low), float(high), rule.dtype, rule.bits, narrow=True, least_scale=least)

    def _require_finite(self, ends: Tensor) -> None:
        if not bool(torch.isfinite(ends).all()):
            name = self.node.params["weight"].name
            raise TrainingError(diverged(self.node.name, f"NaN or infinity in {name} or in its norm"))

    def _accumulate(self, x: Operand, weight: Tensor, sums: Tensor | None) -> Tensor:
        operator, attributes = REGISTRY[self.node.op], self.node.attributes
        backend = TrainingBackend(x.value.device, _span(x.label) if x.label else (0, 0), sums)
        if x.label is None:
            return operator.float_meaning(backend, attributes, [x.value], {"weight": weight})
        assert operator.accumulate is not None
        centred = {**attributes, "input_zero_point": 0, "weight_zero_point": 0}
        return operator.accumulate(backend, centred, {"weight": weight}, [x.value])

    @torch.no_grad()
    def _integers(self, bias: Tensor, scales: Tensor, input_scale: float, output: QParams) -> Integers:
        """The Program's own constants: bias codes, multipliers, shifts."""
        try:
            factors = linear_factors(input_scale, scales.cpu().numpy(), output, bias.numel())
            multiplier, shift = quantize_multipliers(factors)
        except NumericDomainError as error:
            raise NumericDomainError(f"layer {self.node.name}, {self.node.op}: {error}") from error
        codes = bias_codes(bias, input_scale, scales).to(torch.int32).cpu().numpy()
        return Integers(codes, multiplier, shift, self.rounding)

    def _finish(self, accumulator: Tensor, unit: Tensor, bias: Tensor, exact: Integers | None) -> tuple[Tensor, Tensor]:
        if self.output is None:
            value = accumulator * unit.to(torch.float32) + bias.to(torch.float32)
            clamp = self.node.clamp
            return (value if clamp is None else value.clamp(clamp.low, clamp.high)), extremes(value)
        step = self.output.scale[0]
        factor, offset = ((t / step).to(torch.float32) for t in (unit, bias))
        steps, ends = Finish.apply(accumulator, factor, offset, self.scale, exact, clamp_steps(self.node, self.output))
        return steps, ends * step

    def _with_batch_statistics(self, x: Operand) -> tuple[Moments, LinearStep]:
        """The norm folded with the statistics of a first convolution with the weight as it is (paper, figure C.7)."""
        operator = REGISTRY[self.node.op]
        weight = self.params["weight"]
        backend = TrainingBackend(weight.device, (0, 0))
        raw = operator.float_meaning(backend, self.node.attributes, [x.real()], {"weight": weight})
        raw, mean, variance, count = Statistics.apply(raw, self.synchronize)
        mean = mean + self.params.get("bias", 0.0)
        folded = replace(self, params={**self.params, "norm.mean": mean, "norm.variance": variance})
        everywhere = torch.ones_like(mean, dtype=torch.bool)
        return Moments(mean, variance, everywhere, count, self.synchronize), folded


def clamp_steps(node: Node, label: QParams) -> Bounds:
    """The least and greatest step that a node can give: its fused clamp's codes, or the whole code range."""
    if node.clamp is None:
        return Bounds(*_span(label))
    return Bounds(*(clamp_code(end, label) - label.zero_point for end in (node.clamp.low, node.clamp.high)))


@torch.no_grad()
def extremes(values: Tensor) -> Tensor:
    """[2]: the least and the greatest value; a NaN anywhere shows in both."""
    return torch.stack(torch.aminmax(values))


def _span(label: QParams) -> tuple[int, int]:
    return label.qmin - label.zero_point, label.qmax - label.zero_point


def _moments(
    mean: Tensor, variance: Tensor, count: int, unit: Tensor, gain: Tensor | None, params: Mapping[str, Tensor]
) -> Moments:
    """The batch statistics of the norm's input, from those of an accumulator that has the gain folded in."""
    assert gain is not None
    tells = gain != 0
    per_step = unit / torch.where(tells, gain, 1.0)
    mean = torch.where(tells, mean * per_step + params.get("bias", 0.0), params["norm.mean"])
    return Moments(mean, torch.where(tells, variance * per_step**2, params["norm.variance"]), tells, count)


def _corrected(unit: Tensor, gain: Tensor, moments: Moments, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Unit and bias that give what the batch's own statistics would: `c = sigma_B / sigma` (whitepaper eq. 22)."""
    eps = params["norm.eps"]
    ratio = torch.sqrt((params["norm.variance"] + eps) / (moments.variance + eps))
    centre = (params.get("bias", 0.0) - moments.mean) * gain * ratio + params.get("norm.bias", 0.0)
    return unit * ratio, centre
