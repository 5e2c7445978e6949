"""QParams and the border: ranges that are ordinary, empty, tiny, broken; ties in float32; oracle and C beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import oracle
from unfloat import _native
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import (
    STORAGE,
    QParams,
    clamp_code,
    dequantize,
    float32,
    positive_scale,
    qparams_from_range,
    quantize,
)

TINY = float(np.finfo(np.float32).tiny)
SMALLEST = 2.0**-149  # the least subnormal float32
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)
LABELS = (
    QParams((float32(0.1),), 3),
    QParams((0.5,), -128),
    QParams((float32(1 / 3),), 127),
    QParams((float32(0.02),), 128, "uint8"),
    QParams((1.0,), 0, "uint8"),
    QParams((float32(6 / 255),), 1, "uint8", narrow=True),
    QParams((float32(0.3),), -2, bits=3),
    QParams((TINY,), 5),
    QParams((float32(1e36),), 5),
    QParams((float32(0.001),), 0, "int16", 16),
    QParams((2.0**-10,), 0, "int16", 16),
)


@st.composite
def labels(draw: st.DrawFn) -> QParams:
    """Any per-tensor label whose scale leaves room for its codes in float32."""
    dtype, bits, narrow = draw(st.sampled_from(sorted(STORAGE))), draw(st.integers(2, 8)), draw(st.booleans())
    if dtype == "int16":
        return QParams((draw(st.floats(TINY, 2.0**110, width=32)),), 0, dtype, 16)
    scale = draw(st.floats(TINY, 2.0**118, width=32))
    probe = QParams((scale,), 1 if dtype == "uint8" else 0, dtype, bits, narrow=narrow)
    return replace(probe, zero_point=draw(st.integers(probe.qmin, probe.qmax)))


def codes_of(label: QParams) -> np.ndarray:
    return np.arange(label.qmin, label.qmax + 1).astype(STORAGE[label.dtype])


# what a label may be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "bits", "narrow", "low", "high"),
    [
        ("int8", 8, False, -128, 127),
        ("int8", 8, True, -127, 127),
        ("uint8", 8, False, 0, 255),
        ("uint8", 8, True, 1, 255),
        ("int8", 2, False, -2, 1),
        ("int8", 4, True, -7, 7),
        ("uint8", 3, False, 0, 7),
    ],
)
def test_code_range(dtype: str, bits: int, narrow: bool, low: int, high: int) -> None:
    label = QParams((1.0,), low, dtype, bits, narrow=narrow)
    assert (label.qmin, label.qmax) == (low, high)
    for outside in (low - 1, high + 1):
        with pytest.raises(NumericDomainError, match="zero point"):
            replace(label, zero_point=outside)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 0.1, 1e39, 1e-60])
def test_a_scale_is_a_positive_finite_float32(scale: float) -> None:
    with pytest.raises(NumericDomainError, match="float32"):
        QParams((scale,))


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "int16"},
        {"dtype": "int16", "bits": 16, "zero_point": 1},
        {"dtype": "int16", "bits": 16, "narrow": True},
        {"dtype": "int32", "bits": 16},
        {"bits": 16},
        {"bits": 1},
        {"bits": 9},
        {"scale": ()},
        {"scale": (1.0, 2.0)},  # per channel, without an axis
    ],
)
def test_labels_that_mean_nothing(fields: dict[str, Any]) -> None:
    with pytest.raises(NumericDomainError):
        QParams(**{"scale": (1.0,), **fields})


def test_scales_take_the_shape_of_their_axis() -> None:
    label = QParams((0.5, 0.25, 2.0), axis=2)
    assert label.scales(4).shape == (1, 1, 3, 1)
    assert label.scales(4).dtype == np.float32
    x = np.ones((2, 1, 3, 1), np.float32)
    assert quantize(x, label)[1, 0, :, 0].tolist() == [2, 4, 1]  # 0.5 goes away from zero
    assert dequantize(quantize(x, label), label)[0, 0, :, 0].tolist() == [1.0, 1.0, 2.0]


# eq. 2 to 4: from a range ---------------------------------------------------------------------------------------------

RANGES = (
    (0.0, 255.0), (0.0, 6.0), (-1.0, 1.0), (-127.5, 127.5), (-127.25, 127.75), (-128.0, 127.0), (-201.0, 309.0),
    (-0.1, 5.0), (-5.0, 0.1), (2.0, 3.0), (-3.0, -2.0), (-1e-30, 1e30), (-3.4e38, 3.4e38), (0.0, TINY * 255),
)  # fmt: skip


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_from_range(low: float, high: float, dtype: str, bits: int, narrow: bool) -> None:
    label = qparams_from_range(low, high, dtype, bits, narrow=narrow)
    assert (label.scale[0], label.zero_point) == oracle.qparams_from_range(low, high, label.qmin, label.qmax)
    assert (label.dtype, label.bits, label.narrow, label.axis) == (dtype, bits, narrow, None)


@given(SINGLES, SINGLES, st.sampled_from(["int8", "uint8"]), st.integers(2, 8), st.booleans())
def test_a_window_holds_zero_and_the_range(a: float, b: float, dtype: str, bits: int, narrow: bool) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    label = qparams_from_range(low, high, dtype, bits, narrow=narrow)
    assert dequantize(np.array([label.zero_point], STORAGE[dtype]), label)[0] == 0
    step = label.scale[0]
    assert (label.qmin - label.zero_point) * step <= low + step * (0.5 + 1e-4)
    assert (label.qmax - label.zero_point) * step >= high - step * (0.5 + 1e-4)
    assume((high - low) / (label.qmax - label.qmin) >= TINY)  # below, the oracle refuses or keeps a subnormal scale
    assert (step, label.zero_point) == oracle.qparams_from_range(low, high, label.qmin, label.qmax)


def test_the_end_with_the_smaller_error_decides_the_zero_point() -> None:
    # The scale is 2, but (high - low) / 255 only near it: 100.5 from low, beside a tie from high.
    assert qparams_from_range(-201.0, 255 * (2 + 2**-24) - 201.0, "uint8").zero_point == 101
    assert qparams_from_range(-201.0, 255 * (2 + 2**-24) - 201.0, "int8").zero_point == -28


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_words_are_symmetric(low: float, high: float) -> None:
    """Eq. 37."""
    label = qparams_from_range(low, high, "int16", 16)
    assert (label.zero_point, label.qmin, label.qmax) == (0, -32768, 32767)
    assert label.scale[0] == max(float32(max(-low, high, 0.0) / 32767), TINY)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_range_of_nothing(dtype: str) -> None:
    for low, high in ((0.0, 0.0), (-0.0, 0.0)):
        assert qparams_from_range(low, high, dtype) == QParams((1.0,), 0, dtype)
    assert qparams_from_range(0.0, 0.0, "uint8", narrow=True).zero_point == 1


@pytest.mark.parametrize("width", [SMALLEST, 10 * SMALLEST, 1e-44, TINY, 200 * TINY])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_subnormal_range_takes_the_smallest_normal_scale(width: float, sign: int) -> None:
    label = qparams_from_range(*sorted((0.0, sign * width)))
    assert label.scale == (TINY,)
    x = np.array([0.0, sign * width, -sign * width, SMALLEST, 1.0, -1.0], np.float32)
    assert quantize(x, label)[0] == label.zero_point
    expected = [oracle.quantize(float(v), TINY, label.zero_point, -128, 127) for v in x]
    assert quantize(x, label).tolist() == expected


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan), (0.0, math.inf), (-math.inf, 0.0)],
)
def test_broken_ranges(low: float, high: float) -> None:
    with pytest.raises(NumericDomainError, match="range"):
        qparams_from_range(low, high)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_range_past_float32_has_no_scale() -> None:
    with pytest.raises(NumericDomainError, match="float32"):
        qparams_from_range(0.0, 1e300)


def test_least_scale() -> None:
    assert qparams_from_range(-1.0, 1.0, least_scale=0.5).scale == (0.5,)
    assert qparams_from_range(-1.0, 1.0, least_scale=1e-9).scale == (float32(2 / 255),)
    label = qparams_from_range(0.0, 0.0, "uint8", narrow=True, least_scale=0.25)  # weights of zero with a bias
    assert (label.scale, label.zero_point) == ((0.25,), 1)


@pytest.mark.parametrize("x", [0.0, 1e-60, SMALLEST, TINY / 2])
def test_positive_scale_is_never_subnormal(x: float) -> None:
    assert positive_scale(x) == TINY


# eq. 5: the border in -------------------------------------------------------------------------------------------------


def reals(label: QParams) -> np.ndarray:
    """Every half step of the label's window and past it, the neighbours of those, ends of float32."""
    halves = np.arange(-1030, 1031) * 0.5 * label.scale[0]
    with np.errstate(over="ignore"):
        near = halves.astype(np.float32)
    ends = np.array([0.0, -0.0, SMALLEST, -SMALLEST, TINY, 3.4e38, -3.4e38, np.inf, -np.inf], np.float32)
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)), ends]
    return np.concatenate(around)


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_quantize(label: QParams) -> None:
    x = reals(label)
    expected = [oracle.quantize(float(v), label.scale[0], label.zero_point, label.qmin, label.qmax) for v in x]
    found = quantize(x, label)
    assert found.dtype == STORAGE[label.dtype]
    assert found.tolist() == expected


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_quantize_in_c(label: QParams) -> None:
    x = reals(label)
    out = np.empty(x.shape, STORAGE[label.dtype])
    assert _native.quantize(x, label.scale[0], label.zero_point, label.qmin, label.qmax, out)
    assert (out == quantize(x, label)).all()
    image = np.resize(x, (2, 3, 5, 7))
    turned = np.empty((2, 5, 7, 3), STORAGE[label.dtype])  # NCHW in, NHWC out, through a transposed view
    view = turned.transpose(0, 3, 1, 2)
    assert _native.quantize(image, label.scale[0], label.zero_point, label.qmin, label.qmax, view)
    assert (turned == quantize(image, label).transpose(0, 2, 3, 1)).all()


