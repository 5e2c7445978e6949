"""Every operator's files with the public runtime that says what is right, and what that says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from tests.conformance.generate import codes_for, generator, in_rows
from tests.formats.one_operator import moves, values, weights
from tests.formats.one_operator.built import Built, Maker, Rng, file_of, label_of, near, sizes, version
from tests.peers.call import peer
from tests.peers.programs import in_a_row
from tests.peers.protocol import Arrays
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.table.activations import gelu_obstacle, hard_swish_obstacle, leaky_relu_obstacle
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine
from unfloat.spec.qparams import dequantize, quantize

SAMPLES = 4


def computed_shape(rng: Rng, dtype: str) -> bytes:
    """SHAPE, whose first number and a constant are packed to what a RESHAPE asks for, as converters write it."""
    shape, label = sizes(rng), label_of(rng, dtype)
    count = math.prod(shape)
    tensors = [
        TfTensor("x", shape, dtype, label),
        TfTensor("shape", (len(shape),), "int32"),
        *(TfTensor(name, (1,), "int32", None, np.array([n], np.int32)) for name, n in (("zero", 0), ("one", 1))),
        TfTensor("batch", (), "int32"),
        TfTensor("rest", (), "int32", None, np.array(count, np.int32)),
        TfTensor("wanted", (2,), "int32"),
        TfTensor("y", (1, count), dtype, label),
    ]
    operators = (
        TfOperator("SHAPE", 1, ("x",), ("shape",), "ShapeOptions", {"OutType": ("TensorType", "INT32")}),
        TfOperator(
            "STRIDED_SLICE",
            1,
            ("shape", "zero", "one", "one"),
            ("batch",),
            "StridedSliceOptions",
            {"ShrinkAxisMask": 1},
        ),
        TfOperator("PACK", 1, ("batch", "rest"), ("wanted",), "PackOptions", {"ValuesCount": 2}),
        TfOperator("RESHAPE", 1, ("x", "wanted"), ("y",), "ReshapeOptions"),
    )
    return encode(TfModel({t.name: t for t in tensors}, operators, (("x", "x"),), (("y", "y"),)), "a shape")


def border(rng: Rng, dtype: str) -> bytes:
    """QUANTIZE from real numbers, a rescaling, and DEQUANTIZE to real numbers."""
    shape, label = sizes(rng), label_of(rng, dtype)
    tensors = [
        TfTensor("x", shape, "float32"),
        TfTensor("codes", shape, dtype, label),
        TfTensor("others", shape, dtype, near(rng, label, dtype)),
        TfTensor("y", shape, "float32"),
    ]
    operators = (
        TfOperator("QUANTIZE", 1, ("x",), ("codes",), "QuantizeOptions"),
        TfOperator("QUANTIZE", version("QUANTIZE", dtype), ("codes",), ("others",), "QuantizeOptions"),
        TfOperator("DEQUANTIZE", version("DEQUANTIZE", dtype), ("others",), ("y",), "DequantizeOptions"),
    )
    return encode(TfModel({t.name: t for t in tensors}, operators, (("x", "x"),), (("y", "y"),)), "a border")


class Kind(NamedTuple):
    """Files of one operator.

    Attributes:
        file: One of them, of some width.
        witnesses: The public runtime that says what is right, for each width that one knows.
    """

    file: Callable[[Rng, str], bytes]
    witnesses: Mapping[str, str]


SIGNED = {"int8": "tflm", "int16": "tflm"}
MICRO = {**SIGNED, "uint8": "litert"}  # TensorFlow Lite Micro has kernels of uint8 no longer
NARROW = {"int8": "tflm", "uint8": "litert"}
MIXED = {"int8": "tflm", "int16": "litert", "uint8": "litert"}  # what it knows of int8 only
LITERT = {"int8": "litert", "int16": "litert", "uint8": "litert"}
BYTES = {"int8": "litert", "uint8": "litert"}


def kind(builtin: str, make: Maker, witnesses: Mapping[str, str] = MICRO) -> Kind:
    """An operator's files."""
    return Kind(lambda rng, dtype: file_of(builtin, make(rng, dtype), rng, dtype), witnesses)


def moving(builtin: str, make: Callable[[Rng], Built], witnesses: Mapping[str, str] = MICRO) -> Kind:
    """The files of an operator that asks for nothing of its codes' width."""
    return kind(builtin, lambda rng, _: make(rng), witnesses)


