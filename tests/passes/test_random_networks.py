"""The whole pipeline on random networks, written channels first as a reader writes them: the meaning stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.passes.evaluate import evaluate, ops, random, shapes_of
from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Norm, Param, Port, Shape
from unfloat.ir.text import graph_text
from unfloat.ops import REGISTRY
from unfloat.passes import prepare

WINDOW = {"stride": (1, 1), "padding": (1, 0, 1, 0)}


class RandomNetwork:
    """Adds random nodes to a Graph; those that do not fit the value they drew are left out."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.arrays: dict[str, np.ndarray] = {}
        shapes = [(BATCH, 3, 5, 4), (BATCH, 6, 1, 1), (BATCH, 1, 6, 5), (BATCH, 4, 6), (BATCH, 5)]
        self.input = shapes[self.rng.integers(len(shapes))]
        self.shapes = {"x": self.input}
        steps = [
            self.image,
            self.image,
            self.clamp,
            self.join,
            self.order,
            self.regroup,
            self.average,
            self.matrix,
            self.pad,
            self.cut,
            self.choose,
            self.extreme,
        ]
        for _ in range(12):
            names = list(self.shapes)
            steps[self.rng.integers(len(steps))](names[self.rng.integers(max(0, len(names) - 8), len(names))])

    def graph(self) -> Graph:
        read = {name for node in self.nodes for name in node.inputs}
        ends = [node for node in self.nodes if node.name not in read]
        outputs = tuple(_port(f"y{i}", end.name, end.shape) for i, end in enumerate(ends))
        return Graph((_port("x", "x", self.input),), tuple(self.nodes), outputs or (_port("y", "x", self.input),))

    def emit(
        self, op: str, *inputs: str, params: dict[str, str] | None = None, norm=None, clamp=None, **attributes
    ) -> str:
        roles = params or {}
        given = {role: self.arrays[name].shape for role, name in roles.items()}
        shape = REGISTRY[op].shape(attributes, [self.shapes[name] for name in inputs], given)
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(
            Node(name, op, inputs, shape, attributes, {r: Param(n) for r, n in roles.items()}, norm, clamp)
        )
        self.shapes[name] = shape
        return name

    def parameter(self, *shape: int) -> str:
        name = f"p{len(self.arrays)}"
        self.arrays[name] = np.abs(random(*shape, seed=len(self.arrays))) + 0.1
        return name

    def image(self, value: str) -> None:
        """An operator on channels-last images between two transposes."""
        shape = self.shapes[value]
        if len(shape) != 4:
            return
        channels = shape[1]
        last = self.emit("transpose", value, permutation=(0, 2, 3, 1))
        kind = self.rng.integers(5)
        if kind == 0:
            weights = {"weight": self.parameter(4, 2, 1, channels), "bias": self.parameter(4)}
            out = self.emit("conv2d", last, params=weights, dilation=(1, 1), groups=1, **WINDOW)
        elif kind == 1:
            weights = {"weight": self.parameter(2, 1, channels)}
            out = self.emit("depthwise_conv2d", last, params=weights, dilation=(1, 1), **WINDOW)
        elif kind == 2:
            mean, variance, gain, shift = (Param(self.parameter(channels)) for _ in range(4))
            out = self.emit("batch_norm", last, norm=Norm(mean, variance, gain, shift, 1e-5))
        elif kind == 3:
            out = self.emit("max_pool2d", last, kernel=(2, 1), **WINDOW)
        else:
            out = self.emit("softmax", last)
        self.emit("transpose", out, permutation=(0, 3, 1, 2))

    def clamp(self, value: str) -> None:
        self.emit("rescale", value, clamp=Clamp(-0.5, float(self.rng.integers(1, 3))))

    def join(self, value: str) -> None:
        shape = self.shapes[value]
        others = [name for name, other in self.shapes.items() if other == shape]
        other = others[self.rng.integers(len(others))]
        if self.rng.integers(2):
            self.emit(str(self.rng.choice(["add", "maximum", "minimum"])), value, other)
        elif math.prod(shape[1:]) < 2000:
            self.emit("concatenation", value, other, axis=int(self.rng.integers(1, len(shape))))

    def order(self, value: str) -> None:
        rank = len(self.shapes[value])
        axes = tuple(int(axis) + 1 for axis in self.rng.permutation(rank - 1))
        self.emit("transpose", value, permutation=(0, *axes))

    def regroup(self, value: str) -> None:
        shape = self.shapes[value]
        axis = int(self.rng.integers(1, len(shape)))
        if self.rng.integers(2) and len(shape) > 2:
            axis = min(axis, len(shape) - 2)
            self._reshape(value, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))
        elif shape[axis] % 2 == 0 and len(shape) < 5:
            self._reshape(value, (*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1 :]))
        elif len(shape) > 2:
            self._reshape(value, (BATCH, math.prod(shape[1:])))

    def _reshape(self, value: str, shape: Shape) -> None:
        name = f"reshape{len(self.nodes)}"
        self.nodes.append(Node(name, "reshape", (value,), shape, {"shape": shape}))
        self.shapes[name] = shape

    def average(self, value: str) -> None:
        rank = len(self.shapes[value])
        if rank > 2:
            self.emit("mean", value, axes=(int(self.rng.integers(1, rank)),), keep_dims=int(self.rng.integers(2)))

    def matrix(self, value: str) -> None:
        self.emit("fully_connected", value, params={"weight": self.parameter(4, self.shapes[value][-1])})

    def pad(self, value: str) -> None:
        rank = len(self.shapes[value])
        self.emit("pad", value, paddings=(0, 0, *(int(n) for n in self.rng.integers(0, 2, 2 * rank - 2))))

    def cut(self, value: str) -> None:
        """Half of an axis, forwards or backwards, or every other cell of it."""
        shape = self.shapes[value]
        axis = int(self.rng.integers(1, len(shape)))
        step = int(self.rng.choice([1, 2, -1]))
        cells = range(shape[axis])[:: step if shape[axis] > 1 else 1][: max(shape[axis] // 2, 1)]
        begin, stride, size = [0] * len(shape), [1] * len(shape), list(shape)
        begin[axis], stride[axis], size[axis] = cells[0], cells.step, len(cells)
        self.emit("slice", value, begin=tuple(begin), stride=tuple(stride), size=tuple(size))

    def choose(self, value: str) -> None:
        axis = int(self.rng.integers(1, len(self.shapes[value])))
        count = self.shapes[value][axis]
        self.emit("gather", value, axis=axis, indices=tuple(int(i) for i in self.rng.integers(0, count, count)))

    def extreme(self, value: str) -> None:
        rank = len(self.shapes[value])
        if rank > 2:
            op, axis = str(self.rng.choice(["reduce_max", "reduce_min"])), int(self.rng.integers(1, rank))
            self.emit(op, value, axes=(axis,), keep_dims=int(self.rng.integers(2)))


def _port(name: str, value: str, shape: Shape) -> Port:
    return Port(name, value, shape, tuple(range(len(shape))))


@pytest.mark.parametrize("seed", range(150))
def test_the_pipeline_keeps_the_meaning(seed):
    network = RandomNetwork(seed)
    graph = network.graph()
    shapes = shapes_of(network.arrays)
    prepared = prepare(graph, shapes)
    x = [random(2, *network.input[1:], seed=seed)]
    for one, other in zip(evaluate(graph, network.arrays, x), evaluate(prepared, network.arrays, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9, err_msg=graph_text(graph))
    assert "batch_norm" not in ops(prepared)
