"""The engine against PyTorch float32 on this machine: one process each, alternating, medians of ratios.

python -m benchmarks.speed [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks import results
from benchmarks.networks import NETWORKS

import unfloat

TRIALS = ("mobilenet_v2", "resnet50", "mobilenet_v1", "efficientnet_lite0")


def once(kind: str, what: str, threads: int) -> float:
    """The median of one process."""
    line = [sys.executable, "-m", "benchmarks._once", kind, what, str(threads)]
    return float(
        subprocess.run(line, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent).stdout
    )


def measure(name: str, threads: int, rounds: int, folder: Path) -> list[object]:
    """One network: times and the ratio."""
    path = folder / f"{name}.unfloat"
    if not path.exists():
        network = NETWORKS[name]
        x = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
        unfloat.quantize(network.random(seed=1), [x], unfloat.Recipe(bias_correction=False)).save(path)
    pairs = [(once("unfloat", str(path), threads), once("torch", name, threads)) for _ in range(rounds)]
    ratio = statistics.median(float32 / integer for integer, float32 in pairs)
    integer, float32 = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [name, threads, f"{integer:.2f} ms", f"{float32:.2f} ms", f"{ratio:.2f} x"]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("networks", nargs="*", default=TRIALS)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            for threads in (1, 2):
                rows.append(measure(name, threads, arguments.rounds, Path(folder)))
                print(*rows[-1], flush=True)
    columns = ("network", "threads", "Unfloat int8", "PyTorch float32", "ratio")
    notes = ["Batch 1, float in and float out on both sides. The ratio is the median of the rounds' ratios."]
    results.write("speed", "Speed against PyTorch float32", columns, rows, notes)


if __name__ == "__main__":
    main()
