"""Fine-tuning networks with ImageNet weights on train1000, judged on val650: PTQ beside QAT with distillation.

    python -m benchmarks.training.fine_tune [TRIAL ...]

The float network is the teacher; labels are not used. `hard` is the paper's hard case (section 3: channel ranges far
apart), MobileNetV1 0.25 at 128 px in uint8 per tensor, without and with equalisation. A trial's epochs are saved and
it goes on where it was stopped; its record is kept in `records/`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from benchmarks import data, measures, results
from benchmarks.memory import keep_freed_memory
from benchmarks.networks import PRETRAINED, mobilenet_v1_025_imagenet, without_dropout
from benchmarks.training.cell import RECORDS, Engine
from benchmarks.training.float_networks import UNFINISHED
from benchmarks.training.imagenet import Batch, ImageNet, logits
from torch import nn

import unfloat
from unfloat import Recipe, Training


@dataclass(frozen=True)
class Trial:
    """One network under one recipe.

    Attributes:
        build: Gives the float network, in eval mode.
        size: Pixels of a side.
        statistics: Of its preprocessing.
        recipe: As far as it is not the default.
        rate: The learning rate at its start.
        epochs: How often it goes through the 1,000 pictures.
        batch: Pictures a step.
    """

    build: Callable[[], nn.Module]
    size: int
    statistics: data.Statistics
    recipe: Recipe
    rate: float
    epochs: int = 10
    batch: int = 50


FEW = Training(ranges="learned", freeze_norm_after=0)
"""A thousand pictures say less of statistics and ranges than those that are known: start from these, and learn."""


def _hard(rate: float, **wishes: Any) -> Trial:
    recipe = Recipe(training=FEW, **wishes)
    return Trial(mobilenet_v1_025_imagenet, 128, data.SYMMETRIC_STATISTICS, recipe, rate)


def _wide(name: str, statistics: data.Statistics, rate: float, epochs: int) -> Trial:
    return Trial(PRETRAINED[name].build, 224, statistics, Recipe(training=FEW), rate, epochs, batch=25)


TRIALS = {
    "hard_uint8": _hard(1e-3, scheme="uint8"),
    "hard_uint8_equalized": _hard(2e-4, scheme="uint8", equalize=True),
    "hard_int8": _hard(1e-4),
    "mobilenet_v2": _wide("mobilenet_v2", data.IMAGENET_STATISTICS, 3e-6, 16),
    "efficientnet_lite0": _wide("efficientnet_lite0", data.LITE_STATISTICS, 3e-6, 10),
}


class Epochs:
    """The training batches as something to go through again and again, another order each time."""

    def __init__(self, pictures: ImageNet, seed: int) -> None:
        self.pictures, self.seed, self.epoch = pictures, seed, 0

    def __len__(self) -> int:
        return self.pictures.steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        yield from self.pictures.train(self.seed, self.epoch)


def run(name: str, epochs: int, seed: int = 0) -> dict[str, Any]:
    """Run a trial, or read its record where it has run."""
    path = RECORDS / f"fine_tune_{name}_epochs-{epochs}_seed{seed}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    torch.manual_seed(seed)
    trial = TRIALS[name]
    model = without_dropout(trial.build().eval())  # the teacher answers without it, the student should learn so
    pictures = ImageNet(trial.size, trial.statistics, trial.batch)
    calibration = pictures.calibration()
    _, labels = pictures.test
    reference = logits(model, pictures)

    def judged(program: unfloat.Program) -> measures.Agreement:
        return measures.compare(reference, logits(Engine(program), pictures), np.asarray(labels))

    begin = time.perf_counter()
    ptq = judged(unfloat.quantize(model, calibration, trial.recipe))
    student = unfloat.prepare(model, calibration[0], trial.recipe, calibration)
    unfloat.fit(
        student,
        Epochs(pictures, seed),
        epochs=epochs,
        teacher=model,
        rate=trial.rate,
        checkpoint=UNFINISHED / f"{path.stem}.pt",
        resume=True,
        progress=True,
    )
    qat = judged(unfloat.convert(student))
    seconds = round(time.perf_counter() - begin)
    record = {"trial": name, "epochs": epochs, "seed": seed, "recipe": trial.recipe.to_toml(), "rate": trial.rate,
              "ptq": asdict(ptq), "qat": asdict(qat), "seconds": seconds}  # fmt: skip
    RECORDS.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(name, ptq, qat, flush=True)
    return record


def main() -> None:
    """Run trials and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", default=list(TRIALS))
    parser.add_argument("--epochs", type=int, help="instead of each trial's own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    UNFINISHED.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.trials:
        record = run(name, arguments.epochs or TRIALS[name].epochs)
        cells = {kind: measures.Agreement(**record[kind]).cells() for kind in ("ptq", "qat")}
        how = {"ptq": "PTQ", "qat": f"QAT, {record['epochs']} epochs"}
        rows += [[name, how[kind], *found] for kind, found in cells.items()]
    results.write("fine_tuning", "Fine-tuning on 1,000 pictures", ("trial", "how", *measures.COLUMNS), rows)


if __name__ == "__main__":
    main()
