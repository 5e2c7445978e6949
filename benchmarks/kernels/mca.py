"""Arm on paper: what llvm-mca makes of the inner loops of the matrix product, on cores that are not here.

    python -m benchmarks.kernels.mca

Compiles the matrix products for each level, takes the loops of dot products out of the machine code, and has llvm-mca
simulate them: cycles for each multiply-accumulate, beside the same core's peak, which is its dot product instruction on
registers alone. The same is done for x86, whose truth can be measured here: the engine on a deep pointwise convolution
against the machine's measured peak. Needs llvm-mca and a cross compiler (Debian: llvm-19 gcc-aarch64-linux-gnu).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks import results
from benchmarks.kernels import _build

import unfloat
from unfloat.runtime.engine import levels, peak

ITERATIONS = 1000
COMMENT = re.compile(r"//|\s#\s")
BRANCH = re.compile(r"b|b\.\w+|cbn?z|tbn?z|j\w+")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+((?:\{vex\} )?\S+)\s*(.*)$")


@dataclass(frozen=True)
class Level:
    """How a level multiplies.

    Attributes:
        name: The level's.
        dots: Its multiplying instructions, and what each of them multiplies.
        registers: A dot product on registers, `{}` the accumulator's number.
        cores: On which llvm-mca simulates it, by its own names.
    """

    name: str
    dots: dict[str, int]
    registers: str
    cores: tuple[str, ...]


ARM = (
    Level(
        "neon",
        {"smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8},
        "smlal v{}.8h, v30.8b, v31.8b",
        ("cortex-a55", "cortex-a76"),
    ),
    Level("dotprod", {"sdot": 16}, "sdot v{}.4s, v30.16b, v31.16b", ("cortex-a55", "cortex-a76", "neoverse-v1")),
    Level("i8mm", {"usdot": 16, "sudot": 16}, "usdot v{}.4s, v30.16b, v31.16b", ("neoverse-v1",)),
)
X86 = (
    Level("avxvnni", {"vpdpbusd": 32}, "{{vex}} vpdpbusd %ymm14, %ymm15, %ymm{}", ("alderlake",)),
    Level("avx512vnni", {"vpdpbusd": 64}, "vpdpbusd %zmm30, %zmm31, %zmm{}", ("znver4",)),
)
SPARE = {"neon": 24, "dotprod": 24, "i8mm": 24, "avxvnni": 12, "avx512vnni": 24}  # accumulators in a peak's row


@dataclass(frozen=True)
class Tool:
    """A compiler and what belongs to it."""

    compiler: Sequence[str]
    objdump: str
    triple: str


def tool(arm: bool, folder: Path) -> Tool:
    """For Arm64, or for this machine."""
    if arm:
        include = [f"-I{path}" for path in (_build.ROOT / "csrc", _build.ROOT / "csrc" / "include")]
        line = ["aarch64-linux-gnu-gcc", "-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC", "-DUF_AARCH64=1", *include]
        return Tool(line, "aarch64-linux-gnu-objdump", "aarch64")
    return Tool(_build.compiler(folder), "objdump", "x86_64")


def loops(level: Level, tools: Tool, folder: Path) -> Iterator[list[str]]:
    """The innermost loops of dot products in the level's matrix product."""
    source, target = _build.KERNELS / "gemm" / f"{level.name}.c", folder / f"{level.name}.o"
    flags = _build.level_flags(level.name) if level.name != "neon" else []
    subprocess.run([*tools.compiler, *flags, "-c", str(source), "-o", str(target)], check=True)
    listing = [tools.objdump, "-d", "--no-show-raw-insn", str(target)]
    text = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    for function in text.split("\n\n"):
        code = [(int(m[1], 16), m[2], m[3]) for m in map(LINE.match, function.splitlines()) if m]
        yield from _innermost(code, level)


