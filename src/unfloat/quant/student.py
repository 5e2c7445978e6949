"""Student: the model, prepared to be trained with the integers it will be deployed with.

In `eval()` it computes the Program's integers. In `train()` the forward pass rounds where inference rounds, under the
ranges that `eval()` would use at that moment, and moves the ranges afterwards; gradients pass straight through, zero
where clamped (paper, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from unfloat.ir.graph import Attributes, Graph, Node, own_shape
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index, wrong_index
from unfloat.program.lower import view
from unfloat.quant.distributed import (
    reduce_extremes,
    reduce_moments,
    require_one_recipe,
    require_whole,
    several,
    stop_together,
)
from unfloat.quant.linear_step import LinearStep, Operand, clamp_steps, extremes
from unfloat.quant.loops import Bounds
from unfloat.quant.norm import Moments
from unfloat.quant.ranges import GO_BACK, NORM_FROZEN, RANGES_FROZEN, STEPS, Ranges
from unfloat.quant.recipe import Recipe
from unfloat.quant.simulate import Simulation, border_steps, dequantize_codes
from unfloat.quant.sites import find_sites
from unfloat.quant.straight_through import Add, Replace, ScaledGradient
from unfloat.spec.errors import InputError, NumericDomainError, TrainingError, UnfloatError
from unfloat.spec.fixedpoint import Addition
from unfloat.spec.qparams import QParams

STATE = "unfloat"  # the prefix of everything a student knows beyond the model
NO_FLOAT64 = ("mps",)
Record = Callable[[str, Operand], None]


class Student(nn.Module):
    """A model that trains with its deployed integers. Made by `unfloat.prepare`; becomes a Program by `unfloat.convert`.

    Parameters and buffers keep the model's names, so its checkpoints load with `strict=True` and optimizers work as
    ever; what is new lies under `unfloat.`. The module takes and returns what the model does.
    """

    unfloat: Ranges

    def __init__(self, model: nn.Module, graph: Graph, recipe: Recipe) -> None:
        """Take over a model's children.

        Args:
            model: A copy that belongs to the student.
            graph: After all passes, names referring to the model's parameters.
            recipe: The user's wishes.
        """
        super().__init__()
        require_one_recipe(recipe.to_toml())
        self._adopt(model)
        sites = find_sites(graph, recipe)
        recipe.check_patterns([node.name for node in graph.nodes])
        parameters = self._live()
        self._simulation = Simulation(graph, parameters, recipe)
        self._rows = rows_by_index(graph.nodes, graph.shapes())
        channels = {
            node.name: _scale_count(node, parameters, self._simulation) for node in graph.nodes if _is_linear(node)
        }
        self.unfloat = Ranges(sites, recipe, channels)
        device = next((p.device for p in parameters.values()), torch.device("cpu"))
        self.unfloat.to(device)
        self.train(model.training)
        self._checked_ranks = False

    def _adopt(self, model: nn.Module) -> None:
        for name, child in model.named_children():
            self._require_free(name)
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self._require_free(name)
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self._require_free(name)
            persistent = name not in model._non_persistent_buffers_set
            self.register_buffer(name, buffer, persistent=persistent)

    def _require_free(self, name: str) -> None:
        if name == STATE or hasattr(self, name):
            raise TrainingError(f"layer {name}: a student needs this name for itself, rename the model's attribute")

    @property
    def recipe(self) -> Recipe:
        """The wishes it was prepared with."""
        return self._simulation.recipe

    @property
    def steps(self) -> int:
        """Training steps taken: forward passes in `train()`."""
        return int(self.unfloat.progress[STEPS])

    def freeze_ranges(self, frozen: bool = True) -> None:
        """Keep activation ranges (or learned scales) as they are from now on."""
        self.unfloat.progress[RANGES_FROZEN] = int(frozen)

    def freeze_norm(self, frozen: bool = True) -> None:
        """Let every norm use its moving averages, and leave them alone, from now on."""
        self.unfloat.progress[NORM_FROZEN] = int(frozen)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own call: float in, float out."""
        return self._forward(args, kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The codes of every value of the network, as the present mode computes them; [batch, ...], channels last.

        In `train()` this is a training step. Values that are not quantized yet (`start_after`) are left out.
        """
        codes: dict[str, Tensor] = {}

        def record(name: str, x: Operand) -> None:
            if x.label is not None:
                codes[name] = (x.value.detach() + x.label.zero_point).to(torch.int32)

        self._forward(args, kwargs, record)
        return codes

    def calibrate(self, batches: Iterable[Any], progress: bool | None = None) -> None:
        """Choose all ranges anew, as post-training quantization does. See `unfloat.quantize` for `batches`."""
        from unfloat.quant.train import calibrate_student

        calibrate_student(self, batches, progress)

    def labels(self) -> dict[str, QParams]:
        """The QParams that each value has now, by the value's name."""
        return self.unfloat.labels()

    def train(self, mode: bool = True) -> Student:
        """See `torch.nn.Module.train`."""
        if hasattr(self, "_simulation"):
            self._simulation.forget()
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """A checkpoint of another recipe is refused before anything is loaded."""
        self.unfloat.check_recipe(state_dict, f"{prefix}{STATE}.")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def simulation(self) -> Simulation:
        """The Simulation under the present parameters and ranges; raises TrainingError where none was observed."""
        simulation = self._unlabelled()
        simulation.labels = self.unfloat.labels()
        return simulation

    def _unlabelled(self) -> Simulation:
        self._simulation.use(self._live())
        self._simulation.weight_clips = self.unfloat.weight_clips()
        self._simulation.labels = {}
        return self._simulation

    def _live(self) -> dict[str, Tensor]:
        named = [*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)]
        live = {name: tensor for name, tensor in named if not name.startswith(f"{STATE}.")}
        require_whole(self, live)
        return live

    @torch.compiler.disable
    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record | None = None) -> Any:
        inputs = self._inputs(args, kwargs)
        device = inputs[0].device.type
        if device in NO_FLOAT64:
            raise TrainingError(
                f"a student's exact sums need float64, which {device} has not: use a CPU or a CUDA device"
            )
        with torch.autocast(device, enabled=False):
            outputs = (self._train if self.training else self._eval)(inputs, record)
        return self._structured(outputs)

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        ports = self._simulation.graph.inputs
        named = [p.name for p in ports[len(args) :]]
        values = [*args, *(kwargs[name] for name in named if name in kwargs)]
        unknown = [name for name in kwargs if name not in named]
        if len(values) != len(ports) or unknown:
            found = f"{len(values)}" + (f" and {', '.join(unknown)} besides" if unknown else "")
            raise InputError(f"required {len(ports)} inputs ({', '.join(p.name for p in ports)}), found {found}")
        for port, x in zip(ports, values, strict=True):
            own, rows = own_shape(port), self._rows.get(port.value)
            numbers = isinstance(x, Tensor) and (rows is not None or x.is_floating_point())
            if not numbers or tuple(x.shape[1:]) != own[1:] or not len(x):
                found = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                kind = "floats" if rows is None else "integers"
                raise InputError(
                    f"input {port.name}: required {kind} of shape (n, {', '.join(map(str, own[1:]))}), found {found}; "
                    "only the batch may change, prepare another student for another size"
                )
            if rows is not None and (wrong := wrong_index(x, rows)):
                raise InputError(f"input {port.name}: {wrong}")
        return [x.to(torch.float32) for x in values]

    def _eval(self, inputs: list[Tensor], record: Record | None) -> list[Tensor]:
        simulation = self.simulation()

        def compute(node: Node, values: list[Tensor]) -> Tensor:
            codes = simulation.exact_value(node, values)
            label = simulation.labels[node.name]
            if record is not None:
                record(node.name, Operand(codes.to(torch.int32) - label.zero_point, label))
            return codes

        with torch.no_grad():
            codes = simulation.quantize_inputs(simulation.to_inner(inputs))
            if record is not None:
                for port, q in zip(simulation.graph.inputs, codes, strict=True):
                    label = simulation.labels[port.value]
                    record(port.value, Operand(q - label.zero_point, label))
            outputs = simulation.execute(codes, compute)
        ports = simulation.graph.outputs
        return [dequantize_codes(q, simulation.labels[p.value]) for p, q in zip(ports, outputs, strict=True)]

    def _train(self, inputs: list[Tensor], record: Record | None) -> list[Tensor]:
        if not self._checked_ranks:
            require_one_recipe(self.recipe.to_toml())
            self._checked_ranks = several()  # whoever trained alone before may join others
        if not self.unfloat.observed:
            TrainingStep(self, None).observe(inputs)
        return TrainingStep(self, record)(inputs)

    def _structured(self, outputs: list[Tensor]) -> Any:
        graph = self._simulation.graph
        outputs = [x.permute(port.permutation) for port, x in zip(graph.outputs, outputs, strict=True)]
        if graph.structure is None:
            return outputs[0]
        kind, detail = graph.structure
        if kind == "dict":
            return dict(zip(detail, outputs, strict=True))
        return tuple(outputs) if kind == "tuple" else outputs


