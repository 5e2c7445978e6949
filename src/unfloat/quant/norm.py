"""Batch norm in a training step: folding it into a layer, statistics of a batch, and their gradients.

Numbers of a channel are float64. Each class here is one node of autograd's graph with its derivative written out: a
network has hundreds of channels' numbers a layer, and a node for every operation on them would cost more than the
layer itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unfloat.ops._linear import norm_bias, norm_gain
from unfloat.quant import loops
from unfloat.quant.distributed import joined_moments, sum_over_ranks
from unfloat.quant.straight_through import Output, to_scale


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
class Norm:
    """What a norm knows when a batch comes, without gradients.

    Attributes:
        gain: [channels], `gamma / sqrt(variance + eps)`, folded into the weight already.
        bias: Of the layer before it, [channels] or 0.
        mean, variance: The moving averages.
        eps: Of the norm.
    """

    gain: Tensor
    bias: Tensor | float
    mean: Tensor
    variance: Tensor
    eps: float

    @cached_property
    def tells(self) -> Tensor:
        """Where the accumulator says what its input was: not where the gain is zero."""
        return self.gain != 0

    @cached_property
    def some_gain(self) -> Tensor:
        """The gain, 1 where it is zero."""
        return torch.where(self.tells, self.gain, 1.0)

    def moments(self, mean: Tensor, variance: Tensor, count: int, unit: Tensor) -> Moments:
        """The statistics of the norm's input, from those of the accumulator, whose weight has the gain folded in."""
        per_step = unit / self.some_gain
        return Moments(
            torch.where(self.tells, (mean * per_step).add_(self.bias), self.mean),
            torch.where(self.tells, variance * per_step.square_(), self.variance),
            self.tells,
            count,
        )


class Fold(torch.autograd.Function):
    """A norm's gain and the bias of each channel, float64: `ops/_linear.py`'s `norm_gain` and `norm_bias` (eq. 19).

    Forward arguments:
        gamma, beta, bias, mean, variance: [channels] or None.
        eps: Of the norm.
        channels: Any tensor with a row for each channel, on their device.

    Returns:
        (gain or None without a norm, bias).
    """

    @staticmethod
    def forward(
        ctx: Any,
        gamma: Tensor | None,
        beta: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        eps: float | None,
        channels: Tensor,
    ) -> tuple[Tensor | None, Tensor]:
        """See the class."""
        names = ("norm.weight", "norm.bias", "bias", "norm.mean", "norm.variance")
        given = (gamma, beta, bias, mean, variance)
        ctx.dtypes = [None if t is None else t.dtype for t in given]
        params: dict[str, Any] = {n: t.to(torch.float64) for n, t in zip(names, given, strict=True) if t is not None}
        gain = norm_gain({**params, "norm.eps": eps})
        folded = channels.new_zeros(len(channels), dtype=torch.float64) + norm_bias(params, gain)
        saved: tuple[Any, ...] = (None, None, None)
        if gain is not None:  # moving averages move before the backward pass: keep what follows from them
            gain = gain.expand_as(folded).contiguous()
            saved = (gain, params["norm.variance"] + eps, params.get("bias", 0.0) - params["norm.mean"])
        ctx.save_for_backward(*saved)
        return gain, folded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_gain: Tensor | None, to_bias: Tensor) -> tuple[Tensor | None, ...]:
        """`gain = gamma / sqrt(v + eps)`; `folded = (b - mean) gain + beta`."""
        gain, spread, centre = ctx.saved_tensors
        if gain is None:
            return None, None, _as(to_bias, ctx.dtypes[2]), None, None, None, None
        into_gain = to_bias * centre if to_gain is None else to_bias * centre + to_gain
        through = to_bias * gain
        wanted = ctx.needs_input_grad
        found = (
            into_gain * spread.rsqrt(),
            to_bias,
            through,
            -through if wanted[3] else None,
            -0.5 * into_gain * gain / spread if wanted[4] else None,
        )
        kept = (_as(g, dtype) if needed else None for g, dtype, needed in zip(found, ctx.dtypes, wanted, strict=False))
        return *kept, None, None


