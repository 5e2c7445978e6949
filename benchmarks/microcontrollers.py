"""Exported C on bare Cortex-M: flash, RAM, and instructions a run, counted by QEMU; plain C beside DSP and Helium.

    python benchmarks/microcontrollers.py ../shared/data/tflite/{pretrainedResnet_quant,vww_96_int8}.tflite

prints a table of these networks, and one of pointwise layers. It needs arm-none-eabi-gcc and qemu-system-arm.
Instructions are no cycles: they say what the compiler made of the kernels, not how long a core waits for its memory.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from tests.formats.c_targets import CORTEX_M7, CORTEX_M55, Target, build, run

import unfloat
from unfloat.formats.c.report import code_bytes
from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Param, Port, Shape
from unfloat.program.lower import Quantization, lower
from unfloat.program.program import Program
from unfloat.spec.qparams import qparams_from_range

COUNTER = Path(__file__).parents[1] / "tests/formats/count_instructions.c"
CODES = ("M7 plain C", "M7 DSP", "M55 plain C", "M55 Helium")
COLUMNS = ("network", "MAC", "file", "weights + code", "arena", *CODES)
LAYERS = {16: (24, 24), 32: (24, 24), 64: (16, 16), 128: (8, 8), 256: (6, 6)}
"""Channels of pointwise layers, and their images."""


def instructions(folder: Path, target: Target, *flags: str) -> int:
    """Of one run of the network `net`, the check of its outputs included."""
    sources = [folder / f"net{part}.c" for part in ("", "_weights", "_golden")]
    chosen = replace(target, flags=(*target.flags, *flags))
    build(folder, chosen, folder / "count", sources=[*sources, COUNTER])
    outcome = run(folder / "count", chosen, ("-icount", "shift=0"))
    if outcome.status != 0:
        raise RuntimeError(f"{target.name}: its codes are not the interpreter's: {outcome.text}")
    return int(outcome.text)


def exported(program: Program, folder: Path) -> list[int]:
    """Export a Program; its instructions under each of `CODES`."""
    program.export(folder, to="c", name="net")
    levels = [(target, flags) for target in (CORTEX_M7, CORTEX_M55) for flags in (("-DUF_PLAIN_C",), ())]
    return [instructions(folder, target, *flags) for target, flags in levels]


def row(path: Path) -> list[str]:
    """One network's figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = exported(unfloat.load(path), folder)
        header = dict(re.findall(r"^#define (NET_\w+) (\d+)$", (folder / "net.h").read_text(), re.MULTILINE))
        flash = int(header["NET_WEIGHT_BYTES"]) + (code_bytes("net", folder) or 0)
    sizes = [int(header["NET_MACS"]), path.stat().st_size, flash, int(header["NET_ARENA_BYTES"])]
    return [path.stem, *(f"{n:,}" for n in sizes), *(f"{n / 1e6:.1f} M" for n in counts)]


def pointwise(channels: int, image: Shape, layers: int) -> Program:
    """Pointwise layers in a row, with ReLU6 and as many outputs as inputs."""
    rng = np.random.default_rng(0)
    attributes = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1}
    shape = (BATCH, *image, channels)
    values = ["x", *(f"layer{n}" for n in range(layers))]
    arrays: dict[str, np.ndarray] = {}
    nodes = []
    for before, value in pairwise(values):
        arrays[f"{value}.weight"] = rng.normal(0, channels**-0.5, (channels, 1, 1, channels))
        arrays[f"{value}.bias"] = rng.normal(0, 0.2, channels)
        params = {role: Param(f"{value}.{role}") for role in ("weight", "bias")}
        nodes.append(Node(value, "conv2d", (before,), shape, attributes, params, clamp=Clamp(0.0, 6.0)))
    ports = [(Port(value, value, shape, (0, 2, 3, 1)),) for value in (values[0], values[-1])]
    labels = {value: qparams_from_range(0 if value != "x" else -1, 3 if value != "x" else 1) for value in values}
    return lower(Graph(ports[0], tuple(nodes), ports[1]), Quantization(labels), arrays.__getitem__, {})


def layer_row(channels: int, image: Shape, more: int = 3) -> list[str]:
    """Instructions for each multiply-accumulate of a layer: what so many layers more add to a network of one."""
    macs = more * image[0] * image[1] * channels**2
    counts = []
    for layers in (1, 1 + more):
        with tempfile.TemporaryDirectory() as folder:
            counts.append(exported(pointwise(channels, image, layers), Path(folder)))
    each = [(long - short) / macs for short, long in zip(*counts, strict=True)]
    return [str(channels), str(image[0] * image[1]), *(f"{n:.2f}" for n in each)]


def table(columns: Sequence[str], texts: int, rows: Iterable[list[str]]) -> None:
    """Print a table whose first so many columns are text."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * texts + "---:|" * (len(columns) - texts))
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    if sys.argv[1:]:
        table(COLUMNS, 1, (row(Path(path)) for path in sys.argv[1:]))
        print()
    table(("channels", "pixels", *CODES), 0, (layer_row(*layer) for layer in LAYERS.items()))


if __name__ == "__main__":
    main()
