"""SVDF, a layer of keyword spotters: features of each run, remembered, then weighed along time (eq. 49 and 50).

A filter sees one feature of every run: a product of the input with the filter's weight. It keeps the newest `memory` of
them and gives their sum, each times its weight in time. `rank` filters make one output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._linear import BIAS_BITS, bias_codes, sum_ends
from unfloat.ops._operator import (
    CLAMP,
    CODE,
    MULTIPLIER,
    ROUNDING,
    SHIFT,
    SIZE,
    Case,
    Domain,
    Operator,
    Params,
    QuantRecord,
    Request,
    State,
    States,
)
from unfloat.ops._rescaling import clamp_fields, code_span, scale_of
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import quantize_multiplier, round_half_away, saturate, scalar_like
from unfloat.spec.qparams import TINY, WIDE_BITS, QParams, float32

TIME_CODES = 2**9 - 1  # of weights in time, which TFLite's converter gives 10 bits of 16
WORD_MAX = 2**15 - 1


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, I] -> [N, filters / rank]; weight [filters, I], time [filters, memory], bias [filters / rank]."""
    weight, time, bias, rank = params["weight"], params["time"], params["bias"], attributes["rank"]
    if len(inputs[0]) != 2 or len(weight) != 2 or weight[1] != inputs[0][1]:
        raise ValueError(f"svdf takes rows and a weight of their length, found {inputs[0]} and {weight}")
    if len(time) != 2 or time[0] != weight[0] or weight[0] % rank:
        raise ValueError(f"svdf needs a row in time for each filter and whole outputs, found {weight}, {time}, {rank}")
    if bias != (weight[0] // rank,):
        raise ValueError(f"svdf needs a bias for each of {weight[0] // rank} outputs, found {bias}")
    return (inputs[0][0], weight[0] // rank)


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]:
    """Symmetric weights, one scale each; the state's scale is the least that no input can leave."""
    weight, time, bias = (request.params[role] for role in ("weight", "time", "bias"))
    low, high = (request.inputs[0].qparams.scale[0] * end for end in code_span(request.inputs[0]))
    top = 2 ** (request.weights.bits - 1) - 1
    weight_scale = _scale(np.abs(weight).max() / top)
    reach = np.abs(weight).sum(axis=1) * max(high, -low)
    state_scale = _scale(reach.max() / WORD_MAX)
    time_scale = _scale(max(np.abs(time).max() / TIME_CODES, np.abs(bias).max() / (state_scale * 2**BIAS_BITS)))
    codes = saturate(round_half_away(weight / weight_scale), -top, top)
    constants = {
        "weight": codes.astype(np.int8),
        "time": round_half_away(time / time_scale).astype(np.int16),
        "bias": bias_codes(bias, state_scale, np.float64(time_scale)).astype(np.int32),
    }
    labels = {
        "weight": QParams((weight_scale,), bits=request.weights.bits, narrow=True),
        "time": QParams((time_scale,), 0, "int16", WIDE_BITS),
        "state": QParams((state_scale,), 0, "int16", WIDE_BITS),
    }
    return {**request.attributes, **clamp_fields(request)}, constants, labels


def _scale(real: float) -> float:
    return max(float32(real), TINY)


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`S_in S_w / S_state` and `S_state S_time / S_out`."""
    labels = instruction.labels
    if any(label.axis is not None for label in labels.values()):
        raise NumericDomainError("svdf needs labels per tensor")
    if labels["weight"].dtype != "int8" or labels["weight"].zero_point or labels["time"].zero_point:
        raise NumericDomainError("svdf needs symmetric weights of int8, and in time symmetric ones")
    if labels["state"].dtype == "uint8" or labels["time"].dtype != labels["state"].dtype:
        raise NumericDomainError("svdf needs a state of int8 or int16, and weights in time stored alike")
    if labels["state"].zero_point or labels["state"].narrow:  # what passes 8 bits with a zero point wraps in TFLite
        raise NumericDomainError("svdf needs a symmetric state whose lowest code is used as any other")
    weight, time, state = (scale_of(labels[role]) for role in ("weight", "time", "state"))
    feature_multiplier, feature_shift = quantize_multiplier(scale_of(inputs[0]) * weight / state)
    multiplier, shift = quantize_multiplier(state * time / scale_of(output))
    return {
        "feature_multiplier": feature_multiplier,
        "feature_shift": feature_shift,
        "multiplier": multiplier,
        "shift": shift,
        "input_zero_point": inputs[0].qparams.zero_point,
        "state_bits": labels["state"].bits,
        "output_zero_point": output.qparams.zero_point,
    }


def _states(instruction: Instruction, output: Tensor) -> dict[str, State]:
    return {"state": State(instruction.constants["time"].shape, instruction.labels["state"])}


def _step(
    b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array], states: States | None
) -> tuple[Array, States]:
    """The oldest feature gives way to the newest; then all are weighed."""
    feature = _feature(b, attributes, constants, inputs[0])
    newest = feature[:, :, None]
    before = b.xp.repeat(newest * 0, constants["time"].shape[1], axis=2) if states is None else states["state"]
    state = b.xp.concat([before[:, :, 1:], newest], axis=2)
    sums = b.xp.sum(state * constants["time"], axis=2)  # exact: 32 bits hold every sum (verified)
    totals = _by_output(b, attributes, sums) + constants["bias"]
    codes = _rescaled(b, attributes, totals, "") + attributes["output_zero_point"]
    return saturate(codes, attributes["clamp_min"], attributes["clamp_max"]), {"state": state}


def _by_output(b: Backend, attributes: Attributes, sums: Array) -> Array:
    """The sums of the `rank` filters of each output."""
    samples, filters = sums.shape
    rank = attributes["rank"]
    return b.xp.sum(sums.reshape(samples, filters // rank, rank), axis=2)


def _feature(b: Backend, attributes: Attributes, constants: Params, codes: Array) -> Array:
    steps = b.xp.astype(codes, b.xp.int64) - attributes["input_zero_point"]
    sums = b.xp.astype(b.accumulate_matmul(steps, constants["weight"]), b.xp.int64)
    half = 2 ** (attributes["state_bits"] - 1)
    return saturate(_rescaled(b, attributes, sums, "feature_"), -half, half - 1)


def _rescaled(b: Backend, attributes: Attributes, sums: Array, prefix: str) -> Array:
    multiplier, shift = (scalar_like(sums, attributes[f"{prefix}{name}"]) for name in ("multiplier", "shift"))
    return b.xp.astype(b.requantize(sums, multiplier, shift, attributes["rounding"]), b.xp.int64)


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return _step(b, attributes, constants, inputs, None)[0]


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    """One run from the start: only the newest feature is not zero."""
    sums = b.matmul(inputs[0], params["weight"]) * params["time"][:, -1]
    return _by_output(b, attributes, sums) + params["bias"]


def _accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the features, then of the outputs."""
    attributes, label = instruction.attributes, instruction.labels["state"]
    low, high = sum_ends(instruction.constants["weight"], code_span(inputs[0]))
    time = instruction.constants["time"].reshape(-1, attributes["rank"] * instruction.constants["time"].shape[1])
    total_low, total_high = (ends + instruction.constants["bias"] for ends in sum_ends(time, (label.qmin, label.qmax)))
    shifts = [np.full(n.shape, max(attributes[name], 0)) for n, name in ((low, "feature_shift"), (total_low, "shift"))]
    return np.append(low, total_low), np.append(high, total_high), np.concatenate(shifts)


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    return instruction.constants["weight"].size + instruction.constants["time"].size


def cases() -> Iterator[Case]:
    """Ranks 1 to 3, one filter, one remembered run, tails."""
    for label, inputs, outputs, memory, rank in (
        ("rank 1", 5, 4, 3, 1),
        ("rank 2", 17, 5, 8, 2),
        ("rank 3, a tail", 33, 7, 10, 3),
        ("one of all", 1, 1, 1, 1),
    ):
        filters = outputs * rank
        shapes = {"weight": (filters, inputs), "time": (filters, memory), "bias": (outputs,)}
        yield Case(label, ((inputs,),), {"rank": rank}, shapes)


OPERATORS = (
    Operator(
        name="svdf",
        summary="Features of this run and of those before, weighed along time.",
        arity=(1, 1),
        attributes={"rank": Domain("int", 1, SIZE)},
        fields={
            "feature_multiplier": MULTIPLIER,
            "feature_shift": SHIFT,
            "multiplier": MULTIPLIER,
            "shift": SHIFT,
            "input_zero_point": CODE,
            "state_bits": Domain("int", 8, 16),
            "output_zero_point": CODE,
            "rounding": ROUNDING,
            **CLAMP,
        },
        constants=("weight", "time", "bias"),
        labels=("time", "state"),
        own_bias=True,
        shape=_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        states=_states,
        step=_step,
        quant=QuantRecord(),
        lower=_lower,
        derive=_derive,
        accumulators=_accumulators,
        storages=("int8",),
        macs=_macs,
        cases=cases,
    ),
)
