"""Windows and means. PyTorch's rules for ceil_mode and counted padding become explicit paddings."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.linear import Pair, pair
from unfloat.formats.torch.operands import RefusedError, Value, need_value
from unfloat.ir.graph import BATCH


def max_pool(
    build: Builder,
    x: object,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    dimensions: int = 2,
    **_: object,
) -> Value:
    """aten.max_pool2d, and max_pool1d in one of two `dimensions`."""
    if any(step != 1 for step in pair(dilation)):
        raise RefusedError(f"a maximum pool has dilation 1, found {list(pair(dilation))}")
    image = _Image(build, need_value(x), dimensions)
    kernel, step, margin = image.pairs(kernel_size, stride or kernel_size, padding)
    extra = image.overhang(kernel, step, margin, ceil_mode)
    around = (*margin, margin[0] + extra[0], margin[1] + extra[1])
    return image.pool("max_pool2d", kernel, step, around)


def max_pool_with_indices(build: Builder, x: object, **arguments: object) -> tuple[Value, None]:
    """aten.max_pool2d_with_indices; the indices must be unused."""
    return max_pool(build, x, **arguments), None  # type: ignore[arg-type]


def average_pool(
    build: Builder,
    x: object,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
    dimensions: int = 2,
    **_: object,
) -> Value:
    """aten.avg_pool2d, and avg_pool1d in one of two `dimensions`. Counted padding becomes a pad; what ceil_mode adds never counts."""
    if divisor_override is not None:
        raise RefusedError("an average divides by the number of values; divisor_override is not known")
    image = _Image(build, need_value(x), dimensions)
    kernel, step, margin = image.pairs(kernel_size, stride or kernel_size, padding)
    extra = image.overhang(kernel, step, margin, ceil_mode)
    if count_include_pad and any(margin):
        image.pad(margin)
        margin = (0, 0)
    return image.pool("average_pool2d", kernel, step, (*margin, margin[0] + extra[0], margin[1] + extra[1]))


def adaptive_average_pool(
    build: Builder, x: object, output_size: Sequence[int | None], dimensions: int = 2, **_: object
) -> Value:
    """aten.adaptive_avg_pool2d, and adaptive_avg_pool1d in one of two `dimensions`: a mean, or equal windows."""
    value = need_value(x)
    rank = len(value.shape)
    if all(extent == 1 for extent in output_size):
        return build.emit("mean", [value], {"axes": tuple(range(rank - dimensions, rank)), "keep_dims": 1})
    return _equal_windows(build, value, output_size, "average_pool2d", dimensions)


def adaptive_max_pool(
    build: Builder, x: object, output_size: Sequence[int | None], dimensions: int = 2, **_: object
) -> tuple[Value, None]:
    """aten.adaptive_max_pool2d, and adaptive_max_pool1d in one of two `dimensions`; the indices must be unused."""
    return _equal_windows(build, need_value(x), output_size, "max_pool2d", dimensions), None


def _equal_windows(build: Builder, value: Value, output_size: Sequence[int | None], op: str, dimensions: int) -> Value:
    """A pool whose windows tile the image."""
    sizes = value.shape[-dimensions:]
    wanted = tuple(size if out is None else out for size, out in zip(sizes, output_size, strict=True))
    if any(size % out for size, out in zip(sizes, wanted, strict=True)):
        reason = f"an adaptive pool must divide the image evenly, found {sizes} to {wanted}"
        raise RefusedError(reason, "choose a divisor of the size")
    image = _Image(build, value, dimensions)
    kernel = tuple(size // out for size, out in zip(sizes, wanted, strict=True))
    window, step, _ = image.pairs(kernel, kernel)
    return image.pool(op, window, step, (0, 0, 0, 0))


def mean(build: Builder, x: object, dim: Sequence[int] | None = None, keepdim: bool = False, **_: object) -> Value:
    """aten.mean.dim over axes other than the batch."""
    return _reduced(build, "mean", x, dim, keepdim)


def total(build: Builder, x: object, dim: Sequence[int] | None = None, keepdim: bool = False, **_: object) -> Value:
    """aten.sum.dim_IntList over axes other than the batch."""
    return _reduced(build, "sum", x, dim, keepdim)


def _reduced(build: Builder, op: str, x: object, dim: Sequence[int] | None, keepdim: bool) -> Value:
    value = need_value(x)
    axes = tuple(sorted(axis % len(value.shape) for axis in dim or range(len(value.shape))))
    if 0 in axes:
        raise RefusedError(f"a {op} may not run over the batch", f"name the axes: x.{op}((2, 3))")
    return build.emit(op, [value], {"axes": axes, "keep_dims": int(keepdim)})


class _Image:
    """A value as a channels-last image, a sequence as an image of height 1; and the way back.

    Without an axis for channels, torch takes the batch for them. Windows keep to their channel, so that the image is one
    of a single channel.
    """

    def __init__(self, build: Builder, value: Value, dimensions: int) -> None:
        self.build = build
        self.dimensions = dimensions
        self.has_channels = len(value.shape) == dimensions + 2
        if not self.has_channels and len(value.shape) != dimensions + 1:
            raise RefusedError(f"a pool takes a batch of images or sequences, found {len(value.shape)} dimensions")
        flat = build.channels_last(value) if self.has_channels else value
        channels = value.shape[1] if self.has_channels else 1
        height = (1,) if dimensions == 1 else ()
        self.value = build.reshape_value(flat, (BATCH, *height, *value.shape[-dimensions:], channels), "image")

    def pairs(
        self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0,)
    ) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and padding as (height, width)."""
        if self.dimensions == 2:
            return pair(kernel), pair(stride), pair(padding)
        return (1, pair(kernel)[1]), (1, pair(stride)[1]), (0, pair(padding)[1])

    def overhang(self, kernel: Pair, stride: Pair, margin: Pair, ceil_mode: bool) -> Pair:
        """How far the last windows of ceil_mode reach past the padded image; windows must start inside it."""
        if not ceil_mode:
            return 0, 0
        reach = []
        for size, taps, step, edge in zip(self.value.shape[1:3], kernel, stride, margin, strict=True):
            count = -(-(size + 2 * edge - taps) // step) + 1
            if (count - 1) * step >= size + edge:
                count -= 1
            reach.append(max(0, (count - 1) * step + taps - size - 2 * edge))
        return reach[0], reach[1]

    def pad(self, margin: Pair) -> None:
        """Zeros around the image."""
        height, width = margin
        paddings = (0, 0, height, height, width, width, 0, 0)
        self.value = self.build.emit("pad", [self.value], {"paddings": paddings}, part="pad")

    def pool(self, op: str, kernel: Pair, stride: Pair, padding: tuple[int, ...]) -> Value:
        """The node, and back to the shape the model knows."""
        out = self.build.emit(op, [self.value], {"kernel": kernel, "stride": stride, "padding": padding})
        channels = out.shape[3:] if self.has_channels else ()
        out = self.build.reshape_value(out, (BATCH, *out.shape[3 - self.dimensions : 3], *channels), "sequence")
        return self.build.channels_first(out) if self.has_channels else out
