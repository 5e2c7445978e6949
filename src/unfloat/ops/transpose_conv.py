"""Transposed convolution: each input pixel adds its multiple of the kernel to the output (eq. 13).

Read from the output's side it is a convolution, with the kernel reversed, of the image with `stride - 1` cells of real 0
between its pixels: so it is computed, and proven exact, as convolutions are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from unfloat.ir.graph import Attributes, Clamp, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops._linear import centred, linear_operator
from unfloat.ops._operator import PAIR, SIZE, Case, Domain, Params
from unfloat.ops._spatial import require_kernel, require_rank
from unfloat.ops.conv import RELU6
from unfloat.spec.backend import Array, Backend, Padding
from unfloat.spec.fixedpoint import WIDE_ROUNDING

MOST_SPREAD = 1 << 30  # cells of the image with zeros between its pixels


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, H, W, C] and weight [Cout, kh, kw, C] -> [N, *size, Cout], from `crop` on of the (H - 1) stride + kh rows.

    Past the last of them, as far as `output_padding` may reach, lie rows that no pixel adds to.
    """
    require_rank(inputs[0], 4, "the image")
    require_rank(params["weight"], 4, "the weight")
    out_channels, *kernel, depth = params["weight"]
    if inputs[0][3] != depth:
        raise ValueError(f"a weight {params['weight']} does not fit {inputs[0][3]} channels")
    require_kernel(kernel)
    spread = [size * stride for size, stride in zip(inputs[0][1:3], attributes["stride"], strict=True)]
    if prod(spread) * depth > MOST_SPREAD:
        raise ValueError(f"the image with zeros between its pixels, {spread}, must have at most {MOST_SPREAD} cells")
    for axis in (0, 1):
        stride, first = attributes["stride"][axis], attributes["crop"][axis]
        rows = (inputs[0][axis + 1] - 1) * stride + kernel[axis]
        if first >= rows or first + attributes["size"][axis] >= rows + stride:
            raise ValueError(
                f"an output of {attributes['size']} from {attributes['crop']} on leaves the {rows} rows made"
            )
    return (inputs[0][0], *attributes["size"], out_channels)


def _spread(b: Backend, attributes: Attributes, x: Array, kernel: Sequence[int]) -> tuple[Array, Padding]:
    """The image with zeros between its pixels, as far as windows reach, and the padding that they need around it."""
    n, height, width, channels = x.shape
    (step_h, step_w), counts = attributes["stride"], (height, width)
    x = b.xp.reshape(x, (n, height, 1, width, 1, channels))
    x = b.pad(x, ((0, 0), (0, 0), (0, step_h - 1), (0, 0), (0, step_w - 1), (0, 0)), 0)
    x = b.xp.reshape(x, (n, height * step_h, width * step_w, channels))
    before, after, kept = [], [], []
    for axis in (0, 1):
        begin = attributes["crop"][axis] - (kernel[axis] - 1)
        end = attributes["crop"][axis] + attributes["size"][axis]
        length = counts[axis] * attributes["stride"][axis]
        before.append(max(-begin, 0))
        after.append(max(end - length, 0))
        kept.append(slice(max(begin, 0), min(end, length)))
    return x[:, kept[0], kept[1]], (before[0], before[1], after[0], after[1])


def _reversed(b: Backend, weight: Array) -> Array:
    return b.xp.flip(weight, axis=(1, 2))


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    weight = params["weight"]
    x, padding = _spread(b, attributes, inputs[0], weight.shape[1:3])
    return b.convolve(x, _reversed(b, weight), (1, 1), (1, 1), padding, 1)


def _accumulate(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    weight = centred(constants["weight"], attributes["weight_zero_point"])
    x = centred(inputs[0], attributes["input_zero_point"])
    x, padding = _spread(b, attributes, x, weight.shape[1:3])
    wide = attributes.get("rounding") == WIDE_ROUNDING
    return b.accumulate_convolution(x, _reversed(b, weight), (1, 1), (1, 1), padding, 1, wide=wide)


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    return inputs[0][1] * inputs[0][2] * instruction.constants["weight"].size


def cases() -> Iterator[Case]:
    """Kernels smaller than, equal to and larger than their stride; crops; rows that no pixel reaches; tails."""

    def case(
        label: str,
        image: Shape,
        out: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        crop: tuple[int, int] = (0, 0),
        cut: tuple[int, int] = (0, 0),
        clamp: Clamp | None = None,
    ) -> Case:
        height, width = (
            (n - 1) * s + k - before - after
            for n, s, k, before, after in zip(image[:2], stride, kernel, crop, cut, strict=True)
        )
        attributes = {"stride": stride, "crop": crop, "size": (height, width)}
        return Case(label, (image,), attributes, {"weight": (out, *kernel, image[2]), "bias": (out,)}, clamp)

    for channels in (1, 3, 16, 17, 33):
        yield case(f"2x2, stride 2, {channels} channels", (3, 4, channels), channels + 1, (2, 2), (2, 2), clamp=RELU6)
    yield case("3x3, stride 2, cropped, a row added", (4, 3, 12), 10, (3, 3), (2, 2), (1, 1), (0, 0))
    yield case("4x4, stride 2, same", (4, 5, 9), 8, (4, 4), (2, 2), (1, 1), (1, 1))
    yield case("3x3, stride 1, same", (5, 4, 7), 6, (3, 3), (1, 1), (1, 1), (1, 1), RELU6)
    yield case("1x1, stride 3", (3, 3, 8), 5, (1, 1), (3, 3))
    yield case("rows that no pixel reaches", (3, 2, 5), 4, (2, 3), (3, 2), (0, 0), (-2, -1))
    yield case("5x3, strides 3 and 1, uneven crops", (3, 6, 4), 7, (5, 3), (3, 1), (2, 0), (1, 2))
    yield case("a crop past the first pixels", (6, 6, 3), 4, (3, 3), (2, 2), (5, 4), (1, 1))


OPERATORS = (
    linear_operator(
        name="transpose_conv2d",
        summary="Transposed convolution: a convolution's gradient, for images that grow.",
        attributes={"stride": PAIR, "crop": Domain("ints", 0, SIZE, 2), "size": Domain("ints", 1, SIZE, 2)},
        shape=_shape,
        float_meaning=_float,
        accumulate=_accumulate,
        weight_axis=0,
        macs=_macs,
        cases=cases,
    ),
)
