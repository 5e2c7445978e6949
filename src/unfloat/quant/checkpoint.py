"""The file that a training loop can go on from, bit for bit."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from unfloat.program.file import write_atomically
from unfloat.quant.distributed import gathered, several
from unfloat.spec.errors import TrainingError

KIND = "unfloat.fit 1"


def write_checkpoint(path: Path, record: dict[str, Any], batches: Any) -> None:
    """Write a record, and the state of every random generator in every process; all or nothing, rank 0 writes.

    Args:
        path: Where.
        record: Tensors and plain values.
        batches: The training data; the generators of a DataLoader and of its samplers are kept too.
    """
    states = gathered(random_state(batches))
    if not several() or not dist.get_rank():
        buffer = io.BytesIO()
        torch.save({"kind": KIND, **record, "random": states}, buffer)
        write_atomically(path, buffer.getvalue())
    gathered(None)  # no process goes on, perhaps to read it, before it is there


def require_replaceable(path: Path) -> None:
    """Refuse to write over a file that is something else: a model, say.

    Raises:
        TrainingError: It is no checkpoint of `unfloat.fit`.
    """
    try:
        if path.exists():
            _read(path)
    except TrainingError as error:
        raise TrainingError(f"{error}: a new run would write over it: choose another path") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a record. Only tensors and plain values are accepted: the file runs no code.

    Raises:
        TrainingError: It is no checkpoint of `unfloat.fit`, or was written by another number of processes.
    """
    record = _read(path)
    count = dist.get_world_size() if several() else 1
    if len(record["random"]) != count:
        raise TrainingError(
            f"{path}: it was written by {len(record['random'])} processes, found {count}: go on with as many"
        )
    return record


def _read(path: Path) -> dict[str, Any]:
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path}: not a readable checkpoint: {type(error).__name__} {str(error)[:200]}") from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise TrainingError(f"{path}: required a checkpoint written by unfloat.fit, found something else")
    return record


def random_state(batches: Any) -> dict[str, Any]:
    """The state of every generator that a training run may draw from, in plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss),
        "batches": [generator.get_state() for generator in _generators(batches)],
    }


def restore_random_state(states: list[dict[str, Any]], batches: Any) -> None:
    """Put back what `random_state` took, each process its own."""
    state = states[dist.get_rank() if several() else 0]
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    for generator, saved in zip(_generators(batches), state["batches"], strict=True):
        generator.set_state(saved)


def _generators(batches: Any) -> list[torch.Generator]:
    inner = getattr(batches, "batch_sampler", None)
    owners = (batches, getattr(batches, "sampler", None), inner, getattr(inner, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
