"""One cell of an experiment on CIFAR-10: a float network, quantized after training and trained with its integers.

A cell's epochs are saved and its record is kept in `records/`, one JSON file a cell; the pages of docs/results are
made from the records. Accuracy is that of the engine, on all 10,000 test pictures.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from benchmarks import results
from benchmarks.training.cifar import Batch, Cifar10, accuracy
from benchmarks.training.float_networks import UNFINISHED, pretrained

import unfloat
from unfloat import Program, Recipe, Training
from unfloat.quant.objective import distillation
from unfloat.quant.student import Student

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Cell:
    """What a cell is; its name is made of it.

    Attributes:
        network: One of `float_networks.NETWORKS`.
        seed: Of the float network and of the fine-tuning.
        weight_bits, activation_bits: 2 to 8.
        ranges: See `unfloat.Training`.
        norm: See `unfloat.Training`.
        delay: Epochs before activations are quantized.
        taught: The share of the loss that the float network gives, by distillation; labels give the rest.
        temperature: Of the distillation.
        epochs: Of fine-tuning.
        rate: The greatest learning rate; it falls to 0 along a cosine.
        warm_up: Steps in which it rises to that.
        range_rate: The learning rate of learned ranges, over that of the others.
        decay: Weight decay.
        scheme: See `unfloat.Recipe`.
    """

    network: str = "resnet8"
    seed: int = 0
    weight_bits: int = 8
    activation_bits: int = 8
    ranges: str = "learned"
    norm: str = "correct"
    delay: int = 0
    taught: float = 0.7
    temperature: float = 2.0
    epochs: int = 8
    rate: float = 0.01
    warm_up: int = 0
    range_rate: float = 1.0
    decay: float = 1e-4
    scheme: str = "int8"

    @property
    def name(self) -> str:
        """Unique among cells; what is as usual is left out."""
        parts = [self.network, f"w{self.weight_bits}a{self.activation_bits}", f"seed{self.seed}"]
        usual = Cell()
        named = {"network", "weight_bits", "activation_bits", "seed"}
        others = [f.name for f in fields(self) if f.name not in named]
        parts += [f"{name}-{getattr(self, name)}" for name in others if getattr(self, name) != getattr(usual, name)]
        return "_".join(parts)

    def share(self, step: int, steps: int) -> float:
        """The share of the learning rate at a step, given the steps of an epoch: up in a line, along a cosine to 0."""
        return min(1.0, (step + 1) / max(1, self.warm_up)) * (1 + math.cos(math.pi * step / (self.epochs * steps))) / 2

    def recipe(self, steps: int) -> Recipe:
        """The recipe, given the steps of an epoch.

        Norms are not frozen: the rate falls to zero, and so the moving averages come to be those of the last weights.
        """
        training = Training(ranges=self.ranges, norm=self.norm, start_after=self.delay * steps)
        return Recipe(
            scheme=self.scheme,
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            training=training,
        )


class Engine(torch.nn.Module):
    """A Program behind a module's call."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.engine = program.compile(threads=torch.get_num_threads())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return torch.from_numpy(self.engine(x.contiguous().numpy()))


def run(cell: Cell, data: Cifar10) -> dict[str, Any]:
    """Run a cell, or read its record where it has run."""
    path = RECORDS / f"{cell.name}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    model = pretrained(cell.network, cell.seed)
    recipe = cell.recipe(data.steps)
    begin = time.perf_counter()
    program = unfloat.quantize(model, data.calibration(), recipe)
    record = {
        "cell": asdict(cell),
        "commit": results.commit(),
        "float": accuracy(model, data),
        "ptq": accuracy(Engine(program), data),
        "ptq_seconds": round(time.perf_counter() - begin, 1),
    }
    epochs, trained = fine_tune(cell, model, recipe, data)
    record |= {"qat": accuracy(Engine(trained), data), "epochs": epochs, "threads": torch.get_num_threads()}
    RECORDS.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(cell.name, record["float"], record["ptq"], record["qat"], flush=True)
    return record