class TrainingStep:
    """One forward pass in `train()`: values as steps, then ranges and moving averages move."""

    def __init__(self, student: Student, record: Record | None) -> None:
        """Under the student's present ranges."""
        self.ranges = student.unfloat
        self.wishes = student.recipe.training
        self.simulation = student.simulation() if self.ranges.observed else student._unlabelled()
        self.record = record
        steps, _, ranges_frozen, norm_frozen = self.ranges.progress.tolist()
        self.quantized = self.ranges.observed and steps >= self.wishes.start_after
        self.ranges_frozen = bool(ranges_frozen) or _passed(steps, self.wishes.freeze_ranges_after)
        self.norm = "frozen" if norm_frozen or _passed(steps, self.wishes.freeze_norm_after) else self.wishes.norm
        self.seen: list[tuple[int, Tensor]] = []
        self.moments: list[tuple[Node, Moments]] = []

    @torch.no_grad()
    def observe(self, inputs: list[Tensor]) -> None:
        """Where there are no ranges: take those of this batch, activations in float, and move nothing else."""
        inner = self.simulation.to_inner(inputs)
        ports = self.simulation.graph.inputs
        self._execute([self._border(port.value, x) for port, x in zip(ports, inner, strict=True)])
        self.ranges.begin(*self.batch)

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Real outputs, inner layout."""
        inner = self.simulation.to_inner(inputs)
        ports = self.simulation.graph.inputs
        operands = [self._border(port.value, x) for port, x in zip(ports, inner, strict=True)]
        outputs = self._execute(operands)
        self._move()
        return [x.real() for x in outputs]

    def _execute(self, operands: list[Operand]) -> list[Operand]:
        """Every value; then `batch`, the least and greatest value of each site over all processes.

        Raises:
            UnfloatError: On every process, if one of them cannot go on or has seen a NaN or an infinity.
        """
        outputs: list[Operand] = []
        failure: UnfloatError | None = None
        try:
            outputs = self.simulation.execute(operands, self._value)
        except NumericDomainError as error:
            failure = TrainingError(f"{error}; training has driven ranges and weights apart: {GO_BACK}")
        except UnfloatError as error:  # the others must not wait for this process
            failure = error
        low, high = self._extremes(failure is not None)
        ports = self.simulation.graph.inputs
        self.ranges.check_finite(low[:-1], high[:-1], {port.value for port in ports})
        stop_together(failure, bool(torch.isnan(high[-1])))
        self.batch = low[:-1], high[:-1]
        return outputs

    def _label(self, name: str) -> QParams | None:
        return self.simulation.labels[name] if self.quantized else None

    def _scale(self, name: str) -> Tensor | None:
        """The learned scale of the site that `name` makes, where it may learn."""
        if not self.quantized or not self.ranges.learned or self.ranges_frozen or name not in self.ranges.index:
            return None
        shape, label = self.simulation.shapes[name], self.simulation.labels[name]
        share = 1.0 / math.sqrt(math.prod(shape[1:]) * (label.qmax - label.qmin))
        return ScaledGradient.apply(self.ranges.scale[self.ranges.index[name]], share)

    def _clip(self, node: Node) -> Tensor | None:
        """The learned clip of a node's weight; a constant once ranges are frozen."""
        clip = self.simulation.weight_clips.get(node.name)
        if clip is None or self.ranges_frozen:
            return None if clip is None else clip.detach().to(torch.float64)
        weight = self.simulation.parameter(node.params["weight"].name)
        share = 1.0 / math.sqrt(weight.numel() / clip.numel() * (2 ** (self.simulation.rule(node).bits - 1) - 1))
        return ScaledGradient.apply(clip, share).to(torch.float64)

    def _border(self, name: str, x: Tensor) -> Operand:
        """Float values that become codes: the network's inputs and constants."""
        self._observe(name, extremes(x))
        label = self._label(name)
        if label is None:
            return self._recorded(name, Operand(x, None))
        with torch.no_grad():
            exact = border_steps(x, label)
        bounds = Bounds(label.qmin - label.zero_point, label.qmax - label.zero_point)
        steps = Replace.apply(x, exact, label.scale[0], self._scale(name), bounds)
        return self._recorded(name, Operand(steps, label))

    def _value(self, node: Node, inputs: list[Operand]) -> Operand:
        operator = REGISTRY[node.op]
        label = self._label(node.name)
        if operator.noise is not None:
            result = Operand(operator.noise(self.simulation.backend, node.attributes, [inputs[0].value]), label)
        elif not node.inputs:
            return self._border(
                node.name, view(self.simulation.parameter(node.params["value"].name), node.params["value"])
            )
        elif _is_linear(node):
            result = Operand(self._linear(node, inputs[0]), label)
        elif operator.moves:
            values = [x.value for x in inputs]
            result = Operand(operator.float_meaning(self.simulation.backend, node.attributes, values, {}), label)
        elif operator.addition is not None and label is not None and inputs[0].value.shape == inputs[1].value.shape:
            result = Operand(self._sum(node, operator.addition, inputs, label), label)
        else:
            result = Operand(self._through_float(node, inputs, label), label)
        return self._recorded(node.name, result)

    def _linear(self, node: Node, x: Operand) -> Tensor:
        simulation = self.simulation
        step = LinearStep(
            node,
            simulation.live_params(node),
            simulation.rule(node),
            self._label(node.name),
            self._scale(node.name),
            self._clip(node),
            self.norm,
            simulation.recipe.rounding,
            self.wishes.synchronize,
        )
        value, seen, moments = step(x)
        if moments is not None and moments.count < 2:
            raise TrainingError(
                f"layer {node.name}: batch statistics of its norm need more than one value a channel, found one: "
                "take larger batches, or student.freeze_norm()"
            )
        self._observe_clamped(node, seen)
        if moments is not None:
            self.moments.append((node, moments))
        return value

    def _sum(
        self, node: Node, addition: Callable[[Attributes], Addition], inputs: list[Operand], label: QParams
    ) -> Tensor:
        """A residual connection: what `_through_float` would give, in one pass."""
        instruction, _ = self.simulation.lowered(node)
        by, bounds = addition(instruction.attributes), clamp_steps(node, label)
        between_steps = replace(by, zero_points=(0, 0), codes=(0, int(bounds.low), int(bounds.high)))
        first, second = (x.scale / label.scale[0] for x in inputs)
        steps, ends = Add.apply(
            *(x.value for x in inputs),
            self._scale(node.name),
            (first, second),
            between_steps,
            self.simulation.recipe.rounding,
        )
        self._observe_clamped(node, ends * label.scale[0])
        return cast(Tensor, steps)

    def _observe_clamped(self, node: Node, ends: Tensor) -> None:
        """Observe a node's values after its clamp, given their ends before it."""
        self._observe(node.name, ends if node.clamp is None else ends.clamp(node.clamp.low, node.clamp.high))

    def _through_float(self, node: Node, inputs: list[Operand], label: QParams | None) -> Tensor:
        """Other operators: the integers forward, the clamped float meaning's gradient backward."""
        simulation = self.simulation
        operator = REGISTRY[node.op]
        params = self._params(node, quantized=label is not None)
        real = operator.float_meaning(simulation.backend, node.attributes, [x.real() for x in inputs], params)
        self._observe_clamped(node, extremes(real))
        if label is None:
            return real if node.clamp is None else real.clamp(node.clamp.low, node.clamp.high)
        with torch.no_grad():
            codes = [x.value.to(torch.int32).add_(x.label.zero_point) for x in inputs if x.label is not None]
            exact = simulation.exact_value(node, codes).to(torch.float32).sub_(label.zero_point)
        scale = self._scale(node.name)
        result: Tensor = Replace.apply(real, exact, label.scale[0], scale, clamp_steps(node, label))
        return result

    def _params(self, node: Node, quantized: bool) -> dict[str, Tensor]:
        """A node's parameters, float32; those that become codes are what the codes say, their gradient straight through."""
        live = {role: param.to(torch.float32) for role, param in self.simulation.live_params(node).items()}
        if not live or not quantized:
            return live
        instruction, constants = self.simulation.lowered(node)
        for role in live.keys() & instruction.labels.keys():
            label, param = instruction.labels[role], live[role]
            scale = torch.from_numpy(label.scales(param.ndim)).to(param)
            live[role] = param + ((constants[role] - label.zero_point) * scale - param).detach()
        return live

    def _recorded(self, name: str, x: Operand) -> Operand:
        if self.record is not None:
            self.record(name, x)
        return x

    def _observe(self, name: str, ends: Tensor) -> None:
        if name in self.ranges.index:
            self.seen.append((self.ranges.index[name], ends))

    @torch.no_grad()
    def _move(self) -> None:
        """After the forward pass: move windows and moving averages, count the step."""
        if not self.ranges_frozen and not self.ranges.learned:
            self.ranges.move(*self.batch)
        moments = reduce_moments([m for _, m in self.moments])
        for (node, _), m in zip(self.moments, moments, strict=True):
            self._move_averages(node, m)
        self.ranges.progress[STEPS] += 1

    def _extremes(self, stopped: bool) -> tuple[Tensor, Tensor]:
        """The least and greatest value of each site in this batch, over all processes; one more, NaN if one stopped."""
        low, high = self.ranges.window.new_full((2, len(self.ranges.sites) + 1), float("inf"))
        high = -high
        at = torch.tensor([i for i, _ in self.seen], device=low.device)
        ends = torch.stack([ends for _, ends in self.seen])
        low.scatter_reduce_(0, at, ends[:, 0], "amin")
        high.scatter_reduce_(0, at, ends[:, 1], "amax")
        if stopped:
            high[-1] = float("nan")
        return reduce_extremes(low, high)

    def _move_averages(self, node: Node, moments: Moments) -> None:
        """As `torch.nn.BatchNorm2d`: the variance unbiased, a momentum of None for the mean over all batches."""
        norm = node.norm
        assert norm is not None
        counter = norm.mean.name.removesuffix("running_mean") + "num_batches_tracked"
        count = self.simulation.parameters.get(counter)
        if count is not None:
            count += 1
        share = norm.momentum if norm.momentum is not None else 1.0 / (1.0 if count is None else float(count))
        unbiased = moments.variance * (moments.count / max(moments.count - 1, 1))
        for param, batch in ((norm.mean, moments.mean), (norm.variance, unbiased)):
            average = view(self.simulation.parameter(param.name), param)
            average.lerp_(torch.where(moments.moves, batch.to(average.dtype), average), share)


def _passed(steps: int, limit: int | None) -> bool:
    return limit is not None and steps >= limit


def _is_linear(node: Node) -> bool:
    return REGISTRY[node.op].quant.weight_axis is not None


def _scale_count(node: Node, parameters: dict[str, Tensor], simulation: Simulation) -> int:
    axis = REGISTRY[node.op].quant.weight_axis
    assert axis is not None
    weight = view(simulation.parameter(node.params["weight"].name), node.params["weight"])
    return int(weight.shape[axis]) if simulation.rule(node).per_channel else 1
