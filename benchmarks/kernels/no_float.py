"""Looks at the machine code of the engine: no kernel computes with floats; what else does is known, and named.

Moves, shuffles and bitwise operations are no arithmetic, whatever type their names speak of: compilers carry bytes of
integers in them. Everything else of floating point is found: arithmetic, comparisons, conversions, and calls of the
mathematics library.

    python -m benchmarks.kernels.no_float [--arm]

looks at the objects of the engine's own build where they are newer than the sources, and builds them otherwise; with
--arm also at those that the cross compiler makes for 64-bit Arm. Writes docs/results/no_float.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import results

from unfloat.formats.c.objects import Architecture, Object, inspect

ROOT = Path(__file__).parents[2]
KERNELS = "csrc/kernels/"
# What may compute with floats, and why. No kernel is among it.
EXCEPTED = {
    "csrc/engine/rows.c": "the float border, float32 to codes and back; `Engine.run` does not cross it",
    "csrc/engine/training.c": "a student's training step; no Program runs it",
}

_MOVES = "mov|shuf|unpck|insert|extract|blend|broadcast|perm|and|or|xor|maskmov|gather|scatter|compress|expand"
X86_64 = Architecture(
    "",
    "binutils",
    # SSE and AVX end in the type, after what they do; their integers begin with p, or are products of tiles. x87 begins
    # with f.
    re.compile(rf"(?!v?(?:p|{_MOVES})|clflush|tdpb[su]{{2}}d\b)(?:[a-z0-9]+[ps][sdh]\b|v?cvt|f)"),
)
ARM64 = Architecture(
    "aarch64-linux-gnu-",
    "binutils-aarch64-linux-gnu",
    re.compile(r"(?!fmov\b)f|[su]cvtf\b|bf(?:dot|mmla|mlal|cvt)"),  # bfi and bfxil are of bit fields
)


def objects(build: Path, architecture: Architecture) -> dict[str, Object]:
    """The engine's objects in a build's folder, by their sources' paths."""
    paths = {_source(path): path for path in sorted(build.glob("CMakeFiles/unfloat_*.dir/csrc/**/*.o"))}
    return {source: inspect(path, architecture) for source, path in paths.items()}


def faults(found: Mapping[str, Object]) -> list[str]:
    """Floats where none may be; an exception that none needs; no kernels at all."""
    wrong = [f"{source}: {what}" for source, made in found.items() if source not in EXCEPTED for what in made.found()]
    wrong += [
        f"{source}: required floats, as it is excepted, found none" for source in EXCEPTED if not _floats(found, source)
    ]
    if not any(source.startswith(KERNELS) for source in found):
        wrong.append(f"no object of {KERNELS}")
    return wrong


def own_build() -> Path | None:
    """Where the installed engine was built, if that is newer than every source."""
    newest = max(path.stat().st_mtime for path in (ROOT / "csrc").rglob("*") if path.is_file())
    for build in sorted((ROOT / "build").glob("*-*")):
        made = [path.stat().st_mtime for path in build.glob("CMakeFiles/unfloat_*.dir/csrc/**/*.o")]
        if made and min(made) >= newest:
            return build
    return None


def built(folder: Path, arm: bool) -> Path:
    """A release of the engine, compiled into a folder."""
    options = ["-DUNFLOAT_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release"]
    if arm:
        tools = {"C": f"{ARM64.tools}gcc", "CXX": f"{ARM64.tools}g++"}
        options += [f"-DCMAKE_{language}_COMPILER={name}" for language, name in tools.items()]
        options += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    for command in (["-S", str(ROOT), "-B", str(folder), *options], ["--build", str(folder), "--parallel", "2"]):
        subprocess.run(["cmake", *command], check=True, stdout=subprocess.DEVNULL)
    return folder


def _source(path: Path) -> str:
    return path.as_posix().partition(".dir/")[2].removesuffix(".o")


def _floats(found: Mapping[str, Object], source: str) -> list[str]:
    """The functions of a source that compute with floats; versions of one for several levels count once."""
    return sorted({name.partition(".")[0] for name, _ in found[source].floats}) if source in found else []


def _row(machine: str, found: Mapping[str, Object]) -> list[str]:
    kernels = [made for source, made in found.items() if source.startswith(KERNELS)]
    called = {symbol for made in kernels for symbol in made.calls}
    outside = called - {symbol for made in found.values() for symbol in made.defines} - {"_GLOBAL_OFFSET_TABLE_"}
    counts = (len(kernels), sum(len(k.functions) for k in kernels), sum(k.instructions for k in kernels))
    floats = sum(len(k.found()) for k in kernels)
    return [machine, *(f"{n:,}" for n in counts), f"{floats}", ", ".join(f"`{symbol}`" for symbol in sorted(outside))]


def _notes(surveys: Mapping[str, Mapping[str, Object]]) -> list[str]:
    lines = ["What computes with floats, outside the kernels:", ""]
    for source, why in EXCEPTED.items():
        lines.append(f"- `{source}`: {why}")
        for machine, found in surveys.items():
            lines.append(f"  - {machine}: {', '.join(f'`{name}`' for name in _floats(found, source))}")
    return lines


def main() -> int:
    """Look, write the page, and say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arm", action="store_true", help="also 64-bit Arm, by the cross compiler")
    arguments = parser.parse_args()
    here = own_build() or built(ROOT / "build/no_float/x86_64", arm=False)
    surveys = {"x86-64": objects(here, X86_64)}
    if arguments.arm:
        surveys["Arm64"] = objects(built(ROOT / "build/no_float/arm64", arm=True), ARM64)
    wrong = [f"{machine}: {fault}" for machine, found in surveys.items() for fault in faults(found)]
    columns = ("machine", "objects", "functions", "instructions", "of floating point", "calls outside the engine")
    rows = [_row(machine, found) for machine, found in surveys.items()]
    results.write("no_float", "No floating point in the engine's kernels", columns, rows, [*wrong, *_notes(surveys)])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
