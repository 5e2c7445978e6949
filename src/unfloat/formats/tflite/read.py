"""Read a quantized `.tflite` file, others' too, into a Program with the same bits, or say by name why that cannot be.

The same bits means: those of TensorFlow Lite Micro's reference kernels for int8 and int16, and of LiteRT's for uint8;
of LiteRT's too where Micro's do not do what a file says: RELU6 to another label, the border of SPACE_TO_BATCH_ND. But
FULLY_CONNECTED of uint8, which today's LiteRT rounds once, is rounded twice, as by TFLite's integer kernels.
QUANTIZE from real numbers at the entry and DEQUANTIZE to them at the exit are the Program's border; any other operator
on real numbers is refused, never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from unfloat.formats.tflite import batching, counting, float_tables
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.draft import BatchTouchedError, Draft
from unfloat.formats.tflite.fold import fold
from unfloat.formats.tflite.model import TfModel, TfOperator, apart
from unfloat.formats.tflite.table import READERS
from unfloat.ir.graph import Port
from unfloat.ir.instruction import Tensor
from unfloat.ops._indices import rows_by_index
from unfloat.program.file import naming, read_bytes
from unfloat.program.program import Program
from unfloat.program.verify import check
from unfloat.spec.errors import NumericDomainError, UnsupportedError

OF_INTEGERS = {  # that data decide: what makes, takes and moves them
    "ARG_MAX", "CAST", "CONCATENATION", "EMBEDDING_LOOKUP", "EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SLICE", "SPLIT",
    "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
}  # fmt: skip
CODES = ("int8", "uint8", "int16")
WEIGHTED = {
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "SVDF",
    "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
}  # of int8 weights between int16 codes, or with int16 states
HINTS = {  # operators that are not known and that users meet, and what to try instead
    "WHILE": "unroll the recurrent layer, or convert Keras 2's LSTM, which becomes one operator",
    **dict.fromkeys(("ELU", "EXP", "LOG"), "train it with ReLU, SiLU or hard-swish"),
    **dict.fromkeys(("RSQRT", "SQUARED_DIFFERENCE"), "train it with batch normalization"),
    "CONV_3D": "convolutions along one or two axes",
}


def read(path: str | Path) -> Program:
    """Read and verify a `.tflite` file.

    Args:
        path: A quantized model. Its batch becomes any batch where no operator computes with it.

    Raises:
        InvalidProgramError: The file is damaged or breaks a rule; the message names the field or the operator.
        UnsupportedError: Operators that a Program cannot hold, all of them at once; those on real numbers among them.
        MissingExtraError: The package of the extra `tflite` is not installed.
        OSError: There is no such file, or it cannot be read.
    """
    with naming(path):
        return from_bytes(read_bytes(path))


def from_bytes(content: bytes) -> Program:
    """The Program of a file's content; see `read`."""
    return from_model(decode(content))


def from_model(model: TfModel) -> Program:
    """The same of what a file holds."""
    draft, border = drafted(model, Draft)
    tensors = _used(draft, border.outputs)
    program = Program(border.inputs, border.outputs, tensors, tuple(draft.instructions), border.structure)
    check(program)
    require_choosing(draft.model, border.inputs, rows_by_index(program.instructions, program.shapes()))
    return program


def require_choosing(model: TfModel, inputs: Sequence[Port], rows: Container[str]) -> None:
    """Raise UnsupportedError where an input holds integers, and its value is none of those that choose rows."""
    pairs = zip(model.inputs, inputs, strict=True)
    idle = [user for (user, name), port in pairs if model.tensors[name].is_index and port.value not in rows]
    if idle:
        found = [f"input {user}: integers must choose the rows of a table, found that they do not" for user in idle]
        raise UnsupportedError("Unfloat cannot read these parts of the file:", found)


