"""The oracle itself, held to cases worked out by hand and to laws it does not use in its own formulas."""

import math
import random
from functools import partial

import pytest

from tests import oracle
from tests.oracle import INT32_MAX, INT32_MIN, Rounding, Tensor

BELOW, ABOVE = 255 * (2 - 2**-25), 255 * (2 + 2**-24)
BOTH: list[Rounding] = ["double", "single"]

# Operators on int8 codes with no zero points, rounding twice, unless a test says otherwise.
conv2d = partial(
    oracle.conv2d, input_zero_point=0, output_zero_point=0, clamp_min=-128, clamp_max=127, rounding="double"
)
depthwise_conv2d = partial(
    oracle.depthwise_conv2d, input_zero_point=0, output_zero_point=0, clamp_min=-128, clamp_max=127, rounding="double"
)
fully_connected = partial(
    oracle.fully_connected, input_zero_point=0, output_zero_point=0, clamp_min=-128, clamp_max=127, rounding="double"
)
rescale = partial(
    oracle.rescale, input_zero_point=0, output_zero_point=0, clamp_min=-128, clamp_max=127, rounding="double"
)
mean = partial(oracle.mean, input_zero_point=0, output_zero_point=0, clamp_min=-128, clamp_max=127, rounding="double")
add = partial(oracle.add, zero_points=(0, 0, 0), clamp_min=-128, clamp_max=127, rounding="double")
mul = partial(oracle.mul, zero_points=(0, 0, 0), clamp_min=-128, clamp_max=127, rounding="double")


def tensor(shape: tuple[int, ...], *data: int) -> Tensor:
    return Tensor(shape, list(data))


def count_up(*shape: int) -> Tensor:
    return Tensor(shape, list(range(math.prod(shape))))


# tensors --------------------------------------------------------------------------------------------------------------


def test_tensor_is_row_major() -> None:
    x = count_up(2, 3, 4)
    assert (x.at(0, 0, 1), x.at(0, 1, 0), x.at(1, 0, 0), x.at(1, 2, 3)) == (1, 4, 12, 23)
    assert Tensor.of((2, 2), lambda index: 10 * index[0] + index[1]).data == [0, 1, 10, 11]
    assert tensor((), 7).at() == 7


@pytest.mark.parametrize("index", [(-1, 0), (0, 3), (2, 0), (0,), (0, 0, 0)])
def test_tensor_refuses_an_index_outside(index: tuple[int, ...]) -> None:
    with pytest.raises(IndexError):
        count_up(2, 3).at(*index)


def test_tensor_refuses_data_that_does_not_fill_it() -> None:
    with pytest.raises(ValueError, match="fill"):
        tensor((2, 2), 1, 2, 3)


# small helpers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 1), (-0.5, -1), (1.5, 2), (-2.5, -3), (2.4, 2), (-2.6, -3), (0.0, 0)]
)
def test_round_half_away(value: float, expected: int) -> None:
    assert oracle.round_half_away(value) == expected


def test_round_half_away_is_exact_just_below_a_tie() -> None:
    # Adding 0.5 in floating point would give 1.0 here.
    assert oracle.round_half_away(0.49999999999999994) == 0


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (-1, 4, 0), (0, 5, 0), (6, 3, 2)]
)
def test_truncating_divide(a: int, b: int, expected: int) -> None:
    assert oracle.truncating_divide(a, b) == expected


def test_float32_rounds_to_even_and_overflows_to_infinity() -> None:
    assert oracle.float32(1 + 2**-24) == 1.0
    assert oracle.float32(1 + 3 * 2**-24) == 1 + 2**-22
    assert oracle.float32(1e39) == math.inf
    assert oracle.float32(-1e39) == -math.inf


# real multipliers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (0.25, (2**30, -1)),
        (0.5, (2**30, 0)),
        (0.75, (3 * 2**29, 0)),
        (1.0, (2**30, 1)),
        (3.0, (3 * 2**29, 2)),
        (0.1, (1717986918, -3)),  # 0.8 * 2^31 = 1717986918.4
        (0.7, (1503238554, 0)),  # 0.7 * 2^31 = 1503238553.6
        (0.5 + 2**-32, (2**30 + 1, 0)),  # a tie, away from zero
        (0.5 + 3 * 2**-32, (2**30 + 2, 0)),
        (1 - 2**-31, (INT32_MAX, 0)),
        (1 - 2**-32, (2**30, 1)),  # a tie that carries
        (math.nextafter(1.0, 0.0), (2**30, 1)),
        (2.0**-32, (2**30, -31)),
        (math.nextafter(2.0**-32, 0.0), (2**30, -31)),  # the carry comes before the flush to zero
        (0.75 * 2.0**-32, (0, 0)),
        (5e-324, (0, 0)),
        (0.75 * 2**30, (3 * 2**29, 30)),
    ],
)
def test_quantize_multiplier(real: float, expected: tuple[int, int]) -> None:
    assert oracle.quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-0.5, math.nan, math.inf, 2.0**30, math.nextafter(2.0**30, 0.0)])
def test_quantize_multiplier_refuses(real: float) -> None:
    with pytest.raises(ValueError, match="multiplier"):
        oracle.quantize_multiplier(real)


# rounding -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (-5, 2**30, -2),  # -2.5
        (-3, 2**30, -1),  # -1.5
        (-1, 2**30, 0),  # -0.5
        (1, 2**30, 1),
        (3, 2**30, 2),
        (5, 2**30, 3),
        (-1, 2**30 + 1, -1),  # just past the tie
        (-5, 2**30 + 1, -3),
        (-5, 2**30 - 1, -2),
        (3, 2**30 - 1, 1),
        (0, INT32_MIN, 0),
        (INT32_MIN, INT32_MIN, INT32_MAX),
        (INT32_MIN, INT32_MAX, -INT32_MAX),
        (INT32_MAX, INT32_MAX, INT32_MAX - 1),
        (INT32_MIN, 1, -1),
        (INT32_MIN, -1, 1),
    ],
)
def test_saturating_rounding_doubling_high_mul(a: int, b: int, expected: int) -> None:
    assert oracle.saturating_rounding_doubling_high_mul(a, b) == expected
    assert oracle.saturating_rounding_doubling_high_mul(b, a) == expected


@pytest.mark.parametrize(("a", "b"), [(2**31, 1), (1, 2**31), (INT32_MIN - 1, 1), (1, INT32_MIN - 1)])
def test_high_mul_refuses_what_is_no_int32(a: int, b: int) -> None:
    with pytest.raises(OverflowError):
        oracle.saturating_rounding_doubling_high_mul(a, b)


def test_high_mul_is_a_floor_with_ties_up() -> None:
    draw = random.Random(1)
    pairs = [(draw.randint(INT32_MIN, INT32_MAX), draw.randint(INT32_MIN, INT32_MAX)) for _ in range(2000)]
    pairs += [(x, 2 ** draw.randint(0, 30)) for x, _ in pairs]
    for a, b in pairs:
        assert oracle.saturating_rounding_doubling_high_mul(a, b) == (a * b + 2**30) // 2**31, (a, b)


