"""Convolution and depthwise convolution: `acc = sum w * (x - Z)` over a window, then bias, rescale, clamp (eq. 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from unfloat.ir.graph import Attributes, Clamp, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops._linear import centred, linear_operator
from unfloat.ops._operator import PADDING, PAIR, SIZE, Case, Domain, Params
from unfloat.ops._spatial import require_rank, windows
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import WIDE_ROUNDING

SPATIAL = {"stride": PAIR, "dilation": PAIR, "padding": PADDING}
RELU6 = Clamp(0.0, 6.0)


def conv_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, H, W, C] and weight [Cout, kh, kw, C / groups] -> [N, rows, columns, Cout]."""
    require_rank(inputs[0], 4, "the image")
    require_rank(params["weight"], 4, "the weight")
    out_channels, kernel_h, kernel_w, depth = params["weight"]
    groups = attributes["groups"]
    if inputs[0][3] != depth * groups or out_channels % groups:
        raise ValueError(f"a weight {params['weight']} in {groups} groups does not fit {inputs[0][3]} channels")
    return (inputs[0][0], *windows(attributes, inputs[0][1:3], (kernel_h, kernel_w)), out_channels)


def depthwise_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, H, W, C] and weight [kh, kw, C * m] -> [N, rows, columns, C * m]; output channel o reads o // m."""
    require_rank(inputs[0], 4, "the image")
    require_rank(params["weight"], 3, "the weight")
    kernel_h, kernel_w, out_channels = params["weight"]
    if out_channels % inputs[0][3]:
        raise ValueError(f"a depthwise weight {params['weight']} does not fit {inputs[0][3]} channels")
    return (inputs[0][0], *windows(attributes, inputs[0][1:3], (kernel_h, kernel_w)), out_channels)


def _as_grouped(b: Backend, weight: Array) -> Array:
    """A depthwise weight [kh, kw, C * m] as a grouped one, [C * m, kh, kw, 1]."""
    return b.xp.permute_dims(weight, (2, 0, 1))[..., None]


def _conv_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    a = attributes
    return b.convolve(inputs[0], params["weight"], a["stride"], a["dilation"], a["padding"], a["groups"])


def _depthwise_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    grouped = {**attributes, "groups": inputs[0].shape[3]}
    return _conv_float(b, grouped, inputs, {"weight": _as_grouped(b, params["weight"])})


