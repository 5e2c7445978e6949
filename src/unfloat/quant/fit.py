"""A small training loop for those who have none: the student learns from labels or from a float teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import LBFGS, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from unfloat.quant.objective import Loss, Objective
from unfloat.quant.post_training import _progress
from unfloat.quant.student import STATE, Student
from unfloat.quant.train import unwrapped
from unfloat.quant.training_loop import History, Loop, Schedule, Settings, Validation
from unfloat.spec.errors import TrainingError

RATE = 1e-4  # of AdamW, where the user names none: the network is trained already
RANGE_RATE = 3e-3  # of learned ranges: each is a share of where it started, and one step moves it by no more than this
WEIGHT_DECAY = 1e-4
WARM_UP = 0.05  # of all steps


def cosine(progress: float) -> float:
    """The share of the learning rate: up in a line for the first twentieth, then down half a cosine."""
    return min(progress / WARM_UP, 1.0) * (1 + math.cos(math.pi * progress)) / 2


def default_optimizer(student: nn.Module, rate: float = RATE) -> Optimizer:
    """AdamW. Only weights decay: neither biases and norms nor ranges, which have a rate of their own, should shrink."""
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    ranges: list[nn.Parameter] = []
    for name, parameter in unwrapped(student).named_parameters():
        kind = ranges if name.startswith(f"{STATE}.") else weights if parameter.dim() > 1 else others
        kind.append(parameter)
    groups = [
        {"params": weights, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
        {"params": ranges, "weight_decay": 0.0, "lr": RANGE_RATE},
    ]
    return AdamW([g for g in groups if g["params"]], lr=rate)


def fit(
    student: nn.Module,
    batches: Iterable[Any],
    *,
    settings: Settings,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    rate: float | None = None,
    schedule: Schedule | None = None,
    validation: Validation | None = None,
    teacher: nn.Module | None = None,
    temperature: float = 1.0,
    mix: float = 0.0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """See `unfloat.fit`."""
    inner = unwrapped(student)
    _require_kinds(loss, optimizer, schedule, teacher)
    _check(inner, teacher, optimizer, rate, temperature, mix)
    if settings.patience is not None and validation is None:
        raise TrainingError("patience: required validation data to watch, found none")
    if resume and checkpoint is None:
        raise TrainingError("resume: required the path of a checkpoint, found none")
    device = next(inner.parameters()).device
    objective = Objective(inner._simulation.graph, device, loss, teacher, temperature, mix)
    loop = Loop(student, batches, objective, validation, settings)
    if optimizer is None:
        rate = RATE if rate is None else rate
        optimizer = default_optimizer(student, rate)
    schedule = schedule or cosine
    _require_driven(inner, optimizer, schedule)
    loop.drive(optimizer, schedule, rate)
    with _resting(teacher), _progress(progress) as bars:
        return loop.run(None if checkpoint is None else Path(checkpoint), resume, bars)


def _require_kinds(loss: object, optimizer: object, schedule: object, teacher: object) -> None:
    """Refuse what is of another kind, a class in place of what it makes above all, before anything has begun."""
    if loss is not None and not _function(loss):
        raise TrainingError(f"loss: required a function of (output, labels), found {_found(loss)}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TrainingError(f"optimizer: required one of torch.optim, made, found {_found(optimizer)}")
    if isinstance(optimizer, LBFGS):
        raise TrainingError("optimizer: LBFGS wants several losses a step: take another one, or a loop of your own")
    if isinstance(schedule, ReduceLROnPlateau):
        raise TrainingError(
            "schedule: ReduceLROnPlateau wants a score at each step: take another one, or a loop of your own"
        )
    if schedule is not None and not isinstance(schedule, LRScheduler) and not _function(schedule):
        raise TrainingError(
            f"schedule: required a function of the progress or an LRScheduler, found {_found(schedule)}"
        )
    if teacher is not None and not isinstance(teacher, nn.Module):
        raise TrainingError(f"teacher: required a torch.nn.Module, found {_found(teacher)}")


def _check(
    student: Student,
    teacher: nn.Module | None,
    optimizer: Optimizer | None,
    rate: float | None,
    temperature: float,
    mix: float,
) -> None:
    if not any(p.requires_grad for p in student.parameters()):
        raise TrainingError("required at least one parameter that requires a gradient, found none: nothing would learn")
    if optimizer is not None and rate is not None:
        raise TrainingError("rate: it is for the default optimizer; give it to the optimizer of your own instead")
    if rate is not None and not 0 < rate < math.inf:
        raise TrainingError(f"rate: required a positive number, found {rate!r}")
    if not 0 < temperature < math.inf:
        raise TrainingError(f"temperature: required a positive number, found {temperature!r}")
    if not 0 <= mix <= 1 or (mix and teacher is None):
        raise TrainingError(f"mix: required a share from 0 to 1, and a teacher, found {mix!r}, teacher {teacher!r}")
    if teacher is not None and teacher is student:
        raise TrainingError("teacher: required the float model, found the student itself")


def _require_driven(student: Student, optimizer: Optimizer, schedule: Schedule) -> None:
    """Refuse what would move no parameter of the student, or no rate: nothing else would show it."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(id(p) for p in student.parameters() if p.requires_grad):
        raise TrainingError(
            "optimizer: it holds none of the student's parameters, those of the float model are others, so nothing "
            "would learn: make it after prepare, of student.parameters()"
        )
    if isinstance(schedule, LRScheduler) and schedule.optimizer is not optimizer:
        raise TrainingError(
            "schedule: it was made for another optimizer than the one that trains, whose rate would stay as it is: "
            "make it for an optimizer of student.parameters(), and pass that as optimizer= too"
        )


def _function(given: object) -> bool:
    return callable(given) and not isinstance(given, type)


def _found(given: object) -> str:
    return f"the class {given.__name__}: make one of it" if isinstance(given, type) else type(given).__name__


@contextmanager
def _resting(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in `eval()`, its flags restored afterwards. Exported modules have flags, but refuse `eval()`."""
    flags = [] if teacher is None else [(module, module.training) for module in teacher.modules()]
    for module, _ in flags:
        module.training = False
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
