"""Observers: ranges, and a histogram that does not care about the order of batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unfloat.quant.observe import BINS, Histogram, LeastError, MinMax, MovingAverage, Percentile, make_observer
from unfloat.quant.recipe import Override, Recipe
from unfloat.spec.errors import NumericDomainError


def test_minmax_keeps_zero_inside() -> None:
    observer = MinMax()
    observer.update(torch.tensor([2.0, 5.0]))
    label = observer.qparams("int8", 8)
    assert label.zero_point == -128
    assert label.scale[0] == np.float32(5 / 255)


def test_moving_average_starts_at_the_first_batch_and_moves_slowly() -> None:
    observer = MovingAverage(momentum=0.9)
    observer.update(torch.tensor([-1.0, 1.0]))
    observer.update(torch.tensor([-1.0, 11.0]))
    assert observer.high == pytest.approx(2.0)
    assert observer.low == pytest.approx(-1.0)


def test_histogram_is_the_same_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(1000, generator=generator) * scale for scale in (0.0, 0.01, 3.0, 0.5, 40.0, 0.0)]
    forward, backward = Histogram(), Histogram()
    for batch in batches:
        forward.update(batch)
    for batch in reversed(batches):
        backward.update(batch)
    assert forward.exponent == backward.exponent
    assert np.array_equal(forward.counts, backward.counts)
    assert forward.counts.sum() == 6000
    assert forward.zeros == backward.zeros == 2000


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_which_every_window_holds_do_not_narrow_it(bits: int) -> None:
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu() ** 3  # half of them zeros
    with_zeros, without, mirrored = LeastError(norm=1.75), LeastError(norm=1.75), LeastError(norm=1.75)
    with_zeros.update(values)
    without.update(values[values > 0])
    mirrored.update(-values)
    assert with_zeros.qparams("int8", bits) == without.qparams("int8", bits)
    assert with_zeros.qparams("int8", bits).scale == mirrored.qparams("int8", bits).scale


def test_histogram_memory_does_not_grow() -> None:
    observer = Histogram()
    for power in range(-20, 20):
        observer.update(torch.full((10,), 2.0**power))
    assert observer.counts.size == 2 * BINS
    assert observer.counts.sum() == 400


def test_percentile_leaves_outliers_out_and_100_keeps_all() -> None:
    values = torch.cat([torch.linspace(-1, 1, 20_000), torch.tensor([100.0])])
    some, all_of_it = Percentile(percentile=99.9), Percentile(percentile=100.0)
    some.update(values)
    all_of_it.update(values)
    assert some.qparams("int8", 8).scale[0] < 3 / 255
    assert all_of_it.qparams("int8", 8).scale[0] == pytest.approx(101 / 255)


def test_mse_clips_a_lone_outlier_but_not_a_uniform_range() -> None:
    lone, uniform = LeastError(), LeastError()
    lone.update(torch.cat([torch.randn(60_000, generator=torch.Generator().manual_seed(0)), torch.tensor([30.0])]))
    uniform.update(torch.linspace(-1, 1, 60_000))
    assert lone.qparams("int8", 4).scale[0] < 15 / 15
    assert uniform.qparams("int8", 8).scale[0] == pytest.approx(2 / 255, rel=0.02)


@pytest.mark.parametrize("rule", ["norm", "mse", "minmax", "percentile", "moving_average"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(rule: str, bad: float) -> None:
    observer = make_observer(Recipe(ranges=rule), "layer")
    with pytest.raises(NumericDomainError, match="finite"):
        observer.update(torch.tensor([0.0, bad, 1.0]))


@pytest.mark.parametrize("rule", ["norm", "mse", "minmax", "percentile", "moving_average"])
def test_a_constant_zero_has_scale_one(rule: str) -> None:
    observer = make_observer(Recipe(ranges=rule), "layer")
    observer.update(torch.zeros(5))
    assert observer.qparams("int8", 8).scale == (1.0,)


def test_the_last_override_that_matches_wins() -> None:
    recipe = Recipe(overrides=(Override("features.*", ranges="minmax"), Override("features.3", ranges="percentile")))
    assert isinstance(make_observer(recipe, "features.3"), Percentile)
    assert type(make_observer(recipe, "features.1")) is MinMax
    assert isinstance(make_observer(recipe, "classifier"), LeastError)


def test_a_lower_norm_clips_no_less() -> None:
    values = torch.cat([torch.randn(60_000, generator=torch.Generator().manual_seed(0)), torch.linspace(5, 12, 40)])
    low, high = LeastError(norm=1.5), LeastError(norm=3.0)
    low.update(values)
    high.update(values)
    assert low.qparams("int8", 8).scale[0] < high.qparams("int8", 8).scale[0]
