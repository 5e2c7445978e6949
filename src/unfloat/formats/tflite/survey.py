"""Is a `.tflite` file integer-only? Where it meets real numbers: at its border, or on islands inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.model import TfModel, TfOperator
from unfloat.program.file import naming, read_bytes

FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


@dataclass(frozen=True)
class Place:
    """An operator that reads or writes real numbers.

    Attributes:
        index: Its place in the file's order.
        builtin: What it is.
        output: The tensor it makes.
        tensor, dtype: The first of its tensors that holds real numbers.
    """

    index: int
    builtin: str
    output: str
    tensor: str
    dtype: str

    def __str__(self) -> str:
        """The place in words."""
        return f"operator {self.index} ({self.builtin}), which makes {self.output}: {self.dtype} in {self.tensor}"


@dataclass(frozen=True)
class Survey:
    """What a file's types say; it proves nothing of the integers' arithmetic, which takes a Program.

    Attributes:
        operators: How many there are.
        border: QUANTIZE of an input's real numbers, DEQUANTIZE to an output's.
        islands: Every other operator on real numbers.
    """

    operators: int
    border: tuple[Place, ...]
    islands: tuple[Place, ...]

    @property
    def integer_only(self) -> bool:
        """Whether real numbers are found at the border alone."""
        return not self.islands


def survey(path: str | Path) -> Survey:
    """Look for real numbers in any `.tflite` file, supported operators or not.

    Raises:
        InvalidProgramError: The file is damaged; the message names the field.
        UnsupportedError: A tensor is stored sparse, or an input's sizes beside the batch are not known.
        MissingExtraError: The package of the extra `tflite` is not installed.
        OSError: There is no such file, or it cannot be read.
    """
    with naming(path):
        return survey_of(decode(read_bytes(path)))


def survey_of(model: TfModel) -> Survey:
    """The same of a model."""
    border: list[Place] = []
    islands: list[Place] = []
    for place, crosses in _places(model):
        (border if crosses else islands).append(place)
    return Survey(len(model.operators), tuple(border), tuple(islands))


def real_tensor(model: TfModel, operator: TfOperator) -> str | None:
    """The first of an operator's tensors that holds real numbers; None where all are integers."""
    names = (name for name in (*operator.inputs, *operator.outputs) if name is not None)
    return next((name for name in names if model.tensors[name].dtype in FLOATS), None)


def _places(model: TfModel) -> Iterator[tuple[Place, bool]]:
    entries, exits = {name for _, name in model.inputs}, {name for _, name in model.outputs}
    for index, operator in enumerate(model.operators):
        name = real_tensor(model, operator)
        if name is None:
            continue
        output = operator.outputs[0] if operator.outputs else "nothing"
        crosses = name in {"QUANTIZE": entries, "DEQUANTIZE": exits}.get(operator.builtin, ())
        yield Place(index, operator.builtin, output, name, model.tensors[name].dtype), crosses
