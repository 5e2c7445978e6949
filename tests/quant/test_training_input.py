"""What a student cannot train with is refused by layer, and leaves its state as it was."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

import unfloat
from tests.quant.models import batches, small
from tests.quant.training import LEARNED, student_of
from unfloat.quant.recipe import Training
from unfloat.spec.errors import TrainingWarning


@pytest.mark.parametrize("scheme", ["int8", "uint8"])
@pytest.mark.parametrize("where", ["input", "point.weight", "point.bias", "stem.1.weight", "stem.1.bias"])
def test_divergence_is_refused_by_layer_and_leaves_the_state(where: str, scheme: str) -> None:
    student, x = student_of(unfloat.Recipe(scheme)), batches()[0].clone()
    parameters = dict(student.named_parameters())
    target = x if where == "input" else parameters[where].data
    target.view(-1)[1] = float("nan")
    before = copy.deepcopy(student.state_dict())
    layer = {"input": "x", "point.weight": "point", "point.bias": "point"}.get(where, "stem.0")
    message = rf"layer {re.escape(layer)}: training has diverged, .*go back to the last checkpoint and lower"
    with pytest.raises(unfloat.TrainingError, match=message):
        student(x)
    assert all(torch.equal(v, before[k]) or k == where for k, v in student.state_dict().items())


@pytest.mark.parametrize("value", [0.0, -0.5, float("nan"), float("inf")])
def test_collapsed_scales_are_refused_by_layer(value: float) -> None:
    for parameter, layer in ((lambda s: s.unfloat.scale[1:2], "stem.0"), (lambda s: s.unfloat.clips[2][:1], "point")):
        student = student_of(LEARNED)
        with torch.no_grad():
            parameter(student).fill_(value)
        for mode in (True, False):
            with pytest.raises(unfloat.TrainingError, match=rf"layer {layer}: its .*collapsed, .*lower the learning"):
                student.train(mode)(batches()[0])
        student.calibrate(batches(), progress=False)  # chooses all of them anew
        assert student.eval()(batches()[0]).isfinite().all()


def test_constant_activations_are_normal() -> None:
    model = small().train()
    with torch.no_grad():
        model.point.weight.zero_()
        model.point.bias.zero_()
    student = student_of(unfloat.Recipe(training=Training(momentum=0.0)), model)
    student(batches()[0])
    assert student.labels()["point"].scale == (1.0,)
    assert student.labels()["point"].zero_point == 0
    assert torch.isfinite(student.eval()(batches()[0])).all()
    assert unfloat.convert(student).verify()


class Named(nn.Module):
    def __init__(self, name: str, uses: int = 1) -> None:
        super().__init__()
        self.name, self.uses = name, uses
        self.add_module(name, nn.Linear(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.uses):
            x = self.get_submodule(self.name)(x)
        return x


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_prepared_is_refused() -> None:
    with pytest.raises(unfloat.TrainingError, match=r"layer unfloat: a student needs this name.*rename"):
        unfloat.prepare(Named("unfloat"), torch.randn(2, 6), progress=False)
    with pytest.warns(TrainingWarning, match=r"l\.weight is shared by the layers l, l:2.*its own copy"):
        unfloat.prepare(Named("l", uses=2), torch.randn(2, 6), progress=False)
    with pytest.raises(unfloat.UnsupportedError, match=r"cannot trace(?s:.*)no branch on the values"):
        unfloat.prepare(Branching(), torch.randn(2, 6), progress=False)
    with pytest.raises(unfloat.CalibrationError, match="at least one batch, found none"):
        unfloat.prepare(small(), batches()[0], calibration=[], progress=False)
    with pytest.raises(unfloat.TrainingError, match=r"required a student made by unfloat\.prepare, found Small"):
        unfloat.convert(small())


def test_other_inputs_and_checkpoints_are_refused() -> None:
    student, x = student_of(), batches()[0]
    bad = {"(4, 2, 16, 16)": x[:, :2], "(0, 3, 16, 16)": x[:0], "torch.int32": x.int(), "str": "x"}
    for mode in (True, False):
        for found, value in bad.items():
            with pytest.raises(unfloat.InputError, match=rf"input x: required floats .*{re.escape(found)}.*another"):
                student.train(mode)(value)
        with pytest.raises(unfloat.InputError, match=r"required 1 inputs \(x\), found 0"):
            student()
        with pytest.raises(unfloat.InputError, match=r"required 1 inputs \(x\), found 1 and y besides"):
            student(x, y=x)
    with pytest.raises(unfloat.NumericDomainError, match="input x: cannot quantize NaN"):
        student(x * torch.nan)
    for other in (unfloat.Recipe(weight_bits=4), LEARNED, unfloat.Recipe("uint8")):
        before = copy.deepcopy(student.state_dict())
        with pytest.raises(unfloat.TrainingError, match=r"another recipe: required .*, found .*: prepare the student"):
            student.load_state_dict(student_of(other).state_dict())
        assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
