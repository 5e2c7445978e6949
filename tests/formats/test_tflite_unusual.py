"""Files as few converters write them: the public runtimes' bits, or a refusal that says what is wrong."""

from __future__ import annotations

import pytest

from tests.formats.unusual import LABEL, WIDER, agrees, codes, file, numbers, operator


@pytest.mark.parametrize(
    ("tensors", "operators"),
    [
        (
            [codes("x", (3, 3, 2)), numbers("axes", [1]), codes("m", (3, 2)), codes("y", (3, 3, 2))],
            [operator("MEAN", "x axes", "m", "ReducerOptions"), operator("SUB", "x m", "y", "SubOptions")],
        ),
        (
            [codes("x", (3, 3)), codes("z", (3,)), codes("y", (3, 3))],
            [operator("MUL", "x z", "y", "MulOptions")],
        ),
        (
            [codes("x", (2, 2, 3, 4)), codes("z", (2, 4, 5)), codes("y", (2, 2, 3, 5), WIDER)],
            [operator("BATCH_MATMUL", "x z", "y", "BatchMatMulOptions")],
        ),
    ],
    ids=["mean", "factor", "matrices"],
)
def test_a_dimension_as_long_as_the_batch_is_not_the_batch(tensors: list, operators: list) -> None:
    """TFLite aligns dimensions from behind."""
    agrees(file(tensors, operators))
