"""Make widths structural: a layer's operands have codes as wide as its own.

TFLite's operators take codes of 8 bits or of 16, not of both. Where the recipe wishes 16 bits for a layer and 8 for the
one before it, or the other way round, an explicit `rescale` (TFLite's QUANTIZE) stands between them; of a constant the
layer gets a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unfloat.ir.graph import OPERAND, Graph, Node
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index
from unfloat.passes._edit import fresh
from unfloat.spec.qparams import WIDE_BITS


def run(graph: Graph, bits: Callable[[str], int] = lambda name: 8) -> Graph:
    """The Graph with a rescale wherever a value is read at another width.

    Args:
        graph: After all passes but `share_ranges`, which must know the widths of what it ties, and `remove_dead`.
        bits: The activation bits wished for a value.
    """
    shapes = graph.shapes()
    taken = set(shapes)
    wide = {port.value: bits(port.value) == WIDE_BITS for port in graph.inputs}
    constants = {node.name: node for node in graph.nodes if not node.inputs}
    indices = rows_by_index(graph.nodes, shapes)  # have one width, whatever the recipe wishes
    nodes: list[Node] = []
    for node in graph.nodes:
        operator = REGISTRY[node.op]
        only_moves = operator.quant.output == "same" and len(node.inputs) == 1
        wide[node.name] = wide[node.inputs[0]] if only_moves else bits(node.name) == WIDE_BITS
        inputs = list(node.inputs)
        for i, name in enumerate(inputs):
            if wide[name] != wide[node.name] and not operator.converts and name not in indices:
                inputs[i] = fresh(node.name + OPERAND, taken)
                taken.add(inputs[i])
                rescale = Node(inputs[i], "rescale", (name,), shapes[name])
                nodes.append(replace(constants[name], name=inputs[i]) if name in constants else rescale)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(graph, nodes=tuple(nodes))
