"""RESIZE_BILINEAR, and RESIZE_NEAREST_NEIGHBOR read: gathers of rows and of columns."""

from __future__ import annotations

from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import INDEX_BYTES, Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, require_operands
from unfloat.formats.tflite.table.parts import choose
from unfloat.ir.instruction import Instruction
from unfloat.spec.resize import MOST_CELLS, nearest_indices, reads_past_the_end


def _resize_bilinear(scope: Scope, i: Instruction) -> None:
    """Integers in TFLite's int8 kernel alone: TensorFlow Lite Micro has no other, LiteRT's uint8 one blends in float."""
    a, dtype = i.attributes, scope.label(i.name).dtype
    if dtype != "int8":
        raise UnsayableError(f"required int8 codes, which TFLite's kernels resize in integers, found {dtype}")
    corners, centres = bool(a["align_corners"]), bool(a["half_pixel_centers"])
    for source, target in zip(scope.shape(i.inputs[0])[1:3], a["size"], strict=True):
        if reads_past_the_end(source, target, corners, centres):
            raise UnsayableError(f"TFLite's kernel reads past the end of an axis of {source} made one of {target}")
    inputs = (i.inputs[0], scope.numbers(f"{i.name}/size", a["size"]))
    scope.emit("RESIZE_BILINEAR", inputs, i.name, AlignCorners=corners, HalfPixelCenters=centres)


WRITERS = {"resize_bilinear": _resize_bilinear}


def _size(draft: Draft, operator: TfOperator) -> tuple[int, ...]:
    """Rows and columns of the result."""
    source, size = require_operands(operator, 2)
    found = tuple(int(cells) for cells in draft.numbers(size).reshape(-1))
    if len(found) != 2 or not 1 <= min(found) <= max(found) <= MOST_CELLS:
        raise UnreadableError(f"required rows and columns, at most {MOST_CELLS}, found {found}")
    draft.require_same(operator.outputs[0], draft.label(source))
    return found


def _modes(operator: TfOperator) -> tuple[bool, bool]:
    return bool(number(operator, "AlignCorners")), bool(number(operator, "HalfPixelCenters"))


def _read_bilinear(draft: Draft, operator: TfOperator) -> None:
    size, (corners, centres), source = _size(draft, operator), _modes(operator), operator.inputs[0] or ""
    if draft.label(source).dtype == "uint8":
        raise UnreadableError("required int8 or int16 codes, found uint8, which LiteRT's kernel blends in float")
    if corners and centres:
        raise UnreadableError("required one way of placing pixels, found align_corners and half_pixel_centers")
    image = draft.image(source)
    _, rows, columns, _ = draft.tensors[image].shape
    if any(reads_past_the_end(*pair, corners, centres) for pair in zip((rows, columns), size, strict=True)):
        raise UnreadableError(f"TFLite's kernel reads past the end of {rows} x {columns} pixels made {size}")
    attributes = {"size": size, "align_corners": int(corners), "half_pixel_centers": int(centres)}
    draft.define(operator.outputs[0], "resize_bilinear", (image,), attributes)


def _read_nearest(draft: Draft, operator: TfOperator) -> None:
    size, modes = _size(draft, operator), _modes(operator)
    image = draft.image(operator.inputs[0])
    shape = draft.tensors[image].shape
    draft.spend(INDEX_BYTES * sum(size))
    choices = {axis: nearest_indices(shape[axis], size[axis - 1], *modes) for axis in (1, 2)}
    choose(draft, image, operator.outputs[0], choices)


READERS: dict[str, Reader] = {"RESIZE_BILINEAR": _read_bilinear, "RESIZE_NEAREST_NEIGHBOR": _read_nearest}
