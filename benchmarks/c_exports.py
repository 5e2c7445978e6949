"""Whole networks as C on six targets against the interpreter: the machine itself, 64-bit Arm, and four bare Cortex-M.

    python -m benchmarks.c_exports [NETWORK ...]

Each network runs on random inputs and on extremes; every output code is compared. It needs gcc, the cross compilers
and QEMU of the tests marked `cross`, and the public files that UNFLOAT_DATA names. DS-CNN is none of those: it has
random weights. The page, docs/results/c_exports.md, shows what has run so far.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.networks import NETWORKS
from tests.formats.c_targets import CORTEX_M3, CORTEX_M4, CORTEX_M7, CORTEX_M55, HERE, TARGETS, Target, build, run
from tqdm import tqdm

import unfloat
from unfloat.api import compile_program
from unfloat.formats.c.golden import draw, golden
from unfloat.formats.c.layer import Prepared
from unfloat.formats.c.net import Net, make_net
from unfloat.program.program import Program
from unfloat.spec.qparams import STORAGE

FOUND = Path(__file__).parents[1] / "build" / "c_exports"
RANDOM = 3
SECONDS = 3600  # an emulated Cortex-M3 takes minutes for MobileNetV2
# Where the boards have 16 MiB for weights and golden codes, which their flash may be too small for.
CONSTANTS = {
    CORTEX_M3.name: 0x21000000,
    CORTEX_M4.name: 0x21000000,
    CORTEX_M7.name: 0x60000000,
    CORTEX_M55.name: 0x70000000,
}


def ds_cnn() -> Program:
    """Keyword spotting, with random weights."""
    network = NETWORKS["ds_cnn"]
    samples = torch.randn(8, *network.input_shape, generator=torch.Generator().manual_seed(0))
    return unfloat.quantize(network.random(seed=1), [samples], progress=False)


def public(name: str) -> Callable[[], Program]:
    """What reads one of the public files."""
    return lambda: unfloat.load(data.folder() / f"tflite/{name}.tflite")


TRIALS: dict[str, Callable[[], Program]] = {
    "ResNet-8": public("pretrainedResnet_quant"),
    "VWW": public("vww_96_int8"),
    "DS-CNN": ds_cnn,
    "MobileNetV1-0.25": public("mbnet128_0.25_q"),
    "MobileNetV1-0.25, uint8": public("mobilenet_v1_0.25_128_quant"),
    "MobileNetV2": public("tf2_mobilenet_v2_1.0_224_ptq"),
}


def inputs_of(net: Net) -> list[np.ndarray]:
    """Random codes, then all codes the least, the greatest, the zero point, and least and greatest in turns."""
    found = []
    for codes, port in zip(draw(net, RANDOM), net.program.inputs, strict=True):
        label = net.program.tensors[port.value].qparams
        ends = np.array([label.qmin, label.qmax], STORAGE[label.dtype])
        turns = np.resize(ends, codes[0].size).reshape(codes[0].shape)
        flat = [np.full_like(codes[0], code) for code in (label.qmin, label.qmax, label.zero_point)]
        found.append(np.concatenate([codes, np.stack([*flat, turns])]))
    return found


def export(program: Program, folder: Path) -> tuple[Net, int]:
    """Write a network with these inputs as its golden ones; how many output codes they give."""
    program.export(folder, to="c", name="net")
    net = make_net(program, "net", [Prepared(*layer) for layer in compile_program(program, level="scalar").layers()])
    inputs = inputs_of(net)
    (folder / "net_golden.c").write_text(golden(net, inputs))
    return net, sum(len(inputs[0]) * int(np.prod(port.shape[1:])) for port in program.outputs)


def roomy(target: Target) -> Target:
    """The target with its constants in the board's large memory."""
    if not target.bare:
        return target
    script = f"-Wl,-T,{HERE / 'cortex_m.ld'}"
    if script not in target.support:
        raise RuntimeError(f"{target.name} is not linked by {script}")
    large = (f"-Wl,-T,{Path(__file__).with_name('large.ld')}", f"-Wl,--defsym=CONSTANTS={CONSTANTS[target.name]:#x}")
    places = (*large, f"-Wl,--defsym=CONSTANTS_SIZE={16 << 20:#x}")
    support = [flag for flag in target.support if flag != script]
    return replace(target, support=(*support, *places))


def mismatches(folder: Path, target: Target) -> int:
    """How many codes differ on a target."""
    program = folder / f"golden-{target.name}"
    build(folder, roomy(target), program)
    outcome = run(program, target, seconds=SECONDS)
    found = re.search(r"^net: (?:PASS|FAIL) \((-?\d+)\)$", outcome.text, re.MULTILINE)
    if found is None or int(found[1]) < 0:
        raise RuntimeError(f"{target.name}: {outcome.text or 'nothing printed'} (exit code {outcome.status})")
    return int(found[1])


def measure(name: str) -> list[Any]:
    """One network's cells, kept for the page."""
    with tempfile.TemporaryDirectory() as scratch:
        net, codes = export(TRIALS[name](), Path(scratch))
        counts = [mismatches(Path(scratch), target) for target in tqdm(TARGETS, name, leave=False)]
    cells = [name, f"{net.constant_bytes:,}", f"{net.memory.size:,}", RANDOM + 4, f"{codes:,}", *counts]
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / f"{name}.json").write_text(json.dumps(cells))
    return cells


def write_page() -> None:
    """One row for each network that has run."""
    kept = [FOUND / f"{name}.json" for name in TRIALS]
    rows = [json.loads(path.read_text()) for path in kept if path.exists()]
    columns = ("network", "constants", "arena", "inputs", "codes", *(target.name for target in TARGETS))
    notes = [
        f"Bytes of constants and arena; {RANDOM} random inputs and 4 extremes; output codes on each target, and how "
        "many of them are not the interpreter's. Compiled with `-O2`, warnings being errors. arm64 is QEMU's user mode, "
        "the Cortex-M are its boards mps2-an385, mps2-an386, mps2-an500 and mps3-an547 with semihosting; none has a "
        "floating-point unit. Constants lie in the boards' external memory, whatever their size.",
    ]
    results.write("c_exports", "Networks as C on six targets", columns, rows, notes)


def main() -> int:
    """Run, add to what was found before, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(TRIALS), default=list(TRIALS))
    wrong = 0
    for name in parser.parse_args().networks:
        wrong += sum(measure(name)[-len(TARGETS) :])
        write_page()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
