"""What rounds in a forward pass and lets gradients pass: straight-through estimators with clipping (paper, section 3).

Values travel as steps `s = q - Z` in float32, real value `r = S s`. A gradient with respect to steps treats `S` as a
constant; where scales are learned (LSQ, Esser et al., ICLR 2020), `dr/dS = s - x/S` inside the window, `s` outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unfloat.quant import loops
from unfloat.quant.loops import Bounds, Integers
from unfloat.spec.fixedpoint import Addition


class Finish(torch.autograd.Function):
    """`s = clamp(round(a * unit / S + bias / S))`, rounded where inference rounds.

    Forward arguments:
        accumulator: Float32 or float64, last axis channels; carries the gradient.
        bias: [channels], float64, real; its gradient too.
        scale: The output's learned scale, or None.
        unit: [channels], float64, the real value of one step of the accumulator.
        output: What becomes of it.

    Returns:
        (steps float32, [2] the least and greatest real-valued step before rounding and clamping).
    """

    @staticmethod
    def forward(
        ctx: Any, accumulator: Tensor, bias: Tensor, scale: Tensor | None, unit: Tensor, output: Output
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        factor, offset = (unit / output.step).to(torch.float32), (bias / output.step).to(torch.float32)
        steps, inside, ends = loops.finish_steps(
            accumulator, factor, offset, output.bounds, output.integers, output.rounds
        )
        ctx.dtype, ctx.step = accumulator.dtype, output.step
        ctx.mark_non_differentiable(ends)
        learned = (None, None) if scale is None else (accumulator, steps)
        ctx.save_for_backward(inside, factor, offset, scale, *learned)
        return steps, ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The real factor, zero where clamped."""
        inside, factor, offset, scale, accumulator, steps = ctx.saved_tensors
        sums, out = loops.gradient_sums(grad, inside, factor, accumulator, steps, ctx.dtype)
        return out, sums[0] / ctx.step, to_scale(sums, factor, offset, scale), None, None


@dataclass(frozen=True)
class Output:
    """How accumulators become steps.

    Attributes:
        step: The real value of one step: the output's scale, 1 where nothing is rounded.
        bounds: Of the steps.
        integers: The Program's own way of rounding, or None to round in float.
        rounds: False while activations are not quantized.
    """

    step: float
    bounds: Bounds
    integers: Integers | None = None
    rounds: bool = True


def to_scale(sums: Tensor, factor: Tensor, offset: Tensor, scale: Tensor | None) -> Tensor | None:
    """LSQ's gradient of a scale, `sum grad (s - x / S inside)`, from `loops.gradient_sums`: `x / S` is affine in it."""
    if scale is None:
        return None
    passed, products, scaled = sums
    return ((scaled - factor * products - offset * passed).sum() / scale).reshape(scale.shape).to(scale.dtype)


def _everywhere(factor: float, like: Tensor) -> Tensor:
    """[channels], float64: a scale's gradient is a small difference of large sums."""
    return torch.full((like.shape[-1],), factor, dtype=torch.float64, device=like.device)


class Add(torch.autograd.Function):
    """The sum of two operands of one shape: the integers forward, the clamped real sum's gradient backward.

    Forward arguments:
        a: Steps, float32; they carry the gradient.
        b: The same of the other operand.
        scale: The sum's learned scale, or None.
        factors: The real value of each operand's step, over that of the sum's.
        by: How their steps are added; see `loops.add_steps`.
        rounding: "double" or "single".

    Returns:
        (steps float32, [2] the least and greatest real-valued step before rounding and clamping).
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor | None,
        factors: tuple[float, float],
        by: Addition,
        rounding: str,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        steps, inside, ends = loops.add_steps(a, b, by, factors, rounding)
        ctx.factors = factors
        ctx.mark_non_differentiable(ends)
        learned = (None, None, None) if scale is None else (a, b, steps)
        ctx.save_for_backward(inside, scale, *learned)
        return steps, ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Each operand's factor, zero where clamped."""
        inside, scale, a, b, steps = ctx.saved_tensors
        first, second = (_everywhere(factor, grad) for factor in ctx.factors)
        sums, to_a = loops.gradient_sums(grad, inside, first.to(torch.float32), a, steps, torch.float32)
        others, to_b = loops.gradient_sums(grad, inside, second.to(torch.float32), b, None, torch.float32)
        sums[2] -= second * others[1]  # the second part of the real sum
        return to_a, to_b, to_scale(sums, first, torch.zeros_like(first), scale), None, None, None


class Replace(torch.autograd.Function):
    """Steps that the integers gave, with the gradient of the clamped real value they stand for.

    Forward arguments:
        real: The float meaning, float32, last axis channels; carries the gradient.
        steps: What the integer meaning gives, float32.
        unit: The real value of a step.
        scale: The learned scale, or None.
        bounds: Of the steps.
    """

    @staticmethod
    def forward(ctx: Any, real: Tensor, steps: Tensor, unit: float, scale: Tensor | None, bounds: Bounds) -> Tensor:
        """See the class."""
        ctx.unit = unit
        inside = loops.within(real, Bounds(bounds.low * unit, bounds.high * unit))
        learned = (None, None) if scale is None else (real, steps)
        ctx.save_for_backward(inside, scale, *learned)
        return steps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """`1 / S` inside, zero outside."""
        inside, scale, real, steps = ctx.saved_tensors
        factor = _everywhere(1 / ctx.unit, grad)
        sums, out = loops.gradient_sums(grad, inside, factor.to(torch.float32), real, steps, torch.float32)
        return out, None, None, to_scale(sums, factor, torch.zeros_like(factor), scale), None


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
        slope = (1 / scale if gain is None else gain / scale).to(torch.float32)
        to_weight, totals, missed = loops.weight_backward(grad, weight, slope, ctx.axis, steps, ctx.bounds.high)
        to_gain = totals / scale if gain is not None else None
        to_scale = None
        if steps is not None:
            to_scale = (missed if scale.numel() > 1 else missed.sum().reshape(1)) / scale
        return to_weight, to_gain, to_scale, None, None


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
