"""Average and maximum over windows; mean and sum over whole axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import PADDING, PAIR, RESCALING, Case, Domain, Operator, Params, QuantRecord, Request
from unfloat.ops._rescaling import clamp_fields, code_span, requantize_single, scale_of, single_factor
from unfloat.ops._spatial import require_rank, windows
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import average, fold_mean

WINDOW = {"kernel": PAIR, "stride": PAIR, "padding": PADDING}


def _pool_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    require_rank(inputs[0], 4, "the image")
    top, left, bottom, right = attributes["padding"]
    kernel_h, kernel_w = attributes["kernel"]
    counts = windows(attributes, inputs[0][1:3], attributes["kernel"])
    starts = [(count - 1) * stride for count, stride in zip(counts, attributes["stride"], strict=True)]
    if (
        max(top, bottom) >= kernel_h
        or max(left, right) >= kernel_w
        or starts[0] >= top + inputs[0][1]
        or starts[1] >= left + inputs[0][2]
    ):
        raise ValueError(
            f"padding {attributes['padding']} leaves a window of {attributes['kernel']} without a pixel of {inputs[0][1:3]}"
        )
    return (inputs[0][0], *counts, inputs[0][3])


def _over_windows(b: Backend, attributes: Attributes, x: Array, fill: float, join: Callable[..., Array]) -> Array:
    """`join` of all cells of each window, [N, rows, columns, C]: of a column's cells first, then of the columns."""
    top, left, bottom, right = attributes["padding"]
    counts = windows(attributes, x.shape[1:3], attributes["kernel"])
    x = b.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), fill)
    for axis, size, step, count in zip((1, 2), attributes["kernel"], attributes["stride"], counts, strict=True):
        before = (slice(None),) * axis
        taps = [x[(*before, slice(i, i + (count - 1) * step + 1, step))] for i in range(size)]
        x = taps[0]
        for tap in taps[1:]:
            x = join(x, tap)
    return x


def _plus(a: Array, b: Array) -> Array:
    return a + b


def _window_sum(b: Backend, attributes: Attributes, x: Array) -> tuple[Array, Array]:
    """Sums over windows, and how many real (unpadded) cells each has."""
    ones = x[:1, :, :, :1] * 0 + 1
    count = _over_windows(b, attributes, ones, 0, _plus)
    if attributes["kernel"] == tuple(x.shape[1:3]) and not any(attributes["padding"]):
        return b.xp.sum(x, axis=(1, 2), keepdims=True, dtype=x.dtype), count
    return _over_windows(b, attributes, x, 0, _plus), count


def _average_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    total, count = _window_sum(b, attributes, inputs[0])
    return total / count


