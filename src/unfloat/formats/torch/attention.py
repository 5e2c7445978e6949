"""Matrix products of activations, and the attention that PyTorch has as one call."""

from __future__ import annotations

import math

from unfloat.formats.torch.arithmetic import mul, softmax
from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.linear import linear
from unfloat.formats.torch.operands import Operand, RefusedError, Value, Weight, need_value


def matmul(build: Builder, x: object, other: object = None, mat2: object = None, **_: object) -> Value:
    """aten.matmul, mm and bmm: with a parameter [K, N] on the right a linear layer, else a product of two values."""
    second = mat2 if other is None else other
    if isinstance(x, Value) and isinstance(second, Weight) and len(second.shape) == 2:
        return linear(build, x, second.permuted((1, 0)))
    return product(build, x, second)


def product(
    build: Builder, first: object, second: object, transpose: tuple[int, int] = (0, 0), part: str = ""
) -> Value:
    """The node; a parameter becomes a constant of the other factor's rank."""
    values = [operand for operand in (first, second) if isinstance(operand, Value)]
    if not values:
        need_value(first)
    rank = len(values[0].shape)
    factors = [_factor(build, operand, rank) for operand in (first, second)]
    return build.emit("batch_matmul", factors, {"transpose": transpose}, part=part)


def _factor(build: Builder, operand: object, rank: int) -> Value:
    return build.constant(operand, rank) if isinstance(operand, Weight) else need_value(operand, "a factor")


def attention(
    build: Builder,
    query: object,
    key: object,
    value: object,
    attn_mask: object = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> Operand:
    """aten.scaled_dot_product_attention without a mask: `softmax(scale q k^T) v`."""
    if attn_mask is not None or is_causal:
        raise RefusedError("attention is read without a mask")
    if dropout_p:
        raise RefusedError(f"attention is read without dropout, found {dropout_p}", "set dropout_p=0")
    factor = 1 / math.sqrt(need_value(query, "the query").shape[-1]) if scale is None else float(scale)
    scores = product(build, query, key, (0, 1), "scores")
    weights = softmax(build, mul(build, scores, factor, part="scaled"), -1, part="weights")
    return product(build, weights, value)
