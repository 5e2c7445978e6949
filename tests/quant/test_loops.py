"""Each loop of a training step: the native one equals its PyTorch twin, at sizes that its stretches find hard.

Steps, masks and everything else that is computed value by value must be equal, and so must sums of whole numbers, which
are exact in any order. Sums of real numbers may differ by `TIGHT` of the sum of their magnitudes: the native loops add
up to 16 float32 values before they go on in float64, and 15 additions err by 15 * 2^-24 = 8.9e-7 of it at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unfloat import _native
from unfloat.quant import backend, loops
from unfloat.quant.loops import Bounds, Integers
from unfloat.spec import fixedpoint
from unfloat.spec.fixedpoint import INT32_MAX, Addition, quantize_multipliers

TIGHT = 1e-6
F64 = torch.float64
# Stretches are pieces of 512 channels, or as many rows of up to 256 as fit; 16 of them are added in float32.
CHANNELS = (1, 2, 3, 24, 255, 256, 257, 511, 512, 513, 1100)
ROWS = (1, 2, 20, 21, 22, 700)
SHAPES = [(rows, channels) for channels in CHANNELS for rows in ROWS]
FEW = [(1, 1), (700, 3), (22, 24), (21, 256), (700, 257), (20, 1100)]
sizes = pytest.mark.parametrize(("rows", "channels"), SHAPES)
few_sizes = pytest.mark.parametrize(("rows", "channels"), FEW)

Outcomes = Callable[..., tuple[list[Any], Any]]


class Recorder:
    """The native module; notes what is taken from it."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.taken.append(name)
        return getattr(_native, name)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outcomes]:
    """What a call gives natively with 1, 2 and 3 threads, and what its twin gives; each takes the way it should."""
    before, recorder = torch.get_num_threads(), Recorder()
    monkeypatch.setattr(loops, "_native", recorder)

    def run(call: Callable[[], Any], native: bool = True) -> tuple[list[Any], Any]:
        torch.set_num_threads(1)
        monkeypatch.setattr(loops, "NATIVE", False)
        twin = call()
        assert not recorder.taken
        monkeypatch.setattr(loops, "NATIVE", True)
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(call())
        assert len(recorder.taken) == (3 if native else 0)
        recorder.taken.clear()
        return found, twin

    yield run
    torch.set_num_threads(before)


def assert_same(found: Any, expected: Any) -> None:
    """Tuples of tensors or of nothing: the same kinds and numbers."""
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if f is not None:
            assert f.dtype == e.dtype
            assert torch.equal(f, e)


def assert_near(found: Tensor, expected: Tensor, magnitudes: Tensor, bound: float = TIGHT) -> None:
    assert found.dtype == expected.dtype == F64
    worst = ((found - expected).abs() / magnitudes.clamp(min=1e-300)).max()
    assert worst <= bound, f"{worst:.2e}"


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def whole(rng: np.random.Generator, most: int, *shape: int) -> Tensor:
    return torch.from_numpy(rng.integers(-most, most + 1, shape).astype(np.float32))


def real(rng: np.random.Generator, *shape: int) -> Tensor:
    """Of magnitudes so different that the order of a sum shows."""
    return torch.from_numpy((rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 4, shape)).astype(np.float32))


def float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


# finish_steps ---------------------------------------------------------------------------------------------------------

KINDS = ("double", "single", "float", "real")
STEP_BOUNDS = (Bounds(-128, 127), Bounds(0, 200), Bounds(-37, 90))
REAL_BOUNDS = (Bounds(-math.inf, math.inf), Bounds(0.0, 6.0), Bounds(-0.5, 0.75))


def finish(kind: str, accumulator: Tensor, factor: np.ndarray, bias: np.ndarray, bounds: Bounds) -> Any:
    integers = None
    if kind in ("double", "single"):
        integers = Integers(bias.astype(np.int32), *quantize_multipliers(factor), kind)
    narrow = float32(factor), float32(bias * factor)
    return loops.finish_steps(accumulator, *narrow, bounds, integers, rounds=kind != "real")


