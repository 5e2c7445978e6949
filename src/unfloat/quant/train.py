"""Preparing a student, and what becomes of it. Training starts where post-training quantization ends."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import nn

from unfloat.ir.graph import Graph, Node
from unfloat.ops import REGISTRY
from unfloat.ops._linear import norm_gain
from unfloat.program.lower import node_params, norm_slots, view
from unfloat.program.program import Program
from unfloat.quant.algorithms.equalization import look_ahead, measure_factors, scale_in_place
from unfloat.quant.batches import as_called, non_empty
from unfloat.quant.distributed import mean_over_ranks, reduce_extremes, several
from unfloat.quant.modes import asks_for_mode, differing
from unfloat.quant.post_training import Prepare, Read, choose, live_parameters, require_float, with_counts
from unfloat.quant.recipe import Recipe
from unfloat.quant.simulate import Simulation
from unfloat.quant.student import Student
from unfloat.spec.errors import TrainingError, TrainingWarning, UnsupportedError
from unfloat.spec.qparams import qparams_from_range

WIDE = torch.float64


def prepare(
    model: nn.Module,
    example_inputs: Any,
    recipe: Recipe,
    calibration: Iterable[Any] | None,
    read: Read,
    passes: Prepare,
    progress: bool | None,
) -> Student:
    """See `unfloat.prepare`. The reader and the passes are handed in: this room does not import its neighbours."""
    if not isinstance(model, nn.Module):
        raise UnsupportedError(f"required a torch.nn.Module to train, found {type(model).__name__}", [])
    require_float(model)
    example_inputs = as_called(example_inputs)
    own = _copied(model)
    graph = _read_training(own, example_inputs, read)
    shapes = {name: tuple(t.shape) for name, t in live_parameters(own).items()}
    fused = passes(graph, shapes, lambda value: recipe.activation_bits_of(value))
    _warn_of_shared(fused)
    student = Student(own, fused, recipe)
    if calibration is not None or _trained(own):
        batches = [_as_batch(example_inputs)] if calibration is None else calibration
        calibrate_student(student, _equalize(student, batches) if recipe.equalize else batches, progress)
    return student


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:  # torch copies parameters, and no tensor that was computed from them
        plain = "a plain weight (torch.nn.utils.prune.remove, torch.nn.utils.remove_weight_norm)"
        hint = f"{plain}, and no computed tensor as an attribute of a module"
        first = str(error).strip().partition(". ")[0]
        raise UnsupportedError("the model cannot be copied, to train the copy", [f"{first}; try: {hint}"]) from error


def _equalize(student: Student, batches: Iterable[Any]) -> Iterator[Any]:
    """Even out the channel ranges of the student's own parameters; all batches, still to be gone through."""
    ahead, batches = look_ahead(non_empty(batches)[1])
    live = student._live()
    scale_in_place(
        live, measure_factors(Simulation(student._simulation.graph, live, student.recipe), ahead, reduce_extremes)
    )
    return batches


def _trained(model: nn.Module) -> bool:
    """Whether batch norms know their statistics, from steps that they counted or from a file that holds no counts.

    In a new model ranges under them would be meaningless: the first training step observes its own.
    """
    buffers = dict(model.named_buffers())

    def knows(norm: str) -> bool:
        mean, variance = buffers[f"{norm}running_mean"], buffers[f"{norm}running_var"]
        return bool(buffers[f"{norm}num_batches_tracked"]) or bool((mean != 0).any() or (variance != 1).any())

    return all(
        knows(name.removesuffix("num_batches_tracked")) for name in buffers if name.endswith("num_batches_tracked")
    )


def _read_training(model: nn.Module, example_inputs: Any, read: Read) -> Graph:
    """Read what training computes (dropout included); of a model in eval(), what eval() computes may do instead."""
    try:
        graph = read(model, example_inputs, training=True)
    except UnsupportedError as error:
        try:
            evaluated = read(model, example_inputs, training=False)
        except UnsupportedError:
            raise error from None
        refused = "the model can be read in eval(), but not what it computes in train() (stochastic depth, say)"
        _train_eval(model, refused, "without", error.problems)
        return evaluated
    if not asks_for_mode(model):
        return graph
    try:
        evaluated = read(model, example_inputs, training=False)
    except UnsupportedError:
        return graph
    problems = differing(graph, evaluated)
    if not problems:
        return graph
    refused = "the model computes something else in train() than in eval(), which is what is deployed"
    _train_eval(model, refused, "not what it computes in train()", problems)
    return evaluated


