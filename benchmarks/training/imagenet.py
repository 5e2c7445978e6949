"""ImageNet's few pictures in memory: 1,000 to fine-tune with, augmented mildly, and 650 to evaluate with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from benchmarks.data import Labels, Pictures, Statistics, centre, imagenet, imagenet_rows, preprocess
from PIL import Image
from torch import Tensor, nn

AREA = (0.5, 1.0)  # of the picture that a crop keeps
RATIO = (3 / 4, 4 / 3)  # of a crop's width to its height
ATTEMPTS = 10  # at a crop that lies within the picture

Batch = tuple[Tensor, Tensor]


class ImageNet:
    """Augmented batches of `train1000`, and plain ones to calibrate and evaluate with.

    The training pictures are decoded once: 260 MB.

    Args:
        size: Height and width that the network takes, 1 to 224.
        statistics: Mean and standard deviation of each channel, in the pixels' unit.
        batch: Pictures a batch.
        limit: Take only so many pictures of each part, the first ones.
    """

    def __init__(self, size: int, statistics: Statistics, batch: int = 50, limit: int | None = None) -> None:
        self.size, self.statistics, self.batch = size, statistics, batch
        files, self.labels = imagenet_rows("train1000", limit)
        self.pictures = [_decoded(file) for file in files]
        self.test = imagenet("val650", limit, size)

    @property
    def steps(self) -> int:
        """Batches an epoch; what fills no batch is left out, others in each epoch."""
        return len(self.labels) // self.batch

    def train(self, seed: int, epoch: int) -> Iterator[Batch]:
        """One epoch of crops and mirror images; all of it depends on `seed` and `epoch` alone.

        Yields:
            Normalized pictures (batch, 3, size, size) and classes (batch,).
        """
        generator = np.random.default_rng((seed, epoch))
        order = generator.permutation(len(self.labels))
        for step in range(self.steps):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            crops = np.stack([augmented(self.pictures[k], self.size, generator) for k in chosen])
            yield preprocess(crops, *self.statistics), torch.from_numpy(self.labels[chosen])

    def calibration(self, count: int = 125) -> list[Tensor]:
        """Centre crops of training pictures, taken at even steps through the list, which is in the classes' order."""
        spread = np.linspace(0, len(self.pictures), min(count, len(self.pictures)), endpoint=False).astype(int)
        crops = [np.asarray(centre(Image.fromarray(self.pictures[k]), self.size)) for k in spread]
        return list(preprocess(np.stack(crops), *self.statistics).split(self.batch))

    def evaluation(self) -> Iterator[Batch]:
        """The pictures of `val650`, in order."""
        pictures, labels = self.test
        for start in range(0, len(labels), self.batch):
            part = slice(start, start + self.batch)
            yield preprocess(pictures[part], *self.statistics), torch.from_numpy(labels[part])


def _decoded(file: Path) -> Pictures:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def augmented(picture: Pictures, size: int, generator: np.random.Generator) -> Pictures:
    """A random part of a picture, stretched to a square and mirrored every other time.

    Args:
        picture: (H, W, 3).
        size: Height and width to deliver.
        generator: Decides.

    Returns:
        A picture (size, size, 3), made by Pillow's antialiased bilinear filter.
    """
    top, left, height, width = random_crop(picture.shape[0], picture.shape[1], generator)
    part = Image.fromarray(picture[top : top + height, left : left + width])
    resized = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
    return resized[:, ::-1] if generator.random() < 0.5 else resized


def random_crop(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Choose top, left, height and width of a crop: a share `AREA` of the picture, of sides in `RATIO`.

    As in Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6, with a milder area. A long picture may
    have no such crop: then it is the largest central square.
    """
    for _ in range(ATTEMPTS):
        area = height * width * generator.uniform(*AREA)
        ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < tall <= height and 0 < wide <= width:
            return int(generator.integers(height - tall + 1)), int(generator.integers(width - wide + 1)), tall, wide
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


@torch.inference_mode()
def logits(model: nn.Module, data: ImageNet) -> np.ndarray:
    """A model's logits (N, classes) on the evaluation pictures, in eval mode: what `measures.compare` takes."""
    model.eval()
    return np.concatenate([model(x).numpy() for x, _ in data.evaluation()])


__all__ = ["Batch", "ImageNet", "Labels", "augmented", "logits", "random_crop"]
