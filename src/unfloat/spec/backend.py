"""What the array API standard lacks, behind one small interface with a NumPy and a PyTorch maker.

The operators' meanings are written once, against the array API standard plus these hooks; tests hold the two makers
equal. `NumpyBackend` is here, the PyTorch one in `quant/backend.py` (only that room may import torch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from unfloat.spec.activation import NORMAL_REACH, normal
from unfloat.spec.fixedpoint import Addition, CodeRange, Factors, add, finish, requantize

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


class NumpyBackend:
    """The plain one: taps in a loop, one matrix product each."""

    xp = np  # NumPy 2 follows the standard by itself

    def constant(self, array: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return np.asarray(array, np.int64)

    def convolve(self, x: Array, weight: Array, stride: Pair, dilation: Pair, padding: Padding, groups: int) -> Array:
        """See `Backend`."""
        top, left, bottom, right = padding
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        out_channels, kernel_h, kernel_w, depth = weight.shape
        rows, columns = (
            (size - (taps - 1) * d - 1) // s + 1
            for size, taps, d, s in zip(x.shape[1:3], (kernel_h, kernel_w), dilation, stride, strict=True)
        )
        out = np.zeros((x.shape[0], rows, columns, groups, out_channels // groups), x.dtype)
        kernel = weight.reshape(groups, out_channels // groups, kernel_h, kernel_w, depth)
        for i in range(kernel_h):
            for j in range(kernel_w):
                top_row, left_column = i * dilation[0], j * dilation[1]
                tap = x[
                    :,
                    top_row : top_row + rows * stride[0] : stride[0],
                    left_column : left_column + columns * stride[1] : stride[1],
                ]
                tap = tap[:, :rows, :columns].reshape(*tap.shape[:1], rows, columns, groups, 1, depth)
                if depth == 1:  # depthwise: an elementwise product beats a matrix product with one column
                    out += tap[..., 0] * kernel[:, :, i, j, 0]
                else:
                    out += (tap @ kernel[:, :, i, j].transpose(0, 2, 1))[..., 0, :]
        return out.reshape(x.shape[0], rows, columns, out_channels)

    def matmul(self, x: Array, weight: Array) -> Array:
        """See `Backend`."""
        return x @ weight.T

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
        """See `Backend`; float64 sums of such products stay far below 2^53, so they are exact."""
        out = self.convolve(x.astype(np.float64), weight.astype(np.float64), stride, dilation, padding, groups)
        return out.astype(np.int64)

    def accumulate_matmul(self, x: Array, weight: Array, *, wide: bool = False) -> Array:
        """See `Backend`; exact for the reason above."""
        return self.matmul(x.astype(np.float64), weight.astype(np.float64)).astype(np.int64)

    def pad(self, x: Array, paddings: tuple[Pair, ...], value: float) -> Array:
        """See `Backend`."""
        return np.pad(x, paddings, constant_values=value)

    def exp(self, x: Array) -> Array:
        """See `Backend`."""
        return np.exp(x)

    def erf(self, x: Array) -> Array:
        """See `Backend`."""
        return 2 * normal(np.clip(x * 2**0.5, -NORMAL_REACH, NORMAL_REACH)) - 1

    def dropout(self, x: Array, rate: float, channels: bool) -> Array:
        """See `Backend`. Nothing trains in NumPy."""
        raise NotImplementedError("dropout acts in training only, and training runs in PyTorch")

    def still_row(self, x: Array, row: int) -> Array:
        """See `Backend`. Nothing trains in NumPy."""
        raise NotImplementedError("gradients are PyTorch's")

    def requantize(self, accumulator: Array, multiplier: Array, shift: Array, rounding: str) -> Array:
        """See `Backend`."""
        return requantize(accumulator, multiplier, shift, rounding)

    def finish(self, accumulator: Array, factors: Factors, codes: CodeRange, rounding: str) -> Array:
        """See `Backend`."""
        return finish(accumulator, factors, codes, rounding)

    def add(self, inputs: Sequence[Array], by: Addition, rounding: str) -> Array:
        """See `Backend`."""
        return add(inputs, by, rounding)
