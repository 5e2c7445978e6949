"""Norms, clamps and pads move into slots, and only where that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.evaluate import evaluate, node, norm, norm_arrays, ops, port, random, shapes_of
from unfloat.ir.graph import BATCH, Graph, Node, Shape
from unfloat.ir.verify import verify
from unfloat.ops import REGISTRY
from unfloat.passes import fuse_batch_norm, fuse_clamp, fuse_pad, norm_to_depthwise, remove_dead, sink_reshapes

N = BATCH
IMAGE = (N, 5, 4, 3)
CONV = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), "groups": 1}
POOL = {"kernel": (1, 2), "stride": (1, 1), "padding": (0, 1, 0, 0)}
ARRAYS = {
    "w": random(3, 3, 3, 3),
    "d": random(3, 3, 3, seed=5),
    "b": random(3, seed=6),
    "wide": random(2, 1, 1, 6, seed=8),
    **norm_arrays("bn", 3),
}


def conv(name: str, value: str, **slots) -> Node:
    return node("conv2d", name, value, IMAGE, {"weight": "w", "bias": "b"}, **slots, **CONV)


def bn(name: str, value: str, shape: Shape = IMAGE) -> Node:
    return node("batch_norm", name, value, shape, norm=norm("bn"))


def relu(name: str, value: str, high: float = float("inf"), shape: Shape = IMAGE) -> Node:
    return node("rescale", name, value, shape, clamp=(0.0, high))


def rewritten(passes, nodes: list[Node], outputs: str = "", shape: Shape = IMAGE) -> Graph:
    """Run passes on a Graph of these nodes; the meaning must stay."""
    shapes = {"x": shape, **{n.name: n.shape for n in nodes}}
    wanted = (outputs or nodes[-1].name).split()
    ports = tuple(port(f"out_{i}", shapes[value], value) for i, value in enumerate(wanted))
    before = Graph((port("x", shape),), tuple(nodes), ports)
    verify(before, REGISTRY, shapes_of(ARRAYS))
    after = before
    for rewrite in (passes, remove_dead.run) if callable(passes) else (*passes, remove_dead.run):
        after = rewrite(after)
        verify(after, REGISTRY, shapes_of(ARRAYS))
    x = [random(2, *shape[1:], seed=9)]
    for one, other in zip(evaluate(before, ARRAYS, x), evaluate(after, ARRAYS, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    return after


def test_a_norm_goes_into_its_convolution():
    graph = rewritten(fuse_batch_norm.run, [conv("c", "x"), bn("n", "c")])
    assert ops(graph) == ["conv2d"]
    assert graph.nodes[0].norm == norm("bn")
    assert graph.outputs[0].value == "c"


@pytest.mark.parametrize(
    "nodes",
    [
        [conv("c", "x", clamp=(0, 1)), bn("n", "c")],
        [conv("c", "x", norm=norm("bn")), bn("n", "c")],
        [relu("r", "x"), bn("n", "r")],
        [bn("n", "x")],
    ],
)
def test_a_norm_stays_where_no_slot_is_free(nodes):
    assert ops(rewritten(fuse_batch_norm.run, nodes))[-1] == "batch_norm"


def test_a_norm_stays_where_its_input_has_another_reader():
    assert ops(rewritten(fuse_batch_norm.run, [conv("c", "x"), bn("n", "c")], "c n")) == ["conv2d", "batch_norm"]
    two = [conv("c", "x"), bn("n", "c"), node("add", "s", "n c", IMAGE)]
    assert ops(rewritten(fuse_batch_norm.run, two)) == ["conv2d", "batch_norm", "add"]


@pytest.mark.parametrize("shape", [(N, 3), (N, 4, 3), IMAGE, (N, 2, 3, 4, 3)])
def test_a_norm_alone_becomes_a_depthwise_convolution(shape):
    graph = rewritten(norm_to_depthwise.run, [bn("n", "x", shape), bn("m", "n", shape)], shape=shape)
    assert ops(graph).count("depthwise_conv2d") == 2
    assert list(graph.constants) == ["ones:3"]
    assert graph.outputs[0].value == "m"


def test_clamps_fuse_and_compose():
    graph = rewritten(fuse_clamp.run, [conv("c", "x"), relu("r", "c"), relu("s", "r", 6.0), relu("t", "s", 1.0)])
    assert ops(graph) == ["conv2d"]
    assert (graph.nodes[0].clamp.low, graph.nodes[0].clamp.high) == (0, 1)


def test_a_clamp_fuses_into_a_sum_and_a_clamp():
    assert ops(rewritten(fuse_clamp.run, [node("add", "s", "x x", IMAGE), relu("r", "s")])) == ["add"]
    assert ops(rewritten(fuse_clamp.run, [relu("r", "x"), relu("s", "r", 6.0)])) == ["rescale"]


def test_a_clamp_passes_operators_that_only_move_or_choose():
    pool = node("max_pool2d", "p", "c", IMAGE, **POOL)
    flat = node("reshape", "f", "p", (N, 60), shape=(N, 60))
    graph = rewritten(fuse_clamp.run, [conv("c", "x"), pool, flat, relu("r", "f", shape=(N, 60))])
    assert ops(graph) == ["conv2d", "max_pool2d", "reshape"]
    assert graph.nodes[0].clamp is not None
    assert graph.outputs[0].value == "f"


@pytest.mark.parametrize("outputs", ["r c", "r p"])
def test_a_clamp_stays_where_something_else_reads(outputs):
    nodes = [conv("c", "x"), node("max_pool2d", "p", "c", IMAGE, **POOL), relu("r", "p")]
    assert ops(rewritten(fuse_clamp.run, nodes, outputs)) == ["conv2d", "max_pool2d", "rescale"]


def test_a_clamp_stays_after_an_average():
    nodes = [conv("c", "x"), node("average_pool2d", "p", "c", IMAGE, **POOL), relu("r", "p")]
    assert ops(rewritten(fuse_clamp.run, nodes))[-1] == "rescale"


PADDED = (N, 8, 5, 3)
PAD = node("pad", "p", "x", PADDED, paddings=(0, 0, 1, 2, 0, 1, 0, 0))
PLAIN = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 1, 0)}


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_a_pad_goes_into_convolutions(op):
    weight, more = ("w", {"groups": 1}) if op == "conv2d" else ("d", {})
    graph = rewritten(fuse_pad.run, [PAD, node(op, "c", "p", (N, 7, 3, 3), {"weight": weight}, **PLAIN, **more)])
    assert ops(graph) == [op]
    assert graph.nodes[0].attributes["padding"] == (1, 0, 3, 1)


def test_a_pad_stays_for_other_readers():
    convolution = node("conv2d", "c", "p", (N, 7, 3, 3), {"weight": "w"}, groups=1, **PLAIN)
    assert ops(rewritten(fuse_pad.run, [PAD, convolution], "c p")) == ["pad", "conv2d"]


@pytest.mark.parametrize("op", ["max_pool2d", "average_pool2d"])
def test_a_pad_before_a_pool_stays(op):
    assert ops(rewritten(fuse_pad.run, [PAD, node(op, "q", "p", (N, 8, 5, 3), **POOL)])) == ["pad", op]


def test_a_pad_of_channels_stays():
    pad = node("pad", "p", "x", (N, 5, 4, 6), paddings=(0, 0, 0, 0, 0, 0, 1, 2))
    convolution = node("conv2d", "c", "p", (N, 5, 4, 2), {"weight": "wide"}, **{**CONV, "padding": (0, 0, 0, 0)})
    assert ops(rewritten(fuse_pad.run, [pad, convolution])) == ["pad", "conv2d"]


def test_pads_join():
    again = node("pad", "q", "p", (N, 8, 5, 7), paddings=(0, 0, 0, 0, 0, 0, 3, 1))
    graph = rewritten(fuse_pad.run, [PAD, again])
    assert ops(graph) == ["pad"]
    assert graph.nodes[0].attributes["paddings"] == (0, 0, 1, 2, 0, 1, 3, 1)


def test_reshapes_sink_below_elementwise_operators():
    row = (N, 20, 3)
    nodes = [
        conv("c", "x"),
        node("reshape", "row", "c", row, shape=row),
        bn("n", "row", row),
        relu("r", "n", shape=row),
    ]
    graph = rewritten((sink_reshapes.run, remove_dead.run, fuse_batch_norm.run, fuse_clamp.run), nodes)
    assert ops(graph) == ["conv2d", "reshape"]
    assert graph.nodes[0].name == "c"


def test_a_norm_does_not_cross_a_reshape_of_channels():
    flat = (N, 20, 1, 3)
    nodes = [
        conv("c", "x"),
        node("reshape", "f", "c", (N, 60), shape=(N, 60)),
        node("reshape", "g", "f", flat, shape=flat),
        bn("n", "g", flat),
    ]
    assert ops(rewritten(sink_reshapes.run, nodes)) == ["conv2d", "reshape", "reshape", "batch_norm"]
