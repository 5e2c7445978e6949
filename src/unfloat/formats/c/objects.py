"""What object files hold, read by binutils: instructions of each function, those that compute with floats, calls."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unfloat.spec.errors import ExportError, MissingExtraError

# Software floats: the Arm ABI's helpers (__aeabi_fadd, __aeabi_cdcmple, __aeabi_i2f ...), GCC's (__addsf3, __floatsidf,
# __fixdfsi ...), and the mathematics library's.
SOFT_FLOAT = re.compile(
    r"__aeabi_(c?[fd][a-z]*\d?[a-z]*|u?[il]2[fd]|h2[fd](_alt)?)$"
    r"|__(add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|cmp|unord|pow[is]|extend|trunc|float(un)?|fix(uns)?)[sdthx][a-z]*[ft][a-z]*\d?$"
    r"|__float(un)?[sdt]i[sdtx]f$|__fix(uns)?[sdtx]f[sdt]i$"
    r"|(exp|exp2|log|log2|pow|sqrt|floor|ceil|l?l?round|l?l?rint|nearbyint|trunc|fabs|fma|fmin|fmax|tanh|sin|cos)[fl]?$"
)
FUNCTION = re.compile(r"[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r" *[0-9a-f]+:\t(?P<text>[^.].*)$")  # data among the code begin with a dot: .word
PREFIX = re.compile(r"(?:(?:\{\w+\}|lock|rep\w*|notrack|bnd|data16|addr32|rex\S*|[c-gs]s) +)*")


@dataclass(frozen=True)
class Architecture:
    """For which machine objects were compiled.

    Attributes:
        tools: What the names of its binutils begin with.
        package: What installs them.
        floats: Mnemonics of instructions that compute with floats: arithmetic, comparison, conversion. Moves are none,
            as they carry bytes of any meaning.
    """

    tools: str
    package: str
    floats: re.Pattern[str]


@dataclass(frozen=True)
class Object:
    """An object file.

    Attributes:
        functions: How many instructions each function has.
        floats: (function, instruction), of each instruction that computes with floats.
        calls: What it needs of other objects.
        defines: What it has for others.
    """

    functions: Mapping[str, int]
    floats: tuple[tuple[str, str], ...]
    calls: frozenset[str]
    defines: frozenset[str]

    @property
    def instructions(self) -> int:
        """Of all functions."""
        return sum(self.functions.values())

    def found(self) -> list[str]:
        """What is no integer arithmetic, in words."""
        called = [f"calls {symbol}" for symbol in sorted(self.calls) if SOFT_FLOAT.match(symbol)]
        return called + [f"{function} has the instruction {text}" for function, text in self.floats]


def inspect(path: Path, architecture: Architecture) -> Object:
    """Disassemble an object and list its symbols.

    Raises:
        MissingExtraError: The binutils are not installed.
        ExportError: They cannot read the file.
    """
    functions: dict[str, int] = {}
    floats = []
    name = ""
    for line in tool(architecture, "objdump", "-d", "--no-show-raw-insn", str(path)).splitlines():
        if begun := FUNCTION.match(line):
            name = begun[1]
        elif found := INSTRUCTION.match(line):
            text = " ".join(found["text"].split())
            functions[name] = functions.get(name, 0) + 1
            if architecture.floats.match(text, PREFIX.match(text).end()):  # type: ignore[union-attr]  # matches ""
                floats.append((name, text))
    symbols = [
        line.split()[:2] for line in tool(architecture, "nm", "-g", "--format=posix", str(path)).splitlines() if line
    ]
    calls, defines = (frozenset(n for n, kind in symbols if (kind in "Uw") is wanted) for wanted in (True, False))
    return Object(functions, tuple(floats), calls, defines)


def tool(architecture: Architecture, name: str, *arguments: str) -> str:
    """What a tool of the compiler's family prints.

    Raises:
        MissingExtraError: It is not installed.
        ExportError: It fails.
    """
    command = (f"{architecture.tools}{name}", *arguments)
    if shutil.which(command[0]) is None:
        raise MissingExtraError(f"this needs the program {command[0]}: apt install {architecture.package}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ExportError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
