"""The certificate of an exported folder: whose bits it computes, that it is unchanged, and that no object holds a float."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unfloat.formats.c.manifest import NAME, Network, read, read_files
from unfloat.formats.c.no_float import NoFloat, compiler, prove
from unfloat.formats.c.report import code_bytes


@dataclass(frozen=True)
class ExportCertificate:
    """What was proved of a folder of C.

    Attributes:
        networks: Each network's Program, identity and sizes, by the network's name.
        code_bytes: Flash of each network's code and kernels on a Cortex-M4; None where the compiler has no C library.
        files: How many files are as they were exported.
        compiler: What compiled them.
        cores: What was looked at, core by core.
    """

    networks: Mapping[str, Network]
    code_bytes: Mapping[str, int | None]
    files: int
    compiler: str
    cores: tuple[NoFloat, ...]


def certify(folder: str | Path) -> ExportCertificate:
    """Hold a folder to what was exported, and compile it for cores without a floating-point unit: no object has a float.

    Raises:
        ExportError: It is no such folder, files are missing or changed, or an object holds floating point.
        MissingExtraError: The compiler, arm-none-eabi-gcc, is not installed.
    """
    manifest = read(Path(folder))
    files = read_files(Path(folder), manifest)
    with tempfile.TemporaryDirectory() as name:  # what was compared is what is compiled, and nothing beside it
        scratch = Path(name)
        for path, content in files.items():
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            (scratch / path).write_bytes(content)
        (scratch / NAME).write_text(manifest.text(), encoding="utf-8")
        sizes = {network: code_bytes(network, scratch) for network in manifest.networks}
        return ExportCertificate(manifest.networks, sizes, len(files), compiler(), prove(scratch))
