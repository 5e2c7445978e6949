"""CIFAR-10 in memory, with the usual augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from benchmarks.data import Labels, Pictures, cifar10
from torch import Tensor, nn

MEAN = (125.3, 123.0, 113.9)
STD = (63.0, 62.1, 66.7)
MARGIN = 4  # pixels of black around a picture before it is cropped again

Batch = tuple[Tensor, Tensor]


class Cifar10:
    """Both parts of CIFAR-10: augmented batches to train with, plain ones to calibrate and evaluate with.

    Args:
        batch: Pictures a batch.
    """

    def __init__(self, batch: int = 128) -> None:
        self.batch = batch
        pictures, labels = cifar10("train")
        self.labels = torch.from_numpy(labels)
        border = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
        self.padded = torch.from_numpy(np.pad(pictures, border))
        self.test = cifar10("test")

    def train(self, seed: int, epoch: int) -> Iterator[Batch]:
        """One epoch of crops and mirror images; all depends on the arguments alone.

        Args:
            seed: Of the order and the crops.
            epoch: Another one has another order and other crops.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        for chosen in order.split(self.batch)[: len(order) // self.batch]:
            yield self._augmented(chosen, generator), self.labels[chosen]

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(self.labels) // self.batch

    def _augmented(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        count, reach = len(chosen), torch.arange(32)
        top, left = torch.randint(0, 2 * MARGIN + 1, (2, count, 1), generator=generator)
        flip = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flip, reach.flip(0), reach) + left
        return normalized(self.padded[chosen[:, None, None], (reach + top)[:, :, None], columns[:, None, :]])

    def calibration(self, count: int = 1000) -> list[Tensor]:
        """The first training pictures, as they are."""
        inner = self.padded[:count, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return list(normalized(inner).split(self.batch))

    def evaluation(self) -> Iterator[Batch]:
        """The test pictures."""
        pictures, labels = self.test
        yield from zip(_split(pictures, 500), torch.from_numpy(labels).split(500), strict=True)


def _split(pictures: Pictures, size: int) -> Iterator[Tensor]:
    for part in torch.from_numpy(pictures).split(size):
        yield normalized(part)


def normalized(pictures: Tensor) -> Tensor:
    """Pixels (N, 32, 32, 3) of 0 to 255 as a network's input (N, 3, 32, 32), channels last in memory."""
    return ((pictures.to(torch.float32) - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(model: nn.Module, data: Cifar10) -> float:
    """The share of test pictures named right, in percent."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in data.evaluation())
    return 100.0 * right / len(data.test[1])


__all__ = ["Batch", "Cifar10", "Labels", "accuracy", "normalized"]
