"""The proof that exported C computes with integers only: no floating-point instruction, no call of a software float.

Compiled for a core without a floating-point unit, whatever computes with floats must call the compiler's library. So
the symbols of the objects tell; their disassembly is searched too, for a compiler that was told of a unit.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unfloat.spec.errors import ExportError, MissingExtraError

PREFIX = "arm-none-eabi-"
FLAGS = ("-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft", "-std=c99", "-Os", "-ffunction-sections")
CHECKS = ("main.c", "_golden.c")  # of the folder, but no part of a firmware

# Software floats: the Arm ABI's helpers (__aeabi_fadd, __aeabi_cdcmple, __aeabi_i2f ...), GCC's (__addsf3, __floatsidf,
# __fixdfsi ...), and the mathematics library's.
SOFT_FLOAT = re.compile(
    r"__aeabi_(c?[fd][a-z]*\d?[a-z]*|u?[il]2[fd]|h2[fd](_alt)?)$"
    r"|__(add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|cmp|unord|pow[is]|extend|trunc|float(un)?|fix(uns)?)[sdthx][a-z]*[ft][a-z]*\d?$"
    r"|__float(un)?[sdt]i[sdtx]f$|__fix(uns)?[sdtx]f[sdt]i$"
    r"|(exp|exp2|log|log2|pow|sqrt|floor|ceil|round|rint|lrint|nearbyint|fabs|tanh|sin|cos)[fl]?$"
)
# Floating point of Armv7-M and Armv8-M: VFP's instructions have a type such as .f32; so has Helium's float half.
FLOAT_INSTRUCTION = re.compile(
    r"\tv[a-z0-9]+(?:\.[a-z0-9]+)*\.[fF](?:16|32|64)\b|\t(?:vldr|vstr|vldmia|vpush|vpop|vmrs|vmsr)\b"
)


@dataclass(frozen=True)
class NoFloat:
    """What was looked at.

    Attributes:
        objects: How many object files.
        instructions: How many instructions they hold.
        compiler: The compiler's first line about itself, and its flags.
    """

    objects: int
    instructions: int
    compiler: str


def prove(folder: str | Path) -> NoFloat:
    """Compile an exported folder for a core without a floating-point unit, and find no float in any object.

    Args:
        folder: Where networks were exported to; what checks them, main.c and the golden codes, does not count.

    Raises:
        ExportError: An object holds floating point; each place is named. Or the folder does not compile.
        MissingExtraError: The compiler is not installed.
    """
    folder = Path(folder)
    sources = [p for p in sorted(folder.glob("*.c")) if not p.name.endswith(CHECKS)] + sorted(
        folder.glob("kernels/*/*.c")
    )
    with tempfile.TemporaryDirectory() as scratch:
        objects = [_compiled(source, folder, Path(scratch) / f"{i}.o") for i, source in enumerate(sources)]
        found = [f"{source}: {what}" for source, o in zip(sources, objects, strict=True) for what in floats_in(o)]
        if found:
            raise ExportError("\n  - ".join(["required integers only, found floating point:", *found]))
        count = sum(len(re.findall(r"^ +[0-9a-f]+:\t", _tool("objdump", "-d", str(o)), re.MULTILINE)) for o in objects)
    version = _tool("gcc", "--version").splitlines()[0]
    return NoFloat(len(objects), count, f"{version}, {' '.join(FLAGS)}")


def floats_in(compiled: Path) -> Iterator[str]:
    """Each software float that an Arm object calls, and each floating-point instruction in it."""
    for line in _tool("nm", "--undefined-only", "--format=posix", str(compiled)).splitlines():
        symbol = line.split()[0]
        if SOFT_FLOAT.match(symbol):
            yield f"calls {symbol}"
    for line in _tool("objdump", "-d", str(compiled)).splitlines():
        if FLOAT_INSTRUCTION.search(line):
            yield f"has the instruction {' '.join(line.split(chr(9))[2:])}"


def _compiled(source: Path, folder: Path, target: Path) -> Path:
    _tool("gcc", *FLAGS, f"-I{folder}", f"-I{folder / 'kernels'}", "-c", str(source), "-o", str(target))
    return target


def _tool(name: str, *arguments: str) -> str:
    command: Sequence[str] = (f"{PREFIX}{name}", *arguments)
    if shutil.which(command[0]) is None:
        raise MissingExtraError(f"this needs the program {command[0]}: apt install gcc-arm-none-eabi")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ExportError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
