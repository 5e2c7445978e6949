"""Back ends: NumPy = PyTorch = plain loops, exact past what one float32 sum can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unfloat.quant.backend import FLOAT32_EXACT, TorchBackend
from unfloat.spec import fixedpoint as fp
from unfloat.spec.backend import Backend
from unfloat.spec.numpy_backend import NumpyBackend

NUMPY, TORCH = NumpyBackend(), TorchBackend()
BACKENDS = [pytest.param(NUMPY, id="numpy"), pytest.param(TORCH, id="torch")]
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], int]
PLAIN: Geometry = ((1, 1), (1, 1), (0, 0, 0, 0), 1)


def convolve(b: Backend, x: np.ndarray, weight: np.ndarray, geometry: Geometry = PLAIN) -> np.ndarray:
    return np.asarray(b.accumulate_convolution(b.constant(x), b.constant(weight), *geometry), np.int64)


def multiply(b: Backend, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(b.accumulate_matmul(b.constant(x), b.constant(weight)), np.int64)


def loops(x: np.ndarray, weight: np.ndarray, geometry: Geometry = PLAIN) -> np.ndarray:
    """Convolution by definition, on integers, cell by cell."""
    stride, dilation, (top, left, bottom, right), groups = geometry
    padded = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    outputs, kernel_h, kernel_w, depth = weight.shape
    rows = (padded.shape[1] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    columns = (padded.shape[2] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    out = np.zeros((x.shape[0], rows, columns, outputs), np.int64)
    for n, row, column, o in np.ndindex(*out.shape):
        first = o // (outputs // groups) * depth
        for i, j, c in np.ndindex(kernel_h, kernel_w, depth):
            cell = padded[n, row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1], first + c]
            out[n, row, column, o] += int(weight[o, i, j, c]) * cell
    return out


def integers(rng: np.random.Generator, *shape: int, most: int = 255) -> np.ndarray:
    return rng.integers(-most, most, shape, endpoint=True)


# every geometry -------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Any convolution with at least one output: strides, dilations, uneven padding, groups, depthwise."""
    small = st.integers(1, 3)
    groups, depth, times = draw(small), draw(small), draw(small)
    kernel, stride, dilation = ((draw(small), draw(small)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    image = [max(1, span - before - after + draw(st.integers(0, 4)))
             for span, before, after in zip(spans, padding[:2], padding[2:], strict=True)]  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = integers(rng, draw(st.integers(1, 2)), *image, groups * depth)
    weight = integers(rng, groups * times, *kernel, depth, most=127)
    return x, weight, (stride, dilation, padding, groups)  # type: ignore[return-value]


@settings(max_examples=60)
@given(convolutions())
def test_convolutions_of_every_geometry(case: tuple[np.ndarray, np.ndarray, Geometry]) -> None:
    expected = loops(*case)
    assert (convolve(NUMPY, *case) == expected).all()
    assert (convolve(TORCH, *case) == expected).all()


@pytest.mark.parametrize("b", BACKENDS)
def test_rows_and_columns_are_not_mixed_up(b: Backend) -> None:
    x, weight = np.arange(30).reshape(1, 5, 6, 1), np.arange(6).reshape(1, 2, 3, 1)
    geometry: Geometry = ((2, 1), (1, 2), (1, 0, 2, 3), 1)
    assert (convolve(b, x, weight, geometry) == loops(x, weight, geometry)).all()


@pytest.mark.parametrize("b", BACKENDS)
@pytest.mark.parametrize("rows", [(1,), (4,), (2, 7), (2, 3, 5)])
def test_matrix_products(b: Backend, rows: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight = integers(rng, *rows, 33), integers(rng, 18, 33, most=127)
    assert (multiply(b, x, weight) == np.einsum("...k,nk->...n", x, weight)).all()


# past 2^24 ------------------------------------------------------------------------------------------------------------


def largest(depth: int) -> np.ndarray:
    """Activations of the largest step, one of them an even step, so that a sum of odd weights past 2^24 is odd."""
    x = np.full(depth, 255)
    x[0] -= depth % 2 == 0
    return x


def float32_sum(x: np.ndarray, weight: np.ndarray) -> int:
    """What one float32 convolution makes of it."""
    as_image = [torch.from_numpy(a.reshape(1, -1, 1, 1).astype(np.float32)) for a in (x, weight)]
    return int(torch.nn.functional.conv2d(*as_image).item())


@pytest.mark.parametrize("b", BACKENDS)
@pytest.mark.parametrize("depth", [1024, 1025, 4096, 16384])
def test_depths_past_float32(b: Backend, depth: int) -> None:
    x, weight = largest(depth), np.full(depth, 127)
    exact = 127 * int(x.sum())
    assert exact > FLOAT32_EXACT and exact % 2 == 1
    assert float32_sum(x, weight) != exact  # the witness: unsplit, float32 cannot even hold the result
    for sign in (-1, 1):
        assert multiply(b, x[None], sign * weight[None]) == sign * exact
        assert convolve(b, x.reshape(1, 1, 1, depth), sign * weight.reshape(1, 1, 1, depth)) == sign * exact


@pytest.mark.parametrize("b", BACKENDS)
def test_only_one_channel_of_many_is_past_float32(b: Backend) -> None:
    rng = np.random.default_rng(1)
    x, weight = integers(rng, 3, 2048), integers(rng, 5, 2048, most=3)
    x[1], weight[3] = largest(2048), 127
    assert (multiply(b, x, weight) == x @ weight.T).all()


@pytest.mark.parametrize("b", BACKENDS)
@pytest.mark.parametrize("groups", [1, 2])
def test_windows_and_groups_past_float32(b: Backend, groups: int) -> None:
    """Groups share the input channels and cannot be split, so they go through float64."""
    x = np.tile(largest(600), (1, 3, 3, groups)).reshape(1, 3, 3, 600 * groups)
    weight = np.full((2, 3, 3, 600), 127)
    geometry: Geometry = ((1, 1), (1, 1), (1, 1, 1, 1), groups)
    assert (convolve(b, x, weight, geometry) == loops(x, weight, geometry)).all()


@pytest.mark.parametrize("b", BACKENDS)
def test_one_channel_of_a_huge_window_is_past_float32(b: Backend) -> None:
    x, weight = largest(45 * 45).reshape(1, 45, 45, 1), np.full((1, 45, 45, 1), 127)
    assert convolve(b, x, weight) == (x * 127).sum() > FLOAT32_EXACT


@pytest.mark.parametrize("depth", [518, 519])
def test_at_the_bound_itself(depth: int) -> None:
    """518 cells of 127 * 255 stay below 2^24, 519 do not."""
    assert (depth * 127 * 255 < FLOAT32_EXACT) == (depth == 518)
    x, weight = largest(depth)[None], np.full((1, depth), 127)
    for b in (NUMPY, TORCH):
        assert multiply(b, x, weight) == 127 * x.sum()


def test_float32_is_used_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the Simulation would be slow, and the splits above not be tested."""
    seen: list[tuple[Any, int]] = []
    plain = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w: seen.append((x.dtype, x.shape[-1])) or plain(x, w))
    for depth in (518, 1024):
        multiply(TORCH, np.ones((1, depth), np.int64), np.full((1, depth), 127))
    assert seen == [(torch.float32, 518), (torch.float32, 512), (torch.float32, 512)]


def test_autocast_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    x, weight = integers(rng, 4, 300), integers(rng, 7, 300, most=127)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (multiply(TORCH, x, weight) == x @ weight.T).all()
        image, kernel = x.reshape(4, 1, 3, 100), weight.reshape(7, 1, 3, 100)
        assert (convolve(TORCH, image, kernel)[:, 0, 0] == x @ weight.T).all()


# the other hooks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
def test_requantize(rounding: str) -> None:
    rng = np.random.default_rng(3)
    multiplier = np.append(rng.integers(2**30, 2**31, 30), [0, 2**30])
    shift = rng.integers(-31, 3, 32)
    accumulator = rng.integers(-(2**28), 2**28, (2, 5, 3, 32))
    expected = fp.requantize(accumulator, multiplier, shift, rounding)
    assert (NUMPY.requantize(accumulator, multiplier, shift, rounding) == expected).all()
    tensor = TORCH.constant(accumulator)
    found = TORCH.requantize(tensor, TORCH.constant(multiplier), TORCH.constant(shift), rounding)
    assert (found.numpy() == expected).all()
    assert (tensor.numpy() == accumulator).all()  # its argument is left alone
    turned = tensor.permute(0, 2, 1, 3)
    found = TORCH.requantize(turned, TORCH.constant(multiplier), TORCH.constant(shift), rounding)
    assert (found.numpy() == expected.transpose(0, 2, 1, 3)).all()
    found = TORCH.requantize(tensor, TORCH.constant(multiplier[:1]), TORCH.constant(shift[:1]), rounding)
    assert (found.numpy() == fp.requantize(accumulator, multiplier[:1], shift[:1], rounding)).all()


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
@pytest.mark.parametrize("codes", [(4, -128, 127), (-128, -128, 100), (0, 0, 255), (7, 7, 90)])
def test_finish(codes: tuple[int, int, int], rounding: str) -> None:
    """Bias, requantization, zero point and clamp in one go; several dimensions, some of them turned."""
    rng = np.random.default_rng(5)
    accumulator = rng.integers(-(2**24), 2**24, (2, 5, 3, 33))
    factors = (rng.integers(-(2**24), 2**24, 33), rng.integers(2**30, 2**31, 33), rng.integers(-24, -12, 33))
    zero_point, low, high = codes
    steps = fp.requantize(accumulator + factors[0], factors[1], factors[2], rounding)
    expected = np.clip(steps + zero_point, low, high)
    assert len(np.unique(expected)) > 50
    assert (NUMPY.finish(accumulator, factors, codes, rounding) == expected).all()
    tensors = tuple(TORCH.constant(factor) for factor in factors)
    found = TORCH.finish(TORCH.constant(accumulator), tensors, codes, rounding)
    assert (np.asarray(found) == expected).all()
    turned = TORCH.constant(accumulator.transpose(0, 2, 1, 3)).permute(0, 2, 1, 3)
    assert (np.asarray(TORCH.finish(turned, tensors, codes, rounding)) == expected).all()


@pytest.mark.parametrize("b", BACKENDS)
def test_pad(b: Backend) -> None:
    x = np.arange(6).reshape(1, 2, 3)
    found = np.asarray(b.pad(b.constant(x), ((0, 0), (1, 0), (0, 2)), -7))
    assert found.tolist() == [[[-7] * 5, [0, 1, 2, -7, -7], [3, 4, 5, -7, -7]]]


@pytest.mark.parametrize("b", BACKENDS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_constants_keep_their_values_and_are_wide(b: Backend, dtype: type) -> None:
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    constant = b.constant(ends[::-1])
    assert [int(v) for v in constant] == [int(v) for v in ends[::-1]]
    assert np.asarray(constant).dtype.itemsize >= 4


def test_float_meanings_agree() -> None:
    rng = np.random.default_rng(4)
    x, weight = rng.normal(size=(2, 6, 5, 4)).astype(np.float32), rng.normal(size=(6, 3, 2, 2)).astype(np.float32)
    geometry: Geometry = ((2, 1), (1, 2), (1, 0, 0, 1), 2)
    theirs = TORCH.convolve(torch.from_numpy(x), torch.from_numpy(weight), *geometry).numpy()
    np.testing.assert_allclose(NUMPY.convolve(x, weight, *geometry), theirs, rtol=1e-5, atol=1e-5)
    rows, matrix = x[:, :, 0], weight[:, 0, 0].repeat(2, axis=1)
    theirs = TORCH.matmul(torch.from_numpy(rows), torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(NUMPY.matmul(rows, matrix), theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(NUMPY.exp(x), TORCH.exp(torch.from_numpy(x)).numpy(), rtol=1e-6)
