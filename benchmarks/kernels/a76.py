"""Cycles that a network would take on a Cortex-A76, predicted: llvm-mca's of each kernel's loop, times its iterations.

Integer: the dot product's loop for convolutions and fully connected layers, and those of `on_a76.c`: pairs of taps of
depthwise convolutions, and what makes bytes of accumulators. Everything is in the first cache and nothing else costs
anything: no pointers, no padding, no additions, no pools. Float32: the core's peak, two multiply-adds of four numbers a
cycle, and nothing else at all, which no float network reaches.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from benchmarks.kernels import _build
from benchmarks.kernels.mca import ARM, COMMENT, LINE, cycles, predicted, tool

from unfloat import Program
from unfloat.ops import REGISTRY
from unfloat.program.verify import layer_macs

CORE = "cortex-a76"
CHANNELS = 16  # of an iteration of the loops of on_a76.c
FLOAT_MACS = 8.0  # a cycle, at most


@cache
def loop_cycles() -> Mapping[str, float]:
    """Cycles: "mac" of the matrix product; of 16 channels, "rescale" of their sums, and "depthwise" of a pair of taps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools = tool(True, folder)
        dotprod = next(level for level in ARM if level.name == "dotprod")
        target = folder / "on_a76.o"
        source = Path(__file__).with_name("on_a76.c")
        line = [*tools.compiler, f"-I{_build.KERNELS}", "-c", str(source), "-o", str(target)]
        subprocess.run(line, check=True)
        listing = [tools.objdump, "-d", "--no-show-raw-insn", str(target)]
        text = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        found = {"mac": 1 / predicted(dotprod, CORE, tools, folder)[0]}
        for function in text.split("\n\n"):
            head = re.match(r"[0-9a-f]+ <(rescale|depthwise)>:", function.strip())
            if head:
                found[head[1]] = cycles(_loop(function), tools.triple, CORE)
        return found


def _loop(function: str) -> list[str]:
    """The one loop of a function."""
    code = [(int(m[1], 16), m[2], m[3]) for m in map(LINE.match, function.splitlines()) if m]
    spans = []
    for address, mnemonic, operands in code:
        place = re.match(r"([0-9a-f]+) <", operands)
        if mnemonic.startswith("b.") and place and int(place[1], 16) < address:
            spans.append((int(place[1], 16), address))
    ((begin, end),) = spans
    return [f"{m} {COMMENT.split(o)[0].strip()}" for at, m, o in code if begin <= at < end]


def predicted_cycles(program: Program) -> float:
    """Of an integer network, a sample."""
    each, macs, total = loop_cycles(), layer_macs(program), 0.0
    for instruction in program.instructions:
        if REGISTRY[instruction.op].accumulate is None:
            continue
        outputs = 1
        for size in program.tensors[instruction.name].shape[1:]:
            outputs *= size
        total += outputs / CHANNELS * each["rescale"]
        if instruction.constants["weight"].ndim == 3:  # depthwise
            taps = macs[instruction.name] // outputs
            total += outputs / CHANNELS * ((taps + 1) // 2) * each["depthwise"]
        else:
            total += macs[instruction.name] * each["mac"]
    return total


def least_float_cycles(program: Program) -> float:
    """Of the same network in float32: a bound from below."""
    return sum(layer_macs(program).values()) / FLOAT_MACS
