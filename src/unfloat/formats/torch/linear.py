"""Convolution, matrix products, batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import RefusedError, Turned, Value, Weight, need_value, need_weight, optional_weight
from unfloat.ir.graph import BATCH, Attributes, Norm, Param

Pair = tuple[int, int]
CUMULATIVE = -1.0  # stands for momentum=None, whose 1 / num_batches_tracked cannot be traced; see export.py


def pair(numbers: int | Sequence[int]) -> Pair:
    """A height and a width from one number or two."""
    if isinstance(numbers, int):
        return numbers, numbers
    return (numbers[0], numbers[-1])


def convolution(
    build: Builder,
    x: object,
    weight: object,
    bias: object,
    stride: Sequence[int],
    padding: str | Sequence[int],
    dilation: Sequence[int],
    groups: int,
    transposed: bool = False,
    output_padding: Sequence[int] = (0,),
    **_: object,
) -> Value:
    """aten.conv1d, conv2d, convolution: one dimension is a height of 1."""
    if transposed:
        assert not isinstance(padding, str)
        return transpose_convolution(build, x, weight, bias, stride, padding, output_padding, groups, dilation)
    image, kernel = need_value(x), need_weight(weight, "its weight")
    if len(kernel.shape) not in (3, 4):
        raise RefusedError(f"a convolution has one or two dimensions, found a weight of shape {kernel.shape}")
    rank = len(image.shape)
    if rank != len(kernel.shape):
        raise RefusedError(f"its input must have a batch and channels before the image, found {rank} dimensions")
    flat = build.channels_last(image)
    if rank == 3:
        kernel = kernel.reshaped((*kernel.shape[:2], 1, kernel.shape[2]))
        flat = build.reshape_value(flat, (BATCH, 1, *flat.shape[1:]), "image")
    steps, gaps = _of_rank(stride, rank), _of_rank(dilation, rank)
    attributes = {"stride": steps, "dilation": gaps, "padding": _padding(padding, kernel, gaps, rank)}
    out = _convolution(build, flat, kernel, optional_weight(bias, "its bias"), attributes, groups)
    if rank == 3:
        out = build.reshape_value(out, (BATCH, *out.shape[2:]), "sequence")
    return build.channels_first(out)


def transpose_convolution(
    build: Builder,
    x: object,
    weight: object,
    bias: object,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
    **_: object,
) -> Value:
    """aten.conv_transpose1d, conv_transpose2d: padding is cropped off, output_padding is cropped less behind."""
    image, kernel = need_value(x), need_weight(weight, "its weight")
    if groups != 1 or any(step != 1 for step in pair(dilation)):
        raise RefusedError(
            f"a transposed convolution has one group and dilation 1, found {groups}, {list(pair(dilation))}"
        )
    rank = len(image.shape)
    if rank not in (3, 4) or rank != len(kernel.shape):
        raise RefusedError(f"its input must have a batch and channels before the image, found {rank} dimensions")
    flat = build.channels_last(image)
    if rank == 3:
        kernel = kernel.reshaped((*kernel.shape[:2], 1, kernel.shape[2]))
        flat = build.reshape_value(flat, (BATCH, 1, *flat.shape[1:]), "image")
    steps, crop, extra = _of_rank(stride, rank), _of_rank(padding, rank, 0), _of_rank(output_padding, rank, 0)
    size = tuple(
        (extent - 1) * step + taps - 2 * cut + more
        for extent, step, taps, cut, more in zip(flat.shape[1:3], steps, kernel.shape[2:], crop, extra, strict=True)
    )
    params = {"weight": kernel.permuted((1, 2, 3, 0)), "bias": optional_weight(bias, "its bias")}
    out = build.emit("transpose_conv2d", [flat], {"stride": steps, "crop": crop, "size": size}, params)
    if rank == 3:
        out = build.reshape_value(out, (BATCH, *out.shape[2:]), "sequence")
    return build.channels_first(out)


def _of_rank(numbers: int | Sequence[int], rank: int, alone: int = 1) -> Pair:
    """Per-dimension numbers as a pair, `alone` for the height that one dimension lacks."""
    return pair(numbers) if rank == 4 else (alone, pair(numbers)[1])


def _padding(padding: str | Sequence[int], kernel: Weight, dilation: Pair, rank: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right. "same" puts the odd one after."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if isinstance(padding, str):
        both = [d * (taps - 1) for d, taps in zip(dilation, kernel.shape[2:], strict=True)]
        top, left = (total // 2 for total in both)
        return (top, left, both[0] - top, both[1] - left)
    height, width = _of_rank(padding, rank, alone=0)
    return (height, width, height, width)


def _convolution(
    build: Builder, x: Value, kernel: Weight, bias: Weight | None, attributes: Attributes, groups: int
) -> Value:
    """The node: depthwise where each channel is convolved alone, and there are several."""
    out_channels, _, height, width = kernel.shape
    if groups == x.shape[3] and groups > 1:
        depthwise = kernel.reshaped((out_channels, height, width)).permuted((1, 2, 0))
        return build.emit("depthwise_conv2d", [x], attributes, {"weight": depthwise, "bias": bias})
    full = {**attributes, "groups": groups}
    return build.emit("conv2d", [x], full, {"weight": kernel.permuted((0, 2, 3, 1)), "bias": bias})


def linear(build: Builder, x: object, weight: object, bias: object = None, **_: object) -> Value:
    """aten.linear: weight [N, K]."""
    params = {"weight": need_weight(weight, "its weight"), "bias": optional_weight(bias, "its bias")}
    return build.emit("fully_connected", [need_value(x)], params=params)


def addmm(
    build: Builder, x: object, mat1: object, mat2: object, beta: float = 1, alpha: float = 1, **_: object
) -> Value:
    """aten.addmm: `x + mat1 @ mat2`, the first one a bias."""
    if (beta, alpha) != (1, 1):
        raise RefusedError(f"addmm is read with beta = alpha = 1, found {beta} and {alpha}")
    weight, bias = need_weight(mat2, "its weight").permuted((1, 0)), need_weight(x, "its bias")
    if math.prod(bias.shape) != weight.shape[0]:
        raise RefusedError(f"its bias must have a number for each of {weight.shape[0]} outputs, found {bias.shape}")
    return linear(build, mat1, weight, bias.reshaped((weight.shape[0],)))


def batch_norm(
    build: Builder,
    x: object,
    weight: object,
    bias: object,
    running_mean: object,
    running_var: object,
    momentum: object,
    eps: float,
    training: bool = False,
    **_: object,
) -> Value:
    """aten.batch_norm; whether it trains is the student's business, the statistics are the same parameters."""
    if running_mean is None or running_var is None:
        raise RefusedError("it keeps no running statistics", "build it with track_running_stats=True")
    if training and not build.training:
        raise RefusedError("it takes the batch's own statistics in eval() too", "training=self.training")
    mean, variance = need_weight(running_mean, "its mean"), need_weight(running_var, "its variance")
    gain, shift = optional_weight(weight, "its weight"), optional_weight(bias, "its bias")
    if any(one is not None and one.param.name in build.constants for one in (mean, variance, gain, shift)):
        reason = "its statistics, weight and bias must be the model's own, found a constant or a computed value"
        raise RefusedError(reason, "a product and a sum")
    step = float(momentum) if isinstance(momentum, int | float) and momentum != CUMULATIVE else None
    norm = Norm(mean.param, variance.param, _param(gain), _param(shift), eps, step)
    if isinstance(x, Turned) and len(x.shape) == 2 and x.place == 0:  # many rows of each sample, channels last
        return Turned.of(build.emit("batch_norm", [x.front], norm=norm), x.place, x.cells)
    return build.channels_first(build.emit("batch_norm", [build.channels_last(need_value(x))], norm=norm))


def _param(weight: Weight | None) -> Param | None:
    return None if weight is None else weight.param


def batch_norm_inference(build: Builder, x: object, **arguments: object) -> tuple[Value, None, None]:
    """aten._native_batch_norm_legit_no_training: as `batch_norm`, with two results that nobody needs."""
    return batch_norm(build, x, **arguments), None, None  # type: ignore[arg-type]
