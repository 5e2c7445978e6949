"""The first rung of the equality ladder: what every integer operator means, one output element at a time.

Written from the published rules, with Python's unbounded integers and plain loops, and sharing no code with the package
it judges. Clarity is its only virtue: every operator is a formula for one element, nothing is fast, nothing wraps. A
value that would not fit the 32-bit register the rules give it raises `OverflowError` instead.

Sources, as cited below:
    Jacob et al.  "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018
    gemmlowp      fixedpoint/fixedpoint.h
    TFLite        the reference kernels and quantization_util.cc of TensorFlow Lite
    TFLite Micro  the reference kernels of TensorFlow Lite Micro

Conventions: a code is a stored integer, int8, uint8 or int16; activations are NHWC; spatial pairs are (vertical, horizontal);
paddings are (top, left, bottom, right); a real multiplier is (multiplier, shift), meaning multiplier * 2^(shift - 31).
"""

import functools
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1
MIN_SHIFT = -31
MAX_SHIFT = 30
WIDE_MAX_SHIFT = 7
WIDE_ACCUMULATOR_BITS = 47

Rounding = Literal["double", "single", "acc64"]
Index = tuple[int, ...]
Pair = tuple[int, int]
Triple = tuple[int, int, int]
Padding = tuple[int, int, int, int]


# tensors --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """Integers in row-major order under a shape; the shape () holds one."""

    shape: Index
    data: list[int]

    def __post_init__(self) -> None:
        _require(len(self.data) == math.prod(self.shape), f"{len(self.data)} values do not fill shape {self.shape}")

    @staticmethod
    def of(shape: Index, element: Callable[[Index], int]) -> "Tensor":
        """The tensor whose element at each index is `element(index)`."""
        return Tensor(shape, [element(index) for index in indices(shape)])

    def at(self, *index: int) -> int:
        """The element at a full index; an index outside the shape is an error, never a wrap-around."""
        if len(index) != len(self.shape) or not all(0 <= i < n for i, n in zip(index, self.shape, strict=True)):
            raise IndexError(f"index {index} is outside shape {self.shape}")
        offset = 0
        for i, n in zip(index, self.shape, strict=True):
            offset = offset * n + i
        return self.data[offset]


def indices(shape: Index) -> Iterator[Index]:
    """Every index of a shape in row-major order, the last axis fastest."""
    if not shape:
        yield ()
        return
    for first in range(shape[0]):
        for rest in indices(shape[1:]):
            yield (first, *rest)


# small helpers --------------------------------------------------------------------------------------------------------


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def clamp(value: int, low: int, high: int) -> int:
    """`value` limited to [low, high] (Jacob et al. eq. 12)."""
    return min(max(value, low), high)


def int32(value: int) -> int:
    """`value` itself, which must fit a signed 32-bit register."""
    if not INT32_MIN <= value <= INT32_MAX:
        raise OverflowError(f"{value} does not fit in 32 bits")
    return value


def truncating_divide(numerator: int, denominator: int) -> int:
    """Integer division as in C: the quotient is rounded toward zero, where Python's `//` rounds down."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def round_half_away(value: float | Fraction) -> int:
    """The nearest integer, ties away from zero, as C's `round`; exact, since a float is a fraction."""
    exact = Fraction(value)
    magnitude = math.floor(abs(exact) + Fraction(1, 2))
    return magnitude if exact >= 0 else -magnitude


def float32(value: float) -> float:
    """The IEEE single nearest to a double, ties to even; infinite when it is too large."""
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return math.copysign(math.inf, value)
    return float(single)


# real multipliers and rounding ----------------------------------------------------------------------------------------


def _normalize(real: float) -> Pair:
    """The fixed-point (multiplier, shift) of a real that is not negative, with no limit on the shift."""
    fraction, shift = math.frexp(real)
    multiplier = round_half_away(Fraction(fraction) * 2**31)
    # A fraction just below 1 rounds up to 2^31, which is no int32: it is one half of the next power of two.
    return (2**30, shift + 1) if multiplier == 2**31 else (multiplier, shift)


@functools.cache
def quantize_multiplier(real: float) -> Pair:
    """A real factor as (multiplier, shift), 2^30 <= multiplier < 2^31 (Jacob et al. eq. 6; TFLite QuantizeMultiplier).

    Zero, and a factor whose shift would be below -31, is (0, 0).
    """
    _require(math.isfinite(real) and real >= 0, f"a multiplier must be finite and not negative, not {real}")
    multiplier, shift = _normalize(real)
    _require(shift <= MAX_SHIFT, f"the multiplier {real} is too large")
    return (multiplier, shift) if shift >= MIN_SHIFT else (0, 0)


def saturating_rounding_doubling_high_mul(a: int, b: int) -> int:
    """The high half of 2ab, rounded: trunc((ab + nudge) / 2^31) (gemmlowp SaturatingRoundingDoublingHighMul).

    Ties go up. Only the square of -2^31 does not fit, and it saturates.
    """
    product = int32(a) * int32(b)
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return min(truncating_divide(product + nudge, 2**31), INT32_MAX)


def rounding_divide_by_pot(x: int, exponent: int) -> int:
    """x / 2^exponent to nearest, ties away from zero (gemmlowp RoundingDivideByPOT; Jacob et al. appendix B)."""
    _require(0 <= exponent <= 31, f"the exponent {exponent} is outside [0, 31]")
    mask = 2**exponent - 1
    remainder = int32(x) & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def requantize(x: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    """x * multiplier * 2^(shift - 31), rounded to an integer (TFLite MultiplyByQuantizedMultiplier).

    "double" rounds twice, in the high multiplication and again in the right shift, as gemmlowp and TFLite by default;
    "single" rounds the exact product once, ties up, as TFLite built with TFLITE_SINGLE_ROUNDING.
    "acc64" is TFLite's overload for 64-bit accumulators: the multiplier is first rounded to 15 bits.
    """
    if rounding == "acc64":
        return _requantize_wide(x, multiplier, shift)
    _require(MIN_SHIFT <= shift <= MAX_SHIFT, f"the shift {shift} is outside [{MIN_SHIFT}, {MAX_SHIFT}]")
    _require(0 <= multiplier <= INT32_MAX, f"the multiplier {multiplier} is outside [0, 2^31)")
    if rounding == "double":
        product = saturating_rounding_doubling_high_mul(x << max(shift, 0), multiplier)
        return rounding_divide_by_pot(product, max(-shift, 0))
    if rounding == "single":
        return int32((int32(x) * multiplier + 2 ** (30 - shift)) >> (31 - shift))
    raise ValueError(f"unknown rounding {rounding!r}")


def _requantize_wide(x: int, multiplier: int, shift: int) -> int:
    """An accumulator of at most 48 bits, by a multiplier of 15 bits, the product rounded once, ties up."""
    _require(MIN_SHIFT <= shift <= WIDE_MAX_SHIFT, f"the shift {shift} is outside [{MIN_SHIFT}, {WIDE_MAX_SHIFT}]")
    if abs(x) >= 2**WIDE_ACCUMULATOR_BITS:
        raise OverflowError(f"{x} does not fit in 48 bits")
    reduced = 0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + 2**15) // 2**16
    return int32(math.floor(Fraction(x * reduced, 2 ** (15 - shift)) + Fraction(1, 2)))


def _output_stage(x: int, multiplier: int, shift: int, zero_point: int, low: int, high: int, rounding: Rounding) -> int:
    """An accumulator's code: scale down, add the zero point, clamp (Jacob et al. section 2.4), in this order."""
    return clamp(requantize(x, multiplier, shift, rounding) + zero_point, low, high)


# the real-number boundary ---------------------------------------------------------------------------------------------


