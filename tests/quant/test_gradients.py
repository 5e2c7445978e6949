"""Gradients are those of the clamped float meaning (paper, section 3.2), derived here anew with torch.nn.functional."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import unfloat
from tests.quant.reference import F64, assert_near, ends, half_away, quantized_weight, rounded
from unfloat.ops import REGISTRY
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student
from unfloat.spec.qparams import QParams

torch.set_num_threads(1)


def narrowed(student: Student, share: float = 0.6) -> Student:
    """Windows smaller than the values, so that some are clamped at either end."""
    student.unfloat.window.mul_(share)
    return student


class Transposed(nn.Conv2d):
    """A transposed convolution whose weight has its output channels first, as other layers have."""

    def __init__(self) -> None:
        super().__init__(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv_transpose2d(x, self.weight.transpose(0, 1), self.bias, 2, 1, 1)


LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "conv": (
        lambda: nn.Conv2d(3, 5, 3, 2, 1),
        (3, 8, 7),
        lambda x, w: functional.conv2d(x, w, None, 2, 1),
    ),
    "depthwise": (
        lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
        (4, 6, 6),
        lambda x, w: functional.conv2d(x, w, None, 1, 1, 1, 4),
    ),
    "grouped": (
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        (4, 6, 5),
        lambda x, w: functional.conv2d(x, w, None, 1, 0, 1, 2),
    ),
    "dilated": (
        lambda: nn.Conv2d(2, 3, 3, dilation=2),
        (2, 7, 8),
        lambda x, w: functional.conv2d(x, w, None, 1, 0, 2),
    ),
    "linear": (lambda: nn.Linear(20, 6), (20,), functional.linear),
    "transposed": (
        lambda: Transposed(),
        (3, 5, 4),
        lambda x, w: functional.conv_transpose2d(x, w.transpose(0, 1), None, 2, 1, 1),
    ),
}
CLAMPS = {"none": (-math.inf, math.inf), "relu6": (0.0, 6.0), "hardtanh": (-0.5, 0.75)}


def channels(values: Tensor, rank: int) -> Tensor:
    return values.reshape(1, -1, *[1] * (rank - 2))


def normalized(norm: nn.Module, mode: str, product: Callable, x: Tensor, p: dict[str, Tensor], scheme: str) -> Tensor:
    """What the layer computes before its clamp: paper, eq. 14 in both readings, and whitepaper, eq. 22 to 31."""
    rank = x.ndim
    axes = tuple(d for d in range(rank) if d != 1)
    mean, variance = norm.running_mean.to(F64), norm.running_var.to(F64)
    if mode == "batch":
        raw = product(x, p["weight"]) + channels(p["bias"], rank)
        mean, variance = raw.mean(axes), raw.var(axes, correction=0)
    gain = p["gamma"] / torch.sqrt(variance + norm.eps)
    folded = quantized_weight(p["weight"] * gain.reshape(-1, *[1] * (p["weight"].ndim - 1)), 0, scheme)
    if mode != "correct":
        return product(x, folded) + channels((p["bias"] - mean) * gain + p["beta"], rank)
    raw = product(x, folded) / channels(gain, rank) + channels(p["bias"], rank)
    centred = (raw - raw.mean(axes, keepdim=True)) / torch.sqrt(raw.var(axes, correction=0, keepdim=True) + norm.eps)
    return centred * channels(p["gamma"], rank) + channels(p["beta"], rank)


@pytest.mark.parametrize("mode", ["none", "frozen", "average", "correct", "batch"])
@pytest.mark.parametrize("kind", LINEAR)
def test_linear_layers(kind: str, mode: str) -> None:
    make, shape, product = LINEAR[kind]
    scheme = ("int8", "uint8")[(len(kind) + len(mode)) % 2]
    name, (low, high) = list(CLAMPS.items())[(len(kind) + len(mode)) % 3]
    torch.manual_seed(len(kind))
    layer, count = make(), 9
    out = layer.weight.shape[0]
    norm = nn.BatchNorm1d(out) if kind == "linear" else nn.BatchNorm2d(out)
    nn.init.normal_(norm.weight, std=2)
    nn.init.normal_(norm.bias)
    clamp = {"none": nn.Identity(), "relu6": nn.ReLU6(), "hardtanh": nn.Hardtanh(low, high)}[name]
    model = nn.Sequential(layer, clamp) if mode == "none" else nn.Sequential(layer, norm, clamp)
    for _ in range(10):
        model.train()(torch.randn(count, *shape))
    training = Training(norm="correct" if mode in ("none", "frozen") else mode)
    x = torch.randn(count, *shape, requires_grad=True)
    student = narrowed(unfloat.prepare(model, x.detach(), unfloat.Recipe(scheme, training=training), progress=False))
    student.freeze_norm(mode == "frozen")
    own = student.get_submodule("1")
    labels = student.labels()

    named = {"weight": student.get_parameter("0.weight"), "bias": student.get_parameter("0.bias")}
    if mode != "none":
        named |= {"gamma": own.weight, "beta": own.bias}
    p = {role: t.detach().to(F64).requires_grad_() for role, t in named.items()}
    given = x.detach().to(F64).requires_grad_()
    entered = rounded(given, labels["input"])
    if mode == "none":
        real = product(entered, quantized_weight(p["weight"], 0, scheme)) + channels(p["bias"], entered.ndim)
    else:
        real = normalized(own, "average" if mode == "frozen" else mode, product, entered, p, scheme)
    expected = real.clamp(*ends(labels["0"], low, high))

    found = student(x)
    assert (found - expected).abs().max() <= labels["0"].scale[0] * 1.01
    towards = torch.randn(found.shape)
    (found * towards).sum().backward()
    (expected * towards.to(F64)).sum().backward()
    assert_near(x.grad, given.grad, "input")
    for role, parameter in named.items():
        if role == "bias" and mode in ("correct", "batch"):  # batch statistics take any bias away again
            assert parameter.grad.abs().max() < 1e-4 * named["beta"].grad.abs().max()
        else:
            # The gain's is a difference of sums in float32 where the statistics are the batch's.
            assert_near(parameter.grad, p[role].grad, role, 4e-6 if mode == "correct" and role == "gamma" else 1e-6)


class Other(NamedTuple):
    """What is computed, the clamp fused into it, the operator that does it; `reference` says what else is rounded."""

    call: Callable[..., Tensor]
    clamp: str
    operator: str
    reference: Callable[..., Tensor] | None = None

    def expected(self, entered: list[Tensor], labels: dict[str, QParams]) -> Tensor:
        if self.reference is None:
            return self.call(*entered)
        return self.reference(lambda x, name: rounded(x, labels[name]), *entered)


def _picked(r: Callable[[Tensor, str], Tensor], a: Tensor, b: Tensor, name: str) -> Tensor:
    """Codes that are equal share the gradient; in float64 they may differ by a rounding."""
    first, second = r(a, name), r(b, name)
    alike = (first - second).abs() < 1e-9
    return torch.where(alike, (first + second) / 2, getattr(torch, name)(first, second))


def _sloped(r: Callable[[Tensor, str], Tensor], a: Tensor) -> Tensor:
    return functional.prelu(a, r(SLOPES.to(F64).reshape(1, 3, 1, 1), "prelu:constant").reshape(-1))


def _swish(r: Callable[[Tensor, str], Tensor], a: Tensor) -> Tensor:
    return a * r(a.sigmoid(), "silu:sigmoid")


SLOPES = torch.tensor([0.2, -0.3, 1.4])
SEVEN = torch.tensor(0.7, dtype=F64)
OTHERS = {
    "add": Other(lambda a, b: a + b, "none", "add"),
    "add relu": Other(lambda a, b: a + b, "relu6", "add"),
    "sub": Other(lambda a, b: a - b, "hardtanh", "sub"),
    "add a constant": Other(lambda a: a + 0.7, "none", "constant", lambda r, a: a + r(SEVEN, "add:constant")),
    "add a mean": Other(
        lambda a, b: a + b.mean(3, keepdim=True),
        "none",
        "add",
        lambda r, a, b: a + r(b.mean(3, keepdim=True), "mean"),
    ),
    "mul hardtanh": Other(lambda a, b: a * b, "hardtanh", "mul"),
    "mul by a constant": Other(lambda a: a * 0.7, "relu6", "mul", lambda r, a: a * r(SEVEN, "mul:constant")),
    "concat": Other(lambda a, b: torch.cat([a, b], 1), "none", "concatenation"),
    "rescale": Other(lambda a, b: torch.cat([a.clamp(min=0.0), b], 1), "none", "rescale"),
    "max pool": Other(lambda a: functional.max_pool2d(a, 3, 2, 1), "none", "max_pool2d"),
    "average pool": Other(
        lambda a: functional.avg_pool2d(a, 3, 2, 1, count_include_pad=False), "none", "average_pool2d"
    ),
    "mean": Other(lambda a: a.mean(3), "none", "mean"),
    "sum": Other(lambda a: a.sum(3), "none", "sum"),
    "softmax": Other(lambda a: a.flatten(1).softmax(1), "none", "softmax"),
    "log of softmax": Other(lambda a: a.flatten(1).log_softmax(1), "none", "log_softmax"),
    "normalized": Other(lambda a: functional.normalize(a.flatten(1), dim=1), "none", "l2_normalization"),
    "matmul": Other(lambda a, b: a @ b.mT, "hardtanh", "batch_matmul"),
    "pad": Other(lambda a: functional.pad(a, (1, 0, 2, 1)), "none", "pad"),
    "reshape": Other(lambda a: a.flatten(1), "none", "reshape"),
    "transpose": Other(lambda a: a.permute(0, 2, 1, 3).flatten(1), "none", "transpose"),
    "slice": Other(lambda a: a[:, 1:, ::2], "none", "slice"),
    "flip": Other(lambda a: a.flip(2), "none", "slice"),
    "gather": Other(lambda a: functional.interpolate(a, scale_factor=2), "none", "gather"),
    "maximum": Other(lambda a, b: torch.maximum(a, b), "none", "maximum", lambda r, a, b: _picked(r, a, b, "maximum")),
    "minimum": Other(lambda a, b: torch.minimum(a, b), "none", "minimum", lambda r, a, b: _picked(r, a, b, "minimum")),
    "amax": Other(lambda a: a.amax(3), "none", "reduce_max"),
    "amin": Other(lambda a: a.amin(1), "none", "reduce_min"),
    "bilinear": Other(lambda a: functional.interpolate(a, scale_factor=2, mode="bilinear"), "none", "resize_bilinear"),
    "sigmoid": Other(lambda a: a.sigmoid(), "none", "logistic"),
    "tanh": Other(lambda a: a.tanh(), "none", "tanh"),
    "hardswish": Other(lambda a: functional.hardswish(a), "none", "hard_swish"),
    "gelu": Other(lambda a: functional.gelu(a), "none", "gelu"),
    "gelu by tanh": Other(lambda a: functional.gelu(a, approximate="tanh"), "none", "gelu"),
    "silu": Other(lambda a: functional.silu(a), "none", "logistic", _swish),
    "leaky relu": Other(lambda a: functional.leaky_relu(a, 0.2), "none", "leaky_relu"),
    "leaky relu6": Other(lambda a: functional.leaky_relu(a, -0.4), "relu6", "leaky_relu"),
    "abs": Other(lambda a: a.abs(), "none", "abs"),
    "prelu": Other(lambda a: functional.prelu(a, SLOPES), "hardtanh", "prelu", _sloped),
}
ELSEWHERE = {
    "conv2d",
    "transpose_conv2d",
    "depthwise_conv2d",
    "fully_connected",
    "batch_norm",
    "dropout",
    "still_row",  # tests/quant/test_embedding.py
    "arg_max",
    "lstm",  # tests/quant/test_recurrent.py
    "svdf",  # nothing that PyTorch has
    "take",  # tests/quant/test_embedding.py
}  # LINEAR; no gradient


def test_every_operator_has_a_case() -> None:
    assert {other.operator for other in OTHERS.values()} | ELSEWHERE == set(REGISTRY)


class Call(nn.Module):
    def __init__(self, call: Callable[..., Tensor], clamp: str) -> None:
        super().__init__()
        self.call = call
        self.bounds = None if clamp == "none" else CLAMPS[clamp]

    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        value = self.call(a) if b is None else self.call(a, b)
        return value if self.bounds is None else value.clamp(*self.bounds)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_operators(kind: str) -> None:
    other = OTHERS[kind]
    generator = torch.Generator().manual_seed(len(kind))
    # Distinct values in each plane: a maximum of equal codes has no one gradient.
    planes = [torch.stack([torch.randperm(42, generator=generator) for _ in range(15)]) for _ in range(2)]
    xs = [((p.float() - 21) / (6 + 3 * i)).reshape(5, 3, 7, 6) for i, p in enumerate(planes)]
    xs = [x.requires_grad_() for x in xs[: other.call.__code__.co_argcount]]
    recipe = unfloat.Recipe(("int8", "uint8")[len(kind) % 2])
    model = Call(other.call, other.clamp).train()
    student = unfloat.prepare(model, tuple(x.detach() for x in xs), recipe, progress=False)
    narrowed(student, 1.0 if kind in ("max pool", "amax") else 0.6)
    labels, program = student.labels(), unfloat.convert(student)
    assert other.operator in {node.op for node in student._simulation.graph.nodes}
    given = [x.detach().to(F64).requires_grad_() for x in xs]
    entered = [rounded(g, labels[port.value]) for g, port in zip(given, program.inputs, strict=True)]
    bounds = ends(labels[program.outputs[0].value], *CLAMPS[other.clamp])
    expected = other.expected(entered, labels).clamp(*bounds)
    found = student(*xs)
    towards = torch.randn(found.shape, generator=generator)
    (found * towards).sum().backward()
    (expected * towards.to(F64)).sum().backward()
    for x, g in zip(xs, given, strict=True):
        assert_near(x.grad, g.grad, "input")


def test_before_activations_are_quantized_only_weights_are() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()).train()
    x = torch.randn(4, 3, 6, 6, requires_grad=True)
    recipe = unfloat.Recipe(weight_bits=4, training=Training(start_after=5))
    student = unfloat.prepare(model, x.detach(), recipe, progress=False)
    layer = student.get_submodule("0")
    weight, given = layer.weight.detach().to(F64).requires_grad_(), x.detach().to(F64).requires_grad_()
    expected = functional.conv2d(given, quantized_weight(weight, 0, "int8", 4), layer.bias.to(F64)).clamp(0, 6)
    found = student(x)
    assert (found - expected).abs().max() < 1e-5
    found.square().sum().backward()
    expected.square().sum().backward()
    assert (x.grad - given.grad).abs().max() < 1e-5 * given.grad.abs().max()
    assert (layer.weight.grad - weight.grad).abs().max() < 1e-5 * weight.grad.abs().max()


def test_learned_scales_have_lsqs_gradient() -> None:
    """dr/dS = s - x/S inside, s outside, times 1 / sqrt(N * levels); the parameter is S over where it started."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(30, 8), nn.ReLU()).train()
    x = torch.randn(16, 30)
    recipe = unfloat.Recipe(weight_bits=5, activation_bits=4, training=Training(ranges="learned"))
    student = unfloat.prepare(model, x, recipe, progress=False)
    with torch.no_grad():
        student.unfloat.scale.mul_(0.7)
        student.unfloat.clips[0].fill_(0.6)
    layer, labels = student.get_submodule("0"), student.labels()
    start = {name: label.scale[0] / 0.7 for name, label in labels.items()}
    w, bias = layer.weight.detach().to(F64), layer.bias.detach().to(F64)
    reach = w.abs().amax(1, keepdim=True)
    weight_scale = (0.6 * reach / 15).to(torch.float32).to(F64)
    steps = half_away(w / weight_scale).clamp(-15, 15)
    inner = (w / weight_scale).abs() <= 15

    first, last = labels["input"], labels["0"]
    s, z = first.scale[0], first.zero_point
    codes = half_away(x.to(F64) / s).clamp(first.qmin - z, first.qmax - z)
    inside_x = (x >= ends(first)[0]) & (x <= ends(first)[1])
    real = (codes * s) @ (steps * weight_scale).T + bias
    low, high = ends(last, 0.0)
    out = student.trace(x)["0"].to(F64) - last.zero_point  # the bias is rounded too: not quite `real / S` rounded
    inside = (real >= low) & (real <= high)

    towards = torch.randn(16, 8, dtype=F64)
    (student(x) * towards).sum().backward()
    share = 1 / math.sqrt(8 * 15)
    expected = (towards * (out - real / last.scale[0] * inside)).sum() * start["0"] * share
    assert_near(student.unfloat.scale.grad[1], expected, "output scale")
    back = (towards * inside) @ (steps * weight_scale)
    expected = (back * (codes - x / s * inside_x)).sum() * start["input"] / math.sqrt(30 * 15)
    assert_near(student.unfloat.scale.grad[0], expected, "input scale")
    to_weight = (towards * inside).T @ (codes * s)
    missed = (to_weight * (steps - w / weight_scale * inner)).sum(1) * reach[:, 0] / 15 / math.sqrt(30 * 15)
    assert_near(student.unfloat.clips[0].grad, missed, "weight clip")
    assert_near(layer.weight.grad, to_weight * inner, "weight")
    student.freeze_ranges()
    student.zero_grad()
    student(x).sum().backward()
    assert student.unfloat.scale.grad is None or not student.unfloat.scale.grad.any()


