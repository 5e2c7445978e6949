"""The paper's headline (its figures 1.1c, 4.1, 4.2): accuracy over time, float beside integer, one thread.

    python -m benchmarks.frontier [--turns 9]

EfficientNet-Lite0, 1 and 2 and MobileNetV2 at 96 to 224 pixels with their ImageNet weights. Accuracy: top-1 on val650,
float in PyTorch, int8 in the engine, quantized after training. Time: the fastest float32 peer, and the engine, in turns.
Needs matplotlib and the weights' packages (see README.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.networks import PRETRAINED
from benchmarks.peers import files
from PIL import Image

import unfloat
from unfloat.cli.bench import SECONDS
from unfloat.cli.peers import take_turns
from unfloat.runtime.engine import level_in_use

NETWORKS = (
    *(f"mobilenet_v2@{size}" for size in (96, 128, 160, 192, 224)),
    *(f"efficientnet_lite{number}" for number in (0, 1, 2)),
)
CALIBRATION, BATCH = 125, 25


@dataclass(frozen=True)
class Point:
    """A network on the plot.

    Attributes:
        name: Its name.
        peer: The fastest float32 peer.
        top1: Percent of val650 named right: float, int8.
        milliseconds: Of a picture: that peer, the engine.
    """

    name: str
    peer: str
    top1: tuple[float, float]
    milliseconds: tuple[float, float]


def pictures(part: str, size: int, limit: int | None = None) -> tuple[data.Pictures, data.Labels]:
    """The same centre of every picture at every size, resized from 224 pixels."""
    found, labels = data.imagenet(part, limit=limit)
    if size == data.CROP:
        return found, labels
    resized = [np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BILINEAR)) for x in found]
    return np.stack(resized), labels


def accuracies(name: str) -> tuple[float, float]:
    """Top-1 in percent: float, int8."""
    base = name.partition("@")[0]
    size = files.network_at(name).input_shape[1]
    statistics = data.IMAGENET_STATISTICS if base == "mobilenet_v2" else data.LITE_STATISTICS
    model = PRETRAINED[base].build().eval()
    calibration = data.preprocess(pictures("train1000", size, CALIBRATION)[0], *statistics)
    evaluation, labels = pictures("val650", size)
    batches = data.preprocess(evaluation, *statistics).split(BATCH)

    def top1(network: Callable[[torch.Tensor], np.ndarray]) -> float:
        with torch.no_grad():
            named = np.concatenate([network(x).argmax(1) for x in batches])
        return float(100 * (named == labels).mean())

    engine = unfloat.quantize(model, list(calibration.split(BATCH))).compile(threads=2)
    return top1(lambda x: model(x).numpy()), top1(lambda x: engine(x.numpy()))


def measure(name: str, turns: int) -> Point:
    """Accuracy and time of one network."""
    peers = files.float_peers(name)
    engine, *others = take_turns(files.program(name), peers, 1, 1, level_in_use(), turns, SECONDS)
    best = min(others, key=lambda other: other.record()["median_ms"])
    times = (best.record()["median_ms"], engine.record()["median_ms"])
    return Point(name, best.runtime, accuracies(name), times)


def gaps(points: Sequence[Point]) -> list[list[object]]:
    """At the time of each float point: its accuracy beside the best of all int8 points that are not slower."""
    rows: list[list[object]] = []
    for point in sorted(points, key=lambda p: p.milliseconds[0]):
        time = point.milliseconds[0]
        fitting = [p for p in points if p.milliseconds[1] <= time]
        best = max(fitting, key=lambda p: p.top1[1], default=None)
        found = ["none is so fast", ""] if best is None else [best.name, f"{best.top1[1] - point.top1[0]:+.2f}"]
        rows.append([f"{time:.3f} ms", point.name, f"{point.top1[0]:.2f}", *found])
    return rows


def plot(points: Sequence[Point]) -> None:
    """Both frontiers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for kind, label, colour in ((0, "float32, fastest peer", "tab:orange"), (1, "int8, Unfloat", "tab:blue")):
        times = [p.milliseconds[kind] for p in points]
        scores = [p.top1[kind] for p in points]
        axes.plot(times, scores, "o", color=colour, label=label)
        for point, x, y in zip(points, times, scores, strict=True):
            axes.annotate(point.name, (x, y), fontsize=6, xytext=(3, -8), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("ms a picture, one thread")
    axes.set_ylabel("top-1 on val650, %")
    axes.legend(loc="lower right")
    figure.savefig(results.FOLDER / "frontier.svg")


def main() -> None:
    """Measure, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    points = []
    for name in NETWORKS:
        points.append(measure(name, arguments.turns))
        print(points[-1], flush=True)
    plot(points)
    columns = ("network", "fastest float32 peer", "float ms", "int8 ms", "float top-1", "int8 top-1")
    rows = [
        [p.name, p.peer, *(f"{t:.3f}" for t in p.milliseconds), *(f"{score:.2f}" for score in p.top1)] for p in points
    ]
    notes = [
        "Pictures of val650 are not a random sample of ImageNet, and none is stored larger than 227 pixels.",
        "",
        "![accuracy over time](frontier.svg)",
        "",
        "At the time of each float point, the best int8 point that is not slower:",
        "",
        *results.table(("time", "float network", "float top-1", "int8 network", "points above"), gaps(points)),
    ]
    results.write("frontier", "Accuracy over time, one thread", columns, rows, notes)


if __name__ == "__main__":
    main()
