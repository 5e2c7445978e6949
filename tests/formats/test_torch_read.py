"""The PyTorch reader: each operator means what PyTorch means, before and after the passes."""

from __future__ import annotations

import collections
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from benchmarks.networks import NETWORKS
from torch import Tensor, nn

from tests.passes.evaluate import evaluate, ops, shapes_of
from unfloat.formats.torch.read import read
from unfloat.ir.graph import BATCH, Graph
from unfloat.ir.text import graph_text
from unfloat.passes import prepare
from unfloat.spec.errors import UnsupportedError


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object], **modules: object) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            if isinstance(module, Tensor) and not isinstance(module, nn.Parameter):
                self.register_buffer(name, module)
            else:
                setattr(self, name, module)

    def forward(self, *inputs: Tensor, **named: Tensor) -> object:
        return self.function(self, *inputs, **named)


def parameters_of(model: nn.Module) -> dict[str, np.ndarray]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach().numpy() for name, tensor in named}


def randomized(model: nn.Module) -> nn.Module:
    """Random statistics, so that norms do something."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.data = values.abs() + 0.5 if "var" in name else values
    return model


def check(model: nn.Module, *inputs: Tensor, batch: int = 3, randomize: bool = True) -> Graph:
    """Compare model and Graph, before and after the passes, on another batch size; gives the Graph after them."""
    model = (randomized(model) if randomize else model).eval()
    graph = read(model, inputs)
    assert all(p.permutation == tuple(range(len(p.shape))) for p in (*graph.inputs, *graph.outputs))
    parameters = parameters_of(model)
    prepared = prepare(graph, shapes_of(parameters))
    fed = [torch.randn((batch, *x.shape[1:]), generator=torch.Generator().manual_seed(2)) for x in inputs]
    expected = model(*(x.clone() for x in fed))
    flat = (
        [expected]
        if isinstance(expected, Tensor)
        else list(expected.values() if isinstance(expected, dict) else expected)
    )
    for stage in (graph, prepared):
        found = evaluate(stage, parameters, [x.numpy() for x in fed])
        for one, other in zip(flat, found, strict=True):
            np.testing.assert_allclose(one.detach().numpy(), other, rtol=1e-4, atol=1e-4, err_msg=graph_text(stage))
    return prepared


def image(channels: int = 4, height: int = 9, width: int = 7, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, height, width)


def calls(function: Callable[..., object]) -> Callable[[], nn.Module]:
    return lambda: Calls(lambda self, *inputs: function(*inputs))


CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "no bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "every attribute": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(2, 1), groups=2),
    "same, odd total": lambda: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(1, 1)),
    "same, dilated": lambda: nn.Conv2d(4, 6, 3, padding="same", dilation=2),
    "valid": lambda: nn.Conv2d(4, 6, 3, padding="valid"),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "depthwise, multiplier": lambda: nn.Conv2d(4, 12, 3, stride=2, groups=4),
    "one channel": lambda: nn.Sequential(nn.Conv2d(4, 1, 1), nn.Conv2d(1, 5, 3)),
    "functional": lambda: Calls(
        lambda m, x: functional.conv2d(x, m.w, None, 2, 1), w=nn.Parameter(torch.randn(5, 4, 3, 3))
    ),
    "tied": lambda: (lambda c: nn.Sequential(c, nn.ReLU(), c))(nn.Conv2d(4, 4, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name):
    graph = check(CONVOLUTIONS[name](), image())
    assert set(ops(graph)) <= {"conv2d", "depthwise_conv2d"}
    assert ("depthwise_conv2d" in ops(graph)) == ("depthwise" in name)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": "same"}, {"groups": 2}, {"groups": 4}]
)
def test_convolution_of_a_sequence(options):
    graph = check(
        nn.Sequential(nn.Conv1d(4, 8, 3, **options), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 3, 1)),
        torch.randn(2, 4, 11),
    )
    assert [op for op in ops(graph) if op != "reshape"] == [
        "depthwise_conv2d" if options == {"groups": 4} else "conv2d",
        "conv2d",
    ]
    assert ops(graph).count("reshape") == 2


LINEAR = {
    "plain": lambda: nn.Linear(7, 5),
    "no bias": lambda: nn.Linear(7, 5, bias=False),
    "matmul": lambda: Calls(lambda m, x: x @ m.w, w=nn.Parameter(torch.randn(7, 5))),
    "matmul, transposed": lambda: Calls(lambda m, x: torch.matmul(x, m.w.t()), w=nn.Parameter(torch.randn(5, 7))),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 7), (2, 4, 9, 7)])
def test_linear(name, shape):
    assert ops(check(LINEAR[name](), torch.randn(shape))) == ["fully_connected"]


def test_addmm():
    model = Calls(
        lambda m, x: torch.addmm(m.b, x, m.w), w=nn.Parameter(torch.randn(7, 5)), b=nn.Parameter(torch.randn(5))
    )
    assert ops(check(model, torch.randn(2, 7))) == ["fully_connected"]


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_fuses_into_the_convolution(affine):
    graph = check(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=affine), nn.ReLU6()), image())
    assert ops(graph) == ["conv2d"]
    assert graph.nodes[0].norm is not None
    assert graph.nodes[0].clamp.high == 6


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d, (2, 5)),
        (nn.BatchNorm1d, (2, 5, 6)),
        (nn.BatchNorm2d, (2, 5, 4, 6)),
        (nn.BatchNorm3d, (2, 5, 2, 3, 4)),
    ],
)
def test_batch_norm_alone_becomes_a_depthwise_convolution(norm, shape):
    graph = check(nn.Sequential(norm(5), nn.ReLU()), torch.randn(shape))
    assert ops(graph).count("depthwise_conv2d") == 1
    assert set(ops(graph)) <= {"depthwise_conv2d", "reshape"}


def test_batch_norm_after_linear():
    assert ops(check(nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU()), torch.randn(2, 7))) == [
        "fully_connected"
    ]


def test_cumulative_batch_norm_keeps_its_momentum():
    for training in (False, True):
        graph = read(nn.BatchNorm2d(4, momentum=None), image(), training=training)
        assert [n.norm.momentum for n in graph.nodes if n.norm] == [None]


ACTIVATIONS = {
    "sigmoid": (nn.Sigmoid, ["logistic"]),
    "tanh": (nn.Tanh, ["tanh"]),
    "silu": (nn.SiLU, ["logistic", "mul"]),
    "hardswish": (nn.Hardswish, ["hard_swish"]),
    "hardsigmoid": (nn.Hardsigmoid, ["constant", "add", "constant", "mul"]),
    "gelu": (nn.GELU, ["gelu"]),
    "gelu by tanh": (lambda: nn.GELU("tanh"), ["gelu"]),
    "leaky relu": (lambda: nn.LeakyReLU(0.3), ["leaky_relu"]),
    "leaky relu in place": (lambda: nn.LeakyReLU(-1.5, inplace=True), ["leaky_relu"]),
    "prelu": (nn.PReLU, ["constant", "prelu"]),
    "prelu of channels": (lambda: nn.PReLU(4), ["constant", "prelu"]),
    "abs": (calls(torch.abs), ["abs"]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    make, expected = ACTIVATIONS[name]
    assert ops(check(make(), image())) == expected
    between = check(nn.Sequential(nn.Conv2d(4, 4, 3), make(), nn.Conv2d(4, 2, 1)), image())
    assert "transpose" not in ops(between)
    if name != "prelu of channels":
        check(make(), torch.randn(2, 5))


def test_hard_squeeze_and_excite():
    """A mean of each channel, through 1x1 convolutions, scales the channel."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            share = functional.relu(self.narrow(x.mean((2, 3), keepdim=True)))
            return x * functional.hardsigmoid(self.wide(share))

    found = ops(check(nn.Sequential(nn.Conv2d(4, 4, 3), Block(), nn.Conv2d(4, 2, 1)), image()))
    assert found.count("mul") == 2
    assert "transpose" not in found