@pytest.mark.parametrize(
    ("x", "exponent", "expected"),
    [
        (12, 3, 2),
        (-12, 3, -2),
        (11, 3, 1),
        (-11, 3, -1),
        (-13, 3, -2),
        (4, 3, 1),
        (-4, 3, -1),
        (3, 3, 0),
        (-3, 3, 0),
        (-1, 1, -1),
        (1, 1, 1),
        (7, 0, 7),
        (-7, 0, -7),
        (INT32_MIN, 0, INT32_MIN),
        (INT32_MAX, 0, INT32_MAX),
        (INT32_MIN, 1, -(2**30)),
        (INT32_MAX, 1, 2**30),
        (INT32_MIN, 31, -1),
        (INT32_MAX, 31, 1),
        (2**30, 31, 1),
        (2**30 - 1, 31, 0),
        (-(2**30), 31, -1),
        (1 - 2**30, 31, 0),
    ],
)
def test_rounding_divide_by_pot(x: int, exponent: int, expected: int) -> None:
    assert oracle.rounding_divide_by_pot(x, exponent) == expected


@pytest.mark.parametrize("exponent", [-1, 32])
def test_rounding_divide_by_pot_refuses(exponent: int) -> None:
    with pytest.raises(ValueError, match="exponent"):
        oracle.rounding_divide_by_pot(1, exponent)


@pytest.mark.parametrize("x", [2**31, INT32_MIN - 1])
def test_rounding_divide_by_pot_refuses_what_is_no_int32(x: int) -> None:
    with pytest.raises(OverflowError):
        oracle.rounding_divide_by_pot(x, 1)


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "double", "single"),
    [
        (1, 2**30, -1, 1, 0),  # 0.25: 0.5 goes up to 1, then 0.5 to 1
        (3, 2**30, -1, 1, 1),  # 0.75
        (-1, 2**30, -1, 0, 0),
        (-3, 2**30, -1, -1, -1),  # -0.75: -1.5 goes up to -1, then -0.5 away to -1
        (-2, 2**30, -1, -1, 0),  # -0.5: only the second rounding is inexact, and goes away from zero
        (2, 2**30, -1, 1, 1),
        (-5, 2**30, 0, -2, -2),  # -2.5, ties up
        (5, 2**30, 0, 3, 3),
        (-7, 2**30, 2, -14, -14),  # a left shift: times 2
        (-7, 3 * 2**29, 1, -10, -10),  # -10.5
        (1, 2**30, 30, 2**29, 2**29),
        (-1, 2**30, 30, -(2**29), -(2**29)),
        (INT32_MIN, INT32_MAX, 0, -INT32_MAX, -INT32_MAX),
        (INT32_MAX, INT32_MAX, 0, INT32_MAX - 1, INT32_MAX - 1),
        (INT32_MIN, 2**30, -31, -1, 0),  # -0.5
        (INT32_MAX, 2**30, -31, 1, 0),  # just below 0.5
        (INT32_MIN, INT32_MAX, -31, -1, -1),
        (12345, 0, 0, 0, 0),
    ],
)
def test_requantize(x: int, multiplier: int, shift: int, double: int, single: int) -> None:
    assert oracle.requantize(x, multiplier, shift, "double") == double
    assert oracle.requantize(x, multiplier, shift, "single") == single


def test_two_roundings_are_seldom_seen_and_never_by_more_than_one() -> None:
    draw = random.Random(2)
    differing = 0
    for _ in range(5000):
        x, multiplier = draw.randint(INT32_MIN, INT32_MAX), draw.randint(2**30, INT32_MAX)
        double = oracle.requantize(x, multiplier, -4, "double")
        single = oracle.requantize(x, multiplier, -4, "single")
        assert abs(double - single) <= 1
        assert abs(single - x * multiplier / 2**35) <= 0.5
        differing += double != single
    assert 100 < differing < 220  # about one in 2^5


@pytest.mark.parametrize("rounding", BOTH)
def test_requantize_refuses(rounding: Rounding) -> None:
    for multiplier, shift in [(2**30, 31), (2**30, -32), (-1, 0), (2**31, 0)]:
        with pytest.raises(ValueError, match="outside"):
            oracle.requantize(1, multiplier, shift, rounding)
    for x, shift in [(2**31, 0), (INT32_MIN - 1, 0), (2**30, 2)]:
        with pytest.raises(OverflowError):
            oracle.requantize(x, 2**30, shift, rounding)


def test_double_rounding_needs_room_for_the_left_shift_itself() -> None:
    assert oracle.requantize(2**30, 2**30, 1, "single") == 2**30
    with pytest.raises(OverflowError):
        oracle.requantize(2**30, 2**30, 1, "double")


def test_requantize_refuses_an_unknown_rounding() -> None:
    with pytest.raises(ValueError, match="unknown"):
        oracle.requantize(1, 2**30, 0, "triple")  # type: ignore[arg-type]


# the real-number boundary ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lo", "hi", "qmin", "qmax", "expected"),
    [
        (0.0, 255.0, 0, 255, (1.0, 0)),
        (0.0, 255.0, -128, 127, (1.0, -128)),
        (-127.5, 127.5, 0, 255, (1.0, 128)),  # 127.5 from either endpoint, away from zero
        (-128.0, 127.0, -128, 127, (1.0, 0)),
        (-127.5, 127.5, -128, 127, (1.0, -1)),  # the high endpoint's error is smaller: -0.5, away from zero
        (-127.25, 127.75, -128, 127, (1.0, -1)),  # the low endpoint's: -0.75
        (10.0, 510.0, 0, 255, (2.0, 0)),  # widened down to 0
        (-510.0, -10.0, 0, 255, (2.0, 255)),  # and up
        (0.0, 0.0, 0, 255, (1.0, 0)),
        (0.0, 0.0, -128, 127, (1.0, 0)),
        (0.0, 0.0, 1, 255, (1.0, 1)),
        (-1.0, 2.0, 0, 3, (1.0, 1)),
        (0.0, 1.0, 0, 255, (0.003921568859368563, 0)),  # the single nearest to 1/255
    ],
)
def test_qparams_from_range(lo: float, hi: float, qmin: int, qmax: int, expected: tuple[float, int]) -> None:
    assert oracle.qparams_from_range(lo, hi, qmin, qmax) == expected


@pytest.mark.parametrize(
    ("lo", "hi", "qmin", "qmax", "zero_point"),
    [
        # The scale is 2, but (hi - lo) / 255 only near 2: of two zero points, one is a tie and one is just beside it.
        (-201.0, ABOVE - 201.0, 0, 255, 101),  # from lo, 100.5
        (-201.0, ABOVE - 201.0, -128, 127, -28),  # from lo, -27.5
        (-201.0, BELOW - 201.0, -128, 127, -28),
        (201.0 - BELOW, 201.0, -128, 127, 27),  # from hi, 26.5
        (201.0 - ABOVE, 201.0, -128, 127, 27),
        (255.0 - ABOVE, 255.0, -128, 127, -1),  # from hi, -0.5, the errors being 255.5 and 254.5
    ],
)
def test_zero_point_is_of_the_better_endpoint_at_the_single_precision_scale(
    lo: float, hi: float, qmin: int, qmax: int, zero_point: int
) -> None:
    assert oracle.qparams_from_range(lo, hi, qmin, qmax) == (2.0, zero_point)


@pytest.mark.parametrize(
    ("lo", "hi"), [(1.0, 0.0), (math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0), (0.0, 1e-44), (0.0, 1e300)]
)
def test_qparams_refuse(lo: float, hi: float) -> None:
    with pytest.raises(ValueError, match="range"):
        oracle.qparams_from_range(lo, hi, 0, 255)


