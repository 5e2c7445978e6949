"""Does a network compute the same in `train()` and in `eval()`? A student deploys what it trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from inspect import isfunction
from types import CodeType

from torch import nn

from unfloat.ir.graph import Graph, Node
from unfloat.ops import REGISTRY

KNOWN = ("torch", "unfloat")  # whose modules ask for the mode as dropout and batch norm do, which the reader knows


def asks_for_mode(model: nn.Module) -> bool:
    """Whether a class of the user's among a network's modules has code that names `training`.

    A second trace costs as much as the first; only what asks for the mode can compute something else in the other one.
    """
    own = {cls for module in model.modules() for cls in type(module).__mro__ if _is_users(cls)}
    functions = [function for cls in own for function in vars(cls).values() if isfunction(function)]
    return any("training" in (*code.co_names, *code.co_consts) for f in functions for code in _codes(f.__code__))


def _is_users(cls: type) -> bool:
    return cls is not object and cls.__module__.partition(".")[0] not in KNOWN


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def differing(trained: Graph, evaluated: Graph) -> list[str]:
    """What `train()` computes and `eval()` does not, and the other way round; dropout, and where values lie, aside."""
    found = []
    outputs = [", ".join(port.name for port in graph.outputs) for graph in (trained, evaluated)]
    if outputs[0] != outputs[1] or trained.structure != evaluated.structure:
        found.append(f"it returns {_returned(trained)} in train(), {_returned(evaluated)} in eval()")
    for mode, mine, theirs in (("train", trained, evaluated), ("eval", evaluated, trained)):
        alone = _alone(mine, theirs)
        if alone:
            layers = ", ".join(f"{node.name}{f' ({node.source})' if node.source else ''}" for node in alone)
            found.append(f"it computes {layers} in {mode}() alone")
    return found


def _returned(graph: Graph) -> str:
    kind = "a tensor" if graph.structure is None else f"a {graph.structure[0]}"
    return f"{kind} ({', '.join(port.name for port in graph.outputs)})"


def _alone(mine: Graph, theirs: Graph) -> list[Node]:
    """The nodes of a graph that the other has no equal of, whatever their names."""
    left = Counter(_meaning(theirs, node) for node in theirs.nodes)
    alone = []
    for node in mine.nodes:
        operator, meaning = REGISTRY[node.op], _meaning(mine, node)
        left[meaning] -= 1
        if left[meaning] < 0 and operator.noise is None and not operator.moves:
            alone.append(node)
    return alone


def _meaning(graph: Graph, node: Node) -> str:
    """All that a node computes with, as text; constants of the graph's own by what they hold."""
    params = {
        role: (param.views, graph.constants[param.name].tobytes() if param.name in graph.constants else param.name)
        for role, param in sorted(node.params.items())
    }
    return repr((node.op, node.shape, sorted(node.attributes.items()), params, node.norm, node.clamp))
