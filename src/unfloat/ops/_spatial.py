"""Window geometry that convolution and pooling share. Images are NHWC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unfloat.ir.graph import Shape
from unfloat.ops._operator import WINDOW
from unfloat.spec.fixedpoint import INT32_MAX


def require_rank(shape: Shape, rank: int, what: str) -> None:
    """Raise ValueError unless `shape` has `rank` dimensions."""
    if len(shape) != rank:
        raise ValueError(f"{what} must have {rank} dimensions, found shape {shape}")


def require_kernel(kernel: Sequence[int]) -> None:
    """Raise ValueError unless a kernel's height and width are such that the engine can multiply them."""
    if max(kernel) > WINDOW:
        raise ValueError(f"a kernel has at most {WINDOW} rows and columns, found {tuple(kernel)}")


def windows(attributes: Mapping[str, Any], image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """How many windows fit an image of (height, width), after padding and dilation.

    Raises:
        ValueError: Not one fits, or the kernel is too large.
    """
    top, left, bottom, right = attributes["padding"]
    dilation = attributes.get("dilation", (1, 1))
    padded = (image[0] + top + bottom, image[1] + left + right)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = [(p - s) // stride + 1 for p, s, stride in zip(padded, spans, attributes["stride"], strict=True)]
    require_kernel(kernel)
    if min(counts) < 1:
        raise ValueError(f"a window of {tuple(spans)} does not fit the padded image of {padded}")
    steps = [p + k * d + s for p, k, d, s in zip(padded, kernel, dilation, attributes["stride"], strict=True)]
    if max(steps) > INT32_MAX:  # what the engine and exported C count in
        raise ValueError(f"rows and columns of the padded image are at most {INT32_MAX} with a window, found {padded}")
    return counts[0], counts[1]
