"""One side of a speed comparison, in a process of its own: reads nothing, prints the median time in milliseconds.

python -m benchmarks._once {unfloat FILE | torch NETWORK} THREADS
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

SECONDS, LEAST_RUNS = 2.0, 10


def median_ms(call: Callable[[], object]) -> float:
    """The median time of a call, after a warm-up."""
    for _ in range(3):
        call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def unfloat_call(path: str, threads: int) -> Callable[[], object]:
    """Float in, float out, as a user would."""
    import unfloat

    program = unfloat.load(path)
    engine = program.compile(threads)
    port = program.inputs[0]
    own = [port.shape[axis] for axis in np.argsort(port.permutation)]
    x = np.random.default_rng(0).standard_normal((1, *own[1:])).astype(np.float32)
    return lambda: engine(x)


def torch_call(name: str, threads: int) -> Callable[[], object]:
    """The float32 model in PyTorch."""
    import torch
    from benchmarks.networks import NETWORKS

    torch.set_num_threads(threads)
    network = NETWORKS[name]
    model = network.build().eval()
    x = torch.randn(1, *network.input_shape)

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


if __name__ == "__main__":
    kind, what, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    make = {"unfloat": unfloat_call, "torch": torch_call}[kind]
    print(median_ms(make(what, threads)))
