"""One-instruction Programs from the operators' own cases, with labels and codes chosen to hurt."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from unfloat.ir.graph import BATCH, Clamp, Node, Port
from unfloat.ir.instruction import Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index
from unfloat.ops._operator import Case, Operator, WeightRule
from unfloat.program.certificate import verify
from unfloat.program.lower import make_instruction
from unfloat.program.program import Program
from unfloat.spec.qparams import INDEX, STORAGE, QParams, positive_scale


@dataclass(frozen=True)
class Draw:
    """How labels and codes are drawn for a case.

    Attributes:
        name: For the test's id.
        scheme: "int8", "uint8" or "int16x8".
        rounding: "double" or "single".
        ties: Every scale a power of two: multipliers are 2^30, and many quotients fall half-way.
        loud: The output's scale is small, so that many results saturate. Where the bits are few, hence the weights'
            scales large, some factors of linear operators reach 1 (left shifts).
        bits: Activation and weight bits.
    """

    name: str
    scheme: str = "int8"
    rounding: str = "double"
    ties: bool = False
    loud: bool = False
    bits: int = 8

    @property
    def storage(self) -> str:
        """Of activations."""
        return "int16" if self.scheme == "int16x8" else self.scheme

    def label(self, scale: float, zero_point: int) -> QParams:
        """An activation's QParams."""
        bits = 16 if self.storage == "int16" else self.bits
        return QParams((scale,), 0 if self.storage == "int16" else zero_point, self.storage, bits)

    @property
    def weights(self) -> WeightRule:
        """How weights become codes."""
        return WeightRule("uint8" if self.scheme == "uint8" else "int8", self.bits, per_channel=self.scheme != "uint8")


DRAWS = (
    Draw("int8"),
    Draw("int8-ties", ties=True),
    Draw("int8-loud", loud=True),
    Draw("int8-single", rounding="single"),
    Draw("int8-single-ties", rounding="single", ties=True),
    Draw("int8-4bits", bits=4, ties=True),
    Draw("int8-loud-4bits", bits=4, ties=True, loud=True),
    Draw("uint8", scheme="uint8"),
    Draw("uint8-ties", scheme="uint8", ties=True),
    Draw("uint8-3bits", scheme="uint8", bits=3),
    Draw("uint8-single-loud-3bits", scheme="uint8", rounding="single", bits=3, loud=True),
    Draw("int16x8", scheme="int16x8"),
    Draw("int16x8-ties", scheme="int16x8", ties=True),
    Draw("int16x8-loud", scheme="int16x8", loud=True),
    Draw("int16x8-single-loud-4bits", scheme="int16x8", rounding="single", bits=4, loud=True),
)


def all_cases() -> Iterator[tuple[Operator, Case]]:
    """Every case of every operator that can be an instruction."""
    for operator in REGISTRY.values():
        if operator.integer_meaning is not None:
            for case in operator.cases():
                yield operator, case


def drawn_cases() -> Iterator[tuple[Operator, Case, Draw]]:
    """Every case under every draw whose codes its operator knows."""
    for operator, case in all_cases():
        for draw in DRAWS:
            if draw.storage in operator.storages:
                yield operator, case, draw


def generator(*words: str) -> np.random.Generator:
    """Random numbers that depend on the words alone."""
    return np.random.default_rng(zlib.crc32("/".join(words).encode()))


def build(operator: Operator, case: Case, draw: Draw) -> Program:
    """The Program of one case under one draw."""
    rng = generator(operator.name, case.label, draw.name)
    params = {role: _param(rng, role, shape, operator, draw) for role, shape in case.params.items()}
    shapes = [(1 if i in case.constants else BATCH, *shape) for i, shape in enumerate(case.inputs)]
    inputs = _inputs(rng, operator, shapes, draw)
    shape = operator.shape(case.attributes, shapes, {role: a.shape for role, a in params.items()})
    label = _output_label(rng, operator, case, inputs, params, draw)
    clamp = _scaled_clamp(rng, case.clamp, label)
    node = Node("out", operator.name, tuple(t.name for t in inputs), shape, case.attributes, {}, None, clamp)
    output = Tensor("out", shape, label)
    instruction = make_instruction(node, params, inputs, output, draw.weights, draw.rounding)
    given = [t for t in inputs if t.data is None]
    ports = tuple(Port(t.name, t.name, t.shape, tuple(range(len(t.shape)))) for t in given)
    out = Port("out", "out", shape, tuple(range(len(shape))))
    program = Program(ports, (out,), {t.name: t for t in (*inputs, output)}, (instruction,))
    verify(program)
    return program


def codes_for(program: Program, batch: int, seed: str) -> list[np.ndarray]:
    """Random codes for each input, the two extremes and the zero point over-represented."""
    rng = generator("codes", seed)
    return [_codes(rng, program.tensors[p.value], (batch, *p.shape[1:])) for p in program.inputs]