def _average(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return average(*_window_sum(b, attributes, inputs[0]))


def _average_accumulators(
    instruction: Instruction, inputs: Sequence[Tensor]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window's sum of raw codes."""
    cells, label = math.prod(instruction.attributes["kernel"]), inputs[0].qparams
    return np.array([cells * label.qmin]), np.array([cells * label.qmax]), np.array([0])


def _max_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return _maximum(b, attributes, inputs[0], -math.inf)


def _max(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return _maximum(b, attributes, inputs[0], -(2**31))


def _maximum(b: Backend, attributes: Attributes, x: Array, lowest: float) -> Array:
    return _over_windows(b, attributes, x, lowest, b.xp.maximum)


def reduced_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """What whole axes leave, dropped or kept as ones."""
    axes = attributes["axes"]
    if len(set(axes)) != len(axes) or not axes or not 0 < min(axes) <= max(axes) < len(inputs[0]):
        raise ValueError(f"axes {axes} do not name dimensions 1 to {len(inputs[0]) - 1} of {inputs[0]}")
    if attributes["keep_dims"]:
        return tuple(1 if d in axes else size for d, size in enumerate(inputs[0]))
    return tuple(size for d, size in enumerate(inputs[0]) if d not in axes)


def _mean_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.xp.mean(inputs[0], axis=attributes["axes"], keepdims=bool(attributes["keep_dims"]))


def _count(attributes: Attributes, shape: Shape) -> int:
    return math.prod(shape[axis] for axis in attributes["axes"])


def _sum_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.xp.sum(inputs[0], axis=attributes["axes"], keepdims=bool(attributes["keep_dims"]))


def _sum(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    total = b.xp.sum(
        inputs[0] - attributes["input_zero_point"], axis=attributes["axes"], keepdims=bool(attributes["keep_dims"])
    )
    return requantize_single(b, attributes, total)


def _lower_sum(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    return {**request.attributes, **clamp_fields(request)}, {}, {}


def _derive_mean(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`S_in / S_out` with the division by the number of cells folded in (eq. 25)."""
    total = _derive_sum(instruction, inputs, output)
    multiplier, shift = fold_mean(total["multiplier"], total["shift"], _count(instruction.attributes, inputs[0].shape))
    return {**total, "multiplier": multiplier, "shift": shift}


def _derive_sum(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`S_in / S_out`; the sum itself is that of eq. 25."""
    factor = single_factor(scale_of(inputs[0]) / scale_of(output), output)
    return {"input_zero_point": inputs[0].qparams.zero_point, **factor}


def _sum_accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = code_span(inputs[0])
    count = _count(instruction.attributes, inputs[0].shape)
    return np.array([low * count]), np.array([high * count]), np.array([max(instruction.attributes["shift"], 0)])


def pool_cases() -> Iterator[Case]:
    """Window sizes, strides, paddings that leave windows of unequal count."""

    def case(
        label: str, image: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Shape = (0, 0, 0, 0)
    ) -> Case:
        return Case(label, (image,), {"kernel": kernel, "stride": stride, "padding": padding})

    for channels in (1, 15, 16, 65):
        yield case(f"2x2, {channels} channels", (6, 4, channels), (2, 2), (2, 2))
    yield case("3x3, padded", (7, 7, 20), (3, 3), (2, 2), (1, 1, 1, 1))
    yield case("3x3, stride 1, padded", (5, 6, 9), (3, 3), (1, 1), (1, 1, 1, 1))
    yield case("asymmetric padding", (6, 5, 4), (3, 2), (2, 1), (0, 1, 2, 0))
    yield case("the whole image", (7, 5, 33), (7, 5), (1, 1))
    yield case("2x3, strides 1 and 3", (8, 9, 3), (2, 3), (1, 3))


def mean_cases() -> Iterator[Case]:
    """Counts that are and are not powers of two; kept and dropped dimensions."""
    for size in ((1, 1), (2, 2), (7, 7), (5, 3), (8, 8)):
        yield Case(f"{size[0]}x{size[1]}", ((*size, 17),), {"axes": (1, 2), "keep_dims": 0})
    yield Case("kept dimensions", ((6, 6, 64),), {"axes": (1, 2), "keep_dims": 1})
    yield Case("65 channels", ((3, 3, 65),), {"axes": (1, 2), "keep_dims": 1})


OPERATORS = (
    Operator(
        name="average_pool2d",
        summary="The average of each window; padding does not count.",
        arity=(1, 1),
        attributes=WINDOW,
        shape=_pool_shape,
        float_meaning=_average_float,
        integer_meaning=_average,
        quant=QuantRecord(output="same"),
        accumulators=_average_accumulators,
        cases=pool_cases,
    ),
    Operator(
        name="max_pool2d",
        summary="The greatest value of each window.",
        arity=(1, 1),
        attributes=WINDOW,
        shape=_pool_shape,
        float_meaning=_max_float,
        integer_meaning=_max,
        quant=QuantRecord(output="same"),
        moves=True,
        cases=pool_cases,
    ),
    Operator(
        name="mean",
        summary="The mean over whole axes.",
        arity=(1, 1),
        attributes={"axes": Domain("ints", 1, 5), "keep_dims": Domain("int", 0, 1)},
        fields={"input_zero_point": RESCALING["output_zero_point"], **RESCALING, "shift": Domain("int", -63, 30)},
        slots=frozenset(),
        shape=reduced_shape,
        float_meaning=_mean_float,
        integer_meaning=_sum,
        lower=_lower_sum,
        derive=_derive_mean,
        accumulators=_sum_accumulators,
        cases=mean_cases,
    ),
    Operator(
        name="sum",
        summary="The sum over whole axes.",
        arity=(1, 1),
        attributes={"axes": Domain("ints", 1, 5), "keep_dims": Domain("int", 0, 1)},
        fields={"input_zero_point": RESCALING["output_zero_point"], **RESCALING},
        slots=frozenset(),
        shape=reduced_shape,
        float_meaning=_sum_float,
        integer_meaning=_sum,
        lower=_lower_sum,
        derive=_derive_sum,
        accumulators=_sum_accumulators,
        cases=mean_cases,
    ),
)
