"""Several processes train one student: what they observe is reduced over ranks, so that all of them deploy one network.

Two processes of gloo do a test's work (`tests/quant/processes.py`). DistributedDataParallel broadcasts rank 0's buffers
by default, which would hide what is not reduced: the tests forbid it wherever they look at a student's state.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import unfloat
from tests.quant.models import batches, small
from tests.quant.processes import PATIENCE, Pair, Rank
from tests.quant.training import LEARNED, optimizer_of, program_of, run, student_of
from unfloat.quant import checkpoint
from unfloat.quant.student import Student
from unfloat.quant.train import unwrapped
from unfloat.spec.errors import InputError, TrainingError

State = dict[str, Tensor]
WINDOW = "unfloat.window"


class Step(NamedTuple):
    """A training step: the student's state around its forward pass, and the gradients."""

    before: State
    after: State
    gradients: State


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with closing(Pair(tmp_path_factory.mktemp("meetings"))) as both:
        yield both


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks have."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def wish(**training: Any) -> unfloat.Recipe:
    return unfloat.Recipe(training=unfloat.Training(**{"momentum": 0.5, **training}))


def joined() -> list[Tensor]:
    """Batches of 8, of which the ranks get unequal shares that take turns at holding the extremes."""
    data = batches(4, 8, seed=4)
    for i, x in enumerate(data):
        (x[:5] if i % 2 else x[5:]).mul_(2 + i)
    return data


def state(model: nn.Module) -> State:
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def close(a: State, b: State, relative: float) -> bool:
    """Relative to the greatest element of each entry."""
    assert a.keys() == b.keys()
    return all(float((a[n] - b[n]).abs().max()) <= relative * float(b[n].abs().max()) for n in a)


def averages(step: Step) -> State:
    return {name: t for name, t in step.after.items() if "running_" in name}


def ranges(step: Step) -> State:
    return {WINDOW: step.after[WINDOW]}


def watched(model: nn.Module, data: list[Tensor]) -> list[Step]:
    student, optimizer, steps = unwrapped(model), optimizer_of(model), []
    for x in data:
        before = state(student)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
        steps.append(Step(before, state(student), gradients))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return steps


def together(rank: Rank, recipe: unfloat.Recipe, data: list[Tensor]) -> list[Step]:
    with rank.joined():
        parallel = DistributedDataParallel(student_of(recipe), forward_sync_buffers=False)
        return watched(parallel, [rank.share(x) for x in data])


@functools.cache
def single(recipe: unfloat.Recipe) -> Student:
    return student_of(recipe)


def alone(recipe: unfloat.Recipe, before: State, x: Tensor) -> Step:
    """What one process makes of a batch, from the state that the two had before it."""
    student = single(recipe)
    student.load_state_dict(before)
    return watched(student, [x])[0]


def compared(pair: Pair, recipe: unfloat.Recipe) -> Iterator[tuple[Step, Step, Tensor]]:
    """Each step of two processes, the same one of one process, and the batch.

    One process starts every step anew from where the two are: gradients are summed in another order, and weights that
    differ in their last bit round to other codes some steps later. That every step agrees says more than that all do.
    """
    first, second = pair.run(together, recipe, joined())
    assert len(first) == len(second) == 4
    for mine, theirs, x in zip(first, second, joined(), strict=True):
        assert equal(mine.before, theirs.before) and equal(mine.after, theirs.after)
        assert equal(mine.gradients, theirs.gradients)
        yield mine, alone(recipe, mine.before, x), x


# The same as one process ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [wish(norm="average"), *(wish(norm=mode, freeze_norm_after=0) for mode in ("average", "correct", "batch"))],
    ids=["average", "frozen", "frozen_correct", "frozen_batch"],
)
def test_ranges_are_those_of_the_joined_batches_exactly(pair: Pair, recipe: unfloat.Recipe) -> None:
    """Under running statistics no sample's integers depend on its batch, and extremes have no order: no tolerance."""
    matters = [False, False]
    for found, expected, x in compared(pair, recipe):
        assert torch.equal(found.after[WINDOW], expected.after[WINDOW])
        for rank, other in enumerate((x[5:], x[:5])):
            without = alone(recipe, found.before, other).after[WINDOW]
            matters[rank] |= not torch.equal(without, expected.after[WINDOW])
        assert close(averages(found), averages(expected), 1e-6)  # sums, in another order
    assert matters == [True, True]


