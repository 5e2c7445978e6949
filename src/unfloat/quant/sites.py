"""Sites: which values share one set of QParams, and where each set is observed or fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unfloat.ir.graph import Graph
from unfloat.ops import REGISTRY
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import InvalidGraphError
from unfloat.spec.qparams import QParams


@dataclass(frozen=True)
class Site:
    """Values that share QParams.

    Attributes:
        name: The value that stands for it: the first one, in graph order.
        values: All of them.
        makers: Those that compute something new, and so are observed; the others only move codes.
        fixed: QParams that an operator's bounded output dictates, or None.
        bits: Activation bits.
    """

    name: str
    values: tuple[str, ...]
    makers: tuple[str, ...]
    fixed: QParams | None
    bits: int


def find_sites(graph: Graph, recipe: Recipe) -> list[Site]:
    """Group the values of a Graph, after all passes, into sites."""
    parent = {name: name for name in graph.shapes()}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    order = {name: i for i, name in enumerate(parent)}
    makers = {port.value for port in graph.inputs}
    joins = {node.name for node in graph.nodes if REGISTRY[node.op].quant.output == "same" and len(node.inputs) > 1}
    fixed: dict[str, QParams] = {}
    for node in graph.nodes:
        record = REGISTRY[node.op].quant
        if record.output == "same":
            for value in node.inputs:
                first, second = sorted((root(value), root(node.name)), key=order.__getitem__)
                parent[second] = first
        else:
            makers.add(node.name)
        if record.output == "fixed":
            fixed[node.name] = record.fixed[recipe.activation_dtype]
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return [_site(values, makers, joins, fixed, recipe) for values in groups.values()]


def _site(values: list[str], makers: set[str], joins: set[str], fixed: Mapping[str, QParams], recipe: Recipe) -> Site:
    """One site. Its bits are wished for what joins its values, or else for what makes them."""
    made = tuple(v for v in values if v in makers)
    dictated = {fixed[v] for v in values if v in fixed}
    if len(dictated) > 1:
        raise InvalidGraphError(f"{', '.join(values)} would share QParams, but two operators dictate different ones")
    asked = [v for v in values if v in joins] or made
    bits = max(recipe.activation_bits_of(v) for v in asked)
    return Site(values[0], tuple(values), made, next(iter(dictated), None), bits)
