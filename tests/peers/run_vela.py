"""Compile jobs with Arm's Vela for Ethos-U55. Executed by whatever Python has `ethosu`; see `call.py`.

The one output of a job is how many operators stay on the CPU, and how many go to the NPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from protocol import main


def run(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Compile a model; its inputs are not looked at."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(model)
        command = [Path(sys.executable).with_name("vela"), "--output-dir", folder, path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = dict(re.findall(r"(CPU|NPU) operators = (\d+)", done.stdout))
    return [np.array([int(counts["CPU"]), int(counts["NPU"])])]


if __name__ == "__main__":
    main(run)