def _train_eval(model: nn.Module, refused: str, why: str, problems: Sequence[str]) -> None:
    """Warn that a student trains what eval() computes.

    Raises:
        UnsupportedError: The model is in train(), so that its user may mean the other.
    """
    if model.training:
        hint = "call model.eval() before prepare to train what eval() computes"
        raise UnsupportedError(f"{refused}: {hint}", problems)
    warnings.warn(
        f"the student trains what the model computes in eval(), {why}: {'; '.join(problems)}",
        TrainingWarning,
        stacklevel=5,
    )


def _as_batch(example_inputs: Any) -> Any:
    return tuple(example_inputs) if isinstance(example_inputs, list) else example_inputs


def _warn_of_shared(graph: Graph) -> None:
    """Two layers may share parameters; each then has its own codes and scales of them."""
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        norm = {} if node.norm is None else norm_slots(node.norm)
        for param in (*node.params.values(), *norm.values()):
            if param.name not in graph.constants:
                readers[param.name].append(node.name)
    shared: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, layers in readers.items():
        shared[tuple(layers)].append(name)
    for sharing, names in shared.items():
        if len(sharing) > 1:
            warnings.warn(
                f"the layers {', '.join(sharing)} share {', '.join(names)}: trained as one, but each layer quantizes "
                "them by itself, moves a norm's averages, and the Program stores them for each; give each layer its own "
                "copy if they should learn apart",
                TrainingWarning,
                stacklevel=4,
            )


def calibrate_student(student: Student, batches: Iterable[Any], progress: bool | None) -> None:
    """Choose all ranges by calibration and start training from there, the corrected biases included."""
    live = student._live()
    simulation = Simulation(student._simulation.graph, live, student.recipe)
    choose(simulation, non_empty(batches)[1], progress, len(batches) if isinstance(batches, Sized) else None)
    if several():
        _agree_on_ranges(simulation)
        _agree_on_corrections(simulation)
    with torch.no_grad():
        for node in simulation.graph.nodes:
            if node.name in simulation.corrections:
                _absorb(simulation, node, simulation.corrections[node.name])
    student.unfloat.start(simulation.labels)


def _absorb(simulation: Simulation, node: Node, correction: np.ndarray) -> None:
    """Put a measured shift of a bias into the parameters: the norm's mean, which training will measure too, or the bias."""
    params = node_params(node, simulation.fetch)
    gain = norm_gain(params)
    if gain is not None and node.norm is not None:
        shift = np.where(gain != 0, -correction / np.where(gain != 0, gain, 1.0), 0.0)
        target = view(simulation.parameter(node.norm.mean.name), node.norm.mean)
    elif "bias" in node.params:
        shift, target = correction, view(simulation.parameter(node.params["bias"].name), node.params["bias"])
    else:
        return
    target += torch.from_numpy(shift).to(target.device, target.dtype)


def _agree_on_ranges(simulation: Simulation) -> None:
    """Several processes calibrate on their own data: every range is widened to cover all of theirs."""
    names = list(simulation.labels)
    labels = [simulation.labels[name] for name in names]
    ends = torch.tensor([q.window for q in labels], dtype=WIDE)  # float64: they give that label again
    low, high = ends.T.contiguous()
    low, high = reduce_extremes(low, high)
    for name, q, a, b in zip(names, labels, low.tolist(), high.tolist(), strict=True):
        simulation.labels[name] = qparams_from_range(a, b, q.dtype, q.bits)


def _agree_on_corrections(simulation: Simulation) -> None:
    """The same for the shifts of biases that each has measured: their mean, zero where a process wants none."""
    layers = [n.name for n in simulation.graph.nodes if REGISTRY[n.op].quant.weight_axis is not None]
    nothing = {name: np.zeros(simulation.shapes[name][-1]) for name in layers}  # channels are last
    own = [torch.from_numpy(simulation.corrections.get(name, zeros)).to(WIDE) for name, zeros in nothing.items()]
    means = mean_over_ranks(torch.cat(own)).split([len(shifts) for shifts in own]) if own else ()
    simulation.corrections = {name: m.numpy() for name, m in zip(layers, means, strict=True) if bool(m.any())}


def convert(model: nn.Module) -> Program:
    """See `unfloat.convert`."""
    student = unwrapped(model)
    simulation = student.simulation()
    program = simulation.convert({"recipe": student.recipe.to_toml()})
    return with_counts(program, {})


WRAPPERS: tuple[Callable[[nn.Module], Any], ...] = (
    lambda m: getattr(m, "_orig_mod", None),  # torch.compile
    lambda m: getattr(m, "module", None),  # DistributedDataParallel, AveragedModel
)


def unwrapped(model: nn.Module) -> Student:
    """The student inside whatever PyTorch has wrapped around it."""
    while not isinstance(model, Student):
        inner = next((found for find in WRAPPERS if isinstance(found := find(model), nn.Module)), None)
        if inner is None:
            raise TrainingError(f"required a student made by unfloat.prepare, found {type(model).__name__}")
        model = inner
    return model
