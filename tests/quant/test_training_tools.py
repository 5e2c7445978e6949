"""What PyTorch's users do with modules works with a student, and changes no integer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import unfloat
from tests.quant.models import Small, batches, small
from tests.quant.training import LEARNED, optimizer_of, program_of, run, student_of
from unfloat.quant import backend, loops
from unfloat.quant.student import Student


@pytest.mark.parametrize("recipe", [unfloat.Recipe(), LEARNED], ids=["moving", "learned"])
def test_a_saved_run_goes_on_bit_for_bit(recipe: unfloat.Recipe) -> None:
    whole = student_of(recipe)
    optimizer = optimizer_of(whole)
    run(whole, optimizer, batches()[:2])
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    run(whole, optimizer, batches()[2:])
    resumed = student_of(recipe, Small().train())  # other weights, nothing observed
    assert not resumed.unfloat.observed
    resumed.load_state_dict(saved[0], strict=True)
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(saved[1])
    run(resumed, optimizer, batches()[2:])
    for (name, a), (_, b) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert program_of(whole) == program_of(resumed)


@pytest.mark.parametrize("recipe", [unfloat.Recipe(), LEARNED], ids=["moving", "learned"])
def test_a_whole_student_can_be_pickled_and_trained_on(recipe: unfloat.Recipe) -> None:
    """One that flattens too: a node without attributes holds the one mapping of nothing."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)]
    student = unfloat.prepare(nn.Sequential(*layers), batches()[0], recipe, batches()).train()
    file = io.BytesIO()
    torch.save(student, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for twin in (saved, pickle.loads(pickle.dumps(student))):
        assert program_of(twin) == program_of(student)
    run(saved, optimizer_of(saved), batches()[:2])
    run(student, optimizer_of(student), batches()[:2])
    assert program_of(saved) == program_of(student)


@pytest.mark.parametrize("ranges", ["moving_average", "learned"])
def test_names_are_the_models_and_its_checkpoints_load(ranges: str) -> None:
    plain = unfloat.Recipe(bias_correction=False, training=unfloat.Training(ranges=ranges))
    model, student = small(), student_of(plain)
    own = [name for name in student.state_dict() if not name.startswith("unfloat.")]
    assert own == list(model.state_dict())
    run(student, optimizer_of(student), batches())
    student.load_state_dict(small(3).state_dict(), strict=True)
    assert not student.unfloat.observed
    for mode in (True, False):
        with pytest.raises(unfloat.TrainingError, match=r"no range was observed yet, for x .*student\.calibrate"):
            unfloat.convert(student.train(mode))
    with pytest.raises(unfloat.TrainingError, match="no range was observed yet"):
        student.eval()(batches()[0])
    student.calibrate(batches(), progress=False)
    fresh = student_of(plain, small(3))
    fresh.calibrate(batches(), progress=False)
    assert program_of(student) == program_of(fresh)
    model.load_state_dict({name: value for name, value in student.state_dict().items() if name in own}, strict=True)


def test_the_model_is_left_alone() -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    student = student_of(model=model)
    run(student, optimizer_of(student), batches())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_copies_are_independent() -> None:
    student = student_of(LEARNED)
    run(student, optimizer_of(student), batches()[:1])
    before, twin = program_of(student), copy.deepcopy(student)
    assert program_of(twin) == before
    run(twin, optimizer_of(twin), batches())
    assert program_of(twin) != before
    assert program_of(student) == before
    twin.load_state_dict(student.state_dict())
    assert program_of(twin) == before


def test_accumulated_gradients_are_the_sum() -> None:
    student = student_of()
    student.freeze_ranges()
    student.freeze_norm()
    apart = []
    for x in batches()[:2]:
        student.zero_grad()
        student(x).square().sum().backward()
        apart.append([p.grad.clone() for p in student.parameters()])
    student.zero_grad()
    losses = [student(x).square().sum() for x in batches()[:2]]
    for loss in losses:
        loss.backward()
    for p, a, b in zip(student.parameters(), *apart, strict=True):
        assert torch.equal(p.grad, a + b)


def test_averaged_and_compiled_models_convert() -> None:
    student = student_of()
    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = optimizer_of(student)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for x in batches():
        run(student, optimizer, [x])
        averaged.update_parameters(student)
        schedule.step()
    assert program_of(averaged) != program_of(student)
    x = batches(1, seed=5)[0]
    assert np.array_equal(unfloat.convert(averaged).compile()(x.numpy()), averaged.eval()(x))
    compiled = torch.compile(student)
    run(compiled, optimizer, batches())
    assert program_of(compiled) == program_of(student)
    assert torch.equal(compiled.eval()(x), student(x))


def test_training_starts_where_post_training_quantization_ends() -> None:
    for recipe in (None, LEARNED, unfloat.Recipe("uint8", equalize=True), unfloat.Recipe(weight_bits=4, ranges="mse")):
        made = unfloat.quantize(small(), batches(), recipe, progress=False)
        student = unfloat.prepare(small(), batches()[0], recipe, calibration=batches(), progress=False)
        started = unfloat.convert(student)
        own = {instruction.name: instruction for instruction in started.instructions}
        for instruction in made.instructions:
            if not instruction.constants:
                continue  # the student's dropout stands elsewhere among what only moves data
            other = own[instruction.name]
            assert started.tensors[other.name] == made.tensors[instruction.name]
            assert other.attributes == instruction.attributes
            for role, constant in instruction.constants.items():
                assert np.array_equal(other.constants[role], constant)


def test_calibration_counts_whatever_the_norms_say() -> None:
    """Files of other makers hold statistics without counts, and a new head's norm has seen nothing yet."""
    uncounted = small()
    for name, buffer in uncounted.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()
    known = unfloat.prepare(small(), batches()[0], progress=False)
    assert program_of(unfloat.prepare(uncounted, batches()[0], progress=False)) == program_of(known)
    fresh = Small()
    assert not unfloat.prepare(fresh, batches()[0], progress=False).unfloat.observed
    given = unfloat.prepare(fresh, batches()[0], unfloat.Recipe(equalize=True), batches(), progress=False)
    assert given.unfloat.observed
    assert not torch.equal(given.point.weight, fresh.point.weight)


def test_reduced_precision_changes_no_integer() -> None:
    student, x = student_of(), batches()[0]
    student.freeze_norm()
    student.freeze_ranges()
    for mode in (True, False):
        student.train(mode)
        plain = student.trace(x)
        torch.set_float32_matmul_precision("medium")
        try:
            with torch.autocast("cpu", torch.bfloat16):
                cast = student.trace(x)
                assert student(x).dtype == torch.float32
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")
        assert all(torch.equal(plain[name], cast[name]) for name in plain)


@pytest.fixture(scope="module")
def edited() -> Student:
    return student_of()


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.data.add_(0.05),
        lambda p: p.data.copy_(p.data.flip(0)),
        lambda p: setattr(p, "data", p.data * 1.1),
        lambda p: p.data[:1].zero_(),
    ],
)
@pytest.mark.parametrize("name", ["point.weight", "point.bias", "stem.1.running_mean", "stem.1.weight"])
def test_edits_through_data_are_seen(edited: Student, name: str, edit: Callable[[torch.Tensor], object]) -> None:
    student, x = edited, batches()[0]
    student.eval()(x)
    edit(dict([*student.named_parameters(), *student.named_buffers()])[name])
    expected = unfloat.convert(student).compile()(x.numpy())
    assert (student(x).numpy() == expected).all()


def test_smaller_batches_work() -> None:
    student = student_of()
    run(student, optimizer_of(student), [batches()[0], batches()[0][:3], batches()[0][:1]])
    assert student.eval()(batches()[0][:1]).shape == (1, 5)


def test_a_student_needs_nothing_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the native loops, as on any other device: the same integers, and gradients but for their rounding."""

    def trained() -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor], bytes]:
        student = student_of(LEARNED)
        student(batches()[0]).square().sum().backward()
        gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
        codes = {name: q.numpy() for name, q in student.eval().trace(batches()[1]).items()}
        return codes, gradients, program_of(student)

    codes, gradients, program = trained()
    monkeypatch.setattr(loops, "NATIVE", False)
    monkeypatch.setattr(loops, "_native", None)
    monkeypatch.setattr(backend, "_native", None)
    others, other_gradients, other_program = trained()
    assert all(np.array_equal(codes[name], others[name]) for name in codes)
    assert program == other_program
    for name, gradient in gradients.items():
        assert (gradient - other_gradients[name]).abs().max() <= 1e-5 * gradient.abs().max(), name
