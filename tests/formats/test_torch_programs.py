"""Models as people write them, on the whole path: read, quantized, and the engine equal to the interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

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
        unfloat.prepare(model, tokens())


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


PRODUCTS = {
    "square": (lambda m, x: torch.square(m.a(x)), 1),
    "power of 2": (lambda m, x: m.a(x) ** 2, 1),
    "power of 2.0": (lambda m, x: torch.pow(m.a(x), 2.0), 1),
    "power of 3": (lambda m, x: m.a(x).pow(3), 2),
    "power of 4": (lambda m, x: m.a(x) ** 4, 2),
    "power of 1": (lambda m, x: m.a(x) ** 1, 0),
    "glu": (lambda m, x: nn.functional.glu(m.a(x)), 1),
    "glu in time": (lambda m, x: nn.functional.glu(m.a(x)[:, :4].transpose(0, 1), 0).transpose(0, 1), 1),
    "GLU of channels": (lambda m, x: nn.GLU(1)(m.a(x)[:, :4]), 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_powers_and_gates_are_products(name: str) -> None:
    torch.manual_seed(8)
    function, products = PRODUCTS[name]
    found = operators(near(Calls(function, a=nn.Linear(24, 24)), tokens()))
    assert found.count("mul") == products
    assert found.count("logistic") == ("glu" in name.lower())


@pytest.mark.parametrize(
    ("function", "found"),
    [(lambda m, x: x.abs() ** 0.5, "0.5"), (lambda m, x: x**-1, "-1"), (lambda m, x: 2**x, "a tensor")],
)
def test_other_powers_are_refused(function: Callable[..., Tensor], found: str) -> None:
    with pytest.raises(unfloat.UnsupportedError, match=f"exponent 1, 2, 3 or 4, found {found}; try: train it with a"):
        unfloat.quantize(Calls(function), [tokens()])


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer, dim=1)


class Standardised(nn.Linear):
    """Its weight's rows have mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return nn.functional.linear(x, weight / (weight.std(1, keepdim=True) * 4 + 1e-5), self.bias)


NORMALISED = {
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(24, 24)),
    "weight norm, older form": lambda: _old_weight_norm(nn.Linear(24, 24)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(24, 24)),
    "standardised": lambda: Standardised(24, 24),
    "adapted": lambda: Calls(
        lambda m, x: nn.functional.linear(x, m.w + m.up @ m.down),
        w=weight(24, 24),
        up=weight(24, 2),
        down=weight(2, 24),
    ),
    "multihead attention of different values": lambda: Calls(
        lambda m, x: m.a(x, x[:, :3], x[:, 1:4])[0], a=nn.MultiheadAttention(24, 4, batch_first=True)
    ),
}


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)


@pytest.mark.parametrize("name", NORMALISED)
def test_weights_computed_from_parameters_are_constants_where_no_training_follows(name: str) -> None:
    torch.manual_seed(9)
    model = Calls(lambda m, x: m.last(m.layer(x).relu()), layer=NORMALISED[name](), last=nn.Linear(24, 6))
    program = near(model, tokens())
    assert operators(program).count("fully_connected") == (2 if "attention" not in name else 5)
    near(model, tokens(), unfloat.Recipe(equalize=True))
    unfloat.compare(model, program, [tokens()])


@pytest.mark.parametrize("name", ["weight norm", "weight norm, older form", "spectral norm"])
def test_weights_computed_from_parameters_are_refused_for_training(name: str) -> None:
    model = Calls(lambda m, x: m.layer(x), layer=NORMALISED[name]())
    for training in (True, False):
        with pytest.raises(unfloat.UnsupportedError, match=r"try: a plain weight.*remove_"):
            unfloat.prepare(model.train(training), tokens())
