"""Files to begin from: valid ones of every operator, in both formats, and truncations of them.

python -m fuzz.corpus FOLDER        # writes FOLDER/unfloat, FOLDER/tflite and FOLDER/engine
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.bits import replay
from tests.conformance.generate import DRAWS, all_cases, build
from tests.formats.embeddings import embedding, file, left_in_floats

from unfloat.formats.tflite.write import to_bytes as to_tflite
from unfloat.program.file import to_bytes as to_unfloat
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError

Writer = Callable[[Program], bytes]
WRITERS: Mapping[str, Writer] = {"unfloat": to_unfloat, "tflite": to_tflite}
SCHEMES = ("int8", "uint8", "int16x8")  # one draw of each
MOST_BYTES = 4096  # larger files mutate slowly and teach nothing more


def programs() -> Iterator[tuple[str, Program]]:
    """A Program of each case of each operator; its first case in every storage that it knows."""
    draws = [next(draw for draw in DRAWS if draw.scheme == scheme) for scheme in SCHEMES]
    seen: set[str] = set()
    for operator, case in all_cases():
        fitting = [draw for draw in draws if draw.storage in operator.storages]
        for draw in fitting if operator.name not in seen else fitting[:1]:
            yield f"{operator.name}, {case.label}, {draw.name}", build(operator, case, draw)
        seen.add(operator.name)


def valid(kind: str, most: int = MOST_BYTES) -> Iterator[tuple[str, bytes]]:
    """Files of a format, "unfloat" or "tflite", of at most so many bytes."""
    for name, program in programs():
        try:
            content = WRITERS[kind](program)
        except ExportError:  # TFLite cannot say it
            continue
        if len(content) <= most:
            yield name, content
    if kind == "tflite":
        yield from others()


def others() -> Iterator[tuple[str, bytes]]:
    """Files as others write them, which say what the writer here never does."""
    yield "take, as Keras writes it", file(embedding())
    yield "take, as Keras writes it for real numbers", file(embedding(cast=True))
    for builtin in ("GATHER", "EMBEDDING_LOOKUP"):
        yield f"take, of a table left in floats, {builtin}", file(left_in_floats(builtin, "int8"))


def truncations(content: bytes, step: int = 1) -> Iterator[bytes]:
    """A file cut off at every length, or at every `step`-th."""
    for length in range(0, len(content), step):
        yield content[:length]


def write(folder: Path) -> None:
    """Fill a folder with one file an input, as fuzzers read them."""
    for kind in (*WRITERS, "engine"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for kind in WRITERS:
        for i, (_, content) in enumerate(valid(kind)):
            (folder / kind / f"{i:04}").write_bytes(content)
            (folder / kind / f"{i:04}_half").write_bytes(content[: len(content) // 2])
    for i, (_, program) in enumerate(programs()):
        path = folder / "engine" / f"{i:04}"
        replay.write(program, (), path)
        if path.stat().st_size > MOST_BYTES:
            path.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
