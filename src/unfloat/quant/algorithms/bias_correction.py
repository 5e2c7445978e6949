"""Bias correction per channel, in one sweep through the network.

Quantizing weights and inputs shifts the mean of a channel; every pixel shares the shift, so it does not average out
downstream (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
The sweep carries the float value and the exact codes of each site side by side. At a linear node it measures the mean
difference of each channel on the samples to fit, and keeps the correction of those channels whose output error on the
held-back samples it lowers. Later nodes see the corrected codes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.quant.simulate import Simulation, dequantize_codes

Pair = tuple[torch.Tensor, torch.Tensor]  # float value, codes


def correct_biases(simulation: Simulation, inputs: list[torch.Tensor], fit: int, advance: Callable[[], None]) -> int:
    """Fill `simulation.corrections`.

    Args:
        simulation: Calibrated: every value has a label.
        inputs: Samples in the model's own layout: first `fit` to measure on, then those held back.
        fit: How many samples to measure on; at least one more must follow.
        advance: Called after every node (progress).

    Returns:
        How many channels were corrected.
    """
    corrected = 0

    def compute(node: Node, pairs: list[Pair]) -> Pair:
        nonlocal corrected
        advance()
        floats, codes = [p[0] for p in pairs], [p[1] for p in pairs]
        linear = REGISTRY[node.op].accumulate is not None
        if linear and simulation.recipe.wish(node.name, "bias_correction"):
            result, count = _correct(simulation, node, floats, codes, fit)
            corrected += count
            return result
        return simulation.float_value(node, floats), simulation.exact_value(node, codes)

    with torch.no_grad():
        inner = simulation.to_inner(inputs)
        pairs = list(zip(inner, simulation.quantize_inputs(inner), strict=True))
        simulation.execute(pairs, compute)
    return corrected


def _correct(
    simulation: Simulation, node: Node, floats: list[torch.Tensor], codes: list[torch.Tensor], fit: int
) -> tuple[Pair, int]:
    """One linear node: measure, correct where it helps, and return its float value and final codes."""
    operator = REGISTRY[node.op]
    assert operator.accumulate is not None and operator.finish is not None
    instruction, constants = simulation.lowered(node)
    accumulator = operator.accumulate(simulation.backend, instruction.attributes, constants, codes)
    exact = simulation.before_clamp(node, floats)
    scale = simulation.labels[node.inputs[0]].scale[0] * np.asarray(instruction.labels["weight"].scale)
    unit = torch.from_numpy(np.broadcast_to(scale, instruction.constants["bias"].shape).astype(np.float32))
    shift = _channel_mean(exact[:fit]) - _channel_mean((accumulator[:fit] + constants["bias"]) * unit)

    wanted = exact if node.clamp is None else exact.clamp_(node.clamp.low, node.clamp.high)
    label = simulation.labels[node.name]

    def finish() -> torch.Tensor:
        now, tensors = simulation.lowered(node)
        return operator.finish(simulation.backend, now.attributes, tensors, accumulator)  # type: ignore[misc]

    def errors(result: torch.Tensor) -> torch.Tensor:
        return _channel_mean((dequantize_codes(result[fit:], label) - wanted[fit:]) ** 2)

    before = finish()
    simulation.corrections[node.name] = shift.to(torch.float64).numpy()
    after = finish()
    better = errors(after) < errors(before)
    if not better.any():
        del simulation.corrections[node.name]
        return (wanted, before), 0
    simulation.corrections[node.name] = np.where(better.numpy(), shift.to(torch.float64).numpy(), 0.0)
    return (wanted, finish()), int(better.sum())


def _channel_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over all axes but the last, in float64 where sums are long."""
    return values.reshape(-1, values.shape[-1]).mean(dim=0, dtype=torch.float64)
