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
from unfloat.quant.calibrate import KeptSamples
from unfloat.quant.simulate import Simulation, dequantize_codes

CHUNK = 4  # samples at a time: tensors stay small enough that memory is reused, not mapped anew

Chunk = tuple[torch.Tensor, torch.Tensor]  # float value, codes in their storage type
Value = list[Chunk]  # first the chunks to measure on, then those held back


def correct_biases(simulation: Simulation, samples: KeptSamples, advance: Callable[[], None]) -> int:
    """Fill `simulation.corrections`.

    Args:
        simulation: Calibrated: every value has a label.
        samples: At least one to measure on and one to judge on.
        advance: Called after every node (progress).

    Returns:
        How many channels were corrected.
    """
    fit, held_back = _chunks(simulation, samples.fit), _chunks(simulation, samples.held_back)
    corrected = 0

    def compute(node: Node, inputs: list[Value]) -> Value:
        nonlocal corrected
        advance()
        chunks = [([c[0] for c in row], [c[1] for c in row]) for row in zip(*inputs, strict=True)]
        linear = REGISTRY[node.op].accumulate is not None
        if linear and simulation.recipe.wish(node.name, "bias_correction"):
            value, count = _correct(simulation, node, chunks, len(fit))
            corrected += count
            return value
        chunks = chunks or [([], [])] * (len(fit) + len(held_back))  # a constant reads nothing
        return [(simulation.float_value(node, f), _stored(simulation.exact_value(node, q))) for f, q in chunks]

    with torch.no_grad():
        ports = zip(*fit, *held_back, strict=True)
        simulation.execute([list(value) for value in ports], compute)
    return corrected


def _chunks(simulation: Simulation, samples: list[list[torch.Tensor]]) -> list[list[Chunk]]:
    """Samples as chunks, each a list over the ports of float values and codes."""
    chunks = []
    for start in range(0, len(samples), CHUNK):
        joined = [torch.cat(column) for column in zip(*samples[start : start + CHUNK], strict=True)]
        inner = simulation.to_inner(joined)
        codes = map(_stored, simulation.quantize_inputs(inner))
        chunks.append(list(zip(inner, codes, strict=True)))
    return chunks


def _stored(codes: torch.Tensor) -> torch.Tensor:
    """Codes at rest take a quarter of the memory; int16 holds both storage types."""
    return codes.to(torch.int16)


def _correct(
    simulation: Simulation, node: Node, chunks: list[tuple[list[torch.Tensor], list[torch.Tensor]]], fit: int
) -> tuple[Value, int]:
    """One linear node: measure, correct where it helps, and return its float value and final codes."""
    operator = REGISTRY[node.op]
    assert operator.accumulate is not None
    instruction, constants = simulation.lowered(node)
    wanted, accumulators, difference, count = [], [], torch.zeros(()), 0
    unit = torch.from_numpy(_accumulator_scale(simulation, node).astype(np.float32))
    for number, (floats, codes) in enumerate(chunks):
        accumulator = operator.accumulate(simulation.backend, instruction.attributes, constants, codes)
        exact = simulation.before_clamp(node, floats)
        if number < fit:
            rows = exact.numel() // exact.shape[-1]
            difference = difference + _channel_sum(exact) - (_channel_sum(accumulator) + rows * constants["bias"]) * unit
            count += rows
        accumulators.append(accumulator)
        wanted.append(exact if node.clamp is None else exact.clamp_(node.clamp.low, node.clamp.high))
    shift = (difference / count).to(torch.float64).numpy()

    def finish(accumulator: torch.Tensor) -> torch.Tensor:
        now, tensors = simulation.lowered(node)
        assert operator.finish is not None
        return operator.finish(simulation.backend, now.attributes, tensors, accumulator)

    def error() -> torch.Tensor:
        label = simulation.labels[node.name]
        pairs = zip(accumulators[fit:], wanted[fit:], strict=True)
        return sum((_channel_sum((dequantize_codes(finish(a), label) - w) ** 2) for a, w in pairs), torch.zeros(()))

    before = error()
    simulation.corrections[node.name] = shift
    better = (error() < before).numpy()
    if better.any():
        simulation.corrections[node.name] = np.where(better, shift, 0.0)
    else:
        del simulation.corrections[node.name]
    return [(w, _stored(finish(a))) for a, w in zip(accumulators, wanted, strict=True)], int(better.sum())


def _accumulator_scale(simulation: Simulation, node: Node) -> np.ndarray:
    """The real value of one accumulator step, `S_in * S_w`, for each channel."""
    instruction, _ = simulation.lowered(node)
    scale = simulation.labels[node.inputs[0]].scale[0] * np.asarray(instruction.labels["weight"].scale)
    return np.broadcast_to(scale, instruction.constants["bias"].shape)


def _channel_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum over all axes but the last, as a product with ones: far faster than a reduction over rows."""
    rows = values.reshape(-1, values.shape[-1]).to(torch.float32)
    return torch.mv(rows.T, torch.ones(rows.shape[0]))
