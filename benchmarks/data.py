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

SYMMETRIC_STATISTICS: Statistics = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""What TensorFlow's MobileNetV1 expects: -1 to 1."""

CROP = 224  # pixels: the largest square that every stored picture of ImageNet holds, in round figures
CENTRAL = 7 / 8  # of the side, TensorFlow-Slim's central fraction of 0.875

CIFAR10_BINARY = "cifar-10-batches-bin"
CIFAR10_FILES = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR10_CLASSES = 10
CIFAR10_RECORD = 1 + 3 * 32 * 32  # bytes


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


def imagenet(name: str, limit: int | None = None, size: int = CROP) -> tuple[Pictures, Labels]:
    """Load centre crops of ImageNet's pictures.

    At 224 pixels they are cut out as they are. Smaller ones are squares of 7/8 of the short side, the central fraction
    with which TensorFlow-Slim evaluates MobileNets, resized by Pillow's antialiased bilinear filter. 7/8 of 256 is 224:
    of `train1000` all sizes show the same part.
    https://github.com/tensorflow/models/blob/master/research/slim/preprocessing/inception_preprocessing.py

    Args:
        name: `train1000` to calibrate and to train with, `val650` to evaluate with.
        limit: Take only so many, the first ones.
        size: Height and width to deliver, 1 to 224.

    Returns:
        Pictures (N, size, size, 3) and classes (N,).

    Raises:
        ValueError: `size` is out of range.
    """
    if not 1 <= size <= CROP:
        raise ValueError(f"pictures of {size} pixels cannot be cut: the stored ones serve sizes of 1 to {CROP}")
    rows, labels = imagenet_rows(name, limit)
    pictures = np.empty((len(rows), size, size, 3), np.uint8)
    for picture, row in zip(pictures, rows, strict=True):
        with Image.open(row) as image:
            picture[:] = np.asarray(centre(image.convert("RGB"), size))
    return pictures, labels


def centre(image: Image.Image, size: int) -> Image.Image:
    """Cut the centre out of a picture, as `imagenet` says."""
    side = CROP if size == CROP else round(CENTRAL * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    return crop if size == side else crop.resize((size, size), Image.Resampling.BILINEAR)


def imagenet_rows(name: str, limit: int | None = None) -> tuple[list[Path], Labels]:
    """The files of `imagenet/<name>` in the list's order, and their classes (N,)."""
    source = folder() / "imagenet" / name
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:limit]
    return [source / row["file"] for row in rows], np.array([int(row["label"]) for row in rows], np.int64)


def cifar10(part: Literal["train", "test"]) -> tuple[Pictures, Labels]:
    """Load CIFAR-10: the public binary files where there are some (see `cifar10_binary`), else strips of pictures.

    Args:
        part: The 50,000 pictures to train or the 10,000 to test with.

    Returns:
        Pictures (N, 32, 32, 3) and classes (N,).

    Raises:
        FileNotFoundError: There are neither, or a binary file is missing.
        ValueError: A binary file is none of CIFAR-10's.
    """
    source = folder()
    for place in (source / CIFAR10_BINARY, source / "cifar10" / CIFAR10_BINARY, source / "cifar10", source):
        if any((place / file).exists() for files in CIFAR10_FILES.values() for file in files):
            return cifar10_binary(place, part)
    strips = sorted((source / "cifar10").glob(f"{part}_*.webp"))
    if not strips:
        raise FileNotFoundError(
            f"CIFAR-10 needs the folder {CIFAR10_BINARY} of the public binary version, "
            f"or cifar10/{part}_*.webp, found neither in {source}: unpack cifar-10-binary.tar.gz there"
        )
    pictures = np.concatenate([np.asarray(Image.open(strip).convert("RGB")) for strip in strips])
    return pictures.reshape(-1, 32, 32, 3), np.load(source / "cifar10" / f"{part}_labels.npy").astype(np.int64)


def cifar10_binary(place: Path, part: Literal["train", "test"]) -> tuple[Pictures, Labels]:
    """Read the binary version of https://www.cs.toronto.edu/~kriz/cifar.html.

    A record is a byte with the class, then 32 x 32 bytes of red, of green and of blue, row by row.

    Args:
        place: The folder of `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
        part: Which of them to read.

    Returns:
        Pictures (N, 32, 32, 3) and classes (N,).

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not made of whole records, or holds a class past 9.
    """
    records = np.concatenate([_cifar10_records(place / file) for file in CIFAR10_FILES[part]])
    pictures = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures), records[:, 0].astype(np.int64)


def _cifar10_records(file: Path) -> Pictures:
    if not file.is_file():
        raise FileNotFoundError(f"CIFAR-10's {file.name} is missing in {file.parent}: unpack the archive again")
    content = np.fromfile(file, np.uint8)
    if not content.size or content.size % CIFAR10_RECORD:
        raise ValueError(
            f"{file}: CIFAR-10's binary files are records of {CIFAR10_RECORD} bytes, found {content.size} bytes: "
            f"unpack the archive again"
        )
    records = content.reshape(-1, CIFAR10_RECORD)
    if (greatest := int(records[:, 0].max())) >= CIFAR10_CLASSES:
        raise ValueError(f"{file}: CIFAR-10's classes are 0 to 9, found {greatest}: is it another data set's file?")
    return records


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
