"""Program: the integer network. The contract between making and running; NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unfloat.ir.graph import EMPTY, Port, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.spec.errors import ExportError
from unfloat.spec.record import Content

if TYPE_CHECKING:
    from pathlib import Path

    from unfloat.program.certificate import Certificate
    from unfloat.runtime.engine import Engine

VERSION = 1
FOREIGN = (".tflite", ".c", ".h", "/")  # endings that promise another content than `save` writes


class Program(Content):
    """An integer network.

    Attributes:
        inputs, outputs: The border: names, inner shapes, and how the model's own layout maps to it.
        tensors: Every activation and constant operand by name, each with its label.
        instructions: In order; an instruction's output tensor carries its name.
        structure: How outputs are handed back: None (one tensor), ("tuple" | "list", n) or ("dict", keys).
        metadata: Strings for people and for `run`: how pictures become inputs, what made the program. Never computed with.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: Mapping[str, Tensor]
    instructions: tuple[Instruction, ...]
    structure: Any = None
    metadata: Mapping[str, Any] = EMPTY

    def __repr__(self) -> str:
        """Its size and its border: what it holds is thousands of lines."""
        ends = (", ".join(f"{port.name} {port.shape[1:]}" for port in ports) for ports in (self.inputs, self.outputs))
        return f"<Program of {len(self.instructions)} instructions: {' -> '.join(ends)}>"

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def verify(self) -> Certificate:
        """Check everything and say what holds: integers only, no overflow, ranges, hash.

        Raises:
            InvalidProgramError: A rule is broken; the message names the instruction and the rule.
        """
        from unfloat.program.certificate import verify

        return verify(self)

    def save(self, path: str | Path) -> None:
        """Write a `.unfloat` file: all or nothing, the same bytes for the same Program.

        Raises:
            ExportError: The path cannot be written, or has the ending of a format that `export` writes.
        """
        if str(path).lower().endswith(FOREIGN):
            advice = "program.export(path) writes .tflite, and C into a folder, whose path ends in /"
            raise ExportError(f"cannot save {path}: save writes .unfloat files; {advice}")
        from unfloat.program.file import save

        save(self, path)

    def compile(self, threads: int = 1, level: str | None = None) -> Engine:
        """Make an Engine of this Program for this machine.

        Args:
            threads: How many threads `run` uses; the result does not depend on it.
            level: Force an instruction-set level ("scalar"); None takes the fastest. See also UNFLOAT_ISA.

        Raises:
            TypeError: `threads` is no integer, or `level` no string.
            ValueError: There are too few or too many threads, this CPU has no such level, or the Program is not one the
                engine can run.
            InvalidProgramError: A sample's values need more memory than there can be.
        """
        from unfloat.api import compile_program

        return compile_program(self, threads, level)

    def export(self, path: str | Path, **options: Any) -> None:
        """Write the Program in another format: a ".tflite" file, or C in a folder, whose path ends in "/".

        Args:
            path: Where to.
            options: `to`, the format's name where the path does not say it; those of the format: `float_border`
                (tflite), `name` and `samples` (c).

        Raises:
            ExportError: There is no such format or option, the format cannot say what the Program says, or the path is
                not writable.
            InvalidProgramError: The Program breaks a rule.
            MissingExtraError: The packages of the extra `tflite` are not installed.
        """
        from unfloat.api import export

        export(self, path, **options)

    def digest(self) -> str:
        """SHA-256 of the `.unfloat` bytes."""
        import hashlib  # here, because it maps a library of megabytes that running a Program never needs

        from unfloat.program.file import to_bytes

        return hashlib.sha256(to_bytes(self)).hexdigest()
