"""Post-training quantization: read, rewrite, equalize, calibrate, correct, lower. PTQ is training with no training steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unfloat.ir.graph import Graph, Shape
from unfloat.program.program import Program
from unfloat.program.summary import count_unusual
from unfloat.quant.algorithms.bias_correction import correct_biases
from unfloat.quant.algorithms.equalization import look_ahead, measure_factors, scaled
from unfloat.quant.batches import example_of, non_empty, refused_by
from unfloat.quant.calibrate import calibrate
from unfloat.quant.recipe import Recipe
from unfloat.quant.simulate import Simulation
from unfloat.quant.student import Student
from unfloat.spec.errors import CalibrationError, UnsupportedError

Read = Callable[..., Graph]
Prepare = Callable[[Graph, Mapping[str, Shape], Callable[[str], int]], Graph]


def quantize(
    model: Any, calibration: Iterable[Any], recipe: Recipe, read: Read, prepare: Prepare, progress: bool | None = None
) -> Program:
    """See `unfloat.quantize`. The reader and the passes are handed in: this room does not import its neighbours."""
    require_float(model)
    first, batches = non_empty(calibration)
    graph = _read_with(first, model, read)
    simulation = simulate(model, graph, recipe, prepare)
    if recipe.equalize:
        ahead, batches = look_ahead(batches)
        simulation.use(scaled(simulation.parameters, measure_factors(simulation, ahead)))
    choose(simulation, batches, progress, _length(calibration))
    return with_counts(simulation.convert({"recipe": recipe.to_toml()}), simulation.counts)


def require_float(model: Any) -> None:
    """Refuse a student in place of the float model, and a mode in which nothing can be traced.

    Raises:
        UnsupportedError: With the remedy.
    """
    if isinstance(model, torch.nn.Module) and any(isinstance(module, Student) for module in model.modules()):
        raise UnsupportedError(
            "required the float model, found a student; try: its Program, unfloat.convert(student)", []
        )
    if torch.is_inference_mode_enabled():
        raise UnsupportedError(
            "a model cannot be traced under torch.inference_mode(); try: outside of it, or under torch.no_grad()", []
        )


def _read_with(first: Any, model: Any, read: Read) -> Graph:
    """The Graph, traced with the first batch; where that fails for the batch's sake, the batch is to blame."""
    example = example_of(first, model)
    try:
        return read(model, example, frozen=True)
    except UnsupportedError as error:
        ran = error.__cause__ is not None and isinstance(model, torch.nn.Module)  # the model's own code, while traced
        reason = refused_by(model, example) if ran else ""
        if not reason:
            raise
        raise CalibrationError(f"calibration batch 0: {reason}") from error


def choose(simulation: Simulation, batches: Iterable[Any], progress: bool | None, total: int | None = None) -> None:
    """Fill a Simulation's labels and corrections from calibration batches, with progress bars."""
    with _progress(progress) as bars:
        kept = calibrate(simulation, batches, lambda b: bars.track(b, total=total, description="calibrating"))
        if simulation.recipe.bias_correction and kept.held_back:
            task = bars.add_task("correcting biases", total=len(simulation.graph.nodes))
            corrected = correct_biases(simulation, kept, lambda: bars.advance(task))
            simulation.counts["corrected_channels"] = corrected


def with_counts(program: Program, counts: Mapping[str, int]) -> Program:
    """The Program with what was unusual in it counted in its metadata."""
    return replace(program, metadata={**program.metadata, "counts": {**counts, **count_unusual(program)}})


def simulate(model: Any, graph: Graph, recipe: Recipe, prepare: Prepare) -> Simulation:
    """A Simulation of a freshly read Graph, its passes applied, over the model's live parameters."""
    parameters = live_parameters(model)
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    prepared = prepare(graph, shapes, recipe.activation_bits_of)
    return Simulation(prepared, parameters, recipe)


def live_parameters(model: Any) -> dict[str, torch.Tensor]:
    """The parameters and buffers of a module or an ExportedProgram by name, shared, every alias included.

    A model that is a file has none: its weights are the Graph's constants.
    """
    if isinstance(model, str | Path):
        return {}
    if not isinstance(model, torch.nn.Module):
        return {**model.state_dict, **model.constants}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return dict(named)


def _length(calibration: Iterable[Any]) -> int | None:
    return len(calibration) if isinstance(calibration, Sized) else None


def _progress(show: bool | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    visible = sys.stderr.isatty() if show is None else show
    return Progress(*columns, console=Console(stderr=True), disable=not visible)
