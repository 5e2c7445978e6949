"""Equalisation: the float function stays on what was observed, ranges become even, and what may not move does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.passes.evaluate import evaluate, node, norm, norm_arrays, port, random
from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Norm, Param, Port
from unfloat.passes.equalize import Reach, equalize, producers

PLAIN = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
RELU, RELU6 = (0.0, np.inf), (0.0, 6.0)
Arrays = dict[str, np.ndarray]


def reaches(graph: Graph, arrays: Arrays, x: np.ndarray) -> dict[str, Reach]:
    """What each producer's values reach before the clamp."""
    result = {}
    for producer in producers(graph):
        count = graph.nodes.index(producer) + 1
        nodes = (*graph.nodes[: count - 1], replace(producer, clamp=None))
        (values,) = evaluate(
            replace(graph, nodes=nodes, outputs=(port("y", producer.shape, producer.name),)), arrays, [x]
        )
        rows = values.reshape(-1, values.shape[-1])
        result[producer.name] = Reach(rows.min(axis=0), rows.max(axis=0))
    return result


def factors_on(graph: Graph, arrays: Arrays, x: np.ndarray) -> Arrays:
    everything = {**arrays, **graph.constants}
    return equalize(graph, everything.__getitem__, reaches(graph, arrays, x))


def scaled(arrays: Arrays, factors: Arrays) -> Arrays:
    for name, factor in factors.items():
        assert factor.shape == arrays[name].shape
        assert (factor > 0).all()
    return {name: array * factors.get(name, 1.0) for name, array in arrays.items()}


