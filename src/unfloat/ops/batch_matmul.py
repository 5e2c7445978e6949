"""The matrix product of two activations, sample by sample: zero points on both sides (eq. 7, of sums)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODES, RESCALING, Case, Domain, Operator, Params, Request
from unfloat.ops._rescaling import clamp_fields, code_span, requantize_single, scale_of
from unfloat.ops.elementwise import broadcast_shape
from unfloat.spec.backend import Array, Backend
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import ROUNDINGS, SHIFT_MAX, WIDE_ROUNDING, WIDE_SHIFT_MAX, quantize_multiplier
from unfloat.spec.qparams import float32


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    """[N, ..., M, K] and [N, ..., K, P] -> [N, ..., M, P], either one transposed first where `transpose` says so."""
    if min(map(len, inputs)) < 3:
        raise ValueError(f"factors must have a batch and two dimensions more, found {inputs[0]} and {inputs[1]}")
    (rows, depth), (other, columns) = (
        shape[:-3:-1] if flag else shape[-2:] for shape, flag in zip(inputs, attributes["transpose"], strict=True)
    )
    if depth != other:
        raise ValueError(f"factors {inputs[0]} and {inputs[1]} do not agree, {depth} columns and {other} rows")
    return (*broadcast_shape(attributes, [shape[:-2] for shape in inputs], params), rows, columns)


def _oriented(b: Backend, attributes: Attributes, inputs: Sequence[Array]) -> list[Array]:
    """The factors as they are multiplied."""
    axes = [(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2) for x in inputs]
    flags = attributes["transpose"]
    return [b.xp.permute_dims(x, a) if flag else x for x, a, flag in zip(inputs, axes, flags, strict=True)]


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    first, second = _oriented(b, attributes, inputs)
    return b.xp.matmul(first, second)


def _integer(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    """In float64, whose 53 bits hold every sum (eq. 15): products have 18 bits, of int16 codes 31."""
    steps = [b.xp.astype(x, b.xp.float64) - z for x, z in zip(inputs, attributes["input_zero_points"], strict=True)]
    first, second = _oriented(b, attributes, steps)
    return requantize_single(b, attributes, b.xp.astype(b.xp.matmul(first, second), b.xp.int64))


def _lower(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    return {**request.attributes, **clamp_fields(request)}, {}, {}


def _derive(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """`M = (S1 * S2) / S_out` (eq. 7), the product in float32, as TFLite forms it here; int16: eq. 38."""
    wide = output.qparams.dtype == "int16"
    if not wide and instruction.attributes["rounding"] not in ROUNDINGS:
        raise NumericDomainError(f"rounding {WIDE_ROUNDING!r} is for int16 codes, found {output.qparams.dtype}")
    factor = float32(scale_of(inputs[0]) * scale_of(inputs[1])) / scale_of(output)
    multiplier, shift = quantize_multiplier(factor, WIDE_SHIFT_MAX if wide else SHIFT_MAX)
    return {
        "multiplier": multiplier,
        "shift": shift,
        "input_zero_points": tuple(tensor.qparams.zero_point for tensor in inputs),
        "output_zero_point": output.qparams.zero_point,
        **({"rounding": WIDE_ROUNDING} if wide else {}),
    }


def _accumulators(instruction: Instruction, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All products of a sum at one corner of the two code ranges."""
    depth = inputs[0].shape[-2 if instruction.attributes["transpose"][0] else -1]
    corners = [depth * x * y for x in code_span(inputs[0]) for y in code_span(inputs[1])]
    shift = max(instruction.attributes["shift"], 0)
    return np.array([min(corners)]), np.array([max(corners)]), np.array([shift])


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    depth = inputs[0][-2 if instruction.attributes["transpose"][0] else -1]
    return int(np.prod(output[1:])) * depth


def cases() -> Iterator[Case]:
    """Each factor as it is and transposed; one row; ranks 3 to 5; a factor for all heads."""
    for depth in (1, 16, 33):
        yield Case(f"depth {depth}", ((5, depth), (depth, 7)), {"transpose": (0, 0)})
    yield Case("the second transposed", ((6, 20), (9, 20)), {"transpose": (0, 1)})
    yield Case("the first transposed", ((20, 6), (20, 9)), {"transpose": (1, 0)})
    yield Case("both transposed", ((4, 3), (5, 4)), {"transpose": (1, 1)})
    yield Case("heads", ((3, 5, 8), (3, 8, 5)), {"transpose": (0, 0)})
    yield Case("one factor for all heads", ((3, 5, 8), (1, 8, 2)), {"transpose": (0, 0)})
    yield Case("rank 5", ((2, 3, 1, 9), (2, 3, 4, 9)), {"transpose": (0, 1)})


OPERATORS = (
    Operator(
        name="batch_matmul",
        summary="The matrix product of two values.",
        arity=(2, 2),
        attributes={"transpose": Domain("ints", 0, 1, 2)},
        fields={
            "input_zero_points": CODES,
            **RESCALING,
            "rounding": Domain("name", choices=(*ROUNDINGS, WIDE_ROUNDING)),
        },
        slots=frozenset({"clamp"}),
        shape=_shape,
        float_meaning=_float,
        integer_meaning=_integer,
        lower=_lower,
        derive=_derive,
        accumulators=_accumulators,
        storages=("int8", "int16"),
        macs=_macs,
        cases=cases,
    ),
)
