"""The wide loops of a training step. On a CPU one native pass each (csrc/engine/training.c); elsewhere PyTorch.

Both give the same steps and masks; tests hold them equal. Activations are float32, channels last.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unfloat import _native
from unfloat.spec.fixedpoint import WIDE_ADD_LEFT_SHIFT, WIDE_ROUNDING, Addition, add, finish, round_half_away

NATIVE = True  # False runs the PyTorch twins everywhere: for tests, and to bisect a difference


@dataclass(frozen=True)
class Integers:
    """How the Program finishes an accumulator: int32 bias, int32 multiplier and int8 shift of each channel; int64 bias on int16 codes.

    Attributes:
        bias, multiplier, shift: [channels], NumPy.
        rounding: "double" or "single"; "acc64" on int16 codes, which PyTorch does.
    """

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    rounding: str


@dataclass(frozen=True)
class Bounds:
    """The least and greatest step, the fused clamp's included; of real numbers where nothing is rounded."""

    low: float
    high: float


def native_on(device: torch.device) -> bool:
    """Whether the native loops serve tensors of a device."""
    return NATIVE and device.type == "cpu"


def _served(x: Tensor) -> bool:
    return native_on(x.device) and x.dtype == torch.float32


def _rows(x: Tensor) -> Any:
    return x.detach().contiguous().view(-1, x.shape[-1]).numpy()


def _rows_or_none(x: Tensor | None) -> Any:
    return None if x is None else _rows(x)


