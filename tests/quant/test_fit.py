"""The training loop: it learns, it goes on bit for bit, and it refuses what cannot work."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unfloat
from tests.quant.models import Small, batches, small
from unfloat.quant.fit import cosine, default_optimizer
from unfloat.quant.objective import cross_entropy, distillation, hits_of
from unfloat.quant.student import Student
from unfloat.quant.training_loop import History
from unfloat.spec.errors import CalibrationError, TrainingError

State = dict[str, Tensor]
PLATEAU = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD([torch.zeros(1)], 0.1))


def labelled(count: int = 3, size: int = 8, seed: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Batches whose class is a simple function of the picture."""
    return [(x, (x.mean((1, 2, 3)) * 40).long().clamp(-2, 2) + 2) for x in batches(count, size, seed)]


def net() -> Small:
    """Without dropout, so that a loss can be compared with another."""
    model = small()
    model.drop = nn.Identity()
    return model


def student(**wishes: Any) -> Student:
    return copy.deepcopy(prepared(unfloat.Recipe(**wishes)))


@functools.cache
def prepared(recipe: unfloat.Recipe) -> Student:
    return unfloat.prepare(net(), batches()[0], recipe)


def state(model: nn.Module) -> State:
    return {name: t.clone() for name, t in model.state_dict().items()}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Shuffled(torch.utils.data.Dataset[Any]):
    """Samples that draw from every global generator, as augmentation does."""

    def __init__(self) -> None:
        self.pairs = [pair for x, y in labelled(4) for pair in zip(x, y, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = self.pairs[i]
        return x + 0.1 * np.random.rand() + 0.1 * torch.rand(()).float(), y


def loader() -> Any:
    return torch.utils.data.DataLoader(Shuffled(), 8, shuffle=True, generator=torch.Generator().manual_seed(5))


# It learns ------------------------------------------------------------------------------------------------------------


def test_it_learns_from_labels_and_converts_to_what_it_scored() -> None:
    data, model = labelled(), student(training=unfloat.Training(momentum=0.5))
    history = unfloat.fit(model, data, epochs=12, rate=1e-2, validation=data)
    assert history.loss[-1] < 0.7 * history.loss[0]
    assert len(history.loss) == len(history.score) == len(history.seconds) == 12
    assert history.before is not None and history.best is not None
    assert max(history.score) > history.before
    engine = unfloat.convert(model).compile()
    hits = sum(int((engine(x.numpy()).argmax(1) == y.numpy()).sum()) for x, y in data)
    assert hits / 24 == max(history.score) == history.score[history.best - 1]


def test_it_learns_from_a_teacher_without_labels() -> None:
    teacher, model, data = net(), student(weight_bits=3, activation_bits=4), batches(4, 8)
    before = state(teacher)
    teacher.train()
    history = unfloat.fit(model, data, epochs=8, rate=3e-3, teacher=teacher)
    assert history.loss[-1] < 0.7 * history.loss[0]
    assert equal(state(teacher), before)  # neither gradients nor moving averages
    assert teacher.training and all(p.grad is None for p in teacher.parameters())
    assert history.score == () and history.best is None


def test_without_labels_validation_is_agreement_with_the_teacher() -> None:
    teacher, model = net(), student()
    history = unfloat.fit(model, batches(), rate=1e-5, teacher=teacher, validation=batches(4, 8, 9))
    with torch.no_grad():
        agree = torch.cat([model(x).argmax(1) == teacher(x).argmax(1) for x in batches(4, 8, 9)])
    assert history.best is not None
    assert history.score_of(history.best) == float(agree.double().mean())


def test_batches_may_be_dicts_and_arrays() -> None:
    name = student()._simulation.graph.inputs[0].name
    arrays = [{name: x.numpy(), "label": y.numpy().astype(np.uint8)} for x, y in labelled()]
    first, second = student(), student()
    torch.manual_seed(0)
    a = unfloat.fit(first, labelled())
    torch.manual_seed(0)
    b = unfloat.fit(second, arrays)
    assert a.loss == b.loss and equal(state(first), state(second))


def test_accumulating_halves_is_one_batch() -> None:
    """Under frozen norms and ranges the mean of two halves' gradients is the whole's."""
    training = unfloat.Training(freeze_norm_after=0, freeze_ranges_after=0)
    data = labelled(2)
    parts = [(x[s], y[s]) for x, y in data for s in (slice(0, 4), slice(4, 8))]

    def run(given: list[Any], accumulate: int) -> State:
        model = student(training=training)
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        unfloat.fit(model, given, optimizer=sgd, accumulate=accumulate, schedule=lambda _: 1.0)
        return {name: p.detach() for name, p in model.named_parameters()}

    whole, halves, hasty = run(data, 1), run(parts, 2), run(parts, 1)
    assert all(torch.allclose(whole[name], halves[name], atol=1e-6) for name in whole)
    assert not any(torch.allclose(whole[name], hasty[name], atol=1e-6) for name in whole if name.endswith("weight"))


def test_a_remainder_of_batches_is_a_step_too() -> None:
    model, steps = student(), []
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    sgd.register_step_post_hook(lambda *_: steps.append(1))
    unfloat.fit(model, labelled(3), epochs=2, optimizer=sgd, accumulate=2)
    assert len(steps) == 4


def test_clipping_bounds_a_step() -> None:
    model = student()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    unfloat.fit(model, labelled(1), optimizer=sgd, gradient_clip=1e-3, schedule=lambda _: 1.0)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-2)


# The best student, early stopping -------------------------------------------------------------------------------------


def test_the_best_student_is_restored() -> None:
    scores, seen = iter([0.1, 0.5, 0.9, 0.3]), []

    def validation(model: Student) -> float:
        assert not model.training and not torch.is_grad_enabled()
        seen.append(state(model))
        return next(scores)

    model = student()
    history = unfloat.fit(model, labelled(), epochs=3, rate=1e-3, validation=validation)
    assert (history.before, history.score, history.best) == (0.1, (0.5, 0.9, 0.3), 2)
    assert equal(state(model), seen[2]) and not equal(seen[2], seen[3])
    assert not model.training


def test_training_that_only_harms_gives_the_student_back() -> None:
    scores, model = iter([0.9, 0.5, 0.5]), student()
    before = state(model)
    history = unfloat.fit(model, labelled(), epochs=2, validation=lambda _: next(scores))
    assert history.best == 0 and equal(state(model), before)


def test_patience_ends_it() -> None:
    scores = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    history = unfloat.fit(student(), labelled(), epochs=9, patience=2, validation=lambda _: next(scores))
    assert history.score == (0.5, 0.5, 0.4)
    assert history.best == 2  # of equal scores the later


# Going on -------------------------------------------------------------------------------------------------------------


class Interrupt:
    """A validation that the user interrupts with Ctrl-C, in the middle of its nth call."""

    def __init__(self, data: Any, call: int) -> None:
        self.data, self.left = data, call

    def __call__(self, model: Student) -> float:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return float(torch.cat([model(x).argmax(1) == y for x, y in self.data]).double().mean())


@pytest.mark.parametrize("ranges", ["moving_average", "learned"])
@pytest.mark.parametrize("finished", [0, 2])
def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path: Path, ranges: str, finished: int) -> None:
    def run(checkpoint: Path, stop: int, resume: bool = False) -> tuple[Student, History]:
        model = student(training=unfloat.Training(ranges=ranges))
        torch.manual_seed(99 if resume else 1)  # what a new process happens to hold must not matter
        np.random.seed(99 if resume else 1)
        history = unfloat.fit(
            model,
            loader(),
            epochs=4,
            rate=1e-3,
            validation=Interrupt(labelled(2), stop),
            checkpoint=checkpoint,
            resume=resume,
        )
        return model, history

    whole, expected = run(tmp_path / "whole.pt", 9, resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part.pt", finished + 1)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["part.pt", "whole.pt"]
    model, history = run(tmp_path / "part.pt", 9, resume=True)
    assert equal(state(model), state(whole))
    assert (history.loss, history.score, history.before, history.best) == (
        expected.loss,
        expected.score,
        expected.before,
        expected.best,
    )
    again, same = run(tmp_path / "part.pt", 0, resume=True)  # nothing is left to do
    assert same == history and equal(state(again), state(model))


@pytest.mark.parametrize("where", ["loader", "sampler", "batch_sampler", "inside"])
def test_the_generators_of_a_loader_are_resumed(tmp_path: Path, where: str) -> None:
    """Wherever the order of its samples is drawn from."""

    def run(path: Path, stop: int, resume: bool = False) -> State:
        data, model, own = [(x[0], y[0]) for x, y in labelled(8, 1)], student(), torch.Generator().manual_seed(2)
        order = torch.utils.data.RandomSampler(data, generator=own)
        options: dict[str, Any] = {
            "loader": {"batch_size": 4, "shuffle": True, "generator": own},
            "sampler": {"batch_size": 4, "sampler": order},
            "batch_sampler": {"batch_sampler": Blocks(own)},
            "inside": {"batch_sampler": torch.utils.data.BatchSampler(order, 4, False)},
        }
        batched = torch.utils.data.DataLoader(data, **options[where])
        torch.manual_seed(1)
        validation = Interrupt(labelled(1), stop)
        unfloat.fit(model, batched, epochs=3, rate=1e-2, validation=validation, checkpoint=path, resume=resume)
        return state(model)

    whole = run(tmp_path / "whole.pt", 9)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part.pt", 2)
    assert equal(run(tmp_path / "part.pt", 9, resume=True), whole)


class Blocks:
    """Batches drawn by a sampler that has a generator of its own."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        yield from torch.randperm(8, generator=self.generator).view(2, 4).tolist()

    def __len__(self) -> int:
        return 2


def test_resuming_without_a_file_begins(tmp_path: Path) -> None:
    history = unfloat.fit(student(), labelled(), checkpoint=tmp_path / "c.pt", resume=True)
    assert len(history.loss) == 1
    assert (tmp_path / "c.pt").exists()


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    unfloat.fit(student(), labelled(), epochs=2, checkpoint=path)

    def resume(model: nn.Module, **options: Any) -> None:
        unfloat.fit(model, options.pop("data", labelled()), checkpoint=path, resume=True, **{"epochs": 2, **options})

    with pytest.raises(TrainingError, match="epochs 3 instead of 2"):
        resume(student(), epochs=3)
    with pytest.raises(TrainingError, match="batches 4 instead of 3"):
        resume(student(), data=labelled(4))
    for options, message in (
        ({"rate": 1e-3}, "rate 0.001 instead of 0.0001"),
        ({"loss": nn.functional.mse_loss}, "loss mse_loss instead of None"),
        ({"teacher": small()}, "teacher Small instead of None"),
        (
            {"teacher": small(), "temperature": 2.0, "mix": 0.5},
            "temperature 2.0 instead of 1.0, mix 0.5 instead of 0.0",
        ),
    ):
        with pytest.raises(TrainingError, match=message):
            resume(student(), **options)
    with pytest.raises(TrainingError, match="another recipe"):
        resume(student(weight_bits=4))
    with pytest.raises(TrainingError, match="another network"):
        resume(unfloat.prepare(Small(7), batches()[0]))
    for content in (b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="not a readable checkpoint"):
            resume(student())
    torch.save({"student": {}}, path)
    with pytest.raises(TrainingError, match=r"written by unfloat\.fit"):
        resume(student())


def test_a_new_run_writes_over_its_own_kind_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(small().state_dict(), path)
    before = path.read_bytes()
    with pytest.raises(
        TrainingError, match=r"written by unfloat\.fit, found something else: a new run would write over"
    ):
        unfloat.fit(student(), labelled(), checkpoint=path)
    assert path.read_bytes() == before
    path.unlink()
    for _ in range(2):
        unfloat.fit(student(), labelled(), checkpoint=path)


# What is refused ------------------------------------------------------------------------------------------------------


def test_batches_that_last_for_one_epoch_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"batches: found generator.*list\(batches\)"):
        unfloat.fit(student(), (b for b in labelled()))
    with pytest.raises(TrainingError, match="validation: found generator"):
        unfloat.fit(student(), labelled(), validation=(b for b in labelled()))

    class Exhausted:
        def __init__(self) -> None:
            self.left = iter(labelled())

        def __iter__(self) -> Iterator[Any]:
            return self.left

        def __len__(self) -> int:
            return 3

    with pytest.raises(TrainingError, match="epoch 2: batches gave none; every epoch"):
        unfloat.fit(student(), Exhausted(), epochs=2)
    with pytest.raises(TrainingError, match="at least one, found none"):
        unfloat.fit(student(), [])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_says_what_to_try(value: float) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return output.sum() * value

    with pytest.raises(TrainingError, match=r"epoch 1, batch 0: .*found a loss of .*lower the learning rate \(.*clip"):
        unfloat.fit(student(), labelled(), loss=loss)


def test_gradients_that_are_no_numbers_do_not_reach_the_parameters() -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return (output - output.detach()).sum().abs().sqrt()  # 0, with a slope of infinity times 0

    model = student()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(TrainingError, match="gradients of norm nan"):
        unfloat.fit(model, labelled(), loss=loss)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: required a whole number"),
        ({"accumulate": 0.5}, "accumulate: required a whole number"),
        ({"patience": 2}, "patience: required validation data"),
        ({"gradient_clip": 0.0}, "gradient_clip: required a positive"),
        ({"rate": -1.0}, "rate: required a positive number"),
        ({"temperature": 0.0}, "temperature: required a positive"),
        ({"mix": 0.5}, "mix: required a share.*and a teacher"),
        ({"resume": True}, "resume: required the path"),
        ({"gradient_clip": "1"}, "gradient_clip: required a positive norm or None, found '1'"),
        ({"loss": nn.CrossEntropyLoss}, "loss: required a function .*found the class CrossEntropyLoss: make one"),
        ({"loss": "mse"}, "loss: required a function .*found str"),
        ({"optimizer": torch.optim.SGD}, "optimizer: .*found the class SGD: make one"),
        ({"optimizer": torch.optim.LBFGS([torch.zeros(1)])}, "optimizer: LBFGS wants several losses"),
        ({"schedule": torch.optim.lr_scheduler.StepLR}, "schedule: .*found the class StepLR"),
        ({"schedule": PLATEAU}, "schedule: ReduceLROnPlateau wants a score"),
        ({"teacher": lambda x: x}, r"teacher: required a torch\.nn\.Module, found function"),
        ({"validation": lambda _: None}, "validation: required a number .*found NoneType"),
        ({"validation": lambda _: torch.zeros(2)}, r"validation: required a number .*found a tensor of shape \(2,\)"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        unfloat.fit(student(), labelled(), **options)


def test_an_optimizer_or_a_schedule_of_something_else_is_refused() -> None:
    """Nothing would learn, or at another rate, and nothing would say so."""
    model = student()
    own, others = (torch.optim.SGD(m.parameters(), 0.1) for m in (model, net()))
    with pytest.raises(TrainingError, match=r"optimizer: it holds none of.*make it after prepare, of student\.param"):
        unfloat.fit(model, labelled(), optimizer=others)
    for optimizer in (own, None):
        halving = torch.optim.lr_scheduler.StepLR(others, 1, 0.5)
        with pytest.raises(TrainingError, match=r"schedule: it was made for another optimizer.*optimizer= too"):
            unfloat.fit(model, labelled(), optimizer=optimizer, schedule=halving)
    head = torch.optim.SGD([{"params": [model.get_parameter("head.weight")]}], 0.1)  # a part of it may learn alone
    assert unfloat.fit(model, labelled(), optimizer=head).loss


def test_data_that_do_not_fit_are_refused() -> None:
    x, y = labelled()[0]
    for data, message in (
        ([x], "epoch 1, batch 0: required labels after the inputs"),
        ([(x, y + 5)], "required labels from 0 to 4.*found 5 to 9"),
        (
            [(x, y), (x, y * 0 - 100)],
            "epoch 1, batch 1: required at least one labelled sample in each batch, found the label",
        ),
        ([(x, y[:, None])], r"required integer labels of shape \(8,\)"),
    ):
        with pytest.raises(TrainingError, match=message):
            unfloat.fit(student(), data)
    with pytest.raises(CalibrationError, match="training batch 1, input x: required shape"):
        unfloat.fit(student(), [(x, y), (x[:, :, :8], y)])
    with pytest.raises(TrainingError, match="found the student itself"):
        unfloat.fit(model := student(), [x], teacher=model)
    with pytest.raises(TrainingError, match="required a student made by"):
        unfloat.fit(small(), labelled())
    with pytest.raises(TrainingError, match=r"same classes, found shapes \(8, 5\) and \(8, 7\)"):
        unfloat.fit(student(), [x], teacher=Small(7))


# Its parts ------------------------------------------------------------------------------------------------------------


def test_the_distillation_loss_is_the_divergence() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]])
    assert float(distillation(q.log(), p.log())) == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert float(distillation(p.log(), p.log(), 3.0)) == 0
    soft = [float((t.log() / 2).softmax(1) @ torch.ones(3)) for t in (p, q)]
    assert soft == pytest.approx([1, 1])
    a, b = (p.log() / 2).softmax(1), (q.log() / 2).softmax(1)
    assert float(distillation(q.log(), p.log(), 2.0)) == pytest.approx(4 * float((a * (a / b).log()).sum()))


def test_mixing_is_linear() -> None:
    x, y = labelled()[0]
    losses = [unfloat.fit(student(), [(x, y)], teacher=small(5), mix=mix).loss[0] for mix in _seeded(0.0, 0.25, 1.0)]
    assert losses[1] == pytest.approx(0.75 * losses[0] + 0.25 * losses[2], rel=1e-6)
    assert losses[0] != losses[2]


def _seeded(*values: float) -> Iterator[float]:
    for value in values:
        torch.manual_seed(0)
        yield value


def test_dense_outputs_are_scored_by_position() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    logits[:, 1] = 1
    classes = torch.ones(2, 4, 4, dtype=torch.int64)
    classes[0, 0, :2] = torch.tensor([0, -100])
    assert hits_of(logits, classes) == (30, 31)
    assert float(cross_entropy(logits, classes)) > 0
    with pytest.raises(TrainingError, match="at least two classes"):
        cross_entropy(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))


def test_ranges_do_not_decay_and_have_their_own_rate_and_every_parameter_learns() -> None:
    model = student(training=unfloat.Training(ranges="learned"))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = default_optimizer(model, 1e-6).param_groups
    rates = {names[id(p)]: g["lr"] for g in groups for p in g["params"]}
    assert all(rate == (3e-3 if name.startswith("unfloat.") else 1e-6) for name, rate in rates.items())
    decays = {names[id(p)]: g["weight_decay"] > 0 for g in groups for p in g["params"]}
    assert decays.keys() == set(names.values())
    assert decays["head.weight"] and not decays["head.bias"]
    assert not any(decays[name] for name in decays if name.startswith("unfloat."))
    assert any(name.startswith("unfloat.") for name in decays)


def test_the_rate_follows_the_schedule() -> None:
    rates: list[float] = []
    sgd: Any = None

    def loss(output: Tensor, target: Tensor) -> Tensor:
        rates.append(sgd.param_groups[0]["lr"])
        return cross_entropy(output, target)

    model = student()
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    unfloat.fit(model, labelled(3), epochs=2, optimizer=sgd, loss=loss, accumulate=2, schedule=lambda p: p)
    assert rates == pytest.approx([0.1 * p for p in (1 / 8, 1 / 8, 3 / 8, 5 / 8, 5 / 8, 7 / 8)])
    rates.clear()
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    halving = torch.optim.lr_scheduler.StepLR(sgd, 1, 0.5)
    unfloat.fit(model, labelled(3), optimizer=sgd, loss=loss, schedule=halving)
    assert rates == pytest.approx([0.1, 0.05, 0.025])
    assert [cosine(p) for p in (0.0, 0.025, 0.5, 1.0)] == pytest.approx([0, 0.5, 0.5, 0], abs=2e-3)


def test_what_pytorch_wraps_around_a_student_trains_too() -> None:
    wrapped = torch.optim.swa_utils.AveragedModel(student())
    history = unfloat.fit(wrapped, labelled(), epochs=2, rate=1e-3, validation=labelled())
    assert len(history.score) == 2
