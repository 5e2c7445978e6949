"""The wide loops of a training step. On a CPU one native pass each (csrc/engine/training.c); elsewhere PyTorch.

Both give the same steps and masks; tests hold them equal. Activations are float32, channels last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unfloat import _native
from unfloat.spec.fixedpoint import finish, round_half_away

NATIVE = True  # False runs the PyTorch twins everywhere: for tests, and to bisect a difference


@dataclass(frozen=True)
class Integers:
    """How the Program finishes an accumulator: int32 bias, int32 multiplier and int8 shift of each channel.

    Attributes:
        bias, multiplier, shift: [channels], NumPy.
        rounding: "double" or "single".
    """

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    rounding: str


@dataclass(frozen=True)
class Bounds:
    """The least and greatest step, the fused clamp's included."""

    low: int
    high: int


def _served(x: Tensor) -> bool:
    return NATIVE and x.device.type == "cpu" and x.dtype == torch.float32


def _rows(x: Tensor) -> Any:
    return x.detach().contiguous().view(-1, x.shape[-1]).numpy()


def finish_steps(
    accumulator: Tensor, factor: Tensor, offset: Tensor, integers: Integers | None, bounds: Bounds
) -> tuple[Tensor, Tensor, Tensor]:
    """`clamp(round(accumulator * factor + offset))`, by the Program's integers where they are given.

    Args:
        accumulator: [..., channels], float32 or float64.
        factor: [channels], float32.
        offset: [channels], float32.
        integers: Or None to round in float.
        bounds: Of the steps.

    Returns:
        (steps float32, whether the real number lies within the bounds, [2] its least and greatest value).
    """
    if not _served(accumulator):
        value = real_steps(accumulator, factor, offset)
        inside = (value >= bounds.low).logical_and_(value <= bounds.high)
        exact = round_half_away(value) if integers is None else _requantized(accumulator, integers)
        return exact.clamp_(bounds.low, bounds.high), inside, torch.stack(torch.aminmax(value))
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
        "double" if given is None else given.rounding,
        bounds.low,
        bounds.high,
        _rows(steps),
        _rows(inside.view(torch.uint8)),
        torch.get_num_threads(),
    )
    return steps, inside, torch.tensor(ends)


def real_steps(accumulator: Tensor, factor: Tensor, offset: Tensor | None) -> Tensor:
    """`accumulator * factor + offset`, float32."""
    value = (accumulator * factor).to(torch.float32)
    return value if offset is None else value.add_(offset)


def _requantized(accumulator: Tensor, integers: Integers) -> Tensor:
    device = accumulator.device
    arrays = (integers.bias, integers.multiplier, integers.shift)
    constants = tuple(torch.from_numpy(a).to(device, torch.int64) for a in arrays)
    codes = (0, -(2**31), 2**31 - 1)
    return finish(accumulator.to(torch.int64), constants, codes, integers.rounding).to(torch.float32)


def finish_backward(
    grad: Tensor, inside: Tensor, factor: Tensor, accumulator: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Straight through, zero where clamped.

    Args:
        grad: Of the steps.
        inside: From `finish_steps`.
        factor: [channels].
        accumulator: Where the factor needs a gradient too.
        dtype: The accumulator's.

    Returns:
        Gradients of accumulator, offset and factor.
    """
    if not _served(grad) or dtype != torch.float32:
        passed = grad * inside
        to_factor = None if accumulator is None else channel_sums(passed * accumulator)
        return (passed * factor).to(dtype), channel_sums(passed), to_factor
    grad = grad.contiguous()
    result = torch.empty(grad.shape)
    sums = np.empty((2, grad.shape[-1]))
    _native.finish_backward(
        _rows(grad),
        _rows(inside.view(torch.uint8)),
        factor.contiguous().numpy(),
        None if accumulator is None else _rows(accumulator),
        _rows(result),
        sums[0],
        sums[1],
        torch.get_num_threads(),
    )
    to_offset, to_factor = torch.from_numpy(sums).to(torch.float32)
    return result, to_offset, None if accumulator is None else to_factor


def channel_sums(values: Tensor) -> Tensor:
    """Sums over all but the last axis; a product with ones is far faster than a reduction."""
    rows = values.reshape(-1, values.shape[-1])
    ones = torch.ones(1, rows.shape[0], dtype=rows.dtype, device=rows.device)
    return (ones @ rows)[0]


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


def add_affine(grad: Tensor, x: Tensor, constant: Tensor, slope: Tensor) -> Tensor:
    """`grad + constant + slope * x`, in place where `grad` is this pass's own; constant and slope float64."""
    constant, slope = constant.to(torch.float32), slope.to(torch.float32)
    if not _served(grad) or not _served(x) or not grad.is_contiguous():
        return grad + (constant + slope * x)
    _native.add_affine(_rows(x), constant.numpy(), slope.numpy(), _rows(grad), torch.get_num_threads())
    return grad


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
    rows = _channel_rows(weight, axis)
    if not _served(weight) or rows is None:
        wide = weight.to(torch.float64)
        real = (wide if gain is None else wide * _along(gain, axis, wide.ndim)) / _along(scale, axis, wide.ndim)
        return round_half_away(real).clamp_(bounds.low, bounds.high).to(torch.float32), None
    steps = torch.empty_like(weight)  # dense, so the strides stay and so do its rows
    out = _channel_rows(steps, axis)
    assert out is not None
    sums = torch.empty(2, rows.shape[0])
    numbers = None if gain is None else gain.contiguous().numpy()
    threads = torch.get_num_threads()
    _native.weight_steps(
        rows.numpy(), numbers, scale.contiguous().numpy(), bounds.low, bounds.high, out.numpy(), sums.numpy(), threads
    )
    return steps, sums


def reach(weight: Tensor, axis: int) -> Tensor:
    """The greatest magnitude of each channel, float64."""
    rows = _channel_rows(weight, axis)
    if not _served(weight) or rows is None:
        others = tuple(d for d in range(weight.ndim) if d != axis)
        return weight.detach().abs().amax(dim=others).to(torch.float64)
    found = torch.empty(rows.shape[0])
    _native.reach(rows.numpy(), found.numpy(), torch.get_num_threads())
    return found.to(torch.float64)


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    return values.reshape([-1 if d == axis else 1 for d in range(rank)])


def _channel_rows(weight: Tensor, axis: int) -> Tensor | None:
    """The same memory as [channels, rest], in whatever order the rest lies; None where a channel is not one stretch."""
    others = [d for d in range(weight.ndim) if d != axis]
    ordered = weight.detach().permute(axis, *sorted(others, key=lambda d: -weight.stride(d)))
    return ordered.view(weight.shape[axis], -1) if ordered.is_contiguous() else None
