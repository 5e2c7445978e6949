"""What a student cannot train with is refused by layer, and leaves its state as it was."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import unfloat
from tests.quant.models import batches, small
from tests.quant.training import LEARNED, student_of
from unfloat.formats.torch.read import read
from unfloat.passes import prepare as passes
from unfloat.quant.recipe import Training
from unfloat.quant.train import prepare
from unfloat.spec.errors import TrainingWarning


@pytest.mark.parametrize("scheme", ["int8", "uint8"])
@pytest.mark.parametrize("where", ["input", "point.weight", "point.bias", "stem.1.weight", "stem.1.bias"])
def test_divergence_is_refused_by_layer_and_leaves_the_state(where: str, scheme: str) -> None:
    student, x = student_of(unfloat.Recipe(scheme)), batches()[0].clone()
    parameters = dict(student.named_parameters())
    target = x if where == "input" else parameters[where].data
    target.view(-1)[1] = float("nan")
    before = copy.deepcopy(student.state_dict())
    layer = {"point.weight": "point", "point.bias": "point"}.get(where, "stem.0")
    message = rf"layer {re.escape(layer)}: training has diverged, .*go back to the last checkpoint and lower"
    kind = unfloat.TrainingError
    if where == "input":
        message, kind = (
            "input x: required finite numbers, found NaN or infinity in this batch: look at",
            unfloat.InputError,
        )
    with pytest.raises(kind, match=message):
        student(x)
    assert all(torch.equal(v, before[k]) or k == where for k, v in student.state_dict().items())


@pytest.mark.parametrize("value", [0.0, 1e-20, -0.5, float("nan"), float("inf")])
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


class Sums(nn.Module):
    """A residual sum and a layer before it; nothing but zeros once the biases are low enough."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(torch.relu(self.a(x)) + torch.relu(self.b(x))))


@pytest.mark.parametrize("scheme", ["int8", "uint8"])
def test_layers_that_die_keep_their_ranges(scheme: str) -> None:
    """A moving average of zeros would shrink until no multiplier says the rescaling."""
    torch.manual_seed(4)
    recipe = unfloat.Recipe(scheme, training=Training(momentum=0.5))
    student, x = unfloat.prepare(Sums(), torch.randn(32, 6), recipe, progress=False).train(), torch.randn(32, 6)
    before = student.labels()
    with torch.no_grad():
        student.get_submodule("a").bias.fill_(-80.0)
        student.get_submodule("b").bias.fill_(-80.0)
    for _ in range(200):
        student(x).sum().backward()
    assert all(label == before[name] for name, label in student.labels().items() if name not in ("x", "head"))
    assert torch.equal(student.eval()(x)[0], student(x)[1])  # of zeros alone
    assert unfloat.convert(student).verify()


def test_weights_that_explode_are_refused_with_a_remedy() -> None:
    student, x = student_of(), batches()[0]
    with torch.no_grad():
        student.point.weight.mul_(1e12)
        student.point.bias.zero_()
    with pytest.raises(unfloat.TrainingError, match=r"layer point, .*weights apart: go back to the last checkpoint"):
        student(x)


def test_ranges_stay_float32_in_a_student_of_another_type() -> None:
    for recipe in (None, LEARNED):
        student = student_of(recipe).to(torch.bfloat16)
        assert {t.dtype for n, t in student.state_dict().items() if n.startswith("unfloat.")} <= {
            torch.float32, torch.int64, torch.uint8}  # fmt: skip
        student(batches()[0]).sum().backward()
        assert student.point.weight.grad.dtype == torch.bfloat16
        assert np.array_equal(unfloat.convert(student).compile()(batches()[1].numpy()), student.eval()(batches()[1]))


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
    with pytest.warns(TrainingWarning, match=r"the layers l, l:2 share l\.weight, l\.bias.*its own copy"):
        unfloat.prepare(Named("l", uses=2), torch.randn(2, 6), progress=False)
    norm = nn.BatchNorm1d(6)
    twice = nn.Sequential(nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 6), norm)
    with pytest.warns(TrainingWarning, match=r"the layers 0, 3 share 4\.running_mean.*moves a norm's averages"):
        unfloat.prepare(twice, torch.randn(4, 6), progress=False)
    with pytest.raises(unfloat.UnsupportedError, match=r"cannot trace(?s:.*)no branch on the values"):
        unfloat.prepare(Branching(), torch.randn(2, 6), progress=False)
    with pytest.raises(unfloat.CalibrationError, match="at least one batch, found none"):
        unfloat.prepare(small(), batches()[0], calibration=[], progress=False)
    with pytest.raises(unfloat.TrainingError, match=r"required a student made by unfloat\.prepare, found Small"):
        unfloat.convert(small())


