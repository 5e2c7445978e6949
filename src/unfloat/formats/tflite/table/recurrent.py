"""SVDF and UNIDIRECTIONAL_SEQUENCE_LSTM, which keep states from one run to the next.

In a file the states are variable tensors. A runtime keeps them until it is told to reset them, so an LSTM that would
begin anew with each run (`carried` = 0) is written as the same operator: in TFLite its runs go on from one another
unless its variables are reset between them. What is read is `carried`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.activation import activation_codes, emit_plain
from unfloat.formats.tflite.builtins import UnreadableError, UnsayableError
from unfloat.formats.tflite.draft import BatchTouchedError, Draft, number, snug, text
from unfloat.formats.tflite.model import Quantization, TfOperator
from unfloat.formats.tflite.scope import Scope
from unfloat.formats.tflite.table._common import clamp_of, require_operands
from unfloat.ir.graph import BATCH, Shape
from unfloat.ir.instruction import Instruction
from unfloat.spec.qparams import QParams, positive_scale

GATES = ("input", "forget", "cell", "output")
WEIGHTS, RECURRENT, BIASES = slice(1, 5), slice(5, 9), slice(12, 16)  # an LSTM's operands, gate by gate
OUTPUT_STATE, CELL_STATE = 18, 19
VARIANTS = {  # operands that only other forms of an LSTM have
    "peepholes": slice(9, 12),
    "a projection": slice(16, 18),
    "layer normalization": slice(20, 24),
}
OPERANDS, INTERMEDIATES = 24, 5


def _svdf(scope: Scope, i: Instruction) -> None:
    """The integer kernels demand RELU and do not compute it: they saturate to int8 codes."""
    label, time, state = (i.labels[role] for role in ("weight", "time", "state"))
    if i.attributes["state_bits"] != 8 * np.dtype(state.dtype).itemsize:
        raise UnsayableError(f"required a state of all codes of {state.dtype}, found {state.bits} bits")
    bias = Quantization((positive_scale(state.scale[0] * time.scale[0]),))
    inputs = (
        i.inputs[0],
        scope.constant(f"{i.name}/weight", i.constants["weight"], Quantization.of(label)),
        scope.constant(f"{i.name}/time", i.constants["time"], Quantization.of(time)),
        scope.constant(f"{i.name}/bias", i.constants["bias"], bias),
        scope.variable(f"{i.name}/state", (1, i.constants["time"].size), state),
    )
    fields = {"Rank": i.attributes["rank"], "FusedActivationFunction": ("ActivationFunctionType", "RELU")}
    emit_plain(scope, "SVDF", inputs, i.name, clamp_of(i), **fields)


def _lstm(scope: Scope, i: Instruction) -> None:
    """LiteRT, not Micro, asks for intermediates; without projection it looks at the last only, the output's meaning."""
    label, cell, units = scope.label(i.name), i.labels["cell"], i.constants["bias"].shape[1]
    if clamp_of(i) != activation_codes("NONE", label):
        raise UnsayableError(f"required an output of all codes of int8, found {clamp_of(i)}")
    states = [scope.variable(f"{i.name}/{role}", (1, units), own) for role, own in (("hidden", label), ("cell", cell))]
    weights, biases = _gate_weights(scope, i, "weight"), _gate_biases(scope, i)
    inputs = [i.inputs[0], *weights, *_gate_weights(scope, i, "recurrent"), *[None] * 3, *biases, *[None] * 2, *states]
    scope.emit(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        [*inputs, *[None] * (OPERANDS - len(inputs))],
        i.name,
        FusedActivationFunction=("ActivationFunctionType", "TANH"),
        CellClip=i.attributes["cell_clip"] * cell.scale[0],
    )
    scope.say_inside([scope.between(f"{i.name}/inside", i.name, (0,))] * INTERMEDIATES)


def _gate_weights(scope: Scope, i: Instruction, role: str) -> list[str]:
    """A tensor for each gate, of one scale."""
    return [
        scope.constant(f"{i.name}/{role}_{gate}", codes, Quantization((scale,)))
        for gate, codes, scale in zip(GATES, i.constants[role], _scales(i.labels[role]), strict=True)
    ]


