"""A network for any environment that has PyTorch: a .pt2 file of batch 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

CALIBRATION = 4  # samples; a time does not depend on them


def write(model: torch.nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Export a model in eval mode for inputs (1, *shape)."""
    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, *shape),)), path)


def read(path: Path) -> tuple[Any, list[torch.Tensor]]:
    """The model, and some inputs to calibrate with."""
    exported = torch.export.load(path)
    (example,), _ = exported.example_inputs
    generator = torch.Generator().manual_seed(0)
    return exported.module(), [torch.randn(example.shape, generator=generator) for _ in range(CALIBRATION)]
