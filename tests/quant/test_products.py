"""Networks with products of activations, transposed convolutions and rows over their norms, from PyTorch to the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import unfloat


class Attention(nn.Module):
    """One layer of attention, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.into(x).view(x.shape[0], x.shape[1], 6, 6).transpose(1, 2)
        heads = functional.scaled_dot_product_attention(parts[:, 0:2], parts[:, 2:4], parts[:, 4:6])
        return x - self.out(heads.transpose(1, 2).flatten(2))


class Decoder(nn.Module):
    """An image halved and doubled again; what changed, summed over its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 3, 3, 2, 1, 1), nn.BatchNorm2d(3), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        return (self.up(functional.relu(self.down(x))) - x).sum(2)


NETWORKS = {"attention": (Attention, (5, 12)), "decoder": (Decoder, (3, 8, 6))}


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_from_pytorch_to_the_engine(name: str, scheme: str) -> None:
    """Near the float network; and what is trained is what runs, to the bit."""
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    model, x = make().eval(), torch.randn(8, *shape)
    program = unfloat.quantize(model, [x], unfloat.Recipe(scheme), progress=False)
    real = model(x).detach().numpy()
    error = np.abs(program.compile()(x.numpy()) - real).max() / np.abs(real).max()
    assert error < (0.05 if scheme == "int8" else 0.001)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_are_the_programs(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(2)
    x = torch.randn(8, *shape)
    student = unfloat.prepare(make().train(), x, unfloat.Recipe("int8"), progress=False)
    optimizer = torch.optim.SGD(student.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        student(x).square().mean().backward()
        optimizer.step()
    engine = unfloat.convert(student).compile()
    np.testing.assert_array_equal(student.eval()(x).detach().numpy(), engine(x.numpy()))
