"""qmath.h against spec.fixedpoint, and the border against spec.qparams: 0 mismatches, ties and extremes first."""

import numpy as np
import pytest

from unfloat import _native
from unfloat.spec import fixedpoint as spec
from unfloat.spec.qparams import QParams, float32
from unfloat.spec.qparams import dequantize as spec_dequantize
from unfloat.spec.qparams import quantize as spec_quantize

INT32_MIN, INT32_MAX = spec.INT32_MIN, spec.INT32_MAX
EDGES = [0, 1, 2, 3, 2**29, 2**30 - 1, 2**30, 2**30 + 1, INT32_MAX - 1, INT32_MAX]
EXTREMES = np.array(sorted({*EDGES, *(-e for e in EDGES), INT32_MIN}), np.int64)


def integers(seed: int, count: int = 20_000, bits: int = 32) -> np.ndarray:
    """Extremes, values near every power of two, and random ones of every magnitude, all within int`bits`."""
    rng = np.random.default_rng(seed)
    powers = 2 ** np.arange(31, dtype=np.int64)
    near = np.concatenate([sign * powers + step for sign in (-1, 1) for step in (-1, 0, 1)])
    drawn = rng.integers(INT32_MIN, INT32_MAX + 1, count) >> rng.integers(0, 31, count)
    values = np.concatenate([EXTREMES, near, drawn])
    return values[(values >= -(2 ** (bits - 1))) & (values < 2 ** (bits - 1))]


def int32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.int32)


def filled(function, *arguments, size: int) -> np.ndarray:
    out = np.empty(size, np.int32)
    function(*arguments, out)
    return out


def test_srdhm() -> None:
    a, b = (values.ravel() for values in np.meshgrid(EXTREMES, EXTREMES))
    a, b = np.concatenate([a, integers(1)]), np.concatenate([b, integers(2)])
    found = filled(_native.srdhm, int32(a), int32(b), size=a.size)
    np.testing.assert_array_equal(found, spec.saturating_rounding_doubling_high_mul(a, b))


@pytest.mark.parametrize("exponent", range(32))
def test_rounding_divide_by_pot(exponent: int) -> None:
    ties = (np.arange(-50, 50, dtype=np.int64) * 2 + 1) << max(exponent - 1, 0)
    x = np.concatenate([integers(3), ties[(ties >= INT32_MIN) & (ties <= INT32_MAX)]])
    found = filled(_native.rounding_divide_by_pot, int32(x), exponent, size=x.size)
    np.testing.assert_array_equal(found, spec.rounding_divide_by_pot(x, np.int64(exponent)))


