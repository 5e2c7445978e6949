"""Write a Program as a `.tflite` file with the same bits, or say by name why that cannot be.

The same bits means: in TensorFlow Lite Micro's reference kernels (CMSIS-NN's defaults) for int8 and int16, and in
LiteRT's reference kernels for uint8, which Micro does not know; but for FULLY_CONNECTED of uint8, which LiteRT rounds
once where TFLite's integer kernels, and these bits, round twice. Where it runs an int8 or int16 file, a code may differ
by one: it requantizes FULLY_CONNECTED in floating point, so does it make the tables of LOGISTIC and TANH, and it
forms the factors of MUL, LEAKY_RELU, ABS and HARD_SWISH in float32. Micro runs grouped convolutions too.

LiteRT forms the factors of SVDF in float32 as well, and knows no SVDF whose state is bytes; its LSTM takes logistic and
tanh from other curves, so that codes drift apart by a few.

States are variable tensors: a runtime carries them on from run to run until its variables are reset. It does so too for
an LSTM whose runs begin anew (`carried` = 0), as TFLite has no other: reset before each run, its bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unfloat.formats.tflite.activation import emit_plain
from unfloat.formats.tflite.builtins import UnsayableError
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.exact import obstacle
from unfloat.formats.tflite.model import TfModel
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table import WRITERS
from unfloat.formats.tflite.table._common import emit_reshape
from unfloat.ir.graph import Port
from unfloat.ir.instruction import Instruction
from unfloat.program.certificate import verify
from unfloat.program.file import write_atomically
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError

DESCRIPTION = "Integer-only network, made by Unfloat"


def write(program: Program, path: str | Path, *, float_border: bool = False) -> None:
    """Write a `.tflite` file: all or nothing, the same bytes for the same Program.

    Args:
        program: What to write; its batch becomes 1.
        path: Where to.
        float_border: Take and give float32 in the Program's inner layout (NHWC): QUANTIZE at the entry, DEQUANTIZE at
            the exit, but for indices, which are int32. Otherwise the border is codes. QUANTIZE overflows for reals past
            2^31 scales, infinities among them, where the engine's border saturates.

    Raises:
        ExportError: TFLite cannot say some instructions (the message lists all), or the path cannot be written.
        InvalidProgramError: The Program breaks a rule.
        MissingExtraError: The packages of the extra `tflite` are not installed.
    """
    write_atomically(path, to_bytes(program, float_border=float_border))


def to_bytes(program: Program, *, float_border: bool = False) -> bytes:
    """The file's content; see `write`."""
    verify(program)
    scope = Scope(program)
    inputs = tuple((port.name, _entry(scope, port, float_border)) for port in program.inputs)
    problems = [problem for instruction in program.instructions for problem in _say(scope, instruction)]
    if problems:
        raise ExportError("\n  - ".join(["TFLite cannot compute the bits of these instructions:", *problems]))
    outputs = tuple(_exits(scope, program, float_border))
    return encode(TfModel(scope.tensors, tuple(scope.operators), inputs, outputs), DESCRIPTION)


def _say(scope: Scope, instruction: Instruction) -> Iterator[str]:
    """Append the instruction's operators, or yield why that cannot be."""
    where = f"{instruction.name} ({instruction.op})"
    if reason := scope.misused(instruction):
        yield f"{where}: {reason}"
        return
    if instruction.op not in WRITERS:
        yield f"{where}: TFLite has no such operator"
        return
    reason = obstacle(instruction, [scope.label(name) for name in instruction.inputs], scope.label(instruction.name))
    try:
        WRITERS[instruction.op](scope, instruction)
    except UnsayableError as error:
        reason = reason or str(error)
    if reason:
        yield f"{where}: {reason}"


def _entry(scope: Scope, port: Port, float_border: bool) -> str:
    """The tensor that the user fills."""
    if not float_border or port.value in scope.plain:
        return port.value
    name, label = scope.real(f"{port.value}/float", scope.shape(port.value)), scope.label(port.value)
    emit_plain(scope, "QUANTIZE", (name,), port.value, (label.qmin, label.qmax))
    return name


def _exits(scope: Scope, program: Program, float_border: bool) -> Iterator[tuple[str, str]]:
    """The tensors that the user reads: copies of values that are inputs, constants or another output too."""
    free = {instruction.name for instruction in program.instructions}
    for port in program.outputs:
        name = port.value
        if float_border and scope.tensors[name].quantization is not None:
            name = scope.real(f"{port.value}/float", scope.shape(port.value))
            scope.emit("DEQUANTIZE", (port.value,), name)
        elif name not in free:
            name = scope.between(f"{port.value}/copy", port.value)
            emit_reshape(scope, port.value, name)
        free.discard(port.value)
        yield port.name, name
