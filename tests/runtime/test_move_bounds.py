"""Indices, bounds and axes that a file may name: the verifier refuses them, and so does the engine by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, build
from unfloat import _native
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.runtime.engine import native_program
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.qparams import QParams

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


def looked_up(label: str, **changes: object) -> Program:
    """The Program of a take, with one operand's shape, label or codes changed."""
    case = next(case for case in REGISTRY["take"].cases() if case.label == label)
    program = build(REGISTRY["take"], case, DRAWS[0])
    tensors = dict(program.tensors)
    for name, change in changes.items():
        tensors[name] = replace(tensors[name], **change)  # type: ignore[arg-type]
    shapes = [(port, tensors[port.value].shape) for port in (*program.inputs, *program.outputs)]
    ports = [replace(port, shape=shape, permutation=tuple(range(len(shape)))) for port, shape in shapes]
    ports = [port for port in ports if tensors[port.value].data is None]
    return replace(program, inputs=tuple(ports[:-1]), outputs=tuple(ports[-1:]), tensors=tensors)


NARROW = QParams((1.0,))
TABLE = np.zeros((2, 50, 16), np.int8)
BAD_TAKES = {
    "numbers of one byte": ("an embedding", {"x1": {"qparams": NARROW}}),
    "numbers of another scale": ("an embedding", {"x1": {"qparams": QParams((0.5,), 0, "int16", 16)}}),
    "numbers that are constant": ("an embedding", {"x1": {"shape": (1, 7), "data": np.zeros((1, 7), np.int16)}}),
    "a constant for several samples": ("an embedding", {"x0": {"shape": TABLE.shape, "data": TABLE}}),
    "a table without rows": ("one code for each sample", {"x0": {"shape": (-1,)}}),
    "rows too long": ("a table for each sample", {"out": {"shape": (-1, 6, 9)}}),
    "too many rows taken": ("a table for each sample", {"out": {"shape": (-1, 7, 8)}}),
    "rows of another type": ("a table for each sample", {"x0": {"qparams": QParams((0.5,), 0, "int16", 16)}}),
    "rows of another label": ("a table for each sample", {"x0": {"qparams": QParams((0.125,), 1)}}),
}
LABELS_ALONE = {"numbers of another scale", "rows of another label"}  # the engine knows no labels


@pytest.mark.parametrize("name", BAD_TAKES)
def test_bad_tables_are_refused_twice(name: str) -> None:
    label, changes = BAD_TAKES[name]
    program = looked_up(label, **changes)
    with pytest.raises(InvalidProgramError, match=r"out"):
        program.verify()
    if name not in LABELS_ALONE:
        with pytest.raises(ValueError, match=r"layer 'out'"):
            _native.Engine(*native_program(program), 1, "scalar")


def test_a_table_has_no_more_rows_than_indices_can_name() -> None:
    shape = REGISTRY["take"].shape
    assert shape({}, [(1, 2**15, 3), (-1, 4)], {}) == (-1, 4, 3)
    with pytest.raises(ValueError, match="at most 32768 rows"):
        shape({}, [(1, 2**15 + 1, 3), (-1, 4)], {})
