"""Several processes training one student: what they observe is reduced, so that all of them hold the same state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unfloat.spec.errors import TrainingError

if TYPE_CHECKING:
    from unfloat.quant.norm import Moments

T = TypeVar("T")


def several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def reduce_extremes(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and greatest values over all processes, not those of rank 0; a NaN anywhere stays one."""
    if not several():
        return low, high
    both = torch.stack([-low, high])
    unsound = torch.isnan(both).to(both.dtype)
    both = torch.where(torch.isnan(both), torch.full_like(both, -float("inf")), both)
    packed = _all_reduced(torch.stack([both, unsound]), dist.ReduceOp.MAX)
    both = torch.where(packed[1] > 0, torch.full_like(both, float("nan")), packed[0])
    return -both[0], both[1]


def reduce_moments(moments: Sequence[Moments]) -> list[Moments]:
    """Means and variances over the joined batches of all processes, in one exchange."""
    apart = [m for m in moments if not m.joined]
    if not several() or not apart:
        return list(moments)
    rows = [_totals(m.mean, m.variance, m.count) for m in apart]
    flat = _all_reduced(torch.cat(rows), dist.ReduceOp.SUM)
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
    return _from_totals(_all_reduced(_totals(mean, variance, count), dist.ReduceOp.SUM))


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over all processes; no gradients."""
    return _all_reduced(values.clone(), dist.ReduceOp.SUM) if several() else values


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over all processes; no gradients."""
    return sum_over_ranks(values) / dist.get_world_size() if several() else values


def _all_reduced(values: Tensor, operation: Any) -> Tensor:
    """Reduced over all processes, in place where the group carries tensors of this device.

    NCCL carries none of the CPU, where a student is prepared before it moves to its GPU.
    """
    carried = [pair.partition(":")[0] for pair in dist.get_backend_config().split(",")]
    there = values if values.device.type in carried else values.to(carried[0])
    dist.all_reduce(there, operation)
    return there.to(values.device)


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
    return _all_reduced(totals, dist.ReduceOp.SUM).tolist()


def gathered(value: Any) -> list[Any]:
    """One plain value of each process, by rank."""
    if not several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def require_one_run(mine: Mapping[str, Any]) -> None:
    """Raise TrainingError unless every process is about to train in the same way: else one would wait for another."""
    for rank, theirs in enumerate(gathered(dict(mine))):
        if theirs != mine:
            found = ", ".join(f"{name} {mine[name]} and {theirs[name]}" for name in mine if mine[name] != theirs[name])
            raise TrainingError(
                f"rank {dist.get_rank()} and rank {rank} do not run the same training, found {found}: give every rank "
                "the same arguments, a checkpoint in a folder that all of them see, and equally many batches, as a "
                "DistributedSampler does"
            )


def require_whole(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Raise TrainingError where a student's parameters have been spread over processes.

    A student computes with the parameters of its layers, not with the layers, so nothing would gather them.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    spread = next((name for name, p in parameters.items() if isinstance(p, DTensor)), None)
    flattened = any(
        getattr(m, "_is_fsdp_managed_module", False) for m in module.modules()
    )  # FullyShardedDataParallel's
    if spread is not None or flattened or isinstance(module, FSDPModule):
        raise TrainingError(
            f"a student needs all of each parameter on every rank, found {spread or 'its parameters'} spread over them "
            "(by fully_shard, say): wrap the student in torch.nn.parallel.DistributedDataParallel instead"
        )


def stop_together(mine: Exception | None, anywhere: bool) -> None:
    """Raise, on every process, what has stopped one of them.

    Args:
        mine: What has stopped this process, or None.
        anywhere: Whether any process was stopped; the same on all of them.
    """
    if not anywhere:
        return
    messages = gathered(None if mine is None else str(mine))
    if mine is not None:
        raise mine
    rank = next(rank for rank, message in enumerate(messages) if message is not None)
    raise TrainingError(f"rank {rank} cannot go on: {messages[rank]}")


def together(work: Callable[[], T], device: torch.device) -> T:
    """What `work` gives, which exchanges nothing; where it fails on one process, every process raises.

    Without it the others would wait for that process in their next exchange until the group gives up.
    """
    if not several():
        return work()
    results: list[T] = []
    failure: Exception | None = None
    try:
        results.append(work())
    except Exception as error:  # also what a loss of the user's own runs into
        failure = error
    (stopped,) = total_over_ranks(float(failure is not None), device=device)
    stop_together(failure, stopped > 0)
    return results[0]


def require_one_recipe(toml: str) -> None:
    """Raise TrainingError unless every process has the same recipe."""
    for rank, theirs in enumerate(gathered(toml)):
        if theirs != toml:
            lines = [line for line in theirs.splitlines() if line not in toml.splitlines()]
            raise TrainingError(
                f"rank {dist.get_rank()} and rank {rank} train with different recipes; rank {rank} says "
                f"{'; '.join(lines) or 'less'}: load the same recipe file on every rank"
            )
