"""Dead nodes, identities, constants, means and shared ranges."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.evaluate import evaluate, node, ops, port, random, shapes_of
from unfloat.ir.graph import BATCH, Graph, Node
from unfloat.ir.verify import verify
from unfloat.ops import REGISTRY
from unfloat.passes import fold_constants, pool_to_mean, remove_dead, remove_identity, share_ranges

N = BATCH
IMAGE = (N, 4, 4, 3)
POOL = {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 0, 1, 1)}
ONES = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)}
CONV = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1}
ARRAYS = {"w": random(3, 1, 1, 3), "live": random(1, 1, 1, 3)}


def rewritten(rewrite, nodes: list[Node], outputs: str, constants=None) -> Graph:
    shapes = {"x": IMAGE, **{n.name: n.shape for n in nodes}}
    ports = tuple(port(f"out_{i}", shapes[value], value) for i, value in enumerate(outputs.split()))
    before = Graph((port("x", IMAGE),), tuple(nodes), ports, constants or {})
    verify(before, REGISTRY, shapes_of(ARRAYS))
    after = rewrite(before)
    verify(after, REGISTRY, shapes_of(ARRAYS))
    x = [random(2, 4, 4, 3, seed=3)]
    for one, other in zip(evaluate(before, ARRAYS, x), evaluate(after, ARRAYS, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    return after


def conv(name: str, value: str) -> Node:
    return node("conv2d", name, value, IMAGE, {"weight": "w"}, **CONV)


def test_dead_nodes_and_constants_go():
    nodes = [conv("a", "x"), node("constant", "k", "", (1, 1, 1, 3), {"value": "k"}), node("add", "dead", "a k", IMAGE)]
    graph = rewritten(remove_dead.run, nodes, "a", {"k": np.ones((1, 1, 1, 3))})
    assert ops(graph) == ["conv2d"]
    assert not graph.constants


def test_identities_go():
    nodes = [
        node("reshape", "a", "x", IMAGE, shape=IMAGE),
        node("transpose", "b", "a", IMAGE, permutation=(0, 1, 2, 3)),
        node("dropout", "c", "b", IMAGE, rate=0.0, channels=1),
        node("average_pool2d", "d", "c", IMAGE, **ONES),
        node("max_pool2d", "e", "d", IMAGE, **ONES),
        node("rescale", "f", "e", IMAGE),
        node("pad", "g", "f", IMAGE, paddings=(0,) * 8),
        node("concatenation", "h", "g", IMAGE, axis=1),
        conv("i", "h"),
    ]
    graph = rewritten(remove_identity.run, nodes, "i h")
    assert ops(graph) == ["conv2d"]
    assert graph.outputs[1].value == "x"


def test_reshapes_join():
    nodes = [
        node("reshape", "a", "x", (N, 48), shape=(N, 48)),
        node("reshape", "b", "a", (N, 16, 3), shape=(N, 16, 3)),
        node("reshape", "c", "b", IMAGE, shape=IMAGE),
    ]
    graph = remove_dead.run(rewritten(remove_identity.run, nodes, "b c"))
    assert [(n.name, n.inputs) for n in graph.nodes] == [("b", ("x",))]
    assert graph.outputs[1].value == "x"


def test_what_acts_stays():
    nodes = [
        node("dropout", "a", "x", IMAGE, rate=0.5, channels=0),
        node("rescale", "b", "a", IMAGE, clamp=(0, 1)),
        node("max_pool2d", "c", "b", IMAGE, **POOL),
    ]
    assert ops(rewritten(remove_identity.run, nodes, "c")) == ["dropout", "rescale", "max_pool2d"]


def test_a_pool_over_the_whole_image_is_a_mean():
    window = {"kernel": (4, 4), "stride": (3, 1), "padding": (0, 0, 0, 0)}
    graph = rewritten(pool_to_mean.run, [conv("a", "x"), node("average_pool2d", "p", "a", (N, 1, 1, 3), **window)], "p")
    assert ops(graph) == ["conv2d", "mean"]


def test_a_pool_over_a_single_pixel_stays_a_pool():
    pixel = (N, 1, 1, 3)
    nodes = [
        node("max_pool2d", "p", "x", pixel, kernel=(4, 4), stride=(1, 1), padding=(0, 0, 0, 0)),
        node("average_pool2d", "q", "p", pixel, **{**ONES, "stride": (2, 2)}),
    ]
    assert ops(rewritten(pool_to_mean.run, nodes, "q")) == ["max_pool2d", "average_pool2d"]


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((N, 1, 2, 3), {"kernel": (4, 3), "stride": (1, 1), "padding": (0, 0, 0, 0)}),
        ((N, 1, 2, 3), {"kernel": (4, 4), "stride": (1, 1), "padding": (0, 1, 0, 0)}),
        (IMAGE, ONES),
    ],
)
def test_a_pool_over_a_part_stays_a_pool(shape, window):
    assert ops(rewritten(pool_to_mean.run, [node("average_pool2d", "p", "x", shape, **window)], "p")) == [
        "average_pool2d"
    ]


def test_constants_fold_and_parameters_stay_live():
    shape = (1, 1, 1, 3)
    constants = {"one": random(*shape, seed=1), "two": random(*shape, seed=2)}
    nodes = [
        node("constant", "one", "", shape, {"value": "one"}),
        node("constant", "two", "", shape, {"value": "two"}),
        node("constant", "live", "", shape, {"value": "live"}),
        node("add", "sum", "one two", shape, clamp=(-1, 1)),
        node("mul", "product", "sum one", shape),
        node("mul", "kept", "product live", shape),
        node("add", "out", "x kept", IMAGE),
    ]
    graph = remove_dead.run(rewritten(fold_constants.run, nodes, "out", constants))
    assert ops(graph) == ["constant", "constant", "mul", "add"]
    assert list(graph.constants) == ["product"]


def cat(name: str, values: str, channels: int) -> Node:
    return node("concatenation", name, values, (N, 4, 4, channels), axis=3)


def test_free_inputs_share():
    nodes = [conv("a", "x"), conv("b", "x"), node("max_pool2d", "c", "b", IMAGE, **POOL), cat("y", "a c", 6)]
    assert "rescale" not in ops(rewritten(share_ranges.run, nodes, "y"))


def test_a_concatenation_of_a_concatenation_shares():
    nodes = [conv("a", "x"), conv("b", "x"), cat("ab", "a b", 6), conv("c", "x"), cat("abc", "ab c", 9)]
    assert "rescale" not in ops(rewritten(share_ranges.run, nodes, "abc"))


def test_inputs_that_are_not_free_get_a_rescale():
    soft = node("softmax", "s", "x", IMAGE)
    cases = {
        "a graph input": ([conv("a", "x"), cat("y", "a x", 6)], "y", 1),
        "a graph output": ([conv("a", "x"), conv("b", "x"), cat("y", "a b", 6)], "y a", 1),
        "another reader": ([conv("a", "x"), conv("b", "x"), cat("y", "a b", 6), conv("c", "b")], "y c", 1),
        "twice": ([conv("a", "x"), cat("y", "a a", 6)], "y", 2),
        "a fixed range": ([conv("a", "x"), soft, cat("y", "a s", 6)], "y", 1),
        "behind a pool": (
            [conv("a", "x"), node("max_pool2d", "p", "a", IMAGE, **POOL), cat("y", "a p", 6), conv("b", "p")], "y b", 2
        ),
        "read before a pool": (
            [conv("a", "x"), node("max_pool2d", "p", "a", IMAGE, **POOL), conv("b", "a"), cat("y", "p b", 6)], "y", 1
        ),
    }  # fmt: skip
    for name, (nodes, outputs, count) in cases.items():
        assert ops(rewritten(share_ranges.run, nodes, outputs)).count("rescale") == count, name
