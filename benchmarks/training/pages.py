"""The pages of the experiments on CIFAR-10, from the records of the cells that have run; cells that have not are named.

python -m benchmarks.training.pages
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from statistics import mean, stdev
from typing import Any

import numpy as np
from benchmarks import results
from benchmarks.training.cell import RECORDS, Cell
from benchmarks.training.experiments import BITS, EXPERIMENTS

Record = dict[str, Any]

PAPER = (
    (-0.9, -0.3, -0.4, -1.3, -3.5),
    (-1.3, -0.5, -1.2, -1.0, -2.6),
    (-1.1, -1.2, -1.6, -1.6, -3.1),
    (-3.1, -3.7, -3.4, -3.4, -4.8),
    (-11.4, -13.6, -10.8, -13.1, -14.0),
)
"""Table 4.7 of the arXiv numbering: relative change of the average precision in percent, rows weights, columns activations."""


def record_of(cell: Cell) -> Record | None:
    """What a cell measured, None if it has not run."""
    path = RECORDS / f"{cell.name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    values = list(values)
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def found(cells: Iterable[Cell]) -> list[tuple[Cell, Record]]:
    """The cells that have run and their records."""
    return [(cell, record) for cell in cells if (record := record_of(cell)) is not None]


def minutes(record: Record) -> float:
    """Of fine-tuning."""
    return sum(epoch["seconds"] for epoch in record["epochs"]) / 60


def row(label: list[object], records: list[Record]) -> list[object]:
    """Float, PTQ and QAT with their drops, over seeds."""
    lost = [r["float"] - r["ptq"] for r in records]
    left = [r["float"] - r["qat"] for r in records]
    recovered = f"{100 * (1 - mean(left) / mean(lost)):.0f} %" if mean(lost) > 0.5 else "-"
    return [
        *label,
        len(records),
        *(spread(r[kind] for r in records) for kind in ("float", "ptq", "qat")),
        spread(-x for x in lost),
        spread(-x for x in left),
        recovered,
        f"{mean(minutes(r) for r in records):.0f}",
        ", ".join(sorted({r["commit"] for r in records})),
    ]


MEASURED = ("seeds", "float", "PTQ", "QAT", "PTQ - float", "QAT - float", "recovered", "minutes", "commit")
NOTES = [
    "Top-1 in percent on all 10,000 test pictures, mean ± standard deviation over the seeds, integers in the engine. "
    "First and last layers are quantized like the others. Weights int8 per channel with the bits named, symmetric; "
    "activations affine per tensor. Up to commit b0fefc2 the pool before a ResNet's classifier had the scale of what it "
    "reads, since 6f6e93b it is a mean with a scale of its own. Minutes are those of the clock, one thread a cell, pauses and "
    "other work beside it included.",
]


NORMS = [
    "",
    "`batch` and `average` at 8 bits, the second row and the third, are of before the pool had that scale, the others of "
    "after. Before it, `correct` had 87.68 ± 0.14 at 8 bits.",
]


GATED = [
    "",
    "Small forms of MobileNetV3-Small (2.9 million multiplications) and EfficientNet-B0 (3.4), with a first stride of 1, "
    "trained from scratch in 8 epochs, seven of them on pictures reduced to 24 x 24. Longer training would improve the "
    "float networks too: a QAT above float says that integers cost nothing, not that they are better. The trained "
    "integers in every runtime: [training_equality_gated](training_equality_gated.md).",
]


def table(name: str, title: str, experiments: list[str], group: Callable[[Cell], tuple[object, ...]],
          columns: tuple[str, ...], notes: list[str]) -> None:  # fmt: skip
    """One page: cells of the same group are its seeds."""
    cells = list({c.name: c for e in experiments for c in EXPERIMENTS[e]}.values())
    groups: dict[tuple[object, ...], list[Record]] = {}
    for cell, record in found(cells):
        groups.setdefault(group(cell), []).append(record)
    rows = [row(list(label), records) for label, records in groups.items()]
    results.write(name, title, (*columns, *MEASURED), rows, [*NOTES, *notes, *missing(cells)])


def missing(cells: Iterable[Cell]) -> list[str]:
    """A sentence that names what has not run."""
    names = [cell.name for cell in cells if record_of(cell) is None]
    return ["", f"Not run yet: {', '.join(names)}."] if names else []


def grid(kind: str) -> np.ndarray:
    """[5, 5] changes against float in points, rows weights; NaN where a cell has not run."""
    values = np.full((len(BITS), len(BITS)), np.nan)
    for cell, record in found(EXPERIMENTS["ablation"]):
        at = BITS.index(cell.weight_bits), BITS.index(cell.activation_bits)
        values[at] = record[kind] - record["float"]
    return values


def heat_map(maps: dict[str, np.ndarray]) -> None:
    """docs/results/training_ablation.svg."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "unfloat"  # the same picture gives the same file
    figure, axes = plt.subplots(1, len(maps), figsize=(4.2 * len(maps), 4), constrained_layout=True)
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        shown = axis.imshow(values, cmap="RdYlGn", vmin=-14, vmax=0)
        axis.set(title=title, xlabel="activation bits", ylabel="weight bits")
        axis.set_xticks(range(len(BITS)), BITS)
        axis.set_yticks(range(len(BITS)), BITS)
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                axis.text(j, i, f"{value:.1f}", ha="center", va="center")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    figure.savefig(results.FOLDER / "training_ablation.svg", metadata={"Date": None})
    plt.close(figure)


