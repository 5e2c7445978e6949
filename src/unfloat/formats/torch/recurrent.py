"""LSTM: a node for each layer and direction, every run from zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unfloat.formats.torch.builder import Builder
from unfloat.formats.torch.operands import (
    LastRows,
    RefusedError,
    Turned,
    Value,
    Weight,
    Zeros,
    need_value,
    need_weight,
)
from unfloat.formats.torch.selection import flip
from unfloat.ir.graph import BATCH
from unfloat.ops._gates import GATES

ROLES = ("weight", "recurrent", "bias", "recurrent_bias")
TIME, UNITS = 1, 2  # axes in the Graph, where the batch is in front


def lstm(
    build: Builder,
    *,
    hx: Sequence[object],
    params: Sequence[object],
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    x: object = None,
    batch_first: bool = False,
    **_: object,
) -> tuple[Value, LastRows, None]:
    """aten.lstm: the rows of its last layer, the last row of each layer and direction, and no state of its cells."""
    each = len(params) // num_layers
    projected = len(params) // (num_layers * (1 + bidirectional)) % 2 == 1
    problems = list(_problems(build, x, hx, batch_first, projected))
    if problems:
        raise RefusedError("; ".join(problems))
    value = x.front if isinstance(x, Turned) else need_value(x)
    sequences: list[Value] = []
    for layer in range(num_layers):
        own, last = params[layer * each : (layer + 1) * each], layer == num_layers - 1
        if bidirectional:
            value, both = _both_ways(build, value, own, f"l{layer}", "" if last else f"l{layer}_both")
            sequences += both
        else:
            value = _one_way(build, value, own, f"l{layer}" if num_layers > 1 else "")
            sequences.append(value)
        if train and dropout and not last:
            value = build.emit("dropout", [value], {"rate": float(dropout), "channels": 0}, part=f"l{layer}_dropout")
    return value if batch_first else Turned.of(value), LastRows.of(sequences), None


def _problems(build: Builder, x: object, hx: Sequence[object], batch_first: bool, projected: bool) -> Iterator[str]:
    """All that keeps a call from being read, and what to do about it."""
    if projected:
        yield "it projects what it gives: build it without proj_size"
    if x is None:
        yield "its sequences are packed: give it sequences of one length"
    elif isinstance(x, Value) and x.shape[0 if batch_first else 1] != BATCH:
        yield f"with batch_first={batch_first} its time runs along the batch: transpose its input or change batch_first"
    if not all(map(_is_zero, hx)):
        yield "it starts from a given state, but every run begins anew: give no state, or zeros"
    if 2 in build.call.used:
        yield "the last state of its cells (c_n) is used, which a Program does not give: use h_n"


def _is_zero(state: object) -> bool:
    return isinstance(state, Zeros) or (
        isinstance(state, Weight) and state.tensor is not None and not state.tensor.any()
    )


def _both_ways(
    build: Builder, x: Value, params: Sequence[object], part: str, joined: str
) -> tuple[Value, tuple[Value, Value]]:
    """A layer that also reads backwards: both one beside the other, and each in its own order."""
    half = len(params) // 2
    forth = _one_way(build, x, params[:half], part)
    back = _one_way(build, flip(build, x, [TIME]), params[half:], f"{part}_reverse")
    rows = [forth, flip(build, back, [TIME])]
    return build.emit("concatenation", rows, {"axis": UNITS}, part=joined), (forth, back)


def _one_way(build: Builder, x: Value, params: Sequence[object], part: str) -> Value:
    """One layer in one direction: torch stacks the four gates' weights, in this order too."""
    weights = [need_weight(param, "each of its weights") for param in params]
    units = weights[0].shape[0] // GATES
    gates = [weight.reshaped((GATES, units, *weight.shape[1:])) for weight in weights]
    return build.emit("lstm", [x], {"carried": 0}, dict(zip(ROLES, gates, strict=False)), part=part)


def zeros(build: Builder, **_: object) -> Zeros:
    """aten.zeros, zeros_like and new_zeros, of the batch's size: what a layer may start from."""
    return Zeros()
