"""What operators that end in a requantization share: clamp codes, and the last step itself."""

from __future__ import annotations

from typing import Any

from unfloat.ir.graph import Attributes
from unfloat.ir.instruction import Tensor
from unfloat.ops._operator import Request
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import quantize_multiplier, saturate, scalar_like
from unfloat.spec.qparams import QParams, clamp_code


def clamp_fields(request: Request) -> dict[str, Any]:
    """The instruction's clamp codes: the code range, narrowed by the fused clamp (eq. 6), and its rounding."""
    label, clamp = request.output.qparams, request.clamp
    low, high = (
        (label.qmin, label.qmax) if clamp is None else (clamp_code(clamp.low, label), clamp_code(clamp.high, label))
    )
    return {"clamp_min": low, "clamp_max": high, "rounding": request.rounding}


def single_factor(factor: float, output: Tensor) -> dict[str, Any]:
    """Multiplier, shift and output zero point of one per-tensor factor."""
    multiplier, shift = quantize_multiplier(factor)
    return {"multiplier": multiplier, "shift": shift, "output_zero_point": output.qparams.zero_point}


def scale_of(tensor: Tensor | QParams) -> float:
    """A per-tensor scale: float32, held in a double."""
    return (tensor.qparams if isinstance(tensor, Tensor) else tensor).scale[0]


def requantize_to_codes(
    b: Backend, attributes: Attributes, accumulator: Array, multiplier: Array, shift: Array
) -> Array:
    """`clamp(Z + requantize(accumulator))` (eq. 13), saturating to the fused clamp's codes."""
    steps = b.requantize(accumulator, multiplier, shift, attributes["rounding"])
    return saturate(steps + attributes["output_zero_point"], attributes["clamp_min"], attributes["clamp_max"])


def requantize_single(b: Backend, attributes: Attributes, accumulator: Array) -> Array:
    """`requantize_to_codes` with the instruction's one multiplier and shift."""
    multiplier, shift = (
        scalar_like(accumulator, attributes["multiplier"]),
        scalar_like(accumulator, attributes["shift"]),
    )
    return requantize_to_codes(b, attributes, accumulator, multiplier, shift)


def code_span(tensor: Tensor) -> tuple[int, int]:
    """The least and greatest `q - Z` that codes of this label can have."""
    return tensor.qparams.qmin - tensor.qparams.zero_point, tensor.qparams.qmax - tensor.qparams.zero_point