@dataclass(frozen=True)
class Border:
    """Inputs, outputs, and how the outputs are handed back."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    structure: tuple[str, int] | None


AnyDraft = TypeVar("AnyDraft", bound=Draft)


def drafted(model: TfModel, begin: Callable[[TfModel, int], AnyDraft]) -> tuple[AnyDraft, Border]:
    """Read all of a model into a draft of one kind; the batch goes before all dimensions where 0 cannot be that.

    Raises:
        UnsupportedError: All that could not be read.
    """
    model = float_tables.undo(counting.undo(batching.undo(model)))
    try:
        return _filled(begin(model, 0))
    except BatchTouchedError:
        return _filled(begin(model, 1))


def _filled(draft: AnyDraft) -> tuple[AnyDraft, Border]:
    problems: list[str] = []
    model = draft.model
    inputs = [port for user, name in model.inputs for port in _entry(draft, user, name, problems)]
    for index, operator in enumerate(model.operators):
        problems += _read(draft, index, operator)
    if not problems:
        outputs = [port for user, name in model.outputs for port in _exit(draft, user, name, problems)]
    if problems:
        raise UnsupportedError("Unfloat cannot read these parts of the file:", problems)
    structure = None if len(outputs) == 1 else ("tuple", len(outputs))
    return draft, Border(_named_apart(inputs), _named_apart(outputs), structure)


def _read(draft: Draft, index: int, operator: TfOperator) -> Iterator[str]:
    """Append an operator's instructions, or yield why that cannot be."""
    output = operator.outputs[0] if operator.outputs else "nothing"
    where = f"operator {index} ({operator.builtin}), which makes {output}"
    try:
        if not operator.outputs:
            raise UnreadableError("required an output, found none")
        if _is_border(draft, operator) or fold(draft, operator):
            return
        plain = operator.builtin in OF_INTEGERS
        if draft.takes_indices(operator) and not plain:
            raise UnreadableError("integers may only move and choose rows, found that it computes with them")
        reader = READERS.get(operator.builtin)
        if reader is None:
            hint = HINTS.get(operator.builtin)
            raise UnreadableError("Unfloat has no integer operator for it" + (f"; try: {hint}" if hint else ""))
        _require_one_type(draft, operator)
        if not plain and any(draft.tensor(name).is_index for name in operator.outputs):
            raise UnreadableError("integers come from inputs and ARG_MAX, found that it computes them")
        reader(draft, operator)
    except BatchTouchedError:
        if not draft.lead:
            raise
        yield f"{where}: its leading dimension cannot be told from its batch"
    except (UnreadableError, NumericDomainError) as error:
        yield f"{where}: {draft.reason(operator) or error}"
        draft.stand_in(operator)


def _require_one_type(draft: Draft, operator: TfOperator) -> None:
    """Raise unless an operator's codes are all of one type: its kernels look at one operand's and read all as that."""
    names = (name for name in (*operator.inputs, *operator.outputs) if name is not None)
    dtypes = {"int8" if dtype == "int4" else dtype for dtype in (draft.tensor(name).dtype for name in names)}
    found = dtypes.intersection(CODES)
    weighted = operator.builtin in WEIGHTED and found == {"int8", "int16"}
    if len(found) > 1 and not weighted and operator.builtin != "QUANTIZE":
        raise UnreadableError(f"required codes of one type, found {', '.join(sorted(found))}")


def _is_border(draft: Draft, operator: TfOperator) -> bool:
    """Whether an operator only leads into codes from the file's inputs, or out to its outputs.

    An entry's QUANTIZE, or CAST, was read with its input, and an exit's DEQUANTIZE gives no value but its operand's:
    unless operators read the real numbers too, which are no codes.
    """
    if operator.builtin in ("QUANTIZE", "CAST") and operator.outputs[0] in draft.values:
        return True
    leaves = {name for _, name in draft.model.outputs if not draft.readers[name]}
    if operator.builtin != "DEQUANTIZE" or operator.outputs[0] not in leaves or len(operator.inputs) != 1:
        return False
    draft.values[operator.outputs[0]] = draft.operand(operator.inputs[0])
    return True


def _entry(draft: Draft, user: str, name: str, problems: list[str]) -> Iterator[Port]:
    """An input: codes, or the codes that a QUANTIZE makes of real numbers; or a problem."""
    try:
        codes = draft.codes_of(name)
        if codes in draft.values:
            raise UnreadableError(f"required a tensor of its own, found {name} again")
        value = draft.unused(draft.input_name(user, codes))
        draft.hold(Tensor(value, draft.shape(codes), draft.label(codes)))
        draft.values[codes] = value
        yield _port(draft, user, value)
    except BatchTouchedError:
        raise
    except UnreadableError as error:
        problems.append(f"input {user}: {error}")


def _exit(draft: Draft, user: str, name: str, problems: list[str]) -> Iterator[Port]:
    """An output, or a problem."""
    try:
        value = draft.operand(name)
        if draft.tensors[value].data is not None:
            raise UnreadableError("required a value that is computed, found a constant")
        yield _port(draft, user, value)
    except BatchTouchedError:
        raise
    except UnreadableError as error:
        problems.append(f"output {user}: {error}")


def _port(draft: Draft, user: str, value: str) -> Port:
    shape = draft.tensors[value].shape
    return Port(user, value, shape, tuple(range(len(shape))))


def _named_apart(ports: Sequence[Port]) -> tuple[Port, ...]:
    """The ports under names that differ, as users tell them by name."""
    taken: set[str] = set()
    found = []
    for port in ports:
        name = apart(port.name, taken)
        taken.add(name)
        found.append(replace(port, name=name))
    return tuple(found)


def _used(draft: Draft, outputs: Sequence[Port]) -> dict[str, Tensor]:
    """The Program's tensors without constants that turned out not to be needed."""
    needed = {name for instruction in draft.instructions for name in instruction.inputs} | {
        port.value for port in outputs
    }
    return {name: tensor for name, tensor in draft.tensors.items() if tensor.data is None or name in needed}
