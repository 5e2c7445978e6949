"""Elementwise operators: sums, differences, products, clamps, softmax, dropout."""

from __future__ import annotations

import math

import numpy as np
import torch

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import Operand, RefusedError, Value, Weight, need_value
from unfloat.ir.graph import Clamp

INFINITY = math.inf


def add(build: Builder, x: object, other: object, alpha: float = 1, **_: object) -> Operand:
    """aten.add of values, parameters and numbers."""
    if alpha != 1:
        raise RefusedError(f"a sum is read with alpha = 1, found {alpha}")
    return _binary(build, "add", x, other, neutral=0)


def sub(build: Builder, x: object, other: object, alpha: float = 1, **_: object) -> Operand:
    """aten.sub; less a number or a buffer, as the sum with its negation; from zero, as a negation."""
    if alpha != 1:
        raise RefusedError(f"a difference is read with alpha = 1, found {alpha}")
    if _is_number(x, 0):
        return neg(build, other)
    if isinstance(other, int | float):
        return add(build, x, -other)
    if isinstance(other, Weight) and other.tensor is not None:
        return _binary(build, "add", x, build.array(-_numpy(other.tensor), "negated"))
    return _binary(build, "sub", x, other)


def rsub(build: Builder, x: object, other: object, alpha: float = 1, **_: object) -> Operand:
    """aten.rsub: `other - x`."""
    return sub(build, other, x, alpha)


def mul(build: Builder, x: object, other: object, part: str = "", **_: object) -> Operand:
    """aten.mul of values, parameters and numbers."""
    return _binary(build, "mul", x, other, part, neutral=1)


def div(build: Builder, x: object, other: object, rounding_mode: str | None = None, **_: object) -> Operand:
    """aten.div by a number or a constant, as the product with its reciprocal."""
    if rounding_mode is not None:
        raise RefusedError(f"a quotient is read without a rounding mode, found {rounding_mode!r}")
    if isinstance(other, int | float):
        return mul(build, x, 1.0 / other)
    if isinstance(other, Weight) and other.value is not None:
        return _binary(build, "mul", x, build.array(_numpy(1.0 / other.value), "reciprocal"))
    raise RefusedError("a divisor must be a number or a buffer", "multiply by a parameter instead")


def neg(build: Builder, x: object, **_: object) -> Operand:
    """aten.neg as a product with -1."""
    return _binary(build, "mul", x, -1.0)


def power(build: Builder, x: object, exponent: object, **_: object) -> Operand:
    """aten.pow by a number of few factors, as their product."""
    if exponent not in (1, 2, 3, 4):
        reason = f"a power is read with the exponent 1, 2, 3 or 4, found {_named(exponent)}"
        raise RefusedError(reason, "train it with a product of values")
    value = need_value(x, "the base of a power")
    if exponent == 1:
        return value
    twice = square(build, value, part="" if exponent == 2 else "square")
    return twice if exponent == 2 else build.emit("mul", [twice, value if exponent == 3 else twice])


def _named(operand: object) -> str:
    return str(operand) if isinstance(operand, int | float) else "a tensor"


def square(build: Builder, x: object, part: str = "", **_: object) -> Value:
    """aten.square, a product with itself."""
    value = need_value(x)
    return build.emit("mul", [value, value], part=part)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().to(torch.float32).cpu())


def _is_number(operand: object, number: float) -> bool:
    return isinstance(operand, int | float) and operand == number


def _binary(
    build: Builder, op: str, first: object, second: object, part: str = "", neutral: float | None = None
) -> Operand:
    """The node; numbers and parameters become constants of the value's rank.

    A number that changes nothing is left out, as the 0 that Python's `sum` begins with: a constant 0 has no range.
    """
    for operand, other in ((first, second), (second, first)):
        if neutral is not None and _is_number(operand, neutral) and isinstance(other, Value | Weight):
            return other
    values = [operand for operand in (first, second) if isinstance(operand, Value)]
    if not values:
        need_value(first)
    rank = len(values[0].shape)
    return build.emit(op, [_operand(build, first, rank), _operand(build, second, rank)], part=part)


def _operand(build: Builder, operand: object, rank: int) -> Value:
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, Weight):
        if operand.value is not None and bool(torch.isinf(operand.value).any()):
            reason = f"a constant operand must be finite, found an infinity in {operand.param.name}"
            raise RefusedError(reason, "of a mask before a softmax, a number such as -20 in its place")
        return build.constant(operand, rank)
    if isinstance(operand, int | float):
        return build.scalar(float(operand), rank)
    raise RefusedError(f"an operand must be a tensor or a number, found {type(operand).__name__}")


def relu(build: Builder, x: object, **_: object) -> Value:
    """aten.relu."""
    return _clamp(build, x, 0.0, INFINITY)


def relu6(build: Builder, x: object, **_: object) -> Value:
    """aten.relu6."""
    return _clamp(build, x, 0.0, 6.0)


def hardtanh(build: Builder, x: object, min_val: float, max_val: float, **_: object) -> Value:
    """aten.hardtanh."""
    return _clamp(build, x, min_val, max_val)


def clamp(build: Builder, x: object, min: object = None, max: object = None, **_: object) -> Value:  # noqa: A002 (torch's name)
    """aten.clamp, clamp_min, clamp_max, clip."""
    return _clamp(build, x, -INFINITY if min is None else min, INFINITY if max is None else max)


def _clamp(build: Builder, x: object, low: object, high: object) -> Value:
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise RefusedError("the bounds of a clamp must be numbers")
    high = float(high)
    return build.emit("rescale", [need_value(x)], clamp=Clamp(float(low) if low < high else high, high))


def softmax(build: Builder, x: object, dim: int, part: str = "", **_: object) -> Operand:
    """aten.softmax."""
    return along_last(build, "softmax", x, dim, part)


def log_softmax(build: Builder, x: object, dim: int, **_: object) -> Operand:
    """aten.log_softmax."""
    return along_last(build, "log_softmax", x, dim)


def along_last(build: Builder, op: str, x: object, dim: int, part: str = "") -> Operand:
    """An operator on rows, over the axis brought last."""
    value = need_value(x)
    rank = len(value.shape)
    axis = dim % rank
    if axis == 0:
        raise RefusedError(f"a {op} may not run over the batch")
    if axis == rank - 1:
        return build.emit(op, [value], part=part)
    last = [*(a for a in range(rank) if a != axis), axis]
    moved = build.emit("transpose", [value], {"permutation": tuple(last)}, part="last")
    back = sorted(range(rank), key=last.__getitem__)
    return build.transpose(build.emit(op, [moved], part=part), back, "back")


def dropout(build: Builder, x: object, p: float, train: bool, **_: object) -> Operand:
    """aten.dropout and alpha_dropout; nothing where it does not train."""
    value = need_value(x)
    return build.emit("dropout", [value], {"rate": float(p), "channels": 0}) if _drops(build, train) else value


def _drops(build: Builder, train: bool) -> bool:
    """Whether values are dropped.

    Raises:
        RefusedError: They are in eval() too.
    """
    if train and not build.training:
        raise RefusedError("it drops values at random in eval() too", "training=self.training")
    return train


def feature_dropout(build: Builder, x: object, p: float, train: bool, **_: object) -> Operand:
    """aten.feature_dropout: whole channels."""
    value = need_value(x)
    if not _drops(build, train):
        return value
    return build.channels_first(build.emit("dropout", [build.channels_last(value)], {"rate": float(p), "channels": 1}))
