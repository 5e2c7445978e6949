"""Bias correction per channel, in one sweep through the network.

Quantizing weights and inputs shifts the mean of a channel; every pixel shares the shift, so it does not average out
downstream (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
Calibration has taken the mean of each channel's float values for each sample to fit. The sweep runs the exact integers
on them and, beside the float values, on the samples held back. At a linear node a channel's correction is the median,
over samples, of its mean difference; it is kept where it lowers the output error on the held-back samples. Later nodes
see the corrected codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.quant.calibrate import KeptSamples, channel_means
from unfloat.quant.simulate import Simulation, clamped, dequantize_codes

T = TypeVar("T")
CHUNK = 4  # samples at a time: tensors stay small enough that memory is reused, not mapped anew


@dataclass
class Value:
    """One value of the network on all samples, in chunks.

    Attributes:
        fit: Codes on the samples to measure on.
        held_back: Float values and codes on the samples to judge on.
    """

    fit: list[torch.Tensor]
    held_back: list[tuple[torch.Tensor, torch.Tensor]]


def correct_biases(simulation: Simulation, samples: KeptSamples, advance: Callable[[], None]) -> int:
    """Fill `simulation.corrections`.

    Args:
        simulation: Calibrated: every value has a label.
        samples: From calibration; at least one to measure on and one to judge on.
        advance: Called after every node (progress).

    Returns:
        How many channels were corrected.
    """
    corrected = 0

    def compute(node: Node, inputs: list[Value]) -> Value:
        nonlocal corrected
        advance()
        linear = REGISTRY[node.op].accumulate is not None
        if linear and simulation.recipe.wish(node.name, "bias_correction"):
            corrected += _correct(simulation, node, inputs, torch.cat(samples.means[node.name]))
        return _run(simulation, node, inputs)

    with torch.no_grad():
        simulation.execute(_inputs(simulation, samples), compute)
    return corrected


def _inputs(simulation: Simulation, samples: KeptSamples) -> list[Value]:
    """The network's inputs, one Value a port."""
    values = [Value([], []) for _ in simulation.graph.inputs]
    for inner in _chunks(simulation, samples.fit):
        for value, codes in zip(values, simulation.quantize_inputs(inner), strict=True):
            value.fit.append(_stored(codes))
    for inner in _chunks(simulation, samples.held_back):
        for value, x, codes in zip(values, inner, simulation.quantize_inputs(inner), strict=True):
            value.held_back.append((x, _stored(codes)))
    return values


def _chunks(simulation: Simulation, samples: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """Samples joined into chunks, inner layout, a tensor for each port."""
    starts = range(0, len(samples), CHUNK)
    device = simulation.backend.device
    joined = [[torch.cat(column).to(device) for column in zip(*samples[s : s + CHUNK], strict=True)] for s in starts]
    return [simulation.to_inner(chunk) for chunk in joined]


def _stored(codes: torch.Tensor) -> torch.Tensor:
    """Codes at rest take half the memory; int16 holds all storage types."""
    return codes.to(torch.int16)


def _run(simulation: Simulation, node: Node, inputs: list[Value]) -> Value:
    """A node's value on all samples."""
    if not inputs:
        codes, value = simulation.constant_codes(node), simulation.float_value(node, [])
        return Value([codes], [(value, codes)])
    fit = [_stored(simulation.exact_value(node, codes)) for codes in _rows([v.fit for v in inputs])]
    held_back = []
    for row in _rows([v.held_back for v in inputs]):
        codes = _stored(simulation.exact_value(node, [c for _, c in row]))
        held_back.append((simulation.float_value(node, [x for x, _ in row]), codes))
    return Value(fit, held_back)


def _rows(columns: list[list[T]]) -> list[list[T]]:
    """Chunks of several operands side by side; a constant's one chunk goes with every other."""
    count = max(map(len, columns))
    return [[c[i] if len(c) > 1 else c[0] for c in columns] for i in range(count)]


def _correct(simulation: Simulation, node: Node, inputs: list[Value], float_means: torch.Tensor) -> int:
    """Measure one linear node's correction, and keep it for the channels where it helps."""
    accumulate, finish = REGISTRY[node.op].accumulate, REGISTRY[node.op].finish
    assert accumulate is not None and finish is not None
    instruction, constants = simulation.lowered(node)

    def accumulators(codes: list[torch.Tensor]) -> torch.Tensor:
        return accumulate(simulation.backend, instruction.attributes, constants, codes)

    means = torch.cat([channel_means(accumulators(codes)) for codes in _rows([v.fit for v in inputs])])
    differences = float_means - (means + constants["bias"]) * _accumulator_scale(simulation, node)
    # Of samples the median: a few with clipped outliers must not speak for all.
    shift = differences.median(dim=0).values.cpu().numpy()

    wanted, found = [], []
    for row in _rows([v.held_back for v in inputs]):
        floats = [x for x, _ in row]
        wanted.append(clamped(node, simulation.before_clamp(node, floats), floats))
        found.append(accumulators([c for _, c in row]))

    def error() -> torch.Tensor:
        now, tensors = simulation.lowered(node)
        label = simulation.labels[node.name]
        results = [dequantize_codes(finish(simulation.backend, now.attributes, tensors, a), label) for a in found]
        return torch.cat([channel_means((r - w) ** 2) for r, w in zip(results, wanted, strict=True)]).mean(dim=0)

    before = error()
    simulation.corrections[node.name] = shift
    better = (error() < before).cpu().numpy()
    if better.any():
        simulation.corrections[node.name] = np.where(better, shift, 0.0)
    else:
        del simulation.corrections[node.name]
    return int(better.sum())


def _accumulator_scale(simulation: Simulation, node: Node) -> torch.Tensor:
    """The real value of one accumulator step, `S_in * S_w`, for each channel; float64."""
    instruction, _ = simulation.lowered(node)
    scale = simulation.labels[node.inputs[0]].scale[0] * np.asarray(instruction.labels["weight"].scale)
    whole = np.array(np.broadcast_to(scale, instruction.constants["bias"].shape), np.float64)
    return torch.from_numpy(whole).to(simulation.backend.device)
