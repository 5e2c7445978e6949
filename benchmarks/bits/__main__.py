"""Whole networks against the interpreter: every level that runs here or in an emulator, several threads and batches.

    python -m benchmarks.bits [--x86] [--arm max] [--arm cortex-a53] [NETWORK ...]

With --x86 all levels of x86 run, what this CPU lacks lane by lane (tests/native/emulated). Levels of 64-bit Arm run in
QEMU's user mode (`apt install g++-aarch64-linux-gnu qemu-user-static`). Either takes a minute or more for each network.
The page shows what has run so far; --fresh begins it anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import results, speed
from benchmarks.bits import replay
from benchmarks.peers import files
from tqdm import tqdm

import unfloat

THREADS, BATCHES = (1, 2, 3, 5), (1, 4)
FOLDER = Path(__file__).parents[2] / "build" / "bits"
FOUND = FOLDER / "found.json"
HERE, EMULATED = "this CPU", "x86, emulated"


def record(network: str) -> Path:
    """The network with inputs and answers, as a file."""
    file = FOLDER / f"{network}.replay"
    replay.write(unfloat.load(files.program(network)), BATCHES, file)
    return file


def count(program: Path, file: Path, cpu: str) -> dict[str, tuple[int, int]]:
    """For each level of a CPU: how many codes were compared, and how many differ."""
    emulator = [] if cpu in (HERE, EMULATED) else ["qemu-aarch64-static", "-cpu", cpu]
    command = [*emulator, str(program), str(file), *map(str, THREADS)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = (line.split() for line in output.splitlines())
    return {level: (int(codes), int(wrong)) for level, codes, wrong in rows}


def write_page(found: dict[str, dict[str, dict[str, tuple[int, int]]]]) -> None:
    """One row for each network and CPU."""
    rows = []
    for network, by_cpu in sorted(found.items()):
        for cpu, levels in by_cpu.items():
            codes, wrong = (sum(pair[i] for pair in levels.values()) for i in (0, 1))
            rows.append([network, cpu, ", ".join(levels), f"{codes:,}", wrong])
    notes = [
        f"Random int8 inputs; threads {', '.join(map(str, THREADS))}; batches {' and '.join(map(str, BATCHES))}; "
        "the codes at the outputs of each level against those of the interpreter. Arm CPUs are QEMU's (user mode); "
        "AVX-512, AVX-VNNI and AMX are emulated lane by lane, from the same sources but for instructions as assembly."
    ]
    results.write("bits", "Bits of whole networks", ("network", "CPU", "levels", "codes", "mismatches"), rows, notes)


def main() -> None:
    """Run, add to what was found before, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=(*speed.MOBILE, *speed.TINY))
    parser.add_argument("--x86", action="store_true")
    parser.add_argument("--arm", action="append", default=[], metavar="CPU")
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = json.loads(FOUND.read_text()) if FOUND.exists() and not arguments.fresh else {}
    programs = {HERE: replay.build(FOLDER / "here")}
    if arguments.x86:
        programs[EMULATED] = replay.build(FOLDER / "x86", emulated=True)
    if arguments.arm:
        programs |= dict.fromkeys(arguments.arm, replay.build(FOLDER / "arm", arm=True))
    for network in tqdm(arguments.networks, disable=not sys.stderr.isatty()):
        file = record(network)
        for cpu, program in programs.items():
            found.setdefault(network, {})[cpu] = count(program, file, cpu)
            FOUND.write_text(json.dumps(found, indent=1))
    write_page(found)


if __name__ == "__main__":
    main()
