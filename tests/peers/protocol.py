"""How jobs reach another process and results come back: two npz files. NumPy and the standard library only.

Keys: "<job>/model" (bytes as uint8), "<job>/input/<i>" ([n, ...], one sample a row), "<job>/output/<i>", and
"<job>/error" (text) where a runtime refuses a model. A job's samples are runs in a row of one interpreter, whose
variables nobody resets between them; every job begins anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Arrays = list[np.ndarray]
Job = tuple[bytes, Arrays]  # a model and its inputs


def pack(jobs: Sequence[Job], path: Path) -> None:
    """Write jobs."""
    arrays = {f"{j}/model": np.frombuffer(model, np.uint8) for j, (model, _) in enumerate(jobs)}
    arrays |= {f"{j}/input/{i}": array for j, (_, inputs) in enumerate(jobs) for i, array in enumerate(inputs)}
    np.savez(path, **arrays)


def numbered(arrays: dict[str, np.ndarray], job: int, kind: str) -> Arrays:
    """A job's inputs or outputs, in order."""
    count = sum(key.startswith(f"{job}/{kind}/") for key in arrays)
    return [arrays[f"{job}/{kind}/{i}"] for i in range(count)]


def plain(codes: np.ndarray, dtype: type) -> np.ndarray:
    """Indices as a file takes them, int32 or int64; everything else as it is, to be refused where it does not fit."""
    return codes.astype(dtype) if codes.dtype == np.int16 and np.dtype(dtype) in (np.int32, np.int64) else codes


def main(run: Callable[[bytes, Arrays], Arrays]) -> None:
    """Run the jobs of `argv[1]` into `argv[2]`; name each on standard output, so that a crash can be told."""
    with np.load(sys.argv[1]) as file:
        arrays = dict(file)
    results: dict[str, np.ndarray] = {}
    for job in range(sum(key.endswith("/model") for key in arrays)):
        print(job, flush=True)  # noqa: T201 - the protocol
        try:
            outputs = run(arrays[f"{job}/model"].tobytes(), numbered(arrays, job, "input"))
        except Exception as error:
            results[f"{job}/error"] = np.array(repr(error))
            continue
        results |= {f"{job}/output/{i}": array for i, array in enumerate(outputs)}
    np.savez(sys.argv[2], **results)
