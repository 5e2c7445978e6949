"""What several families of the table say alike."""

from __future__ import annotations

from collections.abc import Callable

from unfloat.formats.tflite.activation import Codes
from unfloat.formats.tflite.model import Field
from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction

Writer = Callable[[Scope, Instruction], None]


def clamp_of(i: Instruction) -> Codes:
    """The instruction's clamp codes."""
    return i.attributes["clamp_min"], i.attributes["clamp_max"]


def strides(i: Instruction, padding: str) -> dict[str, Field]:
    """A window's strides and its padding's name."""
    height, width = i.attributes["stride"]
    return {"Padding": ("Padding", padding), "StrideH": height, "StrideW": width}


def emit_reshape(scope: Scope, source: str, target: str) -> None:
    """A copy in the target's shape."""
    scope.emit("RESHAPE", (source, scope.numbers(f"{target}/shape", scope.shape(target))), target)
