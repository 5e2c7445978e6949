"""Explicit padding in TFLite's words: SAME, VALID, or a PAD before a VALID operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction

Pair = tuple[int, int]


@dataclass(frozen=True)
class Framing:
    """How windows lie on an image.

    Attributes:
        padding: "SAME" or "VALID".
        before, after: Rows and columns that a PAD must add for a VALID operator; none for SAME.
    """

    padding: str
    before: Pair = (0, 0)
    after: Pair = (0, 0)

    @property
    def explicit(self) -> bool:
        """Whether a PAD is needed."""
        return any((*self.before, *self.after))


@dataclass(frozen=True)
class _Side:
    """One dimension: how many cells and windows, stride, a window's span, and the padding in front."""

    size: int
    count: int
    stride: int
    span: int
    before: int

    @property
    def covered(self) -> int:
        """Cells from the first window's start to the last one's end."""
        return (self.count - 1) * self.stride + self.span

    @property
    def after(self) -> int:
        """Padding behind that a window really reaches: cells that none covers need not be written."""
        return max(self.covered - self.before - self.size, 0)

    @property
    def same(self) -> bool:
        """Whether SAME gives these windows: `ceil(size / stride)` of them, the odd cell of padding behind."""
        total = max(self.covered - self.size, 0)
        return self.count == -(-self.size // self.stride) and self.before == total // 2

    @property
    def valid(self) -> bool:
        """Whether VALID gives these windows."""
        return self.before == 0 and self.after == 0


def frame(scope: Scope, i: Instruction, kernel: Pair) -> Framing:
    """Say an instruction's padding; `kernel` is the window's height and width."""
    image, windows = (scope.shape(name)[1:3] for name in (i.inputs[0], i.name))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, i.attributes.get("dilation", (1, 1)), strict=True)]
    before = i.attributes["padding"][:2]
    rows, columns = (_Side(*side) for side in zip(image, windows, i.attributes["stride"], spans, before, strict=True))
    if rows.valid and columns.valid:
        return Framing("VALID")
    if rows.same and columns.same:
        return Framing("SAME")
    return Framing("VALID", (rows.before, columns.before), (rows.after, columns.after))


def framed(scope: Scope, i: Instruction, kernel: Pair, fill: int | None = None) -> tuple[str, str]:
    """The operator's input, padded first if need be, and the padding's name.

    Args:
        scope: The file.
        i: An instruction that slides windows over its input.
        kernel: The window's height and width.
        fill: The code to pad with; None for the code of real 0, which PAD writes by itself.
    """
    framing, name = frame(scope, i, kernel), i.inputs[0]
    if not framing.explicit:
        return name, framing.padding
    pairs = np.array([(0, 0), *zip(framing.before, framing.after, strict=True), (0, 0)])
    shape = tuple(int(size) for size in np.add(scope.shape(name), pairs.sum(axis=1)))
    padded, paddings = scope.between(f"{i.name}/padded", name, shape), scope.numbers(f"{i.name}/paddings", pairs)
    if fill is None:
        scope.emit("PAD", (name, paddings), padded)
    else:
        value = scope.codes(f"{i.name}/fill", [fill], scope.label(name))
        scope.emit("PADV2", (name, paddings, value), padded)
    return padded, framing.padding
