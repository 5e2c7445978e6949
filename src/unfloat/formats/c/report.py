"""`REPORT.md`: flash, RAM and multiply-accumulates of each network of a folder, a section a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from unfloat.formats.c.manifest import read
from unfloat.formats.c.net import Net

COMPILER, FLAGS = "arm-none-eabi-gcc", ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft", "-Os")
SECTIONS = ("-std=c99", "-ffunction-sections", "-fdata-sections")

_SECTION = """\
# {name}

| | bytes |
|---|---:|
| flash: weights and tables | {weights:,} |
| flash: code{how} | {code} |
| RAM: arena | {arena:,} |
{states}
{macs:,} multiply-accumulates a run.

| layer | operator | kernel | output | MAC | constants | scratch |
|---|---|---|---|---:|---:|---:|
{rows}
"""


def report(net: Net, macs: Mapping[str, int], folder: Path) -> str:
    """A network's section; the folder holds its sources, and a compiler, if there is one, says how large they are."""
    size = code_bytes(net.name, folder)
    rows = []
    for layer in net.layers:
        name = layer.instruction.name
        shape = " x ".join(map(str, layer.output.shape[1:]))
        prefix = net.constant(name, "")
        constants = sum(array.nbytes for symbol, array in net.constants.items() if symbol.startswith(prefix))
        cells = (layer.instruction.op, f"`{layer.prepared.kernel}`", shape)
        numbers = (f"{n:,}" for n in (macs[name], constants, layer.prepared.scratch))
        rows.append(f"| {name.replace('|', '/')} | {' | '.join((*cells, *numbers))} |")
    return _SECTION.format(
        name=net.name,
        weights=net.constant_bytes,
        how=f", `{COMPILER} {' '.join(FLAGS)}`" if size is not None else "",
        code=f"{size:,}" if size is not None else f"not measured: needs {COMPILER} with a C library",
        arena=net.memory.size,
        states=f"| RAM: what runs leave to the next | {net.state_bytes:,} |\n" if net.states else "",
        macs=sum(macs.values()),
        rows="\n".join(rows),
    )


def merged(text: str, section: str) -> str:
    """A report's text with one network's section replaced or added; networks in the order of their names."""
    sections = {
        part.partition("\n")[0]: part for part in re.split(r"^(?=# )", f"{text}\n{section}", flags=re.MULTILINE)
    }
    return "\n".join(sections[title].strip() + "\n" for title in sorted(sections) if title)


def code_bytes(name: str, folder: Path) -> int | None:
    """Bytes of a network's code and of the kernels it calls, its constants not counted; None without a toolchain.

    A compiler without a C library's headers is none either: the folder is whole, its report says what was not measured.
    """
    if shutil.which(COMPILER) is None:
        return None
    sources = [folder / path for path in (f"{name}.c", *read(folder).kernels)]
    with tempfile.TemporaryDirectory() as scratch:
        linked = Path(scratch) / "linked.o"
        keep = ("-nostdlib", "-r", "-Wl,--gc-sections", f"-Wl,-e,{name}_run", f"-Wl,-u,{name}_run")
        command = [COMPILER, *FLAGS, *SECTIONS, f"-I{folder / 'kernels'}", *map(str, sources), *keep, "-o", str(linked)]
        try:
            subprocess.run(command, check=True, capture_output=True)
            sizes = subprocess.run(["arm-none-eabi-size", str(linked)], check=True, capture_output=True, text=True)
        except (subprocess.CalledProcessError, OSError):
            return None
    return int(sizes.stdout.splitlines()[1].split()[0])
