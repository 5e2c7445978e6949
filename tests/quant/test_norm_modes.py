"""Batch norm in its three ways, and ranges that move: what each step does to a student's state (paper, section 3)."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import unfloat
from tests.quant.families import image
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student


def net(**options: object) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, **options)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, 5, 3), norm).train()


def student_of(model: nn.Module, **training: object) -> Student:
    # Bias correction would put what it measures into the norm's mean.
    recipe = unfloat.Recipe(bias_correction=False, training=Training(**training))  # type: ignore[arg-type]
    return unfloat.prepare(model, image(), recipe, progress=False)


def fitted(**options: object) -> nn.Sequential:
    model = net(**options)
    for i in range(60):
        model(image(30, seed=i) * 2 + 1)
    return model


def sqnr(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(10 * torch.log10(expected.square().sum() / (found - expected).square().sum()).detach())


@pytest.mark.parametrize(("mode", "alike"), [("batch", True), ("correct", True), ("average", False)])
def test_batch_statistics_normalize_as_the_float_network_does(mode: str, alike: bool) -> None:
    """The moving averages are of other data, so a network that used them would be far off."""
    model = fitted()
    x = image(64, seed=9)
    student = student_of(model, norm=mode, ranges="moving_average", momentum=0.0)
    student(x)  # ranges
    found, expected = student(x), model(x)
    assert (sqnr(found, expected) > 35) == alike
    student.freeze_norm()
    student(x)
    model.load_state_dict({k: v for k, v in student.state_dict().items() if not k.startswith("unfloat.")})
    assert sqnr(student(x), model.eval()(x)) > 35


@pytest.mark.parametrize("mode", ["batch", "correct", "average"])
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_moving_averages_move_as_batch_norms_do(mode: str, momentum: float | None) -> None:
    """Given the same input to the norm: an exact convolution, by weights and activations that are whole numbers."""
    model = fitted(momentum=momentum)
    with torch.no_grad():
        model[0].weight.copy_(torch.randint(-127, 128, model[0].weight.shape))
        model[0].weight[:, 0, 0, 0] = 127  # the scale of each channel is exact
        model[0].bias.copy_(torch.arange(-2.0, 3.0))
        model[1].weight.fill_(1.0)
        model[1].bias.zero_()
        model[1].running_var.fill_(1.0 - model[1].eps)  # a gain of one: codes of the folded weight are the weight
    student = student_of(model, norm=mode)
    student.unfloat.window[0] = torch.tensor([-128.0, 127.0])
    student.freeze_ranges()
    x = torch.randint(-128, 128, (7, 3, 7, 6)).float()
    for step in range(3):
        student(x[step:])
        model(x[step:])
        if mode != "batch":  # further on, the gain is another
            break
    own = student.get_submodule("1")
    assert int(own.num_batches_tracked) == int(model[1].num_batches_tracked)
    assert torch.allclose(own.running_mean, model[1].running_mean, rtol=2e-6, atol=1e-3)
    assert torch.allclose(own.running_var, model[1].running_var, rtol=2e-5)


@pytest.mark.parametrize("mode", ["batch", "correct", "average"])
def test_gains_of_zero_and_below_learn_at_their_own_scale(mode: str) -> None:
    """A residual block's last gain often starts at zero: its gradient must be that of the others' size."""
    model = fitted()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0]))
        model[1].bias.copy_(torch.tensor([0.0, 0.5, 0.4, 0.0, -0.3]))
    student = student_of(model, norm=mode, momentum=0.0)
    x = image(64, seed=3) * 2 + 1  # like the moving averages
    student(x)
    student.unfloat.window.mul_(1.1)  # nothing is clamped
    found, expected = student(x), model(x)
    assert sqnr(found, expected) > 18
    silent = student.labels()["0"].scale[0]
    assert (found[:, 2] - 0.4).abs().max() <= silent
    assert (found[:, 4] + 0.3).abs().max() <= silent
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    student.zero_grad()
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    wanted, got = model[1].weight.grad, student.get_submodule("1").weight.grad
    assert (got - wanted).abs().max() < 0.3 * wanted.abs().max()
    before = student.get_submodule("1").running_mean.clone()
    student(x - 5)
    moved = student.get_submodule("1").running_mean != before
    assert moved.tolist() == [True, True, mode == "batch", True, mode == "batch"]  # a silent channel cannot tell


def test_norms_and_ranges_freeze_when_asked() -> None:
    student = student_of(fitted(), freeze_norm_after=2, freeze_ranges_after=3)
    norm = student.get_submodule("1")
    history = []
    for step in range(5):
        assert student.steps == step
        student(image(seed=20 + step) * (step + 1))
        history.append((norm.running_mean.clone(), norm.running_var.clone(), student.unfloat.window.clone()))
    means, variances, windows = zip(*history, strict=True)
    for values, stays_from in ((means, 1), (variances, 1), (windows, 2)):
        changes = [not torch.equal(a, b) for a, b in itertools.pairwise(values)]
        assert changes == [i < stays_from for i in range(4)]
    assert int(norm.num_batches_tracked) == 60 + 2
    student.freeze_ranges(False)
    assert not student.unfloat.progress[2]


def test_moving_ranges_follow_the_formula_and_keep_zero_inside() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).train()
    x = torch.rand(8, 4) + 2  # the least value is not zero, the window's is
    student = unfloat.prepare(model, x, unfloat.Recipe(training=Training(momentum=0.75)), progress=False)
    low, high = student.unfloat.window[0].tolist()
    assert low <= 0 < high
    for scale in (0.5, 3.0, -1.0):
        student(x * scale)
        low = 0.75 * low + 0.25 * min(0.0, float((x * scale).min()))
        high = 0.75 * high + 0.25 * max(0.0, float((x * scale).max()))
        assert np.allclose(student.unfloat.window[0].numpy(), [low, high], rtol=1e-6)
        label = student.labels()["input"]
        assert label.scale[0] == np.float32((np.float32(high) - np.float32(low)) / 255) or np.isclose(
            label.scale[0], (high - low) / 255, rtol=1e-6
        )
        assert label.qmin <= label.zero_point <= label.qmax
    assert float(student.unfloat.window[1, 0]) == 0.0  # a ReLU: observed after its clamp


def test_activations_start_to_be_quantized_after_so_many_steps() -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.Linear(50, 3)).train()
    x = torch.randn(64, 4)
    recipe = unfloat.Recipe(activation_bits=2, training=Training(start_after=2, momentum=0.5))
    student = unfloat.prepare(model, x, recipe, progress=False)
    for step in range(4):
        before = student.unfloat.window.clone()
        found = student(x * (1 + step))
        assert not torch.equal(student.unfloat.window, before)  # observed from the start
        assert (len(found.unique()) > 100) == (step < 2)
    assert set(student.trace(x)) == {"input", "0", "2"}
    student.unfloat.progress[0] = 0
    assert not student.trace(x)


def test_a_new_models_ranges_come_from_its_first_step() -> None:
    student = student_of(net())
    assert not student.unfloat.observed
    x = image(seed=4)
    student(x)
    low, high = student.unfloat.window[0].tolist()
    assert (low, high) == pytest.approx((float(x.min()), float(x.max())))
    assert int(student.get_submodule("1").num_batches_tracked) == 1
    assert student.steps == 1


@pytest.mark.parametrize("mode", ["batch", "correct", "average"])
def test_one_value_a_channel_has_no_statistics(mode: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    model(torch.randn(8, 4))
    student = unfloat.prepare(model, torch.randn(8, 4), unfloat.Recipe(training=Training(norm=mode)), progress=False)
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(unfloat.TrainingError, match=r"layer 0: batch statistics .* one value .*larger batches, or"):
        student(torch.randn(1, 4))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    student.freeze_norm()
    assert student(torch.randn(1, 4)).shape == (1, 3)
    assert student_of(fitted(), norm=mode)(image(1)).shape == (1, 5, 5, 4)  # one picture has many pixels
