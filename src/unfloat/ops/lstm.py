"""LSTM, a recurrent layer: four gates on the input and on its own last output, and a cell of 16 bits (eq. 51 to 53).

TFLite's integer form without peepholes, projection and normalisation: gates in Q3.12, their values in Q0.15, a cell
whose scale is a power of two. The gates are input, forget, cell and output, in this order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._gates import GATES, cell_scale, gate_scales
from unfloat.ops._linear import bias_codes, least_scales_on, sum_ends, symmetric_label, symmetric_scales
from unfloat.ops._operator import (
    CLAMP,
    CODE,
    MULTIPLIER,
    ROUNDING,
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
from unfloat.spec.activation import (
    LOGISTIC_BEYOND,
    TANH_BEYOND,
    WORD_MAX,
    WORD_MIN,
    along_curve,
    curve_input,
    logistic_curve,
    logistic_ends,
    tanh_curve,
)
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import (
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    round_half_away,
    saturate,
    scalar_like,
)
from unfloat.spec.qparams import WIDE_BITS, QParams

INPUT, FORGET, CELL, OUTPUT = range(GATES)
BIASES = ("bias", "recurrent_bias")
GATE_SCALE = 2.0**-12  # of what enters a gate
VALUE_SCALE = 2.0**-15  # of what leaves it
UNIT = (2**30, -14)  # the factor 2^-15
MOST_CELL = 16.0  # tanh is 1 there to the last of 16 bits, so that a cell beyond it says no more


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, T, I] -> [N, T, U]; weight [4, U, I], recurrent [4, U, U], biases, if any, [4, U]."""
    weight, recurrent = params["weight"], params["recurrent"]
    if len(inputs[0]) != 3 or len(weight) != 3 or weight[0] != GATES or weight[2] != inputs[0][2]:
        raise ValueError(f"lstm takes rows in time and a weight of four gates, found {inputs[0]} and {weight}")
    units = weight[1]
    biases = [params[role] for role in BIASES if role in params]
    if recurrent != (GATES, units, units) or any(bias != (GATES, units) for bias in biases):
        raise ValueError(f"lstm of {units} units needs square recurrent weights, found {recurrent} and {biases}")
    return (*inputs[0][:2], units)


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]:
    """A scale for each gate; the cell's is the least that so many steps cannot leave, up to `MOST_CELL`."""
    weight, recurrent = request.params["weight"], request.params["recurrent"]
    bias = np.broadcast_to(_bias(request.params), weight.shape[:2])
    source = request.inputs[0].qparams
    least = least_scales_on(source, np.abs(bias).max(axis=1))
    label = _gate_label(weight, least, request)
    recurrent_label = _gate_label(recurrent, np.zeros(GATES), request)
    scales = label.exact[:, None]
    constants = {
        "weight": _codes(weight, label),
        "recurrent": _codes(recurrent, recurrent_label),
        "bias": bias_codes(bias, scale_of(source), scales).astype(np.int32),
    }
    steps = math.inf if request.attributes["carried"] else request.inputs[0].shape[1]
    cell = QParams((2.0 ** (math.ceil(math.log2(min(steps, MOST_CELL))) - 15),), 0, "int16", WIDE_BITS)
    attributes = {**request.attributes, "cell_clip": 0, **clamp_fields(request)}
    return attributes, constants, {"weight": label, "recurrent": recurrent_label, "cell": cell}


def _bias(params: Params) -> Array:
    """What is added to each gate: the input's bias and the output's own, as far as there are any."""
    return sum(params[role] for role in BIASES if role in params)


def _gate_label(weight: np.ndarray, least: np.ndarray, request: Request) -> QParams:
    reach = np.abs(weight).max(axis=(1, 2))
    return symmetric_label(symmetric_scales(reach, least, request.weights), request.weights, 0)


