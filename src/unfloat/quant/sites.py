"""Sites: which values share one set of QParams, and where each set is observed or fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unfloat.ir.graph import Graph, Node
from unfloat.ops import REGISTRY
from unfloat.ops.comparison import INDICES
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import InvalidGraphError, UnsupportedError
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
        dtype: Storage of the codes, but for what `fixed` says.
    """

    name: str
    values: tuple[str, ...]
    makers: tuple[str, ...]
    fixed: QParams | None
    bits: int
    dtype: str


def find_sites(graph: Graph, recipe: Recipe) -> list[Site]:
    """Group the values of a Graph, after all passes, into sites.

    Raises:
        UnsupportedError: Operators have no meaning on the codes that are wished for them, or on indices; all are named.
    """
    root = _roots(graph)
    groups: dict[str, list[str]] = {}
    for name, first in root.items():
        groups.setdefault(first, []).append(name)
    records = {node.name: REGISTRY[node.op].quant for node in graph.nodes}
    makers = {port.value for port in graph.inputs} | {name for name, r in records.items() if r.output != "same"}
    joins = {node.name for node in graph.nodes if _decides(node)}
    fixed = {name: record.fixed for name, record in records.items() if record.output == "fixed"}
    choosing = {root[node.inputs[place]] for node in graph.nodes for place in records[node.name].indices}
    _require_numbers(graph, {name for first in choosing for name in groups[first]})
    fixed |= dict.fromkeys(choosing, INDICES.fixed)
    bits = {name: _bits(values, makers, joins, recipe) for name, values in groups.items()}
    _require_storages(graph, {name: recipe.storage(bits[first]) for name, first in root.items()})
    return [_site(values, makers, fixed, bits[name], recipe) for name, values in groups.items()]


def _roots(graph: Graph) -> dict[str, str]:
    """Of every value, the first one that it shares QParams with; in graph order."""
    parent = {name: name for name in graph.shapes()}
    order = {name: i for i, name in enumerate(parent)}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        for value in REGISTRY[node.op].quant.tied(node.inputs):
            first, second = sorted((root(value), root(node.name)), key=order.__getitem__)
            parent[second] = first
    return {name: root(name) for name in parent}


def _decides(node: Node) -> bool:
    """Whether a node that makes nothing new has a wish that counts: where values are joined, or looked up."""
    record = REGISTRY[node.op].quant
    return len(record.tied(node.inputs)) > 1 or (record.output == "same" and bool(record.indices))


def _bits(values: list[str], makers: set[str], joins: set[str], recipe: Recipe) -> int:
    """Of one site: wished for what joins its values, or else for what makes them."""
    asked = [v for v in values if v in joins] or [v for v in values if v in makers]
    return max(recipe.activation_bits_of(v) for v in asked)


def _require_storages(graph: Graph, dtypes: Mapping[str, str]) -> None:
    """Raise UnsupportedError with all layers whose operator has no meaning on their codes."""
    missing = {
        _place(node): dtypes[node.name] for node in graph.nodes if dtypes[node.name] not in REGISTRY[node.op].storages
    }
    if missing:
        found = " or ".join(sorted(set(missing.values())))
        other = "give them 8 bits (an override with activation_bits = 8), or " if found == "int16" else ""
        problem = f"these layers have no integer form on {found} codes: {other}leave them out of the model"
        raise UnsupportedError(problem, list(missing))


def _require_numbers(graph: Graph, choosing: set[str]) -> None:
    """Raise UnsupportedError where what chooses rows is computed, or computed with."""
    problems = []
    for node in graph.nodes:
        record = REGISTRY[node.op].quant
        makes = node.name in choosing and record.output != "same" and record is not INDICES
        if makes:
            problems.append(f"{_place(node)} computes indices: take them from the model's inputs, or from argmax")
        elif node.name not in choosing and choosing.intersection(record.values(node.inputs)):
            problems.append(f"{_place(node)} computes with indices: they may only choose")
    if problems:
        raise UnsupportedError("codes stand for real numbers, indices for themselves:", problems)


def _place(node: Node) -> str:
    return f"{node.name} ({node.op}){f', {node.source}' if node.source else ''}"


def _site(
    values: list[str], makers: set[str], fixed: Mapping[str, Mapping[str, QParams]], bits: int, recipe: Recipe
) -> Site:
    dtype = recipe.storage(bits)
    made = tuple(v for v in values if v in makers)
    dictated = {fixed[v][dtype] for v in values if v in fixed}
    if len(dictated) > 1:
        raise InvalidGraphError(f"{', '.join(values)} would share QParams, but two operators dictate different ones")
    return Site(values[0], tuple(values), made, next(iter(dictated), None), bits, dtype)
