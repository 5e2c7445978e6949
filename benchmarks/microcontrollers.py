"""Exported C on bare Cortex-M: flash, RAM, and instructions a run, counted by QEMU; plain C beside DSP and Helium.

    python benchmarks/microcontrollers.py ../shared/data/tflite/{pretrainedResnet_quant,vww_96_int8}.tflite

prints a table. It needs arm-none-eabi-gcc and qemu-system-arm. Instructions are no cycles: they say what the compiler
made of the kernels, not how long a core waits for its memory.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.formats.c_targets import CORTEX_M7, CORTEX_M55, Target, build, run

import unfloat
from unfloat.formats.c.report import code_bytes

COUNTER = Path(__file__).parents[1] / "tests/formats/count_instructions.c"
COLUMNS = ("network", "MAC", "file", "weights + code", "arena", "M7 plain C", "M7 DSP", "M55 plain C", "M55 Helium")


def instructions(folder: Path, target: Target, *flags: str) -> int:
    """Of one run of the network `net`, the check of its outputs included."""
    sources = [folder / f"net{part}.c" for part in ("", "_weights", "_golden")]
    chosen = replace(target, flags=(*target.flags, *flags))
    build(folder, chosen, folder / "count", sources=[*sources, COUNTER])
    outcome = run(folder / "count", chosen, ("-icount", "shift=0"))
    if outcome.status != 0:
        raise RuntimeError(f"{target.name}: its codes are not the interpreter's: {outcome.text}")
    return int(outcome.text)


def row(path: Path) -> list[str]:
    """One network's figures."""
    program = unfloat.load(path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program.export(folder, to="c", name="net")
        header = dict(re.findall(r"^#define (NET_\w+) (\d+)$", (folder / "net.h").read_text(), re.MULTILINE))
        flash = int(header["NET_WEIGHT_BYTES"]) + (code_bytes("net", folder) or 0)
        counts = [
            instructions(folder, target, *flags)
            for target in (CORTEX_M7, CORTEX_M55)
            for flags in (("-DUF_PLAIN_C",), ())
        ]
    sizes = [int(header["NET_MACS"]), path.stat().st_size, flash, int(header["NET_ARENA_BYTES"])]
    return [path.stem, *(f"{n:,}" for n in sizes), *(f"{n / 1e6:.1f} M" for n in counts)]


def main() -> None:
    """Print the table."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" + "|---:" * (len(COLUMNS) - 1) + "|")
    for path in sys.argv[1:]:
        print("| " + " | ".join(row(Path(path))) + " |", flush=True)


if __name__ == "__main__":
    main()
