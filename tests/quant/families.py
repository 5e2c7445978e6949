"""Small networks, one for each operator family and each way of joining values, and how to train them roughly."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import unfloat
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student

IMAGE = (3, 7, 6)


class Net(nn.Module):
    """Layers by name and a function that calls them."""

    def __init__(self, call: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def _conv(out: int = 5, **options: int) -> nn.Conv2d:
    return nn.Conv2d(3, out, 3, **options)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Sequential(_conv(stride=2, padding=1), nn.ReLU6()),
    "conv norm": lambda: nn.Sequential(_conv(bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1)),
    "conv bias norm": lambda: nn.Sequential(_conv(dilation=2), nn.BatchNorm2d(5, affine=False), nn.Hardtanh(-0.5, 1.5)),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.BatchNorm2d(3), nn.ReLU6(), nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
    ),
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2, bias=False)),
    "linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(126, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3, bias=False)
    ),
    "norm alone": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(3)),
    "residual": lambda: Net(
        lambda m, x: functional.relu(m.norm(m.body(x)) + m.skip(x)),
        body=_conv(padding=1, bias=False),
        norm=nn.BatchNorm2d(5),
        skip=nn.Conv2d(3, 5, 1),
    ),
    "mul": lambda: Net(lambda m, x: functional.relu6(m.a(x) * m.b(x)) - 0.25, a=_conv(), b=_conv()),
    "gate": lambda: Net(lambda m, x: m.a(x) * m.a(x).mean((2, 3), keepdim=True), a=_conv(padding=1)),
    "concat": lambda: Net(
        lambda m, x: m.last(torch.cat([m.a(x), functional.relu(m.b(x)), x], 1)),
        a=_conv(padding=1),
        b=_conv(padding=1),
        last=nn.Conv2d(13, 4, 1),
    ),
    "shared values": lambda: Net(
        lambda m, x: (lambda y: m.last(torch.cat([y, m.b(y)], 1)) + y)(m.a(x)),
        a=_conv(padding=1),
        b=nn.Conv2d(5, 5, 1),
        last=nn.Conv2d(10, 5, 1),
    ),
    "pools": lambda: nn.Sequential(
        nn.MaxPool2d(3, 2, 1), _conv(padding=1), nn.AvgPool2d(2, 1, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(1)
    ),
    "pad": lambda: Net(lambda m, x: m.a(functional.pad(m.b(x), (1, 2, 0, 1))), b=nn.Conv2d(3, 3, 1), a=_conv()),
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(126, 5), nn.Softmax(1)),
}
MIXED = (
    unfloat.Override("a*", weight_bits=5, activation_bits=6),
    unfloat.Override("b*", weight_bits=2, activation_bits=3),
    unfloat.Override("last*", weight_bits=4),
)


def image(count: int = 6, seed: int = 0) -> Tensor:
    """A batch for every family."""
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(seed))


def fitted(family: str, seed: int = 0) -> nn.Module:
    """A family's network with batch-norm statistics, in train mode; norms of any sign."""
    torch.manual_seed(seed)
    model = FAMILIES[family]().train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.affine:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    with torch.no_grad():
        for i in range(4):
            model(image(seed=100 + i))
    return model


def student_of(family: str, scheme: str = "int8", bits: tuple[int, int] = (8, 8), **training: object) -> Student:
    """A prepared student in train mode, for `bits` of (weights, activations)."""
    model = fitted(family)
    names = {name for name, _ in model.named_children()}
    overrides = tuple(o for o in MIXED if o.pattern[:-1] in names) if bits == (8, 8) else ()
    recipe = unfloat.Recipe(scheme, *bits, training=Training(**training), overrides=overrides)  # type: ignore[arg-type]
    return unfloat.prepare(model, image(), recipe, progress=False)


def train(student: nn.Module, steps: int = 3, rate: float = 0.1, seed: int = 0) -> None:
    """Steps far too large, on a loss that has no meaning; finite, because gradients are clipped."""
    learned = [p for name, p in student.named_parameters() if "unfloat." in name]
    others = [p for name, p in student.named_parameters() if "unfloat." not in name]
    groups = [{"params": others}, {"params": learned, "lr": rate / 100}]
    optimizer = torch.optim.SGD([g for g in groups if g["params"]], lr=rate, momentum=0.9)
    student.train()
    for step in range(steps):
        optimizer.zero_grad()
        student(image(seed=seed + step)).square().sum().backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
