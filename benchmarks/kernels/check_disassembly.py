"""Looks at the machine code of the hot loops: between dot products, no vector may be copied or spilled.

gcc 12 does either, at twice to three times the cost, when kernels are written in another way than theirs
(csrc/kernels/tile_avx512vnni.h). Compiles the kernels with the machine's compiler, or takes object files.

python -m benchmarks.kernels.check_disassembly [object files]
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.kernels import _build

LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
FUNCTION = re.compile(r"^[0-9a-f]+ <((?:run_tiles?|multiply)_\w+)>:$")
DOTS = ("vpdpbusd", "vpdpwssd")
COPY = re.compile(r"^%zmm\d+,%zmm\d+$")
STACK = re.compile(r"\(%r[sb]p\)")


def functions(path: Path) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """The kernels of an object file: (name, [(address, mnemonic, operands)])."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for block in listing.split("\n\n"):
        lines = block.strip().split("\n")
        if name := FUNCTION.match(lines[0]):
            yield name[1], [(int(m[1], 16), m[2], m[3]) for m in map(LINE.match, lines) if m]


def hot_loops(code: list[tuple[int, str, str]]) -> Iterator[list[tuple[int, str, str]]]:
    """Bodies of the innermost loops of dot products: from the target of a backward jump to the jump.

    Where less than two vector instructions in five are dot products, a loop does other work that may need copies.
    """
    spans = []
    for address, mnemonic, operands in code:
        target = int(operands.split()[0], 16) if mnemonic.startswith("j") and operands[:1].isalnum() else address
        if target < address:
            spans.append((target, address))
    for begin, end in spans:
        if any(begin <= b and e < end for b, e in spans):
            continue  # not an innermost one
        body = [line for line in code if begin <= line[0] <= end]
        vectors = [mnemonic for _, mnemonic, operands in body if "%zmm" in operands]
        if vectors and sum(mnemonic in DOTS for mnemonic in vectors) >= 0.4 * len(vectors):
            yield body


def faults(body: list[tuple[int, str, str]]) -> list[str]:
    """Copies between registers, and vectors on the stack."""
    moves = [operands for _, mnemonic, operands in body if mnemonic.startswith("vmov") and "%zmm" in operands]
    copies = [f"copy {operands}" for operands in moves if COPY.match(operands)]
    return copies + [f"spill {operands}" for operands in moves if STACK.search(operands)]


def main() -> int:
    """Check, and print what was found."""
    count = failures = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(path) for path in sys.argv[1:]] or _build.objects(Path(folder))
        for path in paths:
            for name, code in functions(path):
                for body in hot_loops(code):
                    count += 1
                    for fault in faults(body):
                        failures += 1
                        print(f"{path.name}: {name}: {fault}")
    print(f"{count} hot loops, {failures} faults")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())
