"""Functions of one value: sigmoid, tanh, the swishes, GELU, GLU, leaky ReLU, PReLU, abs."""

from __future__ import annotations

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import RefusedError, Value, need_value, need_weight
from unfloat.formats.torch.selection import chunk
from unfloat.ir.graph import Clamp
from unfloat.ops.slopes import slope_pair


def sigmoid(build: Builder, x: object, **_: object) -> Value:
    """aten.sigmoid."""
    return build.emit("logistic", [need_value(x)])


def tanh(build: Builder, x: object, **_: object) -> Value:
    """aten.tanh."""
    return build.emit("tanh", [need_value(x)])


def silu(build: Builder, x: object, **_: object) -> Value:
    """aten.silu, the value times its sigmoid."""
    value = need_value(x)
    return build.emit("mul", [value, build.emit("logistic", [value], part="sigmoid")])


def glu(build: Builder, x: object, dim: int = -1, **_: object) -> Value:
    """aten.glu: the first half of an axis times the sigmoid of the second."""
    first, second = chunk(build, x, 2, dim)
    return build.emit("mul", [first, build.emit("logistic", [second], part="sigmoid")])


def hardswish(build: Builder, x: object, **_: object) -> Value:
    """aten.hardswish."""
    return build.emit("hard_swish", [need_value(x)])


def hardsigmoid(build: Builder, x: object, **_: object) -> Value:
    """aten.hardsigmoid: a sixth of ReLU6 of the value and 3."""
    value = need_value(x)
    rank = len(value.shape)
    raised = build.emit("add", [value, build.scalar(3.0, rank)], clamp=Clamp(0.0, 6.0), part="raised")
    return build.emit("mul", [raised, build.scalar(1 / 6, rank)])


def gelu(build: Builder, x: object, approximate: str = "none", **_: object) -> Value:
    """aten.gelu, exact or approximated by tanh."""
    return build.emit("gelu", [need_value(x)], {"approximate": approximate})


def leaky_relu(build: Builder, x: object, negative_slope: float = 0.01, **_: object) -> Value:
    """aten.leaky_relu."""
    return build.emit("leaky_relu", [need_value(x)], {"slope": slope_pair(float(negative_slope))})


def prelu(build: Builder, x: object, weight: object, **_: object) -> Value:
    """aten.prelu: one slope, or one for each channel, which is axis 1."""
    value, slopes = need_value(x), need_weight(weight, "the slopes of a PReLU")
    rank = len(value.shape)
    if len(slopes.shape) == 1:
        slopes = slopes.reshaped((1, *slopes.shape, *(1,) * (rank - 2)))
    if slopes.shape[0] != 1:
        raise RefusedError(f"the slopes of a PReLU are one or one a channel, found shape {slopes.shape}")
    return build.emit("prelu", [value, build.constant(slopes, rank)])


def absolute(build: Builder, x: object, **_: object) -> Value:
    """aten.abs."""
    return build.emit("abs", [need_value(x)])
