"""One linear node in a training step: weight codes, accumulation, batch norm, requantization, gradients through all.

Batch norm is folded before weights are quantized (paper, section 3). Until a norm is frozen, three ways are offered:
"batch" folds with the batch's own variance (CVPR eq. 14), which costs a second convolution; "average" folds with the
moving averages (arXiv eq. 14); "correct" quantizes weights folded with the moving averages, so that their codes do not
jitter, and corrects the accumulator to the batch's statistics (whitepaper eq. 22 to 31). A frozen norm is "average"
without movement, and equals `eval()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.ops._linear import (
    along,
    bias_codes,
    is_wide,
    least_scales,
    least_scales_on,
    linear_factors,
    symmetric_scales,
)
from unfloat.ops._operator import WeightRule
from unfloat.quant.backend import TrainingBackend
from unfloat.quant.loops import Bounds, Integers, reach
from unfloat.quant.norm import Fold, Moments, Norm, NormedFinish, Statistics, batch_moments
from unfloat.quant.ranges import diverged
from unfloat.quant.straight_through import Finish, Output, RoundedWeight
from unfloat.spec.errors import NumericDomainError, TrainingError
from unfloat.spec.fixedpoint import SHIFT_MAX, WIDE_ROUNDING, WIDE_SHIFT_MAX, quantize_multipliers
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
class LinearStep:
    """What one node needs beside its input.

    Attributes:
        node: Any node whose operator has a weight.
        params: Its parameters by role as tensors with gradients, the weight float32.
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
        gain, bias = step._folded()
        weight, sums, scales = step._weight(gain, bias, x.label)
        accumulator = step._accumulate(x, weight, sums)
        unit = (x.scale * scales).broadcast_to(bias.shape)  # the real value of one step of the accumulator
        if self.node.norm is not None and self.norm == "correct":
            assert gain is not None
            return self._corrected(accumulator, unit, gain)
        if self.node.norm is not None and self.norm == "average":
            assert gain is not None
            moments = self._known(gain).moments(*batch_moments(accumulator, False), unit)
        exact = None
        if x.label is not None and self.output is not None and self.norm != "batch":
            exact = step._integers(bias, scales, x.label, self.output)
        output = self._output(exact)
        steps, ends = Finish.apply(accumulator, bias, self.scale, unit, output)
        return steps, ends * output.step, None if moments is None else moments.detached()

    @property
    def _axis(self) -> int:
        axis = REGISTRY[self.node.op].quant.weight_axis
        assert axis is not None
        return axis

    def _folded(self) -> tuple[Tensor | None, Tensor]:
        """The gain of each channel, or None without a norm, and its bias."""
        p = self.params
        roles = ("norm.weight", "norm.bias", "bias", "norm.mean", "norm.variance", "norm.eps")
        channels = p["weight"].detach().movedim(self._axis, 0)
        found: tuple[Tensor | None, Tensor] = Fold.apply(*(p.get(role) for role in roles), channels)
        return found

    def _known(self, gain: Tensor) -> Norm:
        bias = self.params.get("bias")
        mean, variance = (self.params[role].detach().to(torch.float64) for role in ("norm.mean", "norm.variance"))
        known = 0.0 if bias is None else bias.detach()
        return Norm(gain.detach(), known, mean, variance, float(self.params["norm.eps"]))

    def _corrected(self, accumulator: Tensor, unit: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Moments]:
        norm, output = self._known(gain), self._output(None)
        steps, ends, mean, variance, count = NormedFinish.apply(
            accumulator, gain, self.params.get("norm.bias"), self.scale, unit, norm, output, self.synchronize
        )
        return steps, ends * output.step, Moments(mean, variance, norm.tells, count, self.synchronize)

    def _weight(self, gain: Tensor | None, bias: Tensor, read: QParams | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """The weight as steps, their sums, and its scales ([channels] or [1], float64): `ops/_linear.py`'s own numbers."""
        weight, axis, rule = self.params["weight"], self._axis, self.rule
        bounds = Bounds(-(2 ** (rule.bits - 1) - 1), 2 ** (rule.bits - 1) - 1)
        with torch.no_grad():
            least = least_scales(bias.detach(), 1.0) if read is None else least_scales_on(read, bias.detach())
        if rule.dtype == "uint8":
            label = self._affine_label(gain, float(least.max()))
            bounds = Bounds(label.qmin - label.zero_point, label.qmax - label.zero_point)
            scales = torch.full((1,), label.scale[0], dtype=torch.float64, device=weight.device)
        else:
            with torch.no_grad():
                greatest = reach(weight, axis) if gain is None else reach(weight, axis) * gain.abs()
            self._require_finite(greatest)
            if self.clip is not None:
                scales = symmetric_scales(greatest * self.clip, least, rule)
            else:  # without gradients, and on a CPU in NumPy, which is faster for so few numbers
                scales = torch.as_tensor(symmetric_scales(_host(greatest), _host(least), rule), device=weight.device)
        return *RoundedWeight.apply(weight, gain, scales, axis, bounds), scales.detach()

    @torch.no_grad()
    def _affine_label(self, gain: Tensor | None, least: float) -> QParams:
        folded = self.params["weight"].to(torch.float64)
        low, high = torch.aminmax(folded if gain is None else folded * along(gain, self._axis, folded.ndim))
        self._require_finite(torch.stack([low, high]))
        rule = self.rule
        return qparams_from_range(float(low), float(high), rule.dtype, rule.bits, narrow=True, least_scale=least)

    def _require_finite(self, ends: Tensor) -> None:
        if not np.isfinite(ends.cpu().numpy()).all():
            names = " or ".join(param.name for param in self.node.params.values())
            raise TrainingError(diverged(self.node.name, f"NaN or infinity in {names} or in its norm"))

    def _accumulate(self, x: Operand, weight: Tensor, sums: Tensor | None) -> Tensor:
        operator, attributes = REGISTRY[self.node.op], self.node.attributes
        backend = TrainingBackend(x.value.device, _span(x.label) if x.label else (0, 0), sums)
        if x.label is None:
            return operator.float_meaning(backend, attributes, [x.value], {"weight": weight})
        assert operator.accumulate is not None
        centred = {**attributes, "input_zero_point": 0, "weight_zero_point": 0}
        return operator.accumulate(backend, centred, {"weight": weight}, [x.value])

    @torch.no_grad()
    def _integers(self, bias: Tensor, scales: Tensor, read: QParams, output: QParams) -> Integers:
        """The Program's own constants: bias codes, multipliers, shifts."""
        self._require_finite(bias)
        wide = is_wide(read)
        try:
            factors = linear_factors(read.scale[0], scales.cpu().numpy(), output, bias.numel())
            multiplier, shift = quantize_multipliers(factors, WIDE_SHIFT_MAX if wide else SHIFT_MAX)
        except NumericDomainError as error:
            raise NumericDomainError(f"layer {self.node.name}, {self.node.op}: {error}") from error
        codes = bias_codes(bias, read.scale[0], scales).to(torch.int64 if wide else torch.int32).cpu().numpy()
        return Integers(codes, multiplier, shift, WIDE_ROUNDING if wide else self.rounding)

    def _output(self, exact: Integers | None) -> Output:
        clamp = self.node.clamp
        if self.output is not None:
            return Output(self.output.scale[0], clamp_steps(self.node, self.output), exact)
        ends = (-math.inf, math.inf) if clamp is None else (clamp.low, clamp.high)
        return Output(1.0, Bounds(*ends), rounds=False)

    def _with_batch_statistics(self, x: Operand) -> tuple[Moments, LinearStep]:
        """The norm folded with the statistics of a first convolution with the weight as it is (paper, figure C.7)."""
        operator = REGISTRY[self.node.op]
        weight = self.params["weight"]
        backend = TrainingBackend(weight.device, (0, 0))
        raw = operator.float_meaning(backend, self.node.attributes, [x.real()], {"weight": weight})
        mean, variance, count = Statistics.apply(raw, self.synchronize)
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


def _host(values: Tensor) -> Any:
    """The same numbers in NumPy where they lie on the CPU."""
    return values.numpy() if values.device.type == "cpu" else values
