"""Rescale: the same real value under other QParams, and any clamp that stands alone (ReLU, ReLU6, hardtanh)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Clamp
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODE, RESCALING, Case, Operator, Params, Request
from unfloat.ops._rescaling import clamp_fields, code_span, requantize_single, scale_of, single_factor
from unfloat.spec.backend import Array, Backend


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    return clamp_fields(request), {}, {}


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = S_in / S_out` (eq. 23)."""
    return {
        "input_zero_point": inputs[0].qparams.zero_point,
        **single_factor(scale_of(inputs[0]) / scale_of(output), output),
    }


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return requantize_single(b, attributes, inputs[0] - attributes["input_zero_point"])


def _accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = code_span(inputs[0])
    return np.array([low]), np.array([high]), np.array([max(instruction.attributes["shift"], 0)])


def cases() -> Iterator[Case]:
    """With each clamp; ranks 2 to 4; tails."""
    yield Case("alone", ((3, 5, 17),))
    yield Case("ReLU", ((4, 4, 64),), clamp=Clamp(0.0, float("inf")))
    yield Case("ReLU6", ((65,),), clamp=Clamp(0.0, 6.0))
    yield Case("hardtanh", ((7, 3),), clamp=Clamp(-1.0, 1.0))
    yield Case("a clamp on one side", ((33,),), clamp=Clamp(-float("inf"), 0.5))


OPERATORS = (
    Operator(
        name="rescale",
        summary="The same value under other QParams, clamped where a clamp is fused.",
        arity=(1, 1),
        fields={"input_zero_point": CODE, **RESCALING},
        slots=frozenset({"clamp"}),
        shape=lambda attributes, inputs, params: inputs[0],
        float_meaning=lambda b, attributes, inputs, params: inputs[0],
        integer_meaning=_integer,
        lower=_lower,
        derive=_derive,
        accumulators=_accumulators,
        in_place=True,
        converts=True,
        cases=cases,
    ),
)
