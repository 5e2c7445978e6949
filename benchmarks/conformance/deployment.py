"""Whole networks where they are deployed: the exported `.tflite` in the public runtimes against the engine.

python -m benchmarks.conformance.deployment [--samples 20] [NETWORK ...]

int8 files in TensorFlow Lite Micro (equality), in LiteRT with XNNPACK (which requantizes in float: the class and the
difference in steps), compiled by Vela for an Ethos-U55 (operators left to the CPU); uint8 files in LiteRT's reference
kernels (equality; TensorFlow Lite Micro refuses uint8). EfficientNet-Lite0 and MobileNetV2 have their ImageNet weights
and see pictures; the others have random weights and see noise.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.accuracy import STATISTICS
from benchmarks.networks import NETWORKS, PRETRAINED
from tests.peers.call import peer

import unfloat
from unfloat.formats.tflite.write import to_bytes
from unfloat.spec.qparams import quantize

TRIALS = [
    "ds_cnn", "resnet8", "mobilenet_v1_025", "mobilenet_v2", "efficientnet_lite0", "mobilenet_v1", "resnet18",
    "resnet50", "inception_v3",
]  # fmt: skip
COLUMNS = (
    "network", "inputs", "outputs compared", "TFLM differs", "XNNPACK same class", "XNNPACK differs", "by at most",
    "Vela: left to the CPU", "uint8, LiteRT reference differs", "by at most",
)  # fmt: skip


def inputs_for(name: str, samples: int) -> tuple[torch.nn.Module, list[torch.Tensor], torch.Tensor]:
    """A model, its calibration batches, and inputs to compare on."""
    if name in PRETRAINED:
        calibration, _ = data.imagenet("train1000", limit=48)
        pictures, _ = data.imagenet("val650", limit=samples)
        batches = list(data.preprocess(calibration, *STATISTICS[name]).split(16))
        return PRETRAINED[name].build().eval(), batches, data.preprocess(pictures, *STATISTICS[name])
    network = NETWORKS[name]
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(4, *network.input_shape, generator=generator) for _ in range(2)]
    return network.random(seed=1), batches, torch.randn(samples, *network.input_shape, generator=generator)


def run(name: str, scheme: str, samples: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The file, the input codes and the engine's output codes."""
    model, batches, x = inputs_for(name, samples)
    program = unfloat.quantize(model, batches, unfloat.Recipe(scheme=scheme), progress=False)
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    return to_bytes(program), codes, np.asarray(program.compile(threads=2).run(codes))


def answer(runtime: str, content: bytes, codes: np.ndarray) -> np.ndarray:
    """A runtime's output; its error, if it has one, is ours."""
    found = peer(runtime)([(content, [codes])])[0]
    if isinstance(found, str):
        raise RuntimeError(f"{runtime}: {found}")
    return found[0]


def measure(name: str, samples: int) -> list[object]:
    """One network: its row."""
    content, codes, expected = run(name, "int8", samples)
    micro = answer("tflm", content, codes)
    phone = answer("xnnpack", content, codes)
    gap = np.abs(phone.astype(int) - expected)
    same = (phone.reshape(samples, -1).argmax(1) == expected.reshape(samples, -1).argmax(1)).mean()
    left, taken = answer("vela", content, codes)
    legacy_content, legacy_codes, legacy = run(name, "uint8", samples)
    legacy_gap = np.abs(answer("litert", legacy_content, legacy_codes).astype(int) - legacy)
    return [
        name, samples, expected.size, int((micro != expected).sum()), f"{same:.0%}",
        f"{np.count_nonzero(gap) / gap.size:.1%}", int(gap.max()), f"{left} of {left + taken}",
        int(np.count_nonzero(legacy_gap)), int(legacy_gap.max()),
    ]  # fmt: skip


def main() -> None:
    """Measure and write the page, after each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=TRIALS)
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        start = time.perf_counter()
        rows.append(measure(name, arguments.samples))
        print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
        results.write("deployment", "Exported networks in the public runtimes", COLUMNS, rows, NOTES)


NOTES = [
    "XNNPACK requantizes in float, so its outputs differ by steps of the output's scale: that is by its design.",
    f"Exported by `{Path(__file__).name}`, integers at the border; every runtime in a process of its own.",
]

if __name__ == "__main__":
    main()
