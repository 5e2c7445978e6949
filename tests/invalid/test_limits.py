"""Limits of shapes: what the verifier accepts the engine takes, and nothing near a limit is refused by one alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import unfloat
from tests.conformance.generate import DRAWS, build
from unfloat.ops import REGISTRY
from unfloat.ops._operator import WINDOW, Case
from unfloat.program.interpret import interpret

ONE = {"stride": (1, 1), "padding": (0, 0, 0, 0)}
CONV = {**ONE, "dilation": (1, 1), "groups": 1}
STRIDES = {"kernel": (1, 1), "stride": (1, WINDOW), "padding": (0,) * 4}
AT_THE_LIMIT = {
    "a long kernel": ("conv2d", Case("", ((1, WINDOW, 1),), CONV, {"weight": (1, 1, WINDOW, 1), "bias": (1,)})),
    "a long window": ("max_pool2d", Case("", ((1, WINDOW, 1),), {**ONE, "kernel": (1, WINDOW)})),
    "a long stride": ("max_pool2d", Case("", ((1, 3, 1),), STRIDES)),
    "a long dilation": (
        "depthwise_conv2d",
        Case("", ((1, WINDOW + 1, 1),), {**ONE, "dilation": (1, WINDOW)}, {"weight": (1, 2, 1), "bias": (1,)}),
    ),
    "many classes": ("softmax", Case("", ((4095,),))),
}


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_the_engine_takes_what_the_verifier_accepts(name: str) -> None:
    operator, case = AT_THE_LIMIT[name]
    program = build(REGISTRY[operator], case, DRAWS[0])
    codes = np.random.default_rng(0).integers(-128, 128, (2, *case.inputs[0])).astype(np.int8)
    np.testing.assert_array_equal(program.compile().run(codes), interpret(program, [codes])[0])


@pytest.mark.parametrize("name", ["a long kernel", "a long window"])
def test_one_more_is_refused_at_once(name: str) -> None:
    operator, case = AT_THE_LIMIT[name]
    attributes = {**case.attributes, "kernel": (1, WINDOW + 1)} if "kernel" in case.attributes else case.attributes
    params = {"weight": (1, 1, WINDOW + 1, 1), "bias": (1,)} if case.params else {}
    longer = replace(case, inputs=((1, WINDOW + 1, 1),), attributes=attributes, params=params)
    with pytest.raises((ValueError, unfloat.InvalidProgramError), match=r"at most|kernel"):
        build(REGISTRY[operator], longer, DRAWS[0])


def test_an_image_of_too_many_rows_is_refused() -> None:
    pool = {"kernel": (3, 1), "stride": (WINDOW, 1), "padding": (1, 0, 1, 0)}
    with pytest.raises(ValueError, match="padded image are at most 2147483647 with a window"):
        build(REGISTRY["max_pool2d"], Case("", ((2**31 - 1, 1, 1),), pool), DRAWS[0])


def test_a_sample_of_words_has_half_as_many() -> None:
    words = next(draw for draw in DRAWS if draw.scheme == "int16x8")
    with pytest.raises(unfloat.InvalidProgramError, match="positive sizes whose bytes fit int32"):
        build(REGISTRY["reshape"], Case("", ((2**30,),), {"shape": (-1, 2**15, 2**15)}), words)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 3])
def test_threads_share_long_rows(threads: int, rows: int) -> None:
    case = Case("", ((rows, 301, 3),), {**CONV, "stride": (1, 2)}, {"weight": (20, 1, 9, 3), "bias": (20,)})
    program = build(REGISTRY["conv2d"], case, DRAWS[0])
    codes = np.random.default_rng(0).integers(-128, 128, (1, *case.inputs[0])).astype(np.int8)
    np.testing.assert_array_equal(program.compile(threads).run(codes), interpret(program, [codes])[0])


def test_an_image_spread_past_all_memory_is_refused() -> None:
    case = Case(
        "", ((4, 4, 1),), {"stride": (WINDOW, WINDOW), "crop": (0, 0), "size": (1, 1)}, {"weight": (1, 1, 1, 1)}
    )
    with pytest.raises(ValueError, match="zeros between its pixels"):
        build(REGISTRY["transpose_conv2d"], case, DRAWS[0])
