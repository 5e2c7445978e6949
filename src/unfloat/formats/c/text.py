"""Python values as C text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

# A number, C text as it stands, the elements of an array, or the fields of a struct.
Value: TypeAlias = "int | str | Sequence[Value] | Mapping[str, Value]"

CTYPES = {f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
KEYWORD = re.compile(
    r"auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register"
    r"|restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
)


def identifier(name: str) -> str:
    """A name as C takes it: letters, digits and single underscores."""
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
    return f"_{cleaned}" if cleaned[0].isdigit() or KEYWORD.fullmatch(cleaned) else cleaned


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """An identifier for each name, all different, even where letters' case is dropped."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = candidate = identifier(name)
        number = 2
        while candidate.upper() in taken:
            candidate, number = f"{base}_{number}", number + 1
        taken.add(candidate.upper())
        found[name] = candidate
    return found


def initialiser(value: Value) -> str:
    """A C99 initialiser."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{field} = {initialiser(part)}" for field, part in value.items()) + "}"
    if isinstance(value, Sequence):
        return "{" + ", ".join(map(initialiser, value)) + "}"
    return str(int(value))


def array(symbol: str, values: np.ndarray, storage: str = "const") -> str:
    """The definition of a one-dimensional array."""
    flat = values.ravel()
    lines = textwrap.fill(", ".join(map(str, flat.tolist())), 118, initial_indent="    ", subsequent_indent="    ")
    return f"{storage} {CTYPES[flat.dtype.name]} {symbol}[{flat.size}] = {{\n{lines},\n}};\n"


def declaration(symbol: str, values: np.ndarray) -> str:
    """The declaration of what `array` defines."""
    return f"extern const {CTYPES[values.dtype.name]} {symbol}[{values.size}];\n"


def comment(text: str) -> str:
    """Text of the user's, a layer's name, as a line comment: nothing in it ends or goes on after the line."""
    return "// " + re.sub(r"[^\x20-\x7e]+", "?", text).rstrip("\\ ")