def learned(x: Tensor, ratio: Tensor, label: QParams, steps: Tensor, bounds: tuple[float, float]) -> Tensor:
    """LSQ: `steps` of a scale `ratio` times where it started; differentiable in both."""
    scale = ratio * (label.scale[0] / float(ratio.detach()))
    clamped = (x / scale).clamp(*(bound / label.scale[0] for bound in bounds))
    return (clamped + (steps - clamped).detach()) * scale


def learning(model: nn.Module, xs: list[Tensor], training: Training) -> Student:
    """A student whose learned scales have moved, so that values are clamped."""
    recipe = unfloat.Recipe(activation_bits=5, training=training)
    student = unfloat.prepare(model, tuple(x.detach() for x in xs), recipe, progress=False)
    with torch.no_grad():
        student.unfloat.scale.mul_(0.7)
    return student


def assert_scale_gradient(student: Student, site: str, ratio: Tensor, size: int, bound: float = 1e-6) -> None:
    label = student.labels()[site]
    share = 1 / math.sqrt(size * (label.qmax - label.qmin))
    found = student.unfloat.scale.grad[student.unfloat.index[site]]
    assert_near(found[None], ratio.grad[None] * share, f"scale of {site}", bound)


@pytest.mark.parametrize("kind", ["add", "add relu", "mul hardtanh", "mean", "add a mean"])
def test_learned_scales_of_other_operators(kind: str) -> None:
    other = OTHERS[kind]
    generator = torch.Generator().manual_seed(7)
    xs = [torch.randn(5, 3, 7, 6, generator=generator) for _ in range(other.call.__code__.co_argcount)]
    student = learning(Call(other.call, other.clamp).train(), xs, Training(ranges="learned"))
    program, labels = unfloat.convert(student), student.labels()
    name = program.outputs[0].value
    entered = [rounded(x.to(F64), labels[port.value]) for x, port in zip(xs, program.inputs, strict=True)]
    found = student(*xs)
    steps = (found.detach().to(F64) / labels[name].scale[0]).round()
    ratio = torch.tensor(0.7, dtype=F64, requires_grad=True)
    bounds = ends(labels[name], *CLAMPS[other.clamp])
    expected = learned(other.expected(entered, labels), ratio, labels[name], steps, bounds)
    towards = torch.randn(found.shape, generator=generator)
    (found * towards).sum().backward()
    (expected * towards.to(F64)).sum().backward()
    assert_scale_gradient(student, name, ratio, found[0].numel(), 4e-6)


