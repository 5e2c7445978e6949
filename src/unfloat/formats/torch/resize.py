"""Operators that resize, and that compare: interpolation, maxima and minima, argmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import Operand, RefusedError, Value, need_value
from unfloat.formats.torch.selection import followed
from unfloat.ir.graph import BATCH

Nearest = Callable[[torch.Tensor, list[int], "float | None"], torch.Tensor]


def nearest(build: Builder, x: object, **arguments: object) -> Value:
    """aten.upsample_nearest1d, upsample_nearest2d: F.interpolate's default."""
    return _nearest(build, need_value(x), torch.ops.aten.upsample_nearest1d.default, arguments)


def nearest_exact(build: Builder, x: object, **arguments: object) -> Value:
    """aten._upsample_nearest_exact1d, _upsample_nearest_exact2d: from the cells' centres."""
    return _nearest(build, need_value(x), torch.ops.aten._upsample_nearest_exact1d.default, arguments)


def _nearest(build: Builder, value: Value, move: Nearest, arguments: Mapping[str, object]) -> Value:
    """Axis by axis, by the indices that PyTorch itself takes: by the scale factor where there is one, or by the sizes."""
    sizes = build.result_shape()[2:]
    scales = _scales(arguments, len(sizes)) or [None] * len(sizes)
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True), 2):
        value = followed(build, value, axis, lambda row, n=size, by=scale: move(row, [n], by), "resized")  # type: ignore[misc]
    return value


def _scales(arguments: Mapping[str, object], axes: int) -> Sequence[float | None] | None:
    """Scale factors under any of their names, if one is given."""
    names = ["scales"] if axes == 1 else ["scales_h", "scales_w"]
    found: Any = arguments.get("scale_factors") or [arguments.get(name) for name in names]
    return None if set(found) == {None} else [None if scale is None else float(scale) for scale in found]


def bilinear(
    build: Builder,
    x: object,
    align_corners: bool = False,
    **arguments: object,
) -> Value:
    """aten.upsample_bilinear2d: half-pixel centres, or aligned corners."""
    value = need_value(x)
    rows, columns = build.result_shape()[2:]
    scales = _scales(arguments, 2)
    exact = scales is None or all(
        scale is None or size * scale == result
        for size, scale, result in zip(value.shape[2:], scales, (rows, columns), strict=True)
    )
    if not exact and not align_corners:
        reason = f"scale factors {scales} do not lead from {value.shape[2:]} to whole sizes"
        raise RefusedError(reason, "recompute_scale_factor=True, or size=")
    attributes = {
        "size": (rows, columns),
        "align_corners": int(align_corners),
        "half_pixel_centers": int(not align_corners),
    }
    return build.channels_first(build.emit("resize_bilinear", [build.channels_last(value)], attributes))


def maximum(build: Builder, x: object, other: object, **_: object) -> Value:
    """aten.maximum of two values."""
    return build.emit("maximum", [need_value(x), need_value(other, "the other operand")])


def minimum(build: Builder, x: object, other: object, **_: object) -> Value:
    """aten.minimum of two values."""
    return build.emit("minimum", [need_value(x), need_value(other, "the other operand")])


def amax(build: Builder, x: object, dim: Sequence[int] = (), keepdim: bool = False, **_: object) -> Value:
    """aten.amax over axes other than the batch."""
    return _reduced(build, "reduce_max", need_value(x), dim, keepdim)


def amin(build: Builder, x: object, dim: Sequence[int] = (), keepdim: bool = False, **_: object) -> Value:
    """aten.amin over axes other than the batch."""
    return _reduced(build, "reduce_min", need_value(x), dim, keepdim)


def _reduced(build: Builder, op: str, value: Value, dim: Sequence[int], keepdim: bool) -> Value:
    axes = tuple(sorted(axis % len(value.shape) for axis in dim))
    if not axes or 0 in axes:
        raise RefusedError("a maximum or minimum may not run over the batch", "name the axes: x.amax((2, 3))")
    return build.emit(op, [value], {"axes": axes, "keep_dims": int(keepdim)})


def max_of(build: Builder, x: object, other: object = None, **arguments: object) -> Operand | tuple[Value, None]:
    """aten.max.other, and aten.max.dim, whose indices must be unused."""
    return maximum(build, x, other) if other is not None else (_along(build, amax, x, arguments), None)


def min_of(build: Builder, x: object, other: object = None, **arguments: object) -> Operand | tuple[Value, None]:
    """aten.min.other, and aten.min.dim, whose indices must be unused."""
    return minimum(build, x, other) if other is not None else (_along(build, amin, x, arguments), None)


def _along(build: Builder, reduce: Callable[..., Value], x: object, arguments: dict[str, object]) -> Value:
    if not isinstance(arguments.get("dim"), int):
        raise RefusedError("a maximum or minimum may not run over the batch", "name the axes: x.amax((2, 3))")
    return reduce(build, x, [arguments["dim"]], bool(arguments.get("keepdim")))


def arg_max(build: Builder, x: object, dim: int | None = None, keepdim: bool = False, **_: object) -> Value:
    """aten.argmax along an axis: indices, which only the network's output can take."""
    value = need_value(x)
    axis = None if dim is None else dim % len(value.shape)
    if not axis:
        raise RefusedError("an argmax runs along one axis other than the batch", "x.argmax(1)")
    found = build.emit("arg_max", [value], {"axis": axis}, part="index" if keepdim else "")
    shape = tuple(1 if d == axis else size for d, size in enumerate(value.shape))
    return build.reshape_value(found, (BATCH, *shape[1:])) if keepdim else found
