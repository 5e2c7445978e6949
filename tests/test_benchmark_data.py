"""The benchmarks' pictures: CIFAR-10's public files, ImageNet's crops, augmented batches, and how logits compare."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import data
from benchmarks.measures import compare
from benchmarks.training import imagenet as training
from PIL import Image

RECORD = 3073
STATISTICS = ((127.5,) * 3, (64.0, 32.0, 16.0))


def cifar_files(place: Path, counts: tuple[int, ...] = (2, 1, 3, 1, 2), test: int = 4) -> dict[str, np.ndarray]:
    """Small files of CIFAR-10's binary form; the records of both parts."""
    place.mkdir(parents=True)
    generator = np.random.default_rng(3)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    names = [("train", f"data_batch_{k}.bin", n) for k, n in enumerate(counts, 1)] + [("test", "test_batch.bin", test)]
    for part, name, count in names:
        records = generator.integers(0, 256, (count, RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(place / name)
        parts[part].append(records)
    return {part: np.concatenate(records) for part, records in parts.items()}


@pytest.mark.parametrize("inner", ["cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10", "."])
def test_cifar_of_public_files(inner, tmp_path, monkeypatch):
    root = tmp_path / "data"
    written = cifar_files(root / inner)
    monkeypatch.setenv("UNFLOAT_DATA", str(root))
    for part, count in (("train", 9), ("test", 4)):
        pictures, labels = data.cifar10(part)
        assert pictures.shape == (count, 32, 32, 3)
        assert pictures.dtype == np.uint8
        assert labels.dtype == np.int64
        records = written[part]
        assert np.array_equal(labels, records[:, 0])
        for n, row, column, channel in [(0, 0, 0, 0), (count - 1, 31, 2, 1), (1, 7, 30, 2)]:
            assert pictures[n, row, column, channel] == records[n, 1 + 1024 * channel + 32 * row + column]


@pytest.mark.parametrize("change", [b"", b"\0" * (RECORD - 1), b"\0" * (RECORD + 1)])
def test_a_cifar_file_of_a_wrong_size_is_named(change, tmp_path, monkeypatch):
    cifar_files(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("UNFLOAT_DATA", str(tmp_path))
    (tmp_path / "cifar-10-batches-bin/data_batch_3.bin").write_bytes(change)
    with pytest.raises(ValueError, match=rf"data_batch_3\.bin.* records of 3073 bytes, found {len(change)} bytes"):
        data.cifar10("train")
    assert len(data.cifar10("test")[1]) == 4


def test_a_cifar_file_of_other_classes_is_named(tmp_path, monkeypatch):
    cifar_files(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("UNFLOAT_DATA", str(tmp_path))
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(b"\x0a" + bytes(RECORD - 1))
    with pytest.raises(ValueError, match=r"test_batch\.bin.* 0 to 9, found 10"):
        data.cifar10("test")


def test_a_missing_cifar_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("UNFLOAT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="found neither"):
        data.cifar10("test")
    cifar_files(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin/data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_4\.bin is missing"):
        data.cifar10("train")


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> list[np.ndarray]:
    """Eight smooth pictures of each part, stored without loss and named by UNFLOAT_DATA; those of train1000."""
    made = []
    for name, sizes in (("train1000", [(256, 300), (400, 256)] * 4), ("val650", [(227, 227)] * 8)):
        place = tmp_path / "imagenet" / name
        place.mkdir(parents=True)
        rows = ["file,label"]
        for k, (height, width) in enumerate(sizes):
            y, x = np.mgrid[:height, :width]
            picture = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 20 * k)], 2).astype(np.uint8)
            Image.fromarray(picture).save(place / f"{k}.png")
            rows.append(f"{k}.png,{10 * k}")
            made += [picture] * (name == "train1000")
        (place / "labels.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("UNFLOAT_DATA", str(tmp_path))
    return made


def test_imagenet_crops(pictures):
    crops, labels = data.imagenet("train1000", limit=2)
    assert np.array_equal(crops[0], pictures[0][16:240, 38:262])
    assert np.array_equal(crops[1], pictures[1][88:312, 16:240])
    assert labels.tolist() == [0, 10]
    small, _ = data.imagenet("train1000", limit=2, size=112)
    means = crops.reshape(2, 112, 2, 112, 2, 3).mean((2, 4))
    assert np.abs(small - means)[:, 2:-2, 2:-2].max() <= 1.5
    squashed, _ = data.imagenet("val650", size=128)
    assert squashed.shape == (8, 128, 128, 3)
    assert squashed[0, 64, 0, 0] == pytest.approx(255 * 14 / 227, abs=2)  # 199 of 227 columns are left
    for size in (0, 225):
        with pytest.raises(ValueError, match=f"of {size} pixels"):
            data.imagenet("val650", size=size)


def test_training_batches_depend_on_seed_and_epoch_alone(pictures):
    source = training.ImageNet(32, STATISTICS, batch=3)
    assert source.steps == 2

    def epoch(seed: int, number: int, of: training.ImageNet = source) -> tuple[torch.Tensor, torch.Tensor]:
        xs, ys = zip(*of.train(seed, number), strict=True)
        assert [x.shape for x in xs] == [(3, 3, 32, 32)] * 2
        return torch.cat(xs), torch.cat(ys)

    x, y = epoch(1, 2)
    again, classes = epoch(1, 2, training.ImageNet(32, STATISTICS, batch=3))
    assert torch.equal(x, again)
    assert torch.equal(y, classes)
    assert len(set(y.tolist())) == 6
    for other in (epoch(1, 3), epoch(2, 2)):
        assert not torch.equal(x, other[0])
    blue = torch.round(x[:, 2] * 16 + 127.5)  # 20 k in picture k, whose class is 10 k
    assert torch.equal(blue, (2 * y).float()[:, None, None].expand_as(blue))


def test_augmentation_crops_and_mirrors(pictures):
    generator = np.random.default_rng(0)
    mirrored = 0
    for _ in range(200):
        picture = training.augmented(pictures[0], 16, generator).astype(int)
        red, green = picture[:, :, 0], picture[:, :, 1]
        assert (np.diff(green, axis=0) >= 0).all()
        mirrored += red[0, 0] > red[0, -1]
    assert 70 <= mirrored <= 130
    shares = []
    for _ in range(300):
        top, left, height, width = training.random_crop(256, 300, generator)
        assert min(top, left) >= 0
        assert top + height <= 256
        assert left + width <= 300
        assert 0.73 <= width / height <= 1.36
        shares.append(height * width / (256 * 300))
    assert min(shares) < 0.55
    assert max(shares) > 0.9
    assert min(shares) > 0.495
    assert training.random_crop(10, 1000, generator) == (0, 495, 10, 10)


def test_evaluation_and_calibration(pictures):
    source = training.ImageNet(64, STATISTICS, batch=5)
    expected, labels = data.imagenet("val650", size=64)
    xs, ys = zip(*source.evaluation(), strict=True)
    assert [len(x) for x in xs] == [5, 3]
    assert torch.equal(torch.cat(xs), data.preprocess(expected, *STATISTICS))
    assert torch.cat(ys).tolist() == labels.tolist()
    crops, _ = data.imagenet("train1000", size=64)
    assert torch.equal(torch.cat(source.calibration(4)), data.preprocess(crops[::2], *STATISTICS))
    assert len(torch.cat(source.calibration())) == 8
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 4), torch.nn.Dropout(0.9)).train()
    found = training.logits(model, source)
    assert found.shape == (8, 4)
    assert np.array_equal(found, training.logits(model, source))


def test_measures():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.125, 0.625, 0.25])
    reference = np.log(np.stack([p, p, p, p])) + 3
    found = np.log(np.stack([q, p, p, q])) - 1
    labels = np.array([1, 0, 1, 0])
    agreement = compare(reference, found, labels)
    assert (agreement.top1_float, agreement.top1, agreement.same) == (50, 50, 50)
    assert agreement.divergence == pytest.approx(
        (0.5 * math.log(4) + 0.25 * math.log(0.4)) / 2
    )  # in half of the pictures
    assert agreement.paired_error == pytest.approx(100 * math.sqrt(2 / 3) / 2)
    assert compare(reference, 1.1 * reference, labels).sqnr == pytest.approx(20)
    assert compare(reference, reference, labels).sqnr == math.inf
    with pytest.raises(ValueError, match=r"\(4, 3\), \(3, 3\) and \(4,\)"):
        compare(reference, found[:3], labels)
