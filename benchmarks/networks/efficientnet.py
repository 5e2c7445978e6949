"""EfficientNet-B0 for pictures of 32 x 32: SiLUs, and gates by sigmoids.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946. The first two strides of 2 are 1, since the pictures are small; without stochastic
depth.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ._gated import Form, GatedBlock, SqueezeExcite, convolution
from .mobilenet_v3 import eights

Stage = tuple[int, int, int, int, int]

STAGES: tuple[Stage, ...] = (
    # expansion, kernel, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 1, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
CIFAR_STAGES = (
    (1, 3, 2, 32, 1),
    (4, 3, 2, 48, 1),
    (4, 5, 1, 48, 1),
    (4, 3, 1, 64, 1),
    (4, 3, 2, 128, 2),
)
"""Fewer blocks, for training from scratch on a CPU; 5 x 5 kernels where pictures have 8 x 8 pixels."""
GATES = partial(SqueezeExcite, activation=nn.SiLU, gate=nn.Sigmoid)


class EfficientNetB0(nn.Module):
    """EfficientNet-B0.

    Args:
        width: Factor on the number of channels.
        depth: The most blocks of a stage.
        classes: Number of classes.
        stages: What `STAGES` lists.
    """

    def __init__(
        self, width: float = 1.0, depth: int = 4, classes: int = 10, stages: tuple[Stage, ...] = STAGES
    ) -> None:
        super().__init__()
        channels = eights(32 * width)
        layers: list[nn.Module] = [*convolution(3, channels, 3), nn.SiLU()]
        for expansion, kernel, first_stride, base, blocks in stages:
            for block in range(min(blocks, depth)):
                outputs, stride = eights(base * width), first_stride if block == 0 else 1
                form = Form(channels, channels * expansion, outputs, kernel, stride, max(1, channels // 4))
                layers.append(GatedBlock(form, nn.SiLU, GATES))
                channels = outputs
        last = eights(1280 * width)
        self.features = nn.Sequential(*layers, *convolution(channels, last, 1), nn.SiLU())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


def efficientnet_b0(width: float = 1.0, depth: int = 4, classes: int = 10) -> EfficientNetB0:
    """Build an EfficientNet-B0 with random weights."""
    return EfficientNetB0(width, depth, classes)


def efficientnet_b0_cifar() -> EfficientNetB0:
    """Build the smaller one, with half the channels, with random weights."""
    return EfficientNetB0(width=0.5, stages=CIFAR_STAGES)
