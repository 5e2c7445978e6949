"""What others' quantized MobileNetV1 0.25 of 128 pixels reach on val650, and what the paper's scheme does untrained.

    python -m benchmarks.training.public_files [--limit 650] [--runtime xnnpack]

The public files run in LiteRT, one process each: its reference kernels compute integer files by the paper's rule,
XNNPACK is what phones run. The float network's weights are also rounded to 8 bits, activations left in float.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks import data, results
from benchmarks.data import Labels, Pictures, Statistics
from benchmarks.networks import mobilenet_v1_025_imagenet
from benchmarks.tflite_files import Border, Floats, border
from tests.peers.call import peer
from torch import nn

from unfloat.spec.qparams import QParams, dequantize, float32, positive_scale, qparams_from_range, quantize

SIZE = 128


@dataclass(frozen=True)
class PublicFile:
    """A classifier of ImageNet.

    Attributes:
        name: Of the file, in the folder `tflite` of the data.
        statistics: What its real input is of pixels, (pixel - mean) / std.
        background: Whether class 0 is none of the 1,000.
    """

    name: str
    statistics: Statistics
    background: bool = False

    @property
    def path(self) -> Path:
        """Where it lies."""
        return data.folder() / "tflite" / self.name


FILES: dict[str, PublicFile] = {
    "float": PublicFile("mbnet128_0.25_f.tflite", data.SYMMETRIC_STATISTICS),
    # Its input's range is 0 to 1, as its makers calibrated it: -1 to 1, which the float weights expect, would saturate.
    "int8": PublicFile("mbnet128_0.25_q.tflite", ((0.0,) * 3, (255.0,) * 3)),
    "uint8, trained": PublicFile("mobilenet_v1_0.25_128_quant.tflite", ((128.0,) * 3, (128.0,) * 3), background=True),
}
"""Public files of one architecture: `int8` is `float` rounded after training, `uint8, trained` is the paper's."""


def probabilities(file: PublicFile, pictures: Pictures, runtime: str = "litert") -> Floats:
    """Run a file on pictures.

    Args:
        file: Which.
        pictures: (N, 128, 128, 3), pixels of 0 to 255.
        runtime: `litert` for LiteRT's reference kernels, `xnnpack` for what it runs on phones.

    Returns:
        What the file's softmax gives for the 1,000 classes, (N, 1000).

    Raises:
        RuntimeError: The runtime refuses the file.
    """
    source, target = border(file.path)
    found = peer(runtime)([(file.path.read_bytes(), [_entry(source, pictures, file.statistics)])])[0]
    if isinstance(found, str):
        raise RuntimeError(f"{file.name} must run in {runtime}, found: {found}")
    reals = found[0] if target.label is None else dequantize(found[0], target.label)
    return reals[:, 1:] if file.background else reals


def _entry(source: Border, pictures: Pictures, statistics: Statistics) -> np.ndarray:
    """A file's input, NHWC: reals, or their codes."""
    reals = data.preprocess(pictures, *statistics).permute(0, 2, 3, 1).contiguous().numpy()
    return reals if source.label is None else quantize(reals, source.label)


def top1(scores: np.ndarray, labels: Labels) -> float:
    """The share of pictures named right, in percent."""
    return float(100 * (scores.argmax(1) == labels).mean())


def paper_label(weight: Floats) -> QParams:
    """The paper's weights: uint8, one affine scale a tensor, the lowest code left out."""
    return qparams_from_range(float(weight.min()), float(weight.max()), "uint8", narrow=True)


def channel_label(weight: Floats) -> QParams:
    """The default scheme's weights: int8, symmetric, a scale for each output channel."""
    reach = np.abs(weight.reshape(len(weight), -1)).max(1)
    return QParams(tuple(positive_scale(float32(r) / 127) for r in reach), axis=0, narrow=True)


@torch.no_grad()
def rounded_weights(model: nn.Module, label: Callable[[Floats], QParams]) -> nn.Module:
    """A copy of a model whose convolutions and linear layers have weights that codes can say; the rest stays float."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.numpy()
            module.weight.copy_(torch.from_numpy(dequantize(quantize(weight, label(weight)), label(weight))))
    return model


@torch.inference_mode()
def float_logits(model: nn.Module, pictures: Pictures) -> Floats:
    """Logits (N, 1000) of `mobilenet_v1_025_imagenet` or a copy of it."""
    inputs = data.preprocess(pictures, *data.SYMMETRIC_STATISTICS)
    return np.concatenate([model(batch).numpy() for batch in inputs.split(50)])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=650)
    parser.add_argument("--runtime", choices=("litert", "xnnpack"), default="litert")
    arguments = parser.parse_args()
    pictures, labels = data.imagenet("val650", arguments.limit, SIZE)
    rows = []
    for name, file in FILES.items():
        found = top1(probabilities(file, pictures, arguments.runtime), labels)
        rows.append([f"`{file.name}`", f"{name}, in {arguments.runtime}", f"{found:.2f}"])
    model = mobilenet_v1_025_imagenet()
    network = "the float file's weights in PyTorch"
    rows.append([network, "float", f"{top1(float_logits(model, pictures), labels):.2f}"])
    for name, label in {"uint8 a tensor, the paper's": paper_label, "int8 a channel": channel_label}.items():
        found = top1(float_logits(rounded_weights(model, label), pictures), labels)
        rows.append([network, f"weights rounded: {name}; activations float", f"{found:.2f}"])
    title = "MobileNetV1 0.25, 128 pixels: public files and rounded weights"
    results.write("public_files", title, ("network", "how", "top-1"), rows, [f"{len(labels)} pictures of val650."])


if __name__ == "__main__":
    main()