@pytest.mark.parametrize("mode", ["frozen", "average", "correct", "batch"])
def test_learned_scales_behind_norms(mode: str) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU6())
    for _ in range(10):
        model.train()(torch.randn(9, 3, 8, 7))
    x = torch.randn(9, 3, 8, 7)
    student = learning(model, [x], Training(ranges="learned", norm="correct" if mode == "frozen" else mode))
    student.freeze_norm(mode == "frozen")
    labels, own = student.labels(), student.get_submodule("1")
    p = {"weight": student.get_parameter("0.weight"), "bias": student.get_parameter("0.bias"),
         "gamma": own.weight, "beta": own.bias}  # fmt: skip
    p = {role: t.detach().to(F64) for role, t in p.items()}
    entered = rounded(x.to(F64), labels["input"])
    real = normalized(own, "average" if mode == "frozen" else mode, functional.conv2d, entered, p, "int8")
    found = student(x)
    steps = (found.detach().to(F64) / labels["0"].scale[0]).round()
    ratio = torch.tensor(0.7, dtype=F64, requires_grad=True)
    expected = learned(real, ratio, labels["0"], steps, ends(labels["0"], 0.0, 6.0))
    towards = torch.randn(found.shape)
    (found * towards).sum().backward()
    (expected * towards.to(F64)).sum().backward()
    assert_scale_gradient(student, "0", ratio, found[0].numel(), 4e-6)
