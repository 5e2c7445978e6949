"""SPACE_TO_DEPTH and DEPTH_TO_SPACE read: blocks of pixels become channels, and back; none become samples."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.ir.graph import BATCH, Shape

ORDER = (0, 1, 3, 2, 4)  # rows of blocks, columns, rows in a block, cells of such a row: the middle ones change places


def _regroup(draft: Draft, operator: TfOperator, split: Sequence[int], shape: Shape) -> None:
    """The image with its axes split, two of them swapped, and joined again to `shape`."""
    (source,) = require_operands(operator, 1)
    output, label = operator.outputs[0], draft.label(source)
    draft.require_same(output, label)
    parts = draft.reshaped(draft.image(source or ""), (BATCH, *split))
    moved = tuple(draft.tensors[parts].shape[axis] for axis in ORDER)
    swapped = draft.emit("transpose", (parts,), label, moved, {"permutation": ORDER})
    draft.define(output, "reshape", (swapped,), {"shape": shape}, shape=shape)


def _block(draft: Draft, operator: TfOperator) -> tuple[int, int, int, int]:
    """Rows, columns and channels of the image, and the block's size."""
    rows, columns, channels = draft.tensor(operator.inputs[0]).shape[-3:]
    size = number(operator, "BlockSize")
    if size < 1:
        raise UnreadableError(f"required a block of 1 cell or more, found {size}")
    return rows, columns, channels, size


def _read_space_to_depth(draft: Draft, operator: TfOperator) -> None:
    rows, columns, channels, b = _block(draft, operator)
    if rows % b or columns % b:
        raise UnreadableError(f"required an image of whole blocks of {b}, found {rows} x {columns}")
    shape = (BATCH, rows // b, columns // b, b * b * channels)
    _regroup(draft, operator, (rows // b, b, columns // b, b * channels), shape)


def _read_depth_to_space(draft: Draft, operator: TfOperator) -> None:
    rows, columns, channels, b = _block(draft, operator)
    if channels % (b * b):
        raise UnreadableError(f"required channels for whole blocks of {b}, found {channels}")
    depth = channels // (b * b)
    _regroup(draft, operator, (rows, columns, b, b * depth), (BATCH, rows * b, columns * b, depth))


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
