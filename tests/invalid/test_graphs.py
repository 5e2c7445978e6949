"""Graphs that break a rule, and the message that says which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.passes.evaluate import node, norm, port
from unfloat.ir.graph import BATCH, Clamp, Graph, Node, Norm, Param, View
from unfloat.ir.verify import verify, viewed_shape
from unfloat.ops import REGISTRY
from unfloat.spec.errors import InvalidGraphError

N = BATCH
IMAGE = (N, 5, 4, 3)
CONV = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1}
BN = {f"bn.{name}": (3,) for name in ("running_mean", "running_var", "weight", "bias")}
PARAMS = {"w": (3, 1, 1, 3), "b": (3,), "k": (1, 1, 1, 3), "b4": (4,), **BN}
GOOD = (
    node("conv2d", "c", "x", IMAGE, {"weight": "w", "bias": "b"}, norm=norm("bn"), clamp=(0, 6), **CONV),
    node("constant", "k", "", (1, 1, 1, 3), {"value": "k"}),
    node("add", "s", "c k", IMAGE),
    node("dropout", "d", "s", IMAGE, rate=0.5, channels=0),
)


def graph(nodes: tuple[Node, ...] = GOOD, value: str = "", **changes: object) -> Graph:
    outputs = (port("y", IMAGE, value or nodes[-1].name),)
    return replace(Graph((port("x", IMAGE),), nodes, outputs), **changes)


def conv(**changes: object) -> tuple[Node, ...]:
    return (replace(GOOD[0], **changes),)


def test_a_good_graph_passes():
    verify(graph(), REGISTRY, PARAMS)


BAD = {
    "unknown operator": (graph(conv(op="warp")), "node c: required a known operator, found 'warp'"),
    "name taken": (graph((*GOOD, GOOD[0])), "node c: required a unique name, found a second value of that name"),
    "name of an input": (graph(conv(name="x")), "node x: required a unique name"),
    "used before made": (
        graph((GOOD[2], *GOOD[:2])),
        "node s: required operands made before it, found the unknown value 'c'",
    ),
    "arity": (graph(conv(inputs=("x", "x"))), "node c: required 1 operands, found 2"),
    "no operand of many": (
        graph((node("concatenation", "c", "", IMAGE, axis=1),)),
        "required 1 to any number of operands, found 0",
    ),
    "missing attribute": (
        graph(conv(attributes={"stride": (1, 1)})),
        "required the attributes of conv2d: stride, dilation, padding, groups, found stride",
    ),
    "unknown attribute": (
        graph((node("rescale", "r", "x", IMAGE, speed=1),)),
        "required the attributes of rescale: none, found speed",
    ),
    "attribute out of domain": (
        graph(conv(attributes={**CONV, "stride": (0, 1)})),
        r"required an attribute stride that is a tuple of 2 integers in \[1, 32768\], found \(0, 1\)",
    ),
    "attribute of another kind": (
        graph(conv(attributes={**CONV, "groups": True})),
        "an attribute groups that is an integer",
    ),
    "missing parameter": (graph(conv(params={"bias": Param("b")})), "required a parameter 'weight', found only bias"),
    "unknown parameter": (
        graph(conv(params={"weight": Param("nowhere")})),
        "required a parameter of the model as its weight, found 'nowhere'",
    ),
    "view of another size": (
        graph(conv(params={"weight": Param("w").then("reshape", 2, 2)})),
        r"required views that fit its weight, w, found the view reshape\(2, 2\) does not fit",
    ),
    "shapes that do not fit": (
        graph(conv(params={"weight": Param("w").then("reshape", 9, 1, 1, 1)})),
        "required operands and attributes that fit conv2d, found a weight",
    ),
    "stored shape": (
        graph(conv(shape=(N, 5, 4, 4))),
        r"required the shape \(-1, 5, 4, 3\) that conv2d gives, found \(-1, 5, 4, 4\)",
    ),
    "no slot for a norm": (
        graph((node("rescale", "r", "x", IMAGE, norm=norm("bn")),)),
        "required no norm, for which rescale has no slot",
    ),
    "no slot for a clamp": (
        graph((replace(GOOD[3], inputs=("x",), clamp=Clamp(0, 1)),)),
        "required no clamp, for which dropout",
    ),
    "no slot for a bias": (
        graph((node("rescale", "r", "x", IMAGE, {"bias": "b"}),)),
        "required no bias, for which rescale has no slot",
    ),
    "bias of another size": (
        graph(conv(params={**GOOD[0].params, "bias": Param("b4")})),
        r"required a bias of shape \(3,\), one value a channel, found \(4,\)",
    ),
    "norm of another size": (
        graph(conv(norm=replace(norm("bn"), mean=Param("b4")))),
        r"required a norm's mean of shape \(3,\), one value a channel, found \(4,\)",
    ),
    "unknown norm parameter": (
        graph(conv(norm=replace(norm("bn"), bias=Param("nowhere")))),
        "required a parameter of the model as its norm's bias, found 'nowhere'",
    ),
    "eps": (
        graph(conv(norm=Norm(Param("b"), Param("b"), None, None, -1.0))),
        "required a norm whose eps is finite and not negative",
    ),
    "clamp upside down": (graph(conv(clamp=Clamp(1, 0))), "required a clamp whose low bound is not above its high one"),
    "clamp not a number": (graph(conv(clamp=Clamp(0, float("nan")))), "required a clamp"),
    "constant joined to the batch": (
        graph((GOOD[1], node("concatenation", "c", "x k", (N, 5, 4, 6), axis=3))),
        "do not join along axis 3",
    ),
    "no output": (graph(outputs=()), "the graph: required at least one output, found none"),
    "output names": (
        graph(outputs=(port("y", IMAGE, "d"), port("y", IMAGE, "x"))),
        "required unique output names, found y, y",
    ),
    "output of nothing": (graph(value="nowhere"), "output y: required the name of a value, found 'nowhere'"),
    "output shape": (graph(outputs=(port("y", (N, 3), "d"),)), r"output y: required the shape \(-1, 5, 4, 3\) of d"),
    "output permutation": (
        graph(outputs=(port("y", IMAGE, "d", (0, 1, 2)),)),
        "output y: required a permutation of 4 axes",
    ),
    "constant output": (
        graph(GOOD[1:2], outputs=(port("y", (1, 1, 1, 3), "k"),)),
        r"output y: required a shape with the batch \(-1\) in front",
    ),
    "input value": (graph(inputs=(port("x", IMAGE, "z"),)), "input x: required a value of the same name, found 'z'"),
    "input twice": (graph(inputs=(port("x", IMAGE), port("x", IMAGE))), "input x: required a unique name"),
    "input without a batch": (
        graph(inputs=(port("x", (5, 4, 3)),)),
        r"input x: required a shape with the batch \(-1\) in front",
    ),
    "empty input": (graph(inputs=(port("x", (N, 0, 4)),)), "positive sizes after it"),
    "batch moved": (
        graph(inputs=(port("x", IMAGE, "", (1, 0, 2, 3)),)),
        "input x: required a permutation of 4 axes that leaves",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_graph_is_refused(name):
    bad, message = BAD[name]
    with pytest.raises(InvalidGraphError, match=message):
        verify(bad, REGISTRY, PARAMS)


def test_the_message_names_the_source_line():
    with pytest.raises(InvalidGraphError, match=r"node c \(model.py:7\): required a known operator"):
        verify(graph(conv(op="warp", source="model.py:7")), REGISTRY, PARAMS)


def test_constants_of_the_graph_are_parameters_too():
    bad = graph((node("constant", "k", "", (1, 3), {"value": "extra"}), GOOD[0]))
    with pytest.raises(InvalidGraphError, match="found 'extra'"):
        verify(bad, REGISTRY, PARAMS)
    verify(replace(bad, constants={"extra": np.ones((1, 3))}), REGISTRY, PARAMS)


@pytest.mark.parametrize(
    "view",
    [
        View("permute", (0, 1)),
        View("permute", (0, 0, 1)),
        View("reshape", (-1, 24)),
        View("reshape", (5,)),
        View("turn", (0,)),
    ],
)
def test_bad_views(view):
    with pytest.raises(ValueError, match="does not fit a parameter of shape"):
        viewed_shape((2, 3, 4), [view])


def test_views_follow_one_another():
    param = Param("w").then("permute", 2, 0, 1).then("reshape", 4, 6)
    assert viewed_shape((2, 3, 4), param.views) == (4, 6)
    assert viewed_shape((), [View("reshape", (1, 1))]) == (1, 1)
