"""Calibration: run the Simulation in float over batches, observe every site, choose the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.quant.batches import inputs_of
from unfloat.quant.observe import Observer, make_observer
from unfloat.quant.simulate import Simulation, clamped
from unfloat.quant.sites import Site, find_sites
from unfloat.spec.errors import CalibrationError, NumericDomainError

KEPT_SAMPLES = 96  # for bias correction: enough for stable medians, few enough for memory and time
HELD_BACK = 4  # every fourth kept sample is held back: corrections are judged on it, not made from it


@dataclass
class KeptSamples:
    """Some of the calibration samples, for algorithms that look again; one list of tensors a sample, one a port.

    Attributes:
        fit: Samples to measure on.
        held_back: Samples to judge on.
        means: For each linear node the means of its float values before the clamp: one [samples, channels] tensor for
            each batch, over the samples in `fit`.
    """

    fit: list[list[torch.Tensor]] = field(default_factory=list)
    held_back: list[list[torch.Tensor]] = field(default_factory=list)
    means: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def offer(self, inputs: list[torch.Tensor]) -> list[int]:
        """Keep samples until there are enough; the rows that went to `fit`."""
        rows = []
        for row in range(inputs[0].shape[0]):
            count = len(self.fit) + len(self.held_back)
            if count >= KEPT_SAMPLES:
                break
            held_back = count % HELD_BACK == HELD_BACK - 1
            (self.held_back if held_back else self.fit).append([x[row : row + 1].clone() for x in inputs])
            rows += [] if held_back else [row]
        return rows


def channel_means(values: torch.Tensor) -> torch.Tensor:
    """The mean of each channel of each sample, [samples, channels]; a product with ones, far faster than a reduction."""
    rows = values.reshape(values.shape[0], -1, values.shape[-1]).to(torch.float32)
    ones = torch.full((1, rows.shape[1]), 1.0 / rows.shape[1], device=rows.device)
    return torch.matmul(ones, rows)[:, 0].to(torch.float64)


def calibrate(
    simulation: Simulation, batches: Iterable[Any], wrap: Callable[[Iterable[Any]], Iterable[Any]]
) -> KeptSamples:
    """Choose QParams for every site and store them in `simulation.labels`.

    Args:
        simulation: After the passes, parameters live.
        batches: See `quant.batches.inputs_of`.
        wrap: Puts a progress bar around an iterable.

    Returns:
        Samples kept for further algorithms.

    Raises:
        CalibrationError: A batch is not what the model takes, or a value inside the network is not finite.
    """
    recipe = simulation.recipe
    sites = find_sites(simulation.graph, recipe)
    recipe.check_patterns([node.name for node in simulation.graph.nodes])
    observers = {s.name: make_observer(recipe, s.makers[0]) for s in sites if s.fixed is None}
    watch = {maker: observers[s.name] for s in sites if s.fixed is None for maker in s.makers}
    kept = KeptSamples()
    with torch.no_grad():
        for number, batch in enumerate(wrap(batches)):
            inputs = inputs_of(batch, simulation.graph, number)
            _observe(simulation, inputs, watch, kept)
    _choose(simulation, sites, observers)
    return kept


def _observe(simulation: Simulation, inputs: list[torch.Tensor], watch: dict[str, Observer], kept: KeptSamples) -> None:
    rows = kept.offer(inputs)
    inner = simulation.to_inner([x.to(simulation.backend.device) for x in inputs])
    for port, x in zip(simulation.graph.inputs, inner, strict=True):
        if port.value in watch:
            watch[port.value].update(x)

    def compute(node: Node, values: list[torch.Tensor]) -> torch.Tensor:
        before = simulation.before_clamp(node, values)
        if rows and REGISTRY[node.op].accumulate is not None:
            chosen = before if len(rows) == len(before) else before[rows]
            kept.means.setdefault(node.name, []).append(channel_means(chosen))
        result = clamped(node, before, values)
        observer = watch.get(node.name)
        if observer is not None:
            try:
                observer.update(result)
            except NumericDomainError as error:
                where = f" ({node.source})" if node.source else ""
                raise CalibrationError(
                    f"layer {node.name}{where}: {error}; check its weights and the calibration data"
                ) from error
        return result

    simulation.execute(inner, compute)


def _choose(simulation: Simulation, sites: list[Site], observers: dict[str, Observer]) -> None:
    silent = [name for name, observer in observers.items() if not observer.low and not observer.high]
    simulation.counts["constant_sites"] = len(silent)
    for site in sites:
        label = site.fixed or observers[site.name].qparams(site.dtype, site.bits)
        simulation.labels.update(dict.fromkeys(site.values, label))
