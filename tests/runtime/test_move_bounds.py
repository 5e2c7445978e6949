"""Indices, bounds and axes that a file may name: the verifier refuses them, and so does the engine by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conformance.generate import DRAWS, build
from unfloat import _native
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.runtime.engine import native_program
from unfloat.spec.errors import InvalidProgramError

BAD = {
    "slice past the end": ("slice", "a window", {"begin": (0, 4, 0, 0)}),
    "slice from before the start": ("slice", "backwards", {"begin": (0, 3, 6, 3)}),
    "slice from outside": ("slice", "a window", {"begin": (0, 7, 0, 0)}),
    "slice on the spot": ("slice", "a window", {"stride": (1, 0, 1, 1)}),
    "slice of samples": ("slice", "a window", {"begin": (1, 2, 0, 0)}),
    "slice with a huge stride": ("slice", "a window", {"stride": (1, 2**31 - 1, 1, 1)}),
    "slice of too few axes": ("slice", "a window", {"begin": (0, 2, 0)}),
    "gather past the end": ("gather", "rows repeated", {"indices": (0, 0, 1, 1, 2, 3)}),
    "gather before the start": ("gather", "rows repeated", {"indices": (0, 0, 1, 1, 2, -1)}),
    "gather too few": ("gather", "rows repeated", {"indices": (0, 0, 1, 1, 2)}),
    "gather samples": ("gather", "rows repeated", {"axis": 0}),
    "gather along no axis": ("gather", "rows repeated", {"axis": 4}),
    "reduce samples": ("reduce_max", "channels", {"axes": (0,)}),
    "reduce an axis twice": ("reduce_max", "channels", {"axes": (3, 3)}),
    "reduce no axis of its own": ("reduce_min", "channels", {"axes": (4,)}),
    "argmax over samples": ("arg_max", "channels", {"axis": 0}),
    "argmax over another axis": ("arg_max", "channels", {"axis": 1}),
    "both ways of placing pixels": (
        "resize_bilinear",
        "corners, (4, 5) to (8, 10)",
        {"align_corners": 1, "half_pixel_centers": 1},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bounds_are_refused_twice(name: str) -> None:
    program = tampered(*BAD[name])
    with pytest.raises(InvalidProgramError, match=r"instruction out"):
        program.verify()
    with pytest.raises(ValueError, match=r"layer 'out'"):
        _native.Engine(*native_program(program), 1, "scalar")


def tampered(op: str, label: str, changes: dict[str, object]) -> Program:
    """The Program of a conformance case with other attributes."""
    case = next(case for case in REGISTRY[op].cases() if case.label == label)
    program = build(REGISTRY[op], case, DRAWS[0])
    (instruction,) = program.instructions
    instruction = replace(instruction, attributes={**instruction.attributes, **changes})
    return replace(program, instructions=(instruction,))


def test_indices_of_more_than_16_bits_are_refused() -> None:
    case = next(case for case in REGISTRY["arg_max"].cases() if case.label == "channels")
    shape = REGISTRY["arg_max"].shape({"axis": 1}, [(-1, 2**15, 2)], {})
    assert shape == (-1, 2)
    with pytest.raises(ValueError, match="at most 32768 cells"):
        REGISTRY["arg_max"].shape(case.attributes, [(-1, 1, 1, 2**15 + 1)], {})