@pytest.mark.parametrize("rule", ["moving_average", "learned"])
@pytest.mark.parametrize("mode", ["correct", "batch"])
def test_synchronized_statistics_are_those_of_the_joined_batches(pair: Pair, mode: str, rule: str) -> None:
    """Gradients too: the loss of each rank reads statistics that the samples of the other have moved."""
    for found, expected, _ in compared(pair, wish(norm=mode, ranges=rule, synchronize=True)):
        assert close(ranges(found), ranges(expected), 1e-5)
        assert close(averages(found), averages(expected), 1e-5)
        sums = {name: 2 * grad for name, grad in found.gradients.items()}  # DDP takes the mean over ranks
        assert close(sums, expected.gradients, 1e-4)
        assert ("unfloat.scale" in sums) == (rule == "learned")


def test_statistics_are_each_ranks_own_where_they_are_not_synchronized(pair: Pair) -> None:
    """Else the test above would say nothing of synchronizing. What follows from them is joined all the same."""
    for found, expected, _ in compared(pair, wish(norm="correct")):
        assert not close(ranges(found), ranges(expected), 1e-2)
        assert not close(found.gradients, expected.gradients, 1e-2)


def observed_anew(rank: Rank, data: list[Tensor]) -> list[Step]:
    with rank.joined():
        student = student_of(wish())
        student.load_state_dict(small().state_dict())
        assert not student.unfloat.observed
        return watched(DistributedDataParallel(student, forward_sync_buffers=False), [rank.share(x) for x in data])


def test_first_ranges_come_from_the_joined_first_batch(pair: Pair) -> None:
    (first, *_), (second, *_) = pair.run(observed_anew, joined())
    assert equal(first.after, second.after)
    x = joined()[0]
    ends = first.after[WINDOW][0].tolist()
    assert ends == [float(x.min()), float(x.max())]  # of the input


def prepared(rank: Rank, recipe: unfloat.Recipe) -> State:
    with rank.joined():
        own = [rank.share(x) for x in joined()]
        return state(unfloat.prepare(small(), own[0], recipe, own, progress=False))


@pytest.mark.parametrize("recipe", [unfloat.Recipe(), unfloat.Recipe("uint8", equalize=True)], ids=["int8", "uint8"])
def test_preparing_on_own_data_gives_every_rank_the_same_student(pair: Pair, recipe: unfloat.Recipe) -> None:
    """Before anything is wrapped: ranges, corrected biases and equalization agree."""
    first, second = pair.run(prepared, recipe)
    assert equal(first, second)
    for own in ([x[:5] for x in joined()], [x[5:] for x in joined()]):
        assert not equal(state(unfloat.prepare(small(), own[0], recipe, own, progress=False)), first)


def test_prepared_ranges_cover_those_of_every_rank(pair: Pair) -> None:
    """To the next code: a scale follows from both ends, and moves zero by less than one."""
    found, _ = pair.run(prepared, unfloat.Recipe())
    for own in ([x[:5] for x in joined()], [x[5:] for x in joined()]):
        low, high = unfloat.prepare(small(), own[0], None, own, progress=False).unfloat.window.unbind(1)
        step = (found[WINDOW][:, 1] - found[WINDOW][:, 0]) / 255
        assert (found[WINDOW][:, 0] <= low + step).all() and (found[WINDOW][:, 1] >= high - step).all()


def calibrated() -> list[State]:
    """A student after each of many calibrations."""
    student, states = student_of(), []
    for seed in range(10):
        student.calibrate(batches(2, 4, seed), progress=False)
        states.append(state(student))
    return states


def calibrated_together(rank: Rank) -> list[State]:
    with rank.joined():
        return calibrated()


def test_calibrating_on_the_same_data_is_what_one_process_does(pair: Pair) -> None:
    for found in pair.run(calibrated_together):
        assert all(equal(a, b) for a, b in zip(found, calibrated(), strict=True))


# One Program ----------------------------------------------------------------------------------------------------------


def programs(rank: Rank, recipe: unfloat.Recipe) -> list[bytes]:
    """Before training, after, and calibrated anew; data, their amount and the calibration are each rank's own."""
    own = batches(6, 3 + 2 * rank.number, seed=20 + rank.number)
    with rank.joined():
        model = small()
        model.drop.p = 0.0
        student = unfloat.prepare(model, own[0], recipe, own[:2], progress=False).train()
        parallel = DistributedDataParallel(student)
        made = [program_of(parallel)]
        run(parallel, optimizer_of(parallel), own)
        made.append(program_of(parallel))
        student.calibrate(own, progress=False)
        return [*made, program_of(parallel)]


