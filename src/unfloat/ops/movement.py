"""Operators that move codes and compute nothing: pad, concatenation, reshape, transpose. All share their QParams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unfloat.ir.graph import BATCH, Attributes, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops._operator import CODE, SIZE, Case, Domain, Operator, Params, QuantRecord
from unfloat.spec.backend import Array, Backend

SAME = QuantRecord(output="same")


def _pairs(flat: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _pad_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    paddings = attributes["paddings"]
    if len(paddings) != 2 * len(inputs[0]) or len(paddings) < 4 or paddings[0] or paddings[1]:
        raise ValueError(
            f"paddings {paddings} must name (before, after) of each axis of {inputs[0]}, of one at least beside the "
            "batch, for which there are none"
        )
    return (inputs[0][0], *(size + sum(pair) for size, pair in zip(inputs[0][1:], _pairs(paddings)[1:], strict=True)))


def _derive_pad(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    """Padding writes the code of real 0, unless the instruction names another code."""
    real_zero = {"value": output.qparams.zero_point}
    named = instruction.attributes.get("value")
    is_code = named is not None and output.qparams.qmin <= named <= output.qparams.qmax
    return {"value": named} if is_code else real_zero


def _concatenation_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    axis = attributes["axis"]
    first = inputs[0]
    for shape in inputs:
        if (
            axis >= len(first)
            or len(shape) != len(first)
            or any(a != b for d, (a, b) in enumerate(zip(shape, first, strict=True)) if d != axis)
        ):
            raise ValueError(f"shapes {', '.join(map(str, inputs))} do not join along axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


def _reshape_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    shape = attributes["shape"]
    if shape[0] != BATCH or inputs[0][0] != BATCH or math.prod(shape[1:]) != math.prod(inputs[0][1:]):
        raise ValueError(f"{inputs[0]} has not as many values a sample as {shape}")
    return tuple(shape)


def _transpose_shape(attributes: Attributes, inputs: Sequence[Shape], params: Mapping[str, Shape]) -> Shape:
    permutation = attributes["permutation"]
    if sorted(permutation) != list(range(len(inputs[0]))) or permutation[0] != 0:
        raise ValueError(f"{permutation} must reorder the axes of {inputs[0]} and leave the batch in front")
    return tuple(inputs[0][axis] for axis in permutation)


def _pad_float(b: Backend, attributes: Attributes, inputs: Sequence[Array], params: Params) -> Array:
    return b.pad(inputs[0], _pairs(attributes["paddings"]), 0.0)


def _pad(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return b.pad(inputs[0], _pairs(attributes["paddings"]), attributes["value"])


def _concatenate(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return b.xp.concat(list(inputs), axis=attributes["axis"])


def _reshape(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return b.xp.reshape(inputs[0], (inputs[0].shape[0], *attributes["shape"][1:]))


def _transpose(b: Backend, attributes: Attributes, constants: Params, inputs: Sequence[Array]) -> Array:
    return b.xp.permute_dims(inputs[0], attributes["permutation"])


def _swapped(integer: Any) -> Any:
    """A move means the same on floats: the float meaning has its last two arguments the other way round."""
    return lambda b, attributes, inputs, params: integer(b, attributes, params, inputs)


def pad_cases() -> Iterator[Case]:
    """Each side alone and all together; rank 2 and 4."""
    yield Case("rows and columns", ((3, 4, 5),), {"paddings": (0, 0, 1, 2, 3, 0, 0, 0)})
    yield Case("channels", ((2, 2, 7),), {"paddings": (0, 0, 0, 0, 0, 0, 1, 4)})
    yield Case("rank 2", ((9,),), {"paddings": (0, 0, 2, 3)})


def concatenation_cases() -> Iterator[Case]:
    """Channels and rows, one input to four."""
    yield Case("channels", ((3, 4, 5), (3, 4, 16), (3, 4, 1)), {"axis": 3})
    yield Case("rows", ((2, 3, 4), (5, 3, 4)), {"axis": 1})
    yield Case("one input", ((2, 3, 4),), {"axis": 2})
    yield Case("rank 2, four inputs", ((7,), (1,), (64,), (3,)), {"axis": 1})


def reshape_cases() -> Iterator[Case]:
    """Flatten and unflatten."""
    yield Case("flatten", ((3, 4, 5),), {"shape": (BATCH, 60)})
    yield Case("split channels", ((2, 3, 8),), {"shape": (BATCH, 2, 3, 2, 4)})


def transpose_cases() -> Iterator[Case]:
    """Ranks 3 to 5."""
    yield Case("to channels first", ((3, 4, 5),), {"permutation": (0, 3, 1, 2)})
    yield Case("channel shuffle", ((3, 4, 2, 5),), {"permutation": (0, 1, 2, 4, 3)})
    yield Case("rank 3", ((7, 9),), {"permutation": (0, 2, 1)})


OPERATORS = (
    Operator(
        name="pad",
        summary="Real zeros around a value.",
        arity=(1, 1),
        attributes={"paddings": Domain("ints", 0, SIZE)},
        fields={"value": CODE},
        shape=_pad_shape,
        float_meaning=_pad_float,
        integer_meaning=_pad,
        quant=SAME,
        derive=_derive_pad,
        moves=True,
        cases=pad_cases,
    ),
    Operator(
        name="concatenation",
        summary="Values one after the other along an axis.",
        arity=(1, None),
        attributes={"axis": Domain("int", 1, 5)},
        shape=_concatenation_shape,
        float_meaning=_swapped(_concatenate),
        integer_meaning=_concatenate,
        quant=SAME,
        moves=True,
        cases=concatenation_cases,
    ),
    Operator(
        name="reshape",
        summary="The same values in the same order, in another shape.",
        arity=(1, 1),
        attributes={"shape": Domain("ints", BATCH, 1 << 31)},
        shape=_reshape_shape,
        float_meaning=_swapped(_reshape),
        integer_meaning=_reshape,
        quant=SAME,
        in_place=True,
        moves=True,
        cases=reshape_cases,
    ),
    Operator(
        name="transpose",
        summary="The axes in another order.",
        arity=(1, 1),
        attributes={"permutation": Domain("ints", 0, 5)},
        shape=_transpose_shape,
        float_meaning=_swapped(_transpose),
        integer_meaning=_transpose,
        quant=SAME,
        moves=True,
        cases=transpose_cases,
    ),
)
