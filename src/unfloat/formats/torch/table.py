"""The operator table: aten names, without the overload and without the underscore of the in-place form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unfloat.formats.torch import arithmetic, linear, movement, pooling

Handler = Callable[..., Any]  # (Builder, x=..., the schema's other arguments by name) -> Operand, or a tuple of them

TABLE: Mapping[str, Handler] = {
    "_adaptive_avg_pool2d": pooling.adaptive_average_pool,
    "_native_batch_norm_legit_no_training": linear.batch_norm_inference,
    "_softmax": arithmetic.softmax,
    "_to_copy": movement.same_type,
    "_unsafe_view": movement.reshape,
    "adaptive_avg_pool1d": pooling.adaptive_average_pool,
    "adaptive_avg_pool2d": pooling.adaptive_average_pool,
    "adaptive_max_pool1d": pooling.adaptive_max_pool,
    "adaptive_max_pool2d": pooling.adaptive_max_pool,
    "add": arithmetic.add,
    "addmm": linear.addmm,
    "alias": movement.nothing,
    "alpha_dropout": arithmetic.dropout,
    "avg_pool1d": pooling.average_pool,
    "avg_pool2d": pooling.average_pool,
    "batch_norm": linear.batch_norm,
    "cat": movement.concatenate,
    "channel_shuffle": movement.channel_shuffle,
    "clamp": arithmetic.clamp,
    "clamp_max": arithmetic.clamp,
    "clamp_min": arithmetic.clamp,
    "clip": arithmetic.clamp,
    "clone": movement.nothing,
    "concat": movement.concatenate,
    "concatenate": movement.concatenate,
    "constant_pad_nd": movement.pad,
    "contiguous": movement.nothing,
    "conv1d": linear.convolution,
    "conv2d": linear.convolution,
    "convolution": linear.convolution,
    "detach": movement.nothing,
    "div": arithmetic.div,
    "dropout": arithmetic.dropout,
    "feature_alpha_dropout": arithmetic.feature_dropout,
    "feature_dropout": arithmetic.feature_dropout,
    "flatten": movement.reshape,
    "hardtanh": arithmetic.hardtanh,
    "lift_fresh_copy": movement.nothing,
    "linear": linear.linear,
    "mT": movement.last_two,
    "matmul": linear.matmul,
    "max_pool1d": pooling.max_pool,
    "max_pool2d": pooling.max_pool,
    "max_pool2d_with_indices": pooling.max_pool_with_indices,
    "mean": pooling.mean,
    "mm": linear.matmul,
    "mul": arithmetic.mul,
    "native_channel_shuffle": movement.channel_shuffle,
    "neg": arithmetic.neg,
    "pad": movement.pad,
    "permute": movement.permute,
    "relu": arithmetic.relu,
    "relu6": arithmetic.relu6,
    "reshape": movement.reshape,
    "reshape_as": movement.reshape,
    "rsub": arithmetic.rsub,
    "slice": movement.whole_slice,
    "softmax": arithmetic.softmax,
    "squeeze": movement.reshape,
    "sub": arithmetic.sub,
    "swapaxes": movement.transpose,
    "swapdims": movement.transpose,
    "t": movement.last_two,
    "to": movement.same_type,
    "transpose": movement.transpose,
    "type_as": movement.nothing,
    "unflatten": movement.reshape,
    "unsqueeze": movement.reshape,
    "view": movement.reshape,
    "view_as": movement.reshape,
}

# Handlers that take parameters too: what a parameter may go through on its way into an operator.
_ORDERS = (movement.permute, movement.transpose, movement.last_two)
_SHAPES = (movement.reshape, movement.nothing, movement.same_type)
VIEWS = frozenset(name for name, handler in TABLE.items() if handler in (*_ORDERS, *_SHAPES))

# Other operators that users meet, and what to try instead.
_ACTIVATIONS = "silu gelu hardswish sigmoid hardsigmoid tanh elu mish softplus leaky_relu prelu"
_PARTS = "chunk split split_with_sizes select narrow"
HINTS: Mapping[str, str] = {
    **dict.fromkeys(_ACTIVATIONS.split(), "train it with ReLU or ReLU6"),
    **dict.fromkeys(["layer_norm", "group_norm", "instance_norm"], "train it with BatchNorm"),
    **dict.fromkeys(_PARTS.split(), "compute the parts by layers of their own"),
    "log_softmax": "leave it to the loss, and return the logits",
    "sum": "use mean, which differs by a constant factor",
}