def _gate_biases(scope: Scope, i: Instruction) -> list[str]:
    source = scope.label(i.inputs[0]).scale[0]
    return [
        scope.constant(f"{i.name}/bias_{gate}", codes, Quantization((positive_scale(source * scale),)))
        for gate, codes, scale in zip(GATES, i.constants["bias"], _scales(i.labels["weight"]), strict=True)
    ]


def _scales(label: QParams) -> tuple[float, ...]:
    return label.scale if label.axis is not None else label.scale * len(GATES)


WRITERS = {"svdf": _svdf, "lstm": _lstm}


def _read_svdf(draft: Draft, operator: TfOperator) -> None:
    """The kernels clamp to int8 codes, whether the file says RELU or nothing."""
    source, feature, time, bias, state = require_operands(operator, 5)
    activation, rank = text(operator, "FusedActivationFunction", "NONE"), number(operator, "Rank")
    weight, along = draft.constant(feature), draft.constant(time)
    filters = weight.shape[0] if weight.ndim == along.ndim == 2 and weight.size and along.size else 0
    if activation not in ("NONE", "RELU"):
        raise UnreadableError(f"required RELU, which integer kernels do not compute, found {activation}")
    if not filters or along.shape[0] != filters or rank < 1 or filters % rank:
        raise UnreadableError(f"required rows of {rank} filters, found {weight.shape} and {along.shape}")
    value, samples = _rows(draft, source, 2)
    _require_result(draft, operator, source, weight.shape[1], filters // rank)
    label = _state(draft, state, samples * along.size)
    constants, labels, _ = draft.weights(
        value, (weight, _one_scale(draft, feature)), _bias(draft, bias, filters // rank)
    )
    constants, labels = {**constants, "time": along}, {**labels, "time": _one_scale(draft, time), "state": label}
    fields = {"rank": rank, **draft.clamp_by("NONE", operator.outputs[0])}
    draft.define(operator.outputs[0], "svdf", (value,), fields, constants, labels)


def _read_lstm(draft: Draft, operator: TfOperator) -> None:
    """Its intermediates say nothing that kernels without projection and normalization look at."""
    operands = require_operands(operator, OPERANDS - 4, OPERANDS)
    _require_plain(operator, operands)
    source, output = operands[0], operator.outputs[0]
    value, samples = _rows(draft, source, 3, time_major=bool(number(operator, "TimeMajor")))
    depth = draft.tensors[value].shape[2]
    units = draft.tensor(output).shape[-1] if draft.tensor(output).shape else 0
    _require_result(draft, operator, source, depth, units)
    weight, label = _gates(draft, operands[WEIGHTS], (units, depth))
    recurrent, recurrent_label = _gates(draft, operands[RECURRENT], (units, units))
    bias = np.stack([_bias(draft, name, units) for name in operands[BIASES]])
    if _state(draft, operands[OUTPUT_STATE], samples * units) != draft.label(output):
        raise UnreadableError("required the output's QParams for its state, found others")
    cell = _state(draft, operands[CELL_STATE], samples * units)
    constants, labels, _ = draft.weights(value, (weight, label), bias)
    constants = {**constants, "recurrent": recurrent}
    labels = {**labels, "recurrent": snug(recurrent, recurrent_label), "cell": cell}
    fields = {"carried": draft.carried, "cell_clip": draft.clip_code(_clip(operator), cell)}
    fields |= draft.clamp_by("NONE", output)
    draft.define(output, "lstm", (value,), fields, constants, labels)


def _require_plain(operator: TfOperator, operands: Sequence[str | None]) -> None:
    """Raise unless the operator is an LSTM of four gates and nothing else."""
    found = [name for name, own in VARIANTS.items() if any(operand is not None for operand in operands[own])]
    found += ["no weights of the input gate (CIFG)"] if operands[WEIGHTS][0] is None else []
    found += ["diagonal recurrent weights"] if number(operator, "DiagonalRecurrentTensors") else []
    activation = text(operator, "FusedActivationFunction", "NONE")
    found += [f"the activation {activation}"] if activation != "TANH" else []
    if found:
        raise UnreadableError(f"required an LSTM of four gates and TANH, found {', '.join(found)}")


def _clip(operator: TfOperator) -> float:
    clip = operator.fields.get("CellClip", 0.0)
    if not isinstance(clip, float) or not 0 <= clip < math.inf:
        raise UnreadableError(f"required a clip of the cell of 0 or more, found {clip}")
    return clip


def _rows(draft: Draft, name: str | None, rank: int, *, time_major: bool = False) -> tuple[str, int]:
    """An activation as rows of one sample each, [N, I], or [N, T, I] of rows in time; and how many samples it has.

    Time may come first in the file where that has one sample: then it is no batch.
    """
    tensor = draft.tensor(name)
    if len(tensor.shape) != rank or tensor.data is not None or not all(tensor.shape):
        raise UnreadableError(f"required an activation of {rank} dimensions, found {tensor.name}, {tensor.shape}")
    lead = draft.lead_of(name)
    if time_major and not lead:
        raise BatchTouchedError("required one sample, found time in front")
    if lead and tensor.shape[1 if time_major else 0] != 1:
        raise UnreadableError(f"required states of one sample, found {tensor.shape}")
    own = (tensor.shape[0], tensor.shape[2]) if time_major else tensor.shape[1:]
    return draft.reshaped(draft.operand(name), (BATCH, *own)), 1 if lead else tensor.shape[0]


def _require_result(draft: Draft, operator: TfOperator, source: str | None, depth: int, units: int) -> None:
    """Raise unless rows of `depth` values become rows of `units`."""
    rows, made = draft.tensor(source).shape, draft.tensor(operator.outputs[0]).shape
    kinds = {draft.label(source).dtype, draft.label(operator.outputs[0]).dtype}
    if rows[-1:] != (depth,) or made != (*rows[:-1], units) or kinds != {"int8"}:
        required = f"required int8 rows of {depth} values that become {units}"
        raise UnreadableError(f"{required}, found {rows} and {made} of {', '.join(sorted(kinds))}")


def _state(draft: Draft, name: str | None, size: int) -> QParams:
    """The label of a state: a variable of `size` codes that begins at its zero point and is this operator's alone."""
    tensor = draft.tensor(name)
    if not tensor.variable or tensor.data is not None:
        raise UnreadableError(f"required a variable tensor as state, found {tensor.name}, which is none")
    if math.prod(tensor.shape) != size:
        raise UnreadableError(f"required a state of {size} codes, found {tensor.name}, {tensor.shape}")
    if not draft.is_own(tensor.name):
        raise UnreadableError(f"required a state of its own, found {tensor.name}, which others read or write")
    label = draft.label(name)
    if label.axis is not None:
        raise UnreadableError(f"required a state of one scale, found {label} of {tensor.name}")
    return label


def _one_scale(draft: Draft, name: str | None) -> QParams:
    label = draft.label(name)
    if label.axis is not None or label.zero_point:
        raise UnreadableError(f"required symmetric weights of one scale, found {label} of {name}")
    return label


def _gates(draft: Draft, names: Sequence[str | None], shape: Shape) -> tuple[np.ndarray, QParams]:
    """Weights of four gates in one array, with a scale for each."""
    codes, labels = [draft.constant(name) for name in names], [_one_scale(draft, name) for name in names]
    if any(found.shape != shape or not found.size for found in codes):
        raise UnreadableError(f"required weights of {shape} for each gate, found {[found.shape for found in codes]}")
    if any(label.dtype != "int8" or label.bits != 8 for label in labels):
        raise UnreadableError(f"required weights of int8, found {labels}")
    return np.stack(codes), replace(labels[0], scale=tuple(label.scale[0] for label in labels), axis=0)


def _bias(draft: Draft, name: str | None, units: int) -> np.ndarray:
    bias = np.zeros(units, np.int32) if name is None else draft.constant(name)
    if bias.shape != (units,):
        raise UnreadableError(f"required a bias of {units} units, found {bias.shape}")
    return bias


READERS = {"SVDF": _read_svdf, "UNIDIRECTIONAL_SEQUENCE_LSTM": _read_lstm}