def qparams_from_range(lo: float, hi: float, qmin: int, qmax: int) -> tuple[float, int]:
    """The (scale, zero point) of the real range [lo, hi] (Jacob et al. eq. 13; TFLite ChooseQuantizationParams).

    The range is widened to hold 0. The zero point comes from the endpoint with the smaller rounding error. The empty
    range takes scale 1 and the code nearest to 0.
    """
    _require(math.isfinite(lo) and math.isfinite(hi) and lo <= hi, f"[{lo}, {hi}] is not a range")
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return 1.0, clamp(0, qmin, qmax)
    scale = float32((hi - lo) / (qmax - qmin))
    _require(0 < scale < math.inf, f"the range [{lo}, {hi}] has no single-precision scale")
    # The scale is a single from here on: the zero point must suit the scale that will be used.
    error_from_lo = abs(qmin) + abs(lo / scale)
    error_from_hi = abs(qmax) + abs(hi / scale)
    zero_point = qmin - lo / scale if error_from_lo < error_from_hi else qmax - hi / scale
    return scale, clamp(round_half_away(zero_point), qmin, qmax)


def quantize(x: float, scale: float, zero_point: int, qmin: int, qmax: int) -> int:
    """The code of a real: clamp(round_half_away(x / scale) + Z), dividing in single precision (Jacob et al. eq. 1)."""
    _require(not math.isnan(x), "NaN has no code")
    # A double quotient of two singles, rounded to single, is the IEEE single quotient: 53 bits >= 2 * 24 + 2.
    quotient = float32(float32(x) / float32(scale))
    if math.isinf(quotient):
        return qmax if quotient > 0 else qmin
    return clamp(round_half_away(quotient) + zero_point, qmin, qmax)


def dequantize(code: int, scale: float, zero_point: int) -> float:
    """The real a code stands for, S(q - Z), in single precision (Jacob et al. eq. 1)."""
    return float32(float32(scale) * (code - zero_point))


