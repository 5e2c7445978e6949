"""Compiles the kernels for x86-64 by themselves, without the engine, as CMake does for a release."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "csrc" / "kernels"
LEVEL = "avx512vnni"
LEVELS = ("scalar", "avx2", "avxvnni", "avx512vl", LEVEL)


def level_flags(level: str = LEVEL) -> list[str]:
    """A level's compiler flags, from CMakeLists.txt."""
    found = re.search(rf"UNFLOAT_FLAGS_{level}\s+([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
    if found is None:
        raise RuntimeError(f"CMakeLists.txt has no flags for the level {level}")
    return found[1].split()


def compiler(folder: Path) -> list[str]:
    """The command line, less what to compile; `folder` gets the list of kernels."""
    lists = (f'#include "{path}"\n' for path in sorted(KERNELS.glob("*/kernels.inc")))
    (folder / "all_kernels.inc").write_text("".join(lists))
    include = [f"-I{path}" for path in (ROOT / "csrc", ROOT / "csrc" / "include", folder)]
    return [os.environ.get("CC", "cc"), "-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC", "-DUF_X86_64=1", *include]


def objects(folder: Path) -> list[Path]:
    """Object files of every kernel, named <family>_<level>.o, in `folder`."""
    built = []
    for source in sorted(KERNELS.glob("*/*.c")):
        level = source.stem.split("_")[0]
        if level not in LEVELS:
            continue  # of another architecture
        flags = level_flags(level) if level != "scalar" else []
        target = folder / f"{source.parent.name}_{source.stem}.o"
        subprocess.run([*compiler(folder), *flags, "-c", str(source), "-o", str(target)], check=True)
        built.append(target)
    return built
