"""TFLite's builtin operators as the writer needs them: options' table, and version for int8, uint8 and int16 codes.

A version is what a reader must at least know; TFLite's own table of them is `tools/versioning/op_version.cc`. Where an
option raises it, the operator table says so.
"""

from __future__ import annotations

BUILTINS = {
    "ABS": ("AbsOptions", 2, 2, 3),
    "ADD": ("AddOptions", 2, 1, 3),
    "AVERAGE_POOL_2D": ("Pool2DOptions", 2, 1, 3),
    "BATCH_MATMUL": ("BatchMatMulOptions", 2, 1, 3),
    "CONCATENATION": ("ConcatenationOptions", 2, 1, 3),
    "CONV_2D": ("Conv2DOptions", 3, 1, 4),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3, 1, 5),
    "DEQUANTIZE": ("DequantizeOptions", 2, 1, 3),
    "FULLY_CONNECTED": ("FullyConnectedOptions", 4, 1, 7),
    "GELU": ("GeluOptions", 2, 2, 2),
    "HARD_SWISH": ("HardSwishOptions", 1, 1, 1),
    "LEAKY_RELU": ("LeakyReluOptions", 2, 2, 2),
    "LOGISTIC": ("", 2, 1, 3),
    "L2_NORMALIZATION": ("L2NormOptions", 2, 1, 1),
    "LOG_SOFTMAX": ("LogSoftmaxOptions", 2, 1, 1),
    "MAXIMUM": ("MaximumMinimumOptions", 2, 1, 4),
    "MAX_POOL_2D": ("Pool2DOptions", 2, 1, 3),
    "MEAN": ("ReducerOptions", 2, 1, 3),
    "MINIMUM": ("MaximumMinimumOptions", 2, 1, 4),
    "MUL": ("MulOptions", 2, 1, 4),
    "PAD": ("PadOptions", 2, 1, 3),
    "PADV2": ("PadV2Options", 2, 1, 3),
    "PRELU": ("", 1, 1, 1),
    "QUANTIZE": ("QuantizeOptions", 1, 1, 2),
    "RELU": ("", 2, 1, 2),
    "RELU6": ("", 2, 1, 2),
    "RELU_N1_TO_1": ("", 1, 1, 1),
    "RESHAPE": ("ReshapeOptions", 1, 1, 1),
    "SOFTMAX": ("SoftmaxOptions", 2, 1, 3),
    "TANH": ("", 2, 1, 3),
    "SUB": ("SubOptions", 2, 1, 5),
    "SUM": ("ReducerOptions", 2, 1, 2),
    "SVDF": ("SVDFOptions", 3, 3, 3),
    "TRANSPOSE_CONV": ("TransposeConvOptions", 3, 3, 3),
    "TRANSPOSE": ("TransposeOptions", 2, 1, 5),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", 1, 1, 1),
    # Codes that are chosen and compared.
    "ARG_MAX": ("ArgMaxOptions", 2, 1, 1),
    "GATHER": ("GatherOptions", 2, 1, 4),
    "REDUCE_MAX": ("ReducerOptions", 2, 1, 3),
    "REDUCE_MIN": ("ReducerOptions", 2, 1, 3),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", 2, 1, 4),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 2, 1, 4),
    "SLICE": ("SliceOptions", 2, 1, 4),
    "STRIDED_SLICE": ("StridedSliceOptions", 2, 1, 4),
}
MAX_CONCATENATED = 10  # operands of CONCATENATION in TensorFlow Lite Micro
MAX_RANK = 5  # of PAD, TRANSPOSE, SLICE, MAXIMUM and MINIMUM in TensorFlow Lite Micro
MAX_STRIDED_RANK = 4  # of STRIDED_SLICE in TensorFlow Lite Micro


class UnsayableError(Exception):
    """TFLite has no words for an instruction; the message says why. The writer collects all of them."""


class UnreadableError(Exception):
    """An operator of a file means nothing that an instruction can; the message says why. The reader collects all."""
