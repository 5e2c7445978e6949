"""What `unfloat bench` measures, as records for people and scripts."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unfloat.cli.peers import Peer, parse, take_turns
from unfloat.ir.graph import own_shape
from unfloat.program.plan import plan, tensor_bytes
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine, level_in_use, peak
from unfloat.spec.errors import PeerError

SECONDS = 0.25  # of a turn


def timed(engine: Engine, program: Program, runs: int, batch: int, level: str | None) -> dict[str, Any]:
    """The whole program on zeros, real numbers in and out."""
    zeros = _zeros(program, engine, batch)
    engine(*zeros)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        engine(*zeros)
        times.append((time.perf_counter() - start) * 1e3)
    settings = {"threads": engine.threads, "batch": batch, "level": level_in_use(level)}
    return {"median_ms": statistics.median(times), "least_ms": min(times), **settings}


def profiled(engine: Engine, program: Program, batch: int, level: str | None) -> dict[str, Any]:
    """Each layer's time, what the machine can do, and where activations lie."""
    layers = engine.profile(*_zeros(program, engine, batch))
    return {
        "peak_macs_per_second": peak(engine.threads, level),
        "layers": [asdict(layer) for layer in layers],
        "arena": _arena(program),
    }


def _arena(program: Program) -> dict[str, Any]:
    memory = plan(program)
    tensors = [
        {
            "name": name,
            "offset": memory.offsets[name],
            "bytes": tensor_bytes(program, name),
            "first": first,
            "last": last,
        }
        for name, (first, last) in memory.lives.items()
    ]
    return {"bytes": memory.size, "tensors": tensors}


@contextmanager
def peers_of(program: Program, wanted: str | None, pythons: Sequence[str]) -> Iterator[list[Peer]]:
    """The peers that a command line asks for; a file made for one of them goes at the end."""
    if wanted is None and pythons:
        raise PeerError("--python: required --compare, which names the runtimes, found none")
    with tempfile.TemporaryDirectory() as folder:
        yield [] if wanted is None else parse(wanted, pythons, program, Path(folder))


def compared(file: Path, peers: Sequence[Peer], record: Mapping[str, Any], turns: int) -> list[dict[str, Any]]:
    """The engine and its peers in turns, the engine first; settings as `timed` has recorded them."""
    settings = {key: record[key] for key in ("threads", "batch", "level")}
    return [runtime.record() for runtime in take_turns(file, peers, **settings, turns=turns, seconds=SECONDS)]


def _zeros(program: Program, engine: Engine, batch: int) -> list[np.ndarray]:
    ports = zip(program.inputs, engine.dtypes, strict=True)
    return [np.zeros((batch, *own_shape(port)[1:]), dtype) for port, dtype in ports]
