"""MobileNetV3-Small for pictures of 32 x 32: hard-swishes, and gates by hard sigmoids.

Howard et al., "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244. The first two strides of 2 are
1, since the pictures are small.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ._gated import Form, GatedBlock, SqueezeExcite, convolution

Block = tuple[int, int, int, bool, bool, int]

BLOCKS: tuple[Block, ...] = (
    # kernel, expanded, channels, gates, hard-swish, stride
    (3, 16, 16, True, False, 1),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
CIFAR_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 48, 24, False, False, 2),
    (5, 72, 24, True, True, 1),
    (5, 72, 40, True, True, 1),
    (3, 120, 64, True, True, 2),
    (3, 192, 64, True, True, 1),
)
"""Fewer blocks and channels, for training from scratch on a CPU; 5 x 5 kernels where pictures have 8 x 8 pixels."""
GATES = partial(SqueezeExcite, activation=nn.ReLU, gate=nn.Hardsigmoid)


def eights(channels: float) -> int:
    """The nearest multiple of 8, not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MobileNetV3Small(nn.Module):
    """MobileNetV3-Small.

    Args:
        width: Factor on the number of channels.
        classes: Number of classes.
        blocks: What `BLOCKS` lists.
        head: Channels of the last convolution and of the layer after it, at width 1.
    """

    def __init__(
        self,
        width: float = 1.0,
        classes: int = 10,
        blocks: tuple[Block, ...] = BLOCKS,
        head: tuple[int, int] = (576, 1024),
    ) -> None:
        super().__init__()
        channels = eights(16 * width)
        layers: list[nn.Module] = [*convolution(3, channels, 3), nn.Hardswish()]
        for kernel, expanded, outputs, gated, swish, stride in blocks:
            inner, outputs = eights(expanded * width), eights(outputs * width)
            form = Form(channels, inner, outputs, kernel, stride, eights(inner / 4) if gated else 0)
            layers.append(GatedBlock(form, nn.Hardswish if swish else nn.ReLU, GATES))
            channels = outputs
        last, hidden = (eights(wide * width) for wide in head)
        self.features = nn.Sequential(*layers, *convolution(channels, last, 1), nn.Hardswish())
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v3_small(width: float = 1.0, classes: int = 10) -> MobileNetV3Small:
    """Build a MobileNetV3-Small with random weights."""
    return MobileNetV3Small(width, classes)


def mobilenet_v3_small_cifar() -> MobileNetV3Small:
    """Build the smaller one with random weights."""
    return MobileNetV3Small(blocks=CIFAR_BLOCKS, head=(384, 128))