class Chain:
    """A random chain of linear nodes, parameters laid out as PyTorch keeps them, channel ranges far apart."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.arrays: Arrays = {}
        self.nodes: list[Node] = []
        self.value, self.shape = "x", (BATCH, 8, 8, 3)
        for _ in range(4):
            self.linear()
            self.between()
        self.head()
        outputs = (port("y", self.shape, self.value),)
        self.graph = Graph((port("x", (BATCH, 8, 8, 3)),), tuple(self.nodes), outputs)

    def add(self, op: str, shape: tuple[int, ...], **slots: object) -> None:
        name = f"{op}{len(self.nodes)}"
        attributes = slots.pop("attributes", {})
        self.nodes.append(Node(name, op, (self.value,), shape, attributes, **slots))  # type: ignore[arg-type]
        self.value, self.shape = name, shape

    def uneven(self, *shape: int) -> str:
        name = f"p{len(self.arrays)}"
        spread = 10.0 ** self.rng.uniform(-1.5, 1.5, (shape[0], *[1] * (len(shape) - 1)))
        self.arrays[name] = self.rng.standard_normal(shape) * spread / np.sqrt(np.prod(shape[1:]))
        return name

    def slots(self, channels: int) -> dict[str, object]:
        """Bias or none, norm or none, one of the clamps."""
        bounds = [None, RELU, RELU6, (-1.0, 1.0), (0.5, 2.0), (-np.inf, 3.0)][self.rng.integers(6)]
        slots: dict[str, object] = {"clamp": bounds and Clamp(*bounds)}
        if self.rng.integers(2):
            prefix = f"n{len(self.nodes)}"
            self.arrays |= norm_arrays(prefix, channels)
            self.arrays[f"{prefix}.weight"] = self.arrays[f"{prefix}.weight"] * 10 ** self.rng.uniform(-2, 1, channels)
            slots["norm"] = norm(prefix)
        return slots

    def linear(self) -> None:
        channels = self.shape[-1]
        size = tuple(s - 1 for s in self.shape[1:3])
        if self.rng.integers(2):
            weight = (
                Param(self.uneven(2 * channels, 1, 2, 2)).then("reshape", 2 * channels, 2, 2).then("permute", 1, 2, 0)
            )
            op, out, attributes = "depthwise_conv2d", 2 * channels, PLAIN
        else:
            weight = Param(self.uneven(5, channels, 2, 2)).then("permute", 0, 2, 3, 1)
            op, out, attributes = "conv2d", 5, {**PLAIN, "groups": 1}
        slots = self.slots(out)
        bias = {"bias": Param(self.uneven(out))} if self.rng.integers(2) else {}
        self.add(op, (BATCH, *size, out), attributes=attributes, params={"weight": weight, **bias}, **slots)

    def between(self) -> None:
        kind, (_, rows, columns, channels) = self.rng.integers(5), self.shape
        if kind == 0:
            pool = {"kernel": (2, 1), "stride": (1, 1), "padding": (1, 0, 0, 0)}
            self.add(["max_pool2d", "average_pool2d"][self.rng.integers(2)], self.shape, attributes=pool)
        if kind == 1:
            paddings = {"paddings": (0, 0, 1, 0, 0, 1, 0, 0)}
            self.add("pad", (BATCH, rows + 1, columns + 1, channels), attributes=paddings)
        if kind == 2:
            self.add("rescale", self.shape, clamp=Clamp(-0.5, 4.0))

    def head(self) -> None:
        _, rows, columns, channels = self.shape
        if self.rng.integers(2):
            self.add("mean", (BATCH, 1, 1, channels), attributes={"axes": (1, 2), "keep_dims": 1})
            rows = columns = 1
        width = rows * columns * channels
        self.add("reshape", (BATCH, width), attributes={"shape": (BATCH, width)})
        weight = Param(self.uneven(4, width)).then("reshape", 4, channels, rows, columns)
        weight = weight.then("permute", 0, 2, 3, 1).then("reshape", 4, width)
        self.add("fully_connected", (BATCH, 4), params={"weight": weight})


@pytest.mark.parametrize("seed", range(40))
def test_the_float_function_stays(seed: int) -> None:
    chain = Chain(seed)
    x = random(3, 8, 8, 3, seed=seed)
    factors = factors_on(chain.graph, chain.arrays, x)
    (wanted,) = evaluate(chain.graph, chain.arrays, [x])
    (found,) = evaluate(chain.graph, scaled(chain.arrays, factors), [x])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    assert factors


def two(clamp: tuple[float, float] | None, *between: Node, channels: int = 4, **first: object) -> Graph:
    """A pointwise convolution `a`, what is between, a pointwise convolution `b` that reads the last of these."""
    shape = (BATCH, 1, 1, channels)
    a = node("conv2d", "a", "x", shape, {"weight": "a.weight", "bias": "a.bias"}, None, clamp, **PLAIN, groups=1)
    last = between[-1].name if between else "a"
    b = node("conv2d", "b", last, (BATCH, 1, 1, 2), {"weight": "b.weight"}, **PLAIN, groups=1)
    return Graph((port("x", (BATCH, 1, 1, 3)),), (replace(a, **first), *between, b), (port("y", b.shape, "b"),))


def arrays_of(produced: np.ndarray, consumed: np.ndarray) -> Arrays:
    """Weights whose channels have these ranges."""
    count = len(produced)
    a, b = random(count, 1, 1, 3, seed=1), random(2, 1, 1, count, seed=2)
    a *= (produced / np.abs(a).max(axis=(1, 2, 3)))[:, None, None, None]
    b *= consumed / np.abs(b).max(axis=(0, 1, 2))
    return {"a.weight": a, "a.bias": np.ones(count), "b.weight": b}


def scales(graph: Graph, arrays: Arrays, greatest: np.ndarray, least: np.ndarray | None = None) -> np.ndarray:
    """The scale of each of a's channels where these are the values it reaches; weight and consumer agree with it."""
    reach = {"a": Reach(-greatest if least is None else least, greatest)}
    factors = equalize(graph, arrays.__getitem__, reach)
    scale = 1 / factors.get("a.bias", np.ones(len(greatest)))
    np.testing.assert_allclose(factors.get("a.weight", np.ones((len(greatest), 1, 1, 3)))[:, 0, 0, 0], 1 / scale)
    np.testing.assert_allclose(factors.get("b.weight", np.ones((2, 1, 1, len(greatest))))[0, 0, 0], scale)
    return scale


SPREAD = np.array([1.0, 1000.0, 0.03, 20.0])


