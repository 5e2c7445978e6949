"""The hooks of `spec.backend` in NumPy: what the interpreter and tests compute with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfloat.spec.activation import NORMAL_REACH, normal
from unfloat.spec.backend import Array, Padding, Pair
from unfloat.spec.fixedpoint import Addition, CodeRange, Factors, add, finish, requantize


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
