"""The `.unfloat` file: safetensors with one metadata key, canonical JSON. The same Program gives the same bytes.

A file is untrusted. `container` bounds every array; the JSON is read field by field into typed records; and
`verify` re-derives the rest before a Program is handed out.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from unfloat.ir.graph import Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.program import container
from unfloat.program.program import VERSION, Program
from unfloat.program.verify import check
from unfloat.spec.errors import ExportError, InvalidProgramError
from unfloat.spec.qparams import QParams

if TYPE_CHECKING:
    from pathlib import Path

KEY = "unfloat"
T = TypeVar("T")
Kinds = Mapping[str, "type | None"]


def to_bytes(program: Program) -> bytes:
    """The file's content."""
    from safetensors.numpy import save as save_arrays  # here, as reading needs none of it

    arrays: dict[str, np.ndarray] = {}
    document = {
        "version": VERSION,
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
        "tensors": [_tensor(t, arrays) for t in program.tensors.values()],
        "instructions": [_instruction(i, arrays) for i in program.instructions],
        "structure": program.structure,
        "metadata": dict(program.metadata),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return bytes(save_arrays({name: np.ascontiguousarray(a) for name, a in arrays.items()}, {KEY: text}))


def save(program: Program, path: str | Path) -> None:
    """Write a Program; a failure leaves whatever was there before."""
    write_atomically(path, to_bytes(program))


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a whole file or nothing; of a symbolic link, the file to which it leads.

    Raises:
        ExportError: The path cannot be written, or leads to a pipe, a socket or a device.
    """
    import tempfile  # here, as reading needs none of it
    from pathlib import Path

    temporary = None
    try:
        target = Path(os.path.realpath(path))
        _require_replaceable(target)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except (OSError, ValueError) as error:  # ValueError: no path, as it holds a NUL
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise _unwritable(path, error) from error


def require_writable(path: str | Path) -> None:
    """Refuse before long work a file that `write_atomically` could not write after it.

    Raises:
        ExportError: The path cannot be written, or leads to a folder, a pipe, a socket or a device.
    """
    import tempfile  # here, as reading needs none of it

    try:
        target = os.path.realpath(path)
        _require_replaceable(target)
        if os.path.isdir(target):
            raise OSError("it is a folder")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise OSError(f"there is no folder {folder}")
        with tempfile.TemporaryFile(dir=os.path.dirname(target)):  # a folder's mode does not tell everything
            pass
    except (OSError, ValueError) as error:  # ValueError: no path, as it holds a NUL
        raise _unwritable(path, error) from error


def _unwritable(path: str | Path, error: Exception) -> ExportError:
    reason = getattr(error, "strerror", None) or error
    return ExportError(f"cannot write {path}: {reason}; choose a path in a folder that exists and is writable")


def _require_replaceable(target: str | Path) -> None:
    """Raise OSError where a file would take the place of a pipe, a socket or a device, which others have open."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder, replacing says so itself
            raise OSError("required a file, found a pipe, a socket or a device")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_bytes(path: str | Path) -> bytes:
    """A file's content.

    Raises:
        OSError: There is no such file, it is a folder, a pipe or a device, or it cannot be read.
    """
    require_file(path)
    with open(path, "rb") as file:
        return file.read()


def require_file(path: str | Path) -> None:
    """Raise OSError unless the path leads to a file: a pipe would be waited for, a device may never end."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # no path, as it holds a NUL
        raise OSError(f"{path!r}: {error}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path}: required a file, found a directory")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path}: required a file, found a pipe, a socket or a device")


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let what is wrong with a file begin with its path."""
    try:
        yield
    except InvalidProgramError as error:
        raise InvalidProgramError(f"{path}: {error}") from error


def load(path: str | Path) -> Program:
    """Read and verify a `.unfloat` file.

    Raises:
        InvalidProgramError: The file is damaged or breaks a rule; the message says which.
        OSError: There is no such file, or it cannot be read.
    """
    name = str(path)
    require_file(path)
    try:
        with open(path, "rb") as file:
            arrays, metadata = container.read(file)
        text = metadata[KEY]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidProgramError(f"{name} is not a whole .unfloat file: {error}") from error
    return _checked(text, arrays, name)


def _checked(text: str, arrays: dict[str, np.ndarray], name: str) -> Program:
    try:
        document = json.loads(text, object_pairs_hook=container.once_each)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidProgramError(f"{name} is not a whole .unfloat file: {error}") from error
    try:
        program = _program(document, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidProgramError(f"{name}: a field is missing or of the wrong kind: {error!r}") from error
    if arrays:
        raise InvalidProgramError(f"{name}: required every array to be used, found {sorted(arrays)[:3]} left over")
    with naming(name):
        check(program)
    return program


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "value": port.value, "shape": port.shape, "permutation": port.permutation}


def _qparams(label: QParams, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    scale: Any = label.scale[0]
    if label.axis is not None:
        arrays[name], scale = np.asarray(label.scale, np.float32), name
    return {
        "scale": scale, "zero_point": label.zero_point, "dtype": label.dtype,
        "bits": label.bits, "axis": label.axis, "narrow": label.narrow,
    }  # fmt: skip


def _tensor(tensor: Tensor, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if tensor.data is not None:
        arrays[f"{tensor.name}/codes"] = tensor.data
    label = _qparams(tensor.qparams, f"{tensor.name}/scale", arrays)
    return {"name": tensor.name, "shape": tensor.shape, "qparams": label, "constant": tensor.data is not None}


def _instruction(instruction: Instruction, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for role, array in instruction.constants.items():
        arrays[f"{instruction.name}/{role}"] = array
    labels = {role: _qparams(q, f"{instruction.name}/{role}.scale", arrays) for role, q in instruction.labels.items()}
    return {
        "op": instruction.op, "name": instruction.name, "inputs": instruction.inputs,
        "attributes": dict(instruction.attributes), "constants": sorted(instruction.constants), "labels": labels,
    }  # fmt: skip


_PROGRAM: Kinds = {
    "version": int, "inputs": list, "outputs": list, "tensors": list, "instructions": list, "structure": None,
    "metadata": dict,
}  # fmt: skip
_PORT: Kinds = {"name": str, "value": str, "shape": list, "permutation": list}
_QPARAMS: Kinds = {"scale": None, "zero_point": int, "dtype": str, "bits": int, "axis": None, "narrow": bool}
_TENSOR: Kinds = {"name": str, "shape": list, "qparams": dict, "constant": bool}
_INSTRUCTION: Kinds = {"op": str, "name": str, "inputs": list, "attributes": dict, "constants": list, "labels": dict}
"""The fields of each record of the document, and their types; None where a reader looks by itself."""


def _program(document: Any, arrays: dict[str, np.ndarray]) -> Program:
    version, inputs, outputs, tensor_records, instructions, structure, metadata = _fields(document, _PROGRAM)
    if version != VERSION:
        raise ValueError(f"version {version!r}; this Unfloat reads version {VERSION}")
    tensors = [_read_tensor(record, arrays) for record in tensor_records]
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise ValueError("two tensors of the same name")
    return Program(
        tuple([_read_port(record) for record in inputs]),
        tuple([_read_port(record) for record in outputs]),
        by_name,
        tuple([_read_instruction(record, arrays) for record in instructions]),
        _read_structure(structure, len(outputs)),
        _read_metadata(metadata),
    )


def _typed(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:  # JSON makes no other types, and a bool is no int here
        raise TypeError(f"required {kind.__name__}, found {value!r:.60}")
    return value


def _list(value: Any, kind: type[T]) -> list[T]:
    elements = _typed(value, list)
    if set(map(type, elements)) - {kind}:
        raise TypeError(f"required a list of {kind.__name__}, found {value!r:.60}")
    return elements


def _fields(value: Any, kinds: Kinds) -> list[Any]:
    """The values of a record's fields, in the order of `kinds`."""
    record = _typed(value, dict)
    if record.keys() != kinds.keys():
        raise ValueError(f"required the fields {sorted(kinds)}, found {sorted(record)}")
    values = [record[name] for name in kinds]
    for found, (name, kind) in zip(values, kinds.items(), strict=True):
        if type(found) is not kind and kind is not None:
            raise TypeError(f"required {kind.__name__} as {name}, found {found!r:.60}")
    return values


def _read_port(record: Any) -> Port:
    name, value, shape, permutation = _fields(record, _PORT)
    name.encode()  # which half a surrogate pair is no name for
    return Port(name, value, tuple(_list(shape, int)), tuple(_list(permutation, int)))


def _read_qparams(record: Any, arrays: dict[str, np.ndarray]) -> QParams:
    scale, zero_point, dtype, bits, axis, narrow = _fields(record, _QPARAMS)
    if axis is None:
        return QParams((_typed(scale, float),), zero_point, dtype, bits, None, narrow)
    array = arrays.pop(_typed(scale, str))
    if array.dtype != np.float32 or array.ndim != 1:
        raise TypeError(f"scales must be float32 in one dimension, found {array.dtype} {array.shape}")
    return QParams.per_channel(array, zero_point, dtype, bits, _typed(axis, int), narrow)


def _read_tensor(record: Any, arrays: dict[str, np.ndarray]) -> Tensor:
    name, shape, qparams, constant = _fields(record, _TENSOR)
    name.encode()
    data = arrays.pop(f"{name}/codes") if constant else None
    return Tensor(name, tuple(_list(shape, int)), _read_qparams(qparams, arrays), data)


def _read_instruction(record: Any, arrays: dict[str, np.ndarray]) -> Instruction:
    op, name, inputs, attributes, roles, labels = _fields(record, _INSTRUCTION)
    constants = {role: arrays.pop(f"{name}/{role}") for role in _list(roles, str)}
    return Instruction(
        op, name, tuple(_list(inputs, str)), {key: _attribute(a) for key, a in attributes.items()}, constants,
        {role: _read_qparams(label, arrays) for role, label in labels.items()},
    )  # fmt: skip


def _attribute(value: Any) -> int | str | tuple[int, ...]:
    if type(value) is int or type(value) is str:
        return value
    if type(value) is list:
        return tuple(_list(value, int))
    raise TypeError(f"required int, str or list as an attribute, found {value!r:.60}")


def _read_structure(value: Any, outputs: int) -> Any:
    if value is None and outputs == 1:
        return None
    kind, content = _typed(value, list)
    if kind in ("tuple", "list") and content == outputs:
        return (kind, content)
    if kind == "dict" and len(_list(content, str)) == outputs:
        "".join(content).encode()
        return (kind, tuple(content))
    raise ValueError(f"an output structure of {kind} {content!r} for {outputs} outputs")


def _read_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """A recipe is text, as its readers rely on; the rest need only be what can be written again."""
    _typed(value.get("recipe", ""), str).encode()
    json.dumps(value, allow_nan=False)
    return value
