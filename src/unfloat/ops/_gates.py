"""What the labels of an LSTM must be: of its cell, and of its gates' weights."""

from __future__ import annotations

import math

import numpy as np

from unfloat.ir.instruction import Instruction
from unfloat.ops._rescaling import scale_of
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import QParams

GATES = 4
LEAST_EXPONENT, MOST_EXPONENT = -20, 0  # of the cell's scale


def cell_scale(label: QParams) -> float:
    """Its scale, a power of two."""
    if label.dtype != "int16" or label.axis is not None:
        raise NumericDomainError(f"lstm needs a cell of int16 codes and one scale, found {label}")
    half, exponent = math.frexp(scale_of(label))
    if half != 0.5 or not LEAST_EXPONENT < exponent <= MOST_EXPONENT + 1:
        raise NumericDomainError(f"lstm needs a power of two, 2^-20 to 1, as its cell's scale, found {scale_of(label)}")
    return scale_of(label)


def gate_scales(instruction: Instruction, role: str) -> np.ndarray:
    """One for each gate, symmetric."""
    label = instruction.labels[role]
    if label.dtype != "int8" or label.zero_point or label.axis not in (None, 0):
        raise NumericDomainError(f"lstm needs a symmetric {role} of int8 with a scale for each gate, found {label}")
    return np.broadcast_to(label.exact, GATES)
