"""Pictures to calibrate, train and evaluate with, from the folder that the environment variable UNFLOAT_DATA names."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET_STATISTICS: Statistics = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of ImageNet's channels: what torchvision's networks expect."""

LITE_STATISTICS: Statistics = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""What EfficientNet-Lite expects."""


def folder() -> Path:
    """Find the folder with the data.

    Raises:
        RuntimeError: UNFLOAT_DATA is unset or names no folder.
    """
    name = os.environ.get("UNFLOAT_DATA")
    if not name:
        raise RuntimeError("the environment variable UNFLOAT_DATA is unset: it must name the folder with the data")
    path = Path(name)
    if not path.is_dir():
        raise RuntimeError(f"the environment variable UNFLOAT_DATA names no folder: {name}")
    return path


def imagenet(name: str, limit: int | None = None) -> tuple[Pictures, Labels]:
    """Load centre crops of 224 x 224 pixels.

    Args:
        name: `train1000` to calibrate and to train with, `val650` to evaluate with.
        limit: Take only so many, the first ones.

    Returns:
        Pictures (N, 224, 224, 3) and classes (N,).
    """
    size = 224
    source = folder() / "imagenet" / name
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:limit]
    pictures = np.empty((len(rows), size, size, 3), np.uint8)
    for picture, row in zip(pictures, rows, strict=True):
        with Image.open(source / row["file"]) as image:
            left, top = (image.width - size) // 2, (image.height - size) // 2
            picture[:] = np.asarray(image.convert("RGB").crop((left, top, left + size, top + size)))
    return pictures, np.array([int(row["label"]) for row in rows], np.int64)


def cifar10(part: Literal["train", "test"]) -> tuple[Pictures, Labels]:
    """Load CIFAR-10.

    Args:
        part: The 50,000 pictures to train or the 10,000 to test with.

    Returns:
        Pictures (N, 32, 32, 3) and classes (N,).
    """
    source = folder() / "cifar10"
    labels = np.load(source / f"{part}_labels.npy").astype(np.int64)
    strips = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(source.glob(f"{part}_*.webp"))]
    return np.concatenate(strips).reshape(-1, 32, 32, 3), labels


def preprocess(pictures: Pictures, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn pictures into a network's input, (pixel - mean) / std.

    Args:
        pictures: Pixels of 0 to 255, (N, H, W, 3).
        mean: For each channel, in the pixels' unit.
        std: For each channel, in the pixels' unit.

    Returns:
        Contiguous float32 tensor (N, 3, H, W).
    """
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(torch.tensor(mean).view(3, 1, 1)).div_(torch.tensor(std).view(3, 1, 1))