@pytest.mark.parametrize("synchronize", [False, True], ids=["own", "synchronized"])
@pytest.mark.parametrize("norm", ["correct", "average", "batch"])
@pytest.mark.parametrize("rule", ["moving_average", "learned"])
def test_both_ranks_convert_to_the_same_bytes(pair: Pair, rule: str, norm: str, synchronize: bool) -> None:
    first, second = pair.run(programs, wish(ranges=rule, norm=norm, synchronize=synchronize))
    assert first == second
    assert len(set(first)) == 3


def late_scales(rank: Rank, recipe: unfloat.Recipe) -> list[Any]:
    own = batches(6, 4, seed=20 + rank.number)
    with rank.joined():
        parallel = DistributedDataParallel(student_of(recipe), find_unused_parameters=True)
        steps = watched(parallel, own)
        return [[step.after["unfloat.scale"] for step in steps], program_of(parallel)]


def test_learned_scales_rest_before_and_after_their_time(pair: Pair) -> None:
    """DistributedDataParallel has to be told that some parameters are not used at first, or no longer."""
    recipe = wish(ranges="learned", start_after=2, freeze_ranges_after=4)
    (first, made), (second, same) = pair.run(late_scales, recipe)
    assert made == same
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [torch.equal(a, b) for a, b in itertools.pairwise(first)] == [True, True, False, False, True]


# What is refused, on every rank alike ---------------------------------------------------------------------------------


def differing(rank: Rank, when: str) -> None:
    recipe = unfloat.Recipe(weight_bits=8 - rank.number)
    if when == "preparing":
        with rank.joined():
            student_of(recipe)
    student = student_of(recipe)
    if when == "after training alone":
        student(batches()[0])
    with rank.joined():
        DistributedDataParallel(student)(batches()[0])


@pytest.mark.parametrize("when", ["preparing", "training", "after training alone"])
def test_different_recipes_are_refused(pair: Pair, when: str) -> None:
    first, second = pair.refused(differing, when)
    assert first == (
        "rank 0 and rank 1 train with different recipes; rank 1 says weight_bits = 7: load the same recipe file on "
        "every rank"
    )
    assert second.startswith("rank 1 and rank 0 train with different recipes; rank 0 says weight_bits = 8: load")


def poisoned(rank: Rank, recipe: unfloat.Recipe, value: float, observed: bool) -> None:
    with rank.joined():
        student = student_of(recipe)
        if not observed:
            student.load_state_dict(small().state_dict())
        parallel = DistributedDataParallel(student, forward_sync_buffers=False)
        x = batches(1, 4, seed=rank.number)[0]
        x[0, 0, 0, 0] = value if rank.number == 1 else 0.0
        before = state(student)
        try:
            parallel(x)
        except InputError:
            assert equal(state(student), before)  # nothing has moved, on the other rank neither
            raise


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("recipe", "observed", "value"),
    [
        *((wish(), True, value) for value in (NAN, INFINITY, -INFINITY)),
        (wish(), False, NAN),
        *((wish(norm=mode), True, NAN) for mode in ("average", "batch")),  # "batch" stops inside the forward pass
        *((wish(norm=mode, synchronize=True), True, NAN) for mode in ("correct", "batch")),
        (LEARNED, True, NAN),
    ],
)
def test_a_number_that_is_not_finite_on_one_rank_stops_both(
    pair: Pair, recipe: unfloat.Recipe, observed: bool, value: float
) -> None:
    for message in pair.refused(poisoned, recipe, value, observed, kind="InputError"):
        assert message.startswith("input x: required finite numbers, found NaN or infinity in this batch: look at ")


