"""AVERAGE_POOL_2D, MAX_POOL_2D."""

from __future__ import annotations

from unfloat.formats.tflite.activation import whole_storage
from unfloat.formats.tflite.builtins import UnsayableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.geometry import frame, framed
from unfloat.formats.tflite.model import Field, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, require_operands, strides, window
from unfloat.ir.instruction import Instruction


def _pool(scope: Scope, i: Instruction, builtin: str, source: str, padding: str) -> None:
    height, width = i.attributes["kernel"]
    fields: dict[str, Field] = {**strides(i, padding), "FilterHeight": height, "FilterWidth": width}
    scope.emit(builtin, (source,), i.name, version=None, **fields)


def _max_pool2d(scope: Scope, i: Instruction) -> None:
    """Padding is the lowest code that the storage holds: no maximum is lost to it."""
    lowest = whole_storage(scope.label(i.name)).qmin
    _pool(scope, i, "MAX_POOL_2D", *framed(scope, i, i.attributes["kernel"], lowest))


def _average_pool2d(scope: Scope, i: Instruction) -> None:
    """Padding does not count, so a PAD cannot stand for it."""
    framing = frame(scope, i, i.attributes["kernel"])
    if framing.explicit:
        found = i.attributes["padding"]
        raise UnsayableError(f"required SAME's or VALID's padding, which averages leave out, found {found}; use a pad")
    _pool(scope, i, "AVERAGE_POOL_2D", i.inputs[0], framing.padding)


WRITERS = {"max_pool2d": _max_pool2d, "average_pool2d": _average_pool2d}


def _read_pool(op: str) -> Reader:
    """A reader of a pool. Its activation, which the instruction has not, is a clamp after it."""

    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 1)
        name, label = operator.outputs[0], draft.label(operator.outputs[0])
        draft.require_same(name, draft.label(operator.inputs[0]))
        kernel = (number(operator, "FilterHeight", 1), number(operator, "FilterWidth", 1))
        source = draft.image(operator.inputs[0])
        attributes = {"kernel": kernel, **window(draft, operator, kernel)}
        if not draft.cuts(operator):
            draft.define(name, op, (source,), attributes)
            return
        pooled = draft.emit(op, (source,), label, attributes)
        draft.define(name, "rescale", (pooled,), draft.clamp(operator))

    return read


READERS = {"MAX_POOL_2D": _read_pool("max_pool2d"), "AVERAGE_POOL_2D": _read_pool("average_pool2d")}