def ablation() -> None:
    """Table 4.7's question, beside the paper's drops."""
    maps = {"PTQ, points": grid("ptq"), "QAT, points": grid("qat"), "the paper's QAT, %": np.array(PAPER)}
    commits = {(c.weight_bits, c.activation_bits): r["commit"] for c, r in found(EXPERIMENTS["ablation"])}
    rows = []
    for i, w in enumerate(BITS):
        for j, a in enumerate(BITS):
            cells = [f"{maps[name][i, j]:+.2f}" for name in ("PTQ, points", "QAT, points")]
            cells = ["not run" if "nan" in c else c for c in cells]
            rows.append([w, a, *cells, f"{PAPER[i][j]:+.1f} %", commits.get((w, a), "-")])
    heat_map(maps)
    columns = ("weight bits", "activation bits", "PTQ - float", "QAT - float", "the paper's QAT, relative", "commit")
    notes = [
        *NOTES,
        "ResNet-8, seed 0. The paper's table is of another task (face attributes, average precision, relative to "
        "float), its weights per tensor. With the pool on the scale of what it reads, 4/4 ended 3.81 points below float "
        "after the same 8 epochs, and 2.68 below after 72 with ResNet-20 as the teacher. Only the cells 8/8, 8/5 and 4/4 "
        "are of after the pool had a scale of its own; the other 22 are of before.",
        "",
        "![heat map](training_ablation.svg)",
        *missing(EXPERIMENTS["ablation"]),
    ]
    results.write("training_ablation", "Weight bits by activation bits", columns, rows, notes)


def main() -> None:
    """Write all pages."""
    bits = ("weight bits", "activation bits")
    table("training_cifar10", "CIFAR-10: float, quantized after training, trained with the integers",
          ["networks", "four_bits"],
          lambda c: (c.network, c.weight_bits, c.activation_bits, c.epochs), ("network", *bits, "epochs"), [])  # fmt: skip
    table("training_gated", "Hard-swishes, SiLUs and gates: float, quantized after training, trained with the integers",
          ["gated"], lambda c: (c.network, c.weight_bits, c.activation_bits, c.epochs), ("network", *bits, "epochs"), GATED)  # fmt: skip
    table("training_norms", "Three ways to fold batch norm in training", ["norms"],
          lambda c: (c.norm, c.weight_bits, c.activation_bits), ("norm", *bits), NORMS)  # fmt: skip
    table("training_ranges", "Learned scales against moving averages", ["four_bits", "networks", "ranges"],
          lambda c: (c.network, c.ranges, c.weight_bits, c.activation_bits), ("network", "ranges", *bits), [])  # fmt: skip
    table("training_delays", "Epochs before activations are quantized", ["delays"],
          lambda c: (c.delay, c.weight_bits, c.activation_bits), ("epochs of delay", *bits), [])  # fmt: skip
    table("training_activations", "ReLU against ReLU6", ["activations"],
          lambda c: (c.network, c.weight_bits, c.activation_bits), ("network", *bits), [])  # fmt: skip
    ablation()


if __name__ == "__main__":
    main()