def too_few(rank: Rank) -> None:
    """One sample on rank 1, which has no statistics; nothing in it is not finite."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    model(torch.randn(8, 4))
    with rank.joined():
        student = unfloat.prepare(model, torch.randn(8, 4), progress=False)
        DistributedDataParallel(student)(torch.randn(3 - 2 * rank.number, 4))


def test_what_stops_one_rank_stops_both_and_says_why(pair: Pair) -> None:
    first, second = pair.refused(too_few)
    assert second.startswith("layer 0: batch statistics of its norm need more than one value a channel, found one")
    assert first == f"rank 1 cannot go on: {second}"


def poisoned_gradient(rank: Rank) -> None:
    with rank.joined():
        parallel = DistributedDataParallel(student_of())
        optimizer = torch.optim.SGD(parallel.parameters(), 0.1)
        for _ in range(2):
            (parallel(batches()[0]).sum() * (NAN if rank.number == 1 else 1.0)).backward()
            optimizer.step()


def test_a_gradient_that_is_not_finite_on_one_rank_stops_both(pair: Pair) -> None:
    first, second = pair.refused(poisoned_gradient)
    assert first == second
    assert first.startswith("layer stem.0: training has diverged")


def sharded(rank: Rank, whole: bool, use: Callable[[Student], object]) -> None:
    with rank.joined():
        student = student_of()
        for module in [student] if whole else [student.stem, student.deep]:
            fully_shard(module)
        use(student)


def forward(student: Student) -> None:
    student(batches()[0])


def evaluate(student: Student) -> None:
    student.eval()(batches()[0])


@pytest.mark.parametrize("use", [forward, evaluate, unfloat.convert])
@pytest.mark.parametrize("whole", [True, False], ids=["student", "layers"])
def test_sharded_parameters_are_refused(pair: Pair, whole: bool, use: Callable[[Student], object]) -> None:
    """A student computes with the parameters of its layers, not with the layers: nothing would gather them."""
    for message in pair.refused(sharded, whole, use):
        assert "spread over them (by fully_shard, say): wrap the student in torch.nn.parallel.Distributed" in message


def flattened(rank: Rank, keep: bool) -> None:
    with rank.joined():
        student = student_of()
        FullyShardedDataParallel(student, device_id=torch.device("cpu"), use_orig_params=keep)(batches()[0])


@pytest.mark.parametrize("keep", [False, True], ids=["one flat parameter", "original parameters"])
def test_flattened_parameters_are_refused(pair: Pair, keep: bool) -> None:
    for message in pair.refused(flattened, keep):
        assert "found its parameters spread over them" in message


# unfloat.fit ----------------------------------------------------------------------------------------------------------


class Noisy(Dataset[Any]):
    """Samples that draw from the global generator, as augmentation does, and know what was asked for."""

    def __init__(self, count: int = 24) -> None:
        self.x, self.asked = torch.cat(batches(count // 4, 4, seed=7)), []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.asked.append(i)
        return self.x[i] + 0.1 * torch.rand(()), torch.tensor(i % 5)


class Stopping:
    """A validation that is interrupted, on both ranks, in the middle of its nth call."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, student: Student) -> float:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return float(student(batches()[0])[:, dist.get_rank()].mean())  # each rank has its own opinion


def fitted(rank: Rank, recipe: unfloat.Recipe, path: Path, calls: int, resume: bool) -> Any:
    """Bytes, history and samples of a run of three epochs; None if it was interrupted."""
    with rank.joined():
        data = Noisy()
        loader = DataLoader(data, 4, sampler=DistributedSampler(data, seed=3))
        parallel = DistributedDataParallel(student_of(recipe))
        torch.manual_seed(99 if resume else rank.number)  # what a new process happens to hold must not matter
        try:
            history = unfloat.fit(
                parallel,
                loader,
                epochs=3,
                rate=1e-3,
                validation=Stopping(calls),
                checkpoint=path,
                resume=resume,
                progress=False,
            )
        except KeyboardInterrupt:
            return None
        return program_of(parallel), (history.loss, history.score, history.before, history.best), data.asked


@pytest.mark.parametrize("recipe", [unfloat.Recipe(), LEARNED], ids=["moving", "learned"])
def test_a_resumed_run_is_the_same_run_bit_for_bit(pair: Pair, recipe: unfloat.Recipe, tmp_path: Path) -> None:
    whole = pair.run(fitted, recipe, tmp_path / "whole.pt", 9, False)
    assert pair.run(fitted, recipe, tmp_path / "part.pt", 2, False) == [None, None]
    resumed = pair.run(fitted, recipe, tmp_path / "part.pt", 9, True)
    for found in (whole, resumed):
        assert found[0][:2] == found[1][:2]
    assert resumed[0][:2] == whole[0][:2]
    for (_, _, again), (_, _, all_of_them) in zip(resumed, whole, strict=True):
        assert again == all_of_them[12:]  # the first epoch was over
    with pytest.raises(TrainingError, match="it was written by 2 processes, found 1: go on with as many"):
        unfloat.fit(student_of(recipe), [batches()[0]] * 3, checkpoint=tmp_path / "part.pt", resume=True)


