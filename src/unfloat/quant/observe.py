"""Observers: what a site's values were, in memory that does not grow with the number of batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import QParams, qparams_from_range

BINS = 4096  # on each side of zero; the range of values fills at least half of one side
SAMPLE = 1 << 16  # values of one update that the histogram looks at; least and greatest see all
_STRIDE_STEP = 2  # strides stay odd, so that a power-of-two channel count does not hide channels
_CANDIDATES = 64


class Observer(Protocol):
    """Sees every batch of one site's values, then names a range.

    Attributes:
        low, high: The range seen; nothing, or 0, before the first batch. All but moving averages hold 0 in it.
    """

    @property
    def low(self) -> float | None:
        """See above."""

    @property
    def high(self) -> float | None:
        """See above."""

    def update(self, values: torch.Tensor) -> None:
        """Look at one batch."""

    def qparams(self, dtype: str, bits: int) -> QParams:
        """The QParams this observer would choose."""


def extremes(values: torch.Tensor) -> tuple[float, float]:
    """The least and the greatest value; a NaN anywhere shows in both.

    Raises:
        NumericDomainError: A value is NaN or infinite.
    """
    low, high = (float(v) for v in torch.aminmax(values))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NumericDomainError(f"required finite activations, found values from {low} to {high}")
    return low, high


@dataclass
class MinMax:
    """The least and greatest value seen."""

    low: float = 0.0
    high: float = 0.0

    def update(self, values: torch.Tensor) -> None:
        """See `Observer`."""
        low, high = extremes(values)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def qparams(self, dtype: str, bits: int) -> QParams:
        """See `Observer`."""
        return qparams_from_range(self.low, self.high, dtype, bits)


@dataclass
class MovingAverage:
    """Exponential moving averages of each batch's least and greatest value (paper, section 3.1)."""

    momentum: float
    low: float | None = None
    high: float | None = None

    def update(self, values: torch.Tensor) -> None:
        """See `Observer`."""
        low, high = extremes(values)
        m = self.momentum
        self.low = low if self.low is None else m * self.low + (1 - m) * low
        self.high = high if self.high is None else m * self.high + (1 - m) * high

    def qparams(self, dtype: str, bits: int) -> QParams:
        """See `Observer`."""
        return qparams_from_range(self.low or 0.0, self.high or 0.0, dtype, bits)


@dataclass
class Histogram:
    """Counts over bins of width 2^exponent, aligned at zero, wide enough for all values seen.

    When a value falls outside, the width doubles and neighbours merge. `floor(floor(x / w) / 2) = floor(x / 2w)`, so
    the counts do not depend on the order of the batches. Zeros, which ReLU makes many of and every window holds
    exactly, are counted by themselves too: their bin has a width.
    """

    low: float = 0.0
    high: float = 0.0
    exponent: int | None = None
    counts: np.ndarray = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    zeros: int = 0

    def update(self, values: torch.Tensor) -> None:
        """See `Observer`."""
        low, high = extremes(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        flat = values.reshape(-1)
        stride = max(1, flat.numel() // SAMPLE) // _STRIDE_STEP * _STRIDE_STEP + 1
        sample = flat[::stride]
        self.zeros += int((sample == 0).sum())
        reach = max(-self.low, self.high)
        if reach == 0:  # no width fits yet
            self.counts[BINS] += sample.numel()
            return
        self._widen(math.frexp(reach)[1] - int(math.log2(BINS)))
        index = torch.floor(sample * 2.0 ** -float(self.exponent or 0)).to(torch.int64) + BINS
        counts = torch.bincount(index.clamp_(0, 2 * BINS - 1), minlength=2 * BINS)
        self.counts += counts.cpu().numpy()

    def _widen(self, exponent: int) -> None:
        """Merge bins until their width is at least 2^exponent."""
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 2, np.int64), merged, np.zeros(BINS // 2, np.int64)])
            self.exponent += 1

    def centres(self) -> np.ndarray:
        """The middle of each bin, but never outside the least and greatest value."""
        middle = (np.arange(-BINS, BINS) + 0.5) * 2.0 ** float(self.exponent or 0)
        return np.clip(middle, self.low, self.high)

    def inexact(self) -> np.ndarray:
        """The counts without zeros."""
        counts = self.counts.astype(np.float64)
        counts[BINS] -= self.zeros
        return counts

    def squared_error(self, qparams: QParams) -> float:
        """The sum of squared errors of quantizing these values so: clipping and rounding."""
        return _error(self.centres(), self.inexact(), qparams, 2.0)

    def qparams(self, dtype: str, bits: int) -> QParams:
        """See `Observer`."""
        return qparams_from_range(self.low, self.high, dtype, bits)


@dataclass
class Percentile(Histogram):
    """The window that leaves the same small share of values out on both sides."""

    percentile: float = 99.99

    def qparams(self, dtype: str, bits: int) -> QParams:
        """See `Observer`."""
        cumulative = np.cumsum(self.counts)
        outside = (100.0 - self.percentile) / 100.0 * cumulative[-1]
        centres = self.centres()
        low = float(centres[np.searchsorted(cumulative, outside, side="right").clip(0, 2 * BINS - 1)])
        high = float(centres[np.searchsorted(cumulative, cumulative[-1] - outside).clip(0, 2 * BINS - 1)])
        if self.percentile == 100.0 or low > high:
            low, high = self.low, self.high
        return qparams_from_range(low, high, dtype, bits)


@dataclass
class LeastError(Histogram):
    """The window whose rounding and clipping together err least, over shrunken copies of the least-greatest window.

    Attributes:
        norm: The error is the sum of |x - quantized x|^norm; 2 is the squared error.
    """

    norm: float = 2.0

    def qparams(self, dtype: str, bits: int) -> QParams:
        """See `Observer`."""
        counts = self.inexact()
        used = np.flatnonzero(counts)
        centres, weights = self.centres()[used], counts[used]
        best, least = qparams_from_range(self.low, self.high, dtype, bits), math.inf
        for step in range(_CANDIDATES):
            share = 1.0 - step / _CANDIDATES * 0.9
            candidate = qparams_from_range(self.low * share, self.high * share, dtype, bits)
            error = _error(centres, weights, candidate, self.norm)
            if error < least:
                best, least = candidate, error
        return best


def _error(centres: np.ndarray, weights: np.ndarray, qparams: QParams, norm: float) -> float:
    """The weighted error of quantizing: outside the window the distance; inside, rounding as uniform noise.

    Noise uniform over a step S has a mean |e|^p of (S / 2)^p / (p + 1).
    """
    scale, zero_point = qparams.scale[0], qparams.zero_point
    low, high = (qparams.qmin - zero_point) * scale, (qparams.qmax - zero_point) * scale
    outside = np.maximum(centres - high, 0) + np.maximum(low - centres, 0)
    inside = weights[outside == 0].sum()
    return float((weights * outside**norm).sum() + inside * (scale / 2) ** norm / (norm + 1))


def make_observer(recipe: Recipe, layer: str) -> Observer:
    """The observer that the recipe wishes for one layer."""
    rule = recipe.wish(layer, "ranges")
    if rule == "percentile":
        return Percentile(percentile=recipe.percentile)
    if rule == "moving_average":
        return MovingAverage(recipe.momentum)
    if rule == "minmax":
        return MinMax()
    return LeastError(norm=2.0 if rule == "mse" else recipe.norm)
