"""The proof that exported C computes with integers only: no floating-point instruction, no call of a software float.

Compiled for a core without a floating-point unit, whatever computes with floats must call the compiler's library. So
the symbols of the objects tell; their disassembly is searched too, for a compiler that was told of a unit.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unfloat.formats.c.manifest import read
from unfloat.formats.c.objects import Architecture, Object, inspect, tool
from unfloat.spec.errors import ExportError

# Floating point of Armv7-M and Armv8-M: VFP's instructions have a type such as .f32; so has Helium's float half.
CORTEX_M = Architecture(
    "arm-none-eabi-",
    "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    re.compile(r"v[a-z0-9]+(?:\.[a-z0-9]+)*\.f(?:16|32|64)\b", re.IGNORECASE),
)
# None has a floating-point unit. The first runs plain C, the second the DSP extension, the third Helium's integer half.
CORES = {
    "cortex-m3": ("-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft"),
    "cortex-m4": ("-mcpu=cortex-m4+nofp", "-mthumb", "-mfloat-abi=soft"),
    "cortex-m55": ("-mcpu=cortex-m55+nofp", "-mthumb", "-mfloat-abi=hard"),
}
FLAGS = ("-std=c99", "-Os", "-ffunction-sections")


@dataclass(frozen=True)
class NoFloat:
    """What was looked at, for one core.

    Attributes:
        core: Its name.
        flags: The compiler's.
        objects: How many object files.
        instructions: How many instructions they hold; none computes with floats.
        calls: What they call that is not in the folder: the C library's, and the compiler's integer helpers.
    """

    core: str
    flags: str
    objects: int
    instructions: int
    calls: tuple[str, ...]


def prove(folder: str | Path, cores: Iterable[str] = tuple(CORES)) -> tuple[NoFloat, ...]:
    """Compile an exported folder for cores without a floating-point unit, and find no float in any object.

    Args:
        folder: Where networks were exported to. The networks and kernels count that its manifest lists, as they are what
            its build compiles; what checks them, main.c and the golden codes, does not.
        cores: For which of CORES.

    Raises:
        ExportError: An object holds floating point; each place is named. Or the folder has no manifest, or does not
            compile.
        MissingExtraError: The compiler is not installed.
    """
    folder = Path(folder)
    listed = read(folder)
    names = sorted(listed.networks)
    code = [folder / path for path in (*(f"{name}.c" for name in names), *listed.kernels)]
    first = next(iter(CORES))
    constants = _compiled(folder, [folder / f"{name}_weights.c" for name in names], first)  # data: the same for all
    return tuple(_proved(core, {**constants, **_compiled(folder, code, core)}) for core in cores)


def compiler() -> str:
    """The compiler's first line about itself.

    Raises:
        MissingExtraError: It is not installed.
    """
    return tool(CORTEX_M, "gcc", "--version").splitlines()[0]


def _proved(core: str, objects: Mapping[str, Object]) -> NoFloat:
    found = [f"{source}: {what}" for source, made in objects.items() for what in made.found()]
    if found:
        raise ExportError("\n  - ".join([f"{core}: required integers only, found floating point:", *found]))
    called = {symbol for made in objects.values() for symbol in made.calls}
    own = {symbol for made in objects.values() for symbol in made.defines}
    flags = " ".join((*CORES[core], *FLAGS))
    instructions = sum(made.instructions for made in objects.values())
    return NoFloat(core, flags, len(objects), instructions, tuple(sorted(called - own)))


def _compiled(folder: Path, sources: Sequence[Path], core: str) -> dict[str, Object]:
    """The objects of these sources, by the source's path in the folder."""
    names = [str(source.relative_to(folder)) for source in sources]
    include = (f"-I{folder}", f"-I{folder / 'kernels'}")

    def made(source: Path, target: Path) -> Object:
        tool(CORTEX_M, "gcc", *CORES[core], *FLAGS, *include, "-c", str(source), "-o", str(target))
        return inspect(target, CORTEX_M)

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor() as pool:
        targets = [Path(scratch) / f"{i}.o" for i in range(len(sources))]
        return dict(zip(names, pool.map(made, sources, targets), strict=True))
