"""What the native side refuses of functions of one value, before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from unfloat import _native

TABLE = np.arange(-128, 128).astype(np.int16)
CURVE = {"multiplier": 3, "shift": 0, "segment_bits": 9, "centre": 0, "output_shift": 8}
SLOPES = {
    "input_zero_point": 3,
    "below_sign": -1,
    **{name: value for side in ("", "below_") for name, value in ((f"{side}multiplier", 2**30), (f"{side}shift", 0))},
    "output_zero_point": 0,
    "clamp_min": -128,
    "clamp_max": 127,
    "rounding": "double",
}


def engine(op: str, dtype: str, attributes: dict[str, object], **constants: np.ndarray) -> _native.Engine:
    """An engine of one instruction on 6 codes."""
    tensors = [((6,), dtype, 0, None), ((6,), dtype, 64, None)]
    layer = (op, "layer1", [0], 1, attributes, constants)
    return _native.Engine(tensors, [layer], [0], [1], 128, 1, "")


def test_the_valid_ones_are_made() -> None:
    for op in ("hard_swish", "gelu", "logistic", "tanh"):
        engine(op, "int8", {}, table=TABLE)
    engine("logistic", "int16", CURVE, table=np.zeros(257, np.int16))
    engine("abs", "int8", SLOPES)
    engine("leaky_relu", "uint8", {**SLOPES, "clamp_min": 0})


@pytest.mark.parametrize(
    ("dtype", "table", "message"),
    [
        ("int8", TABLE.astype(np.int32), "must be int16"),
        ("int8", TABLE[1:], r"of shape \[256\], found \[255\]"),
        ("int8", TABLE + np.int16(1), "no code of its output"),
        ("uint8", TABLE, "no code of its output"),
        ("int16", TABLE, r"of shape \[257\], found \[256\]"),
    ],
)
def test_an_impossible_table_is_an_error(dtype: str, table: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine("logistic", dtype, CURVE, table=table)


def test_a_missing_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="misses the constant 'table'"):
        engine("gelu", "int8", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multiplier", -1),
        ("multiplier", 2**15),
        ("shift", 32),
        ("segment_bits", 0),
        ("centre", -1),
        ("output_shift", 11),
    ],
)
def test_an_impossible_curve_is_an_error(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        engine("tanh", "int16", {**CURVE, name: value}, table=np.zeros(257, np.int16))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("below_sign", 2),
        ("below_shift", 31),
        ("below_multiplier", -1),
        ("input_zero_point", 128),
        ("rounding", "acc64"),
    ],
)
def test_impossible_slopes_are_an_error(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        engine("abs", "int8", {**SLOPES, name: value})
