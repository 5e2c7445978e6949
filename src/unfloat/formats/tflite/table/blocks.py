"""SPACE_TO_DEPTH, DEPTH_TO_SPACE, SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND read: blocks of pixels regrouped, and back.

A Program's batch are samples, and pixels never become some: what a file moves into its leading dimension lies behind
the Program's batch, as an axis of its own. A dilated convolution between the two ends was read as one, see
`batching.py`; operators on single values between them compute with the axis as with any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import BatchTouchedError, Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.ir.graph import BATCH, Shape

ORDER = (0, 1, 3, 2, 4)  # the middle ones of four axes behind the batch change places
RANKS = (3, 4)  # of images that the public kernels cut into blocks


@dataclass(frozen=True)
class _Image:
    """The Program's value of the operator's image, what that measures, and the block's size."""

    value: str
    rows: int
    columns: int
    channels: int
    block: int


def _image(draft: Draft, operator: TfOperator) -> _Image:
    (source,) = require_operands(operator, 1)
    block = number(operator, "BlockSize")
    if block < 1:
        raise UnreadableError(f"required a block of 1 cell or more, found {block}")
    value = draft.image(source)
    rows, columns, channels = draft.tensors[value].shape[1:]
    return _Image(value, rows, columns, channels, block)


def _swapped(draft: Draft, value: str, split: Sequence[int]) -> str:
    """A value cut into four axes, the middle ones changed places; in some shape of as many cells if one of them is 1."""
    _, first, second, _ = split
    if 1 in (first, second):
        return value
    parts = draft.reshaped(value, (BATCH, *split))
    return draft.emit("transpose", (parts,), draft.tensors[value].qparams, {"permutation": ORDER})


def _regroup(draft: Draft, operator: TfOperator, image: _Image, split: Sequence[int], shape: Shape) -> None:
    """The image with its axes split, two of them swapped, and joined again to `shape`."""
    output, label = operator.outputs[0], draft.tensors[image.value].qparams
    draft.require_same(output, label)
    swapped = _swapped(draft, image.value, split)
    draft.define(output, "reshape", (swapped,), {"shape": shape})


def _read_space_to_depth(draft: Draft, operator: TfOperator) -> None:
    image = _image(draft, operator)
    b = image.block
    if image.rows % b or image.columns % b:
        raise UnreadableError(f"required an image of whole blocks of {b}, found {image.rows} x {image.columns}")
    rows, columns = image.rows // b, image.columns // b
    split = (rows, b, columns, b * image.channels)
    _regroup(draft, operator, image, split, (BATCH, rows, columns, b * b * image.channels))


def _read_depth_to_space(draft: Draft, operator: TfOperator) -> None:
    image = _image(draft, operator)
    b, depth = image.block, image.channels // image.block**2
    if depth * b * b != image.channels:
        raise UnreadableError(f"required channels for whole blocks of {b}, found {image.channels}")
    split = (image.rows, image.columns, b, b * depth)
    _regroup(draft, operator, image, split, (BATCH, image.rows * b, image.columns * b, depth))


@dataclass(frozen=True)
class _Batch:
    """Images [images, rows, columns, channels] behind the Program's batch, and how they are cut.

    Attributes:
        value: The Program's.
        images: The file's leading dimension, where that is not the Program's batch; else 1.
        block: Rows and columns of a block; with one spatial dimension the columns are 1.
        borders: Cells before and behind the rows and the columns, to be added or cropped.
    """

    value: str
    images: int
    rows: int
    columns: int
    channels: int
    block: tuple[int, int]
    borders: tuple[tuple[int, int], tuple[int, int]]


def _batch(draft: Draft, operator: TfOperator) -> _Batch:
    source, block, borders = require_operands(operator, 3)
    found = draft.tensor(source).shape
    if len(found) not in RANKS:
        raise UnreadableError(f"required images of rows, columns and channels, or of rows and channels, found {found}")
    leading, *spatial, channels = found
    sizes = [int(size) for size in draft.numbers(block).reshape(-1)]
    pairs = [(int(before), int(behind)) for before, behind in draft.pairs(borders, len(spatial))]
    if len(sizes) != len(spatial) or min(sizes) < 1:
        raise UnreadableError(f"required a block of {len(spatial)} sizes of 1 or more, found {sizes}")
    draft.require_same(operator.outputs[0], draft.label(source))
    if leading > 1 and not draft.lead_of(source):
        raise BatchTouchedError(f"required images beside the batch, found {found}")
    images = leading if draft.lead_of(source) else 1
    rows, columns, *_ = *spatial, 1
    block_rows, block_columns, *_ = *sizes, 1
    top, left, *_ = *pairs, (0, 0)
    return _Batch(draft.operand(source), images, rows, columns, channels, (block_rows, block_columns), (top, left))


def _read_space_to_batch(draft: Draft, operator: TfOperator) -> None:
    """A border of real 0, as LiteRT's; TensorFlow Lite Micro's is of code 0."""
    x = _batch(draft, operator)
    b, c = x.block
    rows, columns = x.rows + sum(x.borders[0]), x.columns + sum(x.borders[1])
    if rows % b or columns % c:
        raise UnreadableError(f"required images of whole blocks of {b} x {c}, found {rows} x {columns}")
    value = x.value
    if any(map(sum, x.borders)):
        value = draft.reshaped(value, (BATCH, x.images, x.rows, x.columns, x.channels))
        paddings = (0, 0, 0, 0, *x.borders[0], *x.borders[1], 0, 0)
        value = draft.emit("pad", (value,), draft.tensors[value].qparams, {"paddings": paddings})
    high, wide = rows // b, columns // c
    value = _swapped(draft, value, (1, x.images * high, b, columns * x.channels))
    value = _swapped(draft, value, (b, x.images * high * wide, c, x.channels))
    draft.alias(operator.outputs[0], value)


def _read_batch_to_space(draft: Draft, operator: TfOperator) -> None:
    x = _batch(draft, operator)
    b, c = x.block
    if x.images % (b * c):
        raise UnreadableError(f"required images for whole blocks of {b} x {c}, found {x.images}")
    images, rows, columns = x.images // (b * c), x.rows * b, x.columns * c
    value = _swapped(draft, x.value, (b, c, images * x.rows * x.columns, x.channels))
    value = _swapped(draft, value, (1, b, images * x.rows, columns * x.channels))
    (top, bottom), (left, right) = x.borders
    size = (BATCH, images, rows - top - bottom, columns - left - right, x.channels)
    if min(size[2:]) < 1:
        raise UnreadableError(f"required crops of less than {rows} x {columns} cells, found {x.borders}")
    if any(map(sum, x.borders)):
        value = draft.reshaped(value, (BATCH, images, rows, columns, x.channels))
        attributes = {"begin": (0, 0, top, left, 0), "stride": (1,) * 5, "size": size}
        value = draft.emit("slice", (value,), draft.tensors[value].qparams, attributes)
    draft.alias(operator.outputs[0], value)


READERS: dict[str, Reader] = {
    "BATCH_TO_SPACE_ND": _read_batch_to_space,
    "DEPTH_TO_SPACE": _read_depth_to_space,
    "SPACE_TO_BATCH_ND": _read_space_to_batch,
    "SPACE_TO_DEPTH": _read_space_to_depth,
}
