"""The interpreter's border: what it refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, build
from tests.program.nets import small_codes, small_net
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.program.interpret import interpret, trace
from unfloat.spec.errors import InputError

CODES = small_codes()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "the Program takes 1 inputs, found 0"),
        ([CODES, CODES], "the Program takes 1 inputs, found 2"),
        ([CODES.astype(np.int16)], r"input x must be int8 of shape \(n, 6, 5, 3\), found int16 \(2, 6, 5, 3\)"),
        ([CODES[0]], r"input x must be int8 of shape \(n, 6, 5, 3\), found int8 \(6, 5, 3\)"),
        ([CODES[:, :5]], r"input x must be int8 of shape \(n, 6, 5, 3\), found int8 \(2, 5, 5, 3\)"),
        ([CODES.tolist()], "input x must be an array of int8, found list"),
    ],
)
def test_wrong_inputs_are_errors_that_name_them(inputs: list[Any], message: str) -> None:
    for run in (interpret, trace):
        with pytest.raises(InputError, match=message):
            run(small_net(), inputs)


def test_inputs_of_two_batches_are_refused() -> None:
    program = build(REGISTRY["add"], Case("", ((3,), (3,))), DRAWS[0])
    x = np.zeros((2, 3), np.int8)
    assert interpret(program, [x, x])[0].shape == (2, 3)
    with pytest.raises(InputError, match=r"inputs differ in their batch: \[2, 1\]"):
        interpret(program, [x, x[:1]])
