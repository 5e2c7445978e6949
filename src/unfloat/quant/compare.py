"""Comparing: how far a Program's integers are from the float network, value by value, and where the noise is born.

Float values and the Program's codes go through the network side by side, a few samples at a time; only sums are kept.
At each layer a third run starts from the float network's own values, quantized: what it errs is the layer's own doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from unfloat.ir.graph import Node
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.quant.advise import NARROWING, Advice, Finding, advise
from unfloat.quant.batches import example_of, inputs_of, non_empty
from unfloat.quant.comparison import Comparison, OutputComparison, SiteComparison, decibels
from unfloat.quant.match import NOT_THIS, TRY, DifferentNetworkError, require_same_network
from unfloat.quant.observe import Histogram, make_observer
from unfloat.quant.post_training import Prepare, Read, _progress, simulate
from unfloat.quant.recipe import Recipe
from unfloat.quant.simulate import Simulation, border_steps, clamped, dequantize_codes
from unfloat.spec.errors import CalibrationError, InputError, NumericDomainError, UnfloatError, UnsupportedError
from unfloat.spec.qparams import TINY, QParams

CHUNK = 8  # samples at a time, whatever the batch: memory stays small
WHAT = "comparison"
Constants = Mapping[str, torch.Tensor]


def compare(
    model: Any,
    program: Program,
    data: Iterable[Any],
    read: Read,
    prepare: Prepare,
    limit: int | None = None,
    progress: bool | None = None,
) -> Comparison:
    """See `unfloat.compare`. The reader and the passes are handed in: this room does not import its neighbours."""
    if limit is not None and limit < 1:
        raise InputError(f"limit: required at least one sample, found {limit}")
    first, batches = non_empty(data, WHAT)
    size = len(inputs_of(first, program, 0, WHAT)[0])  # refused before the model is traced with it
    simulation, biases = _simulation(model, program, example_of(first, model, WHAT), read, prepare)
    measurement = Measurement(simulation, program, biases)
    with _progress(progress) as bars, torch.no_grad():
        for number, batch in enumerate(bars.track(batches, _count(data, size, limit), description="comparing")):
            for inputs in _chunks(inputs_of(batch, program, number, WHAT), limit, measurement):
                measurement.add(inputs)
            if measurement.samples == limit:
                break
    return measurement.result()


def _count(data: Iterable[Any], size: int, limit: int | None) -> int | None:
    """How many batches there will be, where that is known."""
    known = [len(data)] if isinstance(data, Sized) else []
    return min([*known, *([] if limit is None else [-(-limit // size)])], default=None)


def _chunks(inputs: list[torch.Tensor], limit: int | None, measurement: Measurement) -> Iterator[list[torch.Tensor]]:
    left = len(inputs[0]) if limit is None else min(len(inputs[0]), limit - measurement.samples)
    for start in range(0, left, CHUNK):
        yield [x[start : min(start + CHUNK, left)] for x in inputs]


def _recipe(program: Program) -> Recipe:
    """The Program's own recipe, so that passes give the same names."""
    text = program.metadata.get("recipe")
    if not isinstance(text, str):
        raise UnfloatError("this Program does not carry the recipe it was made with: quantize the model again")
    recipe = Recipe.from_toml(text)
    if recipe.equalize:
        raise UnfloatError(
            "this Program was made with equalize = true: inside, its channels are scaled by factors that it does not "
            "carry, so its values are not the model's; quantize without it to compare"
        )
    return recipe


Matched = tuple[Simulation, dict[str, np.ndarray]]  # and the model's own biases, see `require_same_network`


def _simulation(model: Any, program: Program, example: Any, read: Read, prepare: Prepare) -> Matched:
    """The float network; its labels are the Program's. A student's Program has the names of what training runs."""
    recipe = _recipe(program)

    def attempt(training: bool) -> Matched | UnfloatError:
        try:
            graph = read(model, example, training=training, frozen=not training)
            simulation = simulate(model, graph, recipe, prepare)
            return simulation, require_same_network(simulation, program)
        except UnsupportedError as error:  # the Program takes these inputs, and its model could be read
            return UnfloatError(f"{NOT_THIS}, which cannot be read with the Program's inputs; {TRY}: {error}")
        except DifferentNetworkError as error:
            return error

    first = attempt(False)
    if not isinstance(first, UnfloatError):
        return first
    second = attempt(True)
    if not isinstance(second, UnfloatError):
        return second
    raise first


