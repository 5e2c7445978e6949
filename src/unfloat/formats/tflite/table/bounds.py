"""MAXIMUM and MINIMUM with a constant: how TFLite says a clamp that no activation has."""

from __future__ import annotations

from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.draft import Draft
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands


def _read_bound(*, below: bool) -> Reader:
    """A reader of one bound: the same codes, clamped on one side."""

    def read(draft: Draft, operator: TfOperator) -> None:
        source, bound = require_operands(operator, 2)
        if draft.tensor(source).data is not None:
            source, bound = bound, source
        codes = draft.constant(bound)
        name, label = operator.outputs[0], draft.label(source)
        for other in (bound, name):
            draft.require_same(draft.tensor(other).name, label)
        if codes.size != 1:
            raise UnreadableError(f"required one bound for all values, found {codes.shape}")
        code = int(codes.reshape(-1)[0])
        low, high = (code, label.qmax) if below else (label.qmin, code)
        draft.bounded(name, draft.tensor(source).name, low, high)

    return read


READERS: dict[str, Reader] = {"MAXIMUM": _read_bound(below=True), "MINIMUM": _read_bound(below=False)}
