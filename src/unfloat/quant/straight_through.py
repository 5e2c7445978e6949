"""What rounds in a forward pass and lets gradients pass: straight-through estimators with clipping (paper, section 3).

Values travel as steps `s = q - Z` in float32, real value `r = S s`. A gradient with respect to steps treats `S` as a
constant; where scales are learned (LSQ, Esser et al., ICLR 2020), `dr/dS = s - x/S` inside the window, `s` outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unfloat.quant import loops
from unfloat.quant.distributed import joined_moments, sum_over_ranks
from unfloat.quant.loops import Bounds, Integers


class Finish(torch.autograd.Function):
    """`s = clamp(round(a * factor + offset))`, rounded where inference rounds.

    Forward arguments:
        accumulator: Float32 or float64, last axis channels; carries the gradient.
        factor, offset: Float32, [channels]; gradients where they need one.
        scale: The output's learned scale, or None.
        integers: The Program's own way of rounding, or None to round in float.
        bounds: Of the steps, the fused clamp's included.

    Returns:
        (steps float32, [2] the least and greatest real-valued step before rounding and clamping).
    """

    @staticmethod
    def forward(
        ctx: Any,
        accumulator: Tensor,
        factor: Tensor,
        offset: Tensor,
        scale: Tensor | None,
        integers: Integers | None,
        bounds: Bounds,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        steps, inside, ends = loops.finish_steps(accumulator, factor, offset, integers, bounds)
        missed = None if scale is None else steps - loops.real_steps(accumulator, factor, offset) * inside
        ctx.dtype = accumulator.dtype
        ctx.mark_non_differentiable(ends)
        ctx.save_for_backward(inside, factor, accumulator if ctx.needs_input_grad[1] else None, scale, missed)
        return steps, ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The real factor, zero where clamped."""
        inside, factor, accumulator, scale, missed = ctx.saved_tensors
        to_accumulator, to_offset, to_factor = loops.finish_backward(grad, inside, factor, accumulator, ctx.dtype)
        return to_accumulator, to_factor, to_offset, _to_scale(grad, missed, scale), None, None


class Replace(torch.autograd.Function):
    """Steps that the integers gave, with the gradient of the clamped real value they stand for.

    Forward arguments:
        real: The float meaning, float32; carries the gradient.
        steps: What the integer meaning gives, float32.
        unit: The real value of a step.
        scale: The learned scale, or None.
        bounds: Of the steps.
    """

    @staticmethod
    def forward(ctx: Any, real: Tensor, steps: Tensor, unit: float, scale: Tensor | None, bounds: Bounds) -> Tensor:
        """See the class."""
        inside = (real >= bounds.low * unit).logical_and_(real <= bounds.high * unit)
        missed = None if scale is None else steps - (real / unit) * inside
        ctx.unit = unit
        ctx.save_for_backward(inside, scale, missed)
        return steps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """`1 / S` inside, zero outside."""
        inside, scale, missed = ctx.saved_tensors
        return grad * inside / ctx.unit, None, None, _to_scale(grad, missed, scale), None


def _to_scale(grad: Tensor, missed: Tensor | None, scale: Tensor | None) -> Tensor | None:
    if missed is None or scale is None:
        return None
    return ((grad * missed).sum() / scale).reshape(scale.shape)


class Statistics(torch.autograd.Function):
    """The accumulator itself, its mean and its biased variance ([channels], float64), in one node of the graph.

    Forward arguments:
        accumulator: Last axis channels; carries the gradient.
        joined: Take the statistics, and their gradients, over the batches of all processes.

    Returns:
        (accumulator, mean, variance, how many values a channel they are of).
    """

    @staticmethod
    def forward(ctx: Any, accumulator: Tensor, joined: bool) -> tuple[Tensor, Tensor, Tensor, int]:
        """See the class."""
        mean, variance = loops.mean_and_variance(accumulator)
        count = accumulator.numel() // accumulator.shape[-1]
        if joined:
            mean, variance, count = joined_moments(mean, variance, count)
        ctx.joined, ctx.count = joined, count
        ctx.save_for_backward(accumulator, mean)
        return accumulator.view_as(accumulator), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, to_mean: Tensor, to_variance: Tensor, _: None) -> tuple[Tensor, None]:
        """`d mean / dx = 1 / n`, `d variance / dx = 2 (x - mean) / n`; every process's loss reads joined statistics."""
        accumulator, mean = ctx.saved_tensors
        if ctx.joined:
            to_mean, to_variance = sum_over_ranks(torch.stack([to_mean, to_variance]))
        slope = 2 * to_variance / ctx.count
        return loops.add_affine(grad, accumulator, to_mean / ctx.count - slope * mean, slope), None


class RoundedWeight(torch.autograd.Function):
    """Weight codes as steps: `clamp(round(w * gain / scale))`.

    Forward arguments:
        weight: Float32, channels along `axis`.
        gain: [channels], float64, what the norm multiplies each channel by; or None.
        scale: [channels] or [1], float64.
        axis: Of the channels.
        bounds: Of the steps.

    Returns:
        (steps, sums of each channel's steps or None; see `loops.weight_steps`).
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, gain: Tensor | None, scale: Tensor, axis: int, bounds: Bounds
    ) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        steps, sums = loops.weight_steps(weight, gain, scale, axis, bounds)
        if sums is not None:
            ctx.mark_non_differentiable(sums)
        ctx.axis, ctx.bounds = axis, bounds
        ctx.save_for_backward(weight, gain, scale, steps if ctx.needs_input_grad[2] else None)
        return steps, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        """Straight through: `d steps / d w = gain / scale`; with a learned scale, zero where clamped."""
        weight, gain, scale, steps = ctx.saved_tensors
        axis, rank = ctx.axis, weight.ndim

        def along(values: Tensor) -> Tensor:
            return values.reshape([-1 if d == axis else 1 for d in range(rank)])

        passed, to_scale = grad, None
        slope = (1 / scale if gain is None else gain / scale).to(torch.float32)
        if steps is not None:
            real = weight * along(slope)
            inside = real.abs() <= ctx.bounds.high
            passed = grad * inside
            to_scale = _channel_totals(grad * (steps - real * inside), axis, scale) / scale
        to_gain = None
        if gain is not None and ctx.needs_input_grad[1]:
            to_gain = _channel_totals(passed * weight, axis, gain) / scale
        return passed * along(slope), to_gain, to_scale, None, None


def _channel_totals(values: Tensor, axis: int, like: Tensor) -> Tensor:
    """Sums over all but the channels, or over all where there is one number for all; float64."""
    others = tuple(d for d in range(values.ndim) if d != axis)
    per_channel = values.sum(dim=others, dtype=torch.float64)
    return per_channel if like.numel() > 1 or per_channel.numel() == 1 else per_channel.sum().reshape(1)


class ScaledGradient(torch.autograd.Function):
    """The identity, its gradient times a constant: LSQ's `1 / sqrt(values * levels)` for scales."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        """See the class."""
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """See the class."""
        return grad * ctx.share, None
