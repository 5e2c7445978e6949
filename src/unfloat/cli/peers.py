"""The engine beside other runtimes: each in a process of its own, taking turns on an otherwise idle machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from unfloat.cli import runtimes
from unfloat.program.program import Program
from unfloat.runtime.engine import LEVEL_VARIABLE
from unfloat.spec.errors import PeerError

ENGINE = "unfloat"
EXPORTED = "litert"  # runs our own export where no file is named


@dataclass(frozen=True)
class Peer:
    """A runtime and what it runs.

    Attributes:
        runtime: One of `runtimes.RUNTIMES`.
        file: In the runtime's own format.
        python: The Python that has the runtime.
    """

    runtime: str
    file: Path
    python: str


@dataclass(frozen=True)
class Turns:
    """What a runtime took.

    Attributes:
        runtime: Its name.
        version: Its version.
        milliseconds: The median of each turn.
        ratios: The engine's median over this one's, turn by turn.
    """

    runtime: str
    version: str
    milliseconds: Sequence[float]
    ratios: Sequence[float]

    def record(self) -> dict[str, Any]:
        """For people and scripts: medians over the turns, and the quartiles of the ratios."""
        low, ratio, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return {
            "runtime": self.runtime,
            "version": self.version,
            "median_ms": statistics.median(self.milliseconds),
            "ratio": ratio,
            "ratio_quartiles": [low, high],
            "turns": len(self.ratios),
        }


def parse(wanted: str, pythons: Sequence[str], program: Program, folder: Path) -> list[Peer]:
    """Read `--compare` and `--python`.

    Args:
        wanted: "ort=a.onnx,openvino=b.xml,litert=c.tflite,executorch=d.pte"; LiteRT may come without a file.
        pythons: "openvino=/path/to/python" for each runtime that this Python does not have.
        program: What LiteRT runs where it has no file.
        folder: Where that is written.

    Raises:
        PeerError: A runtime is not known, or its file or Python is not there.
    """
    places = dict(_pair(text, "--python") for text in pythons)
    known = [name for name in runtimes.RUNTIMES if name != ENGINE]
    peers = []
    for text in wanted.split(","):
        name, _, file = text.strip().partition("=")
        if name not in known:
            raise PeerError(f"--compare: required some of {', '.join(known)}, found {name!r}")
        if not file and name == EXPORTED:
            file = str(folder / "program.tflite")
            program.export(Path(file), float_border=True)
        if not Path(file).is_file():
            raise PeerError(f"--compare: {name} needs a file to run, found {file!r}: write {name}=FILE")
        peers.append(Peer(name, Path(file), places.get(name, sys.executable)))
    unused = places.keys() - {peer.runtime for peer in peers}
    if unused:
        raise PeerError(f"--python: required a runtime that --compare names, found {', '.join(sorted(unused))}")
    return peers


def take_turns(
    program: Path, peers: Sequence[Peer], threads: int, batch: int, level: str, turns: int, seconds: float
) -> list[Turns]:
    """Time the engine and its peers, one at a time, in turns.

    Args:
        program: A .unfloat file.
        peers: Who else.
        threads: Of each.
        batch: Samples a call.
        level: The engine's instruction-set level.
        turns: How often each is asked, at least 2; after one more that is not counted.
        seconds: How long a turn lasts, at least.

    Returns:
        One entry each, the engine first.

    Raises:
        PeerError: A runtime is not installed, refuses its file or dies.
    """
    everyone = [Peer(ENGINE, program, sys.executable), *peers]
    with ExitStack() as stack:
        seats = [stack.enter_context(seated(peer, threads, batch, level)) for peer in everyone]
        rounds = [[seat.turn(seconds) for seat in seats] for _ in range(turns + 1)][1:]
    columns = list(zip(*rounds, strict=True))
    ratios = [[own / other for own, other in zip(columns[0], column, strict=True)] for column in columns]
    return [Turns(seat.peer.runtime, seat.version, *pair) for seat, *pair in zip(seats, columns, ratios, strict=True)]


@contextmanager
def seated(peer: Peer, threads: int, batch: int, level: str) -> Iterator[Seat]:
    """A runtime's process, ended with the block."""
    line = [peer.python, runtimes.__file__, peer.runtime, str(peer.file), str(threads), str(batch)]
    environment = {**os.environ, LEVEL_VARIABLE: level}
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+", errors="replace") as errors:  # whatever it says is no reason to stop
        try:
            process = subprocess.Popen(
                line, stdin=pipe, stdout=pipe, stderr=errors, text=True, errors="replace", env=environment
            )
        except OSError as error:
            raise PeerError(f"{peer.runtime}: cannot start {peer.python}: {error.strerror}") from error
        try:
            yield Seat(peer, process, errors)
        finally:
            process.kill()
            process.communicate()


class Seat:
    """A runtime's process. It sleeps while others have their turn."""

    def __init__(self, peer: Peer, process: subprocess.Popen[str], errors: IO[str]) -> None:
        """Wait until it has loaded its file."""
        self.peer, self.process, self.errors = peer, process, errors
        self.version: str = json.loads(self._said())["version"]

    def turn(self, seconds: float) -> float:
        """The median time of a call in milliseconds."""
        stdin = _open(self.process.stdin)
        with suppress(BrokenPipeError):  # it has died: what it said last tells why
            stdin.write(f"{seconds}\n")
            stdin.flush()
        return float(self._said())

    def _said(self) -> str:
        """The next line that is the protocol's; some runtimes print lines of their own."""
        for line in _open(self.process.stdout):
            if line.startswith(runtimes.MARK):
                return line.removeprefix(runtimes.MARK)
        self.process.wait()
        self.errors.seek(0)
        raise PeerError(_failure(self.peer, self.process.returncode, self.errors.read()))


def _failure(peer: Peer, code: int, said: str) -> str:
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    if "ModuleNotFoundError" in last:
        package = runtimes.PACKAGES.get(peer.runtime, peer.runtime)
        return (
            f"{peer.runtime}: {peer.python} does not have it ({last}): pip install {package}, "
            f"or name a Python that has it: --python {peer.runtime}=PATH"
        )
    return f"{peer.runtime}: could not run {peer.file}, exit code {code}: {last}"


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _pair(text: str, option: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not value:
        raise PeerError(f"{option}: required RUNTIME=PATH, found {text!r}")
    return name, value
