"""A Graph as text, one aligned line a node, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Port, Shape

# Values that say nothing, left out of the print whichever attribute holds them.
_QUIET: dict[str, Sequence[Any]] = {
    "stride": [(1, 1)],
    "dilation": [(1, 1)],
    "padding": [(0, 0, 0, 0)],
    "groups": [1],
    "keep_dims": [0],
    "channels": [0],
}


def graph_text(graph: Graph) -> str:
    """Print a Graph: inputs, nodes and outputs, a line each."""
    rows = [("input", port.name, _shape(port.shape), _port(port)) for port in graph.inputs]
    rows += [(node.op, node.name, _shape(node.shape), " ".join(_details(node))) for node in graph.nodes]
    rows += [
        ("output", port.name, _shape(port.shape), f"= {port.value} {_port(port)}".rstrip()) for port in graph.outputs
    ]
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _details(node: Node) -> Iterator[str]:
    if node.inputs:
        yield f"({', '.join(node.inputs)})"
    for name, value in node.attributes.items():
        if value not in _QUIET.get(name, ()) and value != node.shape:
            yield f"{name}={_value(value)}"
    yield from _slots(node)


def _slots(node: Node) -> Iterator[str]:
    if "value" in node.params:
        yield node.params["value"].name
    if "bias" in node.params:
        yield "+bias"
    if node.norm is not None:
        yield "+norm"
    if node.clamp is not None:
        yield _clamp(node.clamp)


def _clamp(clamp: Clamp) -> str:
    return f"clamp[{clamp.low:g},{clamp.high:g}]"


def _value(value: Any) -> str:
    return _joined(value, ",") if isinstance(value, tuple) else str(value)


def _shape(shape: Shape) -> str:
    return _joined(("N" if size == BATCH else size for size in shape), "x")


def _joined(values: Iterable[Any], mark: str) -> str:
    return mark.join(map(str, values))


def _port(port: Port) -> str:
    return "" if port.permutation == tuple(range(len(port.shape))) else f"permuted {_value(port.permutation)}"
