"""Fully connected: `acc = sum w * (x - Z)` over the last axis, then bias, rescale, clamp (eq. 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from unfloat.ir.graph import Attributes, Shape
from unfloat.ir.instruction import Instruction
from unfloat.ops._linear import centred, linear_operator
from unfloat.ops._operator import Case, Params
from unfloat.ops._spatial import require_rank
from unfloat.ops.conv import RELU6
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import WIDE_ROUNDING


def _shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    require_rank(params["weight"], 2, "the weight")
    if len(inputs[0]) < 2 or inputs[0][-1] != params["weight"][1]:
        raise ValueError(f"a weight {params['weight']} does not fit an input of shape {inputs[0]}")
    return (*inputs[0][:-1], params["weight"][0])


def _float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.matmul(inputs[0], params["weight"])


def _accumulate(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    x = centred(inputs[0], attributes["input_zero_point"])
    weight = centred(constants["weight"], attributes["weight_zero_point"])
    return b.accumulate_matmul(x, weight, wide=attributes.get("rounding") == WIDE_ROUNDING)


def _macs(instruction: Instruction, inputs: Sequence[Shape], output: Shape) -> int:
    rows = 1
    for size in output[1:-1]:
        rows *= size
    return rows * instruction.constants["weight"].size


def cases() -> Iterator[Case]:
    """Tile edges of depth and width; one row and several."""
    for depth, width in ((1, 1), (3, 5), (4, 16), (63, 17), (64, 64), (65, 65), (130, 10), (1280, 100)):
        yield Case(
            f"{depth} -> {width}",
            ((depth,),),
            {},
            {"weight": (width, depth), "bias": (width,)},
            RELU6 if depth % 2 else None,
        )
    yield Case("a row for each of 7 positions", ((7, 33),), {}, {"weight": (18, 33), "bias": (18,)})
    yield Case("without a bias", ((12,),), {}, {"weight": (9, 12)})


OPERATORS = (
    linear_operator(
        name="fully_connected",
        summary="A matrix product with a constant weight over the last axis.",
        shape=_shape,
        float_meaning=_float,
        accumulate=_accumulate,
        weight_axis=0,
        macs=_macs,
        cases=cases,
    ),
)