def test_channels_get_the_same_share_of_both_ranges() -> None:
    arrays = arrays_of(SPREAD * np.array([1.0, 0.5, 2.0, 0.7]), 1 / SPREAD)
    scale = scales(two(RELU), arrays, SPREAD)
    produced = np.abs(arrays["a.weight"]).max(axis=(1, 2, 3)) / scale
    consumed = np.abs(arrays["b.weight"]).max(axis=(0, 1, 2)) * scale
    np.testing.assert_allclose(produced / produced.max(), consumed / consumed.max(), rtol=2e-3)
    assert produced.max() / produced.min() == pytest.approx(2.0, rel=2e-3)  # 4 apart in product, 2 in each


def test_channels_that_reach_a_clamp_stay_and_the_others_grow_no_further_than_to_it() -> None:
    graph, even = two(RELU6), np.ones(4)
    arrays = arrays_of(np.array([1.0, 0.01, 0.01, 100.0]), even)
    scale = scales(graph, arrays, greatest=np.array([6.0, 3.0, 1e-3, 7.0]))
    assert scale[0] == scale[3] == 1
    assert scale[1] == 0.5
    assert 1e-3 / 6 < scale[2] < 0.1
    assert scales(graph, arrays, np.array([5.0, 3.0, 1e-3, 7.0]))[0] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("clamp", "least", "moves"),
    [
        ((-1.0, 1.0), -1.0, False),
        ((-1.0, 1.0), -0.9, True),
        ((-np.inf, 1.0), -50.0, True),
        ((0.0, 1.0), -50.0, True),
        ((-0.9, np.inf), -1.0, False),
        ((0.1, 1.0), 0.2, False),
        ((-5.0, -0.1), -1.0, False),
        (None, -50.0, True),
    ],
)
def test_both_ends_of_a_clamp_count(clamp: tuple[float, float] | None, least: float, moves: bool) -> None:
    arrays = arrays_of(SPREAD, np.ones(4))
    scale = scales(two(clamp), arrays, np.array([0.5, 1e6, 0.5, 0.5]), np.full(4, least))
    assert bool(scale[0] != 1) == moves


def test_every_clamp_on_the_way_counts_by_itself() -> None:
    """The average of clamped values: a clamp after it does not lift the one before it."""
    mean = node("mean", "mean", "a", (BATCH, 1, 1, 4), axes=(1, 2), keep_dims=1)
    relu = node("rescale", "relu", "mean", (BATCH, 1, 1, 4), clamp=RELU)
    arrays = arrays_of(SPREAD, np.ones(4))
    least, greatest = np.array([-2.0, -0.5, -0.5, -0.5]), np.array([0.5, 1e6, 0.5, 0.5])
    scale = scales(two((-1.0, 1.0), mean, relu), arrays, greatest, least)
    assert (scale != 1).tolist() == [False, False, True, True]
    scale = scales(two(None, mean, replace(relu, clamp=Clamp(0, 0.4))), arrays, greatest, least)
    assert (scale == 1).all()


def test_no_channel_stretches_the_range_of_all() -> None:
    """Hardly any weights and a bias: the channel may grow to the range that the value has, not by what its weights ask."""
    arrays = arrays_of(np.array([1.0, 1.0, 1e-12, 1.0]), np.ones(4))
    for low in (-1.0, 0.0):  # a channel that ReLU always silences has no reason to grow either
        scale = scales(two(RELU), arrays, np.array([4.0, 2.0, 1.0 + low, 3.0]), np.array([0.0, 0.0, low, 0.0]))
        assert scale[2] == 0.25


