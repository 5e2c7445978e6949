"""Networks to test and benchmark with, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .ds_cnn import ds_cnn
from .efficientnet import efficientnet_b0, efficientnet_b0_cifar
from .efficientnet_lite import LITE_SIZES, efficientnet_lite, efficientnet_lite_imagenet
from .inception_v3 import inception_v3
from .mobilenet_v1 import mobilenet_v1, mobilenet_v1_025_imagenet, mobilenet_v1_vww
from .mobilenet_v2 import mobilenet_v2, mobilenet_v2_imagenet
from .mobilenet_v3 import mobilenet_v3_small, mobilenet_v3_small_cifar
from .resnet import resnet8, resnet18, resnet20, resnet50

__all__ = ["NETWORKS", "PRETRAINED", "Network", "mobilenet_v1_025_imagenet", "randomize", "without_dropout"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Network:
    """How to build a network, and what it takes.

    Attributes:
        build: Gives a new model.
        input_shape: Channels, height and width of one input.
    """

    build: Callable[[], nn.Module]
    input_shape: Shape

    def random(self, seed: int = 0) -> nn.Module:
        """Build the model and `randomize` it with inputs of its own shape."""
        return randomize(self.build(), seed, self.input_shape)


NETWORKS: dict[str, Network] = {
    "mobilenet_v1": Network(mobilenet_v1, (3, 224, 224)),
    "mobilenet_v1_025": Network(lambda: mobilenet_v1(width=0.25), (3, 128, 128)),
    "mobilenet_v1_vww": Network(mobilenet_v1_vww, (3, 96, 96)),
    "mobilenet_v2": Network(mobilenet_v2, (3, 224, 224)),
    "resnet8": Network(resnet8, (3, 32, 32)),
    "resnet20": Network(resnet20, (3, 32, 32)),
    "resnet18": Network(resnet18, (3, 224, 224)),
    "resnet50": Network(resnet50, (3, 224, 224)),
    **{
        f"efficientnet_lite{number}": Network(partial(efficientnet_lite, number), (3, size, size))
        for number, size in LITE_SIZES.items()
    },
    "inception_v3": Network(inception_v3, (3, 299, 299)),
    "ds_cnn": Network(ds_cnn, (1, 49, 10)),
    "mobilenet_v3_small": Network(mobilenet_v3_small, (3, 32, 32)),
    "efficientnet_b0": Network(efficientnet_b0, (3, 32, 32)),
    "mobilenet_v3_small_cifar": Network(mobilenet_v3_small_cifar, (3, 32, 32)),
    "efficientnet_b0_cifar": Network(efficientnet_b0_cifar, (3, 32, 32)),
}
"""Networks with the random weights that PyTorch gives."""

PRETRAINED: dict[str, Network] = {
    "mobilenet_v2": Network(mobilenet_v2_imagenet, (3, 224, 224)),
    **{
        f"efficientnet_lite{number}": Network(partial(efficientnet_lite_imagenet, number), (3, size, size))
        for number, size in LITE_SIZES.items()
    },
}
"""Networks with weights trained on ImageNet, in eval mode, that come from packages.

`mobilenet_v1_025_imagenet` is another, whose weights are among the data that UNFLOAT_DATA names.
"""


@torch.no_grad()
def randomize(model: nn.Module, seed: int, input_shape: Shape = (3, 224, 224)) -> nn.Module:
    """Give a network random parameters, and batch normalizations the statistics that fit them.

    The statistics are measured on Gaussian noise, so that activations keep a sensible range however deep the network.
    The result depends on the arguments only; the global random state is left as it was.

    Args:
        model: Changed in place.
        seed: Decides all parameters and the noise.
        input_shape: Channels, height and width of the noise.

    Returns:
        The model, in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.1)
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            norm.reset_running_stats()
        momenta = [norm.momentum for norm in norms]
        model.eval()  # no dropout while the statistics are measured
        for norm in norms:
            norm.train()
            norm.momentum = None  # the mean over all batches
        for _ in range(4):
            model(torch.randn(8, *input_shape))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()


def without_dropout(model: nn.Module) -> nn.Module:
    """The model itself, its dropout switched off in `train()` too."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
