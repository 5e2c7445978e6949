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
# Words that are taken: C's and C++'s, as a firmware of C++ includes the headers too; types and macros of headers that a
# firmware may have included before, or that a compiler defines itself.
KEYWORD = re.compile(
    r"auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register"
    r"|restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
    r"|alignas|alignof|and|and_eq|asm|atomic_cancel|atomic_commit|atomic_noexcept|bitand|bitor|bool|catch|char(8|16|32)_t"
    r"|class|compl|concept|consteval|constexpr|constinit|const_cast|co_await|co_return|co_yield|decltype|delete"
    r"|dynamic_cast|explicit|export|false|friend|mutable|namespace|new|noexcept|not|not_eq|nullptr|operator|or|or_eq"
    r"|private|protected|public|reflexpr|reinterpret_cast|requires|static_assert|static_cast|synchronized|template|this"
    r"|thread_local|throw|true|try|typeid|typename|typeof|typeof_unqual|using|virtual|wchar_t|xor|xor_eq"
    r"|u?int\w*_t|s?size_t|ptrdiff_t|complex|imaginary|I|noreturn|offsetof|assert|errno|setjmp|va_(start|arg|end|copy)"
    r"|NULL|EOF|TRUE|FALSE|BUFSIZ|NDEBUG|EXIT_(SUCCESS|FAILURE)|SEEK_(SET|CUR|END)|stdin|stdout|stderr"
    r"|INFINITY|NAN|HUGE_VAL[FL]?|M_\w+|U?INT\w*_(MIN|MAX|C|WIDTH)|CHAR_BIT|MB_LEN_MAX|RAND_MAX"
    r"|(S?CHAR|UCHAR|U?SHRT|U?L?LONG|SIZE|PTRDIFF|WCHAR|WINT|SIG_ATOMIC|FLT|DBL|LDBL)_(MIN|MAX)"
    r"|linux|unix|i386|mips|sparc|sun|near|far"
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