def _as(grad: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if grad is None or dtype is None else grad.to(dtype)


def batch_moments(values: Tensor, joined: bool) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance (float64) and count of each channel, over the batches of all processes if `joined`."""
    mean, variance = loops.mean_and_variance(values)
    count = values.numel() // values.shape[-1]
    return joined_moments(mean, variance, count) if joined else (mean, variance, count)


def _through_moments(
    to_mean: Tensor, to_variance: Tensor, mean: Tensor, count: int, joined: bool
) -> tuple[Tensor, Tensor]:
    """The gradient of the values that moments are of, `constant + slope * x`.

    `d mean / dx = 1 / n`, `d variance / dx = 2 (x - mean) / n`; every process's loss reads joined statistics.
    """
    if joined:
        to_mean, to_variance = sum_over_ranks(torch.stack([to_mean, to_variance]))
    slope = 2 * to_variance / count
    return to_mean / count - slope * mean, slope


class Statistics(torch.autograd.Function):
    """Mean and biased variance of each channel, [channels], float64.

    Forward arguments:
        values: Last axis channels; carries the gradient.
        joined: Take the statistics, and their gradients, over the batches of all processes.

    Returns:
        (mean, variance, how many values a channel they are of).
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, joined: bool) -> tuple[Tensor, Tensor, int]:
        """See the class."""
        mean, variance, count = batch_moments(values, joined)
        ctx.joined, ctx.count = joined, count
        ctx.save_for_backward(values, mean)
        return mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mean: Tensor, to_variance: Tensor, _: None) -> tuple[Tensor, None]:
        """See `_through_moments`."""
        values, mean = ctx.saved_tensors
        constant, slope = _through_moments(to_mean, to_variance, mean, ctx.count, ctx.joined)
        return torch.addcmul(constant.to(values.dtype), slope.to(values.dtype), values), None


class NormedFinish(torch.autograd.Function):
    """An accumulator normalized by its own batch's statistics, then finished as `straight_through.Finish` does.

    The weight has the moving averages' gain folded in; the accumulator is corrected to the batch's statistics by
    `c = sigma_B / sigma` (whitepaper eq. 22 to 24):
    `y = (a - mean(a)) unit sqrt((v + eps) / (v_B + eps)) + beta`, `s = clamp(round(y / S))`.

    Forward arguments:
        accumulator: Last axis channels; carries the gradient.
        gain: `norm.gain`, with its gradient: `v_B` is of what lies before it.
        beta: [channels] or None.
        scale: The output's learned scale, or None.
        unit: [channels], the real value of one step of the accumulator.
        norm: See `Norm`.
        output: What becomes of it; never `integers`, a batch's statistics are real numbers.
        joined: Take the statistics, and their gradients, over the batches of all processes.

    Returns:
        (steps float32, [2] the least and greatest real-valued step before rounding and clamping, mean and variance of
        the norm's input, how many values a channel they are of).
    """

    @staticmethod
    def forward(
        ctx: Any,
        accumulator: Tensor,
        gain: Tensor,
        beta: Tensor | None,
        scale: Tensor | None,
        unit: Tensor,
        norm: Norm,
        output: Output,
        joined: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """See the class."""
        mean, variance, count = batch_moments(accumulator, joined)
        batch = norm.moments(mean, variance, count, unit)
        spread = batch.variance + norm.eps
        factor = unit * torch.sqrt((norm.variance + norm.eps) / spread) / output.step
        offset = -mean * factor
        if beta is not None:
            offset = offset + beta.to(torch.float64) / output.step
        narrow = factor.to(torch.float32), offset.to(torch.float32)
        steps, inside, ends = loops.finish_steps(accumulator, *narrow, output.bounds, None, output.rounds)
        ctx.mark_non_differentiable(ends, batch.mean, batch.variance)
        ctx.norm, ctx.step, ctx.joined, ctx.count = norm, output.step, joined, count
        ctx.beta_dtype = None if beta is None else beta.dtype
        kept = None if scale is None else steps
        ctx.save_for_backward(accumulator, inside, kept, scale, *narrow, unit, mean, batch.variance)
        return steps, ends, batch.mean, batch.variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *unused: Any) -> tuple[Tensor | None, ...]:
        """`d y / d a` directly, through the mean, and through the variance, as in batch norm."""
        accumulator, inside, steps, scale, factor, offset, unit, mean, spread = ctx.saved_tensors
        norm = ctx.norm
        spread = spread + norm.eps
        sums, _ = loops.gradient_sums(grad, inside, factor, accumulator, steps)
        passed, products, _ = sums
        to_log = (products - mean * passed) * factor  # the loss by the logarithm of the factor
        to_mean = -factor * passed
        share = torch.where(norm.tells, to_log / spread, 0.0)  # a silent channel's variance is not the batch's
        to_variance = share * (unit / norm.some_gain).square_().mul_(-0.5)
        to_gain = share * (spread - norm.eps) / norm.some_gain
        constant, slope = _through_moments(to_mean, to_variance, mean, ctx.count, ctx.joined)
        out = loops.gradient_through_norm(grad, inside, accumulator, factor, constant, slope)
        to_beta = _as(passed / ctx.step, ctx.beta_dtype)
        return out, to_gain, to_beta, to_scale(sums, factor, offset, scale), None, None, None, None
