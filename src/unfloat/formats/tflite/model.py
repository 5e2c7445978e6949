"""A TFLite model as plain data: what the operator table says, `encode.py` writes and `decode.py` reads."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sized
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from unfloat.ir.graph import EMPTY, Shape
from unfloat.spec.qparams import QParams

MOST_OPERATORS = 1 << 12  # of a file, and of its inputs and outputs; what is looked for among all of them stays quick
MOST_TENSORS = 1 << 14
MOST_OPERANDS = 1 << 15  # operands and results of all operators
MOST_RANK = 8
MOST_SHARING = 16  # how often a file's bytes may be read, or stand in its tensors: work stays in the file's size
LEAST_ALLOWANCE = 1 << 16  # bytes that the smallest file may have read
INTEGERS = ("int32", "int64")  # plain numbers: shapes, axes, indices
Field = int | float | tuple[str, str] | tuple[float, ...]  # a number, (enumeration, member) by their names, or a vector


@dataclass(frozen=True)
class Quantization:
    """`r = scale * (q - zero_point)`, one scale, or one for each index along `axis`.

    QParams speak of codes; a bias is int32 or int64 and has none, so the file's records carry numbers only.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0

    @classmethod
    def of(cls, label: QParams) -> Quantization:
        """The label of a tensor of codes."""
        return cls(label.scale, label.zero_point, label.axis or 0)


@dataclass(frozen=True)
class TfTensor:
    """A tensor of the file.

    Attributes:
        name: Unique in the model.
        shape: The batch is 1 where Unfloat writes; as found where it reads.
        dtype: The schema's name in lower case: "int8", "uint8", "int16", "int32", "int64", "float32" and others.
        quantization: What codes mean; None for shapes, axes and floats.
        data: The content of a constant.
        variable: Whether it keeps its content from one run to the next.
    """

    name: str
    shape: Shape
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = None
    variable: bool = False

    @property
    def is_index(self) -> bool:
        """Whether it holds plain integers that are not known beforehand: what chooses rows."""
        return self.dtype in INTEGERS and self.quantization is None and self.data is None


@dataclass(frozen=True)
class TfOperator:
    """An operator of the file.

    Attributes:
        builtin: Name in the schema's BuiltinOperator.
        version: As TFLite's op_version table demands of the writer.
        inputs: Tensor names; None where an optional one is left out.
        outputs: Tensor names.
        options: Name of the options' table; "" for none.
        fields: The options, by the schema's names in camel case.
        intermediates: Tensors that say only what values inside the operator mean. They are written, never read.
    """

    builtin: str
    version: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    options: str
    fields: Mapping[str, Field] = field(default_factory=lambda: EMPTY)
    intermediates: tuple[str, ...] = ()


@dataclass(frozen=True)
class TfModel:
    """A model of one subgraph.

    Attributes:
        tensors: By name, in the file's order.
        operators: In order of execution.
        inputs, outputs: (the user's name, tensor name) of the border.
    """

    tensors: Mapping[str, TfTensor]
    operators: tuple[TfOperator, ...]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def readers(self) -> dict[str, list[TfOperator]]:
        """The operators that read each tensor, in order; each once for every operand that it is."""
        found: dict[str, list[TfOperator]] = {}
        for operator in self.operators:
            for name in operator.inputs:
                if name is not None:
                    found.setdefault(name, []).append(operator)
        return found


class Names(Container[str], Sized, Protocol):
    """Names that are taken."""


def apart(name: str, taken: Names) -> str:
    """The name, or one made of it that is not taken: in few steps, however many are alike."""
    if name in taken:
        name = f"{name}_" if f"{name}_" not in taken else f"{name}_{len(taken)}"
    while name in taken:
        name += "_"
    return name
