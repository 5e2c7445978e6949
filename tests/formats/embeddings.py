"""Files whose data choose rows, as Keras and PyTorch's converter write embeddings."""

from __future__ import annotations

import numpy as np

from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor

ROWS, WIDTH, STEPS = 30, 8, 7
LABEL = Quantization((0.05,), 3)
RNG = np.random.default_rng(0)


def embedding(
    dtype: str = "int8", integers: str = "int32", *, rows: int = ROWS, cast: bool = False, leaves: bool = False
) -> TfModel:
    """`table[ids < 0 ? ids + rows : ids]`, a mean over time; with a CAST of real numbers, or the numbers as an output."""
    label = LABEL if dtype == "int8" else None
    table = RNG.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
    codes = RNG.integers(-128, 128, (ROWS, WIDTH)).astype(np.int8)
    plain = np.dtype(integers)
    tensors = [
        TfTensor("given", (1, STEPS), "float32" if cast else integers),
        TfTensor("ids", (1, STEPS), integers),
        TfTensor("zero", (), integers, None, np.array(0, plain)),
        TfTensor("rows", (), integers, None, np.array(rows, plain)),
        TfTensor("below", (1, STEPS), "bool"),
        TfTensor("added", (1, STEPS), integers),
        TfTensor("counted", (1, STEPS), integers),
        TfTensor("table", (ROWS, WIDTH), dtype, label, codes if dtype == "int8" else table),
        TfTensor("taken", (1, STEPS, WIDTH), dtype, label),
        TfTensor("axis", (), "int32", None, np.array(1, np.int32)),
        TfTensor("y", (1, WIDTH), dtype, label),
    ]
    source = "ids" if cast else "given"
    operators = [
        TfOperator("CAST", 1, ("given",), ("ids",), "CastOptions"),
        TfOperator("LESS", 1, (source, "zero"), ("below",), "LessOptions"),
        TfOperator("ADD", 1, (source, "rows"), ("added",), "AddOptions"),
        TfOperator("SELECT", 1, ("below", "added", source), ("counted",), "SelectOptions"),
        TfOperator("GATHER", 2, ("table", "counted"), ("taken",), "GatherOptions", {"Axis": 0, "BatchDims": 0}),
        TfOperator("MEAN", 2, ("taken", "axis"), ("y",), "ReducerOptions", {"KeepDims": False}),
    ]
    outputs = (("y", "y"), *((("counted", "counted"),) if leaves else ()))
    kept = [t for t in tensors if cast or t.name != "ids"]
    return TfModel({t.name: t for t in kept}, tuple(operators[0 if cast else 1 :]), (("given", "given"),), outputs)


def file(model: TfModel) -> bytes:
    return encode(model, "an embedding")


def left_in_floats(builtin: str, dtype: str, *, seen: bool = False) -> TfModel:
    """A lookup of real numbers that a QUANTIZE reads, as PyTorch's converter leaves it; or an output does too."""
    label = Quantization((0.02,), 5 if dtype != "int16" else 0)
    table = RNG.choice([0.01, -0.03, 9.0, *RNG.normal(0, 1, 9)], (ROWS, WIDTH)).astype(np.float32)  # ties, and beyond
    operands, fields = ("ids", "table"), {}
    if builtin == "GATHER":
        operands, fields = ("table", "ids"), {"Axis": 0, "BatchDims": 0}
    tensors = [
        TfTensor("ids", (STEPS,), "int32"),
        TfTensor("table", (ROWS, WIDTH), "float32", None, table),
        TfTensor("taken", (STEPS, WIDTH), "float32"),
        TfTensor("y", (STEPS, WIDTH), dtype, label),
    ]
    options = {"GATHER": "GatherOptions"}.get(builtin, "")
    operators = (
        TfOperator(builtin, 1, operands, ("taken",), options, fields),
        TfOperator("QUANTIZE", 1, ("taken",), ("y",), "QuantizeOptions"),
    )
    outputs = (("y", "y"), *((("taken", "taken"),) if seen else ()))
    return TfModel({t.name: t for t in tensors}, operators, (("ids", "ids"),), outputs)
