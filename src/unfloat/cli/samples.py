"""Training data for the command line: arrays or pictures, with labels where there are any."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfloat.cli.data import BATCH, LABEL_NAMES, NO_SPEC, label_name, read_arrays
from unfloat.formats.pictures.read import find_pictures, picture_batches
from unfloat.quant.recipe import InputSpec, Recipe
from unfloat.spec.errors import CalibrationError, RecipeError

LABEL_FILE = "labels.csv"
CALIBRATION = 128  # samples
CLASS_MAX = 999_999_999  # more than any network tells apart


class Samples:
    """Batches of inputs and, if known, labels; in a new order each epoch if shuffled.

    Labels are the array "y", "label" or "labels" of a .npz; in a folder of pictures the rows `file,class` of
    `labels.csv`, or the names of its subfolders, sorted, one a class.

    Attributes:
        labels: [n, ...] integers, or None.
        classes: Subfolder names, where they are the classes; else empty.
    """

    def __init__(self, source: Path, recipe: Recipe, batch: int, shuffle: int | None = None) -> None:
        """Look at the source.

        Args:
            source: A folder of pictures (needs the recipe's [input]), a .npz or a .npy.
            recipe: Says how pictures become inputs.
            batch: Samples a batch. Shuffled, what fills no batch is left out, other samples each epoch.
            shuffle: A seed, or None to keep the order.
        """
        self.source, self.batch, self.shuffle, self.epoch = source, batch, shuffle, 0
        self.labels: np.ndarray | None = None
        self.classes: tuple[str, ...] = ()
        self._arrays: dict[str, np.ndarray] = {}
        self._pictures: list[Path] = []
        self._spec = recipe.input
        if source.is_dir():
            self._look_at_pictures(source)
            self.count = len(self._pictures)
        else:
            self._look_at_arrays(source)
            self.count = len(next(iter(self._arrays.values())))

    def _look_at_arrays(self, source: Path) -> None:
        arrays = read_arrays(source)
        lengths = {len(a) for a in arrays.values()}
        if len(lengths) != 1:
            raise CalibrationError(f"{source}: every array must have as many samples, found {sorted(lengths)}")
        label = label_name(arrays)
        if label is not None:
            self.labels = arrays.pop(label)
            if self.labels.dtype.kind not in "iu":
                raise CalibrationError(f"{source}: labels must be integers, found {label!r} of {self.labels.dtype}")
            self.labels = self.labels.astype(np.int64)
        self._arrays = arrays

    def _look_at_pictures(self, source: Path) -> None:
        if self._spec is None:
            raise RecipeError(f"{source} {NO_SPEC}")
        if (source / LABEL_FILE).is_file():
            self._pictures, self.labels = read_labels(source / LABEL_FILE)
            return
        self._pictures = find_pictures(source)
        folders = [path.relative_to(source).parts[0] if path.parent != source else "" for path in self._pictures]
        classes = sorted(set(folders))
        if len(classes) > 1 and "" not in classes:
            self.classes = tuple(classes)
            self.labels = np.array([classes.index(folder) for folder in folders], np.int64)

    def forget_labels(self) -> None:
        """Go on without labels."""
        self.labels, self.classes = None, ()

    @property
    def resume_plan(self) -> dict[str, Any]:
        """What must be the same for a run that goes on, in plain values."""
        data = {"data": str(self.source.resolve()), "samples": self.count, "labels": self.labels is not None}
        return {**data, "batch": self.batch, "seed": self.shuffle}

    def set_epoch(self, epoch: int) -> None:
        """The order depends on the seed and the epoch alone, so that a run can be gone on with."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many batches there are."""
        whole, rest = divmod(self.count, self.batch)
        return whole + bool(rest and (self.shuffle is None or not whole))

    def __iter__(self) -> Iterator[Any]:
        """One batch after the other."""
        order = np.arange(self.count)
        if self.shuffle is not None:
            order = np.random.default_rng((self.shuffle, self.epoch)).permutation(self.count)
        for number in range(len(self)):
            yield self._batch(order[number * self.batch : (number + 1) * self.batch])

    def _batch(self, chosen: np.ndarray) -> Any:
        inputs = self.inputs(chosen)
        if self.labels is None:
            return inputs
        labels = self.labels[chosen]
        return {**inputs, LABEL_NAMES[0]: labels} if isinstance(inputs, dict) else (inputs, labels)

    def inputs(self, chosen: Sequence[int] | np.ndarray) -> Any:
        """Some samples' inputs: one array, or several by name."""
        if self._pictures:
            assert isinstance(self._spec, InputSpec)
            return next(picture_batches([self._pictures[i] for i in chosen], self._spec, len(chosen)))
        parts = {name: a[np.asarray(chosen)] for name, a in self._arrays.items()}
        return next(iter(parts.values())) if len(parts) == 1 else parts

    def calibration(self) -> list[Any]:
        """Batches of inputs to calibrate with, from all over the data: pictures are often sorted by class."""
        count = min(self.count, CALIBRATION)
        spread = np.arange(count) * self.count // count
        return [self.inputs(spread[start : start + BATCH]) for start in range(0, count, BATCH)]


def read_labels(path: Path) -> tuple[list[Path], np.ndarray]:
    """The pictures and classes of a CSV of `file,class`, files relative to it; a header is passed over.

    Raises:
        CalibrationError: A row is something else, or names a file that does not exist; the file is not UTF-8.
    """
    pictures, labels = [], []
    for number, row in enumerate(_rows(path), 1):
        if not row or (number == 1 and not _is_class(row[-1]) and not (path.parent / row[0].strip()).is_file()):
            continue
        if len(row) != 2 or not _is_class(row[1]):
            required = f"file,class with a class from 0 to {CLASS_MAX}"
            raise CalibrationError(f"{path}:{number}: required {required}, found {','.join(row)[:100]}")
        picture = path.parent / row[0].strip()
        if not picture.is_file():
            raise CalibrationError(f"{path}:{number}: there is no {picture}")
        pictures.append(picture)
        labels.append(int(row[1]))
    if not pictures:
        raise CalibrationError(f"{path}: required at least one row file,class, found none")
    return pictures, np.array(labels, np.int64)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # what spreadsheets save begins with a mark
            return list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CalibrationError(f"{path}: required rows file,class in UTF-8: {error}") from error


def _is_class(text: str) -> bool:
    digits = text.strip()
    return digits.isdecimal() and len(digits) <= len(str(CLASS_MAX)) and int(digits) <= CLASS_MAX