@dataclass
class Value:
    """One value of the network: in the float network, and the Program's codes. Inner layout."""

    real: torch.Tensor
    codes: torch.Tensor


@dataclass
class Sums:
    """What is kept of one value: sums of squares, counts, a histogram of the float network's values."""

    label: QParams
    signal: float = 0.0
    noise: float = 0.0
    own: float = 0.0
    weights: float = 0.0
    clipping: float = 0.0
    clipped: int = 0
    count: int = 0
    values: Histogram = field(default_factory=Histogram)

    def add(self, value: Value) -> None:
        """A chunk of the value."""
        low, high = window(self.label)
        half = self.label.scale[0] / 2
        self.signal += energy(value.real)
        self.noise += energy(dequantize_codes(value.codes, self.label) - value.real)
        self.clipped += int(((value.real > high + half) | (value.real < low - half)).sum())
        self.count += value.real.numel()
        self.values.update(value.real)

    def add_own(self, wanted: torch.Tensor, unrounded: torch.Tensor, codes: torch.Tensor) -> None:
        """A chunk of the noise born here: the float meaning, the same before codes are made, and the codes."""
        self.own += energy(dequantize_codes(codes, self.label) - wanted)
        self.weights += energy(unrounded - wanted)
        self.clipping += energy(unrounded - unrounded.clamp(*window(self.label)))

    def finding(self, name: str) -> Finding:
        """What advice is made from."""
        gains = {rule: self._gain(rule) for rule in NARROWING}
        return Finding(name, self.signal, self.own, self.weights, self.clipping, gains)

    def _gain(self, rule: str) -> float:
        """How many times less the window that this rule chooses for these values errs on them."""
        observer = make_observer(Recipe(ranges=rule), "")
        assert isinstance(observer, Histogram)
        kept = self.values
        observer.__dict__.update(kept.__dict__)  # all that a Histogram is; the rule has settings beside it
        chosen = observer.qparams(self.label.dtype, self.label.bits)
        return kept.squared_error(self.label) / max(kept.squared_error(chosen), TINY)


