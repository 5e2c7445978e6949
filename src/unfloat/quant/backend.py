"""The PyTorch maker of the back-end hooks: exact integers through float convolutions, on any device.

A float32 convolution of integers is exact while every partial sum stays below 2^24. `sum |w| * max |x - Z|` bounds it
per output channel; past the bound the input channels are split and the parts added as integers (docs/numerics.md,
section 5). Integers live in int32 tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple

import array_api_compat.torch as torch_namespace
import numpy as np
import torch
import torch.nn.functional as functional

from unfloat import _native
from unfloat.quant.loops import native_on
from unfloat.spec.backend import Padding, Pair
from unfloat.spec.fixedpoint import WIDE_ROUNDING, Addition, CodeRange, Factors, add, finish, requantize

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FLOAT32_EXACT = 2**24
CODE_SPAN = 255  # the largest |q - Z| of an 8-bit code


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Sums of plain float32 products inside: no autocast, TF32 or bfloat16, no Winograd or FFT (cuDNN's)."""
    precision = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if precision != "highest":
            stack.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=False))
        yield


class TorchBackend:
    """See `spec.backend.Backend`. Image tensors are NHWC; PyTorch sees them as channels-last NCHW, without a copy."""

    xp = torch_namespace

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Constants go to `device`."""
        self.device = torch.device(device)

    def constant(self, array: np.ndarray) -> torch.Tensor:
        """See `Backend`; int32, or int64 where the array is."""
        dtype = np.int64 if array.dtype == np.int64 else np.int32
        return torch.from_numpy(np.ascontiguousarray(array, dtype)).to(self.device)

    def convolve(
        self, x: torch.Tensor, weight: torch.Tensor, stride: Pair, dilation: Pair, padding: Padding, groups: int
    ) -> torch.Tensor:
        """See `Backend`."""
        top, left, bottom, right = padding
        image, kernel = x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2)
        if x.shape[3] == 1:  # oneDNN 3.12 errs where one channel is said to be channels-last and the output is narrow
            image, kernel = x.reshape(image.shape), weight.reshape(kernel.shape)
        if (top, left) == (bottom, right):
            symmetric = (top, left)
        else:
            image, symmetric = functional.pad(image, (left, right, top, bottom)), (0, 0)
        out = functional.conv2d(image, kernel, None, stride, symmetric, dilation, groups)
        return out.permute(0, 2, 3, 1)

    def matmul(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return functional.linear(x, weight)

    def accumulate_convolution(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: Pair,
        dilation: Pair,
        padding: Padding,
        groups: int,
        *,
        wide: bool = False,
    ) -> torch.Tensor:
        """See `Backend`; `wide` sums in float64 and in int64."""

        def product(x_part: torch.Tensor, weight_part: torch.Tensor) -> torch.Tensor:
            return self.convolve(x_part, weight_part, stride, dilation, padding, groups)

        return _accumulate_wide(product, x, weight) if wide else _accumulate(product, x, weight, splittable=groups == 1)

    def accumulate_matmul(self, x: torch.Tensor, weight: torch.Tensor, *, wide: bool = False) -> torch.Tensor:
        """See `Backend`."""
        return (
            _accumulate_wide(self.matmul, x, weight) if wide else _accumulate(self.matmul, x, weight, splittable=True)
        )

    def pad(self, x: torch.Tensor, paddings: tuple[Pair, ...], value: float) -> torch.Tensor:
        """See `Backend`."""
        flat = [amount for pair in reversed(paddings) for amount in pair]
        return functional.pad(x, flat, value=value)

    def exp(self, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return torch.exp(x)

    def erf(self, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return torch.erf(x)

    def dropout(self, x: torch.Tensor, rate: float, channels: bool) -> torch.Tensor:
        """See `Backend`."""
        if not channels:
            return functional.dropout(x, rate)
        kept = functional.dropout(x.new_ones((x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])), rate)
        return x * kept

    def still_row(self, x: torch.Tensor, row: int) -> torch.Tensor:
        """See `Backend`."""
        still = torch.arange(x.shape[1], device=x.device).reshape(-1, *(1,) * (x.ndim - 2)) == row
        return torch.where(still, x.detach(), x)

    def requantize(
        self, accumulator: torch.Tensor, multiplier: torch.Tensor, shift: torch.Tensor, rounding: str
    ) -> torch.Tensor:
        """See `Backend`: int64 arithmetic on any device; on a CPU the native kernel, through views that share memory."""
        if rounding == WIDE_ROUNDING or not native_on(accumulator.device):
            acc, m, s = (t.to(torch.int64) for t in (accumulator, multiplier, shift))
            return requantize(acc, m, s, rounding).to(torch.int32)
        out = accumulator.to(torch.int32, copy=True, memory_format=torch.contiguous_format)
        rows = out.view(-1, accumulator.shape[-1]).numpy()
        _native.requantize(rows, multiplier.to(torch.int32).numpy(), shift.to(torch.int8).numpy(), rounding)
        return out

    def finish(self, accumulator: torch.Tensor, factors: Factors, codes: CodeRange, rounding: str) -> torch.Tensor:
        """See `Backend`; on a CPU the native kernel, int16 codes."""
        bias, multiplier, shift = factors
        if rounding == WIDE_ROUNDING or not native_on(accumulator.device):
            wide = (bias.to(torch.int64), multiplier.to(torch.int64), shift.to(torch.int64))
            return finish(accumulator.to(torch.int64), wide, codes, rounding).to(torch.int32)
        rows = accumulator.to(torch.int32).contiguous().view(-1, accumulator.shape[-1])
        out = torch.empty(rows.shape, dtype=torch.int16)
        per_channel = (bias.to(torch.int32).numpy(), multiplier.to(torch.int32).numpy(), shift.to(torch.int8).numpy())
        _native.finish(rows.numpy(), *per_channel, codes, rounding, out.numpy())
        return out.view(accumulator.shape)

    def add(self, inputs: Sequence[torch.Tensor], by: Addition, rounding: str) -> torch.Tensor:
        """See `Backend`; on a CPU the native kernel where there is nothing to broadcast."""
        if not native_on(self.device) or inputs[0].shape != inputs[1].shape:
            return add([x.to(torch.int64) for x in inputs], by, rounding).to(torch.int32)
        a, b = (x.to(torch.int32).contiguous() for x in inputs)
        out = torch.empty(a.shape, dtype=torch.int32)
        rows = (t.view(-1, t.shape[-1]).numpy() for t in (a, b, out))
        _native.add_codes(
            next(rows),
            next(rows),
            astuple(by),
            rounding,
            next(rows),
            torch.get_num_threads(),
        )
        return out


class TrainingBackend(TorchBackend):
    """Exact products that autograd follows: parts of the input channels are added in float64, not as integers.

    Parts of products with int16 codes would still be too many: they run in float64 whole.

    Attributes:
        span: The least and greatest `q - Z` of the operand.
        sums: [2, channels], the sums of each channel's weight steps, magnitudes first, where they are known.
    """

    def __init__(self, device: torch.device | str, span: tuple[int, int], sums: torch.Tensor | None = None) -> None:
        """Operands lie within `span`."""
        super().__init__(device)
        self.span, self.sums = span, sums

    def accumulate_convolution(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: Pair,
        dilation: Pair,
        padding: Padding,
        groups: int,
        *,
        wide: bool = False,
    ) -> torch.Tensor:
        """See `Backend`; float32 or float64, which holds sums of any width."""

        def product(x_part: torch.Tensor, weight_part: torch.Tensor) -> torch.Tensor:
            return self.convolve(x_part, weight_part, stride, dilation, padding, groups)

        def windows(energy: torch.Tensor) -> torch.Tensor:
            ones = energy.new_ones((1, *weight.shape[1:3], 1))
            return self.convolve(energy, ones, stride, dilation, padding, 1)

        return self._sum_of_parts(product, windows, x, weight, splittable=groups == 1)

    def accumulate_matmul(self, x: torch.Tensor, weight: torch.Tensor, *, wide: bool = False) -> torch.Tensor:
        """See `Backend`; float32 or float64."""
        return self._sum_of_parts(self.matmul, lambda energy: energy, x, weight, splittable=True)

    def _sum_of_parts(
        self,
        product: Product,
        windows: Callable[[torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        weight: torch.Tensor,
        *,
        splittable: bool,
    ) -> torch.Tensor:
        with exact_float32(x.device):
            if self._bound(weight.detach()) < FLOAT32_EXACT or _energy_bound(windows, x, weight) < FLOAT32_EXACT:
                return product(x, weight)
            depth = weight.shape[-1]
            if not splittable or depth == 1 or self.span[1] - self.span[0] > CODE_SPAN:
                return product(x.to(torch.float64), weight.to(torch.float64))
            half = depth // 2
            low, high = (
                self._sum_of_parts(product, windows, part.contiguous(), kernel.contiguous(), splittable=True)
                for part, kernel in ((x[..., :half], weight[..., :half]), (x[..., half:], weight[..., half:]))
            )
            return low.to(torch.float64) + high.to(torch.float64)

    def _bound(self, weight: torch.Tensor) -> float:
        """No partial sum of an output channel is greater: positive and negative terms apart."""
        others = tuple(range(1, weight.ndim))
        known, self.sums = self.sums, None  # parts of the weight have other sums
        if known is None:
            known = torch.stack([weight.abs().sum(dim=others), weight.sum(dim=others)])
        magnitude, balance = known.cpu().numpy()
        positive, negative = (magnitude + balance) / 2, (magnitude - balance) / 2
        low, high = -self.span[0], self.span[1]
        return float(np.maximum(positive * high + negative * low, positive * low + negative * high).max())


@torch.no_grad()
def _energy_bound(windows: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, weight: torch.Tensor) -> float:
    """A bound that these very values keep to: `|sum over any part| <= ||x|| ||w||` (Cauchy and Schwarz), per window."""
    energy = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    kernel = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)))
    slack = 1.01  # for the rounding of these few sums
    return slack * float(windows(energy).max().sqrt() * kernel.max())


def _accumulate_wide(product: Product, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Run `product` in float64: sums of products of 16 and 8 bits stay far below 2^53."""
    with exact_float32(x.device):
        return product(x.to(torch.float64), weight.to(torch.float64)).to(torch.int64)


def _accumulate(
    product: Product,
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    splittable: bool,
) -> torch.Tensor:
    """Run `product` in float32 where the bound allows, else on parts of the input channels, else in float64.

    Returns:
        Integers: float32 that are exact, or int32.
    """
    others = tuple(range(1, weight.ndim))
    with exact_float32(x.device):
        bound = int(weight.abs().sum(dim=others).max()) * CODE_SPAN
        if bound < FLOAT32_EXACT:
            return product(x.to(torch.float32), weight.to(torch.float32))
        depth = weight.shape[-1]
        if not splittable or depth == 1:
            return product(x.to(torch.float64), weight.to(torch.float64)).to(torch.int32)
        half = depth // 2
        low = _accumulate(product, x[..., :half], weight[..., :half], splittable=True)
        return low.to(torch.int32) + _accumulate(product, x[..., half:], weight[..., half:], splittable=True).to(
            torch.int32
        )
