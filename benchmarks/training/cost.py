"""What a training step costs: a student's against the float model's, time and peak memory.

    python -m benchmarks.training.cost [--rounds 10] [--threads 2]

Two processes, one step each in turn; the ratio is the median of the rounds' ratios. The float model is taken both as it
is (NCHW) and in channels-last memory format, which PyTorch's convolutions prefer on CPUs.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as functional
from benchmarks import results
from benchmarks.networks import NETWORKS
from torch import nn

import unfloat

TRIALS = (("mobilenet_v2", 16, 128), ("resnet50", 8, 96), ("resnet8", 128, 32))
KINDS = ("float", "channels_last", "student")


def stepper(name: str, batch: int, side: int, kind: str, norm: str, ranges: str) -> Callable[[], None]:
    """One training step as a function."""
    torch.manual_seed(0)
    model: nn.Module = copy.deepcopy(NETWORKS[name].build()).train()
    x = torch.randn(batch, 3, side, side)
    if kind == "channels_last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if kind == "student":
        recipe = unfloat.Recipe(training=unfloat.Training(norm=norm, ranges=ranges))
        model = unfloat.prepare(model, x, recipe).train()
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def serve(arguments: list[str]) -> None:
    """A worker: a step for every line it reads; seconds and peak memory in MiB for each."""
    name, batch, side, kind, norm, ranges, threads = arguments
    torch.set_num_threads(int(threads))
    step = stepper(name, int(batch), int(side), kind, norm, ranges)
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        step()
        seconds = time.perf_counter() - begin
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def measure(trial: tuple[str, int, int], rounds: int, norm: str, ranges: str, threads: int) -> list[object]:
    """One network: its row."""
    workers = []
    for kind in KINDS:
        command = [sys.executable, "-m", "benchmarks.training.cost", "--serve", *map(str, trial), kind, norm, ranges]
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen([*command, str(threads)], stdin=pipe, stdout=pipe, text=True))
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for kind, worker in zip(KINDS, workers, strict=True):
            assert worker.stdin is not None and worker.stdout is not None
            print(file=worker.stdin, flush=True)
            took, peak = map(float, worker.stdout.readline().split())
            seconds[kind].append(took)
            memory[kind] = peak
    for worker in workers:
        worker.communicate()

    def ratio(kind: str) -> str:
        pairs = zip(seconds["student"], seconds[kind], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    times = [f"{statistics.median(seconds[kind]) * 1e3:.0f}" for kind in KINDS]
    memories = [f"{memory['student'] / memory[kind]:.2f}" for kind in KINDS[:2]]
    name, batch, side = trial
    return [f"{name}, {batch} x {side} px", *times, ratio("float"), ratio("channels_last"), *memories]


def main() -> None:
    """Measure and write the page."""
    if "--serve" in sys.argv:
        serve(sys.argv[sys.argv.index("--serve") + 1 :])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--norm", default="correct")
    parser.add_argument("--ranges", default="moving_average")
    a = parser.parse_args()
    rows = [measure(trial, a.rounds, a.norm, a.ranges, a.threads) for trial in TRIALS]
    columns = (
        "network", "float, ms", "float channels last, ms", "student, ms", "student / float",
        "student / channels last", "memory / float", "memory / channels last",
    )  # fmt: skip
    notes = [f"{a.threads} threads, {a.rounds} rounds. Memory is the peak resident size of the whole process."]
    results.write("training_cost", "The cost of a training step", columns, rows, notes)


if __name__ == "__main__":
    main()
