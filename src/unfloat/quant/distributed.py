"""Several processes training one student: what they observe is reduced, so that all of them hold the same state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unfloat.quant.linear_step import Moments
from unfloat.spec.errors import TrainingError


def several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def reduce_extremes(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and greatest values over all processes, not those of rank 0; a NaN anywhere stays one."""
    if not several():
        return low, high
    both = torch.stack([-low, high])
    unsound = torch.isnan(both).to(torch.float32)
    both = torch.where(torch.isnan(both), torch.full_like(both, -float("inf")), both)
    packed = torch.stack([both, unsound])
    dist.all_reduce(packed, dist.ReduceOp.MAX)
    both = torch.where(packed[1] > 0, torch.full_like(both, float("nan")), packed[0])
    return -both[0], both[1]


def reduce_moments(moments: Sequence[Moments]) -> list[Moments]:
    """Means and variances over the joined batches of all processes, in one exchange."""
    if not several() or not moments:
        return list(moments)
    rows = [
        torch.cat([m.mean * m.count, (m.variance + m.mean**2) * m.count, m.mean.new_full((1,), m.count)])
        for m in moments
    ]
    flat = torch.cat(rows)
    dist.all_reduce(flat)
    joined = []
    for m, row in zip(moments, flat.split([len(r) for r in rows]), strict=True):
        count = row[-1]
        mean, square = row[:-1].view(2, -1) / count
        joined.append(replace(m, mean=mean, variance=(square - mean**2).clamp(min=0.0), count=int(count)))
    return joined


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over all processes, gradients included."""
    if not several():
        return values
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(values) / dist.get_world_size()


def total_over_ranks(*values: float, device: torch.device) -> list[float]:
    """Each value's sum over all processes."""
    if not several():
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def gathered(value: Any) -> list[Any]:
    """One plain value of each process, by rank."""
    if not several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def require_one_recipe(recipe: Tensor) -> None:
    """Raise TrainingError unless every process prepared its student with the same recipe."""
    if not several():
        return
    size = recipe.new_tensor([recipe.numel()], dtype=torch.int64)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    width = max(int(s) for s in sizes)
    padded = torch.zeros(width, dtype=torch.uint8, device=recipe.device)
    padded[: recipe.numel()] = recipe
    found = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    for rank, (theirs, length) in enumerate(zip(found, sizes, strict=True)):
        if int(length) != recipe.numel() or not torch.equal(theirs, padded):
            text = bytes(theirs[: int(length)].cpu().numpy()).decode(errors="replace")
            mine = bytes(recipe.cpu().numpy()).decode()
            lines = [line for line in text.splitlines() if line not in mine.splitlines()]
            raise TrainingError(
                f"rank {dist.get_rank()} and rank {rank} train with different recipes; rank {rank} says "
                f"{'; '.join(lines) or 'less'}: load the same recipe file on every rank"
            )
