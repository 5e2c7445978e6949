"""Operator: everything about one operator, as data and short pure functions.

An operator family is one file of this folder. It defines `OPERATORS`, and `ops/__init__.py` finds it by scanning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from unfloat.ir.graph import EMPTY, Attributes, Clamp, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.spec.backend import Array, Backend
from unfloat.spec.fixedpoint import Addition
from unfloat.spec.qparams import STORAGE, QParams
from unfloat.spec.record import Record

Params = Mapping[str, Array]
AnyOperand = TypeVar("AnyOperand")


class Domain(Record):
    """What an attribute may be.

    Attributes:
        kind: "int", "name" (one of `choices`), "ints" (a tuple), or "real" (Graph attributes only).
        low, high: Inclusive bounds of the integer, or of each element.
        length: The tuple's length, None for any.
        choices: The names allowed.
    """

    kind: str
    low: int = -(2**31)
    high: int = 2**31 - 1
    length: int | None = None
    choices: tuple[str, ...] = ()

    def allows(self, value: object) -> bool:
        """Whether `value` lies in the domain."""
        if self.kind == "name":
            return value in self.choices
        if self.kind == "real":
            return isinstance(value, float) and self.low <= value <= self.high
        if self.kind == "int":
            return self._holds(value)
        return isinstance(value, tuple) and self.length in (None, len(value)) and all(map(self._holds, value))

    def _holds(self, value: object) -> bool:
        return type(value) is int and self.low <= value <= self.high  # a bool is no int here

    def __str__(self) -> str:
        """The domain in words, for messages."""
        if self.kind == "name":
            return "one of " + ", ".join(self.choices)
        if self.kind == "real":
            return f"a number in [{self.low}, {self.high}]"
        count = "" if self.kind == "int" else "a tuple of " + (f"{self.length} " if self.length else "")
        return f"{count}{'an integer' if self.kind == 'int' else 'integers'} in [{self.low}, {self.high}]"


class QuantRecord(Record):
    """What quantization must know of an operator.

    Attributes:
        output: "observed" (its own range), "same" (shares QParams with all inputs, indices aside), or "fixed" (`fixed`
            gives it).
        fixed: Code storage type -> QParams, for outputs of a bounded function.
        weight_axis: The weight's channel axis, or None.
        indices: Which operands say where, not how much: their label is `INDEX`, whatever the others' is.
    """

    output: str = "observed"
    fixed: Mapping[str, QParams] = EMPTY
    weight_axis: int | None = None
    indices: frozenset[int] = frozenset()

    def values(self, operands: Sequence[AnyOperand]) -> list[AnyOperand]:
        """The operands that are no indices."""
        return [operand for i, operand in enumerate(operands) if i not in self.indices]

    def tied(self, operands: Sequence[AnyOperand]) -> list[AnyOperand]:
        """The operands that the output shares its QParams with."""
        return self.values(operands) if self.output == "same" else []


class WeightRule(Record):
    """How weights become codes: storage, bits, one scale a channel or one in all."""

    dtype: str = "int8"
    bits: int = 8
    per_channel: bool = True


class Request(Record):
    """What `Operator.lower` gets: one node with its real parameters (float64) and the labels around it."""

    attributes: Attributes
    params: Mapping[str, np.ndarray]
    clamp: Clamp | None
    inputs: tuple[Tensor, ...]
    output: Tensor
    weights: WeightRule
    rounding: str


class Case(Record):
    """One conformance case: the float node to lower and run on every rung of the ladder.

    Attributes:
        label: What the case is chosen to hurt.
        inputs: Input shapes without the batch dimension.
        attributes: Graph attributes.
        params: Shapes of the float parameters.
        clamp: The fused clamp, if any.
        constants: Which of the inputs are constants, the same for every sample.
    """

    label: str
    inputs: tuple[Shape, ...]
    attributes: Attributes = EMPTY
    params: Mapping[str, Shape] = EMPTY
    clamp: Clamp | None = None
    constants: frozenset[int] = frozenset()


class State(Record):
    """What an instruction keeps from one run to the next: codes of its own, for each sample.

    Attributes:
        shape: Without the batch.
        label: What the codes mean; at the start they are its zero point.
    """

    shape: Shape
    label: QParams


States = Mapping[str, Array]  # by role, batch in front


def _nothing_derived(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Any]:
    return {}


def _attributes_only(request: Request) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]:
    return dict(request.attributes), {}, {}


class Operator(Record):
    """One operator.

    Attributes:
        name: As in Graph nodes and Program instructions.
        summary: One line for the generated documentation.
        arity: Least and most number of operands (None: any).
        attributes: Domain of each attribute of the Graph node.
        optional: Domain of each attribute that node and instruction may leave out; the operator says what it is then.
        fields: Domain of each further attribute of the instruction.
        constants: Roles of the instruction's integer arrays.
        labels: Roles that have a label beside "weight": further constants and states.
        slots: Which of "bias", "norm", "clamp" a node may carry.
        own_bias: True where a bias is no slot, added at the end, but a parameter as others: `shape` checks it.
        shape: (attributes, input shapes, parameter shapes) -> output shape; raises ValueError with the reason.
        float_meaning: (backend, attributes, inputs, params) -> float result, before the slots.
        integer_meaning: (backend, instruction attributes, constants, inputs) -> codes as int64. Normative.
        states: For what remembers: (instruction, output) -> its states by role.
        step: For what remembers: (backend, instruction attributes, constants, inputs, states, None at the start) ->
            (codes as int64, the states afterwards). Normative; `integer_meaning` is then one step from the start.
        quant: The quantization record.
        lower: Request -> (attributes, constants, labels) of the instruction, without what `derive` gives.
        derive: (instruction, inputs, output) -> the attributes and constants that follow from labels and shapes alone:
            multipliers, shifts, zero points. Used to make them and, at load, to check them.
        accumulators: (instruction, inputs) -> exact (low, high) of the accumulator, in 32 bits unless its rounding says
            64, and its left shift, arrays.
        reach: (instruction, inputs) -> a magnitude that no accumulator of 32 bits passes after its left shift, found
            without looking at the weights: asked first, as it nearly always fits.
        accumulate, finish: For operators that are linear in their input: the two halves of `integer_meaning`.
        addition: For a sum: the instruction's attributes as arithmetic takes them.
        noise: For what acts only in training (dropout): (backend, attributes, inputs) -> result.
        storages: Of its operands and its output: "int8", "uint8", "int16". All are alike, or all of one byte.
        converts: True where operands and output may differ in width.
        moves: True where the float meaning, applied to steps `q - Z`, is the integer meaning: nothing is computed.
        in_place: True where an output may overwrite an input of the same shape, cell by cell.
        vanishes: True where the node is no instruction at all (dropout at inference).
        macs: (instruction, input shapes, output shape) -> multiply-accumulates a sample.
        cases: Conformance cases.
    """

    name: str
    summary: str
    arity: tuple[int, int | None]
    shape: Callable[[Attributes, Sequence[Shape], Mapping[str, Shape]], Shape]
    float_meaning: Callable[[Backend, Attributes, Sequence[Array], Params], Array]
    integer_meaning: Callable[[Backend, Attributes, Params, Sequence[Array]], Array] | None
    cases: Callable[[], Iterable[Case]]
    attributes: Mapping[str, Domain] = EMPTY
    optional: Mapping[str, Domain] = EMPTY
    fields: Mapping[str, Domain] = EMPTY
    constants: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    slots: frozenset[str] = frozenset()
    own_bias: bool = False
    states: Callable[[Instruction, Tensor], Mapping[str, State]] | None = None
    step: Callable[[Backend, Attributes, Params, Sequence[Array], States | None], tuple[Array, States]] | None = None
    quant: QuantRecord = QuantRecord()
    lower: Callable[[Request], tuple[dict[str, Any], dict[str, np.ndarray], dict[str, QParams]]] = _attributes_only
    derive: Callable[[Instruction, Sequence[Tensor], Tensor], dict[str, Any]] = _nothing_derived
    accumulators: Callable[[Instruction, Sequence[Tensor]], tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
    reach: Callable[[Instruction, Sequence[Tensor]], int] | None = None
    accumulate: Callable[[Backend, Attributes, Params, Sequence[Array]], Array] | None = None
    finish: Callable[[Backend, Attributes, Params, Array], Array] | None = None
    addition: Callable[[Attributes], Addition] | None = None
    noise: Callable[[Backend, Attributes, Sequence[Array]], Array] | None = None
    storages: tuple[str, ...] = tuple(STORAGE)
    converts: bool = False
    moves: bool = False
    in_place: bool = False
    vanishes: bool = False
    macs: Callable[[Instruction, Sequence[Shape], Shape], int] = lambda instruction, inputs, output: 0

    @cached_property
    def domains(self) -> Mapping[str, Domain]:
        """Of each attribute that an instruction must have."""
        return {**self.attributes, **self.fields}

    @cached_property
    def roles(self) -> frozenset[str]:
        """Of an instruction's constants."""
        return frozenset(self.constants)

    @cached_property
    def labelled(self) -> frozenset[str]:
        """Those of an instruction's constants and states that have a label."""
        return self.roles & {"weight"} | frozenset(self.labels)

    @cached_property
    def storable(self) -> frozenset[str]:
        """What its operands and its output may be stored as."""
        return frozenset(self.storages)


# Domains that several families share.
CODE = Domain("int", -(2**15), 2**15 - 1)  # of any storage; the label says which codes it has
CODES = Domain("ints", -(2**15), 2**15 - 1)
ROUNDING = Domain("name", choices=("double", "single"))
MULTIPLIER = Domain("int", 0, 2**31 - 1)
SHIFT = Domain("int", -31, 30)
SIZE = 1 << 16
WINDOW = 1 << 15  # kernels, strides, dilations, paddings: the engine multiplies two of them in 32 bits
PAIR = Domain("ints", 1, WINDOW, 2)
PADDING = Domain("ints", 0, WINDOW, 4)
CLAMP = {"clamp_min": CODE, "clamp_max": CODE}
RESCALING = {"multiplier": MULTIPLIER, "shift": SHIFT, "output_zero_point": CODE, "rounding": ROUNDING, **CLAMP}
