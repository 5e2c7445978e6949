"""Push transposes downward until they cancel, vanish into weights, or leave through the border.

Readers of channels-first formats write every image operator as transpose, operator, transpose. This pass walks the
nodes once and keeps transposes pending: each value of the old Graph is known as a view of a value of the new one, and
a transpose is written only where an operator insists on an order that nobody offers. At the border the pending
order becomes the port's permutation; a flattened image in another order goes into the weight of the fully connected
operator that reads it.
"""

from __future__ import annotations

from dataclasses import replace

from unfloat.ir.graph import Graph, Port
from unfloat.passes._edit import Axes, compose, identity, inverse, permuted
from unfloat.passes._pending import Pending, Sinker
from unfloat.passes._sinking import RULES, settle_all


def run(graph: Graph) -> Graph:
    """The Graph with as few transposes as this pass can leave.

    Each input image may be stored as given or channels last: the order that leaves less to do is taken.
    """
    layouts = {port.name: identity(len(port.shape)) for port in graph.inputs}
    best = _sunk(graph, layouts)
    for port in graph.inputs:
        if len(port.shape) > 2:
            changed = {**layouts, port.name: (0, *range(2, len(port.shape)), 1)}
            other = _sunk(graph, changed)
            if _cost(other) < _cost(best):
                layouts, best = changed, other
    return best


def _cost(graph: Graph) -> tuple[int, int]:
    return sum(node.op == "transpose" for node in graph.nodes), len(graph.nodes)


def _sunk(graph: Graph, layouts: dict[str, Axes]) -> Graph:
    sinker = Sinker(graph)
    inputs = [_input(port, layouts[port.name], sinker) for port in graph.inputs]
    for node in graph.nodes:
        RULES.get(node.op, settle_all)(sinker, node)
    outputs = [_output(port, sinker) for port in graph.outputs]
    return replace(graph, inputs=tuple(inputs), nodes=tuple(sinker.nodes.values()), outputs=tuple(outputs))


def _input(port: Port, layout: Axes, sinker: Sinker) -> Port:
    """The input stored in the order `layout`."""
    shape = permuted(port.shape, layout)
    sinker.shapes[port.value] = shape
    sinker.pending[port.value] = Pending(port.value, inverse(layout))
    return replace(port, shape=shape, permutation=compose(port.permutation, layout))


def _output(port: Port, sinker: Sinker) -> Port:
    """The output as it is stored; what is pending becomes the port's permutation."""
    pending = sinker.unfolded(port.value)
    shape = sinker.shapes[pending.value]
    return replace(port, value=pending.value, shape=shape, permutation=compose(pending.axes, port.permutation))
