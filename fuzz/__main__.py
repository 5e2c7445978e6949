"""Fuzz both readers and the engine's native entry for a given time; print what was done.

    python -m fuzz --seconds 120 [--jobs 3] [--page]       # or: make fuzz FUZZ_SECONDS=120

Each has a third of the time; one runs after the other, or --jobs of them side by side.

Needs the extra `fuzz` (atheris) and clang with its sanitizers. What is found is kept under build/fuzz, so that the next
run goes on from there; a file that breaks something lies there too, beside the fuzzer's log. `--page` writes
docs/results/fuzz.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import results
from fuzz import corpus

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "fuzz"
TARGETS = ("unfloat", "tflite", "engine")
LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1", "-verbosity=1")
CONFIGURE = (
    *("-DUNFLOAT_PYTHON=OFF", "-DUNFLOAT_FUZZ=ON", "-DUNFLOAT_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=None"),
    *("-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"),
)


@dataclass(frozen=True)
class Outcome:
    """What one fuzzer said at its end.

    Attributes:
        executions: Files, or native Programs, that were tried.
        edges: Branches reached: of the package's Python for the readers, of the native code for the engine.
        files: How many files the corpus has come to, each for something that no other reaches.
        memory: The most, in MB.
        code: Of the process: 0 where nothing was found.
    """

    executions: int
    edges: int
    files: int
    memory: int
    code: int


def build_native() -> Path:
    """The engine with clang's sanitizers and its entry; the fuzzer's path."""
    folder = WORK / "native"
    _run("cmake", "-S", str(ROOT), "-B", str(folder), *CONFIGURE)
    _run("cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", "fuzz_engine")
    return folder / "fuzz_engine"


def fuzz(target: str, command: Sequence[str], seconds: int) -> Outcome:
    """Run one fuzzer on its corpus."""
    found, log = WORK / "corpus" / target, WORK / f"{target}.log"
    found.mkdir(parents=True, exist_ok=True)
    where = [str(found), str(WORK / "seeds" / target), f"-artifact_prefix={WORK}/{target}_"]
    with log.open("w") as out:
        ended = subprocess.run(
            [*command, *where, f"-max_total_time={seconds}", *LIMITS], cwd=ROOT, stdout=out, stderr=out, check=False
        )
    said = log.read_text(errors="replace")
    if ended.returncode:
        print(f"{target}: something was found; the end of {log}:\n{said[-4000:]}")
    return Outcome(
        _last(r"stat::number_of_executed_units: (\d+)", said),
        _last(r"cov: (\d+)", said),
        _last(r"corp: (\d+)/", said),
        _last(r"stat::peak_rss_mb:\s+(\d+)", said),
        ended.returncode,
    )


def _last(pattern: str, text: str) -> int:
    return int((re.findall(pattern, text) or ["0"])[-1])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Build, fuzz, print; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="of all three together, without building")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument("--page", action="store_true", help="write docs/results/fuzz.md")
    arguments = parser.parse_args()
    each = max(arguments.seconds // len(TARGETS), 1)
    corpus.write(WORK / "seeds")
    commands = {kind: [sys.executable, "-m", "fuzz.readers", kind] for kind in corpus.WRITERS}
    commands["engine"] = [str(build_native())]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = pool.map(lambda target: fuzz(target, commands[target], each), TARGETS)
        outcomes = dict(zip(TARGETS, found, strict=True))
    columns = ("entry", "seconds", "executions", "edges reached", "files kept", "most memory, MB", "exit code")
    rows = [[target, each, o.executions, o.edges, o.files, o.memory, o.code] for target, o in outcomes.items()]
    if arguments.page:
        results.write("fuzz", "Readers and engine under fuzzers", columns, rows, [NOTE])
    else:
        print("\n".join(results.table(columns, rows)))
    return int(any(outcome.code for outcome in outcomes.values()))


NOTE = """`unfloat` and `tflite`: a file is read, verified and, where it is small, run: the interpreter and the engine at every
level of this CPU must agree. Edges are those of the package's Python, by atheris. `engine`: tensors, instructions,
attributes and constants straight into the native entry, at every level, under the address and undefined-behaviour
sanitizers. The exit code is 0 where nothing was found. Each begins from the files of all operators' conformance cases
and goes on from what earlier runs on the same machine have kept."""


if __name__ == "__main__":
    sys.exit(main())
