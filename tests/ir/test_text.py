"""The print of a Graph."""

from __future__ import annotations

from tests.passes.evaluate import node, norm, port
from unfloat.ir.graph import BATCH, Graph
from unfloat.ir.text import graph_text

N = BATCH
IMAGE = (N, 4, 4, 3)
CONV = {"stride": (2, 2), "dilation": (1, 1), "padding": (0, 0, 1, 1), "groups": 1}


def test_one_line_a_node():
    weights = {"weight": "w", "bias": "b"}
    nodes = (
        node("conv2d", "stem.0", "x", IMAGE, weights, norm=norm("stem.1"), clamp=(0, float("inf")), **CONV),
        node("constant", "k", "", (1, 1, 1, 3), {"value": "shift"}),
        node("add", "sum", "stem.0 k", IMAGE, clamp=(-1, 0.5)),
        node("reshape", "flat", "sum", (N, 48), shape=(N, 48)),
        node("dropout", "drop", "flat", (N, 48), rate=0.25, channels=0),
    )
    graph = Graph((port("x", (N, 8, 8, 3), "", (0, 2, 3, 1)),), nodes, (port("y", (N, 48), "drop"),))
    assert graph_text(graph).splitlines() == [
        "input     x       Nx8x8x3  permuted 0,2,3,1",
        "conv2d    stem.0  Nx4x4x3  (x) stride=2,2 padding=0,0,1,1 +bias +norm clamp[0,inf]",
        "constant  k       1x1x1x3  shift",
        "add       sum     Nx4x4x3  (stem.0, k) clamp[-1,0.5]",
        "reshape   flat    Nx48     (sum)",
        "dropout   drop    Nx48     (flat) rate=0.25",
        "output    y       Nx48     = drop",
    ]