def test_quantize_divides_in_float32() -> None:
    label = QParams((float32(0.02),))
    x = np.float32(-5.0099998)
    assert float(x) / label.scale[0] != -250.5 == x / np.float32(label.scale[0])
    assert x * (1 / np.float32(label.scale[0])) != -250.5
    wide = replace(label, scale=(float32(0.02 * 2),))
    assert quantize(np.array([x]), wide).tolist() == [-125]
    label = QParams((float32(0.1),))
    assert quantize(np.array([0.25]), label).tolist() == [3]  # 2.5 in float32, below it in float64


def test_ties_go_away_from_zero_before_the_zero_point_is_added() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    for zero_point in (-1, 0, 1):
        found = quantize(x, QParams((1.0,), zero_point)).astype(int) - zero_point
        assert found.tolist() == [-3, -2, -1, 1, 2, 3]


def test_a_number_just_below_a_tie_stays_below() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert quantize(np.array([below, -below]), QParams((1.0,))).tolist() == [0, 0]


@pytest.mark.parametrize("x", [[math.nan], [1.0, math.nan, 2.0]])
def test_nan_has_no_code(x: list[float]) -> None:
    array = np.array(x, np.float32)
    with pytest.raises(NumericDomainError, match="NaN"):
        quantize(array, LABELS[0])
    assert not _native.quantize(array, 1.0, 0, -128, 127, np.empty(len(x), np.int8))


