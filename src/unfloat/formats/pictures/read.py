"""Pictures to input arrays, as the recipe's `[input]` says. Needs Pillow and NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unfloat.ir.graph import Port, Shape
from unfloat.spec.errors import CalibrationError

if TYPE_CHECKING:
    from unfloat.quant.recipe import InputSpec

CHANNELS = 3  # of a picture, whatever it had
METADATA = "._"  # begins the names of what macOS puts beside files
WIDER = 257  # 65535 / 255
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def find_pictures(folder: str | Path) -> list[Path]:
    """Every picture below a folder, sorted by path.

    Raises:
        CalibrationError: There is none.
    """
    named = (p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(METADATA))
    pictures = sorted(p for p in named if p.is_file())
    if not pictures:
        raise CalibrationError(f"{folder}: required at least one picture ({', '.join(sorted(SUFFIXES))}), found none")
    return pictures


def preprocess(picture: Image.Image, spec: InputSpec) -> np.ndarray:
    """One picture as float32 [height, width, 3]: resize, crop the centre, order channels, `(pixel - mean) / std`.

    It is turned as its EXIF orientation says, as viewers show it.

    Raises:
        ValueError: The picture is smaller than the crop, or its pixels are neither of 8 nor of 16 bits.
    """
    picture = _in_8_bits(ImageOps.exif_transpose(picture)).convert("RGB")
    height, width = spec.size
    if spec.resize == 0:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    elif spec.resize is not None:
        ratio = spec.resize / min(picture.size)
        size = tuple(max(spec.resize, round(side * ratio)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    if left < 0 or top < 0:
        raise ValueError(
            f"a crop of {width} x {height} needs a picture at least as large, found {picture.width} x {picture.height}; set input.resize"
        )
    pixels = np.asarray(picture.crop((left, top, left + width, top + height)), np.float32)
    ordered = pixels if spec.order == "RGB" else pixels[..., ::-1]
    return (ordered - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel; Pillow itself clips wider ones at 255."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) // WIDER).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"required 8 bits a channel, found mode {picture.mode}")
    return picture


def read_picture(path: str | Path, spec: InputSpec) -> np.ndarray:
    """Read and preprocess one picture file.

    Raises:
        CalibrationError: It cannot be read, or is too small.
    """
    try:
        with Image.open(path) as picture:
            return preprocess(picture, spec)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise CalibrationError(f"{path}: not usable as a picture: {error}") from error


def picture_batches(paths: Sequence[Path], spec: InputSpec, size: int) -> Iterator[np.ndarray]:
    """Batches [n, 3, height, width], the layout that PyTorch models take."""
    for start in range(0, len(paths), size):
        batch = np.stack([read_picture(path, spec) for path in paths[start : start + size]])
        yield np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def in_model_layout(image: np.ndarray, port: Port) -> np.ndarray:
    """A batch of NHWC images in the layout that the model, and so `engine(x)`, takes.

    Raises:
        CalibrationError: The input is no image of this size.
    """
    _require_shape(image.shape[1:], port)
    return np.ascontiguousarray(image.transpose(np.argsort(port.permutation)))


def require_size(spec: InputSpec, port: Port) -> None:
    """The same of pictures that nobody has read yet.

    Raises:
        CalibrationError: The input is no image of this size.
    """
    _require_shape((*spec.size, CHANNELS), port)


def _require_shape(found: Shape, port: Port) -> None:
    if found != port.shape[1:]:
        raise CalibrationError(
            f"input {port.name} takes {port.shape[1:]} inside, the picture gives {found}: check input.size"
        )