@pytest.mark.parametrize(
    ("x", "scale", "zero_point", "expected"),
    [
        (0.0, 0.1, 5, 5),
        (1.25, 0.5, 0, 3),
        (-1.25, 0.5, 0, -3),
        (-1.25, 0.5, 10, 7),  # rounded before the zero point is added
        (1.2, 0.5, 0, 2),
        (100.0, 0.5, 0, 127),
        (-100.0, 0.5, 0, -128),
        (63.5, 0.5, -1, 126),
        (math.inf, 0.5, 0, 127),
        (-math.inf, 0.5, 0, -128),
        (3e38, 1e-3, 0, 127),  # the quotient itself is infinite in single precision
        (-3e38, 1e-3, 0, -128),
    ],
)
def test_quantize(x: float, scale: float, zero_point: int, expected: int) -> None:
    assert oracle.quantize(x, scale, zero_point, -128, 127) == expected


def test_quantize_divides_in_single_precision() -> None:
    # The quotient is below 2.5 in double precision, and 2.5 itself in single.
    scale = oracle.float32(0.1)
    x = oracle.float32(0.25)
    assert x / scale < 2.5
    assert oracle.quantize(x, scale, 0, -128, 127) == 3
    # Both operands are made single first: as doubles, these quotients are below 1/2.
    assert oracle.quantize(1.5 - 0.9 * 2**-24, 3.0, 0, -128, 127) == 1
    assert oracle.quantize(1.5, 3 + 0.9 * 2**-23, 0, -128, 127) == 1


def test_quantize_refuses_nan() -> None:
    with pytest.raises(ValueError, match="no code"):
        oracle.quantize(math.nan, 1.0, 0, -128, 127)


def test_dequantize() -> None:
    assert oracle.dequantize(3, 0.5, 5) == -1.0
    assert oracle.dequantize(-128, 0.25, -128) == 0.0
    assert oracle.dequantize(3, oracle.float32(0.1), 0) == 0.30000001192092896
    assert oracle.dequantize(3, 1 + 0.9 * 2**-24, 0) == 3.0


def test_every_code_survives_the_round_trip() -> None:
    scale = oracle.float32(0.1)
    for code in range(-128, 128):
        assert oracle.quantize(oracle.dequantize(code, scale, -7), scale, -7, -128, 127) == code


# convolutions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", BOTH)
def test_conv2d_by_hand(rounding: Rounding) -> None:
    # x - Z = 1 2 3 / 4 5 6 / 7 8 9 under the kernel 1 2 / 3 4, bias 1, halved: (38, 48, 68, 78) / 2.
    x, weight = tensor((1, 3, 3, 1), *range(11, 20)), tensor((1, 2, 2, 1), 1, 2, 3, 4)
    y = conv2d(x, weight, [1], [2**30], [0], input_zero_point=10, output_zero_point=-3, rounding=rounding)
    assert y == tensor((1, 2, 2, 1), 16, 21, 31, 36)


def test_conv2d_padding_is_real_zero_whatever_the_zero_points() -> None:
    # Each corner sees one pixel: a padded pixel of code 0 would add (0 - 10) * (w - 2).
    x, weight = tensor((1, 1, 1, 1), 11), tensor((1, 2, 2, 1), 3, 4, 5, 6)
    y = conv2d(x, weight, [0], [2**30], [1], padding=(1, 1, 1, 1), input_zero_point=10, weight_zero_point=2)
    assert y == tensor((1, 2, 2, 1), 4, 3, 2, 1)


def test_conv2d_padding_sides_stride_and_dilation_are_each_their_own() -> None:
    x, weight = count_up(1, 3, 4, 1), tensor((1, 1, 2, 1), 1, 10)
    y = conv2d(x, weight, [0], [2**30], [1], stride=(2, 1), dilation=(5, 3), padding=(0, 2, 1, 0))
    # Rows 0 and 2, the row of padding below giving no third; columns -2, -1 and 0, each with the third after it.
    assert y == tensor((1, 2, 3, 1), 10, 20, 30, 90, 100, 118)


def test_conv2d_groups_channels_and_per_channel_multipliers() -> None:
    x, weight = tensor((1, 1, 1, 4), 1, 2, 3, 4), tensor((4, 1, 1, 2), 1, 10, 2, 20, 3, 30, 4, 40)
    y = conv2d(x, weight, [0, 1, 2, 3], [2**30, 2**30, 3 * 2**29, 2**30], [1, 0, 0, -2], groups=2)
    # 1 + 20; (2 + 40 + 1) / 2 = 21.5; (9 + 120 + 2) * 0.75 = 98.25; (12 + 160 + 3) / 8 = 21.875
    assert y == tensor((1, 1, 1, 4), 21, 22, 98, 22)


def test_conv2d_batches_are_apart_and_the_clamp_holds() -> None:
    x, weight = tensor((3, 1, 1, 1), -100, 4, 100), tensor((1, 1, 1, 1), 1)
    y = conv2d(x, weight, [0], [2**30], [1], output_zero_point=-2, clamp_min=-2, clamp_max=50)
    assert y == tensor((3, 1, 1, 1), -2, 2, 50)


def test_an_accumulator_that_does_not_fit_is_an_error() -> None:
    one = tensor((1, 1, 1, 1), 1)
    assert conv2d(one, one, [INT32_MAX - 1], [2**30], [-20]).data == [127]
    with pytest.raises(OverflowError):
        conv2d(one, one, [INT32_MAX], [2**30], [-20])


def test_conv2d_refuses_shapes_that_do_not_agree() -> None:
    x = count_up(1, 1, 1, 4)
    with pytest.raises(ValueError, match="groups"):
        conv2d(x, count_up(2, 1, 1, 3), [0] * 2, [0] * 2, [0] * 2)
    with pytest.raises(ValueError, match="groups"):
        conv2d(x, count_up(3, 1, 1, 2), [0] * 3, [0] * 3, [0] * 3, groups=2)
    with pytest.raises(ValueError, match="2 values"):
        conv2d(x, count_up(2, 1, 1, 4), [0] * 2, [0], [0] * 2)
    for weight in [count_up(1, 2, 1, 4), count_up(1, 1, 2, 4)]:
        with pytest.raises(ValueError, match="larger"):
            conv2d(x, weight, [0], [0], [0])


def test_depthwise_conv2d_by_hand() -> None:
    # Channels (1, 2) on the left, (3, 4) on the right; with depth multiplier 2, outputs 0 and 1 read channel 0.
    x, weight = tensor((1, 1, 2, 2), 6, 7, 8, 9), tensor((1, 2, 4), 2, 3, 4, 5, 11, 21, 31, 41)
    bias, multiplier, shift = [0, 0, 0, 5], [2**30] * 4, [1, 1, 1, 0]
    y = depthwise_conv2d(
        x, weight, bias, multiplier, shift, input_zero_point=5, weight_zero_point=1, output_zero_point=-1
    )
    # 1*1 + 3*10; 1*2 + 3*20; 2*3 + 4*30; (2*4 + 4*40 + 5) / 2 = 86.5
    assert y == tensor((1, 1, 1, 4), 30, 61, 125, 86)


