"""Small `.tflite` files as few converters write them: legal, contradictory or mixed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.generate import generator
from tests.passes.evaluate import evaluate
from tests.peers.call import peer
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.encode import _Encoder, encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.read_float import read
from unfloat.ir.graph import Shape
from unfloat.program.interpret import interpret
from unfloat.runtime.engine import Engine
from unfloat.spec.errors import UnsupportedError

RUNS = 3
LABEL = Quantization((0.05,), 3)
WIDER = Quantization((0.2,), -7)
WEIGHT = Quantization((0.01,))


def codes(name: str, shape: Shape, label: Quantization = LABEL, dtype: str = "int8") -> TfTensor:
    """An activation."""
    return TfTensor(name, shape, dtype, label)


def reals(name: str, shape: Shape, data: object = None) -> TfTensor:
    """A tensor of float32, a constant if there are data."""
    return TfTensor(name, shape, "float32", None, None if data is None else np.full(shape, data, np.float32))


def constant(name: str, shape: Shape, label: Quantization = LABEL, dtype: str = "int8") -> TfTensor:
    """A constant of any codes."""
    ends = np.iinfo(dtype)
    data = generator("constant", name).integers(ends.min, ends.max + 1, shape).astype(dtype)
    return TfTensor(name, shape, dtype, label, data)


def numbers(name: str, values: object, dtype: str = "int32") -> TfTensor:
    """A shape, axes, indices or a bias."""
    data = np.array(values, dtype)
    return TfTensor(name, data.shape, dtype, None, data)


def integers(name: str, shape: Shape) -> TfTensor:
    """Integers that an operator makes."""
    return TfTensor(name, shape, "int32")


def operator(builtin: str, operands: str, results: str, options: str = "", **fields: Any) -> TfOperator:
    """An operator; names with blanks between them, "-" for an operand left out."""
    named = tuple(None if name == "-" else name for name in operands.split())
    return TfOperator(builtin, 1, named, tuple(results.split()), options, fields)


def file(tensors: list[TfTensor], operators: list[TfOperator], outputs: str = "y") -> bytes:
    """The file: its inputs are what nothing makes."""
    made = {name for operator in operators for name in operator.outputs}
    inputs = tuple((t.name, t.name) for t in tensors if t.data is None and t.name not in made)
    ports = tuple((name, name) for name in outputs.split())
    return encode(TfModel({t.name: t for t in tensors}, tuple(operators), inputs, ports), "unusual")


def with_fields(monkeypatch: pytest.MonkeyPatch, table: str, **more: Callable[[_Encoder], Any]) -> None:
    """What is encoded from here on has further fields, or others, in its tables of a name."""
    plain = _Encoder.table

    def changed(self: _Encoder, name: str, **fields: Any) -> int:
        found = {field: value(self) for field, value in more.items()} if name == table else {}
        return plain(self, name, **{**fields, **found})

    monkeypatch.setattr(_Encoder, "table", changed)


def agrees(content: bytes, *runtimes: str) -> list[str]:
    """Interpreter and engine give the public runtimes' codes; the Program's operators."""
    program, model = from_bytes(content), decode(content)
    given = [_any_codes(model.tensors[name]) for _, name in model.inputs]
    expected, engine = [], Engine(program)
    for run in range(RUNS):
        own = [x[run].reshape(-1, *port.shape[1:]) for x, port in zip(given, program.inputs, strict=True)]
        expected.append(interpret(program, own))
        found = engine.run(*own)
        for one, other in zip(found if isinstance(found, tuple) else (found,), expected[-1], strict=True):
            np.testing.assert_array_equal(one, other)
    for runtime in runtimes or ("tflm", "litert"):
        (answer,) = peer(runtime)([(content, given)])
        assert not isinstance(answer, str), answer
        for index, public in enumerate(answer):
            np.testing.assert_array_equal(np.stack([y[index] for y in expected]).reshape(public.shape), public)
    return [instruction.op for instruction in program.instructions]


def refused(content: bytes, reason: str) -> None:
    """Reading names the operator and what is wrong, a regular expression, in the list of problems."""
    with pytest.raises(UnsupportedError) as caught:
        from_bytes(content)
    assert any(re.search(reason, problem) for problem in caught.value.problems), caught.value.problems


def agrees_in_floats(content: bytes, folder: Path) -> None:
    """The Graph of a float file gives LiteRT's real numbers, nearly."""
    path = folder / "unusual.tflite"
    path.write_bytes(content)
    graph, model = read(path), decode(content)
    shapes = [model.tensors[name].shape for _, name in model.inputs]
    given = [generator("unusual", str(i)).normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes)]
    own = [x.reshape(-1, *port.shape[1:]) for x, port in zip(given, graph.inputs, strict=True)]
    (answer,) = peer("litert")([(content, [x[None] for x in given])])
    assert not isinstance(answer, str), answer
    for found, public in zip(evaluate(graph, {}, own), answer, strict=True):
        np.testing.assert_allclose(found.reshape(public.shape), public, atol=1e-5)


def _any_codes(tensor: TfTensor) -> np.ndarray:
    ends = np.iinfo(tensor.dtype)
    return (
        generator("unusual", tensor.name).integers(ends.min, ends.max + 1, (RUNS, *tensor.shape)).astype(tensor.dtype)
    )
