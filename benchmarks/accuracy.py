"""How near the integers stay to the float network: EfficientNet-Lite0 and MobileNetV2, real weights, val650.

python -m benchmarks.accuracy                    the default recipe, and the paper's uint8 beside it
python -m benchmarks.accuracy --ranges           every range rule, with and without bias correction
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.measures import COLUMNS, Agreement, compare
from benchmarks.networks import PRETRAINED
from torch import nn

import unfloat

CALIBRATION, EVALUATION, BATCH = 125, 650, 25
STATISTICS = {"mobilenet_v2": data.IMAGENET_STATISTICS, "efficientnet_lite0": data.LITE_STATISTICS}


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
