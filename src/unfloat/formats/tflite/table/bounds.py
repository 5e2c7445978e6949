"""MAXIMUM and MINIMUM read: with one constant, how TFLite says a clamp that no activation has; else of two values."""

from __future__ import annotations

from unfloat.formats.tflite.draft import Draft
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.table._common import Reader, require_operands


def _read_bound(*, below: bool) -> Reader:
    """A reader of one bound: the same codes, clamped on one side."""

    def read(draft: Draft, operator: TfOperator) -> None:
        source, bound = require_operands(operator, 2)
        if draft.tensor(source).data is not None:
            source, bound = bound, source
        if draft.tensor(bound).data is None or draft.constant(bound).size != 1:
            _read_pair(draft, operator, "maximum" if below else "minimum")
            return
        name, label = operator.outputs[0], draft.label(source)
        for other in (bound, name):
            draft.require_same(draft.tensor(other).name, label)
        draft.bounded(name, draft.tensor(source).name, draft.constant(bound), below=below)

    return read


def _read_pair(draft: Draft, operator: TfOperator, op: str) -> None:
    """Codes of one meaning compare as they are."""
    output = operator.outputs[0]
    for name in operator.inputs:
        draft.require_same(output, draft.label(name))
    rank = max(len(draft.shape(name)) for name in (*operator.inputs, output))
    draft.define(output, op, [draft.operand(name, rank) for name in operator.inputs], {})


READERS: dict[str, Reader] = {"MAXIMUM": _read_bound(below=True), "MINIMUM": _read_bound(below=False)}
