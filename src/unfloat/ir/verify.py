"""Check a Graph against the operators' signatures, between passes: a rewrite that breaks a rule is caught at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from unfloat.ir.graph import BATCH, Attributes, Clamp, Graph, Node, Norm, Param, Port, Shape, View
from unfloat.spec.errors import InvalidGraphError


class AttributeDomain(Protocol):
    """What an attribute may be; `ops.Domain` is one."""

    def allows(self, value: object) -> bool:
        """Whether `value` lies in the domain."""


class Signature(Protocol):
    """What the verifier must know of an operator; `ops.Operator` is one. A Protocol, since `ops` lies above `ir`."""

    @property
    def arity(self) -> tuple[int, int | None]:
        """Least and most number of operands."""

    @property
    def attributes(self) -> Mapping[str, AttributeDomain]:
        """The domain of each attribute."""

    @property
    def optional(self) -> Mapping[str, AttributeDomain]:
        """The domain of each attribute that may be left out."""

    @property
    def slots(self) -> frozenset[str]:
        """Which of "bias", "norm" and "clamp" a node may carry."""

    @property
    def own_bias(self) -> bool:
        """Whether a bias is a parameter as others, which `shape` checks, instead of a slot."""

    def shape(self, attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape], /) -> Shape:
        """The output's shape; raises ValueError with the reason."""


def viewed_shape(shape: Shape, views: Sequence[View]) -> Shape:
    """The shape of a parameter seen through its views.

    Raises:
        ValueError: A view does not fit the shape before it.
    """
    for view in views:
        if view.kind == "permute" and sorted(view.argument) == list(range(len(shape))):
            shape = tuple(shape[axis] for axis in view.argument)
        elif (
            view.kind == "reshape"
            and math.prod(view.argument) == math.prod(shape)
            and min(view.argument, default=1) >= 0
        ):
            shape = view.argument
        else:
            raise ValueError(f"the view {view.kind}{view.argument} does not fit a parameter of shape {shape}")
    return shape


def verify(graph: Graph, operators: Mapping[str, Signature], param_shapes: Mapping[str, Shape]) -> None:
    """Check structure, signatures and shapes of a whole Graph.

    Args:
        graph: The Graph.
        operators: The operator registry.
        param_shapes: The shape of each of the model's parameters and buffers, by name, before views.

    Raises:
        InvalidGraphError: A rule is broken. The message names the node and its source line, what was required, and
            what was found.
    """
    constants = {name: tuple(array.shape) for name, array in graph.constants.items()}
    checker = _Checker(operators, {**param_shapes, **constants})
    for port in graph.inputs:
        checker.check_input(port)
    for node in graph.nodes:
        checker.check_node(node)
    checker.check_outputs(graph.outputs)