@pytest.mark.parametrize("rounding", spec.ROUNDINGS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shift", range(spec.SHIFT_MIN, spec.SHIFT_MAX + 1))
def test_requantize(shift: int, per_channel: bool, rounding: str) -> None:
    """Every shift; accumulators that stay int32 after a left shift; multipliers at both ends and 0."""
    accumulator = integers(4, bits=32 - max(shift, 0))
    multiplier = np.array([0, 1, 2**30, 2**30 + 1, 3 * 2**29, INT32_MAX - 1, INT32_MAX], np.int32)
    if not per_channel:
        multiplier = multiplier[[2 + shift % 5]]
    table = np.repeat(int32(accumulator)[:, None], 7, axis=1)
    expected = spec.requantize(table.astype(np.int64), multiplier.astype(np.int64), np.int64(shift), rounding)
    _native.requantize(table, multiplier, np.full(multiplier.size, shift, np.int8), rounding)
    np.testing.assert_array_equal(table, expected)


def test_requantize_mixes_shifts_of_both_signs() -> None:
    shift = np.arange(-31, 31, dtype=np.int8)
    multiplier = np.random.default_rng(5).integers(2**30, 2**31, shift.size).astype(np.int32)
    table = np.zeros((3, shift.size), np.int32)
    table[1], table[2] = 1, -1
    expected = spec.requantize(table.astype(np.int64), multiplier.astype(np.int64), shift.astype(np.int64), "double")
    _native.requantize(table, multiplier, shift, "double")
    np.testing.assert_array_equal(table, expected)


def test_average() -> None:
    total = integers(6)
    count = np.random.default_rng(7).integers(1, 2**16, total.size)
    count[: total.size // 2] = np.arange(total.size // 2) % 9 + 1
    found = filled(_native.average, int32(total), int32(count), size=total.size)
    np.testing.assert_array_equal(found, spec.average(total, count))


@pytest.mark.parametrize("integer_bits", [0, 1, 4, 5, 6, 12, 29])
def test_exp_on_negative_values(integer_bits: int) -> None:
    a = -np.abs(integers(8))
    found = filled(_native.exp_on_negative_values, int32(a), integer_bits, size=a.size)
    np.testing.assert_array_equal(found, spec.exp_on_negative_values(a, integer_bits))


def test_one_over_one_plus_x() -> None:
    a = integers(9)
    a = a[a >= 0]
    found = filled(_native.one_over_one_plus_x, int32(a), size=a.size)
    np.testing.assert_array_equal(found, spec.one_over_one_plus_x(a))


# the border -----------------------------------------------------------------------------------------------------------

LABELS = [
    QParams((float32(1.0),)),
    QParams((float32(0.5),), -128),
    QParams((float32(0.1),), 7),
    QParams((float32(2e-38),), 127),
    QParams((float32(3e38),)),
    QParams((float32(0.02),), 130, "uint8"),
    QParams((float32(0.25),), 5, "uint8", 3),
    QParams((float32(0.3),), -1, "int8", 2),
]


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_quantize(label: QParams) -> None:
    scale = np.float32(label.scale[0])
    halves = np.arange(-600, 600, dtype=np.float32) / 2
    with np.errstate(over="ignore"):
        near = np.concatenate([halves * scale, np.nextafter(halves, np.float32(0)) * scale, halves])
    random = np.random.default_rng(10).integers(0, 2**32, 50_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38, -3.4e38], np.float32)
    x = np.concatenate([near, random[~np.isnan(random)], special]).astype(np.float32)
    codes = np.empty(x.shape, label.dtype)
    assert _native.quantize(x, label.scale[0], label.zero_point, label.qmin, label.qmax, codes)
    np.testing.assert_array_equal(codes, spec_quantize(x, label))


@pytest.mark.parametrize("scale", [0.02, 0.0123, 1 / 3, 0.9999, 1.7e-30, 7.7e30])
def test_quantize_beside_every_tie_alone_among_other_numbers(scale: float) -> None:
    """Each row holds one number that a product with the scale's inverse may take to the wrong side of a tie."""
    label = QParams((float32(scale),), 9)
    halves = np.arange(-140, 121) + 0.5
    moved = [halves + side * 2.0**-power for side in (-1, 1) for power in (12, 13, 14, 15, 16, 17)]
    close = (np.stack([halves, *moved]) * label.scale[0]).astype(np.float32)
    close = np.stack([close, np.nextafter(close, np.float32(np.inf)), np.nextafter(close, np.float32(-np.inf))])
    x = np.zeros((close.size, 256), np.float32)
    x[np.arange(close.size), np.arange(close.size) % 256] = close.ravel()
    codes = np.empty(x.shape, np.int8)
    assert _native.quantize(x, label.scale[0], label.zero_point, -128, 127, codes)
    np.testing.assert_array_equal(codes, spec_quantize(x, label))


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_dequantize(label: QParams) -> None:
    codes = np.arange(label.qmin, label.qmax + 1).astype(label.dtype)
    x = np.empty(codes.shape, np.float32)
    _native.dequantize(codes, label.scale[0], label.zero_point, x)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(x, spec_dequantize(codes, label))


def test_the_border_changes_layouts() -> None:
    """Any strides on the codes' side; rows longer than the buffer that strided codes pass through."""
    label = QParams((float32(0.02),), 3)
    for channels in (1, 2, 3, 4, 16, 17):
        x = np.random.default_rng(channels).standard_normal((2, channels, 5, 700)).astype(np.float32)
        codes = np.empty((2, 5, 700, channels), np.int8)
        assert _native.quantize(x, 0.02, 3, -128, 127, codes.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(codes, spec_quantize(x, label).transpose(0, 2, 3, 1))
        x[1, channels - 1, 4, 699] = np.nan
        assert not _native.quantize(x, 0.02, 3, -128, 127, codes.transpose(0, 3, 1, 2))
    assert _native.quantize(np.empty((0, 3, 5, 7), np.float32), 0.02, 3, -128, 127, np.empty((0, 3, 5, 7), np.int8))
    x = np.random.default_rng(11).standard_normal((2, 3, 5, 2500)).astype(np.float32)
    codes = np.empty((2, 5, 2500, 3), np.int8)
    assert _native.quantize(x, 0.02, 3, -128, 127, codes.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(codes, spec_quantize(x, label).transpose(0, 2, 3, 1))
    back = np.empty_like(x)
    _native.dequantize(codes.transpose(0, 3, 1, 2), 0.02, 3, back)
    np.testing.assert_array_equal(back, spec_dequantize(codes, label).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("position", [0, 1, 499, 999])
def test_quantize_reports_nan(position: int) -> None:
    x = np.zeros(1000, np.float32)
    x[position] = np.nan
    assert not _native.quantize(x, 1.0, 0, -128, 127, np.empty(1000, np.int8))


def test_bad_arguments_are_errors() -> None:
    x, out = np.zeros(4, np.float32), np.zeros(4, np.int8)
    for bad in [(0.0, 0, -128, 127), (1.0, 0, -129, 127), (1.0, 128, -128, 127), (np.nan, 0, -128, 127)]:
        with pytest.raises(ValueError, match="must"):
            _native.quantize(x, *bad, out)
    with pytest.raises(ValueError, match="shape"):
        _native.quantize(x, 1.0, 0, -128, 127, np.zeros(5, np.int8))
    with pytest.raises(TypeError):
        _native.quantize(x.astype(np.float64), 1.0, 0, -128, 127, out)
    table, one = np.zeros((2, 3), np.int32), np.ones(1, np.int32)
    for multiplier, shift, rounding in [
        (one, np.array([31], np.int8), "double"),
        (-one, np.zeros(1, np.int8), "double"),
        (np.ones(2, np.int32), np.zeros(2, np.int8), "double"),
        (one, np.zeros(1, np.int8), "nearest"),
    ]:
        with pytest.raises(ValueError, match="must"):
            _native.requantize(table, multiplier, shift, rounding)
