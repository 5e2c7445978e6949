"""Which values of an exported graph share memory, so that writing in place is either followed or refused."""

from __future__ import annotations

from torch import fx

from unfloat.formats.torch.operands import RefusedError


class Aliases:
    """Groups of values that are views of one another, by torch's own schemas."""

    def __init__(self, graph: fx.Graph) -> None:
        self._position = {node: i for i, node in enumerate(graph.nodes)}
        self._root: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) and _may_share(node) else None
            self._root[node] = node if source is None else self._root[source]

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

    def _read_after(self, value: fx.Node, node: fx.Node) -> bool:
        return any(self._position[user] > self._position[node] for user in value.users)


def _may_share(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.op == "call_function"  # getitem: one of several views
    return any(result.alias_info is not None for result in schema.returns)
