"""Moves and comparisons in TensorFlow Lite Micro: random instructions, and what has no words there.

UNFLOAT_PEER_MODELS sets how many random models of each kind are run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, build, codes_for, generator
from tests.conformance.witness import by_engine, by_oracle
from tests.peers.call import Peer, peer
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import BATCH, Attributes, Shape
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import levels
from unfloat.spec.errors import ExportError, InvalidProgramError

MODELS = int(os.environ.get("UNFLOAT_PEER_MODELS", "20"))
INT8, INT16 = (next(draw for draw in DRAWS if draw.name == name) for name in ("int8", "int16x8"))
Rng = np.random.Generator
Made = tuple[tuple[Shape, ...], Attributes]  # shapes of the inputs without the batch, attributes


@pytest.fixture(scope="module")
def tflm() -> Peer:
    return peer("tflm")


def shape_of(rng: Rng, rank: int = 0) -> Shape:
    """Sizes of 1 to 6, small ones more often where there are many; of rank 1 to 5 without the batch."""
    rank = rank or int(rng.integers(1, 6))
    return tuple(int(size) for size in rng.integers(1, 9 - rank, rank))


def slices(rng: Rng) -> Made:
    shape, axes = shape_of(rng), [(0, 1, BATCH)]
    for extent in shape:
        step = int(rng.integers(1, 4))
        count = int(rng.integers(1, -(-extent // step) + 1))
        first = int(rng.integers(0, extent - (count - 1) * step))
        backwards = rng.random() < 0.3
        axes.append((first + (count - 1) * step, -step, count) if backwards else (first, step, count))
    return (shape,), dict(zip(("begin", "stride", "size"), zip(*axes, strict=True), strict=True))


def gathers(rng: Rng) -> Made:
    shape = shape_of(rng)
    axis = int(rng.integers(1, len(shape) + 1))
    indices = tuple(int(i) for i in rng.integers(0, shape[axis - 1], rng.integers(1, 15)))
    return (shape,), {"axis": axis, "indices": indices}


def pairs(rng: Rng) -> Made:
    shape = shape_of(rng)
    return tuple(tuple(int(rng.choice([1, size])) for size in shape) for _ in range(2)), {}


def reductions(rng: Rng) -> Made:
    shape = shape_of(rng)
    count = int(rng.integers(1, len(shape) + 1))
    axes = tuple(sorted(int(a) + 1 for a in rng.choice(len(shape), count, replace=False)))
    return (shape,), {"axes": axes, "keep_dims": int(rng.integers(0, 2))}


def arg_maxima(rng: Rng) -> Made:
    shape = shape_of(rng)
    return (shape,), {"axis": int(rng.integers(1, len(shape) + 1))}


def resizes(rng: Rng) -> Made:
    corners, centres = ((0, 0), (1, 0), (0, 1))[rng.integers(0, 3)]
    size = tuple(int(s) for s in rng.integers(1, 30, 2))
    image = tuple(int(s) for s in rng.integers(1, 20, 2))
    return ((*image, int(rng.integers(1, 4))),), {"size": size, "align_corners": corners, "half_pixel_centers": centres}


MAKERS: dict[str, Callable[[Rng], Made]] = {
    "slice": slices,
    "gather": gathers,
    "maximum": pairs,
    "minimum": pairs,
    "reduce_max": reductions,
    "reduce_min": reductions,
    "arg_max": arg_maxima,
    "resize_bilinear": resizes,
}
WIDE = [op for op in MAKERS if op not in ("arg_max", "resize_bilinear")]


@pytest.mark.parametrize(("op", "draw"), [*((op, INT8) for op in MAKERS), *((op, INT16) for op in WIDE)])
def test_random_instructions_in_tflite_micro(op: str, draw: object, tflm: Peer) -> None:
    rng = generator("random", op, draw.name)  # type: ignore[attr-defined]
    jobs = []
    for index in range(MODELS):
        shapes, attributes = MAKERS[op](rng)
        program = build(REGISTRY[op], Case(f"random {index}", shapes, attributes), draw)  # type: ignore[arg-type]
        jobs.append((program, codes_for(program, 1, f"{op} {index}")))
    answers = tflm([(to_bytes(program), codes) for program, codes in jobs])
    for (program, codes), answer in zip(jobs, answers, strict=True):
        assert not isinstance(answer, str), f"{program.instructions}: {answer}"
        np.testing.assert_array_equal(answer[0], interpret(program, codes)[0], str(program.instructions))


def padded(value: int, draw: object = INT8) -> Program:
    """A pad whose border is some code, not that of real 0."""
    case = next(case for case in REGISTRY["pad"].cases() if case.label == "rows and columns")
    program = build(REGISTRY["pad"], case, draw)  # type: ignore[arg-type]
    (instruction,) = program.instructions
    instruction = replace(instruction, attributes={**instruction.attributes, "value": value})
    return replace(program, instructions=(instruction,))


@pytest.mark.parametrize(("value", "draw"), [(-128, INT8), (127, INT8), (5, INT8), (-32768, INT16), (300, INT16)])
def test_any_code_may_pad(value: int, draw: object, tflm: Peer) -> None:
    program = padded(value, draw)
    codes = codes_for(program, 1, "pad")
    truth = interpret(program, codes)[0]
    assert (truth[:, 0] == value).all()
    ((answer,),) = tflm([(to_bytes(program), codes)])
    for found in (answer, by_oracle(program, codes), *(by_engine(level)(program, codes) for level in levels())):
        np.testing.assert_array_equal(found, truth)


def test_a_border_is_a_code() -> None:
    with pytest.raises(InvalidProgramError, match="value = "):
        padded(200).verify()


@pytest.mark.parametrize(("op", "draw"), [(op, "int16x8") for op in ("arg_max", "take", "resize_bilinear")])
def test_what_the_public_kernels_lack_is_refused(op: str, draw: str) -> None:
    program = build(REGISTRY[op], next(iter(REGISTRY[op].cases())), next(d for d in DRAWS if d.name == draw))
    with pytest.raises(ExportError, match=rf"{op}\): required int8"):
        to_bytes(program)


def test_a_resize_that_would_read_past_the_image_is_refused() -> None:
    attributes = {"size": (3000, 2), "align_corners": 0, "half_pixel_centers": 0}
    program = build(REGISTRY["resize_bilinear"], Case("tall", ((1001, 2, 1),), attributes), INT8)
    with pytest.raises(ExportError, match="reads past the end of an axis of 1001"):
        to_bytes(program)
    codes = codes_for(program, 1, "tall")
    np.testing.assert_array_equal(by_engine("scalar")(program, codes), interpret(program, codes)[0])
