"""TRANSPOSE_CONV."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unfloat.formats.tflite.activation import emit_plain
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft, number, text
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, Writer, clamp_of, require_operands, require_options, strides
from unfloat.formats.tflite.table.linear import read_linear, read_weight, weights_of
from unfloat.ir.instruction import Instruction


@dataclass(frozen=True)
class _Made:
    """One dimension of a transposed convolution: input rows, stride, taps; of the rows made, where the output lies."""

    size: int
    stride: int
    taps: int
    crop: int
    count: int

    @property
    def whole(self) -> int:
        """Rows to make so that the output lies within: VALID's, of which there must be one for each tap."""
        return max(self.crop + self.count, (self.size - 1) * self.stride + self.taps)

    @property
    def same(self) -> bool:
        """Whether SAME crops so."""
        total = max((self.size - 1) * self.stride + self.taps - self.count, 0)
        return -(-self.count // self.stride) == self.size and self.crop == total // 2


def _transpose_conv2d(scope: Scope, i: Instruction) -> None:
    """SAME where that crops alike, else VALID, and a SLICE where that makes too much."""
    weight, a = i.constants["weight"], i.attributes
    sides = zip(scope.shape(i.inputs[0])[1:3], a["stride"], weight.shape[1:3], a["crop"], a["size"], strict=True)
    rows, columns = (_Made(*side) for side in sides)
    same = rows.same and columns.same
    whole = a["size"] if same else (rows.whole, columns.whole)
    target = i.name
    if whole != a["size"]:
        target = scope.between(f"{i.name}/uncropped", i.name, (1, *whole, weight.shape[0]))
    kernel, bias = weights_of(scope, i, weight, i.labels["weight"])
    inputs = (scope.numbers(f"{i.name}/shape", scope.shape(target)), kernel, i.inputs[0], bias)
    emit_plain(scope, "TRANSPOSE_CONV", inputs, target, clamp_of(i), **strides(i, "SAME" if same else "VALID"))
    if target != i.name:
        begin = scope.numbers(f"{i.name}/begin", (0, *a["crop"], 0))
        scope.emit("SLICE", (target, begin, scope.numbers(f"{i.name}/size", scope.shape(i.name))), i.name)


WRITERS: dict[str, Writer] = {"transpose_conv2d": _transpose_conv2d}


def _read_transpose_conv2d(draft: Draft, operator: TfOperator) -> None:
    """The output's shape is the result's own; its operand is not looked at."""
    _, weight, source, bias = require_operands(operator, 3, 4)
    linear = replace(operator, inputs=(source, weight, bias))  # in the order of other linear operators
    codes, label = read_weight(draft, linear, 4, 0)
    require_options(operator)
    value = draft.image(source)
    stride = (number(operator, "StrideH", 1), number(operator, "StrideW", 1))
    size, padding = draft.tensor(operator.outputs[0]).shape[1:], text(operator, "Padding", "SAME")
    if min(stride) < 1 or len(size) != 3 or padding not in ("SAME", "VALID"):
        raise UnreadableError(f"required strides, padding and an image, found {stride}, {padding}, {size}")
    crop = tuple(
        max((-(-rows // step) - 1) * step + taps - rows, 0) // 2 if padding == "SAME" else 0
        for rows, step, taps in zip(size[:2], stride, codes.shape[1:3], strict=True)
    )
    attributes = {"stride": stride, "crop": crop, "size": size[:2]}
    read_linear(draft, linear, value, (codes, label), attributes)


READERS: dict[str, Reader] = {"TRANSPOSE_CONV": _read_transpose_conv2d}
