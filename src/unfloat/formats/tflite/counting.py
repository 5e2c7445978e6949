"""Indices that count from the end, said with LESS, ADD and SELECT in front of a GATHER, as Keras writes them.

A Program's `take` counts so by itself: what is below 0 has the table's rows added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unfloat.formats.tflite.draft import number, text
from unfloat.formats.tflite.model import TfModel, TfOperator

SELECTS = ("SELECT", "SELECT_V2")


def undo(model: TfModel) -> TfModel:
    """The model whose GATHERs read what was counted; LESS, ADD and SELECT go where nothing else reads them."""
    makers = {name: operator for operator in model.operators for name in operator.outputs}
    readers, shown = model.readers(), {name for _, name in model.outputs}
    instead: dict[str | None, str] = {}
    for operator in model.operators:
        counted = _counted(model, makers, readers, operator)
        if counted is not None and operator.outputs[0] not in shown:
            instead[operator.outputs[0]] = counted
    if not instead:
        return model
    operators = [o if o.builtin != "GATHER" else _reading(o, instead) for o in model.operators]
    read = {name for o in operators if instead.keys().isdisjoint(o.outputs) for name in o.inputs} | shown
    idle = {name for end in instead for name in (end, *makers[str(end)].inputs[:2])} - read
    return replace(model, operators=tuple(o for o in operators if not o.outputs or not idle.issuperset(o.outputs)))


def _reading(operator: TfOperator, instead: Mapping[str | None, str]) -> TfOperator:
    return replace(operator, inputs=tuple(instead.get(name, name) for name in operator.inputs))


def _counted(
    model: TfModel, makers: Mapping[str, TfOperator], readers: Mapping[str, list[TfOperator]], operator: TfOperator
) -> str | None:
    """The numbers, where the operator is `numbers < 0 ? numbers + rows : numbers` of the rows of all its readers."""
    if operator.builtin not in SELECTS or len(operator.inputs) != 3 or None in operator.inputs:
        return None
    below, added, numbers = (str(name) for name in operator.inputs)
    rows = _constant(model, makers.get(added), "ADD", numbers)
    if rows is None or _constant(model, makers.get(below), "LESS", numbers) != 0:
        return None
    counted = operator.outputs[0] if operator.outputs else ""
    found = readers.get(counted, [])
    return numbers if found and all(_rows(model, reader, counted) == rows for reader in found) else None


def _constant(model: TfModel, operator: TfOperator | None, builtin: str, numbers: str) -> int | None:
    """The one integer that is an operator's second operand, its first being the numbers."""
    if operator is None or operator.builtin != builtin or len(operator.inputs) != 2 or operator.inputs[0] != numbers:
        return None
    if text(operator, "FusedActivationFunction", "NONE") != "NONE":
        return None
    constant = model.tensors[str(operator.inputs[1])] if operator.inputs[1] is not None else None
    data = None if constant is None else constant.data
    return int(data.reshape(-1)[0]) if data is not None and data.size == 1 and data.dtype.kind == "i" else None


def _rows(model: TfModel, operator: TfOperator, counted: str) -> int | None:
    """How many cells the axis of a GATHER has, which reads `counted` as its indices alone."""
    if operator.builtin != "GATHER" or len(operator.inputs) != 2 or operator.inputs[0] in (None, counted):
        return None
    shape, axis = model.tensors[str(operator.inputs[0])].shape, number(operator, "Axis")
    return shape[axis] if -len(shape) <= axis < len(shape) else None