def test_depthwise_conv2d_padding_stride_and_dilation() -> None:
    x, weight = count_up(1, 4, 3, 1), tensor((2, 1, 1), 1, 10)
    y = depthwise_conv2d(
        x, weight, [0], [2**30], [1], stride=(1, 2), dilation=(3, 7), padding=(1, 0, 0, 0), input_zero_point=-1
    )
    # x - Z = 3 * row + column + 1; row -1 with row 2, row 0 with row 3; columns 0 and 2.
    assert y == tensor((1, 2, 2, 1), 70, 90, 101, 123)
    plain = depthwise_conv2d(x, tensor((2, 2, 1), 1, 0, 0, 10), [0], [2**30], [1])
    assert plain == tensor((1, 3, 2, 1), 40, 51, 73, 84, 106, 117)


def test_depthwise_is_a_convolution_with_one_group_per_channel() -> None:
    draw = random.Random(3)
    x = Tensor.of((2, 4, 5, 3), lambda _: draw.randint(-128, 127))
    weight = Tensor.of((3, 2, 6), lambda _: draw.randint(-127, 127))
    grouped = Tensor.of((6, 3, 2, 1), lambda index: weight.at(index[1], index[2], index[0]))
    bias = [draw.randint(-9999, 9999) for _ in range(6)]
    multiplier, shift = [draw.randint(2**30, INT32_MAX) for _ in range(6)], [-8, -9, -7, -8, -10, -8]
    one = depthwise_conv2d(x, weight, bias, multiplier, shift, stride=(2, 1), padding=(1, 0, 1, 1), input_zero_point=3)
    other = conv2d(
        x, grouped, bias, multiplier, shift, stride=(2, 1), padding=(1, 0, 1, 1), groups=3, input_zero_point=3
    )
    assert one == other
    assert len(set(one.data)) > 20


def test_depthwise_conv2d_refuses_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match="multiple"):
        depthwise_conv2d(count_up(1, 1, 1, 2), count_up(1, 1, 3), [0] * 3, [0] * 3, [0] * 3)
    with pytest.raises(ValueError, match="2 values"):
        depthwise_conv2d(count_up(1, 1, 1, 2), count_up(1, 1, 2), [0] * 2, [0] * 2, [0] * 3)


def test_fully_connected_by_hand() -> None:
    x, weight = tensor((2, 1, 2), 11, 12, 13, 14), tensor((3, 2), 2, 3, 1, 1, 0, 5)
    y = fully_connected(
        x, weight, [0, 7, -3], [2**30] * 3, [1, 1, 0], input_zero_point=10, weight_zero_point=1, output_zero_point=2
    )
    # Inputs (1, 2) and (3, 4); weights (1, 2), (0, 0) and (-1, 4), the last halved: (7 - 3) / 2 and (13 - 3) / 2.
    assert y == tensor((2, 1, 3), 7, 9, 4, 13, 9, 7)
    assert fully_connected(tensor((2,), 5, 6), tensor((1, 2), 7, 8), [0], [2**30], [1]) == tensor((1,), 83)


def test_fully_connected_refuses_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match="end in"):
        fully_connected(count_up(2, 3), count_up(1, 2), [0], [0], [0])
    with pytest.raises(ValueError, match="1 values"):
        fully_connected(count_up(2, 2), count_up(1, 2), [0, 0], [0], [0])


# element by element ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", BOTH)
def test_add_by_hand(rounding: Rounding) -> None:
    # Scales 3/8, 1/2 and 4/5: the three real multipliers are 3/8, 1/2 and 5/4 * 2^-20.
    a, b, multipliers, shifts = (
        tensor((3,), 5, -7, 127),
        tensor((3,), 0, 1, 127),
        (3 * 2**29, 2**30, 5 * 2**28),
        (-1, 0, -19),
    )
    y = add(a, b, zero_points=(1, -1, 2), multipliers=multipliers, shifts=shifts, rounding=rounding)
    # 4 and 1, -8 and 2, 126 and 128 make the reals 1.5 + 0.5, -3 + 1 and 47.25 + 64: 2.5, -2.5 and 139 in the output's
    # scale. The lower tie goes away from zero in a rounding shift, up in a single rounding.
    assert y == tensor((3,), 5, {"double": -1, "single": 0}[rounding], 127)


def test_add_without_room_below_the_point_rounds_early() -> None:
    # 1/2 + 1/2, each rounded up to 1 first when nothing is shifted left.
    one = tensor((1,), 1)
    assert add(one, one, multipliers=(2**30,) * 3, shifts=(0, 0, 1), left_shift=0).data == [2]
    assert add(one, one, multipliers=(2**30,) * 3, shifts=(0, 0, -1), left_shift=2).data == [1]


def test_add_broadcasts_as_numpy_does() -> None:
    a, b, scalar = tensor((2, 1, 2), 1, 2, 3, 4), tensor((3, 1), 10, 20, 30), tensor((), 5)
    multipliers, shifts = (2**30, 2**30, 2**30), (0, 0, -18)
    y = add(a, b, multipliers=multipliers, shifts=shifts)
    assert y == tensor((2, 3, 2), 11, 12, 21, 22, 31, 32, 13, 14, 23, 24, 33, 34)
    assert add(scalar, a, multipliers=multipliers, shifts=shifts) == tensor((2, 1, 2), 6, 7, 8, 9)
    assert add(a, scalar, multipliers=multipliers, shifts=shifts) == tensor((2, 1, 2), 6, 7, 8, 9)
    with pytest.raises(ValueError, match="broadcast"):
        add(a, tensor((3,), 1, 2, 3), multipliers=multipliers, shifts=shifts)


def test_mul_by_hand() -> None:
    a, b = tensor((2, 1), 3, -5), tensor((2,), 2, 7)
    y = mul(a, b, zero_points=(1, -2, 5), multiplier=2**30, shift=-1, clamp_min=-8)
    # (2, -6) * (4, 9) = 8, 18, -24, -54, times 1/4: 2, 4.5, -6, -13.5; ties away from zero; -14 + 5 is clamped.
    assert y == tensor((2, 2), 7, 10, -1, -8)


def test_rescale_by_hand() -> None:
    x = tensor((2, 2), 5, 10, 15, 127)
    y = rescale(x, 2**30, 0, input_zero_point=10, output_zero_point=-4, clamp_min=-5, clamp_max=50)
    # Halves of -5, 0, 5 and 117: ties up; the ends are clamped.
    assert y == tensor((2, 2), -5, -4, -1, 50)
    assert rescale(x, 2**30, 0, input_zero_point=10, output_zero_point=-4).data == [-6, -4, -1, 55]


def test_rescale_by_one_moves_between_uint8_and_int8() -> None:
    x = Tensor((256,), list(range(256)))
    assert rescale(x, 2**30, 1, input_zero_point=128, rounding="single").data == list(range(-128, 128))


# reductions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((-1, -2), -2),  # -1.5, away from code 0
        ((1, 2), 2),
        ((-1, 0), -1),
        ((0, 0), 0),
        ((-1, 1), 0),
        ((-1, -1, 0), -1),
        ((-1, 0, 0), 0),
        ((1, 1, 0), 1),
        ((-3, -3, -4, -4), -4),
        ((-128,) * 4, -128),
        ((127,) * 4, 127),
    ],
)
def test_average_pool2d_of_int8(codes: tuple[int, ...], expected: int) -> None:
    x = tensor((1, 1, len(codes), 1), *codes)
    y = oracle.average_pool2d(x, (1, len(codes)), (1, 1), (0, 0, 0, 0), True, -128, 127)
    assert y == tensor((1, 1, 1, 1), expected)


