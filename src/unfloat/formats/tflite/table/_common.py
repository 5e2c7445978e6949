"""What several families of the table say and read alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unfloat.formats.tflite.activation import Codes
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number, text
from unfloat.formats.tflite.model import Field, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction

Writer = Callable[[Scope, Instruction], None]
Reader = Callable[[Draft, TfOperator], None]


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


def window(draft: Draft, operator: TfOperator, kernel: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Stride and explicit padding (top, left, bottom, right) of an operator that slides windows over an image."""
    require_options(operator)
    image = draft.tensor(operator.inputs[0]).shape[1:3]
    stride = (number(operator, "StrideH", 1), number(operator, "StrideW", 1))
    dilation = (number(operator, "DilationHFactor", 1), number(operator, "DilationWFactor", 1))
    padding = text(operator, "Padding", "SAME")
    if min(*stride, *dilation, *kernel) < 1 or padding not in ("SAME", "VALID"):
        raise UnreadableError(
            f"required strides, dilations and padding of windows, found {stride}, {dilation}, {padding}"
        )
    sides = [_sides(*side, padding) for side in zip(image, kernel, stride, dilation, strict=True)]
    return {"stride": stride, "padding": (sides[0][0], sides[1][0], sides[0][1], sides[1][1])}


def _sides(size: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """Cells before and behind one dimension: SAME's `ceil(size / stride)` windows, the odd cell behind."""
    if padding == "VALID":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def require_operands(operator: TfOperator, least: int, most: int | None = None) -> tuple[str | None, ...]:
    """An operator's operands, None for those left out."""
    found = operator.inputs
    if not least <= len(found) <= (most or least) or len(operator.outputs) != 1:
        raise UnreadableError(f"required {least} to {most or least} operands and one result, found {len(found)}")
    return (*found, *(None for _ in range((most or least) - len(found))))


def require_options(operator: TfOperator) -> None:
    """Raise unless the file says what the public runtimes then make up, each in its own way."""
    if not operator.fields:
        raise UnreadableError("required options, found none")


def require_plain(operator: TfOperator) -> None:
    """Raise unless no activation is fused into an operator whose instruction has no clamp."""
    if text(operator, "FusedActivationFunction", "NONE") != "NONE":
        raise UnreadableError("required no fused activation")