def _innermost(code: list[tuple[int, str, str]], level: Level) -> Iterator[list[str]]:
    spans = []
    for address, mnemonic, operands in code:
        if not BRANCH.fullmatch(mnemonic) or not (place := re.search(r"([0-9a-f]+) <", operands)):
            continue
        target = int(place[1], 16)
        if target < address:
            spans.append((target, address))
    for begin, end in spans:
        if any(begin <= b and e < end for b, e in spans):
            continue
        body = [(m, o) for at, m, o in code if begin <= at < end]
        if body and sum(m.split()[-1] in level.dots for m, _ in body) >= 0.3 * len(body):
            yield [f"{m} {COMMENT.split(o)[0].strip()}" for m, o in body if not BRANCH.fullmatch(m)]


def cycles(code: Sequence[str], triple: str, core: str) -> float:
    """Of one iteration, by llvm-mca."""
    program = next(filter(None, map(shutil.which, ("llvm-mca-19", "llvm-mca"))))
    line = [program, f"-mtriple={triple}", f"-mcpu={core}", f"-iterations={ITERATIONS}", "-json"]
    found = subprocess.run(line, input="\n".join(code), capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"llvm-mca refuses for {core}: {found.stderr.strip()}")
    regions = json.loads(found.stdout)["CodeRegions"]
    return float(regions[0]["SummaryView"]["TotalCycles"]) / ITERATIONS


def macs(code: Sequence[str], level: Level) -> int:
    """Multiply-accumulates of an iteration."""
    return sum(level.dots.get(line.removeprefix("{vex} ").split()[0], 0) for line in code)


def predicted(level: Level, core: str, tools: Tool, folder: Path) -> tuple[float, float]:
    """Multiply-accumulates a cycle: of the best loop, and of the instruction on registers alone."""
    best = max(macs(code, level) / cycles(code, tools.triple, core) for code in loops(level, tools, folder))
    row = [level.registers.format(i) for i in range(SPARE[level.name])]
    each = next(iter(level.dots.values()))
    return best, each * len(row) / cycles(row, tools.triple, core)


def measured(level: str) -> float:
    """The engine's share of this machine's measured peak on a deep pointwise convolution."""
    model = torch.nn.Sequential(torch.nn.Conv2d(512, 512, 1), torch.nn.ReLU6()).eval()
    x = torch.randn(1, 512, 28, 28)
    engine = unfloat.quantize(model, [x], unfloat.Recipe(bias_correction=False)).compile(level=level)
    layer = max(engine.profile(x.numpy(), runs=100), key=lambda found: found.macs)
    return layer.macs / (layer.microseconds * 1e-6) / peak(level=level, seconds=0.2)


def main() -> None:
    """Simulate, measure what can be measured, and write the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arm, group in ((True, ARM), (False, X86)):
            tools = tool(arm, folder)
            for level in group:
                truth = f"{measured(level.name):.0%}" if level.name in levels() else "no such core here"
                for core in level.cores:
                    loop, most = predicted(level, core, tools, folder)
                    rows.append(
                        [level.name, core, f"{1 / loop:.4f}", f"{loop:.1f}", f"{most:.1f}", f"{loop / most:.0%}", truth]
                    )
                    print(*rows[-1], flush=True)
    columns = ("level", "core", "cycles a MAC", "MAC a cycle", "peak, MAC a cycle", "share of peak", "measured share")
    notes = [
        "The inner loop alone: no requantization, all operands in the first cache. Measured: the engine on a 512 to 512 "
        "channel pointwise convolution of 28 x 28 pixels, requantization and memory included, on this machine's core, "
        "which is not the one simulated.",
        "",
        "Before, on a core with AVX-512 VNNI (commit 04fa2ce, 2026-11-24): 89% measured at avxvnni, 93% at avx512vnni.",
    ]
    results.write("arm_on_paper", "Inner loops simulated by llvm-mca", columns, rows, notes)


if __name__ == "__main__":
    main()
