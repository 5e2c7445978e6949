"""LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, ABS, PRELU."""

from __future__ import annotations

from unfloat.formats.tflite.activation import emit_plain
from unfloat.formats.tflite.builtins import UnsayableError
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Writer, clamp_of
from unfloat.ir.instruction import Instruction
from unfloat.ops.slopes import slope_value

SIGMOID_SCALE = 8.0  # from it on the public kernels take 0 for an end of the range
HARD_SWISH_SCALE = 2.0**-22  # below it, or with an output scale 2^9 times the input's, they shift 16 bits by 16
HARD_SWISH_RATIO = 2.0**9
PRELU_RANK = 4  # of PRELU in TensorFlow Lite Micro


def _sigmoid(builtin: str) -> Writer:
    def write(scope: Scope, i: Instruction) -> None:
        label = scope.label(i.inputs[0])
        if "uint8" in (label.dtype, scope.label(i.name).dtype):
            raise UnsayableError(f"required int8 or int16, found uint8, whose {builtin} is made in floating point")
        if label.dtype != "int16" and label.scale[0] >= SIGMOID_SCALE:
            raise UnsayableError(f"required an input scale below {SIGMOID_SCALE}, found {label.scale[0]}")
        scope.emit(builtin, i.inputs, i.name)

    return write


def _hard_swish(scope: Scope, i: Instruction) -> None:
    label, output = scope.label(i.inputs[0]), scope.label(i.name)
    scale, ratio = label.scale[0], output.scale[0] / label.scale[0]
    if scale < HARD_SWISH_SCALE or ratio > HARD_SWISH_RATIO:
        required = (
            f"an input scale of at least {HARD_SWISH_SCALE} and an output scale at most {HARD_SWISH_RATIO} times it"
        )
        raise UnsayableError(f"required {required}, found {scale} and {output.scale[0]}")
    emit_plain(scope, "HARD_SWISH", i.inputs, i.name, (output.qmin, output.qmax))


def _leaky_relu(scope: Scope, i: Instruction) -> None:
    emit_plain(scope, "LEAKY_RELU", i.inputs, i.name, clamp_of(i), Alpha=slope_value(i.attributes))


def _abs(scope: Scope, i: Instruction) -> None:
    if "uint8" in (scope.label(i.inputs[0]).dtype, scope.label(i.name).dtype):
        raise UnsayableError("required int8 or int16, found uint8, which ABS does not take")
    emit_plain(scope, "ABS", i.inputs, i.name, clamp_of(i))


def _prelu(scope: Scope, i: Instruction) -> None:
    rank = len(scope.shape(i.name))
    if rank > PRELU_RANK:
        raise UnsayableError(f"required at most {PRELU_RANK} dimensions, found {rank}")
    emit_plain(scope, "PRELU", i.inputs, i.name, clamp_of(i))


WRITERS = {
    "logistic": _sigmoid("LOGISTIC"),
    "tanh": _sigmoid("TANH"),
    "hard_swish": _hard_swish,
    "leaky_relu": _leaky_relu,
    "abs": _abs,
    "prelu": _prelu,
}