TRANSPOSED = {
    "plain": lambda: nn.ConvTranspose2d(4, 3, 2, 2),
    "padded": lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1),
    "output padding": lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
    "pairs": lambda: nn.ConvTranspose2d(4, 3, (3, 2), (2, 3), (1, 0), (1, 2), bias=False),
    "stride 1": lambda: nn.ConvTranspose2d(4, 3, 3, padding=2),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution(name):
    norm = nn.BatchNorm2d(3)
    graph = check(nn.Sequential(nn.Conv2d(4, 4, 1), TRANSPOSED[name](), norm, nn.ReLU6()), image())
    assert ops(graph) == ["conv2d", "transpose_conv2d"]
    assert graph.nodes[1].norm is not None
    assert graph.nodes[1].clamp.high == 6


def test_transposed_convolution_of_a_sequence():
    check(nn.ConvTranspose1d(4, 3, 3, 2, 1, 1), torch.randn(2, 4, 9))


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(4, 4, 2, groups=2), nn.ConvTranspose2d(4, 4, 2, dilation=2)])
def test_transposed_convolution_has_one_group_and_no_dilation(layer):
    with pytest.raises(UnsupportedError, match="one group and dilation 1"):
        read(layer, image())


PRODUCTS = {
    "matmul": (calls(lambda x, y: x @ y), [], (2, 3, 5, 6), (2, 3, 6, 4)),
    "bmm": (calls(torch.bmm), [], (2, 5, 6), (2, 6, 4)),
    "second transposed": (calls(lambda x, y: x @ y.transpose(-1, -2)), [0, 1], (2, 5, 6), (2, 4, 6)),
    "first transposed": (calls(lambda x, y: x.mT @ y), [1, 0], (2, 6, 5), (2, 6, 4)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_values(name):
    model, flags, *shapes = PRODUCTS[name]
    graph = check(model(), *map(torch.randn, shapes))
    assert ops(graph) == ["batch_matmul"]
    assert list(graph.nodes[0].attributes["transpose"]) == (flags or [0, 0])


def test_product_with_a_buffer_for_each_head():
    check(Calls(lambda m, x: x @ m.k, k=torch.randn(3, 6, 4)), torch.randn(2, 3, 5, 6))


def test_attention():
    model = calls(functional.scaled_dot_product_attention)()
    graph = check(model, *(torch.randn(2, 3, 5, 4) for _ in range(3)))
    assert ops(graph) == ["batch_matmul", "constant", "mul", "softmax", "batch_matmul"]


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_rows(dim):
    assert "l2_normalization" in ops(check(calls(lambda x: functional.normalize(x, dim=dim))(), torch.randn(2, 4, 5)))
    assert "log_softmax" in ops(check(calls(lambda x: functional.log_softmax(x, dim=dim))(), torch.randn(2, 4, 5)))


def test_a_norm_is_no_value():
    with pytest.raises(UnsupportedError, match="divided by it"):
        read(calls(lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True) + x)(), torch.randn(2, 4))
    with pytest.raises(UnsupportedError, match="output output: a norm is read where its own value is divided by it"):
        read(calls(lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True))(), torch.randn(2, 4))


