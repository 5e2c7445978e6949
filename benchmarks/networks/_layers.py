"""What several networks are built of."""

from __future__ import annotations

from torch import nn


def conv_bn_relu6(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = 1e-5
) -> nn.Sequential:
    """Convolution without bias, batch normalization and ReLU6, padded so that stride 1 keeps the picture's size.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Height and width of the (odd) kernel.
        stride: Step in both directions.
        groups: `inputs` for a depthwise convolution.
        eps: Added to the variance by the batch normalization.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
        nn.ReLU6(inplace=True),
    )
