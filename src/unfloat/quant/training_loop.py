"""The epochs of `unfloat.fit`: steps, scores, the best student, a checkpoint after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.progress import Progress, TaskID
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from unfloat.quant.checkpoint import read_checkpoint, require_replaceable, restore_random_state, write_checkpoint
from unfloat.quant.distributed import require_one_run, together, total_over_ranks
from unfloat.quant.objective import Objective, Sample
from unfloat.quant.student import Student
from unfloat.quant.train import unwrapped
from unfloat.spec.errors import TrainingError

Schedule: TypeAlias = Callable[[float], float] | LRScheduler
Validation: TypeAlias = Iterable[Any] | Callable[[Student], float]
REPEATABLE = (
    "every epoch goes through them anew: give a list, a DataLoader, or an object whose __iter__ starts anew; "
    "list(batches) makes one of a generator"
)


@dataclass(frozen=True)
class Settings:
    """How long and how hard to train; see `unfloat.fit`.

    Attributes:
        epochs, accumulate: At least 1.
        gradient_clip: Positive, or None.
        patience: At least 1, or None.
    """

    epochs: int = 1
    accumulate: int = 1
    gradient_clip: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("epochs", "accumulate", "patience"):
            value = getattr(self, name)
            if (value is not None or name != "patience") and not (isinstance(value, int) and value >= 1):
                raise TrainingError(f"{name}: required a whole number, at least 1, found {value!r}")
        clip = self.gradient_clip
        if clip is not None and not (isinstance(clip, int | float) and clip > 0):
            raise TrainingError(f"gradient_clip: required a positive norm or None, found {clip!r}")


@dataclass(frozen=True)
class History:
    """What training did, an entry an epoch.

    Attributes:
        loss: The mean over the epoch's samples.
        score: On the validation data, higher is better; empty without them.
        seconds: Wall time, validation included.
        before: The score before the first step; None without validation, or if no range was observed yet.
        best: The epoch whose student was kept, from 1; 0 for the one before training, None without validation.
    """

    loss: tuple[float, ...] = ()
    score: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    before: float | None = None
    best: int | None = None

    def with_epoch(self, loss: float, score: float | None, seconds: float) -> History:
        """One more epoch. Of equal scores the later one is best."""
        scores = self.score if score is None else (*self.score, score)
        best = self.best
        if score is not None and (best is None or score >= self.score_of(best)):
            best = len(scores)
        return History((*self.loss, loss), scores, (*self.seconds, seconds), self.before, best)

    def score_of(self, epoch: int) -> float:
        """The score after an epoch, from 1, or before the first, 0."""
        score = self.score[epoch - 1] if epoch else self.before
        assert score is not None
        return score

    @property
    def waited(self) -> int:
        """How many epochs ago the score last rose."""
        scores = [-math.inf if self.before is None else self.before, *self.score]
        return len(scores) - 1 - scores.index(max(scores))


class Loop:
    """One training run and its state."""

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        objective: Objective,
        validation: Validation | None,
        settings: Settings,
    ) -> None:
        """Look at the data: they must last for every epoch."""
        self.model, self.student = model, unwrapped(model)
        self.batches, self.objective, self.validation, self.settings = batches, objective, validation, settings
        require_repeatable(batches, "batches")
        if validation is not None and not callable(validation):
            require_repeatable(validation, "validation")
        self.count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
        if not self.count:
            raise TrainingError("batches: required at least one, found none")
        self.history = History()
        self.best: dict[str, Tensor] | None = None

    def drive(self, optimizer: Optimizer, schedule: Schedule, rate: float | None) -> None:
        """Set who moves the parameters, and at what rate; None is that of an optimizer of the caller's own."""
        self.optimizer, self.rate = optimizer, rate
        if isinstance(schedule, LRScheduler):
            self.schedule = schedule
            return
        share, steps = schedule, -(-self.count // self.settings.accumulate) * self.settings.epochs
        # a step's own progress is that at its middle: neither the first nor the last step is one of rate 0
        self.schedule = LambdaLR(optimizer, lambda step: share(min((step + 0.5) / steps, 1.0)))

    def run(self, checkpoint: Path | None, resume: bool, bars: Progress) -> History:
        """All epochs that are left. The student is left in `eval()`, the best one if there is validation."""
        resuming = checkpoint is not None and resume and checkpoint.exists()
        given = {"validation": self.validation is not None, "checkpoint": checkpoint is not None, "resuming": resuming}
        require_one_run({**self._plan(), **given})
        if checkpoint is not None and resuming:
            self._load(checkpoint)
        else:
            if checkpoint is not None:
                together(partial(require_replaceable, checkpoint), self.objective.device)
            self._begin()
            self._save(checkpoint)
        task = bars.add_task("training", total=self.count * self.settings.epochs)
        bars.update(task, completed=self.count * len(self.history.loss))
        patience = self.settings.patience
        while len(self.history.loss) < self.settings.epochs and (patience is None or self.history.waited < patience):
            start = time.perf_counter()
            loss = self._epoch(len(self.history.loss), bars, task)
            score = self._score()
            self.history = self.history.with_epoch(loss, score, time.perf_counter() - start)
            self._keep(score)
            self._save(checkpoint)
        if self.best is not None:
            self.student.load_state_dict(self.best)
        self.model.eval()
        return self.history

    def _begin(self) -> None:
        if self.validation is not None and self.student.unfloat.observed:
            before = self._score()
            self.history = History(before=before, best=0)
            self._keep(before)

    def _epoch(self, number: int, bars: Progress, task: TaskID) -> float:
        """Train for one epoch; the mean loss over its samples, over all processes."""
        self.model.train()
        self.optimizer.zero_grad()
        _tell_epoch(self.batches, number)
        total, samples, seen = 0.0, 0, 0
        for i, batch in enumerate(self.batches):
            where = f"epoch {number + 1}, batch {i}"
            sample, loss = self._loss(batch, i, where)
            value = float(loss.detach())
            (everywhere,) = total_over_ranks(value, device=self.objective.device)  # or a process would wait for another
            if not math.isfinite(everywhere):
                raise TrainingError(self._diverged(where, f"a loss of {everywhere}"))
            (loss / self.settings.accumulate).backward()
            seen = i + 1
            if seen % self.settings.accumulate == 0:
                self._step(where)
            total, samples = total + value * sample.size, samples + sample.size
            text = f"epoch {number + 1} of {self.settings.epochs}, loss {total / samples:.4g}"
            bars.update(task, advance=1, description=text)
        if not seen:
            raise TrainingError(f"epoch {number + 1}: batches gave none; {REPEATABLE}")
        if seen % self.settings.accumulate:
            self._step(f"epoch {number + 1}, the last batch")
        total, count = total_over_ranks(total, samples, device=self.objective.device)
        return total / count

    def _loss(self, batch: Any, number: int, where: str) -> tuple[Sample, Tensor]:
        """A batch taken apart, and its loss; what is wrong with one process's share stops all of them."""
        objective = self.objective
        sample = together(partial(objective.sample, batch, number, "training"), objective.device)
        output = self.model(*sample.args, **sample.kwargs)
        return sample, together(partial(objective, output, sample, where), objective.device)

    def _step(self, where: str) -> None:
        limit = math.inf if self.settings.gradient_clip is None else self.settings.gradient_clip
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not math.isfinite(norm):  # refused before it spoils the parameters
            wrong = [name for name, p in self.student.named_parameters() if p.grad is not None and _spoilt(p.grad)]
            found = (
                f"gradients of norm {norm}, not finite first in {wrong[0]}" if wrong else f"gradients of norm {norm}"
            )
            raise TrainingError(self._diverged(where, found))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()

    def _diverged(self, where: str, found: str) -> str:
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return (
            f"{where}: training has diverged, required finite numbers, found {found}: lower the learning rate "
            f"({rate:.3g} at this step), give gradient_clip=1.0, and look for infinities in the loss; "
            "a checkpoint holds the last whole epoch"
        )

    def _score(self) -> float | None:
        if self.validation is None:
            return None
        self.model.eval()
        with torch.no_grad():
            if not callable(self.validation):
                return self.objective.score(self.student, self.validation)
            found = together(partial(_number, self.validation(self.student)), self.objective.device)
            score, ranks = total_over_ranks(found, 1.0, device=self.objective.device)
        if math.isnan(score):
            raise TrainingError("validation: required a number, higher for a better student, found NaN")
        return score / ranks

    def _keep(self, score: float | None) -> None:
        """Keep this student if it is the best so far."""
        if score is not None and self.history.best == len(self.history.score):
            self.best = {name: t.detach().cpu().clone() for name, t in self.student.state_dict().items()}

    def _plan(self) -> dict[str, Any]:
        """What must be the same for a run that goes on."""
        optimizer, schedule = type(self.optimizer).__name__, type(self.schedule).__name__
        drivers = {"optimizer": optimizer, "schedule": schedule, "rate": self.rate}
        data = {"batches": self.count, **getattr(self.batches, "resume_plan", {})}  # the command line's say more
        return {**asdict(self.settings), **data, **drivers, **self.objective.plan()}

    def _save(self, path: Path | None) -> None:
        if path is None:
            return
        record = {
            "plan": self._plan(),
            "history": asdict(self.history),
            "student": self.student.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        write_checkpoint(path, record, self.batches)

    def _load(self, path: Path) -> None:
        record = read_checkpoint(path)
        plan, found = self._plan(), record["plan"]
        differing = [f"{k} {plan[k]} instead of {found.get(k)}" for k in plan if plan[k] != found.get(k)]
        if differing:
            raise TrainingError(
                f"{path}: it belongs to another run, found {', '.join(differing)}: go on with the settings it was "
                "written with, or start a new run (resume=False) from the student as it is"
            )
        try:
            self.student.load_state_dict(record["student"])
            self.optimizer.load_state_dict(record["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"{path}: it belongs to another network or optimizer: {error}") from error
        self.schedule.load_state_dict(record["schedule"])
        self.history, self.best = History(**record["history"]), record["best"]
        restore_random_state(record["random"], self.batches)


def _number(score: Any) -> float:
    """What a validation of the user's own gives.

    Raises:
        TrainingError: It is no number.
    """
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError) as error:
        found = f"a tensor of shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        raise TrainingError(
            f"validation: required a number from the function, higher for a better student, found {found}"
        ) from error


def _spoilt(gradient: Tensor) -> bool:
    return not bool(torch.isfinite(gradient).all())


def require_repeatable(batches: Iterable[Any], name: str) -> None:
    """Refuse an iterator: it would be exhausted after one epoch.

    Raises:
        TrainingError: With the remedy.
    """
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise TrainingError(f"{name}: required an iterable of batches, found {type(batches).__name__}")
    if isinstance(batches, Iterator):
        raise TrainingError(f"{name}: found {type(batches).__name__}, which can be gone through once; {REPEATABLE}")


def _tell_epoch(batches: Any, epoch: int) -> None:
    """Data that shuffle by epoch, as DistributedSampler does, are told which one it is."""
    for owner in (batches, getattr(batches, "sampler", None)):
        tell = getattr(owner, "set_epoch", None)
        if tell is not None:
            tell(epoch)
