"""Which names a network of a folder may have: its files, its symbols and its build target must clash with nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from unfloat.formats.c.text import identifier
from unfloat.spec.errors import ExportError

LENGTH = 100  # files and symbols are longer; file systems end at 255 bytes
# Of the folder's build: its own targets, and those that CMake makes.
TARGETS = re.compile(
    r"all|all_build|clean|codegen|continuous|depend|edit_cache|experimental|golden|help|install"
    r"|list_install_components|main|nightly|package|package_source|preinstall|rebuild_cache|run_tests|test"
    r"|unfloat_kernels|zero_check"
)
# C's, and what headers of C libraries and compilers include in their turn: the folders of -I come before theirs.
HEADERS = re.compile(
    r"assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|std(align|arg|atomic|bit"
    r"|bool|ckdint|def|int|io|lib|noreturn)|string|tgmath|threads|time|uchar|wchar|wctype"
    r"|alloca|arm_acle|arm_mve|arm_neon|endian|features|immintrin|malloc|memory|newlib|pthread|reent|sched|strings"
    r"|syslimits|unistd|xlocale"
)
OWN_SYMBOLS = re.compile(r"(uf|qmath)(_.*)?")  # of the kernels
ENDINGS = ("_weights", "_golden")  # of the files of other networks
ACCESSORS = ("_input", "_output")  # of another network's functions and macros, before a port's name


def require_name(name: Any) -> None:
    """Refuse a name that a network of a folder cannot have; letters' case does not count, as on some file systems.

    Raises:
        ExportError: It is no C identifier, is too long, or clashes; the message has a name to try.
    """
    if not isinstance(name, str):
        raise ExportError(f"name: required a string, found {name!r:.60}")
    if len(name) > LENGTH:
        raise ExportError(f"name: required at most {LENGTH} letters, found {len(name)}; pass a shorter name=")
    if identifier(name) != name:
        raise ExportError(f"required a name that C takes as an identifier, found {name!r}; try {identifier(name)!r}")
    if reason := _clash(name.lower()):
        required = "required a name that leaves the folder's build and the headers of others alone"
        raise ExportError(f"{required}, found {name!r}, which is {reason}; pass name={_free(name)!r}")


def require_apart(name: str, others: Iterable[str]) -> None:
    """Refuse a name that would clash with another network of the folder.

    Raises:
        ExportError: It differs in case alone, or one is the other's with `_input` or `_output` behind.
    """
    for other in others:
        if other != name and other.lower() == name.lower():
            required = "required a name that differs from the folder's other networks not in letters' case alone"
            raise ExportError(f"{required}, found {name!r} beside {other!r}; pass name={other!r} or another one")
        if _reaches(name, other) or _reaches(other, name):
            required = "required a name apart from the functions of the folder's other networks"
            advice = "neither may be the other with _input or _output behind; pass another name="
            raise ExportError(f"{required}, found {name!r} beside {other!r}: {advice}")


def _clash(name: str) -> str:
    if TARGETS.fullmatch(name):
        return "a target of the folder's build"
    if HEADERS.fullmatch(name):
        return "the name of a header of C or of a compiler"
    if name in _kernel_headers():
        return "the name of a kernels' header"
    if OWN_SYMBOLS.fullmatch(name):
        return "how the kernels' own symbols begin"
    return "how other networks' files end" if name.endswith(ENDINGS) else ""


def _free(name: str) -> str:
    return f"net_{name}_net" if OWN_SYMBOLS.fullmatch(name.lower()) else f"{name}_net"


def _reaches(name: str, other: str) -> bool:
    """Whether a name begins as the other network's accessors do."""
    return any(f"{name}_".lower().startswith(f"{other}{end}_".lower()) for end in ACCESSORS)


@cache
def _kernel_headers() -> frozenset[str]:
    """Of those that lie in an export's `kernels/`, which is among the include folders."""
    root = files("unfloat").joinpath("csrc")
    paths = [path for room in ("include", "kernels") for path in root.joinpath(room).iterdir()]
    return frozenset(path.name.removesuffix(".h") for path in paths if path.name.endswith(".h"))