def _conv_accumulate(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    a = attributes
    x = centred(inputs[0], a["input_zero_point"])
    weight = centred(constants["weight"], a["weight_zero_point"])
    geometry = (a["stride"], a["dilation"], a["padding"], a["groups"])
    return b.accumulate_convolution(x, weight, *geometry, wide=a.get("rounding") == WIDE_ROUNDING)


def _depthwise_accumulate(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    grouped = {**attributes, "groups": inputs[0].shape[3]}
    return _conv_accumulate(b, grouped, {"weight": _as_grouped(b, constants["weight"])}, inputs)


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    per_output = instruction.constants["weight"].size // output[3]
    return output[1] * output[2] * output[3] * per_output


def _case(
    label: str, image: Shape, out: int, kernel: tuple[int, int], clamp: Clamp | None = None, **changes: object
) -> Case:
    attributes = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1, **changes}
    depth = image[2] // int(str(attributes["groups"]))
    return Case(label, (image,), attributes, {"weight": (out, *kernel, depth), "bias": (out,)}, clamp)


def conv_cases() -> Iterator[Case]:
    """Tile edges of rows, channels and depth; every attribute away from its default."""
    for channels in (1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 130):
        yield _case(
            f"pointwise, {channels} -> {channels}", (3, 5, channels), channels, (1, 1), RELU6 if channels % 2 else None
        )
    for columns in (1, 5, 6, 7, 12, 13, 37):
        yield _case(f"pointwise, {columns} columns", (1, columns, 20), 40, (1, 1))
    yield _case("first layer", (9, 9, 3), 32, (3, 3), RELU6, stride=(2, 2), padding=(0, 0, 1, 1))
    yield _case("first layer, 7x7", (15, 13, 3), 17, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    yield _case("one channel in", (12, 7, 1), 64, (10, 4), stride=(2, 2), padding=(4, 1, 5, 1))
    yield _case("3x3", (7, 6, 16), 24, (3, 3), RELU6, padding=(1, 1, 1, 1))
    yield _case("pointwise, 132 -> 105", (3, 7, 132), 105, (1, 1))
    yield _case("3x3, stride 2, 20 -> 97", (5, 8, 20), 97, (3, 3), RELU6, stride=(2, 2), padding=(1, 1, 1, 1))
    yield _case("3x3, 64 to 64", (6, 7, 64), 64, (3, 3), padding=(1, 1, 1, 1))
    yield _case("3x3, long rows", (3, 40, 7), 9, (3, 3), RELU6, padding=(1, 1, 1, 1))
    yield _case("asymmetric padding", (6, 5, 9), 10, (3, 2), padding=(2, 0, 1, 3))
    yield _case("strides 2 and 3", (9, 11, 12), 7, (3, 3), stride=(2, 3), padding=(1, 1, 1, 1))
    yield _case("dilation 2 and 3", (11, 13, 8), 20, (3, 3), dilation=(2, 3), padding=(2, 3, 2, 3))
    yield _case("pointwise, stride 2", (7, 7, 33), 18, (1, 1), stride=(2, 2))
    yield _case("1x7", (6, 9, 12), 16, (1, 7), padding=(0, 3, 0, 3))
    yield _case("groups of 4", (5, 5, 16), 24, (3, 3), groups=4, padding=(1, 1, 1, 1))
    yield _case("groups of 32", (4, 5, 64), 64, (3, 3), groups=2, padding=(1, 1, 1, 1))
    yield _case("kernel as large as the image", (4, 4, 5), 6, (4, 4))


def depthwise_cases() -> Iterator[Case]:
    """Channel tails, kernel sizes, multipliers."""

    def case(
        label: str, image: Shape, kernel: tuple[int, int], times: int = 1, clamp: Clamp | None = None, **changes: object
    ) -> Case:
        attributes = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), **changes}
        out = image[2] * times
        return Case(label, (image,), attributes, {"weight": (*kernel, out), "bias": (out,)}, clamp)

    for channels in (1, 3, 15, 16, 17, 63, 64, 65, 130):
        yield case(f"3x3, {channels} channels", (5, 6, channels), (3, 3), clamp=RELU6 if channels % 2 else None)
    yield case("3x3, stride 2", (9, 8, 24), (3, 3), stride=(2, 2), padding=(0, 0, 1, 1))
    yield case("5x5", (7, 9, 20), (5, 5), padding=(2, 2, 2, 2))
    yield case("5x5, stride 2", (9, 9, 70), (5, 5), stride=(2, 2), padding=(1, 1, 2, 2))
    yield case("5x5, stride 2, odd rows", (10, 27, 33), (5, 5), stride=(2, 2), padding=(2, 2, 2, 2))
    yield case("dilation 2", (9, 9, 18), (3, 3), dilation=(2, 2), padding=(2, 2, 2, 2))
    yield case("asymmetric padding", (5, 7, 6), (2, 3), padding=(2, 0, 0, 1))
    yield case("1x1", (4, 3, 35), (1, 1), padding=(0, 0, 0, 0))
    yield case("multiplier 2", (5, 5, 7), (3, 3), times=2)
    yield case("one channel, multiplier 8", (6, 6, 1), (3, 3), times=8)
    yield case("kernel larger than the image", (2, 2, 10), (3, 3))


OPERATORS = (
    linear_operator(
        name="conv2d",
        summary="Convolution with groups, strides, dilation and any padding.",
        attributes={**SPATIAL, "groups": Domain("int", 1, SIZE)},
        shape=conv_shape,
        float_meaning=_conv_float,
        accumulate=_conv_accumulate,
        weight_axis=0,
        macs=_macs,
        cases=conv_cases,
    ),
    linear_operator(
        name="depthwise_conv2d",
        summary="Convolution of each channel by itself, with a channel multiplier.",
        attributes=SPATIAL,
        shape=depthwise_shape,
        float_meaning=_depthwise_float,
        accumulate=_depthwise_accumulate,
        weight_axis=2,
        macs=_macs,
        cases=depthwise_cases,
    ),
)
