"""Which values of an exported graph share memory, so that writing in place is either followed or refused."""

from __future__ import annotations

import operator

from torch import fx

from unfloat.formats.torch.operands import RefusedError
from unfloat.formats.torch.origin import WITHOUT_GRAD, aten_name

_SILENT = frozenset(["alpha_dropout", "dropout", "feature_alpha_dropout", "feature_dropout", "type_as"])
"""Operators that may give their own input and whose schemas do not say so."""


class Aliases:
    """Groups of values that are views of one another, by torch's own schemas."""

    def __init__(self, graph: fx.Graph) -> None:
        self._position = {node: i for i, node in enumerate(graph.nodes)}
        self._root: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            self._root[node] = self._root_of(node)

    def check(self, node: fx.Node) -> None:
        """Check that no other view of what `node` writes into is read after it.

        Raises:
            RefusedError: One is.
        """
        written = node.args[0]
        for other, root in self._root.items():
            shares = isinstance(written, fx.Node) and root is self._root[written] and other not in (written, node)
            if shares and self._position[other] < self._position[node] and self._read_after(other, node):
                reason = "it writes in place into a value that is also read through a view"
                raise RefusedError(reason, "use the form that gives a new value")

    def _root_of(self, node: fx.Node) -> fx.Node:
        """The value that a call's result may be a view of; the call itself where it makes a new one."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not _may_share(node):
            return node
        if node.target is operator.getitem and aten_name(source) == WITHOUT_GRAD:
            return self._root_of_part(source, node.args[1])
        return self._root[source]

    def _root_of_part(self, wrapper: fx.Node, place: object) -> fx.Node:
        """That of one of the results of calls under `torch.no_grad()`, which may be views of what is handed to them."""
        _, body, *operands = wrapper.args
        graph: fx.Graph = getattr(wrapper.graph.owning_module, body.target).graph
        *_, output = graph.nodes
        root = Aliases(graph)._root[output.args[0][place]]
        handed = dict(zip((inner for inner in graph.nodes if inner.op == "placeholder"), operands, strict=True))
        return self._root[handed[root]] if root in handed else root

    def _read_after(self, value: fx.Node, node: fx.Node) -> bool:
        return any(self._position[user] > self._position[node] for user in value.users)


def _may_share(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.op == "call_function"  # getitem: one of several views
    return aten_name(node) in _SILENT or any(result.alias_info is not None for result in schema.returns)
