"""How each operator lets a pending transpose pass: the rules of `sink_transposes`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from unfloat.ir.graph import Attributes, Node, Param, Shape
from unfloat.passes._edit import Axes, compose, identity, inverse, is_constant, permuted
from unfloat.passes._pending import Fold, Pending, Sinker
from unfloat.passes._regroup import Group, groups

Rule = Callable[[Sinker, Node], None]


def settle_all(sinker: Sinker, node: Node) -> None:
    """The operator insists on the order it was written for: transposes that are still pending are written before it."""
    inputs = tuple(sinker.settled(name) for name in node.inputs)
    sinker.emit(replace(node, inputs=inputs))
    sinker.pending[node.name] = Pending(node.name, identity(len(node.shape)))


def _transpose(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    sinker.pending[node.name] = Pending(pending.value, compose(pending.axes, node.attributes["permutation"]))


def _elementwise(sinker: Sinker, node: Node) -> None:
    sinker.follow(node, sinker.pending[node.inputs[0]])


def _channelwise(sinker: Sinker, node: Node) -> None:
    """The last axis must stay the last; the others may come in any order."""
    pending = sinker.unfolded(node.inputs[0])
    if pending.axes[-1] == len(pending.axes) - 1:
        sinker.follow(node, pending)
    else:
        settle_all(sinker, node)


def _dropout(sinker: Sinker, node: Node) -> None:
    (_channelwise if node.attributes["channels"] else _elementwise)(sinker, node)


def _fully_connected(sinker: Sinker, node: Node) -> None:
    """As `_channelwise`, and a folded last axis goes into the weight."""
    pending = sinker.pending[node.inputs[0]]
    if pending.fold is not None:
        weight = _unfolded_weight(node.params["weight"], node.shape[-1], pending.fold)
        node = replace(node, params={**node.params, "weight": weight})
        pending = replace(pending, fold=None)
    if pending.axes[-1] != len(pending.axes) - 1:
        settle_all(sinker, node)
        return
    shape = (*sinker.shapes[pending.value][:-1], node.shape[-1])
    sinker.emit(replace(node, inputs=(pending.value,), shape=shape))
    sinker.pending[node.name] = Pending(node.name, pending.axes)


def _unfolded_weight(weight: Param, rows: int, fold: Fold) -> Param:
    """The weight [rows, K] with its columns in the order in which the block is stored."""
    meant = weight.then("reshape", rows, *permuted(fold.block, fold.axes))
    stored = meant.then("permute", 0, *(1 + axis for axis in inverse(fold.axes)))
    return stored.then("reshape", rows, math.prod(fold.block))


def _broadcast(sinker: Sinker, node: Node) -> None:
    order = _common_order(sinker, node)
    inputs = tuple(sinker.settled(name, order) for name in node.inputs)
    sinker.emit(replace(node, inputs=inputs, shape=permuted(node.shape, inverse(order))))
    sinker.pending[node.name] = Pending(node.name, order)


def _batch_matmul(sinker: Sinker, node: Node) -> None:
    """A factor whose last two axes alone are exchanged is multiplied as it is stored."""
    inputs, flags = [], []
    for name, flag in zip(node.inputs, node.attributes["transpose"], strict=True):
        pending = sinker.unfolded(name)
        plain = identity(len(pending.axes))
        exchanged = pending.axes == (*plain[:-2], plain[-1], plain[-2])
        inputs.append(pending.value if exchanged else sinker.settled(name))
        flags.append(1 - flag if exchanged else flag)
    sinker.emit(replace(node, inputs=tuple(inputs), attributes={"transpose": tuple(flags)}))
    sinker.pending[node.name] = Pending(node.name, identity(len(node.shape)))


def _concatenation(sinker: Sinker, node: Node) -> None:
    order = _common_order(sinker, node)
    inputs = tuple(sinker.settled(name, order) for name in node.inputs)
    axis = {"axis": order[node.attributes["axis"]]}
    sinker.emit(replace(node, inputs=inputs, shape=permuted(node.shape, inverse(order)), attributes=axis))
    sinker.pending[node.name] = Pending(node.name, order)


def _common_order(sinker: Sinker, node: Node) -> Axes:
    """The order that moves the fewest values when all operands take it; of equals, one that is still to be undone."""
    plain = identity(len(node.shape))
    moved = dict.fromkeys([plain], 0)
    for name in node.inputs:
        if not is_constant(sinker.source[name]):
            order = sinker.unfolded(name).axes
            moved[order] = moved.get(order, 0) + math.prod(sinker.source[name][1:])
    return max(moved, key=lambda order: (moved[order], order != plain))


def _pad(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    flat = node.attributes["paddings"]
    pairs = {pending.axes[axis]: flat[2 * axis : 2 * axis + 2] for axis in range(len(pending.axes))}
    paddings = tuple(amount for axis in sorted(pairs) for amount in pairs[axis])
    shape = permuted(node.shape, inverse(pending.axes))
    sinker.emit(replace(node, inputs=(pending.value,), shape=shape, attributes={"paddings": paddings}))
    sinker.pending[node.name] = Pending(node.name, pending.axes)


def _mean(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    source, gone = sinker.shapes[pending.value], {pending.axes[axis] for axis in node.attributes["axes"]}
    attributes = {**node.attributes, "axes": tuple(sorted(gone))}
    if node.attributes["keep_dims"]:
        shape = tuple(1 if axis in gone else size for axis, size in enumerate(source))
        sinker.emit(replace(node, inputs=(pending.value,), shape=shape, attributes=attributes))
        sinker.pending[node.name] = Pending(node.name, pending.axes)
    else:
        _without(sinker, node, pending, gone, attributes)


def _arg_max(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    axis = pending.axes[node.attributes["axis"]]
    _without(sinker, node, pending, {axis}, {"axis": axis})


def _without(sinker: Sinker, node: Node, pending: Pending, gone: set[int], attributes: Attributes) -> None:
    """Write a node that takes axes of the stored value away; the others keep their pending order."""
    source = sinker.shapes[pending.value]
    kept = [axis for axis in range(len(source)) if axis not in gone]
    shape = tuple(source[axis] for axis in kept)
    sinker.emit(replace(node, inputs=(pending.value,), shape=shape, attributes=attributes))
    order = tuple(kept.index(axis) for axis in pending.axes if axis not in gone)
    sinker.pending[node.name] = Pending(node.name, order)


def _slice(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    stored = inverse(pending.axes)
    attributes = {name: permuted(values, stored) for name, values in node.attributes.items()}
    shape = permuted(node.shape, stored)
    sinker.emit(replace(node, inputs=(pending.value,), shape=shape, attributes=attributes))
    sinker.pending[node.name] = Pending(node.name, pending.axes)


def _gather(sinker: Sinker, node: Node) -> None:
    pending = sinker.unfolded(node.inputs[0])
    attributes = {**node.attributes, "axis": pending.axes[node.attributes["axis"]]}
    shape = permuted(node.shape, inverse(pending.axes))
    sinker.emit(replace(node, inputs=(pending.value,), shape=shape, attributes=attributes))
    sinker.pending[node.name] = Pending(node.name, pending.axes)


def _reshape(sinker: Sinker, node: Node) -> None:
    """A reshape splits and joins runs of axes. Runs that are stored together, in order, may stay where they are."""
    pending = sinker.unfolded(node.inputs[0])
    stored = sinker.shapes[pending.value]
    runs = groups(permuted(stored, pending.axes), node.shape)
    places = [[pending.axes[axis] for axis in run.source] for run in runs]
    together = all(_in_order(place, stored) for place in places)
    if not together and len(node.shape) == 2:
        block = [axis for axis in range(1, len(stored)) if stored[axis] != 1]
        fold = Fold(tuple(stored[axis] for axis in block), tuple(block.index(axis) for axis in places[1]))
        value = sinker.reshaped(pending.value, node.shape, node.name, node.name, node.source)
        sinker.pending[node.name] = Pending(value, identity(2), fold)
        return
    value = pending.value if together else _gathered(sinker, pending.value, places, node.name)
    _regrouped(sinker, node, value, sorted(zip(places, runs, strict=True), key=lambda pair: min(pair[0])))


def _in_order(places: Sequence[int], stored: Shape) -> bool:
    """Whether the axes at `places` come one after the other, axes of size 1 aside."""
    return all(a < b and math.prod(stored[a + 1 : b]) == 1 for a, b in pairwise(places))


def _gathered(sinker: Sinker, value: str, places: Sequence[Sequence[int]], purpose: str) -> str:
    """Write the one transpose that brings each run together, the runs in the order of their first axes."""
    axes = [axis for place in sorted(places, key=min) for axis in place]
    units = [axis for axis in range(len(sinker.shapes[value])) if axis not in axes]
    return sinker.transposed(value, (*axes, *units), purpose)


def _regrouped(sinker: Sinker, node: Node, value: str, runs: Sequence[tuple[Sequence[int], Group]]) -> None:
    """Write the reshape, run by run in the stored order; what is meant is a transpose of it."""
    axes = [axis for _, run in runs for axis in run.target]
    shape = tuple(node.shape[axis] for axis in axes)
    new = sinker.reshaped(value, shape, node.name, node.name, node.source)
    sinker.pending[node.name] = Pending(new, inverse(tuple(axes)))


RULES: Mapping[str, Rule] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "rescale": _elementwise,
    "dropout": _dropout,
    "batch_norm": _channelwise,
    "softmax": _channelwise,
    "log_softmax": _channelwise,
    "l2_normalization": _channelwise,
    "fully_connected": _fully_connected,
    "add": _broadcast,
    "sub": _broadcast,
    "mul": _broadcast,
    "batch_matmul": _batch_matmul,
    "concatenation": _concatenation,
    "pad": _pad,
    "mean": _mean,
    "sum": _mean,
    "arg_max": _arg_max,
    "gather": _gather,
    "maximum": _broadcast,
    "minimum": _broadcast,
    "reduce_max": _mean,
    "reduce_min": _mean,
    "slice": _slice,
    **dict.fromkeys(("logistic", "tanh", "hard_swish", "gelu", "leaky_relu", "abs"), _elementwise),
    "prelu": _broadcast,
}
