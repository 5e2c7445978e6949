"""The operator table: aten names, without the overload and without the underscore of the in-place form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from unfloat.formats.torch import (
    activation,
    arithmetic,
    attention,
    linear,
    movement,
    norms,
    pooling,
    recurrent,
    resize,
    selection,
)

Handler = Callable[..., Any]  # (Builder, x=..., the schema's other arguments by name) -> Operand, or a tuple of them

TABLE: Mapping[str, Handler] = {
    "_adaptive_avg_pool2d": pooling.adaptive_average_pool,
    "_log_softmax": arithmetic.log_softmax,
    "_native_batch_norm_legit_no_training": linear.batch_norm_inference,
    "_softmax": arithmetic.softmax,
    "_to_copy": movement.same_type,
    "_unsafe_view": movement.reshape,
    "adaptive_avg_pool1d": partial(pooling.adaptive_average_pool, dimensions=1),
    "adaptive_avg_pool2d": pooling.adaptive_average_pool,
    "adaptive_max_pool1d": partial(pooling.adaptive_max_pool, dimensions=1),
    "adaptive_max_pool2d": pooling.adaptive_max_pool,
    "add": arithmetic.add,
    "addmm": linear.addmm,
    "alias": movement.nothing,
    "alpha_dropout": arithmetic.dropout,
    "avg_pool1d": partial(pooling.average_pool, dimensions=1),
    "avg_pool2d": pooling.average_pool,
    "batch_norm": linear.batch_norm,
    "bmm": attention.matmul,
    "cat": movement.concatenate,
    "channel_shuffle": movement.channel_shuffle,
    "clamp": arithmetic.clamp,
    "clamp_max": arithmetic.clamp,
    "clamp_min": norms.clamp_min,
    "clip": arithmetic.clamp,
    "clone": movement.nothing,
    "concat": movement.concatenate,
    "concatenate": movement.concatenate,
    "constant_pad_nd": movement.pad,
    "contiguous": movement.nothing,
    "conv1d": linear.convolution,
    "conv2d": linear.convolution,
    "conv_transpose1d": linear.transpose_convolution,
    "conv_transpose2d": linear.transpose_convolution,
    "convolution": linear.convolution,
    "detach": movement.nothing,
    "div": norms.div,
    "dropout": arithmetic.dropout,
    "expand_as": norms.expand_as,
    "feature_alpha_dropout": arithmetic.feature_dropout,
    "feature_dropout": arithmetic.feature_dropout,
    "flatten": movement.reshape,
    "hardtanh": arithmetic.hardtanh,
    "lift_fresh_copy": movement.nothing,
    "linalg_vector_norm": norms.vector_norm,
    "linear": linear.linear,
    "log_softmax": arithmetic.log_softmax,
    "mT": movement.last_two,
    "matmul": attention.matmul,
    "max_pool1d": partial(pooling.max_pool, dimensions=1),
    "max_pool2d": pooling.max_pool,
    "max_pool2d_with_indices": pooling.max_pool_with_indices,
    "mean": pooling.mean,
    "mm": attention.matmul,
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
    "scaled_dot_product_attention": attention.attention,
    "softmax": arithmetic.softmax,
    "squeeze": movement.reshape,
    "sub": arithmetic.sub,
    "sum": pooling.total,
    "swapaxes": movement.transpose,
    "swapdims": movement.transpose,
    "t": movement.last_two,
    "to": movement.same_type,
    "transpose": movement.transpose,
    "type_as": movement.same_type,
    "unflatten": movement.reshape,
    "unsqueeze": movement.reshape,
    "view": movement.reshape,
    "view_as": movement.reshape,
    # Values chosen, resized and compared.
    "_upsample_nearest_exact1d": resize.nearest_exact,
    "_upsample_nearest_exact2d": resize.nearest_exact,
    "amax": resize.amax,
    "amin": resize.amin,
    "argmax": resize.arg_max,
    "chunk": selection.chunk,
    "embedding": selection.embedding,
    "expand": selection.expand,
    "flip": selection.flip,
    "index": selection.index,
    "index_select": selection.index_select,
    "max": resize.max_of,
    "maximum": resize.maximum,
    "min": resize.min_of,
    "minimum": resize.minimum,
    "narrow": selection.narrow,
    "pixel_shuffle": selection.pixel_shuffle,
    "pixel_unshuffle": selection.pixel_unshuffle,
    "reflection_pad1d": selection.reflection_pad,
    "reflection_pad2d": selection.reflection_pad,
    "repeat": selection.repeat,
    "repeat_interleave": selection.repeat_interleave,
    "replication_pad1d": selection.replication_pad,
    "replication_pad2d": selection.replication_pad,
    "roll": selection.roll,
    "select": selection.select,
    "slice": selection.part_slice,
    "split": selection.split,
    "split_with_sizes": selection.split,
    "stack": selection.stack,
    "tile": selection.repeat,
    "unbind": selection.unbind,
    "unsafe_chunk": selection.chunk,
    "unsafe_split": selection.split,
    "unsafe_split_with_sizes": selection.split,
    "upsample_bilinear2d": resize.bilinear,
    "upsample_nearest1d": resize.nearest,
    "upsample_nearest2d": resize.nearest,
    # Functions of one value.
    "abs": activation.absolute,
    "gelu": activation.gelu,
    "glu": activation.glu,
    "hardsigmoid": activation.hardsigmoid,
    "hardswish": activation.hardswish,
    "leaky_relu": activation.leaky_relu,
    "pow": arithmetic.power,
    "prelu": activation.prelu,
    "sigmoid": activation.sigmoid,
    "silu": activation.silu,
    "square": arithmetic.square,
    "tanh": activation.tanh,
    # Recurrent layers.
    "lstm": recurrent.lstm,
    "new_zeros": recurrent.zeros,
    "zeros": recurrent.zeros,
    "zeros_like": recurrent.zeros,
}

# Handlers that take parameters too: what a parameter may go through on its way into an operator.
_ORDERS = (movement.permute, movement.transpose, movement.last_two)
_SHAPES = (movement.reshape, movement.nothing, movement.same_type)
VIEWS = frozenset(name for name, handler in TABLE.items() if handler in (*_ORDERS, *_SHAPES))
PARAMETRIC = VIEWS | {"embedding"}

INDICES = frozenset(["argmax"])  # operators that give integers
CONVERSIONS = frozenset(name for name, handler in TABLE.items() if handler is movement.same_type)

# Handlers that read values whose batch is another axis than the first (`turned.py`): they know axes by `dim` and `dims`
# alone, or by counting from the last. With how many of the last axes that may not be the batch's.
_ALONG = "amax amin cat chunk flip glu log_softmax mean narrow select slice softmax split split_with_sizes sum unbind"
_EACH = "abs add clamp clamp_max clamp_min div dropout gelu hardsigmoid hardswish hardtanh leaky_relu mul neg pow relu relu6"
TURNING: Mapping[str, int] = {
    **dict.fromkeys(f"{_ALONG} {_EACH} rsub sigmoid silu square sub tanh".split(), 0),
    "linear": 1,
    "bmm": 2,
    "matmul": 2,
}

# Other operators that users meet, and what to try instead.
_ACTIVATIONS = "elu selu celu mish softplus"
_PLAIN = "a plain weight: torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm of the older form"
_RECURRENT = "gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"
HINTS: Mapping[str, str] = {
    **dict.fromkeys(_ACTIVATIONS.split(), "train it with ReLU, SiLU or Hardswish"),
    **dict.fromkeys(["layer_norm", "group_norm", "instance_norm"], "train it with BatchNorm"),
    **dict.fromkeys(_RECURRENT.split(), "train it with nn.LSTM"),
    **dict.fromkeys(["_weight_norm", "_weight_norm_interface", "mv", "vdot"], _PLAIN),
}
