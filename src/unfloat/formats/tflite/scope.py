"""What one export has said so far: tensors and operators, in order, and names that stay unique."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.builtins import BUILTINS
from unfloat.formats.tflite.model import Field, Quantization, TfOperator, TfTensor, apart
from unfloat.ir.graph import BATCH, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index
from unfloat.program.program import Program
from unfloat.spec.qparams import QParams

MOVES_OF_NUMBERS = ("concatenation", "reshape", "slice")  # what TensorFlow Lite Micro knows of int32


class Scope:
    """The file being written. Every tensor of the Program is known from the start, under its own name."""

    def __init__(self, program: Program) -> None:
        """Declare the Program's activations and constants; the batch is 1."""
        self.labels = {name: tensor.qparams for name, tensor in program.tensors.items()}
        self.tensors: dict[str, TfTensor] = {}
        self.operators: list[TfOperator] = []
        self.plain, self.tables = _plain(program), _tables(program)
        for name, tensor in program.tensors.items():
            shape = tuple(1 if size == BATCH else size for size in tensor.shape)
            dtype, quantization = tensor.qparams.dtype, Quantization.of(tensor.qparams)
            self.tensors[name] = TfTensor(name, shape, dtype, quantization, tensor.data)
            if name in self.plain:
                self.tensors[name] = TfTensor(name, shape, "int32")
            elif name in self.tables and tensor.data is not None:
                self.tensors[name] = TfTensor(name, shape[1:], dtype, quantization, tensor.data[0])

    def label(self, name: str) -> QParams:
        """The QParams of an activation or constant of codes."""
        return self.labels[name]

    def shape(self, name: str) -> Shape:
        """The shape of any tensor."""
        return self.tensors[name].shape

    def is_wide(self, name: str) -> bool:
        """Whether a tensor holds int16 codes."""
        return self.tensors[name].dtype == "int16"

    def codes(self, name: str, values: Sequence[int], label: QParams) -> str:
        """Declare a constant of a few codes and return its name."""
        return self.constant(name, np.array(values, label.dtype), Quantization.of(label))

    def numbers(self, name: str, values: Sequence[int] | np.ndarray) -> str:
        """Declare a constant of plain int32 numbers (a shape, axes) and return its name."""
        return self.constant(name, np.array(values, np.int32))

    def constant(self, name: str, data: np.ndarray, quantization: Quantization | None = None) -> str:
        """Declare a constant and return its name."""
        return self._declare(name, data.shape, str(data.dtype), quantization, data)

    def variable(self, name: str, shape: Shape, label: QParams) -> str:
        """Declare a state, which a runtime keeps from one run to the next, and return its name."""
        return self._declare(name, shape, label.dtype, Quantization.of(label), variable=True)

    def between(self, name: str, like: str, shape: Shape | None = None) -> str:
        """Declare an activation that means what `like` does, between two operators of one instruction."""
        model = self.tensors[like]
        name = self._declare(name, model.shape if shape is None else shape, model.dtype, model.quantization)
        self.labels[name] = self.labels[like]
        return name

    def real(self, name: str, shape: Shape) -> str:
        """Declare a float32 activation at the border."""
        return self._declare(name, shape, "float32")

    def misused(self, instruction: Instruction) -> str:
        """Why the file cannot say what an instruction does with plain numbers; "" where it can, or takes none."""
        if instruction.name in self.plain:
            fine = instruction.op in ("arg_max", *MOVES_OF_NUMBERS)
            return "" if fine else "TensorFlow Lite Micro moves no int32 numbers so"
        codes = REGISTRY[instruction.op].quant.values(instruction.inputs)
        return "it takes indices for codes, which TFLite keeps apart" if self.plain.intersection(codes) else ""

    def emit(
        self,
        builtin: str,
        inputs: Sequence[str | None],
        output: str,
        *,
        version: int | None = None,
        **fields: Field,
    ) -> None:
        """Append an operator, under the version that its storage type asks for unless one is given."""
        options, signed, unsigned, wide = BUILTINS[builtin]
        first = self.tensors[inputs[0] or output].dtype
        usual = wide if "int16" in (first, self.tensors[output].dtype) else unsigned if first == "uint8" else signed
        self.operators.append(TfOperator(builtin, version or usual, tuple(inputs), (output,), options, fields))

    def say_inside(self, names: Sequence[str]) -> None:
        """Say by tensors that nothing computes what values inside the last operator mean."""
        self.operators[-1] = replace(self.operators[-1], intermediates=tuple(names))

    def _declare(
        self,
        name: str,
        shape: Shape,
        dtype: str,
        quantization: Quantization | None = None,
        data: np.ndarray | None = None,
        *,
        variable: bool = False,
    ) -> str:
        name = apart(name, self.tensors)
        self.tensors[name] = TfTensor(name, shape, dtype, quantization, data, variable)
        return name


def _plain(program: Program) -> set[str]:
    """What is plain int32 in the file: what chooses rows or is chosen by `arg_max`, wherever it moves."""
    found = {*rows_by_index(program.instructions, program.shapes())}
    for instruction in program.instructions:
        moved = instruction.op in MOVES_OF_NUMBERS and found.issuperset(instruction.inputs)
        if moved or instruction.op == "arg_max":
            found.add(instruction.name)
    return found


def _tables(program: Program) -> set[str]:
    """The constants of which instructions only take rows: they have no leading 1 in the file."""
    constants = {name for name, tensor in program.tensors.items() if tensor.data is not None}
    others = {name for i in program.instructions if i.op != "take" for name in i.inputs}
    return (constants & {i.inputs[0] for i in program.instructions if i.op == "take"}) - others
