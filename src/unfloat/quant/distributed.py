"""Several processes training one student: what they observe is reduced, so that all of them hold the same state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from unfloat.spec.errors import TrainingError

if TYPE_CHECKING:
    from unfloat.quant.norm import Moments


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
    apart = [m for m in moments if not m.joined]
    if not several() or not apart:
        return list(moments)
    rows = [_totals(m.mean, m.variance, m.count) for m in apart]
    flat = torch.cat(rows)
    dist.all_reduce(flat)
    totals = iter(flat.split([len(r) for r in rows]))
    joined = []
    for m in moments:
        if not m.joined:
            mean, variance, count = _from_totals(next(totals))
            m = replace(m, mean=mean, variance=variance, count=count, joined=True)
        joined.append(m)
    return joined


def joined_moments(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance and count over the joined batches of all processes; no gradients."""
    if not several():
        return mean, variance, count
    totals = _totals(mean, variance, count)
    dist.all_reduce(totals)
    return _from_totals(totals)


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over all processes; no gradients."""
    if several():
        values = values.clone()
        dist.all_reduce(values)
    return values


def _totals(mean: Tensor, variance: Tensor, count: int) -> Tensor:
    return torch.cat([mean * count, (variance + mean**2) * count, mean.new_full((1,), count)])


def _from_totals(totals: Tensor) -> tuple[Tensor, Tensor, int]:
    mean, square = totals[:-1].view(2, -1) / totals[-1]
    return mean, (square - mean**2).clamp(min=0.0), int(totals[-1])


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


def require_one_recipe(toml: str) -> None:
    """Raise TrainingError unless every process has the same recipe."""
    for rank, theirs in enumerate(gathered(toml)):
        if theirs != toml:
            lines = [line for line in theirs.splitlines() if line not in toml.splitlines()]
            raise TrainingError(
                f"rank {dist.get_rank()} and rank {rank} train with different recipes; rank {rank} says "
                f"{'; '.join(lines) or 'less'}: load the same recipe file on every rank"
            )
