"""The bytes of a `.tflite` file to plain model records, by the schema bindings of the `tflite` package.

A file is untrusted. The bindings follow offsets wherever they lead, but never outside the bytes: what they raise there
is turned into one error that names the field. Counts are bounded by the file's size before anything is made of them,
and constants are views of the file's bytes.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from unfloat.formats.tflite.encode import IDENTIFIER, SCHEMA_VERSION
from unfloat.formats.tflite.model import (
    LEAST_ALLOWANCE,
    MOST_OPERANDS,
    MOST_OPERATORS,
    MOST_RANK,
    MOST_SHARING,
    MOST_TENSORS,
    Field,
    Quantization,
    TfModel,
    TfOperator,
    TfTensor,
    apart,
)
from unfloat.spec.errors import InvalidProgramError, MissingExtraError, UnsupportedError

T = TypeVar("T")
ENUMERATIONS = {"Padding": "Padding", "FusedActivationFunction": "ActivationFunctionType"}  # fields of options
MODES = {"MirrorPadOptions": "MirrorPadMode"}  # what the field "Mode" means, by options
NUMBERS: Mapping[str, str] = {
    "INT8": "i1", "UINT8": "u1", "INT16": "<i2", "UINT16": "<u2", "INT32": "<i4", "UINT32": "<u4", "INT64": "<i8",
    "UINT64": "<u8", "FLOAT16": "<f2", "FLOAT32": "<f4", "FLOAT64": "<f8", "BOOL": "?", "INT4": "i1",
}  # fmt: skip
NEW_CODE_FIELD = 10  # of an operator code's table: BuiltinCode, the fourth
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, UnicodeDecodeError, MemoryError)


def decode(content: bytes) -> TfModel:
    """A file's model.

    Raises:
        InvalidProgramError: The bytes are no `.tflite` file, or a field is damaged; the message names it.
        UnsupportedError: A tensor is stored sparse, or an input's sizes beside the batch are not known.
        MissingExtraError: The package of the extra `tflite` is not installed.
    """
    return _Decoder(content).model()


@contextmanager
def _reading(field: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InvalidProgramError(f"{field}: required a field inside the file, found damage: {error}") from error


class _Decoder:
    """One use: a model of one file."""

    def __init__(self, content: bytes) -> None:
        try:
            self.schema: Any = importlib.import_module("tflite")
        except ModuleNotFoundError as error:
            raise MissingExtraError.of(f"reading .tflite files needs the package {error.name}", "tflite") from error
        if content[4:8] != IDENTIFIER:
            found = content[4:8].decode("ascii", "replace")
            raise InvalidProgramError(f'identifier: required "{IDENTIFIER.decode()}" at byte 4, found "{found}"')
        self.content = content
        self.allowance = MOST_SHARING * max(len(content), LEAST_ALLOWANCE)
        self.operands = 0
        with _reading("root"):
            self.root = self.schema.Model.GetRootAs(content)
            version = self.root.Version()
        if version != SCHEMA_VERSION:
            raise InvalidProgramError(f"version: required the schema's version {SCHEMA_VERSION}, found {version}")

    def model(self) -> TfModel:
        """The first subgraph; further ones serve control flow, which is not read."""
        subgraphs = self.every("subgraphs", self.root.SubgraphsLength, self.root.Subgraphs)
        if not subgraphs:
            raise InvalidProgramError("subgraphs: required one at least, found none")
        graph = subgraphs[0]
        tensors = self.tensors(graph)
        names = [tensor.name for tensor in tensors]
        operators = self.every("operators", graph.OperatorsLength, graph.Operators, MOST_OPERATORS)
        inputs, outputs = (
            [names[i] for i in self.indices(f"subgraph {role.lower()}", graph, role, len(names))]
            for role in ("Inputs", "Outputs")
        )
        self.require_sizes(graph, tensors)
        if max(len(inputs), len(outputs)) > MOST_OPERATORS:
            raise InvalidProgramError(f"subgraph: required at most {MOST_OPERATORS} inputs or outputs, found more")
        found = tuple(self.operator(f"operator {i}", op, names) for i, op in enumerate(operators))
        self.require_one_maker(found, {*inputs, *(tensor.name for tensor in tensors if tensor.data is not None)})
        return TfModel(
            {tensor.name: tensor for tensor in tensors},
            found,
            tuple(zip(self.signature_names("Inputs", inputs, names), inputs, strict=True)),
            tuple(zip(self.signature_names("Outputs", outputs, names), outputs, strict=True)),
        )

    def require_sizes(self, graph: Any, tensors: Sequence[TfTensor]) -> None:
        """Inputs have sizes, but for the batch: for one that only a run decides, converters store 1."""
        tables = self.every("tensors", graph.TensorsLength, graph.Tensors)
        for i in self.indices("subgraph inputs", graph, "Inputs", len(tensors)):
            shape = self.vector(f"tensor {i} shape signature", tables[i], "ShapeSignature").tolist()
            if (-1, 1) in [*zip(shape, tensors[i].shape, strict=False)][1:]:
                required = "required sizes that are known but for the batch"
                raise _unsupported(f"input {tensors[i].name}: {required}, found {shape}: convert it with fixed ones")

    def require_one_maker(self, operators: Sequence[TfOperator], made: set[str]) -> None:
        """Each tensor is an input of the network, a constant, or the result of one operator."""
        for i, operator in enumerate(operators):
            for name in operator.outputs:
                if name in made:
                    field = f"operator {i} ({operator.builtin}) outputs"
                    raise InvalidProgramError(f"{field}: required a tensor that nothing else makes, found {name}")
                made.add(name)

    def spend(self, field: str, size: int) -> None:
        """Count bytes that are read: tables may share vectors and names, and few bytes must not become much work."""
        self.allowance -= size
        if self.allowance < 0:
            raise InvalidProgramError(
                f"{field}: required that tables share less; what they hold is many times the file"
            )

    def name(self, field: str, read: Callable[[], bytes | None]) -> str:
        """A string; "" where it is absent."""
        with _reading(field):
            found = read() or b""
            self.spend(field, len(found))
            return found.decode()

    def every(
        self, field: str, length: Callable[[], int], element: Callable[[int], T | None], most: int = MOST_TENSORS
    ) -> list[T]:
        """All elements of a vector of tables; each takes 4 bytes at least."""
        with _reading(field):
            count = length()
            if not 0 <= 4 * count <= len(self.content):
                raise InvalidProgramError(f"{field}: required no more than the file holds, found {count}")
            if count > most:
                raise InvalidProgramError(f"{field}: required at most {most}, found {count}")
            found = [element(i) for i in range(count)]
        return [one for one in found if one is not None]

    def vector(self, field: str, table: Any, name: str) -> np.ndarray:
        """A vector of numbers; empty where the field is absent."""
        with _reading(field):
            if getattr(table, f"{name}IsNone")():
                return np.zeros(0, np.int64)
            found = np.asarray(getattr(table, f"{name}AsNumpy")())
        self.spend(field, found.nbytes)
        return found

    def indices(self, field: str, table: Any, name: str, count: int, least: int = 0) -> list[int]:
        """A vector of indices below `count`."""
        found: list[int] = self.vector(field, table, name).tolist()
        for index in found:
            if not least <= index < count:
                raise InvalidProgramError(f"{field}: required an index of {least} to {count - 1}, found {index}")
        return found

    def member(self, field: str, enumeration: str, value: int) -> str:
        """An enumeration's member by its number."""
        for name, number in vars(getattr(self.schema, enumeration)).items():
            if number == value and not name.startswith("_"):
                return name
        raise InvalidProgramError(f"{field}: required a member of {enumeration}, found {value}")

    @cached_property
    def buffers(self) -> list[np.ndarray]:
        """The bytes of each buffer; newer converters keep them behind the flatbuffer."""
        tables = self.every("buffers", self.root.BuffersLength, self.root.Buffers)
        return [self.buffer(f"buffer {i}", table) for i, table in enumerate(tables)]

    def buffer(self, field: str, table: Any) -> np.ndarray:
        """A buffer's bytes, inside the flatbuffer or at an offset into the file."""
        with _reading(field):
            offset, size = table.Offset(), table.Size()
        if offset <= 1:  # 0 is absent; 1 is the schema's mark of one that was never filled in
            return self.vector(field, table, "Data").astype(np.uint8, copy=False)
        if offset + size > len(self.content):
            end = len(self.content)
            raise InvalidProgramError(f"{field}: required its bytes in the file's {end}, found {offset} + {size}")
        return np.frombuffer(self.content, np.uint8, size, offset)

    def tensors(self, graph: Any) -> list[TfTensor]:
        """All tensors, under names that differ."""
        taken: set[str] = set()
        found, shared = [], 0
        for i, table in enumerate(self.every("tensors", graph.TensorsLength, graph.Tensors)):
            own = self.name(f"tensor {i} name", table.Name).split(";")[0]  # converters join what they fuse
            name = apart(own or f"tensor_{i}", taken)
            taken.add(name)
            found.append(self.tensor(f"tensor {i} ({name})", name, table))
            shared += 0 if found[-1].data is None else found[-1].data.nbytes
        if shared > MOST_SHARING * len(self.content):
            raise InvalidProgramError(
                f"tensors: required constants of no more than {MOST_SHARING} times the file, found {shared} bytes"
            )
        return found

    def tensor(self, field: str, name: str, table: Any) -> TfTensor:
        """A tensor and its content."""
        shape = tuple(int(size) for size in self.vector(f"{field} shape", table, "Shape"))
        if len(shape) > MOST_RANK or any(size < 0 for size in shape):
            found = f"{len(shape)} dimensions, {shape[:MOST_RANK]}"
            raise InvalidProgramError(f"{field} shape: required at most {MOST_RANK} sizes of 0 and more, found {found}")
        with _reading(field):
            kind = self.member(f"{field} type", "TensorType", table.Type())
            index, variable, quantization = table.Buffer(), bool(table.IsVariable()), table.Quantization()
            sparse = table.Sparsity() is not None
        if sparse:
            raise _unsupported(f"{field}: required that all numbers are stored, found a sparse tensor")
        if not 0 <= index < max(len(self.buffers), 1):
            raise InvalidProgramError(f"{field} buffer: required one of {len(self.buffers)}, found {index}")
        data = self.content_of(f"{field} buffer", self.buffers[index], shape, kind) if self.buffers else None
        return TfTensor(name, shape, kind.lower(), self.quantization(field, quantization), data, variable)

    def content_of(self, field: str, data: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray | None:
        """A constant's numbers; None for an activation. Two weights of 4 bits share a byte, the first in its low half."""
        if not data.size or kind not in NUMBERS:
            return None
        if kind == "INT4":
            signed = data.view(np.int8)
            data = np.stack([(signed << 4) >> 4, signed >> 4], axis=1).reshape(-1)
        dtype = np.dtype(NUMBERS[kind])
        required = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if not 0 <= data.size - required <= (kind == "INT4"):
            raise InvalidProgramError(f"{field}: required {required} bytes for {kind} {shape}, found {data.size}")
        return data[:required].view(dtype).reshape(shape)

    def quantization(self, field: str, table: Any) -> Quantization | None:
        """Scales and the zero point that all channels share; None where a tensor has none."""
        if table is None:
            return None
        scales = self.vector(f"{field} scale", table, "Scale")
        zero_points = self.vector(f"{field} zero point", table, "ZeroPoint")
        if not scales.size:
            return None
        if (zero_points != zero_points[:1]).any():
            raise InvalidProgramError(f"{field} zero point: required the same for all channels, found several")
        with _reading(f"{field} quantized dimension"):
            axis = table.QuantizedDimension()
        return Quantization(tuple(scales.tolist()), int(zero_points[0]) if zero_points.size else 0, axis)

    def operator(self, field: str, table: Any, names: list[str]) -> TfOperator:
        """An operator, its operands and its options."""
        codes = self.operator_codes
        with _reading(field):
            index = table.OpcodeIndex()
        if not 0 <= index < len(codes):
            raise InvalidProgramError(f"{field} opcode: required one of {len(codes)}, found {index}")
        builtin, version = codes[index]
        options, fields = self.options(f"{field} ({builtin})", table)
        inputs = self.indices(f"{field} inputs", table, "Inputs", len(names), -1)
        outputs = self.indices(f"{field} outputs", table, "Outputs", len(names))
        self.operands += len(inputs) + len(outputs)
        if self.operands > MOST_OPERANDS:
            raise InvalidProgramError(f"operators: required at most {MOST_OPERANDS} operands and results, found more")
        return TfOperator(
            builtin,
            version,
            tuple(None if i < 0 else names[i] for i in inputs),
            tuple(names[i] for i in outputs),
            options,
            fields,
        )

    @cached_property
    def operator_codes(self) -> list[tuple[str, int]]:
        """Builtin and version of each code; what is not built in is "CUSTOM" and its own name."""
        found = []
        for i, table in enumerate(self.every("operator codes", self.root.OperatorCodesLength, self.root.OperatorCodes)):
            field = f"operator code {i}"
            with _reading(field):
                code, version = max(table.DeprecatedBuiltinCode(), _new_code(table)), table.Version()
            own = self.name(f"{field} custom code", table.CustomCode)
            builtin = self.member(field, "BuiltinOperator", code)
            found.append((f"CUSTOM {own}" if builtin == "CUSTOM" else builtin, version))
        return found

    def options(self, field: str, operator: Any) -> tuple[str, dict[str, Field]]:
        """The options' table: its name and its fields by the schema's names; "NONE" where there is none."""
        with _reading(f"{field} options"):
            name = self.member(f"{field} options", "BuiltinOptions", operator.BuiltinOptionsType())
            source = operator.BuiltinOptions()
        kind = getattr(self.schema, name, None)
        if source is None or kind is None:
            return "NONE", {}
        with _reading(f"{field} options"):
            table = kind()
            table.Init(source.Bytes, source.Pos)
        return name, {option: self.option(field, table, name, option) for option in _options_of(kind)}

    def option(self, field: str, table: Any, options: str, name: str) -> Field:
        """One of the options."""
        if hasattr(table, f"{name}AsNumpy"):
            return tuple(self.vector(f"{field} {name}", table, name).tolist())
        with _reading(f"{field} {name}"):
            value: int | float = getattr(table, name)()
        enumeration = MODES.get(options) if name == "Mode" else ENUMERATIONS.get(name)
        if enumeration is None:
            return value
        return enumeration, self.member(f"{field} {name}", enumeration, int(value))

    def signature_names(self, role: str, used: list[str], names: list[str]) -> list[str]:
        """The user's names for the border's tensors, from the subgraph's first signature; else the tensors' own."""
        own = dict(zip(used, used, strict=True))
        every = self.every("signatures", self.root.SignatureDefsLength, self.root.SignatureDefs)
        with _reading("signature subgraph"):
            signatures = [signature for signature in every if signature.SubgraphIndex() == 0]
        for signature in signatures[:1]:
            length, element = (getattr(signature, f"{role}{suffix}") for suffix in ("Length", ""))
            for i, entry in enumerate(self.every(f"signature {role.lower()}", length, element)):
                name = self.name(f"signature {role.lower()} {i}", entry.Name)
                with _reading(f"signature {role.lower()} {i}"):
                    index = entry.TensorIndex()
                if name and 0 <= index < len(names) and names[index] in own:
                    own[names[index]] = name
        return [own[name] for name in used]


def _unsupported(problem: str) -> UnsupportedError:
    return UnsupportedError("Unfloat cannot read these parts of the file:", [problem])


def _new_code(table: Any) -> int:
    """The newer of an operator code's two fields, which the runtimes take if it is the greater one.

    The bindings' own accessor overlooks it where the older field could hold the code, though not every converter repeats
    it there.
    """
    place = table._tab.Offset(NEW_CODE_FIELD)
    return int(struct.unpack_from("<i", table._tab.Bytes, table._tab.Pos + place)[0]) if place else 0


def _options_of(kind: type) -> list[str]:
    """The fields of an options' table, by its binding's methods."""
    reads = [name for name in vars(kind) if not name.startswith(("_", "GetRootAs", "Init"))]
    helpers = ("AsNumpy", "Length", "IsNone", "BufferHasIdentifier")
    return [name for name in reads if not name.endswith(helpers)]