def _codes(weight: np.ndarray, label: QParams) -> np.ndarray:
    scales = label.exact.reshape(-1, 1, 1)
    return saturate(round_half_away(weight / scales), label.qmin, label.qmax).astype(np.int8)


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """The factors into the gates (first the input's, then the output's own), into the cell, and out of it."""
    cell = cell_scale(instruction.labels["cell"])
    if scale_of(output) <= VALUE_SCALE**2:
        raise NumericDomainError(f"lstm needs an output scale above 2^-30, found {scale_of(output)}")
    multiplier, shift = quantize_multipliers(_gate_factors(instruction, inputs[0], output))
    cell_multiplier, cell_shift = quantize_multiplier(VALUE_SCALE**2 / cell)
    output_multiplier, output_shift = quantize_multiplier(VALUE_SCALE**2 / scale_of(output))
    curve_multiplier, curve_shift = curve_input(cell)
    return {
        "multiplier": multiplier,
        "shift": shift,
        "table": np.stack([logistic_ends(LOGISTIC_BEYOND), logistic_ends(TANH_BEYOND)]),
        "cell_multiplier": cell_multiplier,
        "cell_shift": cell_shift,
        "output_multiplier": output_multiplier,
        "output_shift": output_shift,
        "curve_multiplier": curve_multiplier,
        "curve_shift": curve_shift,
        "input_zero_point": inputs[0].qparams.zero_point,
        "output_zero_point": output.qparams.zero_point,
    }


def _gate_factors(instruction: Instruction, source: Tensor, output: Tensor) -> np.ndarray:
    """Of the input's four products, then of the output's own (eq. 51)."""
    own = scale_of(output) * gate_scales(instruction, "recurrent")
    return np.append(scale_of(source) * gate_scales(instruction, "weight"), own) / GATE_SCALE


def _states(instruction: Instruction, output: Tensor) -> dict[str, State]:
    units = instruction.constants["bias"].shape[1]
    return {"hidden": State((units,), output.qparams), "cell": State((units,), instruction.labels["cell"])}


def _step(
    b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array], states: States | None
) -> tuple[Array, States]:
    """One run over all rows in time. States are those after the last one."""
    steps = b.xp.astype(inputs[0], b.xp.int64) - attributes["input_zero_point"]
    entering = _summed(b, attributes, constants, steps, "weight")  # [N, T, 4, U]
    cell = entering[:, 0, CELL] * 0 if states is None else states["cell"]
    hidden = cell + attributes["output_zero_point"] if states is None else states["hidden"]
    made = []
    for time in range(steps.shape[1]):
        own = _summed(b, attributes, constants, hidden - attributes["output_zero_point"], "recurrent")
        hidden, cell = _row(attributes, constants, _word(entering[:, time] + own), cell)
        made.append(hidden)
    return b.xp.stack(made, axis=1), {"hidden": hidden, "cell": cell}


def _summed(b: Backend, attributes: Attributes, constants: Params, steps: Array, role: str) -> Array:
    """What steps give to each unit of each gate, Q3.12: [..., 4, U]."""
    weight = constants[role]
    own = slice(0, GATES) if role == "weight" else slice(GATES, 2 * GATES)
    sums = b.xp.astype(b.accumulate_matmul(steps, weight.reshape(-1, weight.shape[2])), b.xp.int64)
    sums = sums + constants["bias"].reshape(-1) if role == "weight" else sums
    multiplier, shift = (b.xp.repeat(constants[name][own], weight.shape[1]) for name in ("multiplier", "shift"))
    words = _word(b.xp.astype(b.requantize(sums, multiplier, shift, attributes["rounding"]), b.xp.int64))
    return words.reshape(*steps.shape[:-1], GATES, weight.shape[1])


def _row(attributes: Attributes, constants: Params, gates: Array, cell: Array) -> tuple[Array, Array]:
    """`c = f c + i g`, `h = o tanh(c)` (eq. 52 and 53)."""
    rounding, clip = attributes["rounding"], attributes["cell_clip"] or WORD_MAX + 1
    logistic, tanh = constants["table"]
    value = [_gate(gates[:, i], tanh if i == CELL else logistic, is_tanh=i == CELL) for i in range(GATES)]
    kept = _word(_scaled(value[FORGET] * cell, UNIT, rounding))
    new = _word(_scaled(value[INPUT] * value[CELL], _pair(attributes, "cell"), rounding))
    cell = saturate(_word(kept + new), -clip, clip)
    curve = tanh_curve(*_pair(attributes, "curve"))
    product = value[OUTPUT] * along_curve(cell, tanh, curve)
    hidden = _scaled(product, _pair(attributes, "output"), rounding) + attributes["output_zero_point"]
    return saturate(hidden, attributes["clamp_min"], attributes["clamp_max"]), cell


