"""LOGISTIC, TANH, HARD_SWISH, GELU, LEAKY_RELU, ABS, PRELU; RELU, RELU6, RELU_N1_TO_1 that stand alone are read too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unfloat.formats.tflite.activation import emit_plain, whole_storage
from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import Draft, number
from unfloat.formats.tflite.model import TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import Reader, Writer, clamp_of, require_operands
from unfloat.ir.instruction import Instruction
from unfloat.ops.slopes import slope_pair, slope_value
from unfloat.spec.activation import LEAST_SCALE, gelu, hard_swish_steps
from unfloat.spec.fixedpoint import quantize_multiplier, requantize
from unfloat.spec.qparams import QParams, float32

SIGMOID_SCALE = 8.0  # from it on the public kernels take 0 for an end of the range
HARD_SWISH_SCALE = 2.0**-22  # below it, or with an output scale 2^9 times the input's, they shift 16 bits by 16
HARD_SWISH_RATIO = 2.0**9
TIE = "required no real value halfway between two codes, where float32, as LiteRT forms the table, may round either way"
SINGLE_ERROR = 2.0**-22  # of float32's GELU, as a share of its argument
STEPS = np.arange(-255, 256)  # of all bytes, whatever the zero point
SINGLE = "its factors in float32, as TFLite's uint8 kernels form them, give other codes"
PRELU_RANK = 4  # of PRELU in TensorFlow Lite Micro


def _sigmoid_obstacle(labels: Sequence[QParams]) -> str:
    """Why the kernels of LOGISTIC and TANH would not give the instruction's bits, or ""."""
    if any(label.dtype == "uint8" for label in labels):
        return "required int8 or int16 codes, found uint8, whose table the kernels make in floating point"
    if labels[0].dtype == "int8" and not LEAST_SCALE <= labels[0].scale[0] < SIGMOID_SCALE:
        return f"required an input scale from {LEAST_SCALE} to below {SIGMOID_SCALE}, found {labels[0].scale[0]}"
    return ""


def hard_swish_obstacle(labels: Sequence[QParams]) -> str:
    """The same for HARD_SWISH."""
    scale, output_scale = (label.scale[0] for label in labels)
    if scale >= HARD_SWISH_SCALE and output_scale <= HARD_SWISH_RATIO * scale:
        unsigned = any(label.dtype == "uint8" for label in labels)
        single = hard_swish_steps(STEPS, scale, output_scale, single=True)
        return SINGLE if unsigned and (single != hard_swish_steps(STEPS, scale, output_scale)).any() else ""
    required = f"an input scale of at least {HARD_SWISH_SCALE} and an output scale at most {HARD_SWISH_RATIO} times it"
    return f"required {required}, found {scale} and {output_scale}"


def gelu_obstacle(labels: Sequence[QParams], approximate: str) -> str:
    """The same for GELU, whose table LiteRT forms in float32: it is ours unless a real value lies at a tie."""
    source, target = map(whole_storage, labels)
    reals = (np.arange(source.qmin, source.qmax + 1) - source.zero_point) * source.scale[0]
    exact = gelu(reals, approximate) / target.scale[0]
    near = np.abs(exact - np.floor(exact) - 0.5) < SINGLE_ERROR * np.abs(reals) / target.scale[0]
    inside = (target.qmin - 1 < exact + target.zero_point) & (exact + target.zero_point < target.qmax + 1)
    return TIE if (near & inside).any() else ""


def leaky_relu_obstacle(labels: Sequence[QParams], slope: float) -> str:
    """The same for LEAKY_RELU."""
    scale, output_scale = (label.scale[0] for label in labels)
    below = float32(scale * abs(slope)) / output_scale
    doubles = (scale / output_scale, scale * abs(slope) / output_scale)
    singles = (float32(scale / output_scale), float32(below))
    unsigned = any(label.dtype == "uint8" for label in labels)
    return SINGLE if unsigned and [*map(_multiples, doubles)] != [*map(_multiples, singles)] else ""


def _multiples(factor: float) -> list[int]:
    """A factor times every step."""
    steps, (multiplier, shift) = np.abs(STEPS), quantize_multiplier(factor)
    found: list[int] = requantize(steps, np.array(multiplier), np.array(shift), "double").tolist()
    return found


OBSTACLES = {"LOGISTIC": _sigmoid_obstacle, "TANH": _sigmoid_obstacle, "HARD_SWISH": hard_swish_obstacle}


def _writer(builtin: str) -> Writer:
    """A writer of a function that is looked up."""

    def write(scope: Scope, i: Instruction) -> None:
        labels = [scope.label(name) for name in (i.inputs[0], i.name)]
        if reason := OBSTACLES[builtin](labels):
            raise UnsayableError(reason)
        emit_plain(scope, builtin, i.inputs, i.name, (labels[1].qmin, labels[1].qmax))

    return write


