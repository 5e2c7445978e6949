"""Instruction and Tensor: what a Program is made of. No field that computes is a float."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unfloat.ir.graph import EMPTY, Attributes, Shape
from unfloat.spec.qparams import QParams
from unfloat.spec.record import Content


class Tensor(Content):
    """Codes, and the label that says what they mean.

    Attributes:
        name: Unique in the Program.
        shape: Dimension 0 of an activation is BATCH.
        qparams: The label.
        data: The codes of a constant (shape without BATCH), None for an activation.
    """

    name: str
    shape: Shape
    qparams: QParams
    data: np.ndarray | None = None


class Instruction(Content):
    """One integer operator: integers in, integers out.

    Attributes:
        op: Name in the operator registry.
        name: The layer's name; its output tensor carries the same one.
        inputs: Tensor names (activations or constants).
        attributes: Integers, tuples of integers, and the rounding's name.
        constants: Integer arrays by role: "weight", "bias", "multiplier", "shift".
        labels: QParams of those constants and states that stand for real numbers ("weight").
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: Attributes = EMPTY
    constants: Mapping[str, np.ndarray] = EMPTY
    labels: Mapping[str, QParams] = EMPTY
