"""DS-CNN: MLPerf Tiny's depthwise separable network for keyword spotting.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, https://arxiv.org/abs/1711.07128
Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021, https://arxiv.org/abs/2106.07597
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 64


def norm_relu() -> list[nn.Module]:
    """Batch normalization with Keras' epsilon, then ReLU."""
    return [nn.BatchNorm2d(CHANNELS, eps=1e-3), nn.ReLU()]


def separable() -> nn.Sequential:
    """Depthwise 3 x 3 and pointwise convolution, both with bias as in Keras, each normalized and rectified."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
        *norm_relu(),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        *norm_relu(),
    )


class DSCNN(nn.Module):
    """DS-CNN for 49 frames of 10 mel-frequency cepstral coefficients.

    Args:
        classes: Number of classes: ten words, silence and unknown.
    """

    def __init__(self, classes: int = 12) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, CHANNELS, (10, 4), stride=2), *norm_relu(), nn.Dropout(0.2))
        self.blocks = nn.Sequential(*[separable() for _ in range(4)])
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map spectrograms (N, 1, 49, 10) to logits (N, classes).

        The padding is TensorFlow's SAME: left 1, right 1, top 4, bottom 5. The pooling is the reference's as well: its
        window is half the input's size rounded down, so the last of 25 rows is left out.
        """
        x = self.stem(F.pad(x, (1, 1, 4, 5)))
        x = F.avg_pool2d(self.dropout(self.blocks(x)), (24, 5))
        return self.classifier(x.flatten(1))


def ds_cnn(classes: int = 12) -> DSCNN:
    """Build a DS-CNN with random weights."""
    return DSCNN(classes)