FORMS = ("none", "tanh")  # of GELU
KINDS: dict[str, Kind] = {
    "CONV_2D": kind("CONV_2D", weights.conv2d),
    "DEPTHWISE_CONV_2D": kind("DEPTHWISE_CONV_2D", weights.depthwise_conv2d),
    "FULLY_CONNECTED": kind("FULLY_CONNECTED", weights.fully_connected, SIGNED),  # in floating point in LiteRT
    "TRANSPOSE_CONV": kind("TRANSPOSE_CONV", weights.transpose_conv),
    "BATCH_MATMUL": kind("BATCH_MATMUL", weights.batch_matmul, SIGNED),
    **{name: kind(name, values.joint(name)) for name in ("ADD", "SUB", "MUL")},
    **{name: moving(name, moves.pair) for name in ("MAXIMUM", "MINIMUM")},
    **{name: kind(name, values.pool) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    **{name: kind(name, values.folding) for name in ("MEAN", "SUM")},
    **{name: moving(name, moves.reduction, MIXED) for name in ("REDUCE_MAX", "REDUCE_MIN")},
    "SOFTMAX": kind("SOFTMAX", values.rows("softmax", "SoftmaxOptions")),
    "LOG_SOFTMAX": kind("LOG_SOFTMAX", values.rows("log_softmax", "LogSoftmaxOptions"), {"int8": "tflm"}),
    "LOGISTIC": kind("LOGISTIC", values.sigmoid("logistic"), SIGNED),
    "TANH": kind("TANH", values.sigmoid("tanh"), SIGNED),
    "RELU": kind("RELU", values.function()),
    "RELU6": kind("RELU6", values.bounded),
    "RELU6 to another label": kind("RELU6", values.function(), LITERT),  # Micro does not look at it
    "RELU_N1_TO_1": kind("RELU_N1_TO_1", values.bounded, BYTES),  # Micro does not know it
    "RELU_N1_TO_1 to another label": kind("RELU_N1_TO_1", values.function(), BYTES),
    "LEAKY_RELU": kind(
        "LEAKY_RELU",
        values.agreeing(values.leaky_relu, lambda labels, fields: leaky_relu_obstacle(labels, fields["Alpha"])),
    ),
    "PRELU": kind("PRELU", values.prelu, NARROW),
    "HARD_SWISH": kind(
        "HARD_SWISH",
        values.agreeing(values.function(options="HardSwishOptions"), lambda labels, _: hard_swish_obstacle(labels)),
        NARROW,
    ),
    "GELU": kind(
        "GELU",
        values.agreeing(values.gelu, lambda labels, fields: gelu_obstacle(labels, FORMS[fields["Approximate"]])),
        BYTES,
    ),  # Micro does not know it
    "ABS": kind("ABS", values.function(options="AbsOptions"), SIGNED),
    "L2_NORMALIZATION": kind("L2_NORMALIZATION", values.rows("l2_normalization", "L2NormOptions"), {"int8": "tflm"}),
    "QUANTIZE": kind("QUANTIZE", values.quantize),
    "DEQUANTIZE": Kind(border, MICRO),
    "RESHAPE": moving("RESHAPE", moves.reshape),
    "SQUEEZE": moving("SQUEEZE", moves.squeeze),
    "EXPAND_DIMS": moving("EXPAND_DIMS", moves.expand_dims),
    "PAD": kind("PAD", moves.pad),
    "PADV2": kind("PADV2", moves.padv2),
    "MIRROR_PAD": moving("MIRROR_PAD", moves.mirror_pad, MIXED),
    "CONCATENATION": moving("CONCATENATION", moves.concatenation),
    "CONCATENATION with constants": kind("CONCATENATION", moves.concatenation_with_constants),
    "PACK": moving("PACK", moves.pack),
    "UNPACK": moving("UNPACK", moves.unpack),
    "SPLIT": moving("SPLIT", moves.split),
    "SPLIT_V": moving("SPLIT_V", moves.split_v),
    "SLICE": moving("SLICE", moves.slice_),
    "STRIDED_SLICE": moving("STRIDED_SLICE", moves.strided_slice),
    "TRANSPOSE": moving("TRANSPOSE", moves.transpose),
    "GATHER": moving("GATHER", moves.gather, MIXED),
    "GATHER by data": kind("GATHER", moves.take, MIXED),
    "TILE": moving("TILE", moves.tile, LITERT),  # Micro does not know it
    "SHAPE": Kind(computed_shape, MICRO),
    "RESIZE_BILINEAR": moving(
        "RESIZE_BILINEAR", moves.resize("ResizeBilinearOptions", both=False), {"int8": "tflm", "int16": "litert"}
    ),
    "RESIZE_NEAREST_NEIGHBOR": moving(
        "RESIZE_NEAREST_NEIGHBOR", moves.resize("ResizeNearestNeighborOptions", both=True)
    ),
    "SPACE_TO_DEPTH": moving("SPACE_TO_DEPTH", moves.space_to_depth, NARROW),
    "DEPTH_TO_SPACE": moving("DEPTH_TO_SPACE", moves.depth_to_space, NARROW),
    "SPACE_TO_BATCH_ND": moving(
        "SPACE_TO_BATCH_ND", moves.space_to_batch, LITERT
    ),  # Micro's border is code 0, not real 0
    "SPACE_TO_BATCH_ND at zero point 0": kind("SPACE_TO_BATCH_ND", moves.space_to_batch_at_zero, NARROW),
    "BATCH_TO_SPACE_ND": moving("BATCH_TO_SPACE_ND", moves.batch_to_space, MIXED),
    "ARG_MAX": moving("ARG_MAX", moves.arg_max, NARROW),
}


Key = tuple[str, str]  # a kind's name, and the type of its codes


class Job(NamedTuple):
    """A file, what it is here, and what both are asked.

    Attributes:
        file: Its content.
        program: As it was read.
        codes: Of each input, a sample a row.
        asked: The same as the file takes it: those codes, or the real numbers that become them.
    """

    file: bytes
    program: Program
    codes: Arrays
    asked: Arrays

    def said(self, outputs: Arrays) -> Arrays:
        """A Program's output codes as the file says them."""
        if self.asked is self.codes:
            return outputs
        return [dequantize(outputs[0], self.program.tensors[self.program.outputs[0].value].qparams)]


def job(name: str, dtype: str, index: int) -> Job:
    """A random file of a kind, read; where it takes real numbers, some of them lie between two codes."""
    rng = generator("one operator", name, dtype, str(index))
    file = KINDS[name].file(rng, dtype)
    program = from_bytes(file)
    codes = in_rows(program, codes_for(program, SAMPLES, f"{name} {dtype} {index}"))
    if name != "DEQUANTIZE":
        return Job(file, program, codes, codes)
    label = program.tensors[program.inputs[0].value].qparams
    between = rng.choice([0, 0.5, -0.5, rng.normal()], codes[0].shape)
    reals = ((codes[0] - label.zero_point + between) * label.scale[0]).astype(np.float32)
    return Job(file, program, [quantize(reals, label)], [reals])


class Outcome(NamedTuple):
    """What many files gave.

    Attributes:
        codes: How many were compared, in each witness.
        wrong: Who differs from the public runtime, and where; or why that refuses.
    """

    codes: int
    wrong: list[str]


def outcomes(jobs: Mapping[Key, Sequence[Job]]) -> dict[Key, Outcome]:
    """Interpreter and engine against each kind's public runtime, which runs in one process for all of them."""
    found = {}
    for runtime in sorted({witness_of(key) for key in jobs}):
        asked = {key: own for key, own in jobs.items() if witness_of(key) == runtime}
        answers = iter(peer(runtime)([(job.file, job.asked) for own in asked.values() for job in own]))
        found |= {key: compared(own, list(islice(answers, len(own)))) for key, own in asked.items()}
    return found


def witness_of(key: Key) -> str:
    """The public runtime that says what is right of an operator and a width."""
    name, dtype = key
    return KINDS[name].witnesses[dtype]


def natively(job: Job) -> Arrays:
    """The engine's outputs, sample after sample where there are states."""
    engine, count = Engine(job.program), len(job.codes[0])
    step = 1 if any(REGISTRY[i.op].states for i in job.program.instructions) else count
    runs = [engine.run(*(codes[k : k + step] for codes in job.codes)) for k in range(0, count, step)]
    if len(job.program.outputs) == 1:
        return [np.concatenate(runs)]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def compared(jobs: Sequence[Job], answers: Sequence[Arrays | str]) -> Outcome:
    """Interpreter and engine against a public runtime's answers."""
    count, wrong = 0, []
    for index, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
        if isinstance(answer, str):
            wrong.append(f"model {index}: it is refused: {answer}")
            continue
        witnesses = {"interpreter": in_a_row(job.program, job.codes), "engine": natively(job)}
        for name, outputs in witnesses.items():
            pairs = zip(job.said(outputs), answer, strict=True)
            gaps = sum(np.count_nonzero(own != public.reshape(own.shape)) for own, public in pairs)
            wrong += [f"model {index}: {name} differs in {gaps}: {job.program.instructions}"] if gaps else []
        count += sum(public.size for public in answer)
    return Outcome(count, wrong)
