"""Both readers under atheris: a file is refused by name, or its Program runs alike everywhere.

    python -m fuzz.readers unfloat|tflite CORPUS [libFuzzer's options]

Needs the extra `fuzz`. An error of any other kind, a run of more than a few seconds, and memory past the limit stop
the fuzzer, which keeps the file that did it.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path
from types import FunctionType

import atheris
import numpy as np
from fuzz.mutate import mutate

from unfloat.formats.tflite.read import from_bytes
from unfloat.program.file import load
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.program.verify import layer_macs
from unfloat.runtime.engine import Engine, levels
from unfloat.spec.errors import InvalidProgramError, UnsupportedError
from unfloat.spec.qparams import STORAGE

MOST_WORK = 1 << 16  # multiply-accumulates and codes of a Program that is run, not only read
BATCH = 2


def instrument() -> None:
    """Have every branch of the package counted.

    Its functions are found in memory: an editable install loads modules in a way that atheris' import hook misses.
    """
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and (found.__module__ or "").split(".")[0] == "unfloat":
            atheris.instrument_func(found)


def read(kind: str, content: bytes, scratch: Path) -> Program | None:
    """The Program of a file's content, None where it is refused."""
    try:
        if kind == "tflite":
            return from_bytes(content)
        scratch.write_bytes(content)
        return load(scratch)
    except (InvalidProgramError, UnsupportedError):
        return None


def work(program: Program) -> int:
    """Multiply-accumulates and codes of a sample."""
    codes = sum(int(np.prod(tensor.shape[1:], dtype=object)) for tensor in program.tensors.values())
    windows = sum(int(np.prod(i.attributes.get("kernel", 1), dtype=object)) for i in program.instructions)
    return sum(layer_macs(program).values()) + codes * max(windows, 1)


def require_agreement(program: Program) -> None:
    """The interpreter's codes at every level of this CPU."""
    rng = np.random.default_rng(0)
    inputs = []
    for port in program.inputs:
        label = program.tensors[port.value].qparams
        codes = rng.integers(label.qmin, label.qmax + 1, (BATCH, *port.shape[1:]))
        inputs.append(codes.astype(STORAGE[label.dtype]))
    expected = interpret(program, inputs)
    for level in levels():
        found = Engine(program, level=level).run(*inputs)
        for ours, theirs in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            if not np.array_equal(np.broadcast_to(theirs, ours.shape), ours):
                raise AssertionError(f"the engine at level {level} and the interpreter differ")


def main() -> None:
    """Fuzz one of the readers."""
    kind = sys.argv.pop(1)
    scratch = Path(tempfile.gettempdir()) / f"fuzz_{os.getpid()}.unfloat"

    def once(content: bytes) -> None:
        program = read(kind, content, scratch)
        if program is not None:
            program.verify()
            if work(program) <= MOST_WORK:
                require_agreement(program)

    def changed(content: bytes, most: int, seed: int) -> bytes:
        found = mutate(kind, content, seed) if seed % 4 else None
        return bytes(atheris.Mutate(content, most)) if found is None or len(found) > most else found

    instrument()
    atheris.Setup(sys.argv, once, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
