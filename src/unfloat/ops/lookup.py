"""Functions of one code, looked up: logistic, tanh, hard-swish, GELU (eq. 43 to 47).

The table is a constant that follows from the labels: the fixed-point function at all 256 codes, in the order of their
bytes. For int16 codes, which are too many, it holds the ends of segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.ops._rescaling import scale_of
from unfloat.spec.activation import (
    LOGISTIC_BEYOND,
    LOGISTIC_POWERS,
    TANH_BEYOND,
    TANH_POWERS,
    Curve,
    along_curve,
    curve_input,
    gelu_codes,
    hard_swish_steps,
    logistic_curve,
    logistic_ends,
    logistic_steps,
    sigmoid_input,
    tanh_curve,
    tanh_steps,
)
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import saturate
from unfloat.spec.qparams import STORAGE, QParams

BYTE_CODES = 256
MOST_KNOWN = 1 << 10  # tables that are kept, for the next instruction of the same labels
LOGISTIC_LABELS = MappingProxyType(
    {
        "int8": QParams((2.0**-8,), -128),
        "uint8": QParams((2.0**-8,), 0, "uint8"),
        "int16": QParams((2.0**-15,), 0, "int16", 16),
    }
)
TANH_LABELS = MappingProxyType(
    {
        "int8": QParams((2.0**-7,), 0),
        "uint8": QParams((2.0**-7,), 128, "uint8"),
        "int16": QParams((2.0**-15,), 0, "int16", 16),
    }
)
BYTES = ("int8", "uint8")
CURVE_FIELDS = {
    "multiplier": Domain("int", 0, 2**15 - 1),
    "shift": Domain("int", 0, 31),
    "segment_bits": Domain("int", 0, 9),  # 0 where the table has all codes
    "centre": Domain("int", 0, 2**24),
    "output_shift": Domain("int", 0, 10),
}
NO_CURVE = Curve(0, 0, 0, 0, 0)


def _steps(label: QParams) -> np.ndarray:
    """`q - Z` of every code that a byte can hold, in the order of the bytes."""
    codes = np.arange(BYTE_CODES, dtype=np.uint8).view(STORAGE[label.dtype])
    return codes.astype(np.int64) - label.zero_point


def _table(steps: np.ndarray, label: QParams) -> np.ndarray:
    """Output steps as codes, saturated."""
    return np.asarray(saturate(steps + label.zero_point, label.qmin, label.qmax), np.int16)


def _from_labels(constants: Callable[[QParams, QParams], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`derive` of what the input's and the output's label give: derived once for all instructions that have them."""
    known = lru_cache(maxsize=MOST_KNOWN)(constants)

    def derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
        return _copied(known(inputs[0].qparams, output.qparams))

    return derive


def _copied(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of the caller's own."""
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in constants.items()}


def _logistic(source: QParams, target: QParams) -> dict[str, Any]:
    scale = scale_of(source)
    if target.dtype == "int16":
        return {**vars(logistic_curve(*curve_input(scale, LOGISTIC_POWERS))), "table": logistic_ends(LOGISTIC_BEYOND)}
    return {**vars(NO_CURVE), "table": _table(logistic_steps(_steps(source), sigmoid_input(scale)), target)}


def _tanh(source: QParams, target: QParams) -> dict[str, Any]:
    """On 16 bits `2 logistic(2 x) - 1`: the logistic's ends, twice as dense."""
    scale = scale_of(source)
    if target.dtype == "int16":
        return {**vars(tanh_curve(*curve_input(scale, TANH_POWERS))), "table": logistic_ends(TANH_BEYOND)}
    return {**vars(NO_CURVE), "table": _table(tanh_steps(_steps(source), sigmoid_input(scale)), target)}


def _hard_swish(source: QParams, target: QParams) -> dict[str, Any]:
    return {"table": _table(hard_swish_steps(_steps(source), scale_of(source), scale_of(target)), target)}


@lru_cache(maxsize=MOST_KNOWN)
def _gelu(approximate: str, source: QParams, target: QParams) -> dict[str, Any]:
    return {"table": gelu_codes(_steps(source) * scale_of(source), approximate, target).astype(np.int16)}


def _derive_gelu(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    return _copied(_gelu(instruction.attributes["approximate"], inputs[0].qparams, output.qparams))


def _looked_up(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return constants["table"][inputs[0] & (BYTE_CODES - 1)]


def _curved(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    if not attributes["segment_bits"]:
        return _looked_up(b, attributes, constants, inputs)
    curve = Curve(**{name: attributes[name] for name in CURVE_FIELDS})
    codes, table = (b.xp.astype(array, b.xp.int64) for array in (inputs[0], constants["table"]))
    return along_curve(codes, table, curve)


def _float_logistic(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return (b.xp.tanh(inputs[0] / 2) + 1) / 2  # nothing overflows, in the gradient either


def _float_hard_swish(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return inputs[0] * b.xp.clip(inputs[0] + 3, 0, 6) / 6


def _float_gelu(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    x = inputs[0]
    if attributes["approximate"] == "tanh":
        return x * (1 + b.xp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    return x * (1 + b.erf(x / 2**0.5)) / 2


def cases() -> Iterator[Case]:
    """Every code; tails; ranks 2 to 4."""
    yield Case("all codes", ((16, 16),))
    yield Case("more than there are", ((4, 5, 65),))
    yield Case("one value", ((1,),))


def gelu_cases() -> Iterator[Case]:
    """Both forms."""
    for approximate in ("none", "tanh"):
        for case in cases():
            yield Case(f"{approximate}, {case.label}", case.inputs, {"approximate": approximate})


def _operator(name: str, summary: str, **rest: Any) -> Operator:
    shared: dict[str, Any] = {"integer_meaning": _looked_up, "storages": BYTES, "cases": cases, **rest}
    return Operator(
        name=name,
        summary=summary,
        arity=(1, 1),
        constants=("table",),
        shape=lambda attributes, inputs, params: inputs[0],
        in_place=True,
        **shared,
    )


OPERATORS = (
    _operator(
        "logistic",
        "The logistic function, output scale 1/256, or 1/32768 on 16 bits.",
        fields=CURVE_FIELDS,
        float_meaning=_float_logistic,
        integer_meaning=_curved,
        quant=QuantRecord(output="fixed", fixed=LOGISTIC_LABELS),
        derive=_from_labels(_logistic),
        storages=tuple(STORAGE),
    ),
    _operator(
        "tanh",
        "The hyperbolic tangent, output scale 1/128, or 1/32768 on 16 bits.",
        fields=CURVE_FIELDS,
        float_meaning=lambda b, attributes, inputs, params: b.xp.tanh(inputs[0]),
        integer_meaning=_curved,
        quant=QuantRecord(output="fixed", fixed=TANH_LABELS),
        derive=_from_labels(_tanh),
        storages=tuple(STORAGE),
    ),
    _operator(
        "hard_swish",
        "x min(max(x + 3, 0), 6) / 6.",
        float_meaning=_float_hard_swish,
        derive=_from_labels(_hard_swish),
    ),
    _operator(
        "gelu",
        "x times the normal distribution function at x, or its tanh approximation.",
        attributes={"approximate": Domain("name", choices=("none", "tanh"))},
        float_meaning=_float_gelu,
        derive=_derive_gelu,
        cases=gelu_cases,
    ),
)
