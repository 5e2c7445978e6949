"""Small PyTorch models for tests."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """Convolutions with batch norm, a residual, a depthwise block, a pool, a flatten, a classifier."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
        self.point = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8 * 4 * 4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.point(self.deep(x)))
        return self.head(self.drop(torch.flatten(self.pool(x), 1)))


def small(seed: int = 0) -> Small:
    """A Small with fitted batch-norm statistics, in eval mode."""
    torch.manual_seed(seed)
    model = Small()
    with torch.no_grad():
        for _ in range(8):
            model.train()(torch.randn(16, 3, 16, 16))
    return model.eval()


def batches(count: int = 4, size: int = 4, seed: int = 1) -> list[torch.Tensor]:
    """Batches for `Small`."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, 16, 16, generator=generator) for _ in range(count)]
