"""The experiments on CIFAR-10 as lists of cells, and a worker that runs what is left of them.

    python -m benchmarks.training.experiments [--threads 1] [EXPERIMENT ...]

Start it once for each core: workers share the cells between them, the most telling first, and each goes on where an
earlier one was stopped, an epoch at a time. `python -m benchmarks.training.pages` writes the pages from what has run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmarks.memory import keep_freed_memory
from benchmarks.training.cell import RECORDS, Cell, run
from benchmarks.training.cifar import Cifar10
from benchmarks.training.float_networks import CHECKPOINTS, UNFINISHED

SEEDS = (0, 1, 2)
BITS = (8, 7, 6, 5, 4)
DELAYS = (0, 1, 5)


def cell(weight_bits: int = 8, activation_bits: int = 8, **others: object) -> Cell:
    """A cell of the usual recipe for its bits."""
    usual = replace(
        Cell(weight_bits=weight_bits, activation_bits=activation_bits), **RECIPES[min(weight_bits, activation_bits)]
    )
    return replace(usual, **others)  # type: ignore[arg-type]


RECIPES: dict[int, dict[str, Any]] = {  # the coarser the grid, the further and longer weights have to go
    8: {"rate": 0.005, "epochs": 3},
    7: {"rate": 0.005, "epochs": 3},
    6: {"rate": 0.01, "epochs": 4},
    5: {"rate": 0.02, "epochs": 6},
    4: {"rate": 0.04, "epochs": 8, "taught": 0.5, "temperature": 1.0, "warm_up": 200, "range_rate": 3.0},
}

EXPERIMENTS: dict[str, list[Cell]] = {
    "networks": [*(cell(seed=s) for s in SEEDS), cell(network="resnet20")],
    "gated": [cell(network=n, epochs=1) for n in ("mobilenet_v3_small_cifar", "efficientnet_b0_cifar")],
    "four_bits": [cell(4, 4, seed=s) for s in SEEDS],
    "norms": [
        *(cell(norm=n, seed=s) for n, s in product(("correct", "batch"), SEEDS)),
        cell(norm="average"),
        *(cell(4, 4, norm=n) for n in ("correct", "batch")),  # with "average" a learned scale collapses in epoch 1
    ],
    "ranges": [cell(b, b, ranges="moving_average") for b in (8, 4)],
    "delays": [cell(b, b, delay=d, epochs=8) for b, d in product((8, 4), DELAYS)],
    "ablation": [cell(w, a) for w, a in sorted(product(BITS, BITS), key=min, reverse=True)],
    "activations": [cell(b, b, network=n, seed=s) for s, n, b in product(SEEDS, ("resnet8", "resnet8_relu6"), (8, 7))],
}


@contextmanager
def claimed(one: Cell) -> Iterator[bool]:
    """Whether this process may run a cell: it has not run, its float network has, and no living process runs it."""
    lock = UNFINISHED / f"{one.name}.running"
    lock.parent.mkdir(parents=True, exist_ok=True)
    ready = (CHECKPOINTS / f"{one.network}_seed{one.seed}.safetensors").exists()
    if not ready or (RECORDS / f"{one.name}.json").exists() or not _take(lock):
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: Path) -> bool:
    try:
        with lock.open("x") as file:
            file.write(str(os.getpid()))
        return True
    except FileExistsError:
        owner = lock.read_text()
    if owner and Path(f"/proc/{owner}").exists():
        return False
    lock.write_text(str(os.getpid()))  # its owner was stopped
    return True


def main() -> None:
    """Run what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=list(EXPERIMENTS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    data = Cifar10()
    for name in arguments.experiments:
        for one in EXPERIMENTS[name]:
            with claimed(one) as mine:
                if mine:
                    run(one, data)


if __name__ == "__main__":
    main()
