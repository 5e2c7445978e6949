"""What is unusual but normal in a Program, counted for its summary."""

from __future__ import annotations

import numpy as np

from unfloat.ops import REGISTRY
from unfloat.ops._linear import BIAS_BITS, WIDE_BIAS_BITS
from unfloat.program.program import Program


def count_unusual(program: Program) -> dict[str, int]:
    """Count channels without weights, and channels whose weight scale a large bias enlarged.

    Returns:
        "zero_channels" and "enlarged_scales".
    """
    counts = {"zero_channels": 0, "enlarged_scales": 0}
    for instruction in program.instructions:
        axis = REGISTRY[instruction.op].quant.weight_axis
        if axis is None:
            continue
        weight = np.moveaxis(instruction.constants["weight"], axis, 0)
        weight = weight.reshape(weight.shape[0], -1)
        bias = np.abs(instruction.constants["bias"].astype(np.int64))
        counts["zero_channels"] += int((weight == instruction.labels["weight"].zero_point).all(axis=1).sum())
        # A scale chosen for its bias puts the bias at 2^24, give or take the scale's own float32 rounding.
        wide = instruction.constants["bias"].dtype == np.int64
        most = 2 ** (WIDE_BIAS_BITS if wide else BIAS_BITS)
        counts["enlarged_scales"] += int((bias >= most - max(2, most >> 23)).sum())
    return counts
