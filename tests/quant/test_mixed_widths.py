"""Single layers on int16 codes: calibrated or trained, every copy of the network gives the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import unfloat
from tests.formats.c_targets import HOST
from tests.formats.test_c import passes
from tests.peers.call import peer
from unfloat import _native
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.quant.recipe import Training
from unfloat.spec.errors import RecipeError, UnsupportedError
from unfloat.spec.qparams import dequantize, quantize

SHAPE = (3, 10, 8)


class Net(nn.Module):
    """A convolution, and what `call` makes of its value with the other layers."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.norm, self.head, self.call = nn.BatchNorm2d(6), nn.Linear(6, 5), call

    def forward(self, x: Tensor) -> object:
        return self.call(self, self.a(x))


Call = Callable[[Net, Tensor], object]


def classified(m: Net, y: Tensor) -> Tensor:
    return (8 * m.head(y.mean((2, 3)))).softmax(1)


def halved(y: Tensor) -> Tensor:
    return functional.max_pool2d(y, 2)


NETWORKS: dict[str, tuple[Call, str]] = {
    "a convolution between": (lambda m, y: m.head(m.c(m.norm(m.b(y.relu())).relu()).mean((2, 3))), "b"),
    "the first": (lambda m, y: m.b(halved(y).relu()), "a"),
    "the last": (lambda m, y: m.head(y.mean((2, 3))), "head"),
    "the last, and a softmax": (classified, "head"),
    "a softmax": (classified, "softmax"),
    "all but the first": (classified, "[!a]*"),
    "a sum of both widths": (lambda m, y: m.c(y + m.b(y)), "b"),
    "a wide sum": (lambda m, y: m.c(y + m.b(y)), "add"),
    "a wide product by a constant": (lambda m, y: m.b(y * 0.7), "mul"),
    "joined": (lambda m, y: torch.cat([m.b(y), m.c(y)], 1), "b"),
    "joined wide": (lambda m, y: torch.cat([m.b(y), m.c(y)], 1), "cat"),
    "joined behind a pool": (lambda m, y: torch.cat([halved(m.b(y)), halved(m.c(y))], 1), "b"),
    "curves": (lambda m, y: m.c(m.b(y.tanh()).sigmoid()), "*[ht]*"),
    "two outputs": (lambda m, y: (y, m.b(y)), "b"),
    "input and output": (lambda m, y: m.b(y), "*"),
}


def network(name: str) -> tuple[Net, unfloat.Recipe]:
    call, pattern = NETWORKS[name]
    torch.manual_seed(len(name))
    return Net(call), unfloat.Recipe(overrides=(unfloat.Override(pattern, activation_bits=16),))


def widths(program: Program) -> set[str]:
    return {tensor.qparams.dtype for tensor in program.tensors.values()}


def codes_of(program: Program, x: Tensor) -> np.ndarray:
    (port,) = program.inputs
    return quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)


def assert_same_everywhere(program: Program, x: Tensor) -> list[np.ndarray]:
    """Interpreter, engine at every level, TensorFlow Lite Micro, the file read back."""
    codes = codes_of(program, x)
    expected = interpret(program, [codes])
    for level in _native.levels():
        found = program.compile(2, level).run(codes)
        for one, other in zip(found if isinstance(found, (tuple, list)) else [found], expected, strict=True):
            assert np.array_equal(one, other), level
    file = to_bytes(program)
    (answer,) = peer("tflm")([(file, [codes])])
    assert not isinstance(answer, str), answer
    for one, again, other in zip(answer, interpret(from_bytes(file), [codes]), expected, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(again, other)
    return expected


@pytest.mark.parametrize("name", NETWORKS)
def test_calibrated(name: str, tmp_path: Path) -> None:
    model, recipe = network(name)
    batches = [torch.randn(4, *SHAPE) for _ in range(2)]
    program = unfloat.quantize(model.eval(), batches, recipe, progress=False)
    assert widths(program) == ({"int16"} if name == "input and output" else {"int8", "int16"})
    expected = assert_same_everywhere(program, batches[0])
    assert all(len(np.unique(codes)) > 8 for codes in expected)
    program.export(tmp_path, name="net", samples=2)
    passes(tmp_path, HOST, tmp_path)


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_trained(name: str, learned: bool, scheme: str) -> None:
    """Under "int16x8" the layers that are wide under "int8" are those that have 8 bits."""
    model, recipe = network(name)
    training = Training(ranges="learned" if learned else "moving_average")
    bits = 8 if scheme == "int16x8" and name != "input and output" else 16
    overrides = tuple(replace(override, activation_bits=bits) for override in recipe.overrides)
    recipe = unfloat.Recipe(scheme, overrides=overrides, training=training)
    x = torch.randn(4, *SHAPE)
    student = unfloat.prepare(model.train(), x, recipe, progress=False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for _ in range(3):
        out = student.train()(x)
        loss = sum(((o - 1) ** 2).mean() for o in (out if isinstance(out, tuple) else [out]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    program = unfloat.convert(student)
    assert "int16" in widths(program)
    expected = interpret(program, [codes_of(program, x)])
    labels = [program.tensors[port.value].qparams for port in program.outputs]
    real = [dequantize(q, label) for q, label in zip(expected, labels, strict=True)]
    student.freeze_norm()
    student.freeze_ranges()
    for mode in (False, True):
        out = student.train(mode)(x)
        for found, other, port in zip(out if isinstance(out, tuple) else [out], real, program.outputs, strict=True):
            assert np.array_equal(found.detach(), np.transpose(other, port.permutation)), mode
    if not learned:
        assert_same_everywhere(program, x)


def test_a_narrow_layer_among_wide_ones() -> None:
    torch.manual_seed(1)
    recipe = unfloat.Recipe("int16x8", overrides=(unfloat.Override("prelu", activation_bits=8),))
    model, batches = Net(lambda m, y: m.b(functional.prelu(y, m.norm.weight))), [torch.randn(4, *SHAPE)]
    program = unfloat.quantize(model.eval(), batches, recipe, progress=False)
    assert widths(program) == {"int8", "int16"}
    assert_same_everywhere(program, batches[0])
    with pytest.raises(UnsupportedError, match=r"int16 codes: give them 8 bits.*activation_bits = 8(.|\n)*prelu"):
        unfloat.quantize(model, batches, unfloat.Recipe("int16x8"), progress=False)
    with pytest.raises(UnsupportedError, match=r"int16 codes(.|\n)*prelu"):
        overrides = (unfloat.Override("*", activation_bits=16),)
        unfloat.prepare(model, batches[0], unfloat.Recipe(overrides=overrides), progress=False)


def test_wide_codes_need_symmetric_weights() -> None:
    with pytest.raises(
        RecipeError, match=r"override 'head': activation_bits: required scheme = \"int8\".*found 'uint8'"
    ):
        unfloat.Recipe("uint8", overrides=(unfloat.Override("head", activation_bits=16),))


def test_more_bits_are_nearer_to_float() -> None:
    model, recipe = network("the last")
    batches = [torch.randn(8, *SHAPE)]
    expected = model.eval()(batches[0])
    errors = []
    for overrides in ((), recipe.overrides):
        program = unfloat.quantize(model, batches, unfloat.Recipe(overrides=overrides), progress=False)
        found = torch.from_numpy(program.compile()(batches[0].numpy()))
        errors.append(float((found - expected).square().mean()))
    assert errors[1] < errors[0]
