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


def same_conv_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with bias and ReLU6, padded as TensorFlow's SAME: what is left of a block whose norm was folded.

    At stride 2 SAME pads a picture of even height and width below and on the right only, so these must be even.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Height and width of the kernel: 1, or 3.
        stride: Step in both directions: 1, or 2 with a kernel of 3.
        groups: `inputs` for a depthwise convolution.
    """
    border = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
    padding = 0 if stride == 2 else kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    return nn.Sequential(*border, convolution, nn.ReLU6(inplace=True))