def _gelu(scope: Scope, i: Instruction) -> None:
    approximate, labels = i.attributes["approximate"], [scope.label(name) for name in (i.inputs[0], i.name)]
    if reason := gelu_obstacle(labels, approximate):
        raise UnsayableError(reason)
    clamp = (labels[1].qmin, labels[1].qmax)
    emit_plain(scope, "GELU", i.inputs, i.name, clamp, Approximate=approximate == "tanh")


def _leaky_relu(scope: Scope, i: Instruction) -> None:
    slope = slope_value(i.attributes)
    if reason := leaky_relu_obstacle([scope.label(name) for name in (i.inputs[0], i.name)], slope):
        raise UnsayableError(reason)
    emit_plain(scope, "LEAKY_RELU", i.inputs, i.name, clamp_of(i), Alpha=slope)


def _abs(scope: Scope, i: Instruction) -> None:
    if "uint8" in (scope.label(i.inputs[0]).dtype, scope.label(i.name).dtype):
        raise UnsayableError("required int8 or int16 codes, found uint8, which ABS does not take")
    emit_plain(scope, "ABS", i.inputs, i.name, clamp_of(i))


def _prelu(scope: Scope, i: Instruction) -> None:
    rank = len(scope.shape(i.name))
    if rank > PRELU_RANK:
        raise UnsayableError(f"required at most {PRELU_RANK} dimensions, found {rank}")
    emit_plain(scope, "PRELU", i.inputs, i.name, clamp_of(i))


WRITERS: dict[str, Writer] = {
    "logistic": _writer("LOGISTIC"),
    "tanh": _writer("TANH"),
    "hard_swish": _writer("HARD_SWISH"),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "abs": _abs,
    "prelu": _prelu,
}


def _reader(op: str) -> Reader:
    """A reader of a function that is looked up."""

    def read(draft: Draft, operator: TfOperator) -> None:
        require_operands(operator, 1)
        source, output = operator.inputs[0], operator.outputs[0]
        if reason := OBSTACLES[operator.builtin]([draft.label(source), draft.label(output)]):
            raise UnreadableError(reason)
        draft.define(output, op, (draft.operand(source),), {})

    return read


def _read_gelu(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    labels = [draft.label(name) for name in (operator.inputs[0], operator.outputs[0])]
    approximate = "tanh" if number(operator, "Approximate") else "none"
    if "int16" in {label.dtype for label in labels}:
        raise UnreadableError("required codes of 8 bits, found int16")
    if reason := gelu_obstacle(labels, approximate):
        raise UnreadableError(reason)
    draft.define(operator.outputs[0], "gelu", (draft.operand(operator.inputs[0]),), {"approximate": approximate})


def _read_leaky_relu(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    slope = operator.fields.get("Alpha", 0.0)
    if not isinstance(slope, int | float) or not math.isfinite(slope):
        raise UnreadableError(f"required a finite alpha, found {slope}")
    labels = [draft.label(name) for name in (operator.inputs[0], operator.outputs[0])]
    if reason := leaky_relu_obstacle(labels, slope):
        raise UnreadableError(reason)
    attributes = {"slope": slope_pair(slope), **draft.clamp(operator)}
    draft.define(operator.outputs[0], "leaky_relu", (draft.operand(operator.inputs[0]),), attributes)


def _read_abs(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 1)
    draft.define(operator.outputs[0], "abs", (draft.operand(operator.inputs[0]),), draft.clamp(operator))


def _read_prelu(draft: Draft, operator: TfOperator) -> None:
    require_operands(operator, 2)
    dtypes = {draft.label(name).dtype for name in (*operator.inputs, operator.outputs[0])}
    if "int16" in dtypes:
        raise UnreadableError("required codes of 8 bits, found int16")
    rank = len(draft.shape(operator.outputs[0]))
    operands = [draft.operand(name, rank) for name in operator.inputs]
    draft.define(operator.outputs[0], "prelu", operands, draft.clamp(operator))


def _read_clamp(draft: Draft, operator: TfOperator) -> None:
    """Under one label a clamp, joined to the operator before it where that has room; else QUANTIZE and a clamp.

    Micro's RELU6 and RELU_N1_TO_1 do not look at another label; LiteRT's do, as the file means it.
    """
    require_operands(operator, 1)
    source, output = draft.tensor(operator.inputs[0]).name, operator.outputs[0]
    clamp = draft.clamp_by(operator.builtin, output)
    if draft.label(output) == draft.label(source):
        draft.narrowed(output, source, clamp)
        return
    draft.define(output, "rescale", (draft.operand(source),), clamp)


READERS: dict[str, Reader] = {
    "LOGISTIC": _reader("logistic"),
    "TANH": _reader("tanh"),
    "HARD_SWISH": _reader("hard_swish"),
    "GELU": _read_gelu,
    "LEAKY_RELU": _read_leaky_relu,
    "ABS": _read_abs,
    "PRELU": _read_prelu,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1"), _read_clamp),
}
