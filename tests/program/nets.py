"""Small hand-made Programs for tests that need no PyTorch."""

from __future__ import annotations

import numpy as np

from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Param, Port
from unfloat.program.lower import Quantization, lower
from unfloat.program.program import Program
from unfloat.spec.qparams import qparams_from_range


def small_net() -> Program:
    """conv -> (conv -> add) -> mean -> fully connected: a residual, a reshape, an in-place add."""
    rng = np.random.default_rng(0)
    arrays = {
        "a.weight": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "b.weight": rng.normal(0, 0.2, (8, 3, 3, 8)),
        "b.bias": rng.normal(0, 0.2, 8),
        "fc.weight": rng.normal(0, 0.3, (5, 8)),
        "fc.bias": rng.normal(0, 0.3, 5),
    }
    conv = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), "groups": 1}
    image = (BATCH, 6, 5, 8)
    nodes = (
        Node("a", "conv2d", ("x",), image, conv, {"weight": Param("a.weight")}, clamp=Clamp(0.0, 6.0)),
        Node("b", "conv2d", ("a",), image, conv, {"weight": Param("b.weight"), "bias": Param("b.bias")}),
        Node("sum", "add", ("a", "b"), image, clamp=Clamp(0.0, float("inf"))),
        Node("pool", "mean", ("sum",), (BATCH, 1, 1, 8), {"axes": (1, 2), "keep_dims": 1}),
        Node("flat", "reshape", ("pool",), (BATCH, 8), {"shape": (BATCH, 8)}),
        Node(
            "fc", "fully_connected", ("flat",), (BATCH, 5), {}, {"weight": Param("fc.weight"), "bias": Param("fc.bias")}
        ),
    )
    graph = Graph((Port("x", "x", (BATCH, 6, 5, 3), (0, 2, 3, 1)),), nodes, (Port("y", "fc", (BATCH, 5), (0, 1)),))
    ranges = {"x": (-1, 1), "a": (0, 3), "b": (-2, 2), "sum": (0, 4), "pool": (0, 2), "flat": (0, 2), "fc": (-2, 2)}
    labels = {name: qparams_from_range(*pair) for name, pair in ranges.items()}
    return lower(graph, Quantization(labels), arrays.__getitem__, {"made_by": "a test"})


def small_codes(batch: int = 2) -> np.ndarray:
    """Codes for `small_net`."""
    return np.random.default_rng(1).integers(-128, 128, (batch, 6, 5, 3)).astype(np.int8)