@pytest.mark.parametrize(("codes", "expected"), [((1, 2), 2), ((0, 1), 1), ((1, 0, 0), 0), ((255,) * 9, 255)])
def test_average_pool2d_of_uint8(codes: tuple[int, ...], expected: int) -> None:
    x = tensor((1, len(codes), 1, 1), *codes)
    y = oracle.average_pool2d(x, (len(codes), 1), (1, 1), (0, 0, 0, 0), False, 0, 255)
    assert y == tensor((1, 1, 1, 1), expected)


def test_average_pool2d_leaves_padding_out_of_the_count() -> None:
    x = tensor((1, 2, 2, 1), 10, 20, 30, 40)
    y = oracle.average_pool2d(x, (2, 2), (1, 2), (1, 1, 0, 1), True, -128, 37)
    # One row of padding above, a column on either side: 10, 20, then (10 + 30) / 2, (20 + 40) / 2.
    assert y == tensor((1, 2, 2, 1), 10, 20, 20, 30)
    below = oracle.average_pool2d(x, (2, 2), (2, 2), (0, 0, 1, 0), True, 26, 127)
    assert below == tensor((1, 1, 1, 1), 26)


def test_max_pool2d_ignores_padding_and_clamps() -> None:
    x = tensor((1, 2, 2, 2), -10, 1, -20, 2, -30, 3, -5, 4)
    padded = oracle.max_pool2d(x, (2, 2), (2, 2), (1, 1, 1, 1), -128, 127)
    assert padded == tensor((1, 2, 2, 2), -10, 1, -20, 2, -30, 3, -5, 4)
    assert oracle.max_pool2d(x, (2, 2), (1, 1), (0, 0, 0, 0), -128, 3) == tensor((1, 1, 1, 2), -5, 3)
    assert oracle.max_pool2d(x, (2, 2), (1, 1), (0, 0, 0, 0), 0, 127) == tensor((1, 1, 1, 2), 0, 4)


def test_pooling_refuses_a_window_wholly_on_the_padding() -> None:
    with pytest.raises(ValueError, match="wholly"):
        oracle.max_pool2d(count_up(1, 1, 1, 1), (1, 1), (1, 1), (1, 0, 0, 0), -128, 127)


