"""Transposes sink, cancel, enter weights and leave through the border."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.evaluate import evaluate, node, norm, norm_arrays, ops, port, random, shapes_of
from unfloat.ir.graph import BATCH, Graph, Node, Shape
from unfloat.ir.verify import verify
from unfloat.ops import REGISTRY
from unfloat.passes import sink_transposes
from unfloat.passes._regroup import groups

N = BATCH
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
CONV = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1}


def transpose(name: str, value: str, shape: Shape, axes: Shape) -> Node:
    return node("transpose", name, value, shape, permutation=axes)


def conv(name: str, value: str, shape: Shape) -> list[Node]:
    """A 1x1 convolution on NCHW, as the reader writes it; `shape` is that of its value, NCHW."""
    n, c, h, w = shape
    return [
        transpose(f"{name}:last", value, (n, h, w, -1), LAST),
        node("conv2d", f"{name}:conv", f"{name}:last", (n, h, w, c), {"weight": f"{name}.weight"}, **CONV),
        transpose(name, f"{name}:conv", shape, FIRST),
    ]


def graph_of(nodes: list[Node], outputs: str, **inputs: Shape) -> Graph:
    """A Graph whose shapes are derived: the ones given above need not be right."""
    shapes = dict(inputs)
    fixed = []
    for n in nodes:
        params = {role: SHAPES[p.name] for role, p in n.params.items()}
        shapes[n.name] = REGISTRY[n.op].shape(n.attributes, [shapes[i] for i in n.inputs], params)
        fixed.append(Node(n.name, n.op, n.inputs, shapes[n.name], n.attributes, n.params, n.norm, n.clamp))
    ports = tuple(port(f"out_{i}", shapes[value], value) for i, value in enumerate(outputs.split()))
    return Graph(tuple(port(name, shape) for name, shape in inputs.items()), tuple(fixed), ports)


ARRAYS = {
    "a.weight": random(6, 1, 1, 4),
    "b.weight": random(6, 1, 1, 6, seed=1),
    "k": random(6, 1, 1, seed=2).reshape(1, 6, 1, 1),
    "fc.weight": random(5, 6 * 3 * 2, seed=3),
    "rows.weight": random(5, 2, seed=4),
    **norm_arrays("bn", 6),
    **norm_arrays("flat", 36),
}
SHAPES = shapes_of(ARRAYS)


def sunk(nodes: list[Node], outputs: str, transposes: int, **inputs: Shape) -> Graph:
    """Run the pass; check that the meaning stays, and count transposes."""
    before = graph_of(nodes, outputs, **inputs)
    verify(before, REGISTRY, SHAPES)
    after = sink_transposes.run(before)
    verify(after, REGISTRY, SHAPES)
    x = [random(2, *shape[1:], seed=i) for i, shape in enumerate(inputs.values())]
    for one, other in zip(evaluate(before, ARRAYS, x), evaluate(after, ARRAYS, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    assert ops(after).count("transpose") == transposes
    return after


X = (N, 4, 3, 2)
Y = (N, 6, 3, 2)
ELEMENTWISE = {
    "rescale": [node("rescale", "y", "a", Y, clamp=(0, 1))],
    "dropout": [node("dropout", "y", "a", Y, rate=0.5, channels=0)],
    "add": [node("add", "y", "a a", Y)],
    "constant": [node("constant", "k", "", (1, 6, 1, 1), {"value": "k"}), node("mul", "y", "a k", Y)],
    "pad": [node("pad", "y", "a", Y, paddings=(0, 0, 0, 0, 1, 2, 3, 0))],
    "concatenation": [node("concatenation", "y", "a a", Y, axis=1)],
    "mean": [node("mean", "y", "a", Y, axes=(2, 3), keep_dims=1)],
    "mean of rows": [node("mean", "y", "a", Y, axes=(2,), keep_dims=1)],
    "softmax over channels": [
        transpose("y:last", "a", Y, LAST),
        node("softmax", "y:soft", "y:last", Y),
        transpose("y", "y:soft", Y, FIRST),
    ],
    "norm": [
        transpose("y:last", "a", Y, LAST),
        node("batch_norm", "y:norm", "y:last", Y, norm=norm("bn")),
        transpose("y", "y:norm", Y, FIRST),
    ],
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nothing_is_left_around(name):
    graph = sunk([*conv("a", "x", Y), *ELEMENTWISE[name]], "y", 0, x=X)
    assert graph.inputs[0].permutation == LAST
    assert graph.outputs[0].permutation == FIRST
    if name not in ("concatenation", "pad"):
        image = graph_of([*conv("a", "x", Y), *ELEMENTWISE[name]], "y", x=X).outputs[0].shape
        after = [*conv("a", "x", Y), *ELEMENTWISE[name], *conv("b", "y", (N, 6, *image[2:]))]
        sunk(after, "b", 0, x=X)


def test_a_mean_drops_axes():
    graph = sunk([*conv("a", "x", Y), node("mean", "y", "a", (N, 6), axes=(2, 3), keep_dims=0)], "y", 0, x=X)
    assert graph.outputs[0].permutation == (0, 1)
    graph = sunk([*conv("a", "x", Y), node("mean", "y", "a", (N, 6, 2), axes=(2,), keep_dims=0)], "y", 0, x=X)
    assert graph.outputs[0].permutation == (0, 2, 1)


FLATTEN = node("reshape", "flat", "a", (N, 36), shape=(N, 36))
FC = node("fully_connected", "fc", "flat", (N, 5), {"weight": "fc.weight"})


def test_a_flattened_image_goes_into_the_weight():
    graph = sunk([*conv("a", "x", Y), FLATTEN, FC], "fc", 0, x=X)
    assert [view.kind for view in graph.nodes[-1].params["weight"].views] == ["reshape", "permute", "reshape"]


def test_elementwise_operators_may_stand_between():
    between = [
        node("rescale", "r", "flat", (N, 36), clamp=(0, 9)),
        node("dropout", "d", "r", (N, 36), rate=0.5, channels=0),
    ]
    last = node("fully_connected", "fc", "d", (N, 5), {"weight": "fc.weight"})
    sunk([*conv("a", "x", Y), FLATTEN, *between, last], "fc", 0, x=X)


def test_another_reader_of_the_flat_value_gets_its_order():
    graph = sunk([*conv("a", "x", Y), FLATTEN, FC], "fc flat", 1, x=X)
    assert graph.outputs[1].shape == (N, 36)
    between = node("batch_norm", "bn", "flat", (N, 36), norm=norm("flat"))
    last = node("fully_connected", "fc", "bn", (N, 5), {"weight": "fc.weight"})
    sunk([*conv("a", "x", Y), FLATTEN, between, last], "fc", 1, x=X)


def test_one_pixel_needs_no_order():
    flat = node("reshape", "flat", "a", (N, 6), shape=(N, 6))
    graph = sunk([*conv("a", "x", (N, 6, 1, 1)), flat], "flat", 0, x=(N, 4, 1, 1))
    assert graph.outputs[0].permutation == (0, 1)


def test_a_channel_shuffle_is_one_transpose():
    shuffle = [
        node("reshape", "split", "a", (N, 2, 3, 3, 2), shape=(N, 2, 3, 3, 2)),
        transpose("swap", "split", (N, 3, 2, 3, 2), (0, 2, 1, 3, 4)),
        node("reshape", "join", "swap", Y, shape=Y),
    ]
    graph = sunk([*conv("a", "x", Y), *shuffle, *conv("b", "join", Y)], "b", 1, x=X)
    assert ops(graph) == ["conv2d", "reshape", "transpose", "reshape", "conv2d"]


def test_operands_in_different_orders_meet_in_the_order_that_is_pending():
    nodes = [*conv("a", "x", Y), node("add", "y", "a given", Y), *conv("b", "y", Y)]
    graph = sunk(nodes, "b", 0, x=X, given=Y)
    assert [p.permutation for p in graph.inputs] == [LAST, LAST]
    nodes = [*conv("a", "x", Y), node("softmax", "s", "given", Y), node("add", "y", "a s", Y), *conv("b", "y", Y)]
    graph = sunk(nodes, "b", 1, x=X, given=Y)


def test_an_operator_that_insists_gets_its_order_once():
    fc = [node("fully_connected", name, "a", Y, {"weight": "rows.weight"}) for name in ("first", "second")]
    graph = sunk([*conv("a", "x", Y), *fc], "first second", 1, x=X)
    assert ops(graph) == ["conv2d", "transpose", "fully_connected", "fully_connected"]


def test_the_input_keeps_its_layout_where_nothing_is_gained():
    graph = sunk([node("rescale", "y", "x", X, clamp=(0, 1))], "y", 0, x=X)
    assert graph.inputs[0].permutation == graph.outputs[0].permutation == (0, 1, 2, 3)


def test_inverse_transposes_cancel():
    nodes = [transpose("t", "x", X, LAST), transpose("u", "t", X, FIRST), node("rescale", "y", "u", X, clamp=(0, 1))]
    assert ops(sunk(nodes, "y", 0, x=X)) == ["rescale"]


def test_a_second_run_changes_nothing():
    graph = sunk([*conv("a", "x", Y), FLATTEN, FC], "fc", 0, x=X)
    assert sink_transposes.run(graph) == graph


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((N, 6, 5), (N, 6, 5), [([0], [0]), ([1], [1]), ([2], [2])]),
        ((N, 6, 5), (N, 30), [([0], [0]), ([1, 2], [1])]),
        ((N, 6, 5), (N, 2, 3, 5), [([0], [0]), ([1], [1, 2]), ([2], [3])]),
        ((N, 6, 1, 1), (N, 6), [([0], [0]), ([1], [1])]),
        ((N, 6), (N, 1, 6, 1), [([0], [0, 1]), ([1], [2, 3])]),
        ((N, 4, 1, 6), (N, 2, 12), [([0], [0]), ([1, 3], [1, 2])]),
        ((N, 1), (N, 1, 1), [([0], [0, 1, 2])]),
    ],
)
def test_runs_of_a_reshape(source, target, expected):
    assert [(run.source, run.target) for run in groups(source, target)] == expected
