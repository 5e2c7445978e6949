"""Every layer of whole networks: the exported `.tflite` file in the public runtimes against the interpreter.

python -m benchmarks.conformance.tflite_networks [--samples N] [--scheme int8] [NETWORK ...]

Random weights; batch-norm statistics measured on noise. Each instruction's output is made an output of the file, so
that a first difference is seen where it arises.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from benchmarks import results
from benchmarks.networks import NETWORKS
from tests.peers.call import peer
from tests.peers.protocol import Arrays

import unfloat
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import Port
from unfloat.program.interpret import trace
from unfloat.program.program import Program
from unfloat.spec.qparams import quantize

TRIALS = ["ds_cnn", "resnet8", "mobilenet_v1_025", "mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "resnet18"]
COLUMNS = ("network", "scheme", "runtime", "layers", "layers that differ", "codes", "differ", "most", "file KB")


def transparent(program: Program) -> Program:
    """The same Program with every instruction's value as an output."""
    shapes = {i.name: program.tensors[i.name].shape for i in program.instructions}
    ports = tuple(Port(name, name, shape, tuple(range(len(shape)))) for name, shape in shapes.items())
    return replace(program, outputs=ports, structure=("tuple", len(ports)))


def measure(name: str, scheme: str, samples: int) -> list[list[object]]:
    """One network: a row for each runtime."""
    network = NETWORKS[name]
    model = network.random(seed=1)
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(2, *network.input_shape, generator=generator) for _ in range(2)]
    program = transparent(unfloat.quantize(model, batches, unfloat.Recipe(scheme=scheme), progress=False))
    x = torch.randn(samples, *network.input_shape, generator=generator)
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    truth = trace(program, [codes])
    content = to_bytes(program)
    rows: list[list[object]] = []
    for runtime in ("tflm", "litert") if scheme == "int8" else ("litert",):
        answer = peer(runtime)([(content, [codes])])[0]
        counts = compare(program, truth, answer)
        rows.append([name, scheme, runtime, *counts, len(content) // 1024])
    return rows


def compare(program: Program, truth: dict[str, np.ndarray], answer: Arrays | str) -> list[object]:
    """Layers, layers that differ, codes, codes that differ, the greatest difference."""
    if isinstance(answer, str):
        return [answer[:80], "", "", "", ""]
    found = {port.name: codes for port, codes in zip(program.outputs, answer, strict=True)}
    gaps = {name: np.abs(truth[name].astype(int) - codes) for name, codes in found.items()}
    layers = sum(bool(gap.any()) for gap in gaps.values())
    codes, differ = (sum(int(count(gap)) for gap in gaps.values()) for count in (np.size, np.count_nonzero))
    return [len(gaps), layers, codes, differ, max(int(gap.max()) for gap in gaps.values())]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=TRIALS)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--scheme", default="int8")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        start = time.perf_counter()
        rows += measure(name, arguments.scheme, arguments.samples)
        print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    notes = [f"{arguments.samples} samples. TensorFlow Lite Micro's and LiteRT's reference kernels, one process each."]
    results.write("tflite_networks", "Exported networks in the public runtimes", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
