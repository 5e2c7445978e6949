"""Random networks and random recipes, to train a few steps and compare every integer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unfloat import Override, Recipe, Training

SIDE = 9  # pixels; odd, so that strides and pools have tails


@dataclass(frozen=True)
class Step:
    """One operation of a plan: what it is, the values it reads (by number), and its module's name."""

    kind: str
    reads: tuple[int, ...]
    module: str = ""


@dataclass
class Plan:
    """A plan while it is drawn: shapes (channels, side) of the values so far."""

    rng: random.Random
    shapes: list[tuple[int, int]]
    steps: list[Step] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)

    def add(self, kind: str, reads: tuple[int, ...], shape: tuple[int, int], module: nn.Module | None = None) -> None:
        """Write a step."""
        name = f"{kind}{len(self.steps)}" if module is not None else ""
        if module is not None:
            self.modules[name] = module
        self.steps.append(Step(kind, reads, name))
        self.shapes.append(shape)

    def draw(self) -> None:
        """One random step that fits a random recent value."""
        at = self.rng.randrange(max(0, len(self.shapes) - 4), len(self.shapes))
        kinds = (self.convolution, self.convolution, self.depthwise, self.join, self.join, self.pool, self.alone)
        self.rng.choice(kinds)(at)

    def convolution(self, at: int) -> None:
        """Convolution, maybe a norm, maybe an activation."""
        channels, side = self.shapes[at]
        out = self.rng.choice([1, 3, 4, 7, 8, 16])
        groups = self.rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0 and out % g == 0])
        kernel = self.rng.choice([k for k in (1, 1, 3, 3, 5) if k <= side])
        stride = self.rng.choice([1, 1, 2])
        bias = self.rng.random() < 0.5
        layer = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.add("layer", (at,), (out, (side - 1) // stride + 1), self.block(layer, out))

    def depthwise(self, at: int) -> None:
        """A depthwise convolution, multiplier 1 or 2."""
        channels, side = self.shapes[at]
        if channels == 1 or channels > 16:
            return
        out = channels * self.rng.choice([1, 1, 2])
        layer = nn.Conv2d(channels, out, 3, padding=1, groups=channels, bias=self.rng.random() < 0.5)
        self.add("layer", (at,), (out, side), self.block(layer, out))

    def block(self, layer: nn.Module, channels: int) -> nn.Sequential:
        """The layer and what follows it."""
        parts = [layer]
        if self.rng.random() < 0.6:
            norm = nn.BatchNorm2d(channels, affine=self.rng.random() < 0.9)
            parts.append(norm)
        activation = self.rng.choice([None, nn.ReLU(), nn.ReLU6(), nn.Hardtanh()])
        return nn.Sequential(*parts, *([activation] if activation is not None else []))

    def join(self, at: int) -> None:
        """A sum, a product or a concatenation with another value."""
        channels, side = self.shapes[at]
        same = [i for i, shape in enumerate(self.shapes) if shape == (channels, side)]
        other = self.rng.choice(same)
        kind = self.rng.choice(["add", "mul", "add_relu", "cat"])
        if kind == "cat" and channels > 12:
            return
        self.add(kind, (at, other), (channels * (2 if kind == "cat" else 1), side))

    def pool(self, at: int) -> None:
        """A pool or a border of zeros."""
        channels, side = self.shapes[at]
        if side < 3:
            return
        kind = self.rng.choice(["max", "average", "pad"])
        if kind == "pad":
            self.add("layer", (at,), (channels, side + 2), nn.ZeroPad2d(1))
        elif kind == "max":
            self.add("layer", (at,), (channels, (side - 1) // 2 + 1), nn.MaxPool2d(3, 2, 1))
        else:
            self.add("layer", (at,), (channels, side // 2), nn.AvgPool2d(2))

    def alone(self, at: int) -> None:
        """A norm or an activation without a layer before it."""
        channels, side = self.shapes[at]
        module = self.rng.choice([nn.BatchNorm2d(channels), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 1.5)])
        self.add("layer", (at,), (channels, side), module)


class Generated(nn.Module):
    """A random network: [N, 3, SIDE, SIDE] to one or two outputs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        plan = Plan(rng, [(3, SIDE)])
        while len(plan.steps) < rng.randint(3, 9):
            plan.draw()
        self.steps = plan.steps
        self.layers = nn.ModuleDict(plan.modules)
        channels, side = plan.shapes[-1]
        self.flat = rng.random() < 0.3 and channels * side * side <= 256
        self.head = nn.Linear(channels * (side * side if self.flat else 1), rng.choice([1, 5, 10]))
        self.softmax = rng.random() < 0.2
        self.two = rng.random() < 0.2
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.3, 2.0)
                module.num_batches_tracked.fill_(1)
                if module.affine:
                    nn.init.uniform_(module.weight, -1.5, 1.5)
                    nn.init.normal_(module.bias, std=0.3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run the plan."""
        values = [x]
        for step in self.steps:
            operands = [values[i] for i in step.reads]
            values.append(self.layers[step.module](*operands) if step.module else _joined(step.kind, *operands))
        last = values[-1]
        y = self.head(torch.flatten(last, 1) if self.flat else last.mean((2, 3)))
        if self.softmax:
            y = torch.softmax(y, 1)
        return (y, last) if self.two else y


def _joined(kind: str, a: Tensor, b: Tensor) -> Tensor:
    if kind == "cat":
        return torch.cat([a, b], 1)
    if kind == "mul":
        return a * b
    return torch.relu(a + b) if kind == "add_relu" else a + b


def recipe(seed: int) -> Recipe:
    """A random recipe: scheme, bits, ranges, norm mode, rounding, some layers otherwise."""
    rng = random.Random(seed)

    def bits() -> int:
        return rng.choice([8, 8, 8, rng.randint(2, 7)])

    training = Training(
        ranges=rng.choice(["moving_average", "learned"]),
        momentum=rng.choice([0.5, 0.9, 0.99]),
        norm=rng.choice(["batch", "average", "correct"]),
        start_after=rng.choice([0, 0, 1]),
        freeze_norm_after=rng.choice([None, 2]),
    )
    overrides = (Override("head", weight_bits=bits(), activation_bits=bits()),) if rng.random() < 0.5 else ()
    return Recipe(
        scheme=rng.choice(["int8", "int8", "uint8"]),
        weight_bits=bits(),
        activation_bits=bits(),
        ranges=rng.choice(["norm", "minmax"]),
        rounding=rng.choice(["double", "double", "single"]),
        bias_correction=rng.random() < 0.3,
        overrides=overrides,
        training=training,
    )
