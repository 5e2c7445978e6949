"""One instruction as the C writer sees it, and what an emitter says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from unfloat.formats.c.text import Value
from unfloat.ir.graph import EMPTY
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.spec.qparams import QParams

BYTE_OFFSET = 128  # an activation's byte is its int8 code + 128, as in the engine


@dataclass(frozen=True)
class Prepared:
    """What the engine's scalar level made of an instruction.

    Attributes:
        name: The instruction's.
        kernel: "<family>__<variant>".
        packed: What the kernel computes once, at load; empty where it packs nothing.
        scratch: Bytes it needs while it runs.
        state: Bytes that a run leaves to the next.
    """

    name: str
    kernel: str
    packed: bytes
    scratch: int
    state: int


@dataclass(frozen=True)
class Layer:
    """An instruction, its tensors, and what the engine made of it."""

    index: int
    instruction: Instruction
    inputs: tuple[Tensor, ...]
    output: Tensor
    prepared: Prepared

    def number(self, attribute: str) -> int:
        """An attribute that is one integer."""
        return int(self.instruction.attributes[attribute])

    def numbers(self, attribute: str) -> list[int]:
        """An attribute that is several integers."""
        return [int(n) for n in self.instruction.attributes[attribute]]

    def output_stage(self) -> Value:
        """`uf_output`: how results leave, in byte space."""
        offset = byte_offset(self.output.qparams)
        codes = {field: self.number(field) + offset for field in ("clamp_min", "clamp_max")}
        rounding = f"QMATH_{self.instruction.attributes['rounding'].upper()}"
        return {"zero_point": self.number("output_zero_point") + offset, **codes, "rounding": rounding}


@dataclass(frozen=True)
class Parameters:
    """A layer's share of `uf_params`.

    Attributes:
        member: Of the union; "" for an operator without parameters.
        fields: Of that member, as its struct in kernel.h has them.
        constants: Arrays to which fields point, by the field's name.
    """

    member: str = ""
    fields: Mapping[str, Value] = field(default_factory=lambda: EMPTY)
    constants: Mapping[str, np.ndarray] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Emitter:
    """What the writer must know of an operator: its parameters, and of what type its kernel's packed data are."""

    parameters: Callable[[Layer], Parameters]
    packed: str = "uint8"


def byte_offset(label: QParams) -> int:
    """What is added to a code to make it the byte, or the word, that kernels see."""
    return BYTE_OFFSET if label.dtype == "int8" else 0


def storage_bytes(codes: np.ndarray) -> np.ndarray:
    """Codes as kernels see them."""
    if codes.dtype != np.int8:
        return codes
    return (codes.astype(np.int16) + BYTE_OFFSET).astype(np.uint8)
