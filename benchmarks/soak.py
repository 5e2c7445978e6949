"""An hour of random use: Python threads make engines, run them and drop them; bits, memory and errors are watched.

    python -m benchmarks.soak [--minutes 60] [--threads 4]
    python -m benchmarks.soak --minutes 5 --sanitizer thread       # or address: the engine without Python

Every result is compared with the interpreter's. Resident memory is read once a second; the page has the median of each
tenth of the time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import results
from benchmarks.bits import replay
from benchmarks.networks import NETWORKS

import unfloat
from unfloat.program.interpret import interpret
from unfloat.runtime.engine import levels

TRIALS: dict[str, tuple[str, dict[str, Any]]] = {  # networks, and wishes
    "ds_cnn": ("ds_cnn", {}),
    "resnet8": ("resnet8", {}),
    "resnet8, int16x8": ("resnet8", {"scheme": "int16x8"}),
    "mobilenet_v1_vww": ("mobilenet_v1_vww", {}),
    "mobilenet_v1_vww, 4-bit weights": ("mobilenet_v1_vww", {"weight_bits": 4}),
    "mobilenet_v2": ("mobilenet_v2", {}),
}
BATCHES = (1, 2, 4)
ENGINE_THREADS = (1, 2, 3)
SANITIZERS = {"thread": "thread", "address": "address,undefined"}


def quantized(trial: str) -> unfloat.Program:
    """A network with random weights."""
    name, wishes = TRIALS[trial]
    network = NETWORKS[name]
    x = torch.randn(4, *network.input_shape, generator=torch.Generator().manual_seed(0))
    return unfloat.quantize(network.random(seed=1), [x], unfloat.Recipe(bias_correction=False, **wishes))


class Trial:
    """A Program with inputs and the codes they must give."""

    def __init__(self, name: str) -> None:
        """Quantize, and ask the interpreter."""
        self.program = quantized(name)
        (self.codes,) = replay.random_codes(self.program, max(BATCHES))
        self.truth = np.asarray(interpret(self.program, [self.codes])[0])


class Soak:
    """What the threads share."""

    def __init__(self, end: float) -> None:
        """Nothing has happened yet."""
        self.trials = [Trial(name) for name in TRIALS]
        self.end, self.lock = end, threading.Lock()
        self.engines = self.runs = self.wrong = 0
        self.errors: list[str] = []

    def work(self, seed: int) -> None:
        """Make, run and drop engines until the time is over."""
        rng = random.Random(seed)
        try:
            while time.monotonic() < self.end and not self.errors:
                self.once(rng)
        except Exception as error:
            self.errors.append(repr(error))

    def once(self, rng: random.Random) -> None:
        """One engine's life."""
        trial = rng.choice(self.trials)
        engine = trial.program.compile(rng.choice(ENGINE_THREADS), rng.choice(levels()))
        runs = wrong = 0
        for _ in range(rng.randint(0, 20)):
            batch = rng.choice(BATCHES)
            found = np.asarray(engine.run(trial.codes[:batch]))
            wrong += int((found != trial.truth[:batch]).sum())
            runs += 1
        with self.lock:
            self.engines, self.runs, self.wrong = self.engines + 1, self.runs + runs, self.wrong + wrong


def resident() -> float:
    """Of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def run_sanitized(minutes: float, threads: int, sanitizer: str) -> None:
    """The same use of the engine by a program with a sanitizer, and its page."""
    folder = Path(__file__).parents[1] / "build" / "bits"
    program = replay.build(folder / sanitizer, program="soak", sanitizer=SANITIZERS[sanitizer])
    recordings = []
    for name in TRIALS:
        recordings.append(folder / f"soak_{name.replace(', ', '_').replace(' ', '_')}.replay")
        replay.write(quantized(name), BATCHES, recordings[-1])
    command = [program, str(round(60 * minutes)), str(threads), *recordings]
    ended = subprocess.run(command, capture_output=True, text=True)
    said = ended.stdout.strip() or "nothing"
    row = [sanitizer, minutes, threads, said, ended.returncode, len(ended.stderr.splitlines())]
    columns = ("sanitizer", "minutes", "threads", "found", "exit code", "lines of complaint")
    title = f"Random use by several threads under the {sanitizer} sanitizer"
    results.write(f"soak_{sanitizer}", title, columns, [row], ["; ".join(TRIALS), *ended.stderr.splitlines()[:40]])


def main() -> None:
    """Run, watch, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--sanitizer", choices=SANITIZERS)
    arguments = parser.parse_args()
    if arguments.sanitizer:
        run_sanitized(arguments.minutes, arguments.threads, arguments.sanitizer)
        return
    soak = Soak(0)
    soak.end = time.monotonic() + 60 * arguments.minutes
    workers = [threading.Thread(target=soak.work, args=(seed,)) for seed in range(arguments.threads)]
    for worker in workers:
        worker.start()
    memory = []
    while time.monotonic() < soak.end and not soak.errors:
        memory.append(resident())
        time.sleep(1)
    for worker in workers:
        worker.join()
    tenth = max(len(memory) // 10, 1)
    parts = [memory[i : i + tenth] for i in range(0, tenth * 10, tenth)]
    medians = ", ".join(f"{statistics.median(part):.0f}" for part in parts if part)
    row = [
        arguments.minutes,
        soak.engines,
        soak.runs,
        soak.wrong,
        len(soak.errors),
    ]
    columns = ("minutes", "engines", "runs", "mismatches", "errors")
    memory_note = f"Resident memory in MB, tenth by tenth: {medians}."
    networks = f"{'; '.join(TRIALS)}. Levels {', '.join(levels())}; engine threads {ENGINE_THREADS}; batches {BATCHES}."
    results.write("soak", "Random use by several threads", columns, [row], [networks, memory_note, *soak.errors])


if __name__ == "__main__":
    main()