CLAMPS = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "relu6 in place": lambda: nn.ReLU6(inplace=True),
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.75),
    "hardtanh in place": lambda: nn.Hardtanh(-0.5, 0.75, inplace=True),
    "torch.relu": calls(torch.relu),
    "functional relu6": calls(functional.relu6),
    "clamp": calls(lambda x: x.clamp(-1, 0.5)),
    "clamp from below": calls(lambda x: x.clamp(min=-0.25)),
    "clamp from above": calls(lambda x: x.clamp(max=0.25)),
    "clamp_": calls(lambda x: (x * 1.5).clamp_(-1, 0.5)),
    "clamp_min": calls(lambda x: torch.clamp_min(x, 0.1)),
    "clamp_max": calls(lambda x: torch.clamp_max(x, 0.1)),
    "clip": calls(lambda x: torch.clip(x, -0.1, 0.1)),
    "clamp, bounds crossed": calls(lambda x: x.clamp(1.0, 0.5)),
    "twice": lambda: nn.Sequential(nn.ReLU(), nn.Hardtanh(-1, 0.5)),
}


@pytest.mark.parametrize("name", CLAMPS)
def test_clamp(name):
    assert ops(check(CLAMPS[name](), image()))[-1] in ("rescale", "mul")
    assert ops(check(nn.Sequential(nn.Conv2d(4, 3, 1), CLAMPS[name]()), image()))[0] == "conv2d"


SUMS = {
    "add": calls(lambda x, y: x + y),
    "add in place": calls(lambda x, y: (x * 2).add_(y)),
    "iadd": calls(lambda x, y: x.clone().__iadd__(y)),
    "torch.add": calls(torch.add),
    "itself": calls(lambda x, y: x + x + y),
    "mul": calls(lambda x, y: x * y),
    "mul in place": calls(lambda x, y: (x + 1).mul_(y)),
    "sub": calls(lambda x, y: x - y),
    "sum": calls(lambda x, y: x.sum((2, 3), keepdim=True) + y),
    "sub a parameter": lambda: Calls(lambda m, x, y: x - m.w + y, w=nn.Parameter(torch.randn(4, 1, 1))),
    "neg": calls(lambda x, y: -x + y),
    "scalars": calls(lambda x, y: (x * 2 + 0.5 - 1) / 3 + (1 - y)),
    "broadcast channels": calls(lambda x, y: x * y.mean((2, 3), keepdim=True)),
    "broadcast pixels": calls(lambda x, y: x + y.mean(1, keepdim=True)),
    "buffers": lambda: Calls(
        lambda m, x, y: (x - m.k) / m.s + y * m.k, k=torch.randn(4, 1, 1), s=torch.randn(1, 4, 1, 1)
    ),
    "computed buffers": lambda: Calls(lambda m, x, y: x * (m.k * 2 + 1).sum() + y, k=torch.randn(4)),
    "parameter": lambda: Calls(
        lambda m, x, y: x * m.w.view(1, -1, 1, 1) + m.b + y,
        w=nn.Parameter(torch.randn(4)),
        b=nn.Parameter(torch.randn(1)),
    ),
    "parameter per pixel": lambda: Calls(lambda m, x, y: x + m.w + y, w=nn.Parameter(torch.randn(4, 9, 7))),
    "literal tensor": calls(lambda x, y: x * torch.tensor([1.0, 2.0, 3.0, 4.0])[None, :, None, None] + y),
}


@pytest.mark.parametrize("name", SUMS)
def test_arithmetic(name):
    assert set(ops(check(SUMS[name](), image(), image()))) <= {"add", "sub", "mul", "constant", "mean", "sum"}
    between = Calls(
        lambda m, x, y: m.after(m.sum(m.before(x), y)),
        sum=SUMS[name](),
        before=nn.Conv2d(4, 4, 1),
        after=nn.Conv2d(4, 4, 1),
    )
    assert "transpose" not in ops(check(between, image(), image()))


def test_a_clamp_fuses_into_the_sum():
    graph = check(Calls(lambda m, x: torch.relu(x + m.c(x)), c=nn.Conv2d(4, 4, 1)), image())
    assert ops(graph) == ["conv2d", "add"]
    assert graph.nodes[1].clamp is not None


POOLS = {
    "max": lambda: nn.MaxPool2d(2),
    "max, padded": lambda: nn.MaxPool2d(3, 2, 1),
    "max, pairs": lambda: nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
    "average": lambda: nn.AvgPool2d(2),
    "average, counted": lambda: nn.AvgPool2d(3, 2, 1),
    "average, uncounted": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "global": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive, divisor": lambda: nn.AdaptiveAvgPool2d((3, 7)),
    "adaptive, as it is": lambda: nn.AdaptiveAvgPool2d((None, None)),
    "adaptive, one row": lambda: nn.AdaptiveAvgPool2d((1, None)),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d((3, 1)),
    "mean": calls(lambda x: x.mean((2, 3))),
    "mean, kept": calls(lambda x: x.mean([-1, -2], keepdim=True)),
    "mean of rows": calls(lambda x: torch.mean(x, -2)),
    "mean of channels": calls(lambda x: x.mean(1)),
    "mean of all": calls(lambda x: x.mean((1, 2, 3), keepdim=True)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(name):
    assert "transpose" not in ops(check(nn.Sequential(nn.Conv2d(4, 3, 1), POOLS[name]()), image()))
    check(POOLS[name](), image())


@pytest.mark.parametrize("size", range(4, 12))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(2, 2, 0), (2, 2, 1), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 1), (4, 3, 2), (5, 2, 2)],
)
def test_ceil_mode(size, kernel, stride, padding):
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": True}
    pools = {
        "greatest": nn.MaxPool2d(**options),
        "counted": nn.AvgPool2d(**options),
        "uncounted": nn.AvgPool2d(**options, count_include_pad=False),
    }
    check(Calls(lambda m, x: (m.greatest(x), m.counted(x), m.uncounted(x)), **pools), image(2, size, size + 1))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool1d(3, 2, 1),
        nn.MaxPool1d(2, ceil_mode=True),
        nn.AvgPool1d(3, 2, 1),
        nn.AdaptiveAvgPool1d(1),
        nn.AdaptiveMaxPool1d(1),
    ],
)
def test_pool_of_a_sequence(pool):
    assert "transpose" not in ops(
        check(nn.Sequential(nn.Conv1d(4, 4, 1), pool, nn.Conv1d(4, 2, 1)), torch.randn(2, 4, 11))
    )


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d((3, 1), 1, (1, 0)),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d((3, 1), 2, (1, 0)),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveMaxPool2d((3, 1)),
    ],
)
def test_pool_of_an_image_without_channels(pool):
    check(Calls(lambda m, x: m.pool(x), pool=pool), torch.randn(2, 9, 6))


