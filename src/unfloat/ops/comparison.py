"""Operators that compare codes: maximum, minimum, reduce_max, reduce_min, arg_max.

Codes of one scale and zero point compare as the reals that they stand for. All but arg_max share their QParams;
arg_max gives plain indices, as int16 codes of scale 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unfloat.ir.graph import Attributes, Shape
from unfloat.ops._operator import Case, Domain, Operator, Params, QuantRecord
from unfloat.ops.elementwise import broadcast_shape
from unfloat.ops.pool import reduced_shape
from unfloat.spec.backend import Array, Backend
from unfloat.spec.qparams import INDEX

SAME = QuantRecord(output="same")
# Of what makes indices.
INDICES = QuantRecord(output="fixed", fixed=dict.fromkeys(("int8", "uint8", "int16"), INDEX))


def _pairwise(name: str) -> Any:
    """`maximum` or `minimum` of the array library; the same on floats and on codes."""
    return lambda b, attributes, inputs, params: getattr(b.xp, name)(inputs[0], inputs[1])


def _reduction(name: str) -> Any:
    """`max` or `min` of the array library."""

    def meaning(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
        return getattr(b.xp, name)(inputs[0], axis=attributes["axes"], keepdims=bool(attributes["keep_dims"]))

    return meaning


def _on_codes(meaning: Any) -> Any:
    """The integer meaning has its last two arguments the other way round."""
    return lambda b, attributes, constants, inputs: meaning(b, attributes, inputs, constants)


def _arg_max_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    axis, source = attributes["axis"], inputs[0]
    if axis >= len(source) or source[axis] > INDEX.qmax + 1:
        raise ValueError(f"axis {axis} of {source} must exist and have at most {INDEX.qmax + 1} cells")
    return (*source[:axis], *source[axis + 1 :])


def _arg_max(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    """The first of equals."""
    return b.xp.astype(b.xp.argmax(inputs[0], axis=attributes["axis"]), inputs[0].dtype)


def pairwise_cases() -> Iterator[Case]:
    """Equal shapes, tails, broadcasts of both operands."""
    for channels in (1, 3, 16, 65):
        yield Case(f"{channels} channels", ((3, 5, channels), (3, 5, channels)))
    yield Case("a value for each channel", ((4, 5, 7), (1, 1, 7)))
    yield Case("both broadcast", ((4, 1, 6), (1, 5, 6)))
    yield Case("rank 2, one value", ((33,), (1,)))
    yield Case("rank 5", ((2, 3, 2, 4), (2, 1, 1, 4)))
    yield Case("rank 6", ((2, 3, 2, 3, 4), (2, 1, 2, 1, 4)))
    yield Case("rank 6, equal shapes", ((1, 3, 2, 3, 4), (1, 3, 2, 3, 4)))


def reduction_cases() -> Iterator[Case]:
    """Single axes and several, first, last and apart; kept and dropped dimensions."""
    yield Case("rows and columns", ((5, 3, 17),), {"axes": (1, 2), "keep_dims": 0})
    yield Case("rows and columns, kept", ((6, 7, 64),), {"axes": (1, 2), "keep_dims": 1})
    yield Case("channels", ((3, 4, 33),), {"axes": (3,), "keep_dims": 0})
    yield Case("one channel", ((3, 4, 1),), {"axes": (3,), "keep_dims": 1})
    yield Case("rows and channels", ((3, 4, 5),), {"axes": (1, 3), "keep_dims": 0})
    yield Case("all", ((3, 4, 5),), {"axes": (1, 2, 3), "keep_dims": 0})
    yield Case("rank 2", ((65,),), {"axes": (1,), "keep_dims": 1})
    yield Case("rank 6", ((2, 3, 2, 3, 4),), {"axes": (2, 4), "keep_dims": 1})


def arg_max_cases() -> Iterator[Case]:
    """Each axis; one cell; more cells than a byte counts."""
    yield Case("channels", ((3, 4, 10),), {"axis": 3})
    yield Case("rows", ((7, 3, 4),), {"axis": 1})
    yield Case("one channel", ((3, 4, 1),), {"axis": 3})
    yield Case("rank 2, 300 classes", ((300,),), {"axis": 1})
    yield Case("rank 6", ((2, 3, 2, 3, 4),), {"axis": 4})


def _same(name: str, summary: str, arity: int, meaning: Any, **rest: Any) -> Operator:
    return Operator(
        name=name,
        summary=summary,
        arity=(arity, arity),
        float_meaning=meaning,
        integer_meaning=_on_codes(meaning),
        quant=SAME,
        moves=True,
        **rest,
    )


_PAIR: dict[str, Any] = {"shape": broadcast_shape, "cases": pairwise_cases}
_AXES: dict[str, Any] = {
    "attributes": {"axes": Domain("ints", 1, 5), "keep_dims": Domain("int", 0, 1)},
    "shape": reduced_shape,
    "cases": reduction_cases,
}

OPERATORS = (
    _same("maximum", "The greater of two values.", 2, _pairwise("maximum"), **_PAIR),
    _same("minimum", "The less of two values.", 2, _pairwise("minimum"), **_PAIR),
    _same("reduce_max", "The greatest value over whole axes.", 1, _reduction("max"), **_AXES),
    _same("reduce_min", "The least value over whole axes.", 1, _reduction("min"), **_AXES),
    Operator(
        name="arg_max",
        summary="The index of the greatest value along an axis, the first of equals.",
        arity=(1, 1),
        attributes={"axis": Domain("int", 1, 5)},
        shape=_arg_max_shape,
        float_meaning=_arg_max,
        integer_meaning=_on_codes(_arg_max),
        quant=INDICES,
        converts=True,
        cases=arg_max_cases,
    ),
)
