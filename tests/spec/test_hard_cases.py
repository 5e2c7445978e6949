"""Layers and rows that random codes do not reach, on every rung: negative ties, left shifts, near misses.

Vector kernels rescale in several forms (docs/numerics.md, section 11) and choose one for a block of channels, by its
multipliers and shifts. The layers here make each form run, on accumulators where a wrong one would show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from tests.conformance.witness import Witness, by_engine, by_interpreter, by_oracle, by_torch
from unfloat import _native
from unfloat.ir.graph import BATCH, Port, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.program.lower import complete
from unfloat.program.program import Program
from unfloat.spec import fixedpoint as fp
from unfloat.spec.qparams import QParams

WITNESSES = [
    pytest.param(by_interpreter, id="interpreter"),
    pytest.param(by_torch, id="torch"),
    *(pytest.param(by_engine(level), id=level) for level in _native.levels()),
]
CHANNELS, DEPTH, ROWS = 81, 5, 300  # a whole block of 64 channels and a tail
INPUT_ZERO_POINT = -3


def one_layer(instruction: Instruction, source: Tensor, sink: Tensor) -> Program:
    """A Program of one instruction, completed and verified."""
    whole = complete(instruction, REGISTRY[instruction.op].derive(instruction, [source], sink))
    port, out = (Port(t.name, t.name, t.shape, tuple(range(len(t.shape)))) for t in (source, sink))
    program = Program((port,), (out,), {t.name: t for t in (source, sink)}, (whole,))
    program.verify()
    return program


# Linear operators -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forms:
    """Which factors the channels of a layer have, and how results leave it.

    Attributes:
        name: For the test's id.
        least, most: Bounds of the shifts.
        mantissas: Fractions in [1/2, 1) of few bits, so that a float32 scale holds each factor exactly.
        zero_point, relu: Of the output; `relu` clamps at the zero point.
    """

    name: str
    least: int
    most: int
    mantissas: tuple[float, ...] = (0.5,)
    zero_point: int = 4
    relu: bool = False


FORMS = (
    Forms("ties to the right", -24, -1),
    Forms("ties, shift 0", 0, 0),
    Forms("ties, shifts 0 and 1", 0, 1),
    Forms("ties, every shift", -31, 8),
    Forms("ties, every shift, ReLU", -31, 8, relu=True),
    Forms("ties to the right, ReLU from the least code", -24, 0, zero_point=-128, relu=True),
    Forms("ties to the right, ReLU", -24, 0, relu=True),
    Forms("other factors to the right", -12, -1, (0.5, 0.625, 0.75, 0.875, 1 - 2**-20, 0.5 + 2**-20)),
    Forms("other factors, every shift", -31, 8, (0.5, 0.625, 0.75, 0.875, 1 - 2**-20, 0.5 + 2**-20)),
)


@dataclass(frozen=True)
class Layer:
    """A Program of one linear operator, codes for it, and the accumulators [rows, channels] that they give."""

    program: Program
    codes: np.ndarray
    accumulators: np.ndarray


def draw_layer(op: str, forms: Forms, rounding: str) -> Layer:
    """A layer whose biases are ties or next to them, and rows a third of which are real zero: there the bias is all."""
    rng = np.random.default_rng(len(forms.name) * 7 + len(op))
    shift = rng.integers(forms.least, forms.most + 1, CHANNELS)
    factor = rng.choice(forms.mantissas, CHANNELS) * 2.0**shift
    ties = (2 * rng.integers(-100, 100, CHANNELS) + 1) * np.ldexp(1.0, -np.minimum(shift, 0))  # of a mantissa of 1/2
    ties += rng.choice([0, 0, 0, -1, 1], CHANNELS)
    bias = np.clip(ties, -(2**31), 2**31 - 1 - 2**20).astype(np.int64)
    reach = np.where((shift < -20) | (shift > 4), 0, np.where(shift > 0, 3, 127))  # nothing may overflow
    alone = op == "depthwise_conv2d"
    weight = rng.integers(-reach[:, None], reach[:, None] + 1, (CHANNELS, 1 if alone else DEPTH))
    codes = rng.integers(-128, 128, (ROWS, CHANNELS if alone else DEPTH)).astype(np.int8)
    codes[::3] = INPUT_ZERO_POINT
    steps = codes.astype(np.int64) - INPUT_ZERO_POINT
    accumulators = bias + (steps * weight[:, 0] if alone else steps @ weight.T)
    program = linear_program(op, forms, rounding, weight, bias, factor)
    assert (program.instructions[0].constants["shift"] == shift).all()
    return Layer(program, codes if op == "fully_connected" else codes.reshape(1, ROWS, 1, -1), accumulators)


def linear_program(
    op: str, forms: Forms, rounding: str, weight: np.ndarray, bias: np.ndarray, factor: np.ndarray
) -> Program:
    """All scales but the weight's are 1, so that the weight's are the factors."""
    inner: Shape = () if op == "fully_connected" else (ROWS, 1)
    attributes = {"rounding": rounding, "clamp_min": forms.zero_point if forms.relu else -128, "clamp_max": 100}
    attributes |= {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)} if inner else {}
    attributes |= {"groups": 1} if op == "conv2d" else {}
    shapes = {"conv2d": (CHANNELS, 1, 1, DEPTH), "depthwise_conv2d": (1, 1, CHANNELS), "fully_connected": weight.shape}
    constants = {"weight": weight.reshape(shapes[op]).astype(np.int8), "bias": bias.astype(np.int32)}
    labels = {"weight": QParams(tuple(factor.tolist()), axis=REGISTRY[op].quant.weight_axis, narrow=True)}
    width = CHANNELS if op == "depthwise_conv2d" else DEPTH
    source = Tensor("x", (BATCH, *inner, width), QParams((1.0,), INPUT_ZERO_POINT))
    sink = Tensor("y", (BATCH, *inner, CHANNELS), QParams((1.0,), forms.zero_point))
    return one_layer(Instruction(op, "y", ("x",), attributes, constants, labels), source, sink)


@pytest.mark.parametrize("rounding", fp.ROUNDINGS)
@pytest.mark.parametrize("forms", FORMS, ids=lambda f: f.name)
@pytest.mark.parametrize("op", ["fully_connected", "conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("witness", WITNESSES)
def test_linear_operators_in_every_form(witness: Witness, op: str, forms: Forms, rounding: str) -> None:
    layer = draw_layer(op, forms, rounding)
    constants = layer.program.instructions[0].constants
    multiplier, shift = (constants[role].astype(np.int64) for role in ("multiplier", "shift"))
    steps = fp.requantize(layer.accumulators, multiplier, shift, rounding)
    expected = np.clip(steps + forms.zero_point, forms.zero_point if forms.relu else -128, 100)
    found = witness(layer.program, [layer.codes]).reshape(expected.shape)
    assert (found == expected).all()


def test_the_layers_hold_ties_of_both_signs() -> None:
    """Results that the clamp leaves alone, half-way between two codes, and moved by each rule."""
    for forms in FORMS[:4]:
        layer = draw_layer("fully_connected", forms, "double")
        shift = layer.program.instructions[0].constants["shift"].astype(np.int64)
        doubled = np.ldexp(layer.accumulators, shift)  # twice the real result, exactly
        ties = (doubled % 2 == 1) & (abs(doubled) < 200)
        assert (ties & (doubled < 0)).sum() > 100, forms.name
        assert (ties & (doubled > 0)).sum() > 100, forms.name


@pytest.mark.parametrize("zero_point", [-128, 0, 100])
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("witness", WITNESSES)
def test_padding_is_real_zero(witness: Witness, op: str, zero_point: int) -> None:
    """Windows that lie partly or wholly on the padding; so few channels that kernels join taps, and more."""
    for channels in (3, 20):
        shape = (channels, 3, 3, channels) if op == "conv2d" else (3, 3, channels)
        rng = np.random.default_rng(channels)
        constants = {
            "weight": rng.integers(-127, 128, shape).astype(np.int8),
            "bias": np.arange(channels, dtype=np.int32),
        }
        attributes = {
            "stride": (1, 1),
            "dilation": (1, 1),
            "padding": (3, 1, 0, 2),
            "clamp_min": -128,
            "clamp_max": 127,
        }
        attributes |= {"rounding": "double", **({"groups": 1} if op == "conv2d" else {})}
        labels = {"weight": QParams((2.0**-12,) * channels, axis=REGISTRY[op].quant.weight_axis, narrow=True)}
        source = Tensor("x", (BATCH, 4, 2, channels), QParams((1.0,), zero_point))
        sink = Tensor("y", (BATCH, 5, 3, channels), QParams((0.25,), 7))
        program = one_layer(Instruction(op, "y", ("x",), attributes, constants, labels), source, sink)
        x = rng.integers(-128, 128, (1, 4, 2, channels)).astype(np.int8)
        assert (witness(program, [x]) == by_oracle(program, [x])).all()


# Softmax --------------------------------------------------------------------------------------------------------------

# (log2 of the scale, codes): a probability so near to the middle of two codes that one bit more or less in the sum of
# exponentials moves it. Found by search; random rows hold one in some thousands.
NEAR_MISSES = (
    (-8, (127, -29, -37, -51)),
    (-8, (127, -6, -17, -59)),
    (-8, (127, -2, -49)),
    (-8, (127, 11, 3, -55)),
    (-8, (127, 43, -43)),
    (-8, (127, 45, -7, -15)),
    (-8, (127, 5, -9, -49)),
    (-8, (127, 82, 22, 16, -13, -39)),
    (-8, (127, 85, 11)),
    (-7, (127, -7, -17, -36)),
    (-7, (127, 27, 20, -16, -48, -58)),
    (-7, (127, 38, -18, -55, -56, -58)),
)
SIZES = (1, 2, 511, 512, 513, 1024, 4095)  # equal codes: sums that cross 512, and the most that Q12 holds


def softmax_program(classes: int, scale: float) -> Program:
    source = Tensor("x", (BATCH, classes), QParams((scale,), 5))
    sink = Tensor("y", (BATCH, classes), REGISTRY["softmax"].quant.fixed["int8"])
    return one_layer(Instruction("softmax", "y", ("x",)), source, sink)


@cache
def equal_and_opposite(scale: float, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and what the oracle makes of them."""
    x = np.full((3, classes), 7, np.int8)
    x[1, ::2], x[1, 1::2] = -128, 127
    x[2, 0] = 8
    return x, by_oracle(softmax_program(classes, scale), [x])


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize(("exponent", "codes"), NEAR_MISSES)
def test_softmax_near_misses(witness: Witness, exponent: int, codes: tuple[int, ...]) -> None:
    program, x = softmax_program(len(codes), 2.0**exponent), np.array([codes], np.int8)
    assert (witness(program, [x]) == by_oracle(program, [x])).all()


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("scale", [2.0**-25, 2.0**-8, 2.0**20])
def test_softmax_of_equal_and_of_opposite_codes(witness: Witness, scale: float, classes: int) -> None:
    x, expected = equal_and_opposite(scale, classes)
    found = witness(softmax_program(classes, scale), [x])
    assert (found == expected).all()
    if 2 <= classes < 512:
        assert (found[0] == round(256 / classes) - 128).all()


def test_the_near_misses_are_near() -> None:
    for exponent, codes in NEAR_MISSES:
        powers = np.exp((np.array(codes) - max(codes)) * 2.0**exponent)
        steps = 256 * powers / powers.sum()
        assert abs(steps % 1 - 0.5).min() < 2e-4
