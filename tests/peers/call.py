"""Call another runtime: in this Python if it is installed here, else in the one that UNFLOAT_PEERS_PYTHON names.

Always in a process of its own: a runtime may abort on a model it does not like.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.peers.protocol import Arrays, Job, numbered, pack

Peer = Callable[[Sequence[Job]], list[Arrays | str]]
PACKAGES = {  # module to look for, package to install
    "tflm": ("tflite_micro", "tflite-micro"),
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "xnnpack": ("ai_edge_litert", "ai-edge-litert"),
    "vela": ("ethosu", "ethos-u-vela"),
}
VARIABLE = "UNFLOAT_PEERS_PYTHON"


def peer(name: str) -> Peer:
    """A runtime by its short name, as a function from jobs to outputs (or the runtime's error as text).

    Skips the test, saying what to install, where the runtime is nowhere; fails it if UNFLOAT_NO_SKIP is set.
    """
    module, package = PACKAGES[name]
    python = sys.executable if importlib.util.find_spec(module) else os.environ.get(VARIABLE)
    if python is None:
        missing = (
            f"{module} is not installed (pip install --pre {package}) and {VARIABLE} does not name a Python that has it"
        )
        (pytest.fail if os.environ.get("UNFLOAT_NO_SKIP") else pytest.skip)(missing)
    return lambda jobs: run(python, Path(__file__).with_name(f"run_{name}.py"), jobs)


def run(python: str, script: Path, jobs: Sequence[Job]) -> list[Arrays | str]:
    """Run jobs with a script in a process; a crash of the process is the answer of the job it happened in."""
    answers: list[Arrays | str] = []
    while len(answers) < len(jobs):
        answers += _attempt(python, script, jobs[len(answers) :])
    return answers


def _attempt(python: str, script: Path, jobs: Sequence[Job]) -> list[Arrays | str]:
    """Answers up to the end, or up to the job in which the process died."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "jobs.npz"), Path(folder, "results.npz")
        pack(jobs, asked)
        done = subprocess.run([python, script, asked, answered], capture_output=True, text=True, check=False)
        if done.returncode:
            reached = int((done.stdout.split() or ["0"])[-1])
            crash = f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
            return [*(_attempt(python, script, jobs[:reached]) if reached else []), crash]
        with np.load(answered) as file:
            arrays = dict(file)
    return [
        str(arrays[f"{j}/error"]) if f"{j}/error" in arrays else numbered(arrays, j, "output") for j in range(len(jobs))
    ]
