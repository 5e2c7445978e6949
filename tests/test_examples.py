"""The ImageNet script on a tiny folder: one process, two processes, and going on from a checkpoint."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unfloat

SCRIPT = Path(__file__).parent.parent / "examples" / "imagenet_qat.py"
MODEL = """
from torch import nn

def tiny():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, dark and bright, in train/ and val/, and a model in a module of its own."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, level in (("dark", 40), ("bright", 200)):
            place = tmp_path / "pictures" / part / name
            place.mkdir(parents=True)
            for i in range(8):
                pixels = np.clip(rng.normal(level, 20, (24 + i, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    (tmp_path / "tiny_model.py").write_text(MODEL)
    return tmp_path


def run(
    folder: Path,
    epochs: int,
    *launcher: str,
    output: str = "tiny.unfloat",
    more: tuple[str, ...] = (),
    script: Path = SCRIPT,
) -> str:
    command = [*(launcher or (sys.executable,)), str(script), "--model", "tiny_model:tiny"]
    command += ["--data", str(folder / "pictures"), "--output", str(folder / output), "--epochs", str(epochs), *more]
    command += ["--batch", "4", "--size", "16", "--workers", "0", "--calibration", "2", "--rate", "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_process_and_on_from_its_checkpoint(folder: Path):
    first = run(folder, 1)
    assert "epoch 1" in first and "top-1" in first
    more = run(folder, 3)
    assert "epoch 1:" not in more and "epoch 3" in more
    assert unfloat.load(folder / "tiny.unfloat").verify()


def test_a_resumed_run_is_the_same_run(folder: Path):
    whole = run(folder, 2, output="whole.unfloat")
    (folder / "whole.pt").unlink()
    script = SCRIPT.read_text().replace("for epoch in range(begin, arguments.epochs):", "for epoch in range(begin, 1):")
    interrupted = folder / "interrupted.py"
    interrupted.write_text(script)
    run(folder, 2, sys.executable, output="part.unfloat", script=interrupted)
    assert run(folder, 2, output="part.unfloat").splitlines()[0] == whole.splitlines()[1]
    assert (folder / "part.unfloat").read_bytes() == (folder / "whole.unfloat").read_bytes()


def test_the_papers_own_scheme(folder: Path):
    (folder / "paper.toml").write_text('scheme = "uint8"\nequalize = true\n')
    run(folder, 1, more=("--recipe", str(folder / "paper.toml")))
    assert {t.qparams.dtype for t in unfloat.load(folder / "tiny.unfloat").tensors.values()} == {"uint8"}


def test_two_processes(folder: Path):
    found = run(folder, 2, sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    assert found.count("epoch 2:") == 1  # one of the two says so: they know of each other
    assert unfloat.load(folder / "tiny.unfloat").verify()


def test_an_lstm_reads_digits_with_weights_of_4_bits() -> None:
    measure = runpy.run_path(str(SCRIPT.parent / "digits_lstm.py"))["measure"]
    percents, program = measure(bits=4, epochs=1)
    assert percents["float"] > 93
    assert percents["quantized"] > percents["float"] - 3
    assert percents["trained"] > percents["float"] - 1
    assert program.instructions[0].op == "lstm"