def in_rows(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The inputs with every index in its table: outside, the public kernels read what lies there."""
    rows = rows_by_index(program.instructions, program.shapes())
    most = [rows.get(port.value, 0) - 1 for port in program.inputs]
    return [x if last < 0 else np.clip(x, 0, last) for x, last in zip(inputs, most, strict=True)]


def _codes(rng: np.random.Generator, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    label = tensor.qparams
    codes = rng.integers(label.qmin, label.qmax + 1, shape)
    if label == INDEX:  # most of them name a row of a small table
        codes = np.where(rng.random(shape) < 0.7, rng.integers(-20, 50, shape), codes)
    special = rng.choice([label.qmin, label.qmax, label.zero_point], shape)
    return np.where(rng.random(shape) < 0.2, special, codes).astype(STORAGE[label.dtype])


def _scale(rng: np.random.Generator, draw: Draw, low: float, high: float) -> float:
    exponent = rng.uniform(low, high)
    return positive_scale(2.0 ** (round(exponent) if draw.ties else exponent))


def _label(rng: np.random.Generator, draw: Draw, scale: float) -> QParams:
    probe = draw.label(scale, 0)
    zero_point = rng.choice([probe.qmin, probe.qmax, int(rng.integers(probe.qmin, probe.qmax + 1))])
    return draw.label(scale, int(zero_point))


def _inputs(rng: np.random.Generator, operator: Operator, shapes: list[tuple[int, ...]], draw: Draw) -> list[Tensor]:
    labels = [_label(rng, draw, _scale(rng, draw, -8, -3)) for _ in shapes]
    if operator.quant.output == "same":
        labels = labels[:1] * len(shapes)
    labels = [INDEX if i in operator.quant.indices else label for i, label in enumerate(labels)]
    tensors = [Tensor(f"x{i}", shape, label) for i, (shape, label) in enumerate(zip(shapes, labels, strict=True))]
    return [t if t.shape[0] == BATCH else replace(t, data=_codes(rng, t, t.shape)) for t in tensors]


def _param(rng: np.random.Generator, role: str, shape: tuple[int, ...], operator: Operator, draw: Draw) -> np.ndarray:
    if role != "weight":
        return rng.normal(0, 0.5, shape)
    top = 2 ** (draw.bits - 1) - 1
    steps = rng.integers(-top, top + 1, shape)
    axis = operator.quant.weight_axis or 0
    channels = np.moveaxis(steps, axis, 0).reshape(shape[axis], -1)
    channels[:, 0] = top  # each channel reaches its end, so that its scale is 2^-k
    channels[shape[axis] // 2] = 0 if shape[axis] > 3 else channels[shape[axis] // 2]  # and one is all zeros
    steps = np.moveaxis(channels.reshape(shape[axis], *np.delete(shape, axis)), 0, axis)
    exponents = rng.integers(-9, -5, [size if d == axis else 1 for d, size in enumerate(shape)])
    noise = 1.0 if draw.ties else rng.uniform(0.7, 1.0)
    return steps * 2.0**exponents * noise


def _output_label(
    rng: np.random.Generator,
    operator: Operator,
    case: Case,
    inputs: list[Tensor],
    params: dict[str, np.ndarray],
    draw: Draw,
) -> QParams:
    if operator.quant.output == "same":
        return inputs[0].qparams
    if operator.quant.output == "fixed":
        return operator.quant.fixed[draw.storage]
    scale = max(t.qparams.scale[0] for t in inputs)
    if "recurrent" in params:  # what an LSTM gives lies within 1, whatever it is given
        scale = 2.0 ** -(draw.bits - 1)
    elif "weight" in params:
        axis = operator.quant.weight_axis or 0
        others = tuple(d for d in range(params["weight"].ndim) if d != axis)
        spread = float(np.sqrt((params["weight"] ** 2).sum(axis=others)).max())
        scale *= max(spread, 1e-3) * 2
    elif len(inputs) == 2 and operator.accumulators is not None:
        scale *= inputs[0].qparams.scale[0] * (100 if draw.storage != "int16" else 2**15)
    shrink = rng.uniform(-5, -3) if draw.loud else rng.uniform(-0.5, 1.5)
    exponent = np.log2(scale) + shrink
    label = _label(rng, draw, positive_scale(2.0 ** (round(exponent) if draw.ties else exponent)))
    affine = draw.storage != "int16"
    if (
        affine and case.clamp is not None and case.clamp.low == 0.0
    ):  # leave room above real 0, or a ReLU leaves one code
        label = replace(label, zero_point=min(label.zero_point, label.qmin + 2 ** (label.bits - 2)))
    return label


def _scaled_clamp(rng: np.random.Generator, clamp: Clamp | None, label: QParams) -> Clamp | None:
    """The case's clamp, its finite bounds moved to where the label's codes are."""
    if clamp is None:
        return None
    span = label.scale[0] * (label.qmax - label.qmin)

    def move(bound: float) -> float:
        return (
            bound
            if bound in (0.0, float("inf"), -float("inf"))
            else float(np.sign(bound) * span * rng.uniform(0.1, 0.6))
        )

    return Clamp(move(clamp.low), move(clamp.high))