def test_the_sampler_is_told_the_epoch(pair: Pair, tmp_path: Path) -> None:
    asked = [answer[2] for answer in pair.run(fitted, unfloat.Recipe(), tmp_path / "run.pt", 9, False)]
    epochs = [[samples[start : start + 12] for start in (0, 12, 24)] for samples in asked]
    for mine, theirs in zip(*epochs, strict=True):
        assert sorted(mine + theirs) == list(range(24))
    assert len({tuple(samples) for samples in epochs[0]}) == 3


def read_at_once(rank: Rank, path: Path) -> int:
    """How many epochs a rank finds in the checkpoint as soon as `fit` returns, on a slow disk."""
    write = checkpoint.write_atomically

    def slowly(*arguments: Any) -> None:
        time.sleep(0.3)
        write(*arguments)

    checkpoint.write_atomically = slowly
    try:
        with rank.joined():
            fit_labelled(rank, checkpoint=path)
            return len(checkpoint.read_checkpoint(path)["history"]["loss"])
    finally:
        checkpoint.write_atomically = write


def fit_labelled(rank: Rank, count: int = 2, **options: Any) -> None:
    data = [(x, torch.arange(4)) for x in batches(count, 4, seed=rank.number)]
    unfloat.fit(DistributedDataParallel(student_of()), data, progress=False, **options)


def test_the_checkpoint_is_written_before_any_rank_goes_on(pair: Pair, tmp_path: Path) -> None:
    assert pair.run(read_at_once, tmp_path / "run.pt") == [1, 1]


def differing_runs(rank: Rank, what: str, folder: Path) -> None:
    odd = rank.number == 1
    with rank.joined():
        if what == "batches":
            fit_labelled(rank, count=2 + odd)
        elif what == "validation":
            fit_labelled(rank, validation=None if odd else (lambda _: 0.5))
        elif what == "checkpoint":
            fit_labelled(rank, checkpoint=None if odd else folder / "run.pt")
        else:  # a folder that the other does not see
            fit_labelled(rank, checkpoint=folder / f"{rank.number}.pt", resume=True)


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("batches", "batches 2 and 3"),
        ("validation", "validation True and False"),
        ("checkpoint", "checkpoint True and False"),
        ("resuming", "resuming True and False"),
    ],
)
def test_ranks_that_would_wait_for_each_other_are_refused(pair: Pair, what: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "0.pt").write_bytes(b"")
    first, second = pair.refused(differing_runs, what, tmp_path)
    assert first.startswith(f"rank 0 and rank 1 do not run the same training, found {found}: ")
    assert second.startswith("rank 1 and rank 0 do not run the same training")


def poisoned_loss(rank: Rank) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return output.sum() * (INFINITY if rank.number == 1 else 1.0)

    with rank.joined():
        fit_labelled(rank, loss=loss)


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(pair: Pair) -> None:
    for message in pair.refused(poisoned_loss):
        assert message.startswith("epoch 1, batch 0: training has diverged, required finite numbers, found a loss of ")


def wrong_batch(rank: Rank, what: str) -> None:
    """Something is wrong with the second batch of rank 1 alone."""
    data = [(x, torch.arange(4)) for x in batches(3, 4, seed=rank.number)]
    if rank.number == 1:
        x, y = data[1]
        data[1] = {"shape": x[:, :2], "labels": x}.get(what, x * NAN), y + 9 * (what == "labels")
    options = {"validation": data} if what == "validation" else {}
    with rank.joined():
        unfloat.fit(DistributedDataParallel(student_of()), data[: 1 if options else 3], progress=False, **options)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("values", "training batch 1, input x: required finite numbers"),
        ("shape", "training batch 1, input x: required shape"),
        ("labels", "epoch 1, batch 1: required labels from 0 to 4"),
        ("validation", "validation batch 1, input x: required finite numbers"),
    ],
)
def test_a_wrong_batch_of_one_rank_stops_both_at_once(pair: Pair, what: str, message: str) -> None:
    begun = time.monotonic()
    first, second = pair.stopped(wrong_batch, what)
    assert second.message.startswith(message)
    assert (first.kind, first.message) == ("TrainingError", f"rank 1 cannot go on: {second.message}")
    assert time.monotonic() - begun < PATIENCE.total_seconds() / 2