@given(labels(), SINGLES, SINGLES)
def test_quantize_is_monotone_and_exact_at_zero(label: QParams, a: float, b: float) -> None:
    codes = quantize(np.array([*sorted([a, b]), 0.0], np.float32), label).astype(int)
    assert codes[0] <= codes[1]
    assert codes[2] == label.zero_point


# eq. 1: the border out ------------------------------------------------------------------------------------------------


@given(labels())
def test_every_code_survives_the_round_trip(label: QParams) -> None:
    codes = codes_of(label)
    assert (quantize(dequantize(codes, label), label) == codes).all()


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_dequantize(label: QParams) -> None:
    codes = codes_of(label)
    expected = [oracle.dequantize(int(code), label.scale[0], label.zero_point) for code in codes]
    found = dequantize(codes, label)
    assert found.dtype == np.float32
    assert found.tolist() == expected
    out = np.empty(codes.shape, np.float32)
    _native.dequantize(codes, label.scale[0], label.zero_point, out)
    assert out.tolist() == expected


# eq. 6: clamps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_clamp_codes_are_the_codes_of_the_bounds(label: QParams) -> None:
    for bound in (0.0, -0.0, 6.0, 1.0, -1.0, 0.05, 0.15, 0.5 * label.scale[0], 1e30, -1e30, math.inf, -math.inf):
        expected = oracle.quantize(bound, label.scale[0], label.zero_point, label.qmin, label.qmax)
        assert clamp_code(bound, label) == expected
    assert clamp_code(0.0, label) == label.zero_point


@given(labels(), SINGLES)
def test_clamp_codes_clamp_as_the_reals_do(label: QParams, bound: float) -> None:
    """Clamping codes equals clamping reals first: the fused clamp is no approximation."""
    x = dequantize(codes_of(label), label)
    clamped = quantize(np.minimum(x, np.float32(bound)), label)
    assert (clamped == np.minimum(codes_of(label), clamp_code(bound, label))).all()
