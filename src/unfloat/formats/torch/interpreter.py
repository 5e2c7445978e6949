"""Walk an exported graph, call by call, and write the Graph. Problems are collected, not raised."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from unfloat.formats.torch.aliases import Aliases
from unfloat.formats.torch.builder import Builder, Call
from unfloat.formats.torch.operands import (
    INDEX_TYPES,
    RefusedError,
    Value,
    Weight,
    Zeros,
    batch_elsewhere,
    printed,
)
from unfloat.formats.torch.origin import (
    WITHOUT_GRAD,
    aten_name,
    in_place,
    module_path,
    node_name,
    qualified_name,
    source_line,
)
from unfloat.formats.torch.table import CONVERSIONS, HINTS, INDICES, PARAMETRIC, TABLE, TURNING, VIEWS, Handler
from unfloat.formats.torch.turned import is_turned, read_turned, stacked
from unfloat.ir.graph import BATCH, Param, Shape

ANY = "?"  # an extent that depends on values


class Unknown:
    """The result of a call that could not be read: calls on it are skipped in silence."""


class Interpreter:
    """Reads calls in order.

    Attributes:
        build: Where nodes go.
        batch: What torch says for "the batch size": symbols, or a number where the program has a fixed one.
        integers: The inputs that hold plain numbers, and their type.
        frozen: Whether parameters stay as they are, so that what depends on them alone may be computed now.
        problems: One line for each call that cannot be read.
    """

    def __init__(self, training: bool = False, frozen: bool = False) -> None:
        self.build = Builder(training=training)
        self.frozen = frozen
        self.batch: set[str] = set()
        self.integers: dict[str, torch.dtype] = {}
        self.problems: list[str] = []

    def run(self, module: fx.GraphModule, arguments: Sequence[object]) -> list[Any]:
        """Read all calls of a graph; gives what it returns."""
        known: dict[fx.Node, Any] = {}
        aliases = Aliases(module.graph)
        remaining = iter(arguments)
        for node in _living(module.graph):
            if node.op == "placeholder":
                known[node] = next(remaining)
            elif node.op == "get_attr":
                known[node] = getattr(module, node.target)
            elif node.op == "call_function":
                known[node] = self._guarded(node, known, aliases)
            else:
                return [known[arg] if isinstance(arg, fx.Node) else arg for arg in node.args[0]]
        return []

    def _guarded(self, node: fx.Node, known: dict[fx.Node, Any], aliases: Aliases) -> Any:
        """A call's result; a stand-in of the right shape where it cannot be read, so that later problems show too."""
        try:
            return self._call(node, known, aliases)
        except RefusedError as refusal:
            self.report(node, str(refusal), refusal.hint)
            return self._stand_in(node.meta.get("val"))

    def report(self, node: fx.Node, reason: str, hint: str = "") -> None:
        """Note a problem."""
        path, source = module_path(node), source_line(node)
        where = " ".join(part for part in (path, f"({source})" if source else "") if part) or "the model"
        self.problems.append(f"{where}: {qualified_name(node)}: {reason}" + (f"; try: {hint}" if hint else ""))

    def _stand_in(self, meta: Any) -> Any:
        if isinstance(meta, tuple | list):
            return tuple(map(self._stand_in, meta))
        try:
            return Value("?", self.shape_of(meta)) if isinstance(meta, torch.Tensor) else Unknown()
        except RefusedError:
            return Unknown()

    def shape_of(self, tensor: torch.Tensor) -> Shape:
        """An activation's shape, BATCH in front.

        Raises:
            RefusedError: Dimension 0 is not the batch, or another one depends on it.
        """
        shape = self._expected_shape(tensor)
        if shape[0] != BATCH:
            raise batch_elsewhere(shape)
        return shape

    def _expected_shape(self, tensor: torch.Tensor) -> Shape:
        """As `shape_of`; the batch may also be a later axis or share one, where no other extent can be taken for it."""
        extents = [self._extent(extent) for extent in tensor.shape]
        if BATCH not in extents and extents and str(extents[0]) in self.batch:  # a program's fixed size, a number
            extents[0] = BATCH
        shape = tuple(extent for extent in extents if isinstance(extent, int))
        if len(shape) < len(extents) or sum(extent < 0 for extent in shape) != 1:
            raise _no_batch(extents)
        return shape

    def _extent(self, extent: int | torch.SymInt) -> int | str:
        """A number, below 0 if it is so many cells of each sample; else what it is, in words."""
        if isinstance(extent, int):
            return extent
        expression = extent.node.expr
        if expression.is_Integer:  # a size that the model insists on
            return BATCH if str(expression) in self.batch else int(expression)
        words = str(expression)
        for symbol in expression.free_symbols:
            if str(symbol) in self.batch:
                cells = expression / symbol
                if cells.is_Integer:
                    return BATCH * int(cells)
                words = words.replace(str(symbol), "batch")
        return ANY if free_unbacked_symbols(extent) else words

    def _call(self, node: fx.Node, known: dict[fx.Node, Any], aliases: Aliases) -> Any:
        name, meta = aten_name(node), node.meta.get("val")
        if isinstance(meta, torch.SymInt | torch.SymBool | torch.SymFloat | int | bool):
            return meta  # arithmetic on the batch size
        if node.target is operator.getitem:
            return _item(known[node.args[0]], node)
        if name == WITHOUT_GRAD:
            return self._without_grad(node, known)
        arguments = _bound(node, known)
        if name in CONVERSIONS and _stays_integer(node):
            return arguments["x"]
        if in_place(node):
            return self._in_place(node, name, arguments, known, aliases)
        return self._read(node, name, arguments)

    def _without_grad(self, node: fx.Node, known: Mapping[fx.Node, Any]) -> list[Any]:
        """The calls under `torch.no_grad()`, as if it were not there."""
        _, body, *operands = (known[arg] if isinstance(arg, fx.Node) else arg for arg in node.args)
        if any(in_place(inner) for inner in body.graph.nodes):
            raise RefusedError("it writes in place under no_grad", "use the form that gives a new value")
        return self.run(body, operands)

    def _in_place(
        self, node: fx.Node, name: str, arguments: Mapping[str, Any], known: dict[fx.Node, Any], aliases: Aliases
    ) -> Any:
        """Read `x.relu_()` as `relu(x)`, and let every later reader of x see the result."""
        target = arguments.get("x")
        if isinstance(target, Weight):
            if target.param.name.endswith("num_batches_tracked"):
                return target
            if name in VIEWS:  # detach_ and the like
                return self._read(node, name, arguments)
            raise RefusedError(f"forward() changes {target.param.name}, which is not an input")
        aliases.check(node)
        result = known[node.args[0]] = self._read(node, name, arguments)
        return result

    def _read(self, node: fx.Node, name: str, arguments: Mapping[str, Any]) -> Any:
        """Look the operator up, and let its handler write the nodes."""
        operands = [leaf for argument in arguments.values() for leaf in _leaves(argument)]
        handler = TABLE.get(name)
        on_values = any(isinstance(leaf, Value) for leaf in operands)
        tainted = any(isinstance(leaf, Unknown) for leaf in operands)
        taken = VIEWS if all(w.tensor is not None for w in operands if isinstance(w, Weight)) else PARAMETRIC
        converted = _converted(node, name)
        if not on_values and not tainted and (name not in taken or converted) and _is_fixed(node, operands):
            return self._computed(node, arguments)
        if handler is None:
            raise RefusedError("there is no integer operator for it", HINTS.get(name, ""))
        if converted not in (None, torch.float32) and name not in INDICES and not tainted:
            reason = f"values stay float32, found a conversion to {converted}"
            raise RefusedError(reason, "Unfloat chooses the integers itself")
        if tainted:
            return self._stand_in(node.meta.get("val"))
        parameters = [leaf.param.name for leaf in operands if isinstance(leaf, Weight)]
        shape, shapes = self._expected(node, on_values)
        self.build.call = Call(node_name(node, parameters), source_line(node), shape, shapes, _used(node))
        return self._checked(self._handled(name, handler, arguments))

    def _handled(self, name: str, handler: Handler, arguments: Mapping[str, Any]) -> Any:
        """What the handler makes of the call."""
        if any(isinstance(leaf, Zeros) for leaf in _leaves(list(arguments.values()))) and name != "lstm":
            if name in VIEWS:
                return Zeros()
            reason = "zeros of the batch's size are what an LSTM starts from, and no operand"
            raise RefusedError(reason, "x[:, :1] * 0 where a parameter must be given to every sample")
        if name != "select":
            arguments = {role: stacked(self.build, argument) for role, argument in arguments.items()}
        if name in TURNING and is_turned(arguments, _whole_axes(name, arguments)):
            return read_turned(self.build, handler, arguments, TURNING[name])
        return handler(self.build, **arguments)

    def _checked(self, result: Any) -> Any:
        """The result, if it has the shape that torch gives it: a last guard against a wrong reading."""
        expected = self.build.call.shape
        if isinstance(result, Value) and expected is not None and result.shape != expected:
            raise RefusedError(f"Unfloat reads it with a result of shape {result.shape}, torch with {expected}")
        return result

    def _expected(self, node: fx.Node, on_values: bool) -> tuple[Shape | None, tuple[Shape | None, ...]]:
        """The shape that torch gives the call's result, or those of its several results."""
        meta = node.meta.get("val")
        if isinstance(meta, tuple | list):
            return None, tuple(self._expected_one_of_several(one, on_values) for one in meta)
        return self._expected_of(meta, on_values), ()

    def _expected_one_of_several(self, meta: object, on_values: bool) -> Shape | None:
        """None where there is none that can be read: another result may serve."""
        with contextlib.suppress(RefusedError):
            return self._expected_of(meta, on_values)
        return None

    def _expected_of(self, meta: object, on_values: bool) -> Shape | None:
        if not isinstance(meta, torch.Tensor):
            return None
        if on_values:
            return self._expected_shape(meta)
        return tuple(map(int, meta.shape)) if all(isinstance(extent, int) for extent in meta.shape) else None

    def _computed(self, node: fx.Node, arguments: Mapping[str, Any]) -> Any:
        """A call on buffers and constants alone, or on parameters that stay as they are: computed now, once."""

        def tensors(argument: Any) -> Any:
            if isinstance(argument, Weight):
                return argument.value
            return [tensors(item) for item in argument] if isinstance(argument, list | tuple) else argument

        bound = [tensors(argument) for argument in arguments.values()]
        with torch.no_grad():
            result = _positional(node, bound)
        self.build.call = Call(node_name(node), source_line(node))
        return tuple(map(self._kept, result)) if isinstance(result, tuple | list) else self._kept(result)

    def _kept(self, result: object) -> Weight:
        """A computed tensor as a constant."""
        if not isinstance(result, torch.Tensor):
            raise RefusedError("its result is not a tensor")
        array = self.build.array(result.detach().to(torch.float32).cpu().numpy(), "constant")
        return self.constant(array.param.name, result)

    def constant(self, name: str, tensor: torch.Tensor) -> Weight:
        """A constant of the Graph by name."""
        return Weight(Param(name), tuple(tensor.shape), tensor)


