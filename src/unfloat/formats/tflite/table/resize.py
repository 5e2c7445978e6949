"""RESIZE_BILINEAR."""

from __future__ import annotations

from unfloat.formats.tflite.builtins import UnsayableError
from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction
from unfloat.spec.resize import reads_past_the_end


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