def test_students_pruned_layers_and_inference_mode_are_refused_with_the_remedy() -> None:
    student, x = student_of(), batches()[0]
    for model in (student, torch.optim.swa_utils.AveragedModel(student)):
        for make in (lambda m: unfloat.quantize(m, [x]), lambda m: unfloat.prepare(m, x)):
            with pytest.raises(unfloat.UnsupportedError, match=r"found a student; try: .*unfloat\.convert\(student\)"):
                make(model)
    with torch.inference_mode():
        for call in (lambda: unfloat.quantize(small(), [x]), lambda: unfloat.prepare(small(), x)):
            with pytest.raises(unfloat.UnsupportedError, match=r"under torch\.inference_mode\(\); try: outside"):
                call()
    prune.l1_unstructured(student.get_submodule("point"), "weight", 0.5)
    for mode in (True, False):
        message = r"parameter point\.weight: .* none of that name.*prune\.remove"
        with pytest.raises(unfloat.TrainingError, match=message):
            student.train(mode)(x)
    pruned = small()
    prune.l1_unstructured(pruned.point, "weight", 0.5)
    pruned(x)
    with pytest.raises(unfloat.UnsupportedError, match=r"cannot be copied(?s:.*)prune\.remove"):
        unfloat.prepare(pruned, x)
    prune.remove(pruned.point, "weight")
    assert unfloat.convert(unfloat.prepare(pruned, x)).verify()


class Modes(nn.Module):
    """Computes something else while it trains, as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.l, self.aux, self.drop = how, nn.Linear(6, 6), nn.Linear(6, 6), nn.Dropout2d(0.5)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.l(x)
        if self.how == "dropout":
            shaped = self.drop(nn.functional.dropout(y, 0.5, self.training)[:, :, None, None])
            return shaped.flatten(1)
        if self.how == "outputs":
            return (y, self.aux(x)) if self.training else y
        if self.how == "order":
            return {"y": y, "z": x} if self.training else {"z": x, "y": y}
        if self.how == "number":
            return y * (2.0 if self.training else 3.0)
        return y if getattr(self, "training") else y.softmax(-1)  # noqa: B009 (as it may be asked for)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "outputs",
            r"returns a tuple \(output_0, output_1\) in train\(\), a tensor.*it computes aux .* in train\(\) alone",
        ),
        ("softmax", r"it computes softmax \(.*test_training_input\.py:\d+\) in eval\(\) alone"),
        ("number", r"it computes mul.* in train\(\) alone; it computes mul.* in eval\(\) alone"),
        ("order", r"returns a dict \(y, z\) in train\(\), a dict \(z, y\) in eval"),
    ],
)
def test_what_eval_computes_is_what_is_trained_and_deployed(how: str, message: str) -> None:
    model, x = Modes(how).eval(), torch.randn(32, 6)
    with pytest.warns(TrainingWarning, match=r"trains what the model computes in eval\(\), not.*" + message) as caught:
        student = unfloat.prepare(model, x, progress=False)
    assert caught[0].filename == __file__
    plain = unfloat.quantize(model, [x])
    assert str(unfloat.convert(student)) == str(plain)
    message = message.replace("; ", r"\s+- ").replace(".*it computes aux", r"(?s:.*)it computes aux")
    with pytest.raises(
        unfloat.UnsupportedError, match=rf"something else in train.*call model\.eval\(\)(?s:.*){message}"
    ):
        unfloat.prepare(model.train(), x, progress=False)


def test_asking_for_the_mode_is_no_difference_by_itself(recwarn: pytest.WarningsRecorder) -> None:
    """Dropout does; and a model that asks for nothing need not be traced twice."""
    student = unfloat.prepare(Modes("dropout").train(), torch.randn(8, 6), progress=False)
    assert [node.op for node in student._simulation.graph.nodes].count("dropout") == 2
    assert not recwarn.list
    for model, x, count in ((small(), batches()[0], 1), (Modes("dropout"), torch.randn(8, 6), 2)):
        counting = Counting(read)
        prepare(model, x, unfloat.Recipe(), None, counting, passes, False)
        assert counting.calls == count
    assert "training" not in vars(nn.Module)


class Counting:
    """A reader that counts."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.calls = reader, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return self.reader(*arguments, **options)


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
