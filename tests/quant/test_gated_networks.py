"""Networks of swishes and gates train, and every copy of what was trained gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from benchmarks.networks.efficientnet import efficientnet_b0
from benchmarks.networks.mobilenet_v3 import mobilenet_v3_small
from torch import nn

import unfloat
from tests.peers.call import peer
from unfloat import _native
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import interpret
from unfloat.spec.qparams import dequantize, quantize

NETWORKS = {
    "mobilenet_v3_small": lambda: mobilenet_v3_small(width=0.5),
    "efficientnet_b0": lambda: efficientnet_b0(width=0.25, depth=2),
}
STEPS = 3


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("mobilenet_v3_small", "int8"), ("efficientnet_b0", "int8"), ("efficientnet_b0", "int16x8")],
)
def test_trained_and_the_same_everywhere(name: str, scheme: str) -> None:
    torch.manual_seed(1)
    model: nn.Module = NETWORKS[name]()
    student = unfloat.prepare(model, torch.randn(8, 3, 32, 32), unfloat.Recipe(scheme), progress=False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    losses = []
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    for _ in range(STEPS):
        loss = functional.cross_entropy(student.train()(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    program = unfloat.convert(student)
    port = program.inputs[0]
    codes = quantize(x[:4].permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    expected = interpret(program, [codes])[0]
    label = program.tensors[program.outputs[0].value].qparams
    assert len(np.unique(expected)) > 8
    with torch.no_grad():
        assert np.array_equal(student.eval()(x[:4]).numpy(), dequantize(expected, label))
    for level in _native.levels():
        assert np.array_equal(program.compile(2, level).run(codes), expected), level
    file = to_bytes(program)
    (answer,) = peer("tflm")([(file, [codes])])
    assert not isinstance(answer, str), answer
    assert np.array_equal(answer[0], expected)
    assert np.array_equal(interpret(from_bytes(file), [codes])[0], expected)


def test_activations_of_16_bits() -> None:
    """Sigmoids are curves then, in the public kernels as well."""
    torch.manual_seed(2)
    model = efficientnet_b0(width=0.25, depth=1).eval()
    batches = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    program = unfloat.quantize(model, batches, unfloat.Recipe("int16x8"))
    port = program.inputs[0]
    codes = quantize(batches[0].permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    expected = interpret(program, [codes])[0]
    for level in _native.levels():
        assert np.array_equal(program.compile(2, level).run(codes), expected), level
    (answer,) = peer("tflm")([(to_bytes(program), [codes])])
    assert not isinstance(answer, str), answer
    assert np.array_equal(answer[0], expected)
