"""Fake quantization in float64, written from the paper (eq. 12, section 3), for tests to differentiate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unfloat.spec.qparams import QParams

F64 = torch.float64


def half_away(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.floor(x.abs() + 0.5)


def ends(label: QParams, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """The real values of the least and greatest code, a fused clamp's codes included."""
    scale, zero = label.scale[0], label.zero_point
    steps = [label.qmin - zero, label.qmax - zero]
    bounds = [math.copysign(math.floor(abs(b / scale) + 0.5), b) if math.isfinite(b) else b for b in (low, high)]
    return scale * max(steps[0], bounds[0]), scale * min(steps[1], bounds[1])


def rounded(x: Tensor, label: QParams) -> Tensor:
    """eq. 12: clamped to the window, on the grid; the gradient is that of the clamp."""
    clamped = x.clamp(*ends(label))
    exact = half_away((x / label.scale[0]).detach()).clamp(label.qmin - label.zero_point, label.qmax - label.zero_point)
    return clamped + (exact * label.scale[0] - clamped).detach()


def quantized_weight(folded: Tensor, axis: int, scheme: str, bits: int = 8) -> Tensor:
    """Straight through: [-127, 127] of a scale for each channel, or codes 1 to 255 of one affine scale."""
    value = folded.detach()
    if scheme == "int8":
        others = tuple(d for d in range(folded.ndim) if d != axis)
        scale = value.abs().amax(dim=others, keepdim=True) / (2 ** (bits - 1) - 1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale)).to(torch.float32).to(F64)
        exact = half_away(value / scale) * scale
    else:
        low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
        step = float(torch.tensor((high - low) / 254, dtype=torch.float32))
        by_low = 1 + abs(low / step) < 255 + abs(high / step)
        zero = float(half_away(torch.tensor(1 - low / step if by_low else 255 - high / step, dtype=F64)))
        exact = half_away(value / step).clamp(1 - zero, 255 - zero) * step
    return folded + (exact - folded).detach()


def assert_near(found: Tensor | None, expected: Tensor | None, what: str, bound: float = 1e-6) -> None:
    assert found is not None, what
    assert expected is not None, what
    assert expected.abs().max() > 0, what
    error = (found.to(F64) - expected).abs().max() / expected.abs().max()
    assert error < bound, f"{what}: {error:.2e} of the greatest gradient"