@pytest.mark.parametrize(
    ("multiplier", "shift", "count", "expected"),
    [
        (2**30, 1, 1, (2**30, 1)),
        (2**30, 1, 4, (2**30, -1)),
        (2**30, 0, 49, (701219150, -5)),  # 2^35 / 49 = 701219150.37
        (2**30, 0, 7, (613566756, -2)),  # 2^32 / 7 = 613566756.57, truncated
        (INT32_MAX, -3, 3, (1431655764, -4)),  # 2 * (2^31 - 1) / 3 = 1431655764.67
        (2**30, -29, 49, (2**32 // 49, -31)),  # only 2 of the 5 bits are left above shift -31
        (2**30, -31, 3, (2**30 // 3, -31)),
        (2**30, 3, 2**33, (2**29, -29)),  # never more than 32
    ],
)
def test_fold_mean(multiplier: int, shift: int, count: int, expected: tuple[int, int]) -> None:
    assert oracle.fold_mean(multiplier, shift, count) == expected


def test_mean_by_hand() -> None:
    # Channels sum to 10 and -6 over four pixels, less 4 * 1 to 6 and -10: 1.5 and -2.5, plus 3.
    x = tensor((1, 2, 2, 2), 1, -1, 2, -2, 3, -3, 4, 0)
    y = mean(x, (1, 2), 2**30, 1, input_zero_point=1, output_zero_point=3)
    assert y == tensor((1, 1, 1, 2), 5, 0)
    y = mean(x, (1, 2), 2**30, 1, input_zero_point=1, output_zero_point=3, rounding="single")
    assert y == tensor((1, 1, 1, 2), 5, 1)


def test_mean_over_other_axes_and_saturation() -> None:
    x = tensor((2, 3), 100, 110, 120, -100, -110, -122)
    assert mean(x, (1,), 2**30, 2) == tensor((2, 1), 127, -128)  # twice 110 and -110.67
    assert mean(x, [0], 2**30, 2) == tensor((1, 3), 0, 0, -2)
    assert mean(x, (0, 1), 2**30, 2) == tensor((1, 1), -1)  # -4 / 6
    for axis in [-1, 2]:
        with pytest.raises(ValueError, match="axes"):
            mean(x, (axis,), 2**30, 2)


def test_mean_truncates_the_folded_multiplier() -> None:
    # Half of seven sevenths is a tie, but 2^32 / 7 was truncated: the exact product lies just below it.
    x = tensor((1, 7), *[1] * 7)
    assert mean(x, (1,), 2**30, 0, rounding="single").data == [0]
    assert mean(x, (1,), 2**30, 0, rounding="double").data == [1]


# moving bytes ---------------------------------------------------------------------------------------------------------


def test_pad() -> None:
    assert oracle.pad(tensor((1, 2), 1, 2), [(1, 0), (1, 2)], -7) == tensor(
        (2, 5), -7, -7, -7, -7, -7, -7, 1, 2, -7, -7
    )
    with pytest.raises(ValueError, match="every axis"):
        oracle.pad(tensor((1, 2), 1, 2), [(1, 0)], 0)


def test_concatenation() -> None:
    a, b = tensor((2, 1), 1, 2), tensor((2, 2), 3, 4, 5, 6)
    assert oracle.concatenation([a, b, a], 1) == tensor((2, 4), 1, 3, 4, 1, 2, 5, 6, 2)
    assert oracle.concatenation([b, tensor((1, 2), 7, 8)], 0) == tensor((3, 2), 3, 4, 5, 6, 7, 8)
    for tensors, axis in [
        ([a, b], 0),
        ([a, tensor((2,), 1, 2)], 1),
        ([a, tensor((2, 1, 1), 1, 2)], 1),
        ([a, a], 2),
        ([a, a], -1),
    ]:
        with pytest.raises(ValueError, match="axis"):
            oracle.concatenation(tensors, axis)


def test_reshape() -> None:
    x = count_up(2, 3)
    y = oracle.reshape(x, (3, 2))
    assert y == tensor((3, 2), 0, 1, 2, 3, 4, 5)
    assert y.data is not x.data
    with pytest.raises(ValueError, match="fill"):
        oracle.reshape(x, (4, 2))


def test_slice_cells() -> None:
    assert oracle.slice_cells(count_up(1, 6), (0, 5), (1, -2), (1, 3)) == tensor((1, 3), 5, 3, 1)
    assert oracle.slice_cells(count_up(2, 3), (0, 1), (1, 1), (2, 2)) == tensor((2, 2), 1, 2, 4, 5)
    with pytest.raises(IndexError):
        oracle.slice_cells(count_up(1, 6), (0, 4), (1, 2), (1, 2))


def test_gather() -> None:
    assert oracle.gather(count_up(2, 3), 1, (2, 0, 0)) == tensor((2, 3), 2, 0, 0, 5, 3, 3)


def test_take() -> None:
    numbers = tensor((2, 3), 2, 0, 9, -1, -9, 1)
    assert oracle.take(tensor((1, 3, 1), 5, 6, 7), numbers) == tensor((2, 3, 1), 7, 5, 7, 7, 5, 6)
    assert oracle.take(count_up(2, 3), tensor((2,), 2, -5)) == tensor((2,), 2, 3)
    assert oracle.take(count_up(1, 2, 2), tensor((1, 2), 1, 0)) == tensor((1, 2, 2), 2, 3, 0, 1)


def test_extremes() -> None:
    a, b = tensor((2, 2), 1, -2, 3, 4), tensor((1, 2), 2, 0)
    assert oracle.extreme(a, b, max) == tensor((2, 2), 2, 0, 3, 4)
    assert oracle.extreme(a, b, min) == tensor((2, 2), 1, -2, 2, 0)
    assert oracle.reduce_extreme(a, (1,), max) == tensor((2, 1), 1, 4)
    assert oracle.reduce_extreme(a, (0, 1), min) == tensor((1, 1), -2)


def test_arg_max_is_the_first_of_equals() -> None:
    assert oracle.arg_max(tensor((2, 3), 5, 7, 7, 1, 0, 1), 1) == tensor((2,), 1, 0)


def test_resize_bilinear() -> None:
    """Edges repeat, the middle blends, and ties go away from code 0."""
    row = tensor((1, 1, 2, 1), -1, 0)
    assert oracle.resize_bilinear(row, (1, 4), False, True) == tensor((1, 1, 4, 1), -1, -1, 0, 0)
    assert oracle.resize_bilinear(row, (1, 3), True, False) == tensor((1, 1, 3, 1), -1, -1, 0)
    assert oracle.resize_bilinear(tensor((1, 1, 2, 1), 0, 8), (1, 4), False, False).data == [0, 4, 8, 8]


def test_transpose() -> None:
    assert oracle.transpose(count_up(2, 3), (1, 0)) == tensor((3, 2), 0, 3, 1, 4, 2, 5)
    # NHWC to NCHW, which is not its own inverse: output (0, c, h, w) is input (0, h, w, c).
    y = oracle.transpose(count_up(1, 2, 3, 4), (0, 3, 1, 2))
    assert y.shape == (1, 4, 2, 3)
    assert y.at(0, 3, 1, 2) == 23
    assert y.at(0, 1, 0, 2) == 9
    with pytest.raises(ValueError, match="permute"):
        oracle.transpose(count_up(2, 3), (0, 0))


# softmax --------------------------------------------------------------------------------------------------------------


def test_constants_are_the_reals_they_name() -> None:
    assert round(math.exp(-1 / 8) * 2**31) == oracle.EXP_MINUS_EIGHTH_Q0_31
    assert round(2**31 / 3) == oracle.ONE_THIRD_Q0_31
    assert round(48 / 17 * 2**29) == oracle.FORTY_EIGHT_SEVENTEENTHS_Q2_29
    assert round(-32 / 17 * 2**29) == oracle.MINUS_THIRTY_TWO_SEVENTEENTHS_Q2_29
    for k, constant in oracle.EXP_MINUS_POWER_Q0_31.items():
        assert round(math.exp(-(2.0**k)) * 2**31) == constant


@pytest.mark.parametrize("integer_bits", [0, 2, 4, 5, 6, 8])
def test_exp_is_close_to_the_real_one(integer_bits: int) -> None:
    draw = random.Random(4)
    inputs = [-draw.randint(1, 2**31) for _ in range(2000)] + [-(2**k) for k in range(32)] + [INT32_MIN + 1]
    for a in inputs:
        real = math.exp(a / 2 ** (31 - integer_bits))
        assert abs(oracle.exp_on_negative_values(a, integer_bits) / 2**31 - real) <= 2**-22, a


def test_exp_at_its_corners() -> None:
    assert oracle.exp_on_negative_values(0, 5) == INT32_MAX
    assert oracle.exp_on_negative_values(INT32_MIN, 5) == 0  # e^-32, below half a unit
    # At -1/8 every Taylor term is 0; at -1/8 - 1/4 one factor remains, and at -1/8 - 1/4 - 16 two.
    assert oracle.exp_on_negative_values(-(2**23), 5) == 1895147668
    assert oracle.exp_on_negative_values(-3 * 2**23, 5) == round(1895147668 * 1672461947 / 2**31)
    assert oracle.exp_on_negative_values(-(2**23) - 2**30, 5) == round(1895147668 * 242 / 2**31)
    # A whole quarter is the polynomial at its end -1/4, and no factor. There x = -2^28, so x2 = 2^25, x3 = -2^22,
    # x4 = 2^19; (2^17 - 2^22) / 3 = -1354410.67, and half of that plus x2 is the tie 16100010.5; last comes
    # 1895147668 + 0.8824969 * (16100011 - 2^28).
    assert oracle.exp_on_negative_values(-(2**24), 5) == 1672462419
    # Past -32 the factors run out, and the result is 0 by decree.
    assert oracle.exp_on_negative_values(-33 * 2**24, 7) == 0
    with pytest.raises(ValueError, match="negative"):
        oracle.exp_on_negative_values(1, 5)
    with pytest.raises(OverflowError):
        oracle.exp_on_negative_values(INT32_MIN - 1, 5)


def test_one_over_one_plus_x() -> None:
    assert oracle.one_over_one_plus_x(0) == INT32_MAX
    # Twice the last of 884257973, 858250385, 858992817, 858993457; 757935405, 713350969, 715819313, 715827881; and
    # 509237850, 537335446, 538971294, 538976290, which a fourth step would take 4 lower.
    assert oracle.one_over_one_plus_x(2**29) == 1717986914
    assert oracle.one_over_one_plus_x(2**30) == 1431655762
    assert oracle.one_over_one_plus_x(2**31 - 2**24) == 1077952580
    draw = random.Random(5)
    for a in [1, INT32_MAX, *(draw.randint(0, INT32_MAX) for _ in range(2000))]:
        assert abs(oracle.one_over_one_plus_x(a) / 2**31 - 1 / (1 + a / 2**31)) <= 2**-28
    for a in [-1, 2**31]:
        with pytest.raises(ValueError, match="outside"):
            oracle.one_over_one_plus_x(a)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 255), (2, 128), (3, 85), (4, 64), (5, 51), (256, 1), (511, 1), (512, 0), (600, 0), (4095, 0)],
)
@pytest.mark.parametrize("code", [-128, 0, 127])
def test_softmax_of_equal_inputs(count: int, expected: int, code: int) -> None:
    # 256 / count, saturated at 255; the output scale is 1/256.
    x = Tensor((count,), [code] * count)
    assert oracle.softmax(x, 0.1, signed=True).data == [expected - 128] * count
    assert oracle.softmax(x, 0.1, signed=False).data == [expected] * count


def test_softmax_is_per_row() -> None:
    y = oracle.softmax(tensor((3, 1, 2), 5, 5, 100, -100, 0, 127), 1.0, signed=True)
    assert y == tensor((3, 1, 2), 0, 0, 127, -128, -128, 127)


@pytest.mark.parametrize(
    ("scale", "multiplier", "left_shift", "radius"),
    [
        (0.5, 2**30, 26, 31),
        (1.0, 2**30, 27, 15),  # 15.5
        (0.0078125, 2**30, 20, 1984),
        (1.5 * 2**-26, 3 * 2**29, 1, 31 * 2**25),
        (15.0, 15 * 2**27, 30, 1),
        (16.0, 2**30, 31, 0),
        (32.0, INT32_MAX, 31, 0),  # 2^31, capped
        (1000.0, INT32_MAX, 31, 0),
    ],
)
def test_softmax_multiplier_and_radius(scale: float, multiplier: int, left_shift: int, radius: int) -> None:
    assert oracle.softmax_multiplier(scale) == (multiplier, left_shift)
    assert oracle.softmax_radius(left_shift) == radius


@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.1, 1.0, 7.9, 8.0, 15.9, 16.0, 1000.0])
def test_softmax_is_the_correctly_rounded_real_one(scale: float) -> None:
    draw = random.Random(6)
    for depth in [2, 3, 10, 100]:
        codes = [draw.randint(-128, 127) for _ in range(depth)]
        exponentials = [math.exp((code - max(codes)) * scale) for code in codes]
        expected = [min(round(256 * e / sum(exponentials)), 255) for e in exponentials]
        assert oracle.softmax(Tensor((depth,), codes), scale, signed=False).data == expected


