"""Division by a Euclidean norm, as torch.nn.functional.normalize writes it: norm, lower bound, expansion, quotient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unfloat.formats.torch import arithmetic, selection
from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import Operand, RefusedError, Value, need_value

MOST_EPSILON = 1e-6  # below every scale that matters: codes of a row that is not zero have a greater norm
HINT = "torch.nn.functional.normalize"


@dataclass(frozen=True)
class Length(Value):
    """The norm of a value along an axis: no value of the Graph, only what that value may be divided by."""

    of: Value
    axis: int


def vector_norm(
    build: Builder, x: object, ord: float, dim: Sequence[int] | None, keepdim: bool, **_: object  # noqa: A002 (torch's name)
) -> Length:  # fmt: skip
    """aten.linalg_vector_norm along one axis, kept."""
    value = need_value(x)
    if ord != 2 or dim is None or len(dim) != 1 or not keepdim:
        raise RefusedError(f"a norm is read of order 2 along one axis that is kept, found {ord}, {dim}", HINT)
    axis = dim[0] % len(value.shape)
    return Length("", tuple(1 if d == axis else n for d, n in enumerate(value.shape)), value, axis)


def clamp_min(build: Builder, x: object, min: float, **_: object) -> Value:  # noqa: A002 (torch's name)
    """aten.clamp_min, of a norm too."""
    if not isinstance(x, Length):
        return arithmetic.clamp(build, x, min)
    if not 0 <= min <= MOST_EPSILON:
        raise RefusedError(f"a norm is bounded by at most {MOST_EPSILON}, found {min}", HINT)
    return x


def expand_as(build: Builder, x: object, other: object, **_: object) -> Value:
    """aten.expand_as; a norm's only to what it is the norm of."""
    if not isinstance(x, Length):
        return selection.expand(build, x, need_value(other).shape)
    if x.of != other:
        raise RefusedError("a norm is expanded to what it is the norm of", HINT)
    return replace(x, shape=x.of.shape)


def div(build: Builder, x: object, other: object, rounding_mode: str | None = None, **_: object) -> Operand:
    """aten.div, by the operand's own norm too."""
    if not isinstance(other, Length):
        return arithmetic.div(build, x, other, rounding_mode)
    if x != other.of:
        raise RefusedError("a value is divided by its own norm alone", HINT)
    return arithmetic.along_last(build, "l2_normalization", x, other.axis)
