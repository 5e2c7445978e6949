"""The kernels' own sources, the very files that the engine compiles, as one folder that several networks share.

Each begins with a line that names its licence: in an export no other file does.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from importlib.resources import files

LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def kernel_sources(kernels: Iterable[str]) -> dict[str, str]:
    """Every file that these kernels need.

    Args:
        kernels: "<family>__<variant>", the variant being the file's name.

    Returns:
        Texts by path below the exported `kernels/`: "<family>/<variant>.c", and the headers they include.
    """
    found: dict[str, str] = {}
    waiting = [f"{family}/{variant}.c" for family, _, variant in (kernel.partition("__") for kernel in kernels)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = _read(path)
        waiting += [_resolve(path, name) for name in INCLUDE.findall(found[path])]
    return dict(sorted(found.items()))


def has_source(kernel: str) -> bool:
    """Whether this version has the kernel, which another one may have exported."""
    family, _, variant = kernel.partition("__")
    return files("unfloat").joinpath("csrc", "kernels", family, f"{variant}.c").is_file()


def _resolve(path: str, name: str) -> str:
    """Where a file of that name is, seen from the one that includes it: beside it, or among the public headers."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    return beside if files("unfloat").joinpath("csrc", "kernels", beside).is_file() else name


def _read(path: str) -> str:
    root = files("unfloat").joinpath("csrc")
    source = root.joinpath("kernels", path)
    if not source.is_file():
        source = root.joinpath("include", path)  # kernel.h, qmath.h: one folder serves in an export
    return LICENCE + source.read_text(encoding="utf-8")