def test_softmax_beta_multiplies_the_scale() -> None:
    x = tensor((4,), 3, 1, 4, 1)
    assert oracle.softmax(x, 0.25, signed=True, beta=2.0) == oracle.softmax(x, 0.5, signed=True)
    assert oracle.softmax(x, 0.25, signed=True) != oracle.softmax(x, 0.5, signed=True)


def test_softmax_limits() -> None:
    with pytest.raises(ValueError, match="small"):
        oracle.softmax(tensor((2,), 0, 0), 2.0**-26, signed=True)
    # 4096 ones are 2^31 in Q12.19.
    with pytest.raises(OverflowError):
        oracle.softmax(Tensor((4096,), [0] * 4096), 1.0, signed=True)


def test_softmax_counts_what_is_beyond_the_radius_as_zero() -> None:
    # At scale 1/2 the left shift is 26 and the radius 31: from a difference of 33 on, 32 bits would not hold it.
    assert oracle.softmax(tensor((3,), 127, 94, -128), 0.5, signed=True) == tensor((3,), 127, -128, -128)


# layers that remember -------------------------------------------------------------------------------------------------

svdf = partial(
    oracle.svdf,
    scales=(0.5, 0.5, 0.25, 1.0, 1.0),  # into the state by 1, out of it by 1/4
    zero_points=(0, 0),
    state_range=(-(2**15), 2**15 - 1),
    clamp_min=-128,
    clamp_max=127,
    rounding="double",
)


@pytest.mark.parametrize("rounding", BOTH)
def test_svdf_by_hand(rounding: Rounding) -> None:
    x, feature = tensor((1, 2), 5, 3), tensor((2, 2), 1, 2, 3, -1)
    time, state = tensor((2, 3), 1, 2, 3, -1, 0, 2), tensor((1, 2, 3), 7, 1, -2, 0, 4, 5)
    # Steps 4 and 2 give the features 8 and 10, in place of 7 and 0. Then 1 - 4 + 24 = 21 and -4 + 0 + 20 = 16, one sum.
    run = partial(svdf, x, feature, time, state=state, rank=2, zero_points=(1, -3), rounding=rounding)
    made, after = run(bias=[5])
    assert after == tensor((1, 2, 3), 1, -2, 8, 4, 5, 10)
    assert made == tensor((1, 1), 11 - 3)  # 42 / 4 is the tie 10.5
    assert run(bias=[-79])[0].data == [{"double": -11, "single": -10}[rounding] - 3]  # and -42 / 4 the tie -10.5
    # With rank 1 each filter is an output of its own: 21 / 4, by way of 10.5 and 11 or at once, and 16 / 4.
    apart = run(bias=[0, 0], rank=1, zero_points=(1, 0))
    assert apart == (tensor((1, 2), {"double": 6, "single": 5}[rounding], 4), after)


def test_svdf_saturates_state_and_output_and_keeps_samples_apart() -> None:
    time, state = tensor((1, 2), 3, 1), tensor((2, 1, 2), 9, -40, 9, 300)
    made, after = svdf(
        tensor((2, 1), 127, -128), tensor((1, 1), 127), time, [0], state, 1, scales=(0.5, 2, 0.25, 1.0, 1.0)
    )
    # 4 * 127^2 and 4 * 127 * -128 are past 16 bits.
    assert after == tensor((2, 1, 2), -40, 2**15 - 1, 300, -(2**15))
    assert made == tensor((2, 1), 127, -128)
    with pytest.raises(ValueError, match="rank"):
        svdf(tensor((1, 1), 0), tensor((3, 1), 1, 1, 1), tensor((3, 1), 1, 1, 1), [0], tensor((1, 3, 1), 0, 0, 0), 2)


def test_svdf_keeps_a_state_of_8_bits() -> None:
    one = tensor((1, 1), 1)
    for code, kept in ((100, 100), (43, 43), (127, 127), (-128, -128)):
        assert svdf(tensor((1, 1), code), one, one, [0], tensor((1, 1, 1), 9), 1, state_range=(-128, 127))[1].data == [
            kept
        ]
    twice = partial(svdf, feature=tensor((1, 1), 2), time=one, bias=[0], rank=1, state_range=(-128, 127))
    assert [twice(tensor((1, 1), code), state=tensor((1, 1, 1), 9))[1].data for code in (64, -65)] == [[127], [-128]]


def test_svdf_factors_by_hand() -> None:
    assert oracle.svdf_factors((0.5, 0.5, 0.25, 1.0, 1.0)) == ((2**30, 1), (2**30, -1))
    # Doubles from the scales on: singles between would cut the last 7 of 31 bits.
    a, b, c = (oracle.float32(scale) for scale in (0.1, 0.7, 0.3))
    into, out = oracle.svdf_factors((a, b, c, a, b))
    assert into == oracle.quantize_multiplier(a * b / c) != oracle.quantize_multiplier(oracle.float32(a * b) / c)
    assert out == oracle.quantize_multiplier(c * a / b)


def lstm_of(
    weight: int = 0, recurrent: int = 0, biases: tuple[int, ...] = (0, 0, 0, 0), **changes: object
) -> oracle.Lstm:
    """One unit on one input; its gates' factors are 1 and 8."""
    fields: dict[str, object] = {
        "weight": tensor((4, 1, 1), *[weight] * 4),
        "recurrent": tensor((4, 1, 1), *[recurrent] * 4),
        "bias": tensor((4, 1), *biases),
        "weight_scales": [2.0**-8] * 4,
        "recurrent_scales": [2.0**-2] * 4,
        "scales": (2.0**-4, 2.0**-11, 2.0**-7),
        "zero_points": (0, 0),
        "cell_clip": 0,
        "clamps": (-128, 127),
        "rounding": "double",
        **changes,
    }
    return oracle.Lstm(**fields)  # type: ignore[arg-type]


def test_lstm_factors_by_hand() -> None:
    layer = lstm_of()
    assert layer.gate_factors(0) == ((2**30, 1), (2**30, 4))
    # 2^-15, 2^-30 / 2^-11 and 2^-30 / 2^-7.
    assert layer.cell_factors() == ((2**30, -14), (2**30, -18), (2**30, -22))
    # The product of two scales stays a double.
    a, b = oracle.float32(0.1), oracle.float32(0.7)
    odd = lstm_of(weight_scales=[a] * 4, recurrent_scales=[a] * 4, scales=(b, 2.0**-11, b))
    assert odd.gate_factors(3) == (oracle.quantize_multiplier(a * b * 4096),) * 2
    assert odd.gate_factors(3)[0] != oracle.quantize_multiplier(oracle.float32(a * b) * 4096)


