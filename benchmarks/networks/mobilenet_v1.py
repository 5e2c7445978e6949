"""MobileNetV1: a chain of depthwise separable convolutions.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
https://arxiv.org/abs/1704.04861
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import data
from benchmarks.tflite_files import load_linear
from torch import Tensor, nn

from ._layers import conv_bn_relu6, same_conv_relu6

EPS = 1e-3
BLOCKS = (
    # channels, stride
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
WITH_NORM = partial(conv_bn_relu6, eps=EPS)


class MobileNetV1(nn.Module):
    """MobileNetV1 with ReLU6, for pictures of any size (224 in the paper, 96 in MLPerf Tiny).

    Args:
        width: Factor on the number of channels, which stays at 8 or more.
        classes: Number of classes.
        convolution: Makes a convolution with its ReLU6; takes channels in and out, kernel size, stride and groups.
    """

    def __init__(
        self, width: float = 1.0, classes: int = 1000, convolution: Callable[..., nn.Module] = WITH_NORM
    ) -> None:
        super().__init__()
        channels = max(8, int(32 * width))
        layers = [convolution(3, channels, 3, stride=2)]
        for base, stride in BLOCKS:
            layers.append(convolution(channels, channels, 3, stride=stride, groups=channels))
            inputs, channels = channels, max(8, int(base * width))
            layers.append(convolution(inputs, channels, 1))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(1e-3)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = self.features(x).mean((2, 3))
        return self.classifier(self.dropout(x))


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> MobileNetV1:
    """Build a MobileNetV1 with random weights."""
    return MobileNetV1(width, classes)


def mobilenet_v1_vww() -> MobileNetV1:
    """Build MLPerf Tiny's network for Visual Wake Words: a quarter of the width, 96 x 96 pictures, two classes."""
    return MobileNetV1(width=0.25, classes=2)


def mobilenet_v1_025_imagenet(path: Path | None = None) -> MobileNetV1:
    """Build the network of the public file `mbnet128_0.25_f.tflite`, trained by Keras on ImageNet, in eval mode.

    It takes 128 x 128 pictures as (rgb - 127.5) / 127.5 and gives logits of 1,000 classes; the file's softmax is left
    out. The file's batch normalizations are folded, so this network has none: convolutions with bias, then ReLU6,
    padded as TensorFlow's SAME. Its depthwise weights span such ranges that one scale a tensor ruins them: the case
    for which the paper trains with quantization in the loop.

    Args:
        path: The file; by default it is looked for in the folder that UNFLOAT_DATA names, under `tflite`.

    Raises:
        ValueError: The file's layers are not this network's.
    """
    model = MobileNetV1(width=0.25, convolution=same_conv_relu6)
    load_linear(model, path or data.folder() / "tflite" / "mbnet128_0.25_f.tflite")
    return model.eval()
