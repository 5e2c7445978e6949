"""What `unfloat train` does: prepare, fit, convert."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unfloat
from unfloat.cli.data import import_torch, read_model
from unfloat.cli.samples import LABEL_FILE, Samples
from unfloat.program.program import Program
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import CalibrationError, TrainingError, UnsupportedError

TEACHERS = ("self", "none")


@dataclass(frozen=True)
class Wishes:
    """The options of one command line; see `unfloat train --help`."""

    data: Path
    recipe: Recipe
    epochs: int
    batch: int
    rate: float | None
    teacher: str | None
    validation: Path | None
    checkpoint: Path | None
    resume: bool
    patience: int | None
    gradient_clip: float | None
    seed: int


class Training:
    """One training run from the shell.

    Attributes:
        teaches: "labels" or "the float model".
        measure: What the score is.
    """

    def __init__(self, model: str, wishes: Wishes) -> None:
        """Read model and data, and prepare the student."""
        if wishes.teacher not in (*TEACHERS, None):
            raise TrainingError(f"--teacher: required one of {', '.join(TEACHERS)}, found {wishes.teacher!r}")
        if model.lower().endswith(".tflite"):
            what = "a .tflite file has no module to train: give the .pt2 or the module that it was made from"
            raise TrainingError(f"{model}: {what}, or make its floats integers without training: unfloat quantize")
        self.wishes = wishes
        self.samples = Samples(wishes.data, wishes.recipe, wishes.batch, wishes.seed)
        self.validation = None if wishes.validation is None else Samples(wishes.validation, wishes.recipe, wishes.batch)
        torch = import_torch()
        torch.manual_seed(wishes.seed)  # dropout
        self.model = read_module(model)
        self.student = self._prepared()
        self._settle_labels()
        self.distils = wishes.teacher == "self" or self.samples.labels is None
        if self.distils and wishes.teacher == "none":
            raise TrainingError(
                f"{wishes.data}: --teacher none needs labels, found none: give a .npz with x and y, a folder with a "
                f"subfolder for each class, or one with {LABEL_FILE}; or --teacher self"
            )
        self.teaches = "the float model" if self.distils else "labels"
        judged = self.validation is not None and self.validation.labels is not None
        self.measure = "accuracy" if judged else "agreement with the float model"

    def _prepared(self) -> Any:
        """The student, traced with the first samples; where that fails for their sake, they are to blame."""
        from unfloat.quant.batches import example_of, refused_by  # here, as they need PyTorch

        first = self.samples.inputs(range(min(2, self.samples.count)))
        example = example_of(first, self.model, "training")
        try:
            return unfloat.prepare(self.model, example, self.wishes.recipe, self.samples.calibration())
        except UnsupportedError as error:
            is_module = isinstance(self.model, import_torch().nn.Module)
            reason = refused_by(self.model, example) if is_module else ""
            if not reason:
                raise
            raise CalibrationError(f"{self.wishes.data}: {reason}") from error

    def _settle_labels(self) -> None:
        """Subfolders are classes only if the network has as many: otherwise they were made for something else."""
        classes = self.student._simulation.graph.outputs[0].shape[-1]
        for samples in (self.samples, self.validation):
            if samples is None or not samples.classes or len(samples.classes) == classes:
                continue
            if self.wishes.teacher != "self":
                raise TrainingError(
                    f"{samples.source}: required a subfolder for each of the network's {classes} classes, found "
                    f"{len(samples.classes)} ({', '.join(samples.classes[:5])}): say the classes in {LABEL_FILE}, or "
                    "--teacher self to learn from the float model instead"
                )
            samples.forget_labels()

    def run(self) -> tuple[Program, Any]:
        """Train; the Program and the History."""
        wishes = self.wishes
        history = unfloat.fit(
            self.student,
            self.samples,
            epochs=wishes.epochs,
            rate=wishes.rate,
            teacher=self.model if self.distils else None,
            validation=self.validation,
            checkpoint=wishes.checkpoint,
            resume=wishes.resume,
            patience=wishes.patience,
            gradient_clip=wishes.gradient_clip,
        )
        return unfloat.convert(self.student), history


def read_module(name: str) -> Any:
    """A module to train: an exported program's own, which keeps its parameters' names.

    Raises:
        UnfloatError: It cannot be loaded.
    """
    model = read_model(name)
    return model.module(check_guards=False) if name.lower().endswith(".pt2") else model
