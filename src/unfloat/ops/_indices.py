"""Which values are plain numbers that choose the rows of tables, and how many rows there are to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unfloat.ir.graph import Node, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY


def rows_by_index(steps: Sequence[Node | Instruction], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Of each value that chooses rows, before and after it moves: the rows of the smallest table it chooses from.

    Args:
        steps: All of a network's, in order.
        shapes: Of all values, by name.
    """
    rows: dict[str, int] = {}
    for step in reversed(steps):
        record = REGISTRY[step.op].quant
        chosen = [(name, rows[step.name]) for name in record.tied(step.inputs) if step.name in rows]
        chosen += [(step.inputs[place], shapes[step.inputs[0]][1]) for place in record.indices]
        for name, count in chosen:
            rows[name] = min(count, rows.get(name, count))
    return rows


def wrong_index(numbers: Any, rows: int) -> str:
    """What to say of an array or a tensor that does not hold the numbers of so many rows; "" where it does."""
    kind = str(numbers.dtype).removeprefix("torch.")
    if not kind.startswith(("int", "uint")):
        return f"required integers, which name rows of a table, found {kind}"
    low, high = (int(numbers.min()), int(numbers.max())) if 0 not in numbers.shape else (0, 0)
    if -rows <= low <= high < rows:
        return ""
    return f"required indices below {rows}, from the end {-rows} and more, found {low} to {high}"
