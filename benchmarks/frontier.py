"""The paper's headline (its figures 1.1c, 4.1, 4.2): accuracy over time, float beside integer, one thread.

    python -m benchmarks.frontier [--turns 9]

EfficientNet-Lite0, 1 and 2 and MobileNetV2 at 96 to 260 pixels with their ImageNet weights. Accuracy: top-1 on val650,
float in PyTorch, int8 in the engine, quantized after training. Time: the fastest float32 peer, and the engine, in turns.
Beside it cycles on a Cortex-A76, predicted as `benchmarks.kernels.a76` says, in float's favour. Needs matplotlib, the
weights' packages (see README.md), and what `benchmarks.kernels.mca` needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.kernels import a76
from benchmarks.networks import PRETRAINED
from benchmarks.peers import files
from PIL import Image

import unfloat
from unfloat.cli.bench import SECONDS
from unfloat.cli.peers import take_turns
from unfloat.runtime.engine import level_in_use

NETWORKS = (
    *(f"mobilenet_v2@{size}" for size in (96, 128, 160, 192, 224, 260)),
    *(f"efficientnet_lite{number}@{size}" for number in (0, 1, 2) for size in (192, 224, 240, 260)),
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
        cycles: The same on a Cortex-A76, predicted, in millions: float at least, int8.
    """

    name: str
    peer: str
    top1: tuple[float, float]
    milliseconds: tuple[float, float]
    cycles: tuple[float, float]


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
    integer = unfloat.load(files.program(name))
    cycles = (a76.least_float_cycles(integer) / 1e6, a76.predicted_cycles(integer) / 1e6)
    return Point(name, best.runtime, accuracies(name), times, cycles)


Cost = Callable[[Point], tuple[float, float]]  # of float, of int8


def frontier(points: Sequence[Point], cost: Cost, kind: int) -> list[Point]:
    """The points of a kind that no other of it beats at its cost or below, cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (cost(p)[kind], -p.top1[kind])):
        if not best or point.top1[kind] > best[-1].top1[kind]:
            best.append(point)
    return best


def gaps(points: Sequence[Point], cost: Cost, unit: str) -> list[list[object]]:
    """At the cost of each point of float's frontier: its accuracy beside the best of all int8 points no dearer."""
    rows: list[list[object]] = []
    for point in frontier(points, cost, 0):
        most = cost(point)[0]
        fitting = [p for p in points if cost(p)[1] <= most]
        best = max(fitting, key=lambda p: p.top1[1], default=None)
        found = ["none is so cheap", ""] if best is None else [best.name, f"{best.top1[1] - point.top1[0]:+.2f}"]
        rows.append([f"{most:.3f} {unit}", point.name, f"{point.top1[0]:.2f}", *found])
    return rows


def plot(points: Sequence[Point]) -> None:
    """Both frontiers, over measured time and over predicted cycles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    costs: list[tuple[str, Cost, tuple[str, str]]] = [
        ("ms a picture, one thread", lambda p: p.milliseconds, ("float32, fastest peer", "int8, Unfloat")),
        ("M cycles on a Cortex-A76, predicted", lambda p: p.cycles, ("float32, at its peak", "int8, Unfloat")),
    ]
    for place, (axis, cost, labels) in enumerate(costs, start=1):
        axes = figure.add_subplot(1, 2, place)
        for kind, (label, colour) in enumerate(zip(labels, ("tab:orange", "tab:blue"), strict=True)):
            axes.plot([cost(p)[kind] for p in points], [p.top1[kind] for p in points], "o", color=colour, markersize=3)
            best = frontier(points, cost, kind)
            places = [(cost(p)[kind], p.top1[kind]) for p in best]
            axes.plot(*zip(*places, strict=True), "-o", color=colour, label=label, drawstyle="steps-post")
            for point, at in zip(best, places, strict=True):
                axes.annotate(point.name, at, fontsize=6, xytext=(3, -8), textcoords="offset points")
        axes.set_xscale("log")
        axes.set_xlabel(axis)
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
    columns = (
        "network", "fastest float32 peer", "float ms", "int8 ms", "float top-1", "int8 top-1",
        "float A76 Mcycles, at least", "int8 A76 Mcycles",
    )  # fmt: skip
    rows = [
        [
            p.name,
            p.peer,
            *(f"{t:.3f}" for t in p.milliseconds),
            *(f"{score:.2f}" for score in p.top1),
            *(f"{c:.1f}" for c in p.cycles),
        ]
        for p in points
    ]
    headings = ("float network", "float top-1", "int8 network", "points above")
    notes = [
        "Pictures of val650 are not a random sample of ImageNet, and none is stored larger than 227 pixels.",
        "",
        "![accuracy over time](frontier.svg)",
        "",
        "At the time of each point of float's frontier, the best int8 point that is not slower:",
        "",
        *results.table(("time", *headings), gaps(points, lambda p: p.milliseconds, "ms")),
        "",
        "The same at the cycles predicted for a Cortex-A76 (benchmarks/kernels/a76.py), where float is given the core's "
        "peak and int8 llvm-mca's figures of its own loops:",
        "",
        *results.table(("cycles", *headings), gaps(points, lambda p: p.cycles, "M")),
    ]
    results.write("frontier", "Accuracy over time, one thread", columns, rows, notes)


if __name__ == "__main__":
    main()
