"""Inputs and outputs of an ExportedProgram as ports, and how outputs are handed back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind
from torch.utils._pytree import TreeSpec

from unfloat.formats.torch.interpreter import Interpreter, Unknown
from unfloat.formats.torch.operands import INDEX_TYPES, RefusedError, Value, Weight, name_of
from unfloat.ir.graph import Graph, Param, Port
from unfloat.ops._indices import rows_by_index

Structure = tuple[str, Any] | None


def read_inputs(program: ExportedProgram, interpreter: Interpreter) -> tuple[tuple[Port, ...], list[Any]]:
    """The ports, and one operand for each placeholder: activations, parameters, constants."""
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    tensors = [
        node.meta["val"]
        for node, spec in zip(placeholders, specs, strict=True)
        if spec.kind is InputKind.USER_INPUT and isinstance(node.meta.get("val"), torch.Tensor)
    ]
    interpreter.batch = {str(tensor.shape[0]) for tensor in tensors if tensor.dim()}
    pairs = zip(placeholders, specs, strict=True)
    operands = [_operand(program, interpreter, spec, node.meta.get("val")) for node, spec in pairs]
    ports = [_port(operand.name, operand) for operand in operands if isinstance(operand, Value)]
    if not ports:
        interpreter.problems.append("the model: it takes no tensor")
    return tuple(ports), operands


def _port(name: str, value: Value) -> Port:
    return Port(name, name_of(value), value.shape, tuple(range(len(value.shape))))


def _operand(program: ExportedProgram, interpreter: Interpreter, spec: InputSpec, meta: Any) -> Any:
    if spec.kind is InputKind.USER_INPUT:
        return spec.arg.value if isinstance(spec.arg, ConstantArgument) else _input(interpreter, spec.arg.name, meta)
    name = str(spec.target)
    if spec.kind is InputKind.PARAMETER:
        return Weight(Param(name), tuple(meta.shape), trained=program.state_dict[name] if interpreter.frozen else None)
    if spec.kind is InputKind.BUFFER:
        tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
        return Weight(Param(name), tuple(tensor.shape), tensor)
    if spec.kind is InputKind.CONSTANT_TENSOR:
        tensor = program.constants[name]
        interpreter.build.constants[name] = tensor.detach().to(torch.float32).cpu().numpy()
        return interpreter.constant(name, tensor)
    return Unknown()


def _input(interpreter: Interpreter, name: str, tensor: torch.Tensor) -> Any:
    """An input of the network."""
    try:
        if tensor.dtype not in (torch.float32, *INDEX_TYPES):
            kinds = "float32, or int64 or int32 that choose the rows of an embedding"
            raise RefusedError(f"an input must be {kinds}, found {tensor.dtype}", "convert it before the model")
        shape = interpreter.shape_of(tensor)
    except RefusedError as refusal:
        interpreter.problems.append(f"input {name}: {_reason(refusal)}")
        return Unknown()
    interpreter.build.taken.add(name)
    if tensor.dtype in INDEX_TYPES:
        interpreter.integers[name] = tensor.dtype
    return Value(name, shape)


def idle_integers(graph: Graph, interpreter: Interpreter) -> Iterator[str]:
    """A problem for each input of integers that chooses no rows: codes stand for real numbers."""
    rows, readers = rows_by_index(graph.nodes, graph.shapes()), graph.readers()
    for name, dtype in interpreter.integers.items():
        if name not in rows:
            found = f"that {readers[name][0]} computes with them" if readers[name] else "that nothing reads them"
            yield f"input {name}: {dtype} must choose the rows of an embedding, found {found}"


def read_outputs(
    program: ExportedProgram, interpreter: Interpreter, results: Sequence[Any]
) -> tuple[tuple[Port, ...], Structure]:
    """The ports, and the structure that the model returns."""
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    mine = [result for result, kind in zip(results, kinds, strict=True) if kind is OutputKind.USER_OUTPUT]
    structure, names = _structure(program.call_spec.out_spec, interpreter)
    ports = [port for name, result in zip(names, mine, strict=False) for port in _output(interpreter, name, result)]
    return tuple(ports), structure


def _output(interpreter: Interpreter, name: str, result: Any) -> Iterator[Port]:
    try:
        if isinstance(result, Value):
            yield _port(name, result)
        elif not isinstance(result, Unknown):
            raise RefusedError("it must be a tensor that depends on the inputs")
    except RefusedError as refusal:
        interpreter.problems.append(f"output {name}: {_reason(refusal)}")


def _reason(refusal: RefusedError) -> str:
    return f"{refusal}; try: {refusal.hint}" if refusal.hint else str(refusal)


def _structure(spec: TreeSpec | None, interpreter: Interpreter) -> tuple[Structure, list[str]]:
    """None and one name, ("tuple" | "list", n), or ("dict", keys). A named tuple is handed back as a tuple."""
    if spec is None or spec.is_leaf():
        return None, ["output"]
    count = spec.num_children
    if not all(child.is_leaf() for child in spec.children()):
        interpreter.problems.append(
            "output: a structure in a structure cannot be handed back; try: return one tuple, list or dict of tensors"
        )
    if isinstance(spec.type, type) and issubclass(spec.type, dict) and len(spec.context) == count:
        keys = tuple(map(str, spec.context))
        return ("dict", keys), list(keys)
    fields = getattr(spec.type, "_fields", None) or getattr(spec.context, "_fields", None)
    names = list(fields) if fields else [f"output_{i}" for i in range(count)]
    return ("list" if spec.type is list else "tuple", count), names
