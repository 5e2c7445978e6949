"""Plain model records to the bytes of a `.tflite` file, by the schema bindings of the `tflite` package.

Buffers are always inlined. Newer converters may store them behind the flatbuffer (`Buffer.offset`); TensorFlow Lite
Micro ignores that without an error and computes with empty weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.formats.tflite.model import Field, Quantization, TfModel, TfOperator, TfTensor
from unfloat.spec.errors import MissingExtraError

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of every buffer's data: kernels load vectors from them
LAST_OLD_CODE = 127  # operator codes up to here are repeated in the old one-byte field, greater ones write this mark
SIGNATURE = "serving_default"


def encode(model: TfModel, description: str) -> bytes:
    """The file's content.

    Raises:
        MissingExtraError: The packages of the extra `tflite` are not installed.
    """
    return _Encoder(model).finish(description)


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(f"writing .tflite files needs the package {error.name}", "tflite") from error


class _Encoder:
    """One use: a flatbuffer is written from its leaves to its root."""

    def __init__(self, model: TfModel) -> None:
        self.schema = _require("tflite")
        self.builder = _require("flatbuffers").Builder(1024)
        self.model = model
        self.index = {name: i for i, name in enumerate(model.tensors)}
        constants = [t.name for t in model.tensors.values() if t.data is not None]
        self.buffer_index = {name: i for i, name in enumerate(constants, start=1)}  # buffer 0 is empty
        self.codes = sorted({(op.builtin, op.version) for op in model.operators})

    def finish(self, description: str) -> bytes:
        """The root table and everything under it."""
        root = self.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=self.offsets([self.operator_code(*code) for code in self.codes]),
            Subgraphs=self.offsets([self.subgraph()]),
            Description=self.builder.CreateString(description),
            Buffers=self.offsets([self.table("Buffer"), *self.buffers()]),
            SignatureDefs=self.offsets([self.signature()]),
        )
        self.builder.Finish(root, IDENTIFIER)
        return bytes(self.builder.Output())

    def table(self, name: str, **fields: Any) -> int:
        """A table of the schema; children must already be written."""
        getattr(self.schema, f"{name}Start")(self.builder)
        for field, value in fields.items():
            getattr(self.schema, f"{name}Add{field}")(self.builder, value)
        return int(getattr(self.schema, f"{name}End")(self.builder))

    def offsets(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def numbers(self, values: Iterable[float], dtype: type[np.generic]) -> int:
        """A vector of numbers."""
        return int(self.builder.CreateNumpyVector(np.array(list(values), dtype)))

    def enumerated(self, value: Field) -> int | float:
        """A field's number, or the place of its vector."""
        if not isinstance(value, tuple):
            return value
        if value and isinstance(value[0], str):
            enumeration, member = value
            return int(getattr(getattr(self.schema, str(enumeration)), str(member)))
        return self.numbers([int(number) for number in value], np.int32)

    def operator_code(self, builtin: str, version: int) -> int:
        """Both fields: readers of either age find the code."""
        code = self.enumerated(("BuiltinOperator", builtin))
        return self.table(
            "OperatorCode", DeprecatedBuiltinCode=min(code, LAST_OLD_CODE), Version=version, BuiltinCode=code
        )

    def buffers(self) -> Iterable[int]:
        """One for each constant."""
        for name in self.buffer_index:
            data = self.model.tensors[name].data
            content = np.ascontiguousarray(data).astype(np.dtype(self.model.tensors[name].dtype).newbyteorder("<"))
            self.builder.Prep(ALIGNMENT, content.nbytes)
            yield self.table("Buffer", Data=self.builder.CreateByteVector(content.tobytes()))

    def subgraph(self) -> int:
        """The one subgraph."""
        return self.table(
            "SubGraph",
            Tensors=self.offsets([self.tensor(t) for t in self.model.tensors.values()]),
            Inputs=self.numbers([self.index[tensor] for _, tensor in self.model.inputs], np.int32),
            Outputs=self.numbers([self.index[tensor] for _, tensor in self.model.outputs], np.int32),
            Operators=self.offsets([self.operator(op) for op in self.model.operators]),
            Name=self.builder.CreateString("main"),
        )

    def tensor(self, tensor: TfTensor) -> int:
        """A tensor: its shape, type, buffer, name and meaning."""
        children = {"Shape": self.numbers(tensor.shape, np.int32), "Name": self.builder.CreateString(tensor.name)}
        if tensor.quantization is not None:
            children["Quantization"] = self.quantization(tensor.quantization)
        kind = self.enumerated(("TensorType", tensor.dtype.upper()))
        buffer = self.buffer_index.get(tensor.name, 0)
        return self.table("Tensor", Type=kind, Buffer=buffer, IsVariable=tensor.variable, HasRank=True, **children)

    def quantization(self, quantization: Quantization) -> int:
        """Scales, a zero point for each, and the axis they lie along."""
        scales = self.numbers(quantization.scale, np.float32)
        zero_points = self.numbers([quantization.zero_point] * len(quantization.scale), np.int64)
        return self.table(
            "QuantizationParameters", Scale=scales, ZeroPoint=zero_points, QuantizedDimension=quantization.axis
        )

    def operator(self, op: TfOperator) -> int:
        """An operator and its options."""
        inputs = self.numbers([-1 if name is None else self.index[name] for name in op.inputs], np.int32)
        outputs = self.numbers([self.index[name] for name in op.outputs], np.int32)
        options: dict[str, Any] = {}
        if op.intermediates:
            options["Intermediates"] = self.numbers([self.index[name] for name in op.intermediates], np.int32)
        if op.options:
            fields = {name: self.enumerated(value) for name, value in op.fields.items()}
            kind = self.enumerated(("BuiltinOptions", op.options))
            options |= {"BuiltinOptionsType": kind, "BuiltinOptions": self.table(op.options, **fields)}
        return self.table(
            "Operator",
            OpcodeIndex=self.codes.index((op.builtin, op.version)),
            Inputs=inputs,
            Outputs=outputs,
            **options,
        )

    def signature(self) -> int:
        """The border by the user's names."""
        maps: Mapping[str, int] = {
            "Inputs": self.offsets([self.tensor_map(*pair) for pair in self.model.inputs]),
            "Outputs": self.offsets([self.tensor_map(*pair) for pair in self.model.outputs]),
        }
        return self.table("SignatureDef", **maps, SignatureKey=self.builder.CreateString(SIGNATURE), SubgraphIndex=0)

    def tensor_map(self, name: str, tensor: str) -> int:
        """A user's name for a tensor."""
        return self.table("TensorMap", Name=self.builder.CreateString(name), TensorIndex=self.index[tensor])
