"""SPACE_TO_DEPTH and DEPTH_TO_SPACE read: blocks of pixels become channels, and back; none become samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.ir.graph import BATCH, Shape

ORDER = (0, 1, 3, 2, 4)  # rows of blocks, columns, rows in a block, cells of such a row: the middle ones change places


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


def _regroup(draft: Draft, operator: TfOperator, image: _Image, split: Sequence[int], shape: Shape) -> None:
    """The image with its axes split, two of them swapped, and joined again to `shape`."""
    output, label = operator.outputs[0], draft.tensors[image.value].qparams
    draft.require_same(output, label)
    parts = draft.reshaped(image.value, (BATCH, *split))
    moved = tuple(draft.tensors[parts].shape[axis] for axis in ORDER)
    swapped = draft.emit("transpose", (parts,), label, moved, {"permutation": ORDER})
    draft.define(output, "reshape", (swapped,), {"shape": shape}, shape=shape)


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


def _refuse_batching(draft: Draft, operator: TfOperator) -> None:
    """What `batching.py` has left."""
    raise UnreadableError(
        "required SPACE_TO_BATCH_ND, one convolution of stride 1 without padding, and BATCH_TO_SPACE_ND of the same block: "
        "a dilated convolution; pixels may not become samples otherwise"
    )


READERS: dict[str, Reader] = {
    "BATCH_TO_SPACE_ND": _refuse_batching,
    "DEPTH_TO_SPACE": _read_depth_to_space,
    "SPACE_TO_BATCH_ND": _refuse_batching,
    "SPACE_TO_DEPTH": _read_space_to_depth,
}
