"""Cross-layer equalisation of a model's parameters: what `passes/equalize.py` computes, measured and applied.

The factors respect clamps on the values that were seen, so a few calibration batches go through the float network first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from unfloat.ir.graph import Node, Param
from unfloat.passes.equalize import Reach, equalize, producers
from unfloat.program.lower import norm_slots
from unfloat.quant.batches import inputs_of
from unfloat.quant.simulate import Simulation, clamped

Reduce = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
BATCHES = 4  # how many calibration batches are looked at


def look_ahead(batches: Iterable[Any], count: int = BATCHES) -> tuple[list[Any], Iterator[Any]]:
    """The first batches, and an iterator over all of them: data may come from a generator, once."""
    iterator = iter(batches)
    first = list(islice(iterator, count))
    return first, chain(first, iterator)


def measure_factors(
    simulation: Simulation, batches: Iterable[Any], reduce: Reduce = lambda low, high: (low, high)
) -> dict[str, np.ndarray]:
    """What to multiply parameters by so that channel ranges are even and the float function is the same.

    Args:
        simulation: After the passes.
        batches: See `quant.batches.inputs_of`; values that these do not reach are taken not to occur.
        reduce: Of all least and greatest values: over processes that must come to the same factors.

    Returns:
        Factors by the parameter's name, in its own shape; parameters that stay are left out.

    Raises:
        CalibrationError: A batch is not what the model takes.
        NumericDomainError: A parameter is not finite; names the layer.
    """
    frozen = _tied(simulation)
    seen: dict[str, list[torch.Tensor]] = {node.name: [] for node in producers(simulation.graph, frozen)}

    def compute(node: Node, values: list[torch.Tensor]) -> torch.Tensor:
        before = simulation.before_clamp(node, values)
        if node.name in seen:
            seen[node.name].append(torch.stack(before.flatten(0, -2).aminmax(dim=0)))
        return clamped(node, before, values)

    with torch.no_grad():
        for number, batch in enumerate(batches if seen else ()):
            inputs = inputs_of(batch, simulation.graph, number)
            simulation.execute(simulation.to_inner([x.to(simulation.backend.device) for x in inputs]), compute)
    return equalize(simulation.graph, simulation.fetch, _reach(seen, reduce), frozen)


def _reach(seen: Mapping[str, list[torch.Tensor]], reduce: Reduce) -> dict[str, Reach]:
    """What was seen at each producer, [least and greatest, channels] a batch, over all batches and processes."""
    if not seen:
        return {}
    ends = [torch.stack(batches) for batches in seen.values()]
    low, high = reduce(torch.cat([e[:, 0].amin(0) for e in ends]), torch.cat([e[:, 1].amax(0) for e in ends]))
    sizes = [e.shape[-1] for e in ends]
    sides = [t.split(sizes) for t in (low.to(torch.float64).cpu(), high.to(torch.float64).cpu())]
    return {name: Reach(a.numpy(), b.numpy()) for name, a, b in zip(seen, *sides, strict=True)}


def scaled(parameters: Mapping[str, torch.Tensor], factors: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The parameters multiplied by their factors, new tensors; those without a factor are shared."""
    result = dict(parameters)
    with torch.no_grad():
        result.update({name: _product(parameters[name], factor) for name, factor in factors.items()})
    return result


def scale_in_place(parameters: Mapping[str, torch.Tensor], factors: Mapping[str, np.ndarray]) -> None:
    """Multiply a live module's own parameters by their factors, as `scaled` does."""
    with torch.no_grad():
        for name, factor in factors.items():
            parameters[name].copy_(_product(parameters[name], factor))


def _product(parameter: torch.Tensor, factor: np.ndarray) -> torch.Tensor:
    """Rounded once, to the parameter's own type."""
    wide = torch.from_numpy(factor).to(parameter.device)
    return (parameter.detach().to(torch.float64) * wide).to(parameter.dtype)


def _tied(simulation: Simulation) -> set[str]:
    """Parameters that share memory with another one that the network reads under another name."""
    used = [param.name for node in simulation.graph.nodes for param in _params(node)]
    places = {
        name: simulation.parameters[name].untyped_storage().data_ptr() for name in used if name in simulation.parameters
    }
    counts = Counter(places.values())
    return {name for name, place in places.items() if counts[place] > 1}


def _params(node: Node) -> list[Param]:
    return [*node.params.values(), *(() if node.norm is None else norm_slots(node.norm).values())]
