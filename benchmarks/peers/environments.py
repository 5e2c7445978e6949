"""The other runtimes' virtual environments, made where they are not there yet (`make bench`)."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "peers"
ENVIRONMENT = {"ort": "onnx", "openvino": "onnx", "litert": "litert", "executorch": "executorch"}
"""Which environment has a runtime; `<environment>.txt` beside this file says what is in it."""


@cache
def python(environment: str) -> str:
    """The Python of an environment, installed now if need be."""
    wanted = HERE / f"{environment}.txt"
    folder = FOLDER / environment
    done = folder / wanted.name
    if not done.exists() or done.read_text() != wanted.read_text():
        _install(folder, "--requirement", wanted)
        done.write_text(wanted.read_text())
    return str(folder / "bin" / "python")


@cache
def installed() -> str:
    """The Python of an environment that has this project as users have it: installed anew from the source as it is now.

    An editable install, which developers have, costs every process a finder of modules.
    """
    folder = FOLDER / "unfloat"
    _install(folder, "--force-reinstall", ROOT)
    return str(folder / "bin" / "python")


def _install(folder: Path, *what: str | Path) -> None:
    """Into the virtual environment of a folder, made if need be."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *what], check=True)