def near_ties(rng: np.random.Generator, rows: int, channels: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Accumulators whose steps are half-way between two or next to it, factors of both shifts' signs, biases."""
    factor = np.resize([0.5, 2.0**-9, 0.0123, 37.3, 1.0, 2.0**-3], channels)
    factor = np.where(np.arange(channels) % 7 == 6, 10.0 ** rng.uniform(-4, 0, channels), factor)
    bias = rng.integers(-50, 51, channels)
    steps = rng.integers(-300, 300, (rows, channels)) + 0.5
    accumulator = np.round(steps / factor) - bias + rng.integers(-1, 2, (rows, channels)) * rng.integers(0, 2)
    return float32(accumulator), factor, bias


@pytest.mark.parametrize("kind", KINDS)
@sizes
def test_finish_steps(outcomes: Outcomes, kind: str, rows: int, channels: int) -> None:
    accumulator, factor, bias = near_ties(generator(1, rows, channels), rows, channels)
    bounds = (REAL_BOUNDS if kind == "real" else STEP_BOUNDS)[(rows + channels) % 3]
    found, twin = outcomes(lambda: finish(kind, accumulator, factor, bias, bounds))
    for each in found:
        assert_same(each, twin)


@pytest.mark.parametrize("kind", KINDS)
def test_finish_steps_of_any_layout(outcomes: Outcomes, kind: str) -> None:
    accumulator, factor, bias = near_ties(generator(2), 30, 24)
    accumulator = accumulator.view(5, 3, 2, 24).permute(2, 1, 0, 3)
    found, twin = outcomes(lambda: finish(kind, accumulator, factor, bias, Bounds(-37, 90)))
    for each in found:
        assert_same(each, twin)


@pytest.mark.parametrize("rounding", fixedpoint.ROUNDINGS)
def test_float64_takes_the_twin(outcomes: Outcomes, rounding: str) -> None:
    accumulator, factor, bias = near_ties(generator(24), 22, 24)
    wide = accumulator.to(F64)
    found, _ = outcomes(lambda: finish(rounding, wide, factor, bias, Bounds(-37, 90)), native=False)
    assert_same(found[0][:1], finish(rounding, accumulator, factor, bias, Bounds(-37, 90))[:1])


@pytest.mark.parametrize("factor", [0.5, 2.0**-6])
def test_ties(factor: float) -> None:
    """Away from zero, but up where integers are rounded once, be it for want of a right shift; real numbers stay."""
    halves = torch.arange(-9, 10, 2, dtype=torch.float32)[:, None].expand(-1, 5) / 2
    away = halves + halves.sign() / 2
    up = halves + 0.5
    expected = {"double": up if factor == 0.5 else away, "single": up, "float": away, "real": halves}
    for kind, steps in expected.items():
        found, inside, ends = finish(kind, halves / factor, np.full(5, factor), np.zeros(5), Bounds(-4, 3))
        assert torch.equal(found, steps.clamp(-4, 3))
        assert torch.equal(inside, (halves >= -4) & (halves <= 3))
        assert ends.tolist() == [-4.5, 4.5]


@pytest.mark.parametrize("kind", KINDS)
def test_accumulators_saturate(outcomes: Outcomes, kind: str) -> None:
    """However large, and infinite ones, for which int64 in the twin has no number."""
    bounds, factor, bias = Bounds(-128, 127), np.full(3, 0.75), np.array([-(2**24), 0, 2**24])
    powers = 2.0 ** torch.arange(26, 32, dtype=torch.float32)[:, None].expand(-1, 3)
    ends = torch.tensor([[127.0], [-128.0]]).expand(-1, 3)
    found, twin = outcomes(lambda: finish(kind, torch.cat([powers, -powers]), factor, bias, bounds))
    for each in [*found, twin]:
        assert torch.equal(each[0], ends.repeat_interleave(len(powers), 0))
        assert not each[1].any()
    beyond = torch.tensor([math.inf, -math.inf, 1e30, -1e30])[:, None].expand(-1, 3)
    assert torch.equal(finish(kind, beyond, factor, bias, bounds)[0], ends.repeat(2, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (22, 24), (2, 256), (1, 512), (2, 513), (700, 257)], ids=str)
def test_any_value_shows_in_the_ends(outcomes: Outcomes, kind: str, shape: tuple[int, int]) -> None:
    """The least, the greatest, and a NaN in both, wherever they lie."""
    clean, factor, bias = near_ties(generator(3), *shape)
    for position in {0, clean.numel() // 2, clean.numel() - 1}:
        for value in (-9e6, 9e6, math.nan):
            accumulator = clean.clone()
            accumulator.view(-1)[position] = value
            found, twin = outcomes(lambda a=accumulator: finish(kind, a, factor, bias, Bounds(-128, 127)))
            numbers = ~accumulator.isnan()
            for each in [*found, twin]:
                assert_same(each[1:2], twin[1:2])
                assert_same([each[0][numbers]], [twin[0][numbers]])
                torch.testing.assert_close(each[2], twin[2], rtol=0, atol=0, equal_nan=True)
                assert each[2].isnan().all() == math.isnan(value)


# gradients ------------------------------------------------------------------------------------------------------------


def some_inside(rng: np.random.Generator, rows: int, channels: int) -> Tensor:
    return torch.from_numpy(rng.random((rows, channels)) < 0.7)


@pytest.mark.parametrize("given", ["", "accumulator steps passing", "accumulator", "steps passing"])
@sizes
def test_gradient_sums(outcomes: Outcomes, given: str, rows: int, channels: int) -> None:
    rng = generator(4, rows, channels)
    grad, accumulator, steps = (whole(rng, most, rows, channels) for most in (8, 100, 128))
    inside, factor = some_inside(rng, rows, channels), real(rng, channels)
    optional = {"accumulator": accumulator, "steps": steps, "passing": torch.float32}
    used = {name: optional[name] for name in given.split()}
    found, twin = outcomes(lambda: loops.gradient_sums(grad, inside, factor, **used))
    for each in found:
        assert_same(each, twin)


@few_sizes
def test_sums_of_real_gradients(outcomes: Outcomes, rows: int, channels: int) -> None:
    rng = generator(5, rows, channels)
    grad, accumulator, steps = (real(rng, rows, channels) for _ in range(3))
    inside, factor = some_inside(rng, rows, channels), real(rng, channels)
    found, twin = outcomes(lambda: loops.gradient_sums(grad, inside, factor, accumulator, steps, passing=torch.float32))
    passed = (grad * inside).to(F64).abs()
    magnitudes = torch.stack([passed.sum(0), (passed * accumulator.abs()).sum(0), (grad * steps).abs().sum(0)])
    for sums, passing in found:
        assert_near(sums, twin[0], magnitudes)
        assert torch.equal(passing, twin[1])


@pytest.mark.parametrize("channels", [3, 257, 513])
def test_small_gradients_are_not_lost(outcomes: Outcomes, channels: int) -> None:
    """Next to 1, float32 has no room for 2^-25: sums that never went on in float64 would miss all 699 of them."""
    grad = torch.full((700, channels), 2.0**-25)
    grad[0] = 1.0
    ones, inside = torch.ones(700, channels), torch.ones(700, channels, dtype=torch.bool)
    found, twin = outcomes(lambda: loops.gradient_sums(grad, inside, ones[0], ones, ones)[0])
    for each in found:
        assert_near(each, twin, twin)


def test_gradients_of_any_layout(outcomes: Outcomes) -> None:
    """What autograd sends: one number for all, or another order of axes."""
    rng = generator(6)
    inside, accumulator = some_inside(rng, 6, 24).view(3, 2, 24), whole(rng, 100, 3, 2, 24)
    for grad in (torch.tensor(3.0).expand(3, 2, 24), whole(rng, 8, 24, 2, 3).permute(2, 1, 0)):
        for call in (
            lambda g=grad: loops.gradient_sums(g, inside, torch.ones(24), accumulator, accumulator, torch.float32),
            lambda g=grad: (loops.gradient_through_norm(g, inside, accumulator, *torch.ones(3, 24)),),
        ):
            found, twin = outcomes(call)
            for each in found:
                assert_same(each, twin)


@sizes
def test_gradient_through_norm(outcomes: Outcomes, rows: int, channels: int) -> None:
    rng = generator(7, rows, channels)
    grad, accumulator = real(rng, rows, channels), real(rng, rows, channels)
    inside, factor = some_inside(rng, rows, channels), real(rng, channels)
    constant, slope = (torch.from_numpy(rng.standard_normal(channels)) for _ in range(2))
    found, twin = outcomes(lambda: (loops.gradient_through_norm(grad, inside, accumulator, factor, constant, slope),))
    for each in found:
        assert_same(each, twin)


# statistics -----------------------------------------------------------------------------------------------------------


@sizes
def test_sums_of_whole_numbers(rows: int, channels: int) -> None:
    x = whole(generator(8, rows, channels), 3000, rows, channels).numpy()
    wide, found = x.astype(np.int64), np.empty((2, channels))
    for threads in (1, 2, 3):
        _native.sums(x, found, threads)
        np.testing.assert_array_equal(found, [wide.sum(axis=0), (wide**2).sum(axis=0)])


@sizes
def test_mean_and_variance(outcomes: Outcomes, rows: int, channels: int) -> None:
    """Sums of up to 700 float64 values err by 700 * 2^-53 = 8e-14; the variance is a difference of mean squares."""
    x = real(generator(9, rows, channels), rows, channels)
    x[:, 0] = 0.1  # no variance: never a negative one
    wide = x.to(F64)
    found, (mean, variance) = outcomes(lambda: loops.mean_and_variance(x))
    for found_mean, found_variance in found:
        assert_near(found_mean, mean, wide.abs().mean(0), 1e-12)
        assert_near(found_variance, variance, wide.square().mean(0), 1e-12)
        assert (found_variance >= 0).all()


# weights --------------------------------------------------------------------------------------------------------------


def tied_weights(rng: np.random.Generator, rows: int, rest: int, one: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, gain, scale such that `w * gain / scale` is k + 0.5 exactly, a third one float32 up, a third one down."""
    scale = rng.integers(1, 2**12, rows) * 2.0 ** rng.integers(-30, -10, rows)
    scale = scale[:1] if one else scale
    gain = 2.0 ** rng.integers(-9, 9, rows) * rng.choice([-1, 1], rows)
    tie = ((rng.integers(-140, 140, (rows, rest)) + 0.5) * scale[:, None] / gain[:, None]).astype(np.float32)
    towards = rng.choice(np.array([-np.inf, np.inf, np.nan], np.float32), tie.shape)
    weight = np.where(np.isnan(towards), tie, np.nextafter(tie, towards))
    return torch.from_numpy(weight), torch.from_numpy(gain), torch.from_numpy(scale)


def assert_weight_steps(found: list[Any], twin: tuple[Tensor, None], axis: int = 0) -> None:
    expected, others = twin[0], tuple(d for d in range(twin[0].ndim) if d != axis)
    sums = torch.stack([expected.abs().sum(others), expected.sum(others)])  # whole numbers below 2^24
    for each in found:
        assert_same(each, (expected, sums))


@pytest.mark.parametrize("gained", [False, True])
@pytest.mark.parametrize("one", [False, True])
@sizes
def test_weight_steps(outcomes: Outcomes, gained: bool, one: bool, rows: int, channels: int) -> None:
    weight, gain, scale = tied_weights(generator(12, rows, channels), rows, channels, one)
    if not gained:
        weight, gain = weight * gain[:, None].to(torch.float32), None
    bounds = Bounds(-127, 127) if one else Bounds(1 - 130, 255 - 130)
    assert_weight_steps(*outcomes(lambda: loops.weight_steps(weight, gain, scale, 0, bounds)))


def halfway(rng: np.random.Generator, rows: int, rest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of any bits, and gains and scales that take one of each row next to half-way, as float64 allows."""
    weight = rng.standard_normal((rows, rest)).astype(np.float32)
    gain = rng.standard_normal(rows) * 10.0 ** rng.integers(-4, 5, rows)
    scale = np.abs(weight[:, 0] * gain / (rng.integers(1, 127, rows) + 0.5))
    return weight, gain, scale


@pytest.mark.parametrize("ulps", range(-3, 4))
@pytest.mark.parametrize("moved", ["gain", "scale"])
def test_weight_steps_next_to_half_way(outcomes: Outcomes, moved: str, ulps: int) -> None:
    """The product with `gain / scale` may lie on the other side: those rows must be divided."""
    rng = generator(13, ulps + 3)
    for make in (halfway, lambda *size: [t.numpy() for t in tied_weights(*size, one=False)]):
        weight, gain, scale = make(rng, 500, 40)
        moving = gain if moved == "gain" else scale
        for _ in range(abs(ulps)):
            np.nextafter(moving, math.copysign(math.inf, ulps), out=moving)
        given = torch.from_numpy(weight), torch.from_numpy(gain), torch.from_numpy(scale)
        assert_weight_steps(*outcomes(lambda g=given: loops.weight_steps(*g, 0, Bounds(-127, 127))))


def test_products_and_quotients_do_differ() -> None:
    """The test above has weights that a product alone would round the other way."""
    weight, gain, scale = halfway(generator(13, 3), 500, 40)
    product, quotient = weight * (gain / scale)[:, None], weight * gain[:, None] / scale[:, None]
    assert (fixedpoint.round_half_away(product) != fixedpoint.round_half_away(quotient)).sum() > 10


# A weight, its channels' axis, and whether each channel is one stretch of memory.
Layout = tuple[Callable[[np.random.Generator], Tensor], int, bool]


def channels_last(rng: np.random.Generator, *shape: int) -> Tensor:
    return whole(rng, 40, *shape).to(memory_format=torch.channels_last)


LAYOUTS: dict[str, Layout] = {
    "one value a channel": (lambda rng: whole(rng, 40, 9, 1), 0, True),
    "dense": (lambda rng: whole(rng, 40, 5, 3, 2, 7), 0, True),
    "channels last": (lambda rng: channels_last(rng, 5, 7, 3, 2), 0, True),
    "channels last, one input": (lambda rng: channels_last(rng, 5, 1, 3, 2), 0, True),
    "channels last, one output": (lambda rng: channels_last(rng, 1, 7, 3, 2), 0, True),
    "channels last, one pixel": (lambda rng: channels_last(rng, 5, 7, 1, 1), 0, True),
    "transposed": (lambda rng: whole(rng, 40, 6, 11).t(), 1, True),
    "last axis, outermost": (lambda rng: whole(rng, 40, 6, 3, 2, 1).permute(3, 1, 2, 0), 3, True),
    "middle axis, outermost": (lambda rng: whole(rng, 40, 6, 3, 2, 5).permute(1, 0, 3, 2), 1, True),
    "last axis, innermost": (lambda rng: whole(rng, 40, 1, 3, 3, 6), 3, False),
    "a slice": (lambda rng: whole(rng, 40, 5, 4, 3, 3)[:, :2], 0, False),
    "every second": (lambda rng: whole(rng, 40, 5, 8)[:, ::2], 0, False),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.mark.parametrize("gained", [False, True])
@layouts
def test_weight_steps_of_any_layout(outcomes: Outcomes, layout: str, gained: bool) -> None:
    make, axis, native = LAYOUTS[layout]
    rng = generator(14)
    weight = make(rng)
    gain, scale = (torch.from_numpy(rng.uniform(0.5, 2, weight.shape[axis])) for _ in range(2))
    found, twin = outcomes(
        lambda: loops.weight_steps(weight, gain if gained else None, scale, axis, Bounds(-20, 20)), native
    )
    if native:
        assert_weight_steps(found, twin, axis)
        assert found[0][0].stride() == weight.stride()
    else:
        assert_same(found[0], twin)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("one", [False, True])
@sizes
def test_weight_backward(outcomes: Outcomes, learned: bool, one: bool, rows: int, channels: int) -> None:
    """Whole numbers and powers of two: every sum is exact, and some steps lie on the limit itself."""
    rng = generator(15, rows, channels)
    grad, weight, steps = (whole(rng, most, rows, channels) for most in (8, 60, 10))
    slope = float32(2.0 ** rng.integers(-3, 1, 1 if one else rows))
    found, twin = outcomes(lambda: loops.weight_backward(grad, weight, slope, 0, steps if learned else None, 10.0))
    for each in found:
        assert_same(each, twin)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(("rows", "channels"), [(3, 1), (3, 1100), (2, 16 * 512), (700, 300)])
def test_weight_backward_of_real_numbers(outcomes: Outcomes, learned: bool, rows: int, channels: int) -> None:
    """512 sums in float32, each of one value in 512."""
    rng = generator(16, rows, channels)
    grad, weight = real(rng, rows, channels), real(rng, rows, channels)
    slope = float32(10.0 ** rng.uniform(0, 2, rows))
    scaled = weight * slope[:, None]
    steps = fixedpoint.round_half_away(scaled).clamp(-127, 127)
    found, twin = outcomes(lambda: loops.weight_backward(grad, weight, slope, 0, steps if learned else None, 127.0))
    inside = scaled.abs() <= 127
    magnitudes = (grad * weight * (inside if learned else 1)).to(F64).abs().sum(1)
    missing = (grad * (steps - scaled * inside)).to(F64).abs().sum(1)
    for to_weight, to_gain, missed in found:
        assert torch.equal(to_weight, twin[0])
        assert_near(to_gain, twin[1], magnitudes)
        assert_near(missed, twin[2], missing)


@pytest.mark.parametrize("learned", [False, True])
@layouts
def test_weight_backward_of_any_layout(outcomes: Outcomes, layout: str, learned: bool) -> None:
    make, axis, native = LAYOUTS[layout]
    rng = generator(17)
    weight, steps = make(rng), make(rng)
    slope = float32(2.0 ** rng.integers(-3, 1, weight.shape[axis]))
    backwards = tuple(reversed(range(weight.ndim)))
    grads = [
        make(rng),
        whole(rng, 8, *weight.shape),
        torch.tensor(3.0).expand(weight.shape),
        whole(rng, 8, *reversed(weight.shape)).permute(backwards),
    ]
    for grad in grads:
        for its_steps in (steps, steps.contiguous()) if learned else (None,):
            found, twin = outcomes(
                lambda g=grad, s=its_steps: loops.weight_backward(g, weight, slope, axis, s, 10.0), native
            )
            for each in found:
                assert_same(each, twin)


def inputs_last(weight: Tensor) -> Tensor:
    return weight.movedim(1, -1).contiguous().movedim(-1, 1)


# Rows of up to 511 values, of 512, 513 and more, the window's taps before or after the input channels.
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (5, 1, 3, 3),
        (5, 7, 1, 1),
        (700, 24, 3, 3),
        (2, 73, 7, 1),
        (4, 128, 2, 2),
        (3, 57, 3, 3),
        (2, 300, 5),
        (2, 11, 3, 5, 7),
    ],
    ids=str,
)
def test_weight_backward_of_other_layouts_than_the_weight(
    outcomes: Outcomes, shape: tuple[int, ...], learned: bool
) -> None:
    rng = generator(25)
    weight, steps = whole(rng, 60, *shape), whole(rng, 10, *shape)
    slope = float32(2.0 ** rng.integers(-3, 1, shape[0]))
    grad = whole(rng, 8, *shape)
    for of_grad, of_weight in ((inputs_last, torch.clone), (torch.clone, inputs_last), (inputs_last, inputs_last)):
        tensors = of_grad(grad), of_weight(weight), slope, 0, of_weight(steps) if learned else None
        found, twin = outcomes(lambda given=tensors: loops.weight_backward(*given, 10.0))
        for each in found:
            assert_same(each, twin)


@sizes
def test_reach(outcomes: Outcomes, rows: int, channels: int) -> None:
    weight = real(generator(18, rows, channels), rows, channels)
    found, twin = outcomes(lambda: (loops.reach(weight, 0),))
    for each in found:
        assert_same(each, twin)


@pytest.mark.parametrize("position", [0, 15, 16, 38])
@pytest.mark.parametrize("value", [math.nan, -math.nan, -0.0, math.inf, -math.inf, 1e-45, -1e-45, -1e-38, -3.4e38])
def test_reach_of_special_values(outcomes: Outcomes, value: float, position: int) -> None:
    weight = torch.zeros(3, 39)
    weight[1, position] = value
    found, twin = outcomes(lambda: loops.reach(weight, 0))
    for each in found:
        assert each.dtype == twin.dtype == F64
        torch.testing.assert_close(each, twin, rtol=0, atol=0, equal_nan=True)
        assert not each[~each.isnan()].signbit().any()  # zero has no sign


@layouts
def test_reach_of_any_layout(outcomes: Outcomes, layout: str) -> None:
    make, axis, native = LAYOUTS[layout]
    weight = make(generator(19))
    found, twin = outcomes(lambda: (loops.reach(weight, axis),), native)
    for each in found:
        assert_same(each, twin)


# TorchBackend.add -----------------------------------------------------------------------------------------------------


def additions(seed: int) -> Iterator[Addition]:
    """Factors as ranges give them, then any that an Add may have; with and without clamps."""
    rng = generator(20, seed)
    for case in range(12):
        scales = 10.0 ** rng.uniform(-3, 0, 2)
        multipliers, shifts = quantize_multipliers(scales / (2 * scales.max()))
        left_shift, factor = 20, quantize_multipliers(2 * scales.max() / 2**20 / 10.0 ** rng.uniform(-3, 0, 1))
        if case % 3 == 1:
            multipliers, shifts = rng.choice([0, 1, 2**30, 2**30 + 1, INT32_MAX], 2), rng.integers(-31, 1, 2)
            factor = rng.choice([0, 2**30, INT32_MAX], 1), rng.integers(-31, 1, 1)
        elif case % 3 == 2:
            left_shift, shifts = int(rng.integers(0, 8)), rng.integers(-3, 1, 2)
            factor = rng.integers(2**30, 2**31, 1), rng.integers(-9, 10, 1)
        zero_point, low, high = int(rng.integers(-128, 128)), *((-128, 127), (-37, 90))[case % 2]
        yield Addition(
            tuple(rng.integers(-128, 128, 2).tolist()),
            tuple(map(int, multipliers)),
            tuple(map(int, shifts)),
            left_shift,
            (int(factor[0][0]), int(factor[1][0])),
            (zero_point, low, high),
        )


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the backend takes from the native module."""
    recorder = Recorder()
    monkeypatch.setattr(backend, "_native", recorder)
    return recorder.taken


def assert_adds(operands: list[Tensor], by: Addition, rounding: str) -> None:
    expected = fixedpoint.add([x.numpy().astype(np.int64) for x in operands], by, rounding)
    found = backend.TorchBackend().add(operands, by, rounding)
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("rounding", fixedpoint.ROUNDINGS)
@pytest.mark.parametrize("seed", range(10))
def test_add(taken: list[str], seed: int, rounding: str) -> None:
    rng, cases = generator(21, seed), list(additions(seed))
    for dtype in (torch.int8, torch.int32):
        a, b = (torch.from_numpy(rng.integers(-128, 128, (3, 70, 29))).to(dtype) for _ in range(2))
        for by in cases:
            assert_adds([a, b.permute(0, 2, 1).contiguous().permute(0, 2, 1)], by, rounding)
    assert taken == ["add_codes"] * 2 * len(cases)


@pytest.mark.parametrize("rounding", fixedpoint.ROUNDINGS)
def test_add_ties(taken: list[str], rounding: str) -> None:
    """The mean of every pair of codes: half-way for odd sums, away from zero, or up where rounded once."""
    codes = torch.arange(-128, 128, dtype=torch.int32)
    a, b = codes[:, None].expand(256, 256), codes[None].expand(256, 256)
    by = Addition((3, -3), (2**30, 2**30), (0, 0), 20, (2**30, -19), (0, -100, 101))
    found = backend.TorchBackend().add([a, b], by, rounding)
    total = a + b
    expected = (total + 1) >> 1 if rounding == "single" else total.sign() * ((total.abs() + 1) >> 1)
    assert torch.equal(found, expected.clamp(-100, 101).to(torch.int32))
    assert_adds([a, b], by, rounding)
    assert taken == ["add_codes"] * 2


@pytest.mark.parametrize("rounding", fixedpoint.ROUNDINGS)
@pytest.mark.parametrize("shapes", [((4, 5, 7), (1, 1, 7)), ((4, 5, 1), (4, 5, 6)), ((33,), (1,))], ids=str)
def test_add_broadcasts(taken: list[str], shapes: tuple[tuple[int, ...], ...], rounding: str) -> None:
    rng = generator(22)
    for by in additions(22):
        assert_adds([torch.from_numpy(rng.integers(-128, 128, s)).to(torch.int32) for s in shapes], by, rounding)
    assert not taken


@pytest.mark.parametrize("rows", ROWS)
def test_add_shares_rows_among_threads(rows: int) -> None:
    rng = generator(23)
    a, b, out = (np.ascontiguousarray(rng.integers(-128, 128, (rows, 255)), np.int32) for _ in range(3))
    by = next(additions(23))
    expected = fixedpoint.add([a.astype(np.int64), b.astype(np.int64)], by, "double")
    for threads in (1, 2, 3):
        _native.add_codes(a, b, astuple(by), "double", out, threads)
        np.testing.assert_array_equal(out, expected)


# add_steps and within -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", fixedpoint.ROUNDINGS)
@sizes
def test_sums_of_steps(outcomes: Outcomes, rows: int, channels: int, rounding: str) -> None:
    rng = generator(24, rows, channels)
    a, b = (torch.from_numpy(rng.integers(-255, 256, (rows, channels)).astype(np.float32)) for _ in range(2))
    if rows * channels > 2:
        a.view(-1)[:2], b.view(-1)[:2] = torch.tensor([82.0, 0.0]), torch.tensor([-123.0, 0.0])  # cancel, nearly
    by = replace(next(additions(rows)), zero_points=(0, 0), codes=(0, -100, 0 if channels % 2 else 155))
    factors = float(np.float32(1.23)), float(np.float32(0.82))
    found, twin = outcomes(lambda: loops.add_steps(a, b, by, factors, rounding))
    for each in found:
        assert_same(each, twin)
    steps = fixedpoint.add([a.numpy().astype(np.int64), b.numpy().astype(np.int64)], by, rounding)
    np.testing.assert_array_equal(twin[0].numpy(), steps)


def test_sums_of_steps_tell_of_nan() -> None:
    a = torch.tensor([[1.0, 2.0, math.nan, 3.0]])
    steps, inside, ends = loops.add_steps(a, a.flip(1), replace(ADDITION), (1.0, 1.0), "double")
    assert ends.isnan().all() and steps.isfinite().all()
    assert inside.tolist() == [[True, False, False, True]]


@sizes
def test_within(outcomes: Outcomes, rows: int, channels: int) -> None:
    real = torch.from_numpy(generator(25, rows, channels).integers(-9, 10, (rows, channels)).astype(np.float32))
    found, twin = outcomes(lambda: (loops.within(real, Bounds(-4.0, 5.0)),))
    for each in found:
        assert_same(each, twin)
    assert torch.equal(twin[0], (real >= -4) & (real <= 5))


# bad arguments --------------------------------------------------------------------------------------------------------


def named(names: str, *values: Any) -> dict[str, Any]:
    return dict(zip(names.split(), values, strict=True))


ADDITION = Addition((0, 0), (2**30, 2**30), (0, 0), 20, (2**30, -19), (0, -128, 127))


def arguments() -> dict[str, dict[str, Any]]:
    """Good ones of each function, for 4 rows of 6."""

    def floats(*shape: int) -> np.ndarray:
        return np.ones(shape, np.float32)

    table, row, mask, wide = floats(4, 6), floats(6), np.ones((4, 6), np.uint8), np.ones(4)
    integers = np.zeros(6, np.int32), np.full(6, 2**30, np.int32), np.zeros(6, np.int8)
    codes = np.ones((4, 6), np.int32)
    finishing = "accumulator factor offset bias multiplier shift rounding low high steps inside"
    addition, out = astuple(ADDITION), np.ones((4, 6), np.int32)
    given = {
        "finish_steps": named(finishing, table, row, row, *integers, "double", -128.0, 127.0, floats(4, 6), mask),
        "gradient_sums": named(
            "grad inside accumulator steps factor out sums",
            *(table, mask, table, table, row, floats(4, 6), np.ones((3, 6))),
        ),
        "gradient_through_norm": named(
            "grad inside accumulator factor constant slope out", table, mask, table, row, row, row, floats(4, 6)
        ),
        "sums": named("x out", table, np.ones((2, 6))),
        "weight_steps": named(
            "weight gain scale low high steps row_sums", table, wide, wide, -127, 127, floats(4, 6), floats(2, 4)
        ),
        "weight_backward": named(
            "grad taps weight slope steps limit to_weight to_gain missed",
            *(table, 3, table, floats(4), table, 127.0, floats(4, 6), np.ones(4), np.ones(4)),
        ),
        "reach": named("weight out", table, floats(4)),
        "add_codes": named("a b addition rounding out", codes, codes, addition, "double", out),
        "add_steps": named(
            "a b addition factors rounding steps inside", table, table, addition, (1.0, 1.0), "double", table, mask
        ),
    }
    return {function: {**its, "threads": 1} for function, its in given.items()}


ARRAYS = [(f, name) for f, given in arguments().items() for name, a in given.items() if isinstance(a, np.ndarray)]


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_sizes_must_match(function: str, name: str) -> None:
    given = arguments()[function]
    getattr(_native, function)(**given)
    good = given[name]
    wrong = [np.ones(tuple(n + step * (d == axis) for d, n in enumerate(good.shape)), good.dtype)
             for axis in range(good.ndim) for step in (-1, 1)]  # fmt: skip
    if (function, name) in [("reach", "weight"), ("sums", "x")]:  # their other axis is free
        wrong = wrong[:2] if name == "weight" else wrong[2:]
    for array in wrong:
        with pytest.raises(ValueError, match=r"shape|each channel|a channel|two rows"):
            getattr(_native, function)(**{**given, name: array})


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        ("finish_steps", {"rounding": "nearest"}),
        ("finish_steps", {"bias": None}),
        ("finish_steps", {"multiplier": np.full(6, -1, np.int32)}),
        ("finish_steps", {"shift": np.full(6, 31, np.int8)}),
        ("finish_steps", {"shift": np.full(6, -32, np.int8)}),
        ("finish_steps", {"low": -math.inf}),
        ("finish_steps", {"high": math.nan}),
        ("finish_steps", {"threads": 0}),
        ("finish_steps", {"bias": np.full(6, 2**30 + 1, np.int32)}),
        ("sums", {"threads": 0}),
        ("sums", {"threads": -1}),
        ("gradient_sums", {"threads": 0}),
        ("weight_steps", {"low": 5, "high": 4}),
        ("weight_steps", {"low": -256}),
        ("weight_steps", {"high": 256}),
        ("weight_backward", {"taps": 0}),
        ("weight_backward", {"taps": -3}),
        ("weight_backward", {"taps": 4}),
        ("add_codes", {"rounding": "nearest"}),
        ("add_steps", {"rounding": "nearest"}),
        ("add_steps", {"threads": 0}),
    ],
    ids=str,
)
def test_numbers_must_be_in_range(function: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|each channel|bounds|one thread|shifts|taps"):
        getattr(_native, function)(**{**arguments()[function], **wrong})


@pytest.mark.parametrize("function", ["add_codes", "add_steps"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"shifts": (0, 1)},
        {"shifts": (-32, 0)},
        {"left_shift": 21},
        {"left_shift": -1},
        {"multipliers": (-1, 0)},
        {"codes": (0, 4, 3)},
        {"codes": (0, -256, 3)},
        {"zero_points": (256, 0)},
        {"factor": (2**30, 31)},
        {"factor": (2**30, -32)},
    ],
    ids=str,
)
def test_additions_must_be_in_range(function: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|shifts"):
        getattr(_native, function)(**{**arguments()[function], "addition": astuple(replace(ADDITION, **wrong))})


@pytest.mark.parametrize(("function", "name"), ARRAYS)
def test_nothing_is_converted_or_copied(function: str, name: str) -> None:
    given = arguments()[function]
    good = given[name]
    for array in (good.astype(np.float16), np.ones((*good.shape, 2), good.dtype)[..., 0]):
        with pytest.raises(TypeError):
            getattr(_native, function)(**{**given, name: array})
