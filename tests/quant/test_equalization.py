"""Equalisation of real modules: noise it saves, what it must not change, data that come once, students."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unfloat
from tests.quant.models import batches, small
from unfloat.formats.torch.read import read
from unfloat.passes import prepare
from unfloat.program.file import to_bytes
from unfloat.quant.algorithms.equalization import look_ahead, measure_factors, scale_in_place, scaled
from unfloat.quant.post_training import simulate
from unfloat.quant.simulate import Simulation

UINT8 = unfloat.Recipe(scheme="uint8")
EVEN = unfloat.Recipe(scheme="uint8", equalize=True)


class Uneven(nn.Module):
    """A separable block and a flattened classifier; `distort` spreads channel ranges and leaves the function alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.BatchNorm2d(16), nn.ReLU())
        self.point = nn.Sequential(nn.Conv2d(16, 12, 1), nn.ReLU6())
        self.head = nn.Linear(12 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.point(self.deep(self.stem(x)))
        return self.head(torch.flatten(nn.functional.max_pool2d(x, 2), 1))

    @torch.no_grad()
    def distort(self) -> None:
        """Channel ranges up to 1000 apart, ReLU6's channels below 6."""
        for norm, following, times in ((self.stem[1], self.deep[0], 2), (self.deep[1], self.point[0], 1)):
            spread = torch.logspace(-1.5, 1.5, len(norm.weight))[torch.randperm(len(norm.weight))]
            norm.weight.mul_(spread)
            norm.bias.mul_(spread)
            shape = (-1, 1, 1, 1) if times == 2 else (1, -1, 1, 1)
            following.weight.div_(spread.repeat_interleave(times).view(shape))
        spread = torch.logspace(-3, 0, 12)
        self.point[0].weight.mul_(spread.view(-1, 1, 1, 1))
        self.point[0].bias.mul_(spread)
        self.head.weight.div_(spread.repeat_interleave(16))


def uneven() -> Uneven:
    torch.manual_seed(0)
    model = Uneven()
    with torch.no_grad():
        for norm in (model.stem[1], model.deep[1]):
            norm.bias.normal_()
        for _ in range(8):
            model.train()(torch.randn(16, 3, 16, 16))
    model.distort()
    return model.eval()


def simulation_of(model: nn.Module, recipe: unfloat.Recipe = EVEN) -> Simulation:
    return simulate(model, read(model, (batches()[0],)), recipe, prepare)


@torch.no_grad()
def run(simulation: Simulation, x: torch.Tensor) -> torch.Tensor:
    return simulation.execute(simulation.to_inner([x]), simulation.float_value)[0]


def sqnr(model: nn.Module, program: unfloat.Program) -> float:
    x = torch.cat(batches(4, seed=7))
    expected = model(x).detach().numpy()
    noise = ((program.compile()(x.numpy()) - expected) ** 2).sum()
    return float(10 * np.log10((expected**2).sum() / noise))


def test_ranges_a_thousand_apart_lose_no_codes() -> None:
    model = uneven()
    before = copy.deepcopy(model.state_dict())
    plain, even = (sqnr(model, unfloat.quantize(model, batches(8), recipe)) for recipe in (UINT8, EVEN))
    assert even > plain + 15
    assert even > 25
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("make", [uneven, small])
def test_the_float_function_stays_where_it_was_observed(make: Any) -> None:
    simulation = simulation_of(make())
    x = torch.cat(batches(4))
    expected = run(simulation, x)
    factors = measure_factors(simulation, batches(4))
    live = simulation.parameters
    simulation.use(scaled(live, factors))
    torch.testing.assert_close(run(simulation, x), expected, rtol=1e-5, atol=1e-5)
    assert factors
    for name, tensor in simulation.parameters.items():
        assert (tensor is live[name]) == (name not in factors)


def test_no_norm_statistics_move() -> None:
    factors = measure_factors(simulation_of(uneven()), batches())
    assert {name.rpartition(".")[2] for name in factors} == {"weight", "bias"}
    assert "stem.0.weight" not in factors  # the norm behind it would undo it
    assert {"stem.1.weight", "stem.1.bias", "deep.0.weight", "point.0.bias", "head.weight"} <= set(factors)


def test_data_that_come_once_serve() -> None:
    wanted = to_bytes(unfloat.quantize(uneven(), batches(8), EVEN))
    assert to_bytes(unfloat.quantize(uneven(), (x for x in batches(8)), EVEN)) == wanted
    first, everything = look_ahead(iter(range(10)), 4)
    assert first == [0, 1, 2, 3]
    assert list(everything) == list(range(10))
    assert look_ahead(iter(()))[0] == []


@pytest.mark.parametrize("data", [[], [batches()[0], batches()[0][:, :2]]])
def test_bad_data_are_refused_as_without(data: Iterable[Any]) -> None:
    messages = []
    for recipe in (UINT8, EVEN):
        with pytest.raises(unfloat.CalibrationError) as caught:
            unfloat.quantize(uneven(), data, recipe)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_weights_that_are_not_finite_are_refused_by_layer() -> None:
    model = uneven()
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(unfloat.NumericDomainError, match=r"layer head .*parameter head.weight, must hold finite"):
        unfloat.quantize(model, batches(), EVEN)


def test_a_tensor_under_two_names_stays() -> None:
    """A parameter that two layers share is one name; a view of it is another name of the same memory."""
    model = uneven()
    bias = model.deep[0].bias.detach()
    del model.deep[0].bias, model.point[0].bias
    model.deep[0].register_buffer("bias", bias)
    model.point[0].register_buffer("bias", bias[:12])
    factors = measure_factors(simulation_of(model), batches())
    assert "point.0.weight" in factors  # as a consumer
    assert "point.0.bias" not in factors
    assert "head.weight" not in factors


def test_scaling_in_place_is_scaling() -> None:
    model = uneven().to(torch.bfloat16)
    live = dict(model.named_parameters())
    before, places = copy.deepcopy(live), {name: p.data_ptr() for name, p in live.items()}
    factors = {"head.weight": np.full((5, 192), 3.0), "head.bias": np.arange(1.0, 6.0)}
    scale_in_place(live, factors)
    assert places == {name: p.data_ptr() for name, p in model.named_parameters()}
    for name, wanted in scaled(before, factors).items():
        assert torch.equal(live[name], wanted)
        assert live[name].dtype == torch.bfloat16
    assert torch.equal(live["head.bias"], before["head.bias"] * torch.arange(1, 6).to(torch.bfloat16))


def test_a_student_starts_equalized_and_the_model_stays() -> None:
    model = uneven()
    before = copy.deepcopy(model.state_dict())
    recipe = unfloat.Recipe(scheme="uint8", equalize=True, bias_correction=False)
    student = unfloat.prepare(model, (batches()[0],), recipe, (x for x in batches(8)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    factors = measure_factors(simulation_of(model), batches(4))
    for name, parameter in student.named_parameters():
        if name in before:
            wanted = before[name].double() * torch.from_numpy(np.asarray(factors.get(name, 1.0)))
            torch.testing.assert_close(parameter.detach().double(), wanted, rtol=1e-5, atol=0)
    assert sqnr(model, unfloat.convert(student.eval())) > 25
    loss = student.train()(batches()[0]).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
