"""Residual networks, for ImageNet (18 and 50 layers) and for CIFAR-10 (8 and 20 layers).

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385
Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021, https://arxiv.org/abs/2106.07597 (ResNet-8)

Parameters of the ImageNet networks are named as in torchvision, and the 50 layers have the stride in the 3 x 3
convolution as there.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Shortcut that changes the shape, or None if there is nothing to change."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut.

    Args:
        inputs: Channels in.
        channels: Channels out.
        stride: Step of the first convolution.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = projection(inputs, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += identity
        return self.relu(x)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two 1 x 1 convolutions, beside a shortcut.

    Args:
        inputs: Channels in.
        channels: Channels of the 3 x 3 convolution; the block gives four times as many.
        stride: Step of the 3 x 3 convolution.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += identity
        return self.relu(x)


def stage(
    block: type[BasicBlock | Bottleneck], inputs: int, channels: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """Blocks in a row, of which the first changes the shape."""
    rest = [block(channels * block.expansion, channels) for _ in range(blocks - 1)]
    return nn.Sequential(block(inputs, channels, stride), *rest)


class ResNet(nn.Module):
    """ResNet for pictures of ImageNet's size.

    Args:
        block: The kind of block.
        blocks: Number of blocks in each of the four stages.
        classes: Number of classes.
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], blocks: tuple[int, int, int, int], classes: int = 1000
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, blocks[0])
        self.layer2 = stage(block, 64 * block.expansion, 128, blocks[1], stride=2)
        self.layer3 = stage(block, 128 * block.expansion, 256, blocks[2], stride=2)
        self.layer4 = stage(block, 256 * block.expansion, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class KerasBlock(nn.Module):
    """MLPerf Tiny's block: convolutions have a bias, and a shortcut that changes the shape has no batch normalization.

    Args:
        inputs: Channels in.
        channels: Channels out.
        stride: Step of the first convolution.
    """

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels, eps=1e-3)
        self.relu = nn.ReLU()
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(self.shortcut(x) + y)


class CifarResNet(nn.Module):
    """ResNet for CIFAR's 32 x 32 pictures: a convolution, then stacks of 16, 32 and 64 channels.

    Args:
        block: The kind of block.
        blocks: Number of blocks in each stack.
        classes: Number of classes.
    """

    def __init__(self, block: type[BasicBlock | KerasBlock], blocks: int, classes: int = 10) -> None:
        super().__init__()
        mlperf = block is KerasBlock
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=mlperf)
        self.bn = nn.BatchNorm2d(16, eps=1e-3 if mlperf else 1e-5)
        self.relu = nn.ReLU()
        layers: list[nn.Module] = []
        inputs = 16
        for channels in (16, 32, 64):
            for repeat in range(blocks):
                layers.append(block(inputs, channels, stride=2 if channels > 16 and repeat == 0 else 1))
                inputs = channels
        self.stacks = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, 32, 32) to logits (N, classes)."""
        x = self.stacks(self.relu(self.bn(self.conv(x))))
        return self.fc(self.pool(x).flatten(1))


def resnet18(classes: int = 1000) -> ResNet:
    """Build a ResNet-18 with random weights."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes)


def resnet50(classes: int = 1000) -> ResNet:
    """Build a ResNet-50 with random weights."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes)


def resnet8(classes: int = 10) -> CifarResNet:
    """Build MLPerf Tiny's ResNet-8 with random weights."""
    return CifarResNet(KerasBlock, 1, classes)


def resnet20(classes: int = 10) -> CifarResNet:
    """Build the paper's ResNet-20 for CIFAR-10, with projection shortcuts and random weights."""
    return CifarResNet(BasicBlock, 3, classes)