@pytest.mark.parametrize("pool", [nn.MaxPool1d(3, 1, 1), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(3)])
def test_pool_of_a_sequence_without_channels(pool):
    check(Calls(lambda m, x: m.pool(x), pool=pool), torch.randn(2, 9))


PADS = {
    "ZeroPad2d": lambda: nn.ZeroPad2d((1, 0, 2, 3)),
    "functional": calls(lambda x: functional.pad(x, (0, 1, 2, 0))),
    "channels": calls(lambda x: functional.pad(x, (0, 0, 0, 0, 1, 2))),
    "last axis": calls(lambda x: functional.pad(x, (2, 1), value=0.0)),
    "twice": lambda: nn.Sequential(nn.ZeroPad2d(1), nn.ZeroPad2d((1, 2, 0, 0))),
}


@pytest.mark.parametrize("name", PADS)
def test_pad(name):
    check(PADS[name](), image())
    pooled = check(nn.Sequential(nn.Conv2d(4, 4, 1), PADS[name](), nn.MaxPool2d(2)), image())
    assert ops(pooled) == ["conv2d", "pad", "max_pool2d"]
    channels = 7 if name == "channels" else 4
    graph = check(nn.Sequential(PADS[name](), nn.Conv2d(channels, 5, 3, padding=(0, 1)), nn.ReLU()), image())
    assert ops(graph) == (["pad", "conv2d"] if name == "channels" else ["conv2d"])


MOVES = {
    "flatten": lambda: nn.Flatten(),
    "flatten(1)": calls(lambda x: x.flatten(1)),
    "flatten(2)": calls(lambda x: x.flatten(2)),
    "view": calls(lambda x: x.view(x.size(0), -1)),
    "view by shape": calls(lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])),
    "view, -1 first": calls(lambda x: x.view(-1, 4 * 9 * 7)),
    "reshape": calls(lambda x: x.reshape(-1, 2, 2, 9, 7)),
    "squeeze": calls(lambda x: x.mean(1, keepdim=True).squeeze(1)),
    "squeeze all": calls(lambda x: x.mean((2, 3), keepdim=True).squeeze()),
    "unsqueeze": calls(lambda x: x.unsqueeze(2)),
    "none index": calls(lambda x: x[:, :, None]),
    "unflatten": lambda: nn.Unflatten(1, (2, 2)),
    "permute": calls(lambda x: x.permute(0, 2, 3, 1)),
    "transpose": calls(lambda x: x.transpose(-1, 1)),
    "mT": calls(lambda x: x.mT),
    "contiguous": calls(lambda x: x.permute(0, 2, 3, 1).contiguous().detach().clone()),
    "to float": calls(lambda x: x.float().to(torch.float32)),
    "shuffle": lambda: nn.ChannelShuffle(2),
    "no_grad": calls(lambda x: _without_grad(x)),
}


def _without_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 0.5


@pytest.mark.parametrize("name", MOVES)
def test_movement(name):
    check(MOVES[name](), image())
    check(nn.Sequential(nn.Conv2d(4, 4, 1), MOVES[name]()), image())


@pytest.mark.parametrize("dim", [1, 2, 3, -1, -3])
def test_softmax(dim):
    check(nn.Softmax(dim), image())
    graph = check(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Softmax(dim)), image())
    assert ops(graph).count("transpose") == (0 if dim in (1, -3) else 1)


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_concatenation(dim):
    model = Calls(
        lambda m, x, y: m.c(torch.cat((m.a(x), y, m.b(y)), dim)),
        a=nn.Conv2d(4, 4, 1),
        b=nn.Conv2d(4, 4, 1),
        c=nn.LazyConv2d(5, 1),
    )
    model(image(), image())
    graph = check(model, image(), image())
    assert ops(graph).count("transpose") == 0
    assert ops(graph).count("rescale") == 1  # y is an input and has two readers


HEADS = {
    "flatten": lambda: [nn.Flatten(), nn.Linear(252, 5)],
    "relu between": lambda: [nn.Flatten(), nn.ReLU(), nn.Linear(252, 5), nn.ReLU(), nn.Linear(5, 2)],
    "dropout between": lambda: [nn.Flatten(), nn.Dropout(), nn.Linear(252, 5)],
    "global": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)],
    "norm": lambda: [nn.Flatten(), nn.Linear(252, 5), nn.BatchNorm1d(5), nn.ReLU()],
    "view to a 1x1 image": lambda: [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Unflatten(1, (4, 1, 1)),
        nn.Conv2d(4, 3, 1),
    ],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_leaves_no_transpose(name):
    assert "transpose" not in ops(check(nn.Sequential(nn.Conv2d(4, 4, 1), *HEADS[name]()), image()))