class Measurement:
    """The running sums of a comparison."""

    def __init__(self, simulation: Simulation, program: Program, biases: Mapping[str, np.ndarray]) -> None:
        """Constants of the Program go to the parameters' device; `biases` are the model's own."""
        self.simulation, self.program, self.samples = simulation, program, 0
        self.backend = simulation.backend
        self.sums = {name: Sums(tensor.qparams) for name, tensor in program.tensors.items()}
        self.instructions = {i.name: i for i in program.instructions}
        self.constants = {
            i.name: {role: self.backend.constant(a) for role, a in i.constants.items()} for i in program.instructions
        }
        own = {name: {"bias": self.backend.constant(array)} for name, array in biases.items()}
        self.own_constants = {name: {**c, **own.get(name, {})} for name, c in self.constants.items()}
        self.agreeing = [0 for _ in program.outputs]

    def add(self, inputs: Sequence[torch.Tensor]) -> None:
        """Run both networks on a chunk of samples, float32 in the model's own layout."""
        self.samples += len(inputs[0])
        inner = self.simulation.to_inner([x.to(self.backend.device) for x in inputs])
        pairs = zip(self.simulation.graph.inputs, inner, self.simulation.quantize_inputs(inner), strict=True)
        values = [self._seen(port.value, Value(x, codes)) for port, x, codes in pairs]
        for number, value in enumerate(self.simulation.execute(values, self._node)):
            if _is_classes(self.program.outputs[number].shape):
                rows = [t.cpu().numpy() for t in (value.real, value.codes)]
                self.agreeing[number] += int(np.equal(*(row.argmax(axis=1) for row in rows)).sum())

    def _seen(self, name: str, value: Value, where: str = "") -> Value:
        """An input or a constant: what it errs is its own rounding."""
        self._add(name, value, where)
        self.sums[name].add_own(value.real, value.real, value.codes)
        return value

    def _add(self, name: str, value: Value, where: str) -> None:
        try:
            self.sums[name].add(value)
        except NumericDomainError as error:
            raise CalibrationError(f"layer {name}{where}: {error}; check its weights and the data") from error

    def _node(self, node: Node, inputs: list[Value]) -> Value:
        if REGISTRY[node.op].vanishes:
            return inputs[0]
        reals = [value.real for value in inputs]
        where = f" ({node.source})" if node.source else ""
        real = self.simulation.float_value(node, reals)
        data = self.program.tensors[node.name].data
        if data is not None:
            return self._seen(node.name, Value(real, self.backend.constant(data)), where)
        value = Value(real, self._codes(node, [value.codes for value in inputs], self.constants[node.name]))
        self._add(node.name, value, where)
        self._add_own(node, reals)
        return value

    def _codes(self, node: Node, inputs: list[torch.Tensor], constants: Constants) -> torch.Tensor:
        """The Program's instruction."""
        operator, attributes = REGISTRY[node.op], self.instructions[node.name].attributes
        assert operator.integer_meaning is not None
        wide = inputs if operator.accumulate is not None else [codes.to(torch.int32) for codes in inputs]
        return operator.integer_meaning(self.backend, attributes, constants, wide)

    def _add_own(self, node: Node, reals: list[torch.Tensor]) -> None:
        """Both meanings of the node on the float network's values, quantized.

        A correction of the bias is taken back: it makes up for noise from elsewhere too, which is not here.
        """
        constants = self.own_constants[node.name]
        labels = [self.simulation.labels[name] for name in node.inputs]
        pairs = list(zip(reals, labels, strict=True))
        codes = [border_steps(x, label).to(torch.int32) + label.zero_point for x, label in pairs]
        seen = [dequantize_codes(q, label) for q, label in zip(codes, labels, strict=True)]
        wanted = self.simulation.float_value(node, seen)
        unrounded = wanted
        operator = REGISTRY[node.op]
        if operator.accumulate is not None:
            attributes = self.instructions[node.name].attributes
            unrounded = self._real(node, operator.accumulate(self.backend, attributes, constants, codes), labels[0])
        self.sums[node.name].add_own(wanted, unrounded, self._codes(node, codes, constants))

    def _real(self, node: Node, accumulator: torch.Tensor, label: QParams) -> torch.Tensor:
        """`S_in * S_w * (accumulator + bias)`, clamped: the node with quantized weights and nothing else rounded."""
        scale = label.scale[0] * self.instructions[node.name].labels["weight"].exact
        total = accumulator.to(torch.float64) + self.own_constants[node.name]["bias"]
        return clamped(node, (total * torch.from_numpy(scale).to(total.device)).to(torch.float32), [])

    def result(self) -> Comparison:
        """The sums as ratios, the sites that add the most noise first."""
        findings = {name: sums.finding(name) for name, sums in self.sums.items()}
        advice = advise(list(findings.values()), self.simulation.graph, self.simulation.recipe)
        sites = [self._site(finding, advice.get(name, Advice())) for name, finding in findings.items()]
        outputs = []
        for port, agreeing in zip(self.program.outputs, self.agreeing, strict=True):
            share = agreeing / self.samples if _is_classes(port.shape) else None
            sums = self.sums[port.value]
            outputs.append(OutputComparison(port.name, decibels(sums.signal, sums.noise), share))
        return Comparison(tuple(sorted(sites, key=lambda s: s.own_sqnr_db)), tuple(outputs), self.samples)

    def _site(self, finding: Finding, advice: Advice) -> SiteComparison:
        name, sums = finding.name, self.sums[finding.name]
        instruction = self.instructions.get(name)
        weight = instruction.labels.get("weight") if instruction else None
        ops = {node.name: node.op for node in self.simulation.graph.nodes}
        return SiteComparison(
            name=name,
            op=ops.get(name, "input"),
            sqnr_db=decibels(sums.signal, sums.noise),
            own_sqnr_db=finding.own_sqnr_db,
            clipped_share=sums.clipped / sums.count,
            max_abs=max(-sums.values.low, sums.values.high),
            bits=sums.label.bits,
            weight_bits=weight.bits if weight else None,
            cause=finding.cause,
            suggestion=advice.override,
            advice=advice.text,
        )


def window(label: QParams) -> tuple[float, float]:
    """The least and greatest real number that has a code."""
    return label.scale[0] * (label.qmin - label.zero_point), label.scale[0] * (label.qmax - label.zero_point)


def energy(values: torch.Tensor) -> float:
    """The sum of squares, added in float64 without a copy."""
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _is_classes(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[1] > 1
