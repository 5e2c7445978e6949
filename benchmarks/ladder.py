"""The ladder on whole networks: interpreter = Simulation in eval = scalar C = every vector level, 0 mismatches.

python -m benchmarks.ladder [NETWORK ...]

Random weights; batch-norm statistics measured on noise. Batches of 1 and 3; 1, 2 and 3 threads.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from benchmarks import results
from benchmarks.networks import NETWORKS

import unfloat
from unfloat import _native
from unfloat.formats.torch.read import read
from unfloat.passes import prepare
from unfloat.program.interpret import trace
from unfloat.quant.calibrate import calibrate
from unfloat.quant.post_training import simulate
from unfloat.spec.qparams import quantize

TRIALS = [
    "mobilenet_v1", "mobilenet_v1_025", "mobilenet_v2", "resnet18", "resnet50",
    "efficientnet_lite0", "inception_v3", "resnet8", "ds_cnn",
]  # fmt: skip
LEAST_CODES = 32


def measure(name: str, scheme: str = "int8") -> list[object]:
    """One network: its row."""
    network = NETWORKS[name]
    model = network.random(seed=1)
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(2, *network.input_shape, generator=generator) for _ in range(2)]
    simulation = simulate(model, read(model, (batches[0],)), unfloat.Recipe(scheme=scheme), prepare)
    calibrate(simulation, batches, lambda b: b)
    program = simulation.convert()
    x = torch.randn(3, *network.input_shape, generator=generator)
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    truth = trace(program, [codes])
    distinct = min(
        len(np.unique(a)) for n, a in truth.items() if program.tensors[n].data is None and a.size >= 10 * LEAST_CODES
    )
    expected = truth[program.outputs[0].value]
    wrong = int((simulation.exact([x])[0].numpy() != expected).sum())
    compared = expected.size
    for level in _native.levels():
        for threads in (1, 2, 3):
            engine = program.compile(threads, level)
            for batch in (1, 3):
                wrong += int((engine.run(codes[:batch]) != expected[:batch]).sum())
                compared += expected[:batch].size
    return [name, scheme, len(program.instructions), len(truth), distinct, compared, wrong]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=TRIALS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        for scheme in ("int8", "uint8"):
            start = time.perf_counter()
            rows.append(measure(name, scheme))
            print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    columns = (
        "network",
        "scheme",
        "instructions",
        "sites",
        "fewest distinct codes at a site",
        "outputs compared",
        "mismatches",
    )
    levels = ", ".join(_native.levels())
    notes = [
        f"Witnesses: NumPy interpreter, Simulation in eval, engine at {levels} with 1, 2 and 3 threads, batches of 1 and 3."
    ]
    results.write("ladder", "The ladder on whole networks", columns, rows, notes)


if __name__ == "__main__":
    main()