class _Checker:
    """Walks the nodes in order and knows the shapes of the values made so far."""

    def __init__(self, operators: Mapping[str, Signature], param_shapes: Mapping[str, Shape]) -> None:
        self.operators = operators
        self.param_shapes = param_shapes
        self.shapes: dict[str, Shape] = {}

    def check_input(self, port: Port) -> None:
        where = f"input {port.name}"
        if port.value != port.name:
            _fail(where, "a value of the same name", repr(port.value))
        if port.name in self.shapes:
            _fail(where, "a unique name", "a second value of that name")
        _check_activation_shape(where, port.shape)
        _check_permutation(where, port)
        self.shapes[port.value] = port.shape

    def check_outputs(self, ports: Sequence[Port]) -> None:
        if not ports:
            _fail("the graph", "at least one output", "none")
        if len({port.name for port in ports}) != len(ports):
            _fail("the graph", "unique output names", ", ".join(port.name for port in ports))
        for port in ports:
            where = f"output {port.name}"
            if port.value not in self.shapes:
                _fail(where, "the name of a value", repr(port.value))
            if port.shape != self.shapes[port.value]:
                _fail(where, f"the shape {self.shapes[port.value]} of {port.value}", str(port.shape))
            _check_activation_shape(where, port.shape)
            _check_permutation(where, port)

    def check_node(self, node: Node) -> None:
        where = f"node {node.name}" + (f" ({node.source})" if node.source else "")
        if node.name in self.shapes:
            _fail(where, "a unique name", "a second value of that name")
        if node.op not in self.operators:
            _fail(where, "a known operator", repr(node.op))
        signature = self.operators[node.op]
        self._check_inputs(where, node, signature)
        _check_attributes(where, node, signature)
        params = {role: self._param_shape(where, role, param) for role, param in node.params.items()}
        self._check_shape(where, node, signature, params)
        self._check_slots(where, node, signature, params)
        self.shapes[node.name] = node.shape

    def _check_inputs(self, where: str, node: Node, signature: Signature) -> None:
        least, most = signature.arity
        if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
            required = f"{least} operands" if least == most else f"{least} to {most or 'any number of'} operands"
            _fail(where, required, str(len(node.inputs)))
        for name in node.inputs:
            if name not in self.shapes:
                _fail(where, "operands made before it", f"the unknown value {name!r}")

    def _param_shape(self, where: str, role: str, param: Param) -> Shape:
        if param.name not in self.param_shapes:
            _fail(where, f"a parameter of the model as its {role}", repr(param.name))
        try:
            return viewed_shape(self.param_shapes[param.name], param.views)
        except ValueError as error:
            _fail(where, f"views that fit its {role}, {param.name}", str(error))

    def _check_shape(self, where: str, node: Node, signature: Signature, params: Mapping[str, Shape]) -> None:
        inputs = [self.shapes[name] for name in node.inputs]
        try:
            derived = signature.shape(node.attributes, inputs, params)
        except KeyError as error:
            _fail(where, f"a parameter {error}", f"only {', '.join(params) or 'none'}")
        except ValueError as error:
            _fail(where, f"operands and attributes that fit {node.op}", str(error))
        if derived != node.shape:
            _fail(where, f"the shape {derived} that {node.op} gives", str(node.shape))
        if any(shape[:1] == (BATCH,) for shape in inputs):
            _check_activation_shape(where, node.shape)

    def _check_slots(self, where: str, node: Node, signature: Signature, params: Mapping[str, Shape]) -> None:
        biased = "bias" in params and not signature.own_bias
        filled = {"bias": biased, "norm": node.norm is not None, "clamp": node.clamp is not None}
        for slot, used in filled.items():
            if used and slot not in signature.slots:
                _fail(where, f"no {slot}, for which {node.op} has no slot", f"a {slot}")
        if biased:
            _check_channels(where, "bias", params["bias"], node.shape)
        if node.norm is not None:
            self._check_norm(where, node.norm, node.shape)
        if node.clamp is not None:
            _check_clamp(where, node.clamp)

    def _check_norm(self, where: str, norm: Norm, shape: Shape) -> None:
        for role, param in norm_params(norm):
            _check_channels(where, f"norm's {role}", self._param_shape(where, f"norm's {role}", param), shape)
        if not 0 <= norm.eps < math.inf:
            _fail(where, "a norm whose eps is finite and not negative", str(norm.eps))


def norm_params(norm: Norm) -> Iterator[tuple[str, Param]]:
    """The parameters of a norm by role, those it has."""
    slots = {"mean": norm.mean, "variance": norm.variance, "weight": norm.weight, "bias": norm.bias}
    yield from ((role, param) for role, param in slots.items() if param is not None)


def _fail(where: str, required: str, found: str) -> NoReturn:
    raise InvalidGraphError(f"{where}: required {required}, found {found}")


def _check_attributes(where: str, node: Node, signature: Signature) -> None:
    given = {name: domain for name, domain in signature.optional.items() if name in node.attributes}
    if set(node.attributes) != {*signature.attributes, *given}:
        required = ", ".join(signature.attributes) or "none"
        _fail(where, f"the attributes of {node.op}: {required}", ", ".join(node.attributes) or "none")
    for name, domain in {**signature.attributes, **given}.items():
        if not domain.allows(node.attributes[name]):
            _fail(where, f"an attribute {name} that is {domain}", repr(node.attributes[name]))


def _check_activation_shape(where: str, shape: Shape) -> None:
    if shape[:1] != (BATCH,) or any(size < 1 for size in shape[1:]):
        _fail(where, "a shape with the batch (-1) in front and positive sizes after it", str(shape))


def _check_permutation(where: str, port: Port) -> None:
    if sorted(port.permutation) != list(range(len(port.shape))) or port.permutation[0] != 0:
        _fail(where, f"a permutation of {len(port.shape)} axes that leaves the batch in front", str(port.permutation))


def _check_channels(where: str, what: str, found: Shape, shape: Shape) -> None:
    if found != shape[-1:]:
        _fail(where, f"a {what} of shape {shape[-1:]}, one value a channel", str(found))


def _check_clamp(where: str, clamp: Clamp) -> None:
    if not clamp.low <= clamp.high:
        _fail(where, "a clamp whose low bound is not above its high one", str(clamp))
