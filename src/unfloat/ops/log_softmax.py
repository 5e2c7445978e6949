"""The logarithm of softmax in fixed point: differences and their exponentials' sum as in softmax, then one logarithm."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from unfloat.ir.graph import Attributes
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import MULTIPLIER, Domain, Operator, Params, QuantRecord
from unfloat.ops.softmax import DIFFERENCE_BITS, FIELDS, cases, derive_differences, exponentials, softmax_shape
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import (
    INT32_MIN,
    quantize_multiplier,
    requantize,
    rounding_divide_by_pot,
    saturate,
    scalar_like,
)
from unfloat.spec.qparams import QParams
from unfloat.spec.transcendental import logarithm

OUTPUT_BITS = 4  # results lie in (-16, 0]
FIXED = MappingProxyType({"int8": QParams((2.0**-4,), 127)})


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """As of softmax, and the factor back from Q5.26 to codes."""
    forward = derive_differences(instruction, inputs, output)
    multiplier, shift = quantize_multiplier(2.0 ** (31 - forward["shift"]) / forward["multiplier"])
    return {**forward, "reverse_multiplier": multiplier, "reverse_shift": shift}


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    found = exponentials(b, attributes, inputs[0])
    log_sum = logarithm(found.total)
    multiplier, shift = (scalar_like(log_sum, attributes[f"reverse_{name}"]) for name in ("multiplier", "shift"))
    inside = found.inside & (found.differences > requantize(log_sum + INT32_MIN, multiplier, shift, "double"))
    exponents = found.scaled * 0 + (31 - DIFFERENCE_BITS - OUTPUT_BITS)
    steps = rounding_divide_by_pot(found.scaled - log_sum, exponents)
    codes = saturate(steps + attributes["output_zero_point"], -128, 127)
    return b.xp.where(inside, codes, codes * 0 - 128)


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    difference = inputs[0] - b.xp.max(inputs[0], axis=-1, keepdims=True)
    return difference - b.xp.log(b.xp.sum(b.exp(difference), axis=-1, keepdims=True))


OPERATORS = (
    Operator(
        name="log_softmax",
        summary="The logarithm of the softmax over the last axis, output scale 1/16.",
        arity=(1, 1),
        fields={**FIELDS, "reverse_multiplier": MULTIPLIER, "reverse_shift": Domain("int", -31, 0)},
        shape=softmax_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        quant=QuantRecord(output="fixed", fixed=FIXED),
        storages=("int8",),
        derive=_derive,
        cases=cases,
    ),
)
