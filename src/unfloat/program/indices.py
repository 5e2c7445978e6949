"""Which values are plain numbers that choose the rows of tables, and how many rows there are to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unfloat.ir.graph import Graph, Node
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.spec.qparams import INDEX


def rows_by_index(network: Graph | Program) -> dict[str, int]:
    """Of each value that chooses rows, before and after it moves: the rows of the smallest table it chooses from."""
    steps: Sequence[Node | Instruction] = network.nodes if isinstance(network, Graph) else network.instructions
    rows: dict[str, int] = {}
    for step in reversed(steps):
        record = REGISTRY[step.op].quant
        chosen = [(name, rows[step.name]) for name in record.tied(step.inputs) if step.name in rows]
        chosen += [(step.inputs[place], _rows(network, step.inputs[0])) for place in record.indices]
        for name, count in chosen:
            rows[name] = min(count, rows.get(name, INDEX.qmax + 1))
    return rows


def _rows(network: Graph | Program, table: str) -> int:
    shapes = network.shapes() if isinstance(network, Graph) else {table: network.tensors[table].shape}
    return shapes[table][1]


def wrong_index(numbers: Any, rows: int) -> str:
    """What to say of integers, an array or a tensor, that do not all name one of so many rows; "" where they do."""
    low, high = (int(numbers.min()), int(numbers.max())) if 0 not in numbers.shape else (0, 0)
    return "" if 0 <= low <= high < rows else f"required indices from 0 to {rows - 1}, found {low} to {high}"
