"""MobileNetV1: a chain of depthwise separable convolutions.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
https://arxiv.org/abs/1704.04861
"""

from __future__ import annotations

from torch import Tensor, nn

from ._layers import conv_bn_relu6

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


class MobileNetV1(nn.Module):
    """MobileNetV1 with ReLU6, for pictures of any size (224 in the paper, 96 in MLPerf Tiny).

    Args:
        width: Factor on the number of channels, which stays at 8 or more.
        classes: Number of classes.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        channels = max(8, int(32 * width))
        layers = [conv_bn_relu6(3, channels, 3, stride=2, eps=EPS)]
        for base, stride in BLOCKS:
            layers.append(conv_bn_relu6(channels, channels, 3, stride, groups=channels, eps=EPS))
            inputs, channels = channels, max(8, int(base * width))
            layers.append(conv_bn_relu6(inputs, channels, 1, eps=EPS))
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