def test_a_norm_between_flatten_and_linear_needs_the_order():
    assert (
        ops(
            check(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(), nn.BatchNorm1d(252), nn.Linear(252, 5)), image())
        ).count("transpose")
        == 1
    )


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


@pytest.mark.parametrize("shuffle", [lambda x: _shuffle(x, 3), lambda x: functional.channel_shuffle(x, 3)])
def test_a_channel_shuffle_is_one_transpose(shuffle):
    model = Calls(lambda m, x: m.b(shuffle(m.a(x))), a=nn.Conv2d(4, 12, 1, groups=2), b=nn.Conv2d(12, 12, 3, groups=12))
    assert ops(check(model, image())) == ["conv2d", "reshape", "transpose", "reshape", "depthwise_conv2d"]


def test_squeeze_and_excite():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(4, 8, 1), nn.Linear(8, 4), nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            gate = self.c(torch.relu(self.b(x.mean((2, 3))))).clamp(0, 1)
            return x * gate[:, :, None, None]

    assert "transpose" not in ops(check(Gate(), image()))


DROPOUTS = {nn.Dropout: 0, nn.Dropout2d: 1, nn.AlphaDropout: 0, nn.FeatureAlphaDropout: 1}


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_is_kept_for_training_only(kind):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), kind(0.25))
    assert ops(check(model, image())) == ["conv2d"]
    graph = read(model, image(), training=True)
    prepared = prepare(graph, shapes_of(parameters_of(model)))
    assert ops(prepared) == ["conv2d", "dropout"]
    assert prepared.nodes[1].attributes == {"rate": 0.25, "channels": DROPOUTS[kind]}
    assert prepared.nodes[1].shape == (BATCH, 9, 7, 4)


def test_reading_changes_nothing():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = image()
    given = x.clone()
    for training in (False, True):
        read(model, x, training=training)
        assert [m.training for m in model] == [True, False, True, True]
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(x, given)
        assert all(p.grad is None for p in model.parameters())


def test_training_reads_what_training_runs():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> object:
            return (self.main(x), self.side(x)) if self.training else self.main(x)

    model = Auxiliary().eval()
    assert len(read(model, image()).outputs) == 1
    assert len(read(model, image(), training=True).outputs) == 2
    assert not model.training


def test_in_place_operators_follow_the_value():
    def run(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x)
        identity = y
        y.relu_()
        y = m.b(y)
        y += identity
        y.mul_(0.5)
        return y.clamp_(max=1.0)

    check(Calls(run, a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1)), image())


def test_in_place_through_a_view_is_refused():
    def run(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x)
        flat = y.flatten(1)
        y.relu_()
        return flat

    with pytest.raises(UnsupportedError, match="writes in place into a value that is also read through a view"):
        read(Calls(run, a=nn.Conv2d(4, 4, 1)), image())


def after_dropout(m: Calls, x: Tensor) -> Tensor:
    y = m.a(x)
    return y + functional.dropout(y, 0.1, m.training).relu_()


def under_another_mode(m: Calls, x: Tensor) -> Tensor:
    y = m.a(x)
    with torch.enable_grad():
        part = y[:, :2]
        twice = part * 2
    y.relu_()
    return part + twice


def detached_under_no_grad(m: Calls, x: Tensor) -> Tensor:
    y = m.a(x)
    with torch.no_grad():
        same = y.detach()
        twice = same * 2
    y += 1
    return same + twice


@pytest.mark.parametrize(
    ("run", "training"), [(after_dropout, False), (under_another_mode, False), (detached_under_no_grad, True)]
)
def test_in_place_through_a_view_that_no_schema_shows_is_refused(run, training):
    with pytest.raises(UnsupportedError, match="writes in place into a value that is also read through a view"):
        read(Calls(run, a=nn.Conv2d(4, 4, 1)), image(), training=training)


def test_in_place_beside_what_another_mode_has_made_anew():
    def run(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x)
        with torch.enable_grad():
            twice = y * 2
            part = twice[:, :2]
        y.relu_()
        return y + twice + part.sum(1, keepdim=True)

    check(Calls(run, a=nn.Conv2d(4, 4, 1)), image())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_size_is_not_baked_in(batch):
    model = Calls(lambda m, x: m.fc(m.c(x).view(x.size(0), -1)), c=nn.Conv2d(4, 2, 1), fc=nn.Linear(126, 3))
    graph = read(model, image(batch=batch))
    assert [n.shape[0] for n in graph.nodes] == [BATCH] * len(graph.nodes)


def test_a_model_for_one_sample_is_read_where_the_meaning_is_clear():
    check(
        Calls(lambda m, x: m.fc(m.c(x).view(1, -1)), c=nn.Conv2d(4, 2, 1), fc=nn.Linear(126, 3)),
        image(batch=1),
        batch=1,
    )


