"""Write a Program as a folder of C99 that a microcontroller's firmware compiles in: the same bits, integers only.

Several networks may be written to one folder. They share its `kernels/`, which are the engine's own scalar sources, its
CMakeLists.txt, and a main.c that checks all of them in one arena.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unfloat.formats.c import manifest
from unfloat.formats.c.build import cmake
from unfloat.formats.c.golden import draw, golden, main
from unfloat.formats.c.header import header
from unfloat.formats.c.layer import Prepared
from unfloat.formats.c.manifest import Manifest, Network
from unfloat.formats.c.names import require_apart
from unfloat.formats.c.net import Net, make_net
from unfloat.formats.c.network import network, weights
from unfloat.formats.c.picture import loader
from unfloat.formats.c.report import merged, report
from unfloat.formats.c.sources import has_source, kernel_sources
from unfloat.formats.c.text import identifier
from unfloat.program.certificate import verify
from unfloat.program.file import write_atomically
from unfloat.program.program import Program
from unfloat.program.verify import layer_macs
from unfloat.spec.errors import ExportError


def write(
    program: Program,
    path: str | Path,
    prepared: Sequence[Prepared],
    *,
    name: str | None = None,
    picture: Any = None,
    samples: int = 1,
) -> None:
    """Write a network into a folder, which is made if need be.

    Args:
        program: What to write; its batch becomes 1.
        path: The folder.
        prepared: What the engine's scalar level makes of each instruction.
        name: Prefix of all symbols and files; the folder's own name if not given.
        picture: The recipe's `[input]`, from which `<name>_load_rgb888` comes; None for none.
        samples: How many golden inputs.

    Raises:
        ExportError: Operators are unknown here (the message lists all layers), there is no layer, the network cannot have
            this name, an option or the path is none, the folder has files of another origin under names that are needed,
            or it cannot be written.
        InvalidProgramError: The Program breaks a rule.
    """
    folder = _folder(path)
    if not isinstance(samples, int | np.integer) or isinstance(samples, bool) or samples < 1:
        raise ExportError(f"samples: required an integer, at least 1, found {samples!r:.60}")
    certificate = verify(program)
    net = make_net(program, identifier(folder.resolve().name) if name is None else name, prepared)
    sizes = (certificate.macs, net.constant_bytes, net.memory.size, net.state_bytes)
    about = Network(certificate.digest, certificate.identity, *sizes)
    before = manifest.present(folder)
    require_apart(net.name, before.networks)
    files = {**_network_files(net, about, picture, samples), **_shared_files(net, before)}
    manifest.require_own(folder, [*files, manifest.NAME, manifest.REPORT])
    _fill(folder, {**files, manifest.NAME: manifest.extended(before, net.name, about, files).text()})
    old = folder / manifest.REPORT
    section = report(net, layer_macs(program), folder)
    _fill(folder, {manifest.REPORT: merged(old.read_text(encoding="utf-8") if old.is_file() else "", section)})


def _folder(path: str | Path) -> Path:
    """The path, which some folder can have."""
    try:
        folder = Path(path)
        folder.resolve()
        (folder / manifest.NAME).exists()
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # the last, of links that lead in a circle
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"required the path of a folder, found {str(path)!r:.100}: {reason}; choose another"
        ) from error
    return folder


def _network_files(net: Net, about: Network, picture: Any, samples: int) -> dict[str, str]:
    declaration, definition = loader(net, picture)
    return {
        f"{net.name}.h": header(net, about, declaration),
        f"{net.name}.c": network(net, definition),
        f"{net.name}_weights.c": weights(net),
        f"{net.name}_golden.c": golden(net, draw(net, samples)),
    }


def _shared_files(net: Net, before: Manifest) -> dict[str, str]:
    """What belongs to all networks of the folder: kernels of this version for those written before too."""
    names = sorted({*before.networks, net.name})
    paths = [PurePosixPath(path) for path in before.kernels]
    others = {kernel for kernel in (f"{path.parent.name}__{path.stem}" for path in paths) if has_source(kernel)}
    sources = kernel_sources(others | set(net.kernels))
    files = {f"kernels/{path}": text for path, text in sources.items()}
    kernels = sorted({*before.kernels, *filter(manifest.KERNEL.fullmatch, files)})
    return {"main.c": main(names), "CMakeLists.txt": cmake(names, kernels), **files}


def _fill(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExportError(f"cannot write {target}: {error}") from error
        write_atomically(target, text.encode())
