"""A student of `Small`, and a training loop as users write it."""

from __future__ import annotations

import torch
from torch import nn

import unfloat
from tests.quant.models import batches, small
from unfloat.program.file import to_bytes
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student

LEARNED = unfloat.Recipe(training=Training(ranges="learned"))


def student_of(recipe: unfloat.Recipe | None = None, model: nn.Module | None = None) -> Student:
    model = model or small()
    model.drop.p = 0.0
    return unfloat.prepare(model, batches()[0], recipe, progress=False).train()


def optimizer_of(student: nn.Module) -> torch.optim.SGD:
    learned = [p for name, p in student.named_parameters() if "unfloat." in name]
    groups = [{"params": [p for name, p in student.named_parameters() if "unfloat." not in name], "lr": 0.05}]
    return torch.optim.SGD(groups + [{"params": learned, "lr": 1e-3}] * bool(learned), momentum=0.9)


def run(student: nn.Module, optimizer: torch.optim.Optimizer, data: list[torch.Tensor]) -> None:
    for x in data:
        optimizer.zero_grad()
        student(x).square().sum().backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()


def program_of(student: nn.Module) -> bytes:
    return to_bytes(unfloat.convert(student))
