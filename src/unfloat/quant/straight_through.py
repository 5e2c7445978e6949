"""What rounds in a forward pass and lets gradients pass: straight-through estimators with clipping (paper, section 3).

Values travel as steps `s = q - Z` in float32, real value `r = S s`. A gradient with respect to steps treats `S` as a
constant; where scales are learned (LSQ, Esser et al., ICLR 2020), `dr/dS = s - x/S` inside the window, `s` outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unfloat.spec.fixedpoint import round_half_away


class Finish(torch.autograd.Function):
    """`s = clamp(round(a * factor + offset), low, high)`, rounded where inference rounds.

    Forward arguments:
        accumulator: Float32 or float64, last axis channels; carries the gradient.
        factor, offset: Float32, [C] or [1]; gradients where they need one.
        scale: The output's learned scale, or None.
        exact: The steps that the integer meaning gives, float32; None to round in float.
        low, high: Bounds of the steps, the fused clamp's included.

    Returns:
        (steps float32, the real-valued steps before rounding and clamping; the latter carries no gradient).
    """

    @staticmethod
    def forward(
        ctx: Any,
        accumulator: Tensor,
        factor: Tensor,
        offset: Tensor | None,
        scale: Tensor | None,
        exact: Tensor | None,
        low: int,
        high: int,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        value = (accumulator * factor).to(torch.float32)
        if offset is not None:
            value += offset
        steps = round_half_away(value).clamp_(low, high) if exact is None else exact
        inside = (value >= low).logical_and_(value <= high)
        ctx.mark_non_differentiable(value)
        ctx.dtype = accumulator.dtype
        needs_accumulator = accumulator if ctx.needs_input_grad[1] else None
        missed = steps - value * inside if scale is not None else None
        ctx.save_for_backward(inside, factor, needs_accumulator, scale, missed)
        return steps, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The real factor, zero where clamped."""
        inside, factor, accumulator, scale, missed = ctx.saved_tensors
        passed = grad * inside
        to_factor = _to_shape(passed * accumulator, factor) if accumulator is not None else None
        to_offset = _to_shape(passed, factor) if ctx.needs_input_grad[2] else None
        to_scale = ((grad * missed).sum() / scale).reshape(scale.shape) if ctx.needs_input_grad[3] else None
        to_accumulator = (passed * factor).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return to_accumulator, to_factor, to_offset, to_scale, None, None, None


def _to_shape(values: Tensor, like: Tensor) -> Tensor:
    """Summed over all but the channels, or over everything where there is one number for all."""
    if like.numel() == 1:
        return values.sum().reshape(like.shape).to(like.dtype)
    rows = values.reshape(-1, values.shape[-1])
    ones = torch.ones(1, rows.shape[0], dtype=rows.dtype, device=rows.device)
    return (ones @ rows)[0].to(like.dtype)  # a product with ones is far faster than a reduction


class RoundedWeight(torch.autograd.Function):
    """Weight codes as steps: `clamp(round(w * gain / scale), low, high)`, the division in float64 as everywhere.

    Forward arguments:
        weight: Float32, any layout.
        gain: Float64, what the norm multiplies each channel by, shaped to broadcast; or None.
        scale: Float64, shaped to broadcast.
        low, high: Bounds of the steps.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, gain: Tensor | None, scale: Tensor, low: int, high: int) -> Tensor:
        """See the class."""
        folded = weight.to(torch.float64)
        real = (folded if gain is None else folded * gain) / scale
        steps = round_half_away(real).clamp_(low, high).to(torch.float32)
        inside = (real.abs() <= high) if ctx.needs_input_grad[2] else None
        missed = (steps - real * inside).to(torch.float32) if inside is not None else None
        ctx.save_for_backward(weight, gain, scale, inside, missed)
        return steps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Straight through: `d steps / d w = gain / scale`."""
        weight, gain, scale, inside, missed = ctx.saved_tensors
        passed = grad if inside is None else grad * inside
        slope = 1 / scale if gain is None else gain / scale
        to_weight = (passed * slope.to(torch.float32)).to(weight.dtype)
        to_gain = None
        if gain is not None and ctx.needs_input_grad[1]:
            to_gain = (passed * weight).to(torch.float64).sum_to_size(gain.shape) / scale
        to_scale = None
        if missed is not None:
            to_scale = (grad * missed).to(torch.float64).sum_to_size(scale.shape) / scale
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