def _no_batch(extents: Sequence[int | str]) -> RefusedError:
    """The refusal of a shape that has no batch, two, or an extent that is not known."""
    if ANY in extents:
        reason = f"how many values it gives depends on the values themselves, found {printed(extents)}"
        return RefusedError(reason, "a product with a mask of 0 and 1, or choose after the network")
    if all(isinstance(extent, int) and extent >= 0 for extent in extents):
        reason = f"dimension 0 must be the batch, found {printed(extents)}, whatever the batch"
        return RefusedError(reason, "a result for each sample")
    reason = "dimension 0 must be the batch, of any size, and no other may depend on it"
    return RefusedError(f"{reason}; found {printed(extents)}", "compute each sample from itself alone")


def _living(graph: fx.Graph) -> list[fx.Node]:
    """The placeholders, and what the output depends on: nobody need support a value that nobody reads."""
    wanted: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in wanted or node.op in ("placeholder", "output") or in_place(node):
            wanted.update((node, *node.all_input_nodes))
    return [node for node in graph.nodes if node in wanted]


def _item(whole: Any, node: fx.Node) -> Any:
    """One of several results."""
    if not isinstance(whole, tuple | list):
        return Unknown()
    if whole[node.args[1]] is None and node.users:
        raise RefusedError("its indices are used", "return the values alone")
    return whole[node.args[1]]