def test_the_sigmoid_table_at_points_of_the_published_one() -> None:
    assert oracle.SIGMOID_TABLE[:5] == [32768, 33451, 34133, 34813, 35493]
    assert oracle.SIGMOID_TABLE[13:15] == [41432, 42064]
    assert len(oracle.SIGMOID_TABLE) == 256


def test_lstm_step_by_hand() -> None:
    # Three gates get 0, whose logistic is 1/2. The candidate gets 256 = 1/16; three times it is the table's fourth
    # point, 34813 - 32768 = 2045. Kept is 1000 / 2 = 500; added 2045 / 2 * 2^-15 / 2^-11 = 63.9, so that the cell is
    # 564. Its argument 564 * 3 * 4096 / 2048 = 3384 lies 56 of 256 from 41432 to 42064: 41432 + 138.25 - 32768 = 8802.25.
    # Half of that in 128ths is 17.19.
    layer = lstm_of(biases=(0, 0, 256, 0), zero_points=(0, -5))
    assert layer.gate(2, 0, [77], [-5]) == 256
    assert layer.step(0, [77], [-5], 1000) == (17 - 5, 564)
    assert lstm_of(biases=(0, 0, 256, 0), cell_clip=560).step(0, [0], [0], 1000)[1] == 560
    assert lstm_of(biases=(0, 0, -256, 0), cell_clip=560).step(0, [0], [0], -1000)[1] == -560
    assert lstm_of(biases=(0, 0, 256, 0), clamps=(0, 16)).step(0, [0], [0], 1000)[0] == 16


def test_lstm_gates_see_steps_and_saturate_each_by_itself() -> None:
    layer = lstm_of(weight=3, recurrent=-2, biases=(1, 20, 300, 4000), zero_points=(-4, 10))
    # 3 * (6 + 4) = 30 with the bias; -2 * (13 - 10) * 8 = -48.
    assert [layer.gate(gate, 0, [6], [13]) for gate in range(4)] == [-17, 2, 282, 3982]
    # 40000 is 32767 before -16 * 127 * 8 = -16256 joins it; and the other way round.
    steep = lstm_of(recurrent=-16, biases=(40000, -40000, 0, 0))
    assert steep.gate(0, 0, [0], [127]) == 32767 - 16256
    assert steep.gate(1, 0, [0], [-127]) == -32768 + 16256
    assert lstm_of(recurrent=16, biases=(30000, 0, 0, 0)).gate(0, 0, [0], [127]) == 32767


def test_lstm_gates_are_input_forget_candidate_output() -> None:
    # 30000 / 4096 is 7.3, whose logistic is 32746 (0.99934) and tanh 32767; that of -7.3 is 22.
    on, off = 30000, -30000
    open_all = lstm_of(biases=(on, on, on, on)).step(0, [0], [0], 1000)
    assert open_all[1] == 999 + 2047  # what is kept, then what is added
    assert lstm_of(biases=(off, on, on, on)).step(0, [0], [0], 1000)[1] == 999 + 1
    assert lstm_of(biases=(on, off, on, on)).step(0, [0], [0], 1000)[1] == 1 + 2047
    assert lstm_of(biases=(on, on, off, on)).step(0, [0], [0], 1000)[1] == 999 - 2047
    assert lstm_of(biases=(on, on, on, off)).step(0, [0], [0], 1000) == (0, open_all[1])


def test_lstm_cell_saturates_and_ties_go_as_the_rounding_says() -> None:
    on = 30000
    assert lstm_of(biases=(on, on, on, on)).step(0, [0], [0], 32000)[1] == 32767
    assert lstm_of(biases=(on, on, -on, on)).step(0, [0], [0], -32000)[1] == -32768
    # Half of a cell of -1, away from 0 or up.
    assert lstm_of().step(0, [0], [0], -1)[1] == -1
    assert lstm_of(rounding="single").step(0, [0], [0], -1)[1] == 0
    # At a cell scale of 2^-15 an argument is 3/8 of the code: 1.5 and -1.5, ties up.
    assert [oracle._cell_argument(code, 2.0**-15) for code in (4, -4, 32767)] == [2, -1, 12288]


def test_lstm_in_two_halves_is_one_run_and_each_sample_its_own() -> None:
    draw = random.Random(7)
    layer = oracle.Lstm(
        Tensor((4, 3, 2), [draw.randint(-127, 127) for _ in range(24)]),
        Tensor((4, 3, 3), [draw.randint(-127, 127) for _ in range(36)]),
        Tensor((4, 3), [draw.randint(-3000, 3000) for _ in range(12)]),
        [0.01] * 4, [0.02] * 4, (0.05, 2.0**-12, 2.0**-7), (3, 1), 0, (-128, 127), "double",
    )  # fmt: skip
    codes = [[draw.randint(-128, 127) for _ in range(12)] for _ in range(2)]
    start = (Tensor((1, 3), [1] * 3), Tensor((1, 3), [0] * 3))
    whole = [oracle.lstm(layer, Tensor((1, 6, 2), row), *start) for row in codes]
    for row, (made, *states) in zip(codes, whole, strict=True):
        first, *between = oracle.lstm(layer, Tensor((1, 2, 2), row[:4]), *start)
        second, *after = oracle.lstm(layer, Tensor((1, 4, 2), row[4:]), *between)
        assert first.data + second.data == made.data
        assert after == states
        assert made.data[-3:] == states[0].data
    together = oracle.lstm(
        layer, Tensor((2, 6, 2), codes[0] + codes[1]), Tensor((2, 3), [1] * 6), Tensor((2, 3), [0] * 6)
    )
    for i, joined in enumerate(together):
        assert joined.data == whole[0][i].data + whole[1][i].data


def test_lstm_is_near_the_real_one() -> None:
    """Within one code of the float layer of the same weights, over eight steps."""
    draw = random.Random(8)
    weight, recurrent = ([draw.randint(-127, 127) for _ in range(n)] for n in (24, 16))
    bias = [draw.randint(-2000, 2000) for _ in range(8)]
    a, b, s, out = 2.0**-6, 2.0**-7, 2.0**-7, 2.0**-7
    layer = oracle.Lstm(
        Tensor((4, 2, 3), weight), Tensor((4, 2, 2), recurrent), Tensor((4, 2), bias),
        [a] * 4, [b] * 4, (s, 2.0**-12, out), (7, -2), 0, (-128, 127), "double",
    )  # fmt: skip
    codes = [draw.randint(-128, 127) for _ in range(24)]
    made, *_ = oracle.lstm(layer, Tensor((1, 8, 3), codes), tensor((1, 2), -2, -2), tensor((1, 2), 0, 0))
    h, c = [0.0, 0.0], [0.0, 0.0]
    for t in range(8):
        x = [s * (code - 7) for code in codes[3 * t : 3 * t + 3]]
        z = [
            s * a * bias[row]
            + sum(a * weight[3 * row + i] * x[i] for i in range(3))
            + sum(b * recurrent[2 * row + i] * h[i] for i in range(2))
            for row in range(8)  # of gate row // 2, unit row % 2
        ]
        gate = [1 / (1 + math.exp(-v)) for v in z]
        c = [gate[2 + unit] * c[unit] + gate[unit] * math.tanh(z[4 + unit]) for unit in range(2)]
        h = [gate[6 + unit] * math.tanh(c[unit]) for unit in range(2)]
        for unit in range(2):
            assert abs(out * (made.at(0, t, unit) + 2) - h[unit]) <= out
