"""What the array API standard lacks, behind one small interface with a NumPy and a PyTorch maker.

The operators' meanings are written once, against the array API standard plus these hooks; tests hold the two makers
equal: `spec/numpy_backend.py` and `quant/backend.py` (only that room may import torch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from unfloat.spec.fixedpoint import Addition, CodeRange, Factors

Array = Any
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, left, bottom, right


class Backend(Protocol):
    """Array library and hooks. Activations are NHWC, convolution weights [Cout, kh, kw, Cin / groups]."""

    @property
    def xp(self) -> Any:
        """The array library's namespace."""

    def constant(self, array: np.ndarray) -> Array:
        """An integer constant as int64 of this library (and device)."""

    def convolve(self, x: Array, weight: Array, stride: Pair, dilation: Pair, padding: Padding, groups: int) -> Array:
        """Float convolution; padding adds zeros."""

    def matmul(self, x: Array, weight: Array) -> Array:
        """Float `x[..., K] @ weight[N, K]^T`."""

    def accumulate_convolution(
        self,
        x: Array,
        weight: Array,
        stride: Pair,
        dilation: Pair,
        padding: Padding,
        groups: int,
        *,
        wide: bool = False,
    ) -> Array:
        """Exact convolution of integers (zero points already subtracted); padding adds zeros.

        x: Of 9 bits, or, where `wide`, of 16.
        """

    def accumulate_matmul(self, x: Array, weight: Array, *, wide: bool = False) -> Array:
        """Exact `x[..., K] @ weight[N, K]^T` of integers; `wide` as above."""

    def pad(self, x: Array, paddings: tuple[Pair, ...], value: float) -> Array:
        """Constant padding, (before, after) for each axis."""

    def exp(self, x: Array) -> Array:
        """The float exponential, for float meanings only."""

    def erf(self, x: Array) -> Array:
        """The float error function, for float meanings only."""

    def dropout(self, x: Array, rate: float, channels: bool) -> Array:
        """Zero values at random, or whole channels (the last axis), and scale the others up; for training only."""

    def still_row(self, x: Array, row: int) -> Array:
        """The same values; row `row` along axis 1 has no gradient. For training only."""

    def requantize(self, accumulator: Array, multiplier: Array, shift: Array, rounding: str) -> Array:
        """`spec.fixedpoint.requantize`, by whatever faster path gives the same integers."""

    def finish(self, accumulator: Array, factors: Factors, codes: CodeRange, rounding: str) -> Array:
        """`spec.fixedpoint.finish`, by whatever faster path gives the same integers."""

    def add(self, inputs: Sequence[Array], by: Addition, rounding: str) -> Array:
        """`spec.fixedpoint.add`, by whatever faster path gives the same integers."""
