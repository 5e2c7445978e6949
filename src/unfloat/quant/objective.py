"""What a training loop minimizes and what it scores: labels, or a float teacher's outputs (distillation)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional
from torch import Tensor, nn

from unfloat.ir.graph import Graph
from unfloat.quant.batches import inputs_of
from unfloat.quant.distributed import together, total_over_ranks
from unfloat.spec.errors import TrainingError

Loss = Callable[[Any, Any], Tensor]
IGNORED = -100  # PyTorch's own label for "do not count this"


@dataclass(frozen=True)
class Sample:
    """One batch, taken apart.

    Attributes:
        args, kwargs: What student and teacher are called with.
        target: What is left of the batch: labels, several things as a tuple or dict, or None.
        size: How many samples.
    """

    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    target: Any
    size: int


@dataclass(frozen=True)
class Objective:
    """The loss of a student's outputs.

    Attributes:
        graph: The student's, for its inputs.
        device: Where the student lives.
        loss: Of (output, target), or with a teacher of (output, the teacher's output); None for cross entropy, with a
            teacher for `distillation`.
        teacher: A float module, or None.
        temperature: Of the distillation.
        mix: With a teacher: the share of the labels' cross entropy in the loss.
    """

    graph: Graph
    device: torch.device
    loss: Loss | None = None
    teacher: nn.Module | None = None
    temperature: float = 1.0
    mix: float = 0.0

    def plan(self) -> dict[str, Any]:
        """What must be the same for a run that goes on, in plain values."""
        loss = None if self.loss is None else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        teacher = None if self.teacher is None else type(self.teacher).__name__
        return {"loss": loss, "teacher": teacher, "temperature": self.temperature, "mix": self.mix}

    def sample(self, batch: Any, number: int, what: str) -> Sample:
        """Take a batch apart: first the inputs, then the target.

        Raises:
            CalibrationError: An input is missing, has another shape or dtype, or holds NaN or infinity.
        """
        inputs = [x.to(self.device) for x in inputs_of(batch, self.graph, number, what)]
        names = [port.name for port in self.graph.inputs]
        if isinstance(batch, Mapping):
            rest = {name: self._moved(value) for name, value in batch.items() if name not in names}
            target = next(iter(rest.values())) if len(rest) == 1 else rest or None
            return Sample((), dict(zip(names, inputs, strict=True)), target, len(inputs[0]))
        others = batch[len(names) :] if isinstance(batch, (tuple, list)) else ()
        moved = tuple(self._moved(value) for value in others)
        return Sample(tuple(inputs), {}, moved[0] if len(moved) == 1 else moved or None, len(inputs[0]))

    def _moved(self, value: Any) -> Any:
        try:
            return torch.as_tensor(value).to(self.device)
        except (TypeError, ValueError, RuntimeError):
            return value  # names, say: a loss of one's own may want them

    def __call__(self, output: Any, sample: Sample, where: str) -> Tensor:
        """The loss of the model's output for one batch, a scalar. Nothing is exchanged with other processes.

        Raises:
            TrainingError: The batch has no labels, or loss and outputs do not go together.
        """
        if self.teacher is None:
            labels = self._labels(sample, where)
            found = self.loss(output, labels) if self.loss else _cross_entropy_at(where, output, labels)
        else:
            wanted = self.taught(sample, where)
            found = self.loss(output, wanted) if self.loss else distillation(output, wanted, self.temperature)
            if self.mix:
                labelled = _cross_entropy_at(where, output, self._labels(sample, where))
                found = (1 - self.mix) * found + self.mix * labelled
        if not isinstance(found, Tensor) or found.numel() != 1:
            what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise TrainingError(f"{where}: the loss must be one number in a tensor, found {what}")
        return found

    def _labels(self, sample: Sample, where: str) -> Any:
        if sample.target is None:
            raise TrainingError(
                f"{where}: required labels after the inputs, found none; give batches (x, y), or a teacher to learn from"
            )
        return sample.target

    @torch.no_grad()
    def taught(self, sample: Sample, where: str) -> Any:
        """The teacher's outputs, without gradient."""
        assert self.teacher is not None
        try:
            return self.teacher(*sample.args, **sample.kwargs)
        except (RuntimeError, TypeError) as error:
            raise TrainingError(
                f"{where}: the teacher does not take a batch of {sample.size}, on {self.device}: {error}; "
                "move it to the student's device, and export it with a dynamic batch if it is an exported program"
            ) from error

    @torch.no_grad()
    def score(self, model: nn.Module, batches: Iterable[Any]) -> float:
        """How good a model in `eval()` is, higher is better, over all processes.

        It is the accuracy; without labels, how often it agrees with the teacher; under a loss of one's own, minus that.
        """
        good, count = together(partial(self._counted, model, batches), self.device)
        good, count = total_over_ranks(good, count, device=self.device)
        if not count:
            raise TrainingError("validation: required at least one labelled sample, found none")
        return good / count

    def _counted(self, model: nn.Module, batches: Iterable[Any]) -> tuple[float, float]:
        """What is good in this process's batches, and of how much."""
        good = count = 0.0
        for number, batch in enumerate(batches):
            where = f"validation batch {number}"
            sample = self.sample(batch, number, "validation")
            if self.loss is not None:
                good -= float(self(model, sample, where)) * sample.size
                count += sample.size
                continue
            wanted = self.taught(sample, where) if self._teacher_judges(sample) else self._labels(sample, where)
            hits, seen = hits_of(model(*sample.args, **sample.kwargs), wanted)
            good, count = good + hits, count + seen
        return good, count

    def _teacher_judges(self, sample: Sample) -> bool:
        return self.teacher is not None and sample.target is None


def _cross_entropy_at(where: str, output: Any, labels: Any) -> Tensor:
    try:
        return cross_entropy(output, labels)
    except TrainingError as error:
        raise TrainingError(f"{where}: {error}") from error


def cross_entropy(output: Any, target: Any) -> Tensor:
    """Cross entropy of logits [n, classes, ...] with classes [n, ...] or with probabilities shaped as the logits."""
    logits = require_logits(output)
    if not isinstance(target, Tensor):
        raise TrainingError(f"required labels as one tensor, found {type(target).__name__}; give a loss of your own")
    if target.is_floating_point() and target.shape == logits.shape:
        return torch.nn.functional.cross_entropy(logits, target)
    classes = _classes(logits, target)
    if bool((classes == IGNORED).all()):  # their mean would be no number
        raise TrainingError(
            f"required at least one labelled sample in each batch, found the label {IGNORED} alone, which does not count: "
            "leave such batches out"
        )
    return torch.nn.functional.cross_entropy(logits, classes, ignore_index=IGNORED)


def _classes(logits: Tensor, target: Tensor) -> Tensor:
    count = logits.shape[1]
    shape = (len(logits), *logits.shape[2:])
    if target.is_floating_point() or tuple(target.shape) != shape:
        raise TrainingError(
            f"required integer labels of shape {shape}, found {target.dtype} of shape {tuple(target.shape)}; "
            "give a loss of your own if they are no classes"
        )
    counted = target[target != IGNORED]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < count:
        raise TrainingError(
            f"required labels from 0 to {count - 1}, as many as the network has classes, "
            f"found {int(counted.min())} to {int(counted.max())}"
        )
    return target.to(torch.int64)


def distillation(output: Any, wanted: Any, temperature: float = 1.0) -> Tensor:
    """Learn a teacher's outputs: `T^2 KL(softmax(wanted / T) || softmax(output / T))`, the mean over samples.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Args:
        output: The student's logits, [n, classes, ...].
        wanted: The teacher's, of the same shape.
        temperature: Above 1 the classes that the teacher holds improbable count for more.
    """
    logits, taught = require_logits(output), require_logits(wanted)
    if logits.shape != taught.shape:
        raise TrainingError(
            f"student and teacher must have the same classes, found shapes {tuple(logits.shape)} and {tuple(taught.shape)}"
        )
    log_p = (taught / temperature).log_softmax(1)
    log_q = (logits / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def hits_of(output: Any, wanted: Any) -> tuple[float, float]:
    """How many samples (or positions) have their greatest output where it is wanted, and how many there are."""
    best = require_logits(output).argmax(1)
    if isinstance(wanted, Tensor) and wanted.shape == output.shape and wanted.is_floating_point():
        wanted = wanted.argmax(1)
    wanted = _classes(output, wanted)
    return float(((best == wanted) & (wanted != IGNORED)).sum()), float((wanted != IGNORED).sum())


def require_logits(output: Any) -> Tensor:
    """The output, if it can be logits.

    Raises:
        TrainingError: It is not one tensor [n, classes, ...] of at least two classes.
    """
    if isinstance(output, Tensor) and output.dim() >= 2 and output.shape[1] >= 2:
        return output
    found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise TrainingError(
        f"required logits of shape (n, classes, ...), at least two classes, found {found}; give a loss of your own"
    )
