"""Pictures in: whatever a file holds becomes 8 bits a channel, upright, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unfloat.formats.pictures.read import find_pictures, read_picture
from unfloat.quant.recipe import InputSpec
from unfloat.spec.errors import CalibrationError

SPEC = InputSpec((2, 3), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
GREY = np.array([[0, 1, 2], [127, 254, 255]], np.uint8)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_are_scaled_and_not_clipped(dtype: str, tmp_path: Path) -> None:
    Image.fromarray((GREY.astype(np.uint16) * 257).astype(dtype)).save(tmp_path / "x.tiff")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tiff", SPEC), np.stack([GREY] * 3, -1))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_what_has_no_greatest_value_is_refused(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(dtype)).save(tmp_path / "x.tiff")
    with pytest.raises(
        CalibrationError, match=r"x.tiff: not usable as a picture: required 8 bits a channel, found mode"
    ):
        read_picture(tmp_path / "x.tiff", SPEC)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation: to be turned clockwise
    Image.fromarray(np.rot90(GREY)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", SPEC)[..., 0], GREY)


def test_what_macos_puts_beside_pictures_is_none(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    assert find_pictures(tmp_path) == [tmp_path / "a.png"]
