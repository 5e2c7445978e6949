"""How near the integers stay to the float network: EfficientNet-Lite0 and MobileNetV2, real weights, val650.

python -m benchmarks.accuracy                    the default recipe, and the paper's uint8 beside it
python -m benchmarks.accuracy --ranges           every range rule, with and without bias correction
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.networks import PRETRAINED
from torch import nn

import unfloat

CALIBRATION, EVALUATION, BATCH = 125, 650, 25
STATISTICS = {"mobilenet_v2": data.IMAGENET_STATISTICS, "efficientnet_lite0": data.LITE_STATISTICS}


@dataclass(frozen=True)
class Agreement:
    """Integer beside float on the same pictures."""

    top1_float: float
    top1: float
    paired_error: float
    same: float
    divergence: float
    sqnr: float

    def cells(self) -> list[str]:
        """For a results row."""
        difference = f"{self.top1 - self.top1_float:+.2f} ± {self.paired_error:.2f}"
        return [
            f"{self.top1_float:.2f}",
            f"{self.top1:.2f}",
            difference,
            f"{self.same:.2f} %",
            f"{self.divergence:.4f}",
            f"{self.sqnr:.2f} dB",
        ]


COLUMNS = ("top-1 float", "top-1 integer", "difference ± standard error", "same class", "KL", "logit SQNR")


def compare(reference: np.ndarray, found: np.ndarray, labels: np.ndarray) -> Agreement:
    """Agreement of two sets of logits [n, classes]."""
    right_float, right = reference.argmax(1) == labels, found.argmax(1) == labels
    differences = right.astype(float) - right_float
    p, q = (log_softmax(logits) for logits in (reference, found))
    divergence = (np.exp(p) * (p - q)).sum(1).mean()
    noise = ((found - reference) ** 2).sum()
    return Agreement(
        100 * right_float.mean(),
        100 * right.mean(),
        100 * differences.std(ddof=1) / np.sqrt(len(labels)),
        100 * (reference.argmax(1) == found.argmax(1)).mean(),
        float(divergence),
        float(10 * np.log10((reference**2).sum() / noise)),
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def batches(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Batches of a fixed size."""
    yield from tensor.split(BATCH)


class Bench:
    """One network with its pictures and float logits."""

    def __init__(self, name: str, evaluation: int = EVALUATION) -> None:
        """Load everything once."""
        self.name = name
        self.model: nn.Module = PRETRAINED[name].build().eval()
        calibration, _ = data.imagenet("train1000", limit=CALIBRATION)
        pictures, self.labels = data.imagenet("val650", limit=evaluation)
        self.calibration = data.preprocess(calibration, *STATISTICS[name])
        self.pictures = data.preprocess(pictures, *STATISTICS[name])
        self.reference = self.run(lambda x: self.model(torch.from_numpy(x)).detach().numpy())

    def run(self, network: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Logits of all pictures."""
        with torch.no_grad():
            return np.concatenate([network(batch.numpy()) for batch in batches(self.pictures)])

    def quantize(self, recipe: unfloat.Recipe) -> unfloat.Program:
        """The Program under a recipe."""
        return unfloat.quantize(self.model, list(batches(self.calibration)), recipe)

    def measure(self, recipe: unfloat.Recipe) -> Agreement:
        """Quantize and compare."""
        engine = self.quantize(recipe).compile(threads=2)
        return compare(self.reference, self.run(engine), self.labels)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranges", action="store_true")
    parser.add_argument("--limit", type=int, default=EVALUATION)
    arguments = parser.parse_args()
    page, title = (
        ("ranges", "Range rules and bias correction") if arguments.ranges else ("accuracy", "Integer beside float")
    )
    notes = [
        f"Calibration: {CALIBRATION} pictures of train1000; "
        f"evaluation: {arguments.limit} of val650, not a random sample of ImageNet."
    ]
    rows = []
    for name in STATISTICS:
        bench = Bench(name, arguments.limit)
        for label, recipe in recipes(arguments.ranges).items():
            rows.append([name, label, *bench.measure(recipe).cells()])
            print(*rows[-1], flush=True)
        results.write(page, title, ("network", "recipe", *COLUMNS), rows, notes)


def recipes(ranges: bool) -> dict[str, unfloat.Recipe]:
    """What to measure."""
    default = unfloat.Recipe()
    if not ranges:
        return {"int8 (default)": default, "uint8, the paper's": replace(default, scheme="uint8")}
    rules = {
        f"{rule}": replace(default, ranges=rule) for rule in ("minmax", "moving_average", "percentile", "mse", "norm")
    }
    plain = {f"{label}, no correction": replace(recipe, bias_correction=False) for label, recipe in rules.items()}
    return {**rules, **plain}


if __name__ == "__main__":
    main()
