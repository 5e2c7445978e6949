"""Values over the root of their squares' sum, along the last axis; an inverse square root in fixed point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODE, Case, Operator, Params, QuantRecord
from unfloat.ops._rescaling import code_span
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import requantize, saturate
from unfloat.spec.qparams import QParams
from unfloat.spec.transcendental import inverse_square_root

OUTPUT_BITS = 7
FIXED = MappingProxyType({"int8": QParams((2.0**-OUTPUT_BITS,), 0)})
LEAST_NORM = 1e-12  # of the float meaning, PyTorch's


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    if len(inputs[0]) < 2:
        raise ValueError(f"the batch cannot be normalized, found shape {inputs[0]}")
    return inputs[0]


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """The scale of the input is that of its norm too, and cancels."""
    return {"input_zero_point": inputs[0].qparams.zero_point}


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    steps = b.xp.astype(inputs[0], b.xp.int64) - attributes["input_zero_point"]
    multiplier, shift = inverse_square_root(b.xp.sum(steps * steps, axis=-1, keepdims=True))
    return saturate(requantize(steps, multiplier, shift + OUTPUT_BITS, "double"), -128, 127)


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    norm = b.xp.sqrt(b.xp.sum(inputs[0] * inputs[0], axis=-1, keepdims=True))
    return inputs[0] / b.xp.clip(norm, LEAST_NORM, None)


def _accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sum of squares."""
    greatest = max(step * step for step in code_span(inputs[0]))
    return np.array([0]), np.array([greatest * inputs[0].shape[-1]]), np.array([0])


def cases() -> Iterator[Case]:
    """Depths 1 to 1,000; ranks 2 to 4."""
    for depth in (1, 2, 3, 17, 1000):
        yield Case(f"{depth} values", ((depth,),))
    yield Case("rank 3", ((5, 7),))
    yield Case("rank 4", ((3, 2, 9),))


OPERATORS = (
    Operator(
        name="l2_normalization",
        summary="Each row over its Euclidean norm, output scale 1/128.",
        arity=(1, 1),
        fields={"input_zero_point": CODE},
        shape=_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        quant=QuantRecord(output="fixed", fixed=FIXED),
        storages=("int8",),
        derive=_derive,
        accumulators=_accumulators,
        cases=cases,
    ),
)
