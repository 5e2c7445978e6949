"""Operators that move values: views, orders of axes, concatenation, padding; and those that do nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import Operand, RefusedError, Value, need_value
from unfloat.formats.torch.selection import border
from unfloat.ir.graph import BATCH


def reshape(build: Builder, x: Operand, **_: object) -> Operand:
    """aten.view, reshape, flatten, squeeze, unsqueeze...: torch has worked out the shape."""
    return build.reshape(x, build.result_shape())


def permute(build: Builder, x: Operand, dims: Sequence[int], **_: object) -> Operand:
    """aten.permute."""
    return build.transpose(x, [axis % len(x.shape) for axis in dims])


def transpose(build: Builder, x: Operand, **axes: int) -> Operand:
    """aten.transpose, swapaxes, swapdims: two axes change places."""
    first, second = (axis % len(x.shape) for axis in list(axes.values())[:2])
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return build.transpose(x, order)


def last_two(build: Builder, x: Operand, **_: object) -> Operand:
    """aten.t, mT."""
    rank = len(x.shape)
    return build.transpose(x, (*range(rank - 2), rank - 1, rank - 2)) if rank > 1 else x


def channel_shuffle(build: Builder, x: object, groups: int, **_: object) -> Operand:
    """aten.channel_shuffle: split the channels in groups, swap, join."""
    value = need_value(x)
    channels, rest = value.shape[1], value.shape[2:]
    if channels % groups:
        raise RefusedError(f"{channels} channels do not split into {groups} groups")
    split = build.reshape_value(value, (BATCH, groups, channels // groups, *rest), "split")
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    swapped = build.emit("transpose", [split], {"permutation": order}, part="swapped")
    return build.reshape_value(swapped, value.shape)


def concatenate(build: Builder, tensors: Sequence[object], dim: int = 0, **_: object) -> Value:
    """aten.cat along any axis but the batch."""
    values = [need_value(tensor, "each part of a concatenation") for tensor in tensors]
    axis = dim % len(values[0].shape)
    if axis == 0:
        raise RefusedError("a concatenation may not run along the batch")
    return build.emit("concatenation", values, {"axis": axis})


def pad(
    build: Builder, x: object, pad: Sequence[int], mode: str = "constant", value: float | None = None, **_: object
) -> Value:
    """aten.pad, constant_pad_nd with zeros or with the value's own cells; torch names the last axis first."""
    image = need_value(x)
    if min(pad) < 0:
        raise RefusedError(f"padding may not cut, found {list(pad)}")
    if mode != "constant":
        return border(build, image, pad, mode)
    if value not in (None, 0):
        raise RefusedError(f"padding is with zeros, found the value {value}", "value=0")
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]
    pairs = [(0, 0)] * (len(image.shape) - len(pairs)) + pairs[::-1]
    return build.emit("pad", [image], {"paddings": tuple(amount for both in pairs for amount in both)})


def nothing(build: Builder, x: Operand, **_: object) -> Operand:
    """aten.clone, detach, contiguous, alias: the same values."""
    return x


def same_type(build: Builder, x: Operand, **_: object) -> Operand:
    """aten.to, _to_copy, type_as: nothing, as float32 stays float32; constants of other types are converted before."""
    return x