def _used(node: fx.Node) -> frozenset[int]:
    """Which of several results are read."""
    return frozenset(user.args[1] for user in node.users if user.target is operator.getitem and user.users)


def _bound(node: fx.Node, known: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """The call's arguments by the schema's names, defaults filled in; the first one, "self" or "input", is "x"."""

    def value(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return known[argument]
        return [value(item) for item in argument] if isinstance(argument, list | tuple) else argument

    schema = getattr(node.target, "_schema", None)
    if schema is None:
        raise RefusedError("there is no integer operator for it")
    given = {argument.name: value(item) for argument, item in zip(schema.arguments, node.args, strict=False)}
    given |= {name: value(item) for name, item in node.kwargs.items()}
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    names = [argument.name for argument in schema.arguments]
    return {"x" if name in ("self", "input") else name: given.get(name, defaults.get(name)) for name in names}


def _positional(node: fx.Node, values: Sequence[Any]) -> Any:
    """Call the operator itself."""
    arguments = node.target._schema.arguments
    positional = [value for value, argument in zip(values, arguments, strict=True) if not argument.kwarg_only]
    named = {argument.name: value for value, argument in zip(values, arguments, strict=True) if argument.kwarg_only}
    return node.target(*positional, **named)


def _leaves(argument: Any) -> list[Any]:
    return [leaf for item in argument for leaf in _leaves(item)] if isinstance(argument, list | tuple) else [argument]


def _whole_axes(name: str, arguments: Mapping[str, Any]) -> int:
    """How many of the last axes a call takes as a whole: in a product with a matrix of parameters one, as a linear layer."""
    last, matrix = TURNING[name], arguments.get("other")
    return 1 if last == 2 and isinstance(matrix, Weight) and len(matrix.shape) == 2 else last


def _stays_integer(node: fx.Node) -> bool:
    """Whether a call makes integers of integers."""
    metas = [other.meta.get("val") for other in (node.args[0], node) if isinstance(other, fx.Node)]
    return all(isinstance(meta, torch.Tensor) and meta.dtype in INDEX_TYPES for meta in metas)


def _converted(node: fx.Node, name: str) -> torch.dtype | None:
    """The type of a call's result where none of its operands has it, or not the only one that counts."""
    types = [
        other.meta["val"].dtype for other in node.all_input_nodes if isinstance(other.meta.get("val"), torch.Tensor)
    ]
    result, counting = node.meta.get("val"), types[:1] if name in VIEWS else types
    return result.dtype if isinstance(result, torch.Tensor) and types and result.dtype not in counting else None


def _is_fixed(node: fx.Node, operands: Sequence[Any]) -> bool:
    """Whether the call gives the same for every input and all through training."""
    random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    sizes = any(isinstance(operand, torch.SymInt | Zeros) for operand in operands)
    trained = any(isinstance(operand, Weight) and operand.value is None for operand in operands)
    return not (random or sizes or trained)