def fine_tune(
    cell: Cell, model: torch.nn.Module, recipe: Recipe, data: Cifar10
) -> tuple[list[dict[str, float]], Program]:
    """Train the student, an epoch at a time, going on where an earlier run was stopped."""
    torch.manual_seed(cell.seed)
    student = unfloat.prepare(model, data.calibration(8)[0], recipe, data.calibration())
    optimizer = torch.optim.SGD(parameter_groups(student, cell), lr=cell.rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cell.share(step, data.steps))
    teacher = Teacher(cell, model, data)
    saved = UNFINISHED / f"{cell.name}.pt"
    log: list[dict[str, float]] = []
    parts: dict[str, Any] = {"student": student, "optimizer": optimizer, "schedule": schedule}
    if saved.exists():
        state = torch.load(saved)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        log = state["log"]
    for epoch in range(len(log), cell.epochs):
        begin = time.perf_counter()
        loss = train_epoch(student, teacher, cell, optimizer, schedule.step, data, epoch)
        test = accuracy(Engine(unfloat.convert(student)), data)  # as eval() would say, in a tenth of the time
        log.append({"loss": loss, "test": test, "seconds": round(time.perf_counter() - begin, 1)})
        print(cell.name, epoch + 1, log[-1], flush=True)
        saved.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**{name: part.state_dict() for name, part in parts.items()}, "log": log}, saved.with_suffix(".new"))
        saved.with_suffix(".new").replace(saved)
    return log, unfloat.convert(student)


def trained_student(cell: Cell, data: Cifar10) -> Student:
    """The student as its last epoch left it: what `run` has saved on this machine."""
    recipe = cell.recipe(data.steps)
    student = unfloat.prepare(pretrained(cell.network, cell.seed), data.calibration(8)[0], recipe, progress=False)
    student.load_state_dict(torch.load(UNFINISHED / f"{cell.name}.pt")["student"])
    return student


def parameter_groups(student: torch.nn.Module, cell: Cell) -> list[dict[str, Any]]:
    """Weight decay for weights only: not for norms, biases and what lies under "unfloat.", learned ranges."""
    own = {name: p for name, p in student.named_parameters() if not name.startswith("unfloat.")}
    ranges = [p for name, p in student.named_parameters() if name not in own]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own.values() if p.ndim > 1], "weight_decay": cell.decay},
        {"params": [p for p in own.values() if p.ndim <= 1]},
        {"params": ranges, "lr": cell.range_rate * cell.rate},
    ]
    return [group for group in groups if group["params"]]


class Teacher:
    """A float network's answers to an epoch's batches, kept for all cells that see the same epoch."""

    def __init__(self, cell: Cell, model: torch.nn.Module, data: Cifar10) -> None:
        self.cell, self.model, self.data = cell, model, data

    def answers(self, epoch: int) -> torch.Tensor:
        """Logits [steps, batch, classes]."""
        path = UNFINISHED / f"answers_{self.cell.network}_to_seed{self.cell.seed}_epoch{epoch}.pt"
        if path.exists():
            found: torch.Tensor = torch.load(path)
            return found
        with torch.no_grad():
            found = torch.stack([self.model(x) for x, _ in batches(self.cell, self.data, epoch)])
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")  # another worker may make the same
        torch.save(found, own)
        own.replace(path)
        return found


def batches(cell: Cell, data: Cifar10, epoch: int) -> Iterator[Batch]:
    """A cell's batches of an epoch."""
    return data.train(1000 + cell.seed, epoch)


def train_epoch(
    student: torch.nn.Module,
    teacher: Teacher,
    cell: Cell,
    optimizer: torch.optim.Optimizer,
    advance: Callable[[], None],
    data: Cifar10,
    epoch: int,
) -> float:
    """One epoch of an ordinary training loop; the mean loss."""
    student.train()
    total = 0.0
    for (x, y), wanted in zip(batches(cell, data, epoch), teacher.answers(epoch), strict=True):
        logits = student(x)
        loss = (1 - cell.taught) * functional.cross_entropy(logits, y)
        loss = loss + cell.taught * distillation(logits, wanted, cell.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance()
        total += float(loss.detach())
    return total / data.steps