def test_a_batch_inside_a_view_is_no_output_and_goes_into_no_image():
    reason = (
        r"dimension 0 must be the batch, found \(63 \* batch, 4\); try: a view in which the batch is an axis of its"
    )
    with pytest.raises(UnsupportedError, match=f"output output: {reason}"):
        read(Calls(lambda m, x: x.permute(0, 2, 3, 1).reshape(-1, 4)), image())
    with pytest.raises(UnsupportedError, match=r"aten.conv2d: .*found \(4 \* batch, 1, 9, 7\)"):
        read(Calls(lambda m, x: m.c(x.reshape(-1, 1, 9, 7)), c=nn.Conv2d(1, 2, 1)), image())
    with pytest.raises(UnsupportedError, match=r"a view of \(9, batch, 28\) as \(batch, 252\) joins values of several"):
        read(Calls(lambda m, x: x.permute(2, 0, 1, 3).flatten(2).reshape(-1, 252)), image())


VIEWS = {
    "rows": lambda m, x: m.fc(x.reshape(-1, 7)).view(-1, 4, 9, 7),
    "rows of a norm": lambda m, x: m.norm(x.permute(0, 2, 3, 1).reshape(-1, 4)).relu().view(x.size(0), 9, 7, 4),
    "batch last": lambda m, x: (x.permute(1, 2, 3, 0) + m.scale).permute(3, 2, 1, 0).transpose(1, 3),
    "batch third": lambda m, x: (x.permute(2, 1, 0, 3) * m.each + 1).select(0, 3).softmax(0).permute(1, 2, 0),
    "batch and channels": lambda m, x: (x.flatten(0, 1) @ x.flatten(0, 1).mT).softmax(-1).unflatten(0, (-1, 4)).sum(1),
    "rows and batch": lambda m, x: m.fc(x.permute(2, 0, 1, 3).flatten(0, 1)).unflatten(0, (9, -1)).mean(0),
    "cells on both sides": lambda m, x: x.permute(2, 0, 1, 3).flatten(0, 2).sigmoid().view(9, -1, 4, 7).transpose(0, 1),
    "cut": lambda m, x: torch.cat(x.permute(2, 0, 1, 3).flatten(1, 2).split(4), 0)[2:].view(7, -1, 28).transpose(0, 1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_batch_may_be_any_axis_between(name):
    model = Calls(VIEWS[name], fc=nn.Linear(7, 7), norm=nn.BatchNorm1d(4), scale=torch.randn(4, 1, 1, 1))
    model.each = nn.Parameter(torch.randn(9, 4, 1, 7))
    check(model, image())


def test_names():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.relu(self.conv(x)) + x + 1)

    model = nn.Sequential(collections.OrderedDict(features=nn.Sequential(Block(), Block()), head=nn.Conv2d(4, 2, 1)))
    names = [n.name for n in read(model, image()).nodes]
    main = [name for name in names if not name.endswith(("channels_last", "channels_first", "constant"))]
    block = ["conv", "relu", ":add", ":add:2", "relu:2"]
    paths = [f"features.{i}{name if name[0] == ':' else '.' + name}" for i in (0, 1) for name in block]
    assert main == [*paths, "head"]
    assert len(set(names)) == len(names)


def test_sources_name_the_line_of_forward():
    class Lines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Sequential(nn.Conv2d(4, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.c(x)
            return x.relu()

    graph = prepare(read(Lines(), image()), {"c.0.weight": (4, 4, 1, 1), "c.0.bias": (4,)})
    line = Lines.forward.__code__.co_firstlineno + 1
    assert [n.source for n in graph.nodes] == [f"{__file__}:{line}"]


Pair = collections.namedtuple("Pair", "left right")

STRUCTURES = {
    "tuple": (lambda x: (x, x + 1), ("tuple", 2), ["output_0", "output_1"]),
    "list": (lambda x: [x + 1], ("list", 1), ["output_0"]),
    "dict": (lambda x: {"b": x + 1, "a": x}, ("dict", ("b", "a")), ["b", "a"]),
    "named tuple": (lambda x: Pair(x, x * 2), ("tuple", 2), ["left", "right"]),
    "tensor": (lambda x: x * 2, None, ["output"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_output_structures(name):
    function, structure, names = STRUCTURES[name]
    graph = check(Calls(lambda m, x: function(x)), image())
    assert graph.structure == structure
    assert [port.name for port in graph.outputs] == names


def test_inputs_by_name():
    class Two(nn.Module):
        def forward(self, input: Tensor, mask: Tensor, scale: float = 2.0) -> Tensor:  # noqa: A002
            return input * mask * scale

    graph = read(Two(), {"input": image(), "mask": image()})
    assert [port.name for port in graph.inputs] == ["input", "mask"]
    assert [port.name for port in read(Two(), (image(), image(), 3.0)).inputs] == ["input", "mask"]


def test_the_border_is_permuted_after_the_passes():
    graph = check(nn.Conv2d(4, 6, 1), image())
    assert graph.inputs[0].permutation == (0, 2, 3, 1)
    assert graph.outputs[0].permutation == (0, 3, 1, 2)
    assert graph.inputs[0].shape == (BATCH, 9, 7, 4)


def test_a_sequence_of_vectors_is_not_permuted():
    graph = check(nn.Sequential(nn.Linear(7, 5), nn.ReLU()), image())
    assert graph.inputs[0].permutation == (0, 1, 2, 3)


def test_an_exported_program_is_read_as_it_is():
    model = randomized(
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    ).eval()
    x = image(batch=1, height=8, width=8)
    program = torch.export.export(model, (x,))
    graph = read(program)
    (found,) = evaluate(graph, parameters_of(model), [x.numpy()])
    np.testing.assert_allclose(model(x).detach().numpy(), found, rtol=1e-4, atol=1e-4)
    decomposed = read(program.run_decompositions())
    (found,) = evaluate(decomposed, parameters_of(model), [x.numpy()])
    np.testing.assert_allclose(model(x).detach().numpy(), found, rtol=1e-4, atol=1e-4)


def test_constants_of_the_graph_travel_with_it():
    model = Calls(lambda m, x: x * torch.tensor([0.5, 2.0, 1.0, 3.0]).view(4, 1, 1))
    graph = read(model, image())
    assert len(graph.constants) == 1


REFUSED = {
    "mish": (nn.Mish(), "aten.mish: there is no integer operator for it; try: train it with ReLU, SiLU or Hardswish"),
    "pad value": (
        Calls(lambda m, x: functional.pad(x, (1, 1), value=1.0)),
        "padding is with zeros, found the value 1.0",
    ),
    "crop": (Calls(lambda m, x: functional.pad(x, (-1, 1))), r"padding may not cut, found \[-1, 1\]"),
    "alpha": (Calls(lambda m, x: torch.add(x, x, alpha=2)), "a sum is read with alpha = 1, found 2"),
    "dilated pool": (nn.MaxPool2d(2, dilation=2), "a maximum pool has dilation 1"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), "divisor_override is not known"),
    "uneven": (nn.AdaptiveAvgPool2d(4), "an adaptive pool must divide the image evenly"),
    "indices": (nn.MaxPool2d(2, return_indices=True), "its indices are used"),
    "statistics": (nn.BatchNorm2d(4, track_running_stats=False), "it keeps no running statistics"),
    "mean of the batch": (Calls(lambda m, x: x.mean(0)), "dimension 0 must be the batch"),
    "cat of the batch": (
        Calls(lambda m, x: torch.cat((x, x))),
        "no other may depend on it|may not run along the batch",
    ),
    "batch moved": (Calls(lambda m, x: x.transpose(0, 1)), "dimension 0 must be the batch"),
    "weight norm": (
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        "aten._weight_norm: there is no integer operator for it; try: a plain weight: torch.nn.utils.parametrize.remove",
    ),
    "half": (Calls(lambda m, x: x.half()), "a conversion to torch.float16"),
    "as integers": (Calls(lambda m, x: x.type_as(m.k).float(), k=torch.ones(1, dtype=torch.int64)), "to torch.int64"),
    "sum of integers": (Calls(lambda m, x: x.sum(1, dtype=torch.int64).float()), "a conversion to torch.int64"),
    "bits as integers": (Calls(lambda m, x: x.view(torch.int32).float()), "a conversion to torch.int32"),
    "drops in eval()": (Calls(lambda m, x: functional.dropout(x, 0.5)), "at random in eval.. too; try: training=self"),
    "drops channels in eval()": (Calls(lambda m, x: functional.dropout2d(x, 0.5)), "at random in eval.. too"),
    "statistics of the batch": (
        Calls(lambda m, x: functional.batch_norm(x, m.k, m.k, training=True), k=torch.ones(4)),
        r"the batch's own statistics in eval\(\) too",
    ),
    "computed statistics": (
        Calls(lambda m, x: functional.batch_norm(x, m.k, m.k * 2), k=torch.ones(4)),
        "must be the model's own, found a constant or a computed value; try: a product and a sum",
    ),
    "one bias for all": (
        Calls(lambda m, x: torch.addmm(m.b, x.flatten(1), m.w), b=torch.ones(1), w=torch.ones(252, 5)),
        r"a number for each of 5 outputs, found \(1,\)",
    ),
    "shuffled pixels of more axes": (
        Calls(lambda m, x: functional.pixel_shuffle(x.unsqueeze(1), 2)),
        r"batch of images .*found \(batch, 1, 4, 9, 7\)",
    ),
    "branch on many samples": (
        Calls(lambda m, x: x * 2 if x.shape[0] > 8 else x),
        "it branches on the batch size, read with batches of 8 or less; try: one way for any batch",
    ),
    "nested": (Calls(lambda m, x: (x, [x])), "a structure in a structure"),
    "constant output": (
        Calls(lambda m, x: (x, m.k), k=torch.ones(3)),
        "it must be a tensor that depends on the inputs",
    ),
    "control flow": (Calls(lambda m, x: x if x.sum() > 0 else -x), "torch.export cannot trace this model"),
    "wrong channels": (nn.Conv2d(3, 4, 1), "torch.export cannot trace this model"),
    "changes a buffer": (Calls(lambda m, x: x * m.k.add_(1), k=torch.ones(1)), r"forward\(\) changes k"),
    "noise": (Calls(lambda m, x: x + torch.randn(4, 1, 1)), "aten.randn: there is no integer operator"),
    "zeros of the batch": (
        Calls(lambda m, x: x + torch.zeros(x.shape[0], 1, 1, 1)),
        "aten.add: zeros of the batch's size",
    ),
    "mask of infinities": (
        Calls(lambda m, x: (x + m.mask).softmax(-1), mask=torch.full((9, 7), -float("inf")).triu(1)),
        r"aten\.add: a constant operand must be finite, found an infinity in mask; try: of a mask .* such as -20",
    ),
    "chosen by a mask": (
        Calls(lambda m, x: x.flatten(1)[x[:, 0, 0, 0] > 0]),
        r"aten.index: how many values it gives depends on the values themselves, found \(\?, 252\); try: a product with",
    ),
    "batch cut": (Calls(lambda m, x: x[1:]), "whatever the batch|may not cut the batch"),
    "indices of a maximum": (Calls(lambda m, x: x.max(1)[1]), "its indices are used"),
    "scale factor": (
        Calls(lambda m, x: functional.interpolate(x, scale_factor=1.3, mode="bilinear")),
        r"scale factors \[1.3, 1.3\] do not lead from \(9, 7\) to whole sizes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    model, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        read(model, image())


def test_a_branch_that_small_batches_do_not_take_is_refused():
    with pytest.raises(UnsupportedError, match="read with batches of 9 or more"):
        read(Calls(lambda m, x: x * 2 if x.shape[0] > 8 else x), image(batch=12))


def test_a_batch_cut_short_is_refused():
    with pytest.raises(
        UnsupportedError, match=r"no other may depend on it; found \(batch - 1, 4, 9, 7\); try: compute"
    ):
        read(Calls(lambda m, x: x[1:]), image(batch=4))


def test_an_unsupported_input():
    with pytest.raises(
        UnsupportedError, match=r"input inputs_0: an input must be float32, or int64 .* found torch\.int16"
    ):
        read(Calls(lambda m, x: x * 2), torch.ones(2, 3, dtype=torch.int16))
    with pytest.raises(UnsupportedError, match=r"input inputs_0: torch\.int32 must choose .* found that mul computes"):
        read(Calls(lambda m, x: x * 2), torch.ones(2, 3, dtype=torch.int32))


OTHER_TYPES = {
    "less bytes": lambda m, x: x - m.bytes,
    "less converted bytes": lambda m, x: x - m.bytes.float(),
    "less signed bytes": lambda m, x: x - m.signed,
    "bytes first": lambda m, x: m.bytes * x,
    "sum of converted bytes": lambda m, x: x + m.signed.float() * 4 / 100,
    "converted weight": lambda m, x: functional.linear(x, (m.bytes.float() - 128)[None, :] * 0.01),
    "less a mask": lambda m, x: x * (1 - m.mask.float()),
    "masks added": lambda m, x: x * (m.mask.float() + m.mask.type(torch.float32)),
    "mean of integers": lambda m, x: x + m.count.float().mean(),
    "halves": lambda m, x: x * m.halves.float() ** 2,
    "divided by bytes": lambda m, x: x / m.bytes,
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_constants_of_other_types_are_computed_with_as_torch_does(name):
    constants = {
        "bytes": torch.tensor([124, 116, 104, 255], dtype=torch.uint8),
        "signed": torch.tensor([-128, 100, 127, -1], dtype=torch.int8),
        "mask": torch.tensor([True, False, True, False]),
        "count": torch.arange(4),
        "halves": torch.tensor([300.0, 1.0, 2.0, 3.0], dtype=torch.float16),
    }
    check(Calls(OTHER_TYPES[name], **constants), torch.randn(2, 5, 4), randomize=False)


def test_a_frozen_divisor():
    graph = read(Calls(lambda m, x: x / m.scale, scale=nn.Parameter(torch.full((1,), 4.0))), image(), frozen=True)
    assert [float(array.item()) for array in graph.constants.values()] == [0.25]


def test_what_nobody_reads_need_not_be_supported():
    model = Calls(lambda m, x: (torch.fft.fft(x), m.c(x))[1], c=nn.Conv2d(4, 4, 1))
    assert ops(check(model, image())) == ["conv2d"]


def test_all_problems_are_listed_at_once():
    model = nn.Sequential(
        collections.OrderedDict(
            a=nn.Conv2d(4, 4, 1),
            act=nn.ELU(),
            up=nn.Upsample(scale_factor=2, mode="bicubic"),
            b=nn.Conv2d(4, 4, 1),
            pool=nn.MaxPool2d(2, dilation=2),
        )
    )
    with pytest.raises(UnsupportedError) as caught:
        read(Calls(lambda m, x: m.net(x), net=model), image())
    problems = caught.value.problems
    assert [p.split()[0] for p in problems] == ["net.act", "net.up", "net.pool"]
    assert all(f"({__file__}:" in p for p in problems)
    assert "3 operations" in str(caught.value)


def test_zeros_and_a_parameter_are_refused_with_all_others_even_where_nothing_trains():
    """Parameters that stay as they are may be computed with, the batch's zeros may not."""
    row = nn.Parameter(torch.ones(1, 4, 1, 1))
    model = Calls(lambda m, x: m.elu(x + (torch.zeros(x.shape[0], 4, 1, 1) + m.row)), row=row, elu=nn.ELU())
    for frozen in (False, True):
        with pytest.raises(UnsupportedError) as caught:
            read(model, image(), frozen=frozen)
        assert ["zeros of the batch's size" in problem for problem in caught.value.problems] == [True, False]


def test_the_cause_of_a_failed_trace_is_kept():
    with pytest.raises(UnsupportedError, match=f"{__file__}:") as caught:
        read(REFUSED["control flow"][0], image())
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_leave_no_transpose(name):
    network = NETWORKS[name]
    model = network.build().eval()
    graph = prepare(read(model, torch.zeros(1, *network.input_shape)), shapes_of(parameters_of(model)))
    assert set(ops(graph)).isdisjoint({"transpose", "batch_norm", "dropout"})
    assert ("constant" in ops(graph)) == name.startswith("mobilenet_v3_small")  # of hard sigmoids
    if name != "inception_v3":
        assert "rescale" not in ops(graph)
        assert "pad" not in ops(graph)
    assert prepare(graph, shapes_of(parameters_of(model))) == graph


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn"])
def test_networks_mean_the_same(name):
    network = NETWORKS[name]
    check(network.random(), torch.zeros(1, *network.input_shape), randomize=False)


def test_a_missing_torch_is_named():
    code = "import sys; sys.modules['torch'] = None\nimport unfloat.formats.torch.read"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs PyTorch, which Unfloat's extra 'torch' brings: pip install '.[torch]'" in found.stderr
