"""Programs made to hurt exporters: high ranks, many operands, clamps, and factors whose last bits count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.peers.protocol import Arrays
from unfloat.ir.graph import BATCH, Clamp, Node, Port, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, WeightRule
from unfloat.program.interpret import interpret
from unfloat.program.lower import complete, make_instruction
from unfloat.program.program import Program
from unfloat.spec.fixedpoint import quantize_multiplier, requantize
from unfloat.spec.qparams import QParams, float32

CHANNELS = 32


def ranked_cases(rank: int) -> Iterator[tuple[str, Case]]:
    """Operators on values of a rank, batch included."""
    shape = (2, 3, 2, 3, 4)[1 - rank :]
    last = (*(1 for _ in shape[1:]), 4)
    yield "add", Case(f"rank {rank}", (shape, shape))
    for op in ("add", "mul"):
        yield op, Case(f"rank {rank}, one operand broadcast", (shape, last))
        yield op, Case(f"rank {rank}, both operands broadcast", ((1, *shape[1:]), (*shape[:-1], 1)))
    yield "sub", Case(f"rank {rank}, one operand broadcast", (last, shape))
    yield "sum", Case(f"rank {rank}, all axes", (shape,), {"axes": tuple(range(1, rank)), "keep_dims": 0})
    yield "rescale", Case(f"rank {rank}", (shape,))
    yield "rescale", Case(f"rank {rank}, with a clamp", (shape,), clamp=Clamp(-1.0, 1.0))
    yield "pad", Case(f"rank {rank}", (shape,), {"paddings": (0, 0, *(1, 2) * len(shape))})
    yield "transpose", Case(f"rank {rank}", (shape,), {"permutation": (0, *range(len(shape), 0, -1))})
    yield "concatenation", Case(f"rank {rank}, first axis", (shape, shape), {"axis": 1})
    yield "concatenation", Case(f"rank {rank}, last axis", (shape, shape), {"axis": rank - 1})
    yield "softmax", Case(f"rank {rank}", (shape,))
    yield "mean", Case(f"rank {rank}, last axis", (shape,), {"axes": (rank - 1,), "keep_dims": 0})
    yield "mean", Case(f"rank {rank}, axis 1", (shape,), {"axes": (1,), "keep_dims": 1})
    yield "mean", Case(f"rank {rank}, all axes", (shape,), {"axes": tuple(range(1, rank)), "keep_dims": 0})
    yield "fully_connected", Case(f"rank {rank}", (shape,), {}, {"weight": (5, 4), "bias": (5,)})
    yield "reshape", Case(f"to rank {rank}", ((math.prod(shape),),), {"shape": (BATCH, *shape)})


def many_operands() -> Iterator[tuple[str, Case]]:
    """Concatenations around the public kernels' limit of ten operands."""
    for count in (9, 10, 11, 20, 21):
        yield "concatenation", Case(f"{count} operands", tuple((2, 1 + k % 3) for k in range(count)), {"axis": 2})


CASES = (*(case for rank in (3, 4, 5, 6) for case in ranked_cases(rank)), *many_operands())


def in_a_row(program: Program, inputs: Arrays) -> Arrays:
    """What a runtime gives for a file of the Program: sample after sample, and states that nobody resets."""
    if all(REGISTRY[instruction.op].states is None for instruction in program.instructions):
        return interpret(program, inputs)
    kept, memory = replace(program, instructions=tuple(map(carried_on, program.instructions))), {}
    runs = [interpret(kept, [codes[k : k + 1] for codes in inputs], memory) for k in range(len(inputs[0]))]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def carried_on(instruction: Instruction) -> Instruction:
    """The instruction, as a file can say it: with states that each run leaves to the next."""
    changes = {"carried": 1} if "carried" in instruction.attributes else {}
    return replace(instruction, attributes={**instruction.attributes, **changes})


def clamped_sum(clamp: Clamp, label: QParams) -> Program:
    """`clamp(x + y)` in codes of a given label."""
    shape = (BATCH, 4, 50)
    inputs = tuple(Tensor(name, shape, QParams((0.0625,), 0, label.dtype, label.bits)) for name in ("x", "y"))
    node = Node("out", "add", ("x", "y"), shape, clamp=clamp)
    return _program(node, {}, inputs, Tensor("out", shape, label))


