"""Operators of the float Graph that are never an instruction.

`batch_norm` is what a reader makes; passes move it into a slot. `constant` is a value that parameters alone decide.
`dropout` and `still_row` act while a student trains and vanish in `eval()` and in the Program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from unfloat.ir.graph import Attributes, Shape
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.spec.backend import Array, Backend


def _no_cases() -> Iterator[Case]:
    """Nothing to run: these never reach a Program."""
    yield from ()


def _same_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    return inputs[0]


def _identity(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return inputs[0]


OPERATORS = (
    Operator(
        name="batch_norm",
        summary="Batch normalisation over the last axis; its slot says how.",
        arity=(1, 1),
        slots=frozenset({"norm"}),
        shape=_same_shape,
        float_meaning=_identity,
        integer_meaning=None,
        cases=_no_cases,
    ),
    Operator(
        name="constant",
        summary="A value given by one parameter.",
        arity=(0, 0),
        shape=lambda attributes, inputs, params: params["value"],
        float_meaning=lambda b, attributes, inputs, params: params["value"],
        integer_meaning=None,
        cases=_no_cases,
    ),
    Operator(
        name="dropout",
        summary="Zeroes values at random while training, at `rate`; whole channels if `channels`.",
        arity=(1, 1),
        attributes={"rate": Domain("real", 0, 1), "channels": Domain("int", 0, 1)},
        shape=_same_shape,
        float_meaning=_identity,
        integer_meaning=None,
        quant=QuantRecord(output="same"),
        vanishes=True,
        noise=lambda b, attributes, inputs: b.dropout(inputs[0], attributes["rate"], bool(attributes["channels"])),
        cases=_no_cases,
    ),
    Operator(
        name="still_row",
        summary="A table, one row of which has no gradient while training: that of an embedding's padding.",
        arity=(1, 1),
        attributes={"row": Domain("int", 0)},
        shape=_same_shape,
        float_meaning=_identity,
        integer_meaning=None,
        quant=QuantRecord(output="same"),
        vanishes=True,
        noise=lambda b, attributes, inputs: b.still_row(inputs[0], attributes["row"]),
        cases=_no_cases,
    ),
)