@pytest.mark.parametrize(("produced", "consumed"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_empty_channels_stay(produced: float, consumed: float) -> None:
    arrays = arrays_of(np.ones(4), SPREAD)
    arrays["a.weight"][2] *= produced
    arrays["b.weight"][..., 2] *= consumed
    scale = scales(two(RELU), arrays, np.ones(4))
    assert scale[2] == 1
    assert np.isfinite(scale).all()
    assert scale[0] != 1
    arrays["a.weight"][:] = 0
    assert (scales(two(RELU), arrays, np.zeros(4)) == 1).all()


def test_norms_are_scaled_at_their_affine_parameters_only() -> None:
    graph = two(RELU, norm=norm("n"))
    arrays = {**arrays_of(np.ones(4), SPREAD), **norm_arrays("n", 4)}
    factors = equalize(graph, arrays.__getitem__, {"a": Reach(-np.ones(4), np.ones(4))})
    assert set(factors) == {"n.weight", "n.bias", "b.weight"}
    np.testing.assert_allclose(factors["n.weight"], factors["n.bias"])
    np.testing.assert_allclose(factors["n.weight"] * factors["b.weight"][0, 0, 0], 1)


def test_the_ranges_of_folded_weights_count() -> None:
    """A gain that evens the weights out leaves nothing to do."""
    graph = two(RELU, norm=replace(norm("n"), eps=0.0))
    arrays = {**arrays_of(SPREAD, np.ones(4)), **norm_arrays("n", 4)}
    arrays["n.weight"] = -np.sqrt(arrays["n.running_var"]) / SPREAD
    factors = equalize(graph, arrays.__getitem__, {"a": Reach(-np.ones(4), np.ones(4))})
    assert all(np.allclose(factor, 1, atol=1e-9) for factor in factors.values())


IMAGE = (BATCH, 1, 1, 4)


def with_constant(graph: Graph, name: str, like: tuple[int, ...]) -> Graph:
    return replace(graph, constants={name: np.ones(like)})


def reader(graph: Graph) -> Graph:
    """With a node that reads a as well."""
    return replace(
        graph, nodes=(*graph.nodes, node("rescale", "c", "a", IMAGE)), outputs=(*graph.outputs, port("z", IMAGE, "c"))
    )


def sharing(graph: Graph, param: str, shape: tuple[int, ...]) -> Graph:
    """With a node elsewhere that reads a parameter too."""
    constant = Node("c", "constant", (), shape, params={"value": Param(param)})
    return replace(graph, nodes=(constant, *graph.nodes), outputs=(*graph.outputs, Port("z", "c", shape, (0,))))


BARE_NORM = Norm(Param("n.running_mean"), Param("n.running_var"), None, None, 1e-5)
UNTOUCHABLE = {
    "read twice": reader(two(RELU)),
    "an output": replace(two(RELU), outputs=(port("y", (BATCH, 1, 1, 2), "b"), port("z", IMAGE, "a"))),
    "a norm without gain": two(RELU, norm=BARE_NORM),
    "a constant before": with_constant(two(RELU), "a.weight", (4, 1, 1, 3)),
    "a constant after": with_constant(two(RELU), "b.weight", (2, 1, 1, 4)),
    "a shared bias": sharing(two(RELU), "a.bias", (4,)),
    "a shared consumer": sharing(two(RELU), "b.weight", (2, 1, 1, 4)),
    "a shared norm": sharing(two(RELU, norm=norm("n")), "n.bias", (4,)),
    "softmax between": two(None, node("softmax", "s", "a", IMAGE)),
    "a mean over channels": two(None, node("mean", "s", "a", (BATCH, 1, 1, 1), axes=(3,), keep_dims=1)),
    "padded channels": two(None, node("pad", "s", "a", (BATCH, 1, 1, 5), paddings=(0, 0, 0, 0, 0, 0, 1, 0))),
    "split channels": two(None, node("reshape", "s", "a", (BATCH, 1, 2, 2), shape=(BATCH, 1, 2, 2))),
    "a transpose": two(None, node("transpose", "s", "a", IMAGE, permutation=(0, 3, 2, 1))),
}


@pytest.mark.parametrize("graph", UNTOUCHABLE.values(), ids=UNTOUCHABLE)
def test_what_cannot_be_scaled_is_left_alone(graph: Graph) -> None:
    arrays = {**arrays_of(SPREAD, np.ones(4)), **norm_arrays("n", 4)}
    assert producers(graph) == ()
    assert equalize(graph, arrays.__getitem__, {}) == {}


def test_frozen_parameters_and_grouped_consumers_stay() -> None:
    graph = two(RELU)
    assert producers(graph) == graph.nodes[:1]
    for name in ("a.weight", "a.bias", "b.weight"):
        assert producers(graph, {name}) == ()
    grouped = replace(graph.nodes[1], attributes={**PLAIN, "groups": 2})
    assert producers(replace(graph, nodes=(graph.nodes[0], grouped))) == ()


def test_the_operand_read_twice_by_one_node_is_read_twice() -> None:
    square = node("add", "square", "a a", IMAGE)
    assert producers(two(None, square)) == ()
