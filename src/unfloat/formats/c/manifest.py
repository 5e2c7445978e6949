"""`unfloat.json`: which networks an exported folder holds, and the SHA-256 of each file that was written into it.

With it a folder can be held to what was exported, and its certificate names the Programs whose bits it computes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unfloat.spec.errors import ExportError

NAME = "unfloat.json"
REPORT = "REPORT.md"  # not held to a sum: it says what was measured on the way
ENDS = (".h", ".c", "_weights.c", "_golden.c")  # of the names of a network's files
VERSION = 1
SHA256 = re.compile(r"[0-9a-f]{64}")
SYMBOL = re.compile(r"\w+", re.ASCII)
PATH = re.compile(r"(kernels/(\w+/)?)?\w+\.(c|h|txt)", re.ASCII)
KERNEL = re.compile(r"kernels/\w+/\w+\.c", re.ASCII)


@dataclass(frozen=True)
class Network:
    """What the folder says of one of its networks.

    Attributes:
        program: SHA-256 of the Program's `.unfloat` bytes.
        identity: The certificate's: of the Program, the version of the arithmetic, and the roundings.
        macs: Multiply-accumulates a run.
        weight_bytes: Flash of its constants.
        arena_bytes: RAM, which networks may share.
        state_bytes: RAM of its own, which runs leave to the next.
    """

    program: str
    identity: str
    macs: int
    weight_bytes: int
    arena_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A folder's networks by name, and the SHA-256 of its files by their paths."""

    networks: Mapping[str, Network]
    files: Mapping[str, str]

    @property
    def kernels(self) -> list[str]:
        """The paths of the kernels' sources, sorted: what the folder's build compiles beside the networks."""
        return sorted(path for path in self.files if KERNEL.fullmatch(path))

    def text(self) -> str:
        """As JSON; the same content gives the same bytes."""
        networks = {name: asdict(network) for name, network in self.networks.items()}
        return json.dumps({"version": VERSION, "networks": networks, "files": self.files}, indent=1, sort_keys=True)


def sha256(content: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def present(folder: Path) -> Manifest:
    """What a folder's manifest lists and is still there: networks of which a file was deleted go."""
    try:
        old = read(folder)
    except ExportError:  # a new folder, or one of no use: what is not written now is not vouched for
        return Manifest({}, {})
    files = {path: digest for path, digest in old.files.items() if (folder / path).is_file()}
    whole = {name for name in old.networks if all(f"{name}{end}" in files for end in ENDS)}
    return Manifest({name: about for name, about in old.networks.items() if name in whole}, files)


def extended(old: Manifest, name: str, network: Network, files: Mapping[str, str]) -> Manifest:
    """A folder's manifest with a network that is exported into it.

    Files that are not written now keep their sums, so that a change since is found.
    """
    sums = {path: sha256(text.encode()) for path, text in files.items()}
    return Manifest({**old.networks, name: network}, {**old.files, **sums})


def require_own(folder: Path, paths: Iterable[str]) -> None:
    """Let nobody else's files be overwritten: those that are there must be an export's.

    Where there is a manifest of no use, the folder is taken for an export that was damaged.

    Raises:
        ExportError: Some are not; the message lists them.
    """
    try:
        own = set(read(folder).files) | {NAME, REPORT}
    except ExportError:
        if (folder / NAME).exists():
            return
        own = set()
    foreign = sorted(path for path in paths if path not in own and (folder / path).exists())
    if foreign:
        raise ExportError(
            f"{folder} has files of these names that Unfloat has not written: {', '.join(foreign)}; export into a folder "
            "of its own, or rename them"
        )


def read(folder: Path) -> Manifest:
    """What a folder says of itself.

    Raises:
        ExportError: It says nothing, or nothing that can be understood.
    """
    path = folder / NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        required = f"required a folder of C that Unfloat exported, which has a file {NAME}"
        raise ExportError(f"{folder}: {required}: {error.strerror}; export the Program again") from error
    try:
        return _manifest(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ExportError(f"{path} is damaged: {error!r}; export the folder again") from error


def read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Every file's content, each the one that was exported.

    Raises:
        ExportError: Files are missing or changed; the message lists all of them.
    """
    found = {path: _content(folder / path) for path in manifest.files}
    problems = list(_problems(manifest, found))
    if problems:
        raise ExportError("\n  - ".join([f"{folder} is not as it was exported; export it again:", *problems]))
    return {path: content for path, content in found.items() if content is not None}


def _problems(manifest: Manifest, found: Mapping[str, bytes | None]) -> Iterator[str]:
    for path, content in found.items():
        if content is None:
            yield f"{path} is missing"
        elif sha256(content) != manifest.files[path]:
            yield f"{path} was changed"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _manifest(document: Any) -> Manifest:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}; this Unfloat reads version {VERSION}")
    networks = {_like(SYMBOL, name): _network(record) for name, record in document["networks"].items()}
    files = {_like(PATH, path): _like(SHA256, digest) for path, digest in document["files"].items()}
    missing = {f"{name}{end}" for name in networks for end in (".h", ".c", "_weights.c")} - set(files)
    if missing or not networks:
        raise ValueError(f"networks without files: {sorted(missing)}" if missing else "it names no network")
    return Manifest(networks, files)


def _network(record: dict[str, Any]) -> Network:
    network = Network(**record)
    _like(SHA256, network.program)
    _like(SHA256, network.identity)
    for size in (network.macs, network.weight_bytes, network.arena_bytes, network.state_bytes):
        if type(size) is not int or size < 0:
            raise ValueError(f"a size of {size!r:.60}")
    return network


def _like(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"found {text!r:.100}")
    return text
