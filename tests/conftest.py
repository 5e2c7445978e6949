"""Shared fixtures, and what the markers mean.

A test marked `data`, `cross` or `fuzz` is skipped where its tools are missing, unless UNFLOAT_NO_SKIP is set: then a
missing tool is a failure, so that nothing goes unrun unseen.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def _missing(*tools: str) -> str:
    missing = [tool for tool in tools if not shutil.which(tool)]
    return f"not installed: {', '.join(missing)}" if missing else ""


_NEEDS = {
    "data": lambda: (
        "" if os.environ.get("UNFLOAT_DATA") else "UNFLOAT_DATA does not name the folder of pictures and models"
    ),
    "cross": lambda: _missing(
        "aarch64-linux-gnu-gcc",
        "aarch64-linux-gnu-g++",
        "qemu-aarch64-static",
        "arm-none-eabi-gcc",
        "qemu-system-arm",
    ),
    "fuzz": lambda: "" if shutil.which("clang") else "clang is not installed",
}


# Files of few tests that take long. They begin first, so that no process is left with them when the others have ended.
_LONG = ("test_native_build.py", "test_c.py", "test_examples.py", "test_c_certificate.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in _NEEDS.items():
        reason = missing() if item.get_closest_marker(marker) else ""
        if reason and os.environ.get("UNFLOAT_NO_SKIP"):
            pytest.fail(f"marked {marker!r} and may not be skipped here: {reason}")
        if reason:
            pytest.skip(f"marked {marker!r}: {reason}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that UNFLOAT_DATA names."""
    return Path(os.environ["UNFLOAT_DATA"])
