"""Inverted residual blocks whose channels gate one another: what MobileNetV3 and EfficientNet are built of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Form:
    """A block's form.

    Attributes:
        inputs, inner, outputs: Channels before, inside and after.
        kernel: Height and width of the depthwise convolution.
        stride: Its step.
        squeezed: Channels of the squeeze, 0 for a block without gates.
    """

    inputs: int
    inner: int
    outputs: int
    kernel: int
    stride: int
    squeezed: int


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias and batch normalization, padded so that stride 1 keeps the picture's size."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs)]


class SqueezeExcite(nn.Module):
    """Gates of the channels by their own means.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507

    Args:
        channels: Of the picture.
        squeezed: Channels between the two layers.
        activation: Between them.
        gate: After them, from 0 to 1.
    """

    def __init__(self, channels: int, squeezed: int, activation: Activation, gate: Activation) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of pictures (N, C, H, W)."""
        means = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.excite(self.activation(self.squeeze(means))))


class GatedBlock(nn.Module):
    """Expand, convolve each channel, gate, project; added to the input where the shapes agree.

    Args:
        form: Channels, kernel, stride.
        activation: After the first two convolutions.
        gates: Makes the gates from the inner channels and the squeezed ones.
    """

    def __init__(self, form: Form, activation: Activation, gates: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        inner = form.inner
        expand = [*convolution(form.inputs, inner, 1), activation()] if inner != form.inputs else []
        spread = [*convolution(inner, inner, form.kernel, form.stride, inner), activation()]
        gate = [gates(inner, form.squeezed)] if form.squeezed else []
        self.body = nn.Sequential(*expand, *spread, *gate, *convolution(inner, form.outputs, 1))
        self.residual = form.stride == 1 and form.inputs == form.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return x + self.body(x) if self.residual else self.body(x)
