"""Models as people write them, on the whole path: read, quantized, and the engine equal to the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unfloat
from tests.formats.test_torch_read import Calls
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.qparams import quantize

WIDE = unfloat.Recipe(scheme="int16x8")


def tokens(batch: int = 6, features: int = 24) -> Tensor:
    return torch.randn(batch, 5, features, generator=torch.Generator().manual_seed(4))


def near(model: nn.Module, inputs: Tensor | Sequence[Tensor], recipe: unfloat.Recipe | None = None) -> Program:
    """Quantize; the engine must give the interpreter's codes, and they must stay near the model's own values."""
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    program = unfloat.quantize(model, [tuple(inputs)], recipe)
    own = [x.permute(port.permutation).numpy() for x, port in zip(inputs, program.inputs, strict=True)]
    codes = [quantize(x, program.tensors[port.value].qparams) for x, port in zip(own, program.inputs, strict=True)]
    engine = program.compile()
    expected, found = interpret(program, codes), engine.run(*codes)
    for one, other in zip(expected, found if isinstance(found, (tuple, list)) else [found], strict=True):
        np.testing.assert_array_equal(one, other)
    with torch.no_grad():
        real = model.eval()(*inputs)
    results = engine(*(x.numpy() for x in inputs))
    for one, other in zip(*([r] if not isinstance(r, (tuple, list)) else r for r in (real, results)), strict=True):
        error = np.square(one.numpy() - other).mean() / one.numpy().var()
        assert error < 0.03, f"noise {error:.3g} of the signal"
    return program


def operators(program: Program) -> list[str]:
    return [instruction.op for instruction in program.instructions]


def _skips(m: Calls, x: Tensor) -> Tensor:
    skips = 0
    for layer in (m.a, m.b):
        x = layer(x).relu()
        skips = skips + x
    return skips


IDENTITIES = {
    "sum of a list": (lambda m, x: sum([m.a(x), m.b(x)]), ["fully_connected"] * 2 + ["add"]),
    "skips": (_skips, ["fully_connected"] * 2 + ["add"]),
    "in place": (lambda m, x: m.a(x).add_(0).mul_(1), ["fully_connected"]),
    "each": (lambda m, x: 1 * (m.a(x) + 0 - 0.0) * 1.0 / 1, ["fully_connected"]),
    "negation": (lambda m, x: 0 - m.a(x), ["fully_connected", "mul"]),
    "batch second": (lambda m, x: (m.a(x.transpose(0, 1)) + 0).transpose(0, 1), ["fully_connected"]),
}


@pytest.mark.parametrize("recipe", [None, WIDE])
@pytest.mark.parametrize("name", IDENTITIES)
def test_numbers_that_change_nothing_are_left_out(name: str, recipe: unfloat.Recipe | None) -> None:
    function, expected = IDENTITIES[name]
    model = Calls(function, a=nn.Linear(24, 24), b=nn.Linear(24, 24))
    assert operators(near(model, tokens(), recipe)) == expected


@pytest.mark.parametrize("recipe", [None, WIDE, unfloat.Recipe(ranges="percentile")])
@pytest.mark.parametrize("number", [0.25, -7.0, 1e-4])
def test_a_number_has_the_label_of_its_own_value(number: float, recipe: unfloat.Recipe | None) -> None:
    program = near(Calls(lambda m, x: x + number), tokens(), recipe)
    assert program.tensors["add:constant"].qparams.scale[0] == pytest.approx(
        abs(number) / (2**15 - 1 if recipe is WIDE else 255), rel=1e-3
    )


def test_a_sum_far_finer_than_an_operand_is_refused_with_what_is_measured() -> None:
    model = Calls(lambda m, x: x + m.nothing, nothing=nn.Parameter(torch.zeros(24)))
    required = (
        r"above 2\^-14 of its operands' greater one: required more than 6.104e-05 \(of 1\), found 4.\d+e-05; try:"
    )
    with pytest.raises(unfloat.NumericDomainError, match=rf"layer add .*{required} leave out an operand .*always 0"):
        unfloat.quantize(model, [tokens() * 0.4], WIDE)
    overrides = (unfloat.Override("add", activation_bits=8),)
    near(model, tokens() * 0.4, unfloat.Recipe(scheme="int16x8", overrides=overrides))


class Heads(nn.Module):
    """Self-attention whose queries, keys and values come from one linear layer, as vision transformers write it."""

    def __init__(self, parts: str) -> None:
        super().__init__()
        self.qkv, self.proj, self.parts = nn.Linear(24, 72), nn.Linear(24, 24), parts

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        if self.parts == "unbind":
            q, k, v = qkv.unbind(0)
        elif self.parts == "unpacking":
            q, k, v = qkv
        elif self.parts == "chunk":
            q, k, v = (part.squeeze(0) for part in qkv.chunk(3))
        elif self.parts == "split":
            q, k, v = (part[0] for part in qkv.split([1, 1, 1]))
        else:
            q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * (width // 4) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, width))


def test_queries_keys_and_values_come_apart_along_an_axis_before_the_batch() -> None:
    torch.manual_seed(5)
    wanted = sorted(operators(near(Heads("select"), tokens())))
    for parts in ("unbind", "unpacking", "chunk", "split"):
        assert sorted(operators(near(Heads(parts), tokens()))) == wanted, parts


def test_the_batch_does_not_come_apart() -> None:
    with pytest.raises(unfloat.UnsupportedError, match=r"aten\.unbind: the batch may not be taken apart"):
        unfloat.quantize(Calls(lambda m, x: torch.stack(x.transpose(0, 1).unbind(1), 1)), [tokens()])


ATTENTIONS = {
    "default": (lambda m, x: m.a(x, x, x)[0], {}),
    "without weights": (lambda m, x: m.a(x, x, x, need_weights=False)[0], {}),
    "with weights": (lambda m, x: m.a(x, x, x), {}),
    "weights of each head": (lambda m, x: m.a(x, x, x, average_attn_weights=False), {"bias": False}),
    "two values": (lambda m, x: m.a(x, x[..., :12], x[..., :8].flip(1))[0], {"kdim": 12, "vdim": 8, "bias": False}),
    "time first": (lambda m, x: (lambda y: m.a(y, y, y)[0].transpose(0, 1))(x.transpose(0, 1)), {"batch_first": False}),
    "time first, a place each": (
        lambda m, x: (lambda y: m.a(y, y, y)[0].transpose(0, 1))(x.transpose(0, 1) + m.places),
        {"batch_first": False},
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_multihead_attention(name: str) -> None:
    torch.manual_seed(6)
    function, options = ATTENTIONS[name]
    attention = nn.MultiheadAttention(24, 4, **{"batch_first": True, **options})  # type: ignore[arg-type]
    program = near(Calls(function, a=attention, places=torch.randn(5, 1, 24)), tokens())
    assert operators(program).count("batch_matmul") == 2


def test_multihead_attention_of_different_values_takes_its_parameters_apart() -> None:
    model = Calls(lambda m, x: m.a(x, x * 0.5, x)[0], a=nn.MultiheadAttention(24, 4, batch_first=True))
    message = r"a \(.*\): aten\.chunk: a parameter may not be taken apart, found a\.in_proj_weight; try: .*nn\.Linear"
    with pytest.raises(unfloat.UnsupportedError, match=message):
        unfloat.quantize(model, [tokens()])


class Block(nn.Module):
    """A layer of a transformer with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(24, 4, batch_first=True), nn.BatchNorm1d(24)
        self.wide, self.narrow = nn.Linear(24, 48), nn.Linear(48, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x)[0]
        rows = self.norm(x.reshape(-1, 24))
        rows = rows + self.narrow(self.wide(rows).relu())
        return rows.view(x.shape[0], -1, 24).mean(1)


def test_a_layer_with_multihead_attention_trains() -> None:
    torch.manual_seed(7)
    near(Block(), tokens())
    student = unfloat.prepare(Block().eval(), tokens(), calibration=[tokens()])
    unfloat.fit(student, [(tokens(), torch.arange(6))], epochs=1, progress=False)
    program = unfloat.convert(student)
    with torch.no_grad():
        expected = student.eval()(tokens()).numpy()
    np.testing.assert_array_equal(program.compile()(tokens().numpy()), expected)
