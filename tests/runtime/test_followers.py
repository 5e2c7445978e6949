"""A residual addition runs inside the convolution before it wherever memory allows, and the bits stay the same."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unfloat
from unfloat.program.interpret import interpret
from unfloat.runtime.engine import Engine, levels

VECTOR_LEVELS = [level for level in levels() if level != "scalar"]
TOGETHER = ("left", "right", "both live on", "doubled")
"""The others' sum lies where the convolution still reads, or is no sum of equal shapes."""


class Residual(nn.Module):
    """Adds a convolution's output to what went in, on either side; the stem's output may live on, or not."""

    def __init__(self, channels: int, kernel: int, shape: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        stem = torch.relu(self.stem(x))
        conv = self.conv(stem)
        if self.shape == "left":
            return torch.relu(conv + stem)
        if self.shape == "right":
            return stem + conv
        if self.shape == "both live on":
            total = stem + conv
            return total, conv, stem
        if self.shape == "added twice":
            total = stem + conv
            return total + conv
        if self.shape == "doubled":
            return conv + conv
        assert self.shape == "broadcast"
        return conv + stem.mean((2, 3), keepdim=True)


class Branches(nn.Module):
    """Two convolutions of one input, added: the second one's input is dead by then, and its memory free."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 1)
        self.second = nn.Conv2d(3, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x) + self.second(x)))


def check(model: nn.Module, side: int) -> dict[str, str]:
    """The engine's codes at every level against the interpreter's; the kernels at the best level."""
    x = torch.randn(5, 3, side, side)
    program = unfloat.quantize(model, [x])
    for batch in (1, 5):
        codes = np.random.default_rng(batch).integers(-128, 128, (batch, side, side, 3)).astype(np.int8)
        wanted = interpret(program, [codes])
        for level in levels():
            for threads in (1, 2, 3, 5):
                found = Engine(program, threads, level).run(codes)
                for mine, truth in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
                    np.testing.assert_array_equal(mine, truth, err_msg=f"{level}, {threads} threads")
    return {time.name: time.kernel for time in program.compile().profile(x.numpy(), runs=1)}


@pytest.mark.parametrize("shape", ["left", "right", "both live on", "added twice", "doubled", "broadcast"])
@pytest.mark.parametrize(("channels", "kernel", "side"), [(1, 3, 5), (24, 3, 9), (17, 1, 8), (530, 1, 3)])
def test_residual_additions(shape: str, channels: int, kernel: int, side: int) -> None:
    torch.manual_seed(1)
    kernels = check(Residual(channels, kernel, shape), side)
    inside = [name for name, kernel in kernels.items() if " in conv" in kernel]
    assert inside == (["add"] if VECTOR_LEVELS and shape in TOGETHER else [])


@pytest.mark.parametrize("channels", [3, 24, 65])
def test_an_addition_of_two_branches_runs_inside_the_second(channels: int) -> None:
    torch.manual_seed(1)
    kernels = check(Branches(channels), 12)
    assert bool(VECTOR_LEVELS) == any(" in second" in kernel for kernel in kernels.values())