def _gate(codes: Array, table: Array, *, is_tanh: bool) -> Array:
    """The value of what enters a gate, Q0.15."""
    curve = tanh_curve if is_tanh else logistic_curve
    return along_curve(codes, table, curve(*curve_input(GATE_SCALE)))


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    return attributes[f"{name}_multiplier"], attributes[f"{name}_shift"]


def _scaled(product: Array, factor: tuple[int, int], rounding: str) -> Array:
    multiplier, shift = (scalar_like(product, number) for number in factor)
    return requantize(product, multiplier, shift, rounding)


def _word(x: Array) -> Array:
    return saturate(x, WORD_MIN, WORD_MAX)


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return _step(b, attributes, constants, inputs, None)[0]


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    weight, recurrent = params["weight"], params["recurrent"]
    gated = (GATES, weight.shape[1])
    entering = b.matmul(inputs[0], weight.reshape(-1, weight.shape[2])).reshape(*inputs[0].shape[:2], *gated)
    entering = entering + _bias(params)
    hidden = cell = entering[:, 0, 0] * 0
    made = []
    for time in range(inputs[0].shape[1]):
        own = b.matmul(hidden, recurrent.reshape(-1, recurrent.shape[2])).reshape(*hidden.shape[:1], *gated)
        gates = entering[:, time] + own
        value = [b.xp.tanh(gates[:, i]) if i == CELL else _logistic(b, gates[:, i]) for i in range(GATES)]
        cell = value[FORGET] * cell + value[INPUT] * value[CELL]
        hidden = value[OUTPUT] * b.xp.tanh(cell)
        made.append(hidden)
    return b.xp.stack(made, axis=1)


def _logistic(b: Backend, x: Array) -> Array:
    return (b.xp.tanh(x / 2) + 1) / 2


def _accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the input's products with the bias, then of the output's own."""
    low, high, zero_point = (instruction.attributes[n] for n in ("clamp_min", "clamp_max", "output_zero_point"))
    spans = (code_span(inputs[0]), (min(low - zero_point, 0), max(high - zero_point, 0)))
    weights, bias = (instruction.constants[role] for role in ("weight", "recurrent")), instruction.constants["bias"]
    least, greatest = (np.stack(ends) for ends in zip(*map(sum_ends, weights, spans), strict=True))
    least[0], greatest[0] = least[0] + bias, greatest[0] + bias
    shift = np.maximum(instruction.constants["shift"].astype(np.int64), 0)
    return least, greatest, shift.reshape(2, GATES, 1)


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    weights = instruction.constants["weight"].size + instruction.constants["recurrent"].size
    return int(output[1]) * (weights + 3 * int(output[2]))


def cases() -> Iterator[Case]:
    """One step and many, one unit, tails; states that begin anew and that stay; as many biases as there may be."""
    for label, steps, inputs, units, carried, biases in (
        ("one step", 1, 5, 7, 0, BIASES[:1]),
        ("many steps", 19, 6, 9, 0, BIASES[:1]),
        ("one unit", 4, 1, 1, 0, BIASES[:1]),
        ("carried", 5, 17, 16, 1, BIASES[:1]),
        ("two biases", 3, 4, 5, 0, BIASES),
        ("no bias", 2, 3, 4, 0, ()),
    ):
        shapes: dict[str, Shape] = {"weight": (GATES, units, inputs), "recurrent": (GATES, units, units)}
        shapes |= dict.fromkeys(biases, (GATES, units))
        yield Case(label, ((steps, inputs),), {"carried": carried}, shapes)


OPERATORS = (
    Operator(
        name="lstm",
        summary="A recurrent layer of four gates with a cell of 16 bits.",
        arity=(1, 1),
        attributes={"carried": Domain("int", 0, 1)},
        fields={
            **dict.fromkeys(("cell_multiplier", "output_multiplier", "curve_multiplier"), MULTIPLIER),
            "cell_shift": Domain("int", -31, 0),
            "output_shift": Domain("int", -31, 0),
            "curve_shift": Domain("int", 0, 31),
            "cell_clip": Domain("int", 0, WORD_MAX),
            "input_zero_point": CODE,
            "output_zero_point": CODE,
            "rounding": ROUNDING,
            **CLAMP,
        },
        constants=("weight", "recurrent", "bias", "multiplier", "shift", "table"),
        labels=("recurrent", "cell"),
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