def finish_steps(
    accumulator: Tensor,
    factor: Tensor,
    offset: Tensor,
    bounds: Bounds,
    integers: Integers | None = None,
    rounds: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """`clamp(round(accumulator * factor + offset))`, by the Program's integers where they are given.

    Args:
        accumulator: [..., channels], float32 or float64.
        factor: [channels], float32.
        offset: [channels], float32.
        bounds: Of the steps.
        integers: Or None to round in float.
        rounds: False for real numbers, clamped only.

    Returns:
        (steps float32, whether the real number lies within the bounds, [2] its least and greatest value).
    """
    wide = integers is not None and integers.rounding == WIDE_ROUNDING
    if wide or not _served(accumulator):
        value = real_steps(accumulator, factor, offset)
        inside = (value >= bounds.low).logical_and_(value <= bounds.high)
        ends = torch.stack(torch.aminmax(value))
        if integers is not None:
            value = _requantized(accumulator, integers)
        elif rounds:
            value = round_half_away(value)
        return value.clamp_(bounds.low, bounds.high), inside, ends
    steps = torch.empty(accumulator.shape)
    inside = torch.empty(accumulator.shape, dtype=torch.bool)
    given = integers
    ends = _native.finish_steps(
        _rows(accumulator),
        factor.contiguous().numpy(),
        offset.contiguous().numpy(),
        None if given is None else given.bias,
        None if given is None else given.multiplier,
        None if given is None else given.shift,
        ("float" if rounds else "real") if given is None else given.rounding,
        bounds.low,
        bounds.high,
        _rows(steps),
        _rows(inside.view(torch.uint8)),
        torch.get_num_threads(),
    )
    return steps, inside, torch.tensor(ends)


def within(real: Tensor, bounds: Bounds) -> Tensor:
    """Whether real numbers lie within bounds."""
    if not _served(real) or not real.ndim:
        return (real >= bounds.low).logical_and_(real <= bounds.high)
    one = torch.ones(real.shape[-1])
    return finish_steps(real, one, torch.zeros_like(one), bounds, rounds=False)[1]


def real_steps(accumulator: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """`accumulator * factor + offset`, float32."""
    return (accumulator * factor).to(torch.float32).add_(offset)


def _requantized(accumulator: Tensor, integers: Integers) -> Tensor:
    device = accumulator.device
    arrays = (integers.bias, integers.multiplier, integers.shift)
    constants = tuple(torch.from_numpy(a).to(device, torch.int64) for a in arrays)
    codes = (0, -(2**31), 2**31 - 1)
    return finish(accumulator.to(torch.int64), constants, codes, integers.rounding).to(torch.float32)


def add_steps(
    a: Tensor, b: Tensor, by: Addition, factors: tuple[float, float], rounding: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of two operands as the Program's integers give it.

    Args:
        a: Steps, float32.
        b: Steps, of the same shape.
        by: Between steps: its zero points are 0, its least and greatest code are bounds of steps.
        factors: The real value of each operand's step, over that of the sum's.
        rounding: "double" or "single".

    Returns:
        (steps float32, whether the real number lies within the bounds, [2] the real-valued step's least and greatest
        value).
    """
    _, low, high = by.codes
    wide = by.left_shift == WIDE_ADD_LEFT_SHIFT  # int16 codes, for which the native loop has no room
    if wide or not _served(a) or not _served(b):
        real = (a.to(torch.float64) * factors[0] + b.to(torch.float64) * factors[1]).to(torch.float32)
        inside = (real >= low).logical_and_(real <= high)
        steps = add([x.to(torch.int64) for x in (a, b)], by, rounding)
        return steps.to(torch.float32), inside, torch.stack(torch.aminmax(real))
    steps, inside = torch.empty(a.shape), torch.empty(a.shape, dtype=torch.bool)
    rows = _rows(a), _rows(b)
    out = _rows(steps), _rows(inside.view(torch.uint8))
    ends = _native.add_steps(*rows, astuple(by), factors, rounding, *out, torch.get_num_threads())
    return steps, inside, torch.tensor(ends)


def gradient_sums(
    grad: Tensor,
    inside: Tensor,
    factor: Tensor,
    accumulator: Tensor | None = None,
    steps: Tensor | None = None,
    passing: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What a gradient of steps amounts to in each channel, straight through, zero where clamped.

    Args:
        grad: Of the steps.
        inside: From `finish_steps`.
        factor: [channels].
        accumulator: Or None: its sums are not wanted.
        steps: Or None: their sums are not wanted.
        passing: The dtype in which `grad * inside * factor`, the accumulator's own gradient, is wanted; or None.

    Returns:
        ([3, channels] float64: sums of `grad * inside`, of that times the accumulator, of `grad * steps`; that
        gradient or None).
    """
    if not _served(grad) or passing == torch.float64 or (accumulator is not None and not _served(accumulator)):
        passed = grad * inside
        zeros = torch.zeros(grad.shape[-1], dtype=torch.float64, device=grad.device)
        products = zeros if accumulator is None else channel_sums(passed * accumulator)
        sums = torch.stack([channel_sums(passed), products, zeros if steps is None else channel_sums(grad * steps)])
        return sums, None if passing is None else (passed * factor).to(passing)
    sums = np.empty((3, grad.shape[-1]))
    out = None if passing is None else torch.empty(grad.shape)
    _native.gradient_sums(
        _rows(grad),
        _rows(inside.view(torch.uint8)),
        _rows_or_none(accumulator),
        _rows_or_none(steps),
        factor.contiguous().numpy(),
        _rows_or_none(out),
        sums,
        torch.get_num_threads(),
    )
    return torch.from_numpy(sums), out


def gradient_through_norm(
    grad: Tensor, inside: Tensor, accumulator: Tensor, factor: Tensor, constant: Tensor, slope: Tensor
) -> Tensor:
    """`grad * inside * factor + constant + slope * accumulator`; the last three [channels], of the accumulator's dtype."""
    constant, slope = constant.to(torch.float32), slope.to(torch.float32)
    if not _served(grad) or not _served(accumulator):
        return ((grad * inside) * factor + (constant + slope * accumulator)).to(accumulator.dtype)
    out = torch.empty(grad.shape)
    _native.gradient_through_norm(
        _rows(grad),
        _rows(inside.view(torch.uint8)),
        _rows(accumulator),
        factor.contiguous().numpy(),
        constant.numpy(),
        slope.numpy(),
        _rows(out),
        torch.get_num_threads(),
    )
    return out


def channel_sums(values: Tensor) -> Tensor:
    """Sums over all but the last axis, float64."""
    return values.reshape(-1, values.shape[-1]).sum(dim=0, dtype=torch.float64)


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, float64."""
    count = x.numel() // x.shape[-1]
    if not _served(x):
        wide = x.detach().reshape(-1, x.shape[-1]).to(torch.float64)
        variance, mean = torch.var_mean(wide, dim=0, correction=0)
        return mean, variance
    sums = np.empty((2, x.shape[-1]))
    _native.sums(_rows(x), sums, torch.get_num_threads())
    mean, square = torch.from_numpy(sums) / count
    return mean, (square - mean**2).clamp_(min=0.0)


def weight_steps(
    weight: Tensor, gain: Tensor | None, scale: Tensor, axis: int, bounds: Bounds
) -> tuple[Tensor, Tensor | None]:
    """`clamp(round(w * gain / scale))`, computed in float64.

    Args:
        weight: Float32, channels along `axis`.
        gain: [channels], float64, or None.
        scale: [channels] or [1], float64.
        axis: Of the channels.
        bounds: Of the steps.

    Returns:
        (steps float32, [2, channels] sums of their magnitudes and of themselves, or None where nobody computed them).
    """
    order = _channel_order(weight, axis)
    if not _served(weight) or order is None:
        wide = weight.to(torch.float64)
        real = (wide if gain is None else wide * _along(gain, axis, wide.ndim)) / _along(scale, axis, wide.ndim)
        return round_half_away(real).clamp_(bounds.low, bounds.high).to(torch.float32), None
    steps = torch.empty_like(weight)  # dense, so the strides stay and so do its rows
    sums = torch.empty(2, weight.shape[axis])
    numbers = None if gain is None else gain.contiguous().numpy()
    _native.weight_steps(
        _channel_rows(weight, order),
        numbers,
        scale.contiguous().numpy(),
        int(bounds.low),
        int(bounds.high),
        _channel_rows(steps, order),
        sums.numpy(),
        torch.get_num_threads(),
    )
    return steps, sums


def weight_backward(
    grad: Tensor, weight: Tensor, slope: Tensor, axis: int, steps: Tensor | None, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward through `weight_steps`, straight through.

    Args:
        grad: Of the steps.
        weight: Float32, channels along `axis`.
        slope: [channels] or [1], float32: steps are `weight * slope`, rounded.
        axis: Of the channels.
        steps: Where the scale is learned: nothing passes outside of the limit.
        limit: The greatest step.

    Returns:
        (the weight's gradient, [channels] float64 sums of what passes times the weight, [channels] float64 sums of
        `grad * (steps - weight * slope)`, the second part zero outside, or zeros without `steps`).
    """
    order = _channel_order(weight, axis)
    if not _served(weight) or not _served(grad) or order is None:
        factor = _along(slope, axis, weight.ndim)
        passed, missed = grad, torch.zeros(weight.shape[axis], dtype=torch.float64, device=weight.device)
        if steps is not None:
            real = weight * factor
            inside = real.abs() <= limit
            passed = grad * inside
            missed = _channel_totals(grad * (steps - real * inside), axis)
        return passed * factor, _channel_totals(passed * weight, axis), missed
    out = torch.empty_like(weight)
    sums = np.zeros((2, weight.shape[axis]))
    taps, grad_order = _taps(grad, axis, order)
    _native.weight_backward(
        _channel_rows(grad, grad_order),
        taps,
        _channel_rows(weight, order),
        slope.contiguous().numpy(),
        None if steps is None else _channel_rows(steps, order),
        limit,
        _channel_rows(out, order),
        sums[0],
        sums[1],
        torch.get_num_threads(),
    )
    to_gain, missed = torch.from_numpy(sums)
    return out, to_gain, missed


def reach(weight: Tensor, axis: int) -> Tensor:
    """The greatest magnitude of each channel, float64."""
    order = _channel_order(weight, axis)
    if not _served(weight) or order is None:
        others = tuple(d for d in range(weight.ndim) if d != axis)
        return weight.detach().abs().amax(dim=others).to(torch.float64)
    found = torch.empty(weight.shape[axis])
    _native.reach(_channel_rows(weight, order), found.numpy(), torch.get_num_threads())
    return found.to(torch.float64)


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    return values.reshape([-1 if d == axis else 1 for d in range(rank)])


def _channel_totals(values: Tensor, axis: int) -> Tensor:
    others = tuple(d for d in range(values.ndim) if d != axis)
    return values.sum(dim=others, dtype=torch.float64)


def _channel_order(weight: Tensor, axis: int) -> list[int] | None:
    """The axes, channels first, the rest in whatever order it lies; None where a channel is not one stretch of memory."""
    others = sorted((d for d in range(weight.ndim) if d != axis), key=lambda d: -weight.stride(d))
    order = [axis, *others]
    return order if weight.permute(order).is_contiguous() else None


def _taps(grad: Tensor, axis: int, order: list[int]) -> tuple[int, list[int]]:
    """How a gradient lies: with the input channels last behind so many taps where the weight has them first, else (1, order)."""
    own = _channel_order(grad, axis)
    if own is None or own != [axis, *order[2:], order[1]]:
        return 1, order
    return math.prod(grad.shape[d] for d in order[2:]), own


def _channel_rows(weight: Tensor, order: list[int]) -> Any:
    """As [channels, rest]; the same memory where it lies in this order."""
    ordered = weight.detach().permute(order).contiguous()
    return ordered.view(ordered.shape[0], -1).numpy()