# convolutions and dot products ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A sliding window over height and width."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding

    def output(self, height: int, width: int) -> Pair:
        """How many positions the window takes down and across the padded image."""
        top, left, bottom, right = self.padding
        rows = (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1
        columns = (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1
        _require(rows > 0 and columns > 0, "the window is larger than the padded image")
        return rows, columns

    def taps(self, row: int, column: int, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
        """The (kernel row, kernel column, image row, image column) of every tap inside the image, at one position.

        Taps on the padding are left out. They stand for the real 0, which is exact, and adds nothing to a sum.
        """
        for kernel_row, kernel_column in indices(self.kernel):
            y = row * self.stride[0] - self.padding[0] + kernel_row * self.dilation[0]
            x = column * self.stride[1] - self.padding[1] + kernel_column * self.dilation[1]
            if 0 <= y < height and 0 <= x < width:
                yield kernel_row, kernel_column, y, x


def _require_per_channel(channels: int, *sequences: Sequence[int]) -> None:
    _require(all(len(s) == channels for s in sequences), f"bias, multiplier and shift need {channels} values each")


def conv2d(
    x: Tensor, weight: Tensor, bias: Sequence[int], multiplier: Sequence[int], shift: Sequence[int], *,
    stride: Pair = (1, 1), dilation: Pair = (1, 1), padding: Padding = (0, 0, 0, 0), groups: int = 1,
    input_zero_point: int, weight_zero_point: int = 0, output_zero_point: int, clamp_min: int, clamp_max: int,
    rounding: Rounding,
) -> Tensor:  # fmt: skip
    """Convolution by weight [outputs, kernel height, kernel width, channels / groups] (Jacob et al. eq. 4, 5, 11).

    acc = bias + sum (w - Z_w)(x - Z_x), brought to a code by each output channel's own multiplier.
    """
    batch, height, width, channels = x.shape
    outputs, kernel_height, kernel_width, depth = weight.shape
    _require(channels == depth * groups and outputs % groups == 0, "the channels do not divide into the groups")
    _require_per_channel(outputs, bias, multiplier, shift)
    window = Window((kernel_height, kernel_width), stride, dilation, padding)

    def element(index: Index) -> int:
        n, row, column, o = index
        first = o // (outputs // groups) * depth
        acc = bias[o]
        for ky, kx, iy, ix in window.taps(row, column, height, width):
            for c in range(depth):
                acc += (weight.at(o, ky, kx, c) - weight_zero_point) * (x.at(n, iy, ix, first + c) - input_zero_point)
        return _output_stage(acc, multiplier[o], shift[o], output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of((batch, *window.output(height, width), outputs), element)


def depthwise_conv2d(
    x: Tensor, weight: Tensor, bias: Sequence[int], multiplier: Sequence[int], shift: Sequence[int], *,
    stride: Pair = (1, 1), dilation: Pair = (1, 1), padding: Padding = (0, 0, 0, 0),
    input_zero_point: int, weight_zero_point: int = 0, output_zero_point: int, clamp_min: int, clamp_max: int,
    rounding: Rounding,
) -> Tensor:  # fmt: skip
    """Convolution of each channel alone by weight [kernel height, kernel width, outputs] (TFLite DEPTHWISE_CONV_2D).

    With depth multiplier d = outputs / channels, output c * d + m reads input channel c.
    """
    batch, height, width, channels = x.shape
    kernel_height, kernel_width, outputs = weight.shape
    _require(outputs % channels == 0, f"{outputs} outputs are no multiple of {channels} channels")
    _require_per_channel(outputs, bias, multiplier, shift)
    window = Window((kernel_height, kernel_width), stride, dilation, padding)

    def element(index: Index) -> int:
        n, row, column, o = index
        c = o // (outputs // channels)
        acc = bias[o]
        for ky, kx, iy, ix in window.taps(row, column, height, width):
            acc += (weight.at(ky, kx, o) - weight_zero_point) * (x.at(n, iy, ix, c) - input_zero_point)
        return _output_stage(acc, multiplier[o], shift[o], output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of((batch, *window.output(height, width), outputs), element)


def fully_connected(
    x: Tensor, weight: Tensor, bias: Sequence[int], multiplier: Sequence[int], shift: Sequence[int], *,
    input_zero_point: int, weight_zero_point: int = 0, output_zero_point: int, clamp_min: int, clamp_max: int,
    rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The last axis of x times weight [outputs, depth] (Jacob et al. eq. 4; TFLite FULLY_CONNECTED)."""
    outputs, depth = weight.shape
    _require(x.shape[-1:] == (depth,), f"an input of shape {x.shape} does not end in {depth}")
    _require_per_channel(outputs, bias, multiplier, shift)

    def element(index: Index) -> int:
        *position, o = index
        acc = bias[o]
        for k in range(depth):
            acc += (weight.at(o, k) - weight_zero_point) * (x.at(*position, k) - input_zero_point)
        return _output_stage(acc, multiplier[o], shift[o], output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of((*x.shape[:-1], outputs), element)


def transpose_conv2d(
    x: Tensor, weight: Tensor, bias: Sequence[int], multiplier: Sequence[int], shift: Sequence[int], *,
    stride: Pair, crop: Pair, size: Pair,
    input_zero_point: int, weight_zero_point: int = 0, output_zero_point: int, clamp_min: int, clamp_max: int,
    rounding: Rounding,
) -> Tensor:  # fmt: skip
    """Every input pixel adds its multiple of weight [outputs, height, width, channels] (TFLite TRANSPOSE_CONV).

    Pixel (y, x) reaches from (y * stride - crop) on; what falls outside `size` is lost.
    """
    batch, height, width, channels = x.shape
    outputs, kernel_height, kernel_width, depth = weight.shape
    _require(channels == depth, f"a weight of depth {depth} does not fit {channels} channels")
    _require_per_channel(outputs, bias, multiplier, shift)
    sums = {index: bias[index[3]] for index in indices((batch, *size, outputs))}
    for n, iy, ix, ky, kx in indices((batch, height, width, kernel_height, kernel_width)):
        row, column = iy * stride[0] + ky - crop[0], ix * stride[1] + kx - crop[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            for o, c in indices((outputs, depth)):
                product = (weight.at(o, ky, kx, c) - weight_zero_point) * (x.at(n, iy, ix, c) - input_zero_point)
                sums[n, row, column, o] += product

    def element(index: Index) -> int:
        o = index[3]
        return _output_stage(sums[index], multiplier[o], shift[o], output_zero_point, clamp_min, clamp_max, rounding)  # type: ignore[index]

    return Tensor.of((batch, *size, outputs), element)


def batch_matmul(
    a: Tensor, b: Tensor, transpose: Pair, multiplier: int, shift: int, *, zero_points: Triple,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The product of the last two axes, either factor transposed first; zero points are (a, b, output) (TFLite BATCH_MATMUL)."""
    zero_a, zero_b, zero_output = zero_points
    rows = a.shape[-1] if transpose[0] else a.shape[-2]
    depth = a.shape[-2] if transpose[0] else a.shape[-1]
    columns = b.shape[-2] if transpose[1] else b.shape[-1]

    def element(index: Index) -> int:
        *batch, row, column = index
        acc = 0
        for k in range(depth):
            first = _at_broadcast(a, (*batch, k, row) if transpose[0] else (*batch, row, k))
            second = _at_broadcast(b, (*batch, column, k) if transpose[1] else (*batch, k, column))
            acc += (first - zero_a) * (second - zero_b)
        return _output_stage(acc, multiplier, shift, zero_output, clamp_min, clamp_max, rounding)

    return Tensor.of((*_broadcast_shape(a.shape[:-2], b.shape[:-2]), rows, columns), element)


# element by element ---------------------------------------------------------------------------------------------------


def _broadcast_shape(a: Index, b: Index) -> Index:
    """The common shape: aligned at the last axis, an axis of 1 (or none) stretches to the other's size."""
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    _require(all(m == n or 1 in (m, n) for m, n in pairs), f"shapes {a} and {b} do not broadcast")
    return tuple(n if m == 1 else m for m, n in pairs)


def _at_broadcast(tensor: Tensor, index: Index) -> int:
    """The element that a tensor shows at an index of the common shape."""
    own = index[len(index) - len(tensor.shape) :]
    return tensor.at(*(0 if n == 1 else i for i, n in zip(own, tensor.shape, strict=True)))


def add(
    a: Tensor, b: Tensor, *, zero_points: Triple, multipliers: Triple, shifts: Triple, left_shift: int = 20,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """a + b, both brought to a common finer scale first; triples are (a, b, output) (TFLite ADD).

    The real multipliers are S_a / 2S, S_b / 2S and 2S / (2^left_shift * S_output), where S = max(S_a, S_b).
    """
    zero_a, zero_b, zero_output = zero_points

    def element(index: Index) -> int:
        lifted_a = (_at_broadcast(a, index) - zero_a) << left_shift
        lifted_b = (_at_broadcast(b, index) - zero_b) << left_shift
        total = requantize(lifted_a, multipliers[0], shifts[0], rounding)
        total += requantize(lifted_b, multipliers[1], shifts[1], rounding)
        return _output_stage(total, multipliers[2], shifts[2], zero_output, clamp_min, clamp_max, rounding)

    return Tensor.of(_broadcast_shape(a.shape, b.shape), element)


def sub(
    a: Tensor, b: Tensor, *, zero_points: Triple, multipliers: Triple, shifts: Triple, left_shift: int = 20,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """a - b, as `add` but for the sign (TFLite SUB)."""
    zero_a, zero_b, zero_output = zero_points

    def element(index: Index) -> int:
        lifted_a = (_at_broadcast(a, index) - zero_a) << left_shift
        lifted_b = (_at_broadcast(b, index) - zero_b) << left_shift
        total = requantize(lifted_a, multipliers[0], shifts[0], rounding)
        total -= requantize(lifted_b, multipliers[1], shifts[1], rounding)
        return _output_stage(total, multipliers[2], shifts[2], zero_output, clamp_min, clamp_max, rounding)

    return Tensor.of(_broadcast_shape(a.shape, b.shape), element)


def mul(
    a: Tensor, b: Tensor, *, zero_points: Triple, multiplier: int, shift: int,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """a * b with the real multiplier S_a * S_b / S_output; zero points are (a, b, output) (TFLite MUL)."""
    zero_a, zero_b, zero_output = zero_points

    def element(index: Index) -> int:
        product = (_at_broadcast(a, index) - zero_a) * (_at_broadcast(b, index) - zero_b)
        return _output_stage(product, multiplier, shift, zero_output, clamp_min, clamp_max, rounding)

    return Tensor.of(_broadcast_shape(a.shape, b.shape), element)


def rescale(
    x: Tensor, multiplier: int, shift: int, *, input_zero_point: int, output_zero_point: int,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The same reals under another scale and zero point, by S_input / S_output (TFLite QUANTIZE from codes)."""

    def element(index: Index) -> int:
        difference = x.at(*index) - input_zero_point
        return _output_stage(difference, multiplier, shift, output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of(x.shape, element)


# reductions -----------------------------------------------------------------------------------------------------------


def _pool(x: Tensor, window: Window, reduce: Callable[[list[int]], int], clamp_min: int, clamp_max: int) -> Tensor:
    """One value for the codes each window covers, channel by channel; the padding is not covered."""
    batch, height, width, channels = x.shape

    def element(index: Index) -> int:
        n, row, column, c = index
        codes = [x.at(n, iy, ix, c) for _, _, iy, ix in window.taps(row, column, height, width)]
        _require(bool(codes), "a pooling window lies wholly on the padding")
        return clamp(reduce(codes), clamp_min, clamp_max)

    return Tensor.of((batch, *window.output(height, width), channels), element)


def average_pool2d(
    x: Tensor, kernel: Pair, stride: Pair, padding: Padding, signed: bool, clamp_min: int, clamp_max: int
) -> Tensor:
    """The mean of the raw codes of the cells inside the image (TFLite AVERAGE_POOL_2D).

    Half a count is added away from *code* 0, whatever the zero point, and the quotient truncated as in C.
    """

    def average(codes: list[int]) -> int:
        total, count = sum(codes), len(codes)
        half = count // 2
        return truncating_divide(total - half if signed and total <= 0 else total + half, count)

    return _pool(x, Window(kernel, stride, (1, 1), padding), average, clamp_min, clamp_max)


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Padding, clamp_min: int, clamp_max: int) -> Tensor:
    """The largest raw code of the cells inside the image (TFLite MAX_POOL_2D)."""
    return _pool(x, Window(kernel, stride, (1, 1), padding), max, clamp_min, clamp_max)


def fold_mean(multiplier: int, shift: int, count: int) -> Pair:
    """The (multiplier, shift) with 1 / count folded in, truncating (TFLite MEAN).

    The multiplier is lifted by floor(log2(count)) first to keep its bits, as far as 64 bits and the least shift allow.
    """
    lift = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << lift) // count, shift - lift


def mean(
    x: Tensor, axes: Sequence[int], multiplier: int, shift: int, *, input_zero_point: int, output_zero_point: int,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The mean over some axes, kept as axes of 1; the real multiplier is S_input / S_output (TFLite MEAN)."""
    _require(all(0 <= axis < len(x.shape) for axis in axes), f"the axes {axes} are not all in shape {x.shape}")
    summed = tuple(n if axis in axes else 1 for axis, n in enumerate(x.shape))
    count = math.prod(summed)
    multiplier, shift = fold_mean(multiplier, shift, count)
    return sum_over(
        x, axes, multiplier, shift, input_zero_point=input_zero_point, output_zero_point=output_zero_point,
        clamp_min=clamp_min, clamp_max=clamp_max, rounding=rounding,
    )  # fmt: skip


def sum_over(
    x: Tensor, axes: Sequence[int], multiplier: int, shift: int, *, input_zero_point: int, output_zero_point: int,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The sum over some axes, kept as axes of 1; the real multiplier is S_input / S_output (TFLite SUM)."""
    summed = tuple(n if axis in axes else 1 for axis, n in enumerate(x.shape))
    count = math.prod(summed)

    def element(index: Index) -> int:
        # On every axis either the output index or the offset is 0.
        total = sum(x.at(*(i + j for i, j in zip(index, offset, strict=True))) for offset in indices(summed))
        centred = total - count * input_zero_point
        return _output_stage(centred, multiplier, shift, output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of(tuple(1 if axis in axes else n for axis, n in enumerate(x.shape)), element)


# moving bytes ---------------------------------------------------------------------------------------------------------


def pad(x: Tensor, paddings: Sequence[Pair], value: int) -> Tensor:
    """x with (before, after) cells of `value`, the zero point as a rule, added to every axis (TFLite PADV2)."""
    _require(len(paddings) == len(x.shape), "every axis needs its padding")

    def element(index: Index) -> int:
        inner = [i - before for i, (before, _) in zip(index, paddings, strict=True)]
        inside = all(0 <= i < n for i, n in zip(inner, x.shape, strict=True))
        return x.at(*inner) if inside else value

    return Tensor.of(tuple(n + sum(extra) for n, extra in zip(x.shape, paddings, strict=True)), element)


def concatenation(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """The tensors one after another along an axis; all share one scale and zero point (Jacob et al. appendix A.3)."""
    first = tensors[0].shape
    _require(0 <= axis < len(first), f"the axis {axis} is outside a shape of {len(first)} axes")
    for tensor in tensors:
        agrees = tensor.shape[:axis] == first[:axis] and tensor.shape[axis + 1 :] == first[axis + 1 :]
        _require(agrees and len(tensor.shape) == len(first), f"{tensor.shape} and {first} differ beside axis {axis}")

    def element(index: Index) -> int:
        position = index[axis]
        for tensor in tensors:
            if position < tensor.shape[axis]:
                return tensor.at(*index[:axis], position, *index[axis + 1 :])
            position -= tensor.shape[axis]
        raise IndexError(index)

    return Tensor.of((*first[:axis], sum(t.shape[axis] for t in tensors), *first[axis + 1 :]), element)


def reshape(x: Tensor, shape: Index) -> Tensor:
    """The same codes in the same row-major order under another shape."""
    return Tensor(shape, list(x.data))


def transpose(x: Tensor, permutation: Sequence[int]) -> Tensor:
    """x with its axes reordered: output axis i is input axis permutation[i]."""
    _require(sorted(permutation) == list(range(len(x.shape))), f"{permutation} does not permute {len(x.shape)} axes")

    def element(index: Index) -> int:
        return x.at(*(index[permutation.index(axis)] for axis in range(len(x.shape))))

    return Tensor.of(tuple(x.shape[axis] for axis in permutation), element)


def slice_cells(x: Tensor, begin: Sequence[int], stride: Sequence[int], size: Index) -> Tensor:
    """Cell i of each output axis is cell begin + i * stride of the input's (TFLite SLICE, STRIDED_SLICE)."""

    def element(index: Index) -> int:
        return x.at(*(first + i * step for i, first, step in zip(index, begin, stride, strict=True)))

    return Tensor.of(size, element)


def gather(x: Tensor, axis: int, indices_of: Sequence[int]) -> Tensor:
    """Cell i of the output's axis is cell indices_of[i] of the input's (TFLite GATHER)."""

    def element(index: Index) -> int:
        return x.at(*index[:axis], indices_of[index[axis]], *index[axis + 1 :])

    return Tensor.of((*x.shape[:axis], len(indices_of), *x.shape[axis + 1 :]), element)


def take(table: Tensor, numbers: Tensor) -> Tensor:
    """Row n of a table, of one for all samples or of the sample's own, for each number n (TFLite GATHER).

    Numbers below 0 count from the end; one outside of the table takes its first or its last row.
    """
    rows, ahead = table.shape[1], len(numbers.shape)

    def element(index: Index) -> int:
        number = numbers.at(*index[:ahead])
        row = min(max(number + rows if number < 0 else number, 0), rows - 1)
        return table.at(index[0] if table.shape[0] > 1 else 0, row, *index[ahead:])

    return Tensor.of((*numbers.shape, *table.shape[2:]), element)


# comparing ------------------------------------------------------------------------------------------------------------


def extreme(a: Tensor, b: Tensor, pick: Callable[[int, int], int]) -> Tensor:
    """The greater or the less of two codes of one scale and zero point (TFLite MAXIMUM, MINIMUM)."""
    return Tensor.of(_broadcast_shape(a.shape, b.shape), lambda i: pick(_at_broadcast(a, i), _at_broadcast(b, i)))


def reduce_extreme(x: Tensor, axes: Sequence[int], pick: Callable[[list[int]], int]) -> Tensor:
    """The greatest or the least code over whole axes, which stay as ones (TFLite REDUCE_MAX, REDUCE_MIN)."""

    def element(index: Index) -> int:
        return pick([x.at(*i) for i in indices(x.shape) if all(a in axes or i[a] == index[a] for a in range(len(i)))])

    return Tensor.of(tuple(1 if axis in axes else n for axis, n in enumerate(x.shape)), element)


def arg_max(x: Tensor, axis: int) -> Tensor:
    """The index of the greatest code along an axis, the first of equals (TFLite ARG_MAX)."""

    def element(index: Index) -> int:
        row = [x.at(*index[:axis], i, *index[axis:]) for i in range(x.shape[axis])]
        return row.index(max(row))

    return Tensor.of((*x.shape[:axis], *x.shape[axis + 1 :]), element)


# resizing -------------------------------------------------------------------------------------------------------------


def resize_coordinate(index: int, source: int, target: int, align_corners: bool, half_pixel_centers: bool) -> Triple:
    """The two source cells a target cell lies between, and its distance from the first in 1/1024ths (TFLite)."""
    scale = (1024 * source + target // 2) // target
    if align_corners and target > 1:
        scale = (1024 * (source - 1) + (target - 1) // 2) // (target - 1)
    position = index * scale + (scale // 2 - 512 if half_pixel_centers else 0)
    lower = min(max(truncating_divide(position, 1024), 0), source - 1)
    upper = min(truncating_divide(position + 1023, 1024), source - 1)
    return lower, upper, position - 1024 * lower


def resize_bilinear(x: Tensor, size: Pair, align_corners: bool, half_pixel_centers: bool) -> Tensor:
    """An image of another size: four products of 20 bits, rounded half away from code 0 (TFLite RESIZE_BILINEAR)."""

    def element(index: Index) -> int:
        n, row, column, c = index
        y0, y1, dy = resize_coordinate(row, x.shape[1], size[0], align_corners, half_pixel_centers)
        x0, x1, dx = resize_coordinate(column, x.shape[2], size[1], align_corners, half_pixel_centers)
        upper = x.at(n, y0, x0, c) * (1024 - dx) + x.at(n, y0, x1, c) * dx
        lower = x.at(n, y1, x0, c) * (1024 - dx) + x.at(n, y1, x1, c) * dx
        return round_half_away(Fraction(upper * (1024 - dy) + lower * dy, 2**20))

    return Tensor.of((x.shape[0], *size, x.shape[3]), element)


# softmax --------------------------------------------------------------------------------------------------------------

# Qm.n names an int32 with m integer bits and n fractional bits besides its sign: m + n = 31.
ONE_Q0_31 = INT32_MAX  # 1 itself does not fit in Q0.31: gemmlowp's "one" is the largest value.
ONE_Q2_29 = 2**29
ONE_THIRD_Q0_31 = 715827883
EXP_MINUS_EIGHTH_Q0_31 = 1895147668
EXP_MINUS_POWER_Q0_31 = {  # e^-(2^k) for each k
    -2: 1672461947,
    -1: 1302514674,
    0: 790015084,
    1: 290630308,
    2: 39332535,
    3: 720401,
    4: 242,
}
FORTY_EIGHT_SEVENTEENTHS_Q2_29 = 1515870810
MINUS_THIRTY_TWO_SEVENTEENTHS_Q2_29 = -1010580540
DIFF_INTEGER_BITS = 5
SUM_INTEGER_BITS = 12

_times = saturating_rounding_doubling_high_mul


def _saturating_shift_left(x: int, bits: int) -> int:
    return clamp(x << bits, INT32_MIN, INT32_MAX)


def _exp_between_minus_quarter_and_zero(a: int) -> int:
    """e^a on [-1/4, 0) in Q0.31: a Taylor polynomial of degree 4 about -1/8 (Jacob et al. appendix A.1; gemmlowp)."""
    x = a + 2**28
    x2 = _times(x, x)
    x3 = _times(x2, x)
    x4 = _times(x2, x2)
    cubic_and_quartic = _times(rounding_divide_by_pot(x4, 2) + x3, ONE_THIRD_Q0_31)
    beyond_linear = rounding_divide_by_pot(cubic_and_quartic + x2, 1)
    return EXP_MINUS_EIGHTH_Q0_31 + _times(EXP_MINUS_EIGHTH_Q0_31, x + beyond_linear)


def exp_on_negative_values(a: int, integer_bits: int) -> int:
    """e^a for a <= 0 with that many integer bits, in Q0.31 (Jacob et al. appendix A.1; gemmlowp).

    a is split into a part in [-1/4, 0), for the polynomial, and a multiple of 1/4, each of whose bits is one factor.
    """
    _require(int32(a) <= 0, f"{a} is not negative")
    if a == 0:
        return ONE_Q0_31
    fractional_bits = 31 - integer_bits
    if integer_bits > 5 and a < -(32 << fractional_bits):
        return 0
    quarter = 1 << (fractional_bits - 2)
    small = (a & (quarter - 1)) - quarter
    multiple = small - a
    result = _exp_between_minus_quarter_and_zero(_saturating_shift_left(small, integer_bits))
    for k, factor in EXP_MINUS_POWER_Q0_31.items():
        if k < integer_bits and multiple & (1 << (fractional_bits + k)):
            result = _times(result, factor)
    return result


def one_over_one_plus_x(a: int) -> int:
    """1 / (1 + a) for a in [0, 1), both in Q0.31 (Jacob et al. appendix A.1; gemmlowp).

    Three Newton-Raphson steps in Q2.29 approach the reciprocal of d = (1 + a) / 2, and the result is half of it.
    """
    _require(0 <= a <= INT32_MAX, f"{a} is outside [0, 1) in Q0.31")
    d = (a + ONE_Q0_31 + 1) // 2  # a half sum, ties away from zero; neither term is negative
    x = FORTY_EIGHT_SEVENTEENTHS_Q2_29 + _times(d, MINUS_THIRTY_TWO_SEVENTEENTHS_Q2_29)
    for _ in range(3):
        error = ONE_Q2_29 - _times(d, x)
        x += _saturating_shift_left(_times(x, error), 2)  # the product of two Q2.29 is Q4.27
    return _saturating_shift_left(x, 1)  # Q2.29 halved is the same bits as Q1.30; one bit more makes Q0.31


def _reciprocal(total: int) -> Pair:
    """1 / total of a Q12.19 as (r, b), meaning r * 2^-b with r in Q0.31 (TFLite GetReciprocal)."""
    leading_zeros = 32 - int32(total).bit_length()
    return one_over_one_plus_x((total << leading_zeros) - 2**31), SUM_INTEGER_BITS - leading_zeros


def softmax_multiplier(real: float) -> Pair:
    """The factor from differences of codes to Q5.26, `real` being beta * scale (TFLite PreprocessSoftmaxScaling).

    Its left shift may reach 31, past what `requantize` takes: the only difference within the radius is then 0.
    """
    scaled = min(real * 2 ** (31 - DIFF_INTEGER_BITS), float(INT32_MAX))
    _require(scaled > 1, f"the input scale {real} is too small for softmax")
    return _normalize(scaled)


def softmax_radius(left_shift: int) -> int:
    """The largest difference of codes that stays within 31 in Q5.26 (TFLite CalculateInputRadius)."""
    return (31 << (31 - DIFF_INTEGER_BITS)) >> left_shift


def _softmax_row(codes: Sequence[int], multiplier: int, left_shift: int, low: int) -> list[int]:
    """One softmax over a row, output codes from `low` to `low` + 255 (TFLite SOFTMAX, the fixed-point reference)."""
    largest, radius = max(codes), softmax_radius(left_shift)

    def exponential(code: int) -> int:
        scaled = saturating_rounding_doubling_high_mul((code - largest) << left_shift, multiplier)
        return exp_on_negative_values(scaled, DIFF_INTEGER_BITS)

    # Past the radius the exponential counts as 0.
    exponentials = [exponential(code) if largest - code <= radius else 0 for code in codes]
    total = sum(rounding_divide_by_pot(e, SUM_INTEGER_BITS) for e in exponentials)
    reciprocal, bits = _reciprocal(total)
    exponent = bits + 31 - 8

    def output(e: int) -> int:
        # gemmlowp divides by at most 2^31. A sum of 512 or more asks for more, where each quotient is below 1/2.
        quotient = rounding_divide_by_pot(_times(reciprocal, e), exponent) if exponent <= 31 else 0
        return clamp(quotient + low, low, low + 255)

    return [output(e) for e in exponentials]


def softmax(x: Tensor, scale: float, *, signed: bool, beta: float = 1.0) -> Tensor:
    """Softmax of beta * scale * x over the last axis, in integers alone (TFLite SOFTMAX, the fixed-point reference).

    The output scale is 1/256 and its zero point is the least code: -128 for int8 (signed), 0 for uint8.
    """
    multiplier, left_shift = softmax_multiplier(beta * scale)
    depth = x.shape[-1]
    rows = [x.data[start : start + depth] for start in range(0, len(x.data), depth)]
    low = -128 if signed else 0
    return Tensor(x.shape, [code for row in rows for code in _softmax_row(row, multiplier, left_shift, low)])


# functions of one value ----------------------------------------------------------------------------------------------

SIGMOID_INTEGER_BITS = 4
INT16_MIN = -(2**15)
INT16_MAX = 2**15 - 1


def _half_reciprocal(a: int) -> int:
    """2 / (1 + a) of a Q0.31 in [0, 1), in Q2.29 (gemmlowp one_minus_x_over_one_plus_x_for_x_in_0_1)."""
    d = (a + ONE_Q0_31 + 1) // 2
    x = FORTY_EIGHT_SEVENTEENTHS_Q2_29 + _times(d, MINUS_THIRTY_TWO_SEVENTEENTHS_Q2_29)
    for _ in range(3):
        x += _saturating_shift_left(_times(x, ONE_Q2_29 - _times(d, x)), 2)
    return x


def fixed_logistic(a: int, integer_bits: int) -> int:
    """1 / (1 + e^-a) in Q0.31 (Jacob et al. appendix A.1; gemmlowp logistic): mirrored below 0, one half at 0."""
    if a == 0:
        return 2**30
    positive = one_over_one_plus_x(exp_on_negative_values(-abs(a), integer_bits))
    return positive if a > 0 else ONE_Q0_31 - positive


def fixed_tanh(a: int, integer_bits: int) -> int:
    """tanh a = (1 - e^-2a) / (1 + e^-2a) in Q0.31 (Jacob et al. appendix A.1; gemmlowp tanh): odd.

    Doubling a moves its binary point: the same integer, with one integer bit more.
    """
    if a == 0:
        return 0
    power = exp_on_negative_values(-abs(a), integer_bits + 1)
    positive = _saturating_shift_left(_half_reciprocal(power) - ONE_Q2_29, 2)
    return positive if a > 0 else -positive


def _sigmoidal(x: Tensor, scale: float, zero_point: int, at_ends: Pair, inside: Callable[[int], int]) -> Tensor:
    """A bounded function of scale * (x - zero_point): `at_ends` from 15 on, else `inside` of a Q4.27 (TFLite LOGISTIC).

    TFLite's radius is 0 from a scale of 8 on, and its kernel then gives an end at 0 too; 0 is inside here.
    """
    multiplier, shift = _normalize(scale * 2 ** (31 - SIGMOID_INTEGER_BITS))
    if shift < -31:  # TFLite's QuantizeMultiplier: a factor that moves nothing is 0
        multiplier, shift = 0, 0
    reach = 15 << (31 - SIGMOID_INTEGER_BITS)
    radius = reach >> shift if shift >= 0 else reach << -shift

    def element(index: Index) -> int:
        step = x.at(*index) - zero_point
        if step and abs(step) >= radius:
            return at_ends[step > 0]
        return clamp(inside(requantize(step, multiplier, shift, "double") if step else 0), *at_ends)

    return Tensor.of(x.shape, element)


def logistic(x: Tensor, scale: float, zero_point: int, *, signed: bool) -> Tensor:
    """The logistic function in 256ths, from the least code on (TFLite LOGISTIC, the fixed-point reference)."""
    low = -128 if signed else 0

    def inside(a: int) -> int:
        return rounding_divide_by_pot(fixed_logistic(a, SIGMOID_INTEGER_BITS), 23) + low

    return _sigmoidal(x, scale, zero_point, (low, low + 255), inside)


def tanh(x: Tensor, scale: float, zero_point: int, *, signed: bool) -> Tensor:
    """tanh in 128ths about the middle code (TFLite TANH, the fixed-point reference)."""
    middle = 0 if signed else 128

    def inside(a: int) -> int:
        return rounding_divide_by_pot(fixed_tanh(a, SIGMOID_INTEGER_BITS), 24) + middle

    return _sigmoidal(x, scale, zero_point, (middle - 128, middle + 127), inside)


def sigmoid_table() -> list[int]:
    """2^16 / (1 + e^-(k / 24)) for k from 0 to 254, to nearest, then 2^16 - 1 (TFLite sigmoid_table_uint16).

    Each is raised by half of what the straight line to the next one misses half-way.
    """

    def curve(k: float) -> float:
        return 2**16 / (1 + math.exp(-k / 24))

    def raised(k: int) -> float:
        return curve(k) + (curve(k + 0.5) - (curve(k) + curve(k + 1)) / 2) / 2

    return [*(math.floor(raised(k) + 0.5) for k in range(255)), 2**16 - 1]


SIGMOID_TABLE = sigmoid_table()


def _between(argument: int, bits: int, beyond: int) -> int:
    """The table's value, 2^bits steps to a segment, in 2^-(16 + bits); past its last segment, `beyond`."""
    segment, rest = divmod(abs(argument), 2**bits)
    if segment >= 255:
        return beyond
    low, high = SIGMOID_TABLE[segment : segment + 2]
    return (low << bits) + rest * (high - low)


def _logistic_at(argument: int) -> int:
    """The logistic function at an argument in 12288ths, in 2^-15."""
    result = _between(argument, 9, INT16_MAX << 10)
    return (result + 2**9 if argument >= 0 else 2**25 - result + 2**9 - 1) >> 10


def _tanh_at(argument: int) -> int:
    """tanh at an argument in 12288ths, in 2^-15."""
    result = _between(argument, 8, 0xFFFF << 8)
    return (result - 2**23 + 2**7 if argument >= 0 else -result + 2**23 + 2**7 - 1) >> 8


def _near_power(scale: float) -> int | None:
    """The exponent of the power of two that a scale is taken for (TFLite CheckedLog2, in float32)."""
    logarithm = float32(float32(math.log(scale)) * float32(1 / float32(math.log(2))))
    near = abs(float32(logarithm - round(logarithm))) < float32(1e-3)
    return round(logarithm) if near else None


def _table_argument(code: int, scale: float, powers: Sequence[int]) -> int:
    """scale * code in 12288ths: the factor's 15 high bits, truncated, then one rounding (TFLite LOGISTIC on int16)."""
    power = _near_power(scale)
    if power in powers:
        return code * 3 << (power + 12)
    factor, shift = scale * 4096 * 3, 0
    while factor <= INT16_MAX / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    half = 1 << (shift - 1) if shift > 0 else 0
    return int32(code * math.floor(factor) + half) >> shift


def logistic_int16(x: Tensor, scale: float) -> Tensor:
    """The logistic function in 2^-15 by a table of 2^9 steps a segment (TFLite LOGISTIC on int16)."""
    return Tensor.of(x.shape, lambda index: _logistic_at(_table_argument(x.at(*index), scale, (-12,))))


def tanh_int16(x: Tensor, scale: float) -> Tensor:
    """tanh(x) = 2 / (1 + e^-2x) - 1 in 2^-15 by the same table, 2^8 steps a segment (TFLite TANH on int16)."""
    return Tensor.of(x.shape, lambda index: _tanh_at(_table_argument(x.at(*index), scale, (-12, -11))))


def _times_int16(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul on 16 bits (gemmlowp); b is not negative, so nothing saturates."""
    product = a * b
    return truncating_divide(product + (2**14 if product >= 0 else 1 - 2**14), 2**15)


def hard_swish(
    x: Tensor, scale: float, zero_point: int, output_scale: float, output_zero_point: int, *, low: int, high: int
) -> Tensor:
    """x * relu6(x + 3) / 6 in 16-bit fixed point (TFLite HARD_SWISH)."""
    fine = scale / 128
    to_output, output_exponent = _normalize(fine / output_scale)
    to_unit, unit_exponent = _normalize(fine / (3 / 32768))
    _require(output_exponent <= 0, f"the output scale {output_scale} is too small for {scale}")
    to_output, to_unit = (min((m + 2**15) >> 16, INT16_MAX) for m in (to_output, to_unit))

    def element(index: Index) -> int:
        raised = (x.at(*index) - zero_point) * 128
        value = _times_int16(raised, to_output)
        unit = raised
        if unit_exponent > 0:
            unit = clamp(unit << (unit_exponent - 1), INT16_MIN, INT16_MAX)
        unit = _times_int16(unit, to_unit)
        if unit_exponent > 0:
            unit = clamp(unit << 1, INT16_MIN, INT16_MAX)
        if unit_exponent < 0:
            unit = rounding_divide_by_pot(unit, -unit_exponent)
        share = (unit + 2**15) >> 1
        product = truncating_divide(share * value, 2**15)  # toward zero, on purpose: it cancels the biases above
        return clamp(rounding_divide_by_pot(product, -output_exponent) + output_zero_point, low, high)

    return Tensor.of(x.shape, element)


def gelu(
    x: Tensor, scale: float, zero_point: int, output_scale: float, output_zero_point: int,
    *, approximate: str, low: int, high: int,
) -> Tensor:  # fmt: skip
    """The nearest code of x * P(X <= x), X standard normal, or of its tanh approximation (Hendrycks and Gimpel, 2016)."""

    def element(index: Index) -> int:
        real = scale * (x.at(*index) - zero_point)
        if approximate == "tanh":
            value = real * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (real + 0.044715 * real**3)))
        else:
            value = real * 0.5 * math.erfc(-real / math.sqrt(2))
        return clamp(round_half_away(value / output_scale) + output_zero_point, low, high)

    return Tensor.of(x.shape, element)


def _two_slopes(
    x: Tensor, zero_point: int, above: float, below: Callable[[Index], tuple[int, float]], output_zero_point: int,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """The step times `above` from 0 on; under it, times the integer and the real that `below` gives."""

    def element(index: Index) -> int:
        step = x.at(*index) - zero_point
        whole, factor = (1, above) if step >= 0 else below(index)
        multiplier, shift = quantize_multiplier(factor)
        return _output_stage(step * whole, multiplier, shift, output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of(x.shape, element)


def leaky_relu(
    x: Tensor, slope: float, *, scales: tuple[float, float], zero_points: Pair, clamp_min: int, clamp_max: int,
    rounding: Rounding,
) -> Tensor:  # fmt: skip
    """x from 0 on, slope * x below; scales and zero points are (x, output) (TFLite LEAKY_RELU).

    The sign of the slope goes to the step.
    """
    scale, output_scale = scales
    factor = scale * float32(slope) / output_scale
    below = (-1 if factor < 0 else 1, abs(factor))
    above = scale / output_scale
    zero_point, output_zero_point = zero_points
    return _two_slopes(x, zero_point, above, lambda _: below, output_zero_point, clamp_min, clamp_max, rounding)


def absolute(
    x: Tensor, *, scales: tuple[float, float], zero_points: Pair, clamp_min: int, clamp_max: int, rounding: Rounding
) -> Tensor:
    """|x|; scales and zero points are (x, output) (TFLite ABS)."""
    factor = scales[0] / scales[1]
    zero_point, output_zero_point = zero_points
    return _two_slopes(x, zero_point, factor, lambda _: (-1, factor), output_zero_point, clamp_min, clamp_max, rounding)


def prelu(
    x: Tensor, slopes: Tensor, *, scales: tuple[float, float, float], zero_points: Triple, clamp_min: int,
    clamp_max: int, rounding: Rounding,
) -> Tensor:  # fmt: skip
    """x from 0 on, its slope times x below; scales and zero points are (x, slopes, output) (TFLite PRELU)."""
    scale, slope_scale, output_scale = scales
    zero_point, slope_zero_point, output_zero_point = zero_points

    def below(index: Index) -> tuple[int, float]:
        return _at_broadcast(slopes, index) - slope_zero_point, scale * slope_scale / output_scale

    return _two_slopes(x, zero_point, scale / output_scale, below, output_zero_point, clamp_min, clamp_max, rounding)


# softmax on int16 codes -----------------------------------------------------------------------------------------------

TABLE_STEPS = 512


def table(function: Callable[[float], float], low: float, high: float) -> list[int]:
    """513 samples of a function in Q0.15, in single precision throughout (TFLite gen_lut).

    Each but the last is lowered by half of what interpolation to its successor is off by in the middle.
    """
    step = (high - low) / TABLE_STEPS

    def scaled(at: float) -> float:
        return float32(function(at)) * 2**15

    def sample(i: int) -> int:
        here = round_half_away(scaled(low + i * step))
        between = round_half_away(float32(scaled(low + (i + 1) * step) + here) / 2)
        error = between - round_half_away(scaled(low + i * step + step / 2))
        return clamp(here - round_half_away(error / 2), -(2**15), 2**15 - 1)

    return [*(sample(i) for i in range(TABLE_STEPS)), clamp(round_half_away(scaled(high)), -(2**15), 2**15 - 1)]


EXPONENTIALS = table(math.exp, -10.0, 0.0)
RECIPROCALS = table(lambda x: 1 / (1 + x), 0.0, 1.0)


def interpolate(points: Sequence[int], code: int) -> int:
    """A table's value at an int16 code (TFLite LUTLookup)."""
    low, high = points[256 + (code >> 7)], points[257 + (code >> 7)]
    return low + (((high - low) * (code & 127) + 64) >> 7)


def _softmax16_row(codes: Sequence[int], multiplier: int, shift: int) -> list[int]:
    largest = max(codes)
    steps = [requantize(code - largest, multiplier, shift, "double") for code in codes]
    exponentials = [interpolate(EXPONENTIALS, clamp(s + 32767, -32768, 32767)) for s in steps]
    total = int32(sum(exponentials))
    zeros = 32 - total.bit_length()
    beyond_one = (((total << (zeros - 1)) + 2**13) >> 14) - (2**15 + 2**16)
    reciprocal = interpolate(RECIPROCALS, clamp(beyond_one, -32768, 32767))
    return [clamp((e * reciprocal + 2 ** (30 - zeros)) >> (31 - zeros), 0, 32767) for e in exponentials]


def softmax16(x: Tensor, scale: float, beta: float = 1.0) -> Tensor:
    """Softmax of int16 codes, output scale 1/32768 (TFLite SOFTMAX, int16)."""
    multiplier, shift = quantize_multiplier(scale * beta / (10.0 / 65535.0))
    depth = x.shape[-1]
    rows = [x.data[start : start + depth] for start in range(0, len(x.data), depth)]
    return Tensor(x.shape, [code for row in rows for code in _softmax16_row(row, multiplier, shift)])


# logarithm of softmax -------------------------------------------------------------------------------------------------

ALPHA_N, ALPHA_D, ALPHA_I, ALPHA_F = (  # Q0.31; f = 2^(1/4)
    117049297,  # 11/240 f
    127690142,  # 1/20 f
    1057819769,  # 2/f - f
    638450708,  # 1/4 f
)
LN_2_Q0_31, SQRT_HALF_Q0_31, FOURTH_ROOT_OF_HALF_Q0_31 = 1488522236, 1518500250, 1805811301


def _leading_zeros(x: int) -> int:
    return 32 - int32(x).bit_length()


def log_of_at_least_one(x: int) -> int:
    """ln(x) of a Q12.19 of at least 1, in Q5.26 (gemmlowp log_x_for_x_greater_than_or_equal_to_1)."""
    headroom_a = _leading_zeros(x) - 1
    r_a = _saturating_shift_left(_times(_saturating_shift_left(x, headroom_a), SQRT_HALF_Q0_31), 1)
    power_a = (SUM_INTEGER_BITS - headroom_a - 1) * 2**25 + 2**23  # Q6.25
    headroom_b = _leading_zeros(_times(x, SQRT_HALF_Q0_31)) - 1
    r_b = _saturating_shift_left(x, headroom_b)
    power_b = (SUM_INTEGER_BITS - headroom_b) * 2**25 - 2**23
    r, power = min(r_a, r_b), max(power_a, power_b)
    p = (r + FOURTH_ROOT_OF_HALF_Q0_31 + 1) // 2
    q = int32(2 * (r - FOURTH_ROOT_OF_HALF_Q0_31))
    square = _times(q, q)
    numerator = int32(_times(q, r) + _times(_times(q, square), ALPHA_N))
    denominator = int32(_times(p, int32(ALPHA_I + q + _times(ALPHA_D, square))) + _times(ALPHA_F, q))
    quotient = _times(rounding_divide_by_pot(numerator, 6), one_over_one_plus_x(denominator))
    return _saturating_shift_left(int32(_times(power, LN_2_Q0_31) + quotient), 1)


def _log_softmax_row(codes: Sequence[int], multiplier: int, left_shift: int) -> list[int]:
    largest, radius = max(codes), softmax_radius(left_shift)
    back = quantize_multiplier(2.0 ** (31 - left_shift) / multiplier)

    def scaled(code: int) -> int:
        return saturating_rounding_doubling_high_mul((code - largest) << left_shift, multiplier)

    near = [code for code in codes if largest - code <= radius]
    total = sum(rounding_divide_by_pot(exp_on_negative_values(scaled(c), DIFF_INTEGER_BITS), 12) for c in near)
    log_sum = log_of_at_least_one(total)
    least = max(-radius - 1, requantize(log_sum + INT32_MIN, *back, "double"))

    def output(code: int) -> int:
        if code - largest <= least:
            return -128
        return clamp(rounding_divide_by_pot(int32(scaled(code) - log_sum), 31 - 5 - 4) + 127, -128, 127)

    return [output(code) for code in codes]


def log_softmax(x: Tensor, scale: float) -> Tensor:
    """ln of softmax of scale * x over the last axis; the output is (1/16, 127) (TFLite LOG_SOFTMAX, int8)."""
    multiplier, left_shift = softmax_multiplier(scale)
    depth = x.shape[-1]
    rows = [x.data[start : start + depth] for start in range(0, len(x.data), depth)]
    return Tensor(x.shape, [code for row in rows for code in _log_softmax_row(row, multiplier, left_shift)])


# Euclidean norms ------------------------------------------------------------------------------------------------------


def inverse_square_root(total: int) -> Pair:
    """1 / sqrt(total) as (multiplier, shift) (TFLite GetInvSqrtQuantizedMultiplierExp)."""
    if total <= 1:
        return INT32_MAX, 0
    right = 11
    while total >= 2**29:
        total //= 4
        right += 1
    while total < 2**27:
        total *= 4
        right -= 1
    a = total >> 1  # Q3.28
    half_a = rounding_divide_by_pot(a, 1)
    x = 2**28
    for _ in range(5):
        cube = _saturating_shift_left(_times(_times(x, x), x), 6)
        x = _saturating_shift_left(int32(_times(2**28 + 2**27, x) - _times(half_a, cube)), 3)
    multiplier = _times(x, SQRT_HALF_Q0_31)
    return (int32(multiplier << -right), 0) if right < 0 else (multiplier, -right)


def l2_normalization(x: Tensor, zero_point: int) -> Tensor:
    """Rows over their norms, in steps of 1/128 (TFLite L2_NORMALIZATION, int8)."""
    depth = x.shape[-1]
    codes = []
    for start in range(0, len(x.data), depth):
        steps = [code - zero_point for code in x.data[start : start + depth]]
        multiplier, shift = inverse_square_root(int32(sum(s * s for s in steps)))
        codes += [clamp(requantize(s, multiplier, shift + 7, "double"), -128, 127) for s in steps]
    return Tensor(x.shape, codes)


# layers that remember -------------------------------------------------------------------------------------------------

GATE_SCALE = 2.0**-12  # of what enters a gate
VALUE_SCALE = 2.0**-15  # of what leaves it


def svdf_factors(scales: tuple[float, float, float, float, float]) -> tuple[Pair, Pair]:
    """Into the state and out of it, from the scales of (x, feature, state, time, output) (PrepareSvdf as of 2026)."""
    scale, feature_scale, state_scale, time_scale, output_scale = scales
    into, out = scale * feature_scale / state_scale, state_scale * time_scale / output_scale
    return quantize_multiplier(into), quantize_multiplier(out)


def svdf(
    x: Tensor, feature: Tensor, time: Tensor, bias: Sequence[int], state: Tensor, rank: int, *,
    scales: tuple[float, float, float, float, float], zero_points: Pair, state_range: Pair,
    clamp_min: int, clamp_max: int, rounding: Rounding,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Each filter's dot product joins its last `memory` ones, and time weighs them all (TFLite Micro SVDF).

    x is [batch, inputs], `feature` [filters, inputs], `time` [filters, memory], `state` [batch, filters, memory] with
    the newest last. An output sums `rank` filters. Zero points are (x, output); the state's is 0: another one wraps there.
    Returned are the output and the new state.
    """
    filters, memory = time.shape
    _require(filters % rank == 0, f"{filters} filters are no multiple of the rank {rank}")
    zero_point, output_zero_point = zero_points
    into, out = svdf_factors(scales)

    def remembered(index: Index) -> int:
        n, f, age = index
        if age + 1 < memory:
            return state.at(n, f, age + 1)
        acc = sum(feature.at(f, i) * (x.at(n, i) - zero_point) for i in range(x.shape[1]))
        return _output_stage(acc, *into, 0, *state_range, rounding)

    new_state = Tensor.of((x.shape[0], filters, memory), remembered)

    def element(index: Index) -> int:
        n, unit = index
        acc = bias[unit]
        for f, age in indices((rank, memory)):
            acc += time.at(unit * rank + f, age) * new_state.at(n, unit * rank + f, age)
        return _output_stage(acc, *out, output_zero_point, clamp_min, clamp_max, rounding)

    return Tensor.of((x.shape[0], filters // rank), element), new_state


@dataclass(frozen=True)
class Lstm:
    """What is the same at every step of an LSTM; gates are in the order input, forget, cell, output.

    Attributes:
        weight: [4, units, inputs].
        recurrent: [4, units, units].
        bias: [4, units], in steps of x's scale times the gate's weight scale.
        weight_scales: One a gate.
        recurrent_scales: One a gate.
        scales: Of x, the cell and the output. The cell's is a power of two.
        zero_points: Of x and the output. The cell's is 0.
        cell_clip: The greatest magnitude of a cell's code; 0 for none but that of 16 bits.
        clamps: The least and the greatest code of the output.
        rounding: Of every product by a factor.
    """

    weight: Tensor
    recurrent: Tensor
    bias: Tensor
    weight_scales: Sequence[float]
    recurrent_scales: Sequence[float]
    scales: tuple[float, float, float]
    zero_points: Pair
    cell_clip: int
    clamps: Pair
    rounding: Rounding

    def gate_factors(self, gate: int) -> tuple[Pair, Pair]:
        """Of what x gives and of what the output gives, in doubles (GetQuantizedConvolutionMultipler as of 2026)."""
        scale, _, output_scale = self.scales
        products = (scale * self.weight_scales[gate], output_scale * self.recurrent_scales[gate])
        fed, back = (quantize_multiplier(product / GATE_SCALE) for product in products)
        return fed, back

    def cell_factors(self) -> tuple[Pair, Pair, Pair]:
        """Of forget * cell, of input * candidate and of output * tanh(cell) (CreateInterGateMulParams)."""
        _, cell_scale, output_scale = self.scales
        value = VALUE_SCALE * VALUE_SCALE
        kept, added, made = map(
            quantize_multiplier, (VALUE_SCALE * cell_scale / cell_scale, value / cell_scale, value / output_scale)
        )
        return kept, added, made

    def gate(self, gate: int, unit: int, x: Sequence[int], hidden: Sequence[int]) -> int:
        """What enters a gate, in 4096ths: two products, each an int16, and their sum, saturated (CalculateLstmGate)."""
        fed = self.bias.at(gate, unit)
        fed += sum(self.weight.at(gate, unit, i) * (code - self.zero_points[0]) for i, code in enumerate(x))
        back = sum(self.recurrent.at(gate, unit, i) * (code - self.zero_points[1]) for i, code in enumerate(hidden))
        of_x, of_output = self.gate_factors(gate)
        return clamp(self._int16(fed, of_x) + self._int16(back, of_output), INT16_MIN, INT16_MAX)

    def step(self, unit: int, x: Sequence[int], hidden: Sequence[int], cell: int) -> Pair:
        """One unit's new hidden and cell codes (LstmStep).

        cell = forget * cell + input * candidate, each product an int16; hidden = output * tanh(cell).
        """
        gates = [3 * self.gate(gate, unit, x, hidden) for gate in range(4)]  # 4096ths to 12288ths
        entry, forget, output = (_logistic_at(gates[gate]) for gate in (0, 1, 3))
        of_kept, of_added, of_output = self.cell_factors()
        kept = self._int16(forget * cell, of_kept)
        added = self._int16(entry * _tanh_at(gates[2]), of_added)
        cell = clamp(kept + added, INT16_MIN, INT16_MAX)
        if self.cell_clip:
            cell = clamp(cell, -self.cell_clip, self.cell_clip)
        product = output * _tanh_at(_cell_argument(cell, self.scales[1]))
        return _output_stage(product, *of_output, self.zero_points[1], *self.clamps, self.rounding), cell

    def _int16(self, value: int, factor: Pair) -> int:
        return _output_stage(value, *factor, 0, INT16_MIN, INT16_MAX, self.rounding)


def _cell_argument(code: int, scale: float) -> int:
    """A cell's code in 12288ths, to nearest, ties up (TFLite Micro lstm_internal::Tanh)."""
    return int32(math.floor(Fraction(scale) * 3 * 2**12 * code + Fraction(1, 2)))


def lstm(layer: Lstm, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every hidden state of a sequence x [batch, time, inputs] from states [batch, units] on, and the last states.

    As TFLite Micro's UNIDIRECTIONAL_SEQUENCE_LSTM, which has no peepholes, no projection and no layer normalization.
    Hidden states have the output's scale and zero point.
    """
    batch, steps, inputs = x.shape
    units = range(hidden.shape[1])
    outputs: list[int] = []
    hiddens: list[int] = []
    cells: list[int] = []
    for n in range(batch):
        h, c = ([state.at(n, unit) for unit in units] for state in (hidden, cell))
        for t in range(steps):
            codes = [x.at(n, t, i) for i in range(inputs)]
            pairs = [layer.step(unit, codes, h, c[unit]) for unit in units]
            h, c = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            outputs += h
        hiddens += h
        cells += c
    return Tensor((batch, steps, len(units)), outputs), Tensor(hidden.shape, hiddens), Tensor(cell.shape, cells)