def requantized(source: QParams, target: QParams) -> Program:
    """A rescale between two labels."""
    shape = (BATCH, 5, 60)
    return _program(
        Node("out", "rescale", ("x",), shape), {}, (Tensor("x", shape, source),), Tensor("out", shape, target)
    )


def _program(node: Node, params: dict[str, np.ndarray], inputs: tuple[Tensor, ...], output: Tensor) -> Program:
    return _around(make_instruction(node, params, inputs, output, WeightRule(), "double"), inputs, output)


def _around(instruction: Instruction, inputs: tuple[Tensor, ...], output: Tensor) -> Program:
    ports = [Port(t.name, t.name, t.shape, tuple(range(len(t.shape)))) for t in (*inputs, output)]
    return Program(tuple(ports[:-1]), (ports[-1],), {t.name: t for t in (*inputs, output)}, (instruction,))


def legacy_pair(first: float, second: float, out: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multiplier and shift of `first * second / out` in double, and with the product in float32."""
    return quantize_multiplier(first * second / out), quantize_multiplier(float32(first * second) / out)


def _steps(accumulators: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    multiplier, shift = (np.array([value], np.int64) for value in pair)
    return np.asarray(requantize(accumulators, multiplier, shift, "double"))


def with_biases(op: str, per_channel: bool, rng: np.random.Generator) -> Program:
    """A linear layer of zero weights whose biases are accumulators at which the two factors' codes differ."""
    while True:
        scales = [float32(2.0 ** rng.uniform(low, low + 2)) for low in (-12, -16, -6)]
        exact, legacy = legacy_pair(*scales)
        near = (rng.integers(-127, 127, 4000) + 0.5) / (exact[0] * 2.0 ** (exact[1] - 31))
        biases = near.astype(np.int64) + rng.integers(-3, 4, 4000)
        hard = biases[_steps(biases, exact) != _steps(biases, legacy)][:CHANNELS]
        if len(hard) == CHANNELS:
            return _zero_layer(op, per_channel, scales, hard)


def _zero_layer(op: str, per_channel: bool, scales: list[float], biases: np.ndarray) -> Program:
    axis = REGISTRY[op].quant.weight_axis
    weight = {"conv2d": (CHANNELS, 1, 1, 1), "depthwise_conv2d": (1, 1, CHANNELS), "fully_connected": (CHANNELS, 1)}[op]
    image: Shape = (BATCH, 1) if op == "fully_connected" else (BATCH, 1, 1, 1)
    source, output = (
        Tensor("x", image, QParams(tuple(scales[:1]), 5)),
        Tensor("out", (*image[:-1], CHANNELS), QParams(tuple(scales[2:]))),
    )
    attributes = {"clamp_min": -128, "clamp_max": 127, "rounding": "double"}
    if op != "fully_connected":
        attributes |= {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
    if op == "conv2d":
        attributes |= {"groups": 1}
    count, label_axis = (CHANNELS, axis) if per_channel else (1, None)
    label = QParams((scales[1],) * count, 0, axis=label_axis, narrow=True)
    constants = {"weight": np.zeros(weight, np.int8), "bias": biases.astype(np.int32)}
    bare = Instruction(op, "out", ("x",), attributes, constants, {"weight": label})
    return _around(complete(bare, REGISTRY[op].derive(bare, [source], output)), (source,), output)


def hard_products(rng: np.random.Generator) -> tuple[Program, Arrays]:
    """A product of two codes at which the two factors' codes differ, and those codes."""
    codes = np.arange(-128, 128)
    products = codes[:, None] * codes
    while True:
        scales = [float32(2.0 ** rng.uniform(low, low + 2)) for low in (-6, -6, -4)]
        exact, legacy = legacy_pair(*scales)
        steps = _steps(products, exact)
        hard = np.argwhere((steps != _steps(products, legacy)) & (np.abs(steps) < 127))
        if len(hard):
            break
    shape = (BATCH, 1)
    x, y, out = (Tensor(name, shape, QParams((scale,))) for name, scale in zip(("x", "y", "out"), scales, strict=True))
    program = _program(Node("out", "mul", ("x", "y"), shape), {}, (x, y), out)
    return program, [codes[hard[:1, k], None].astype(np.int8) for k in (0, 1)]
