"""What verification proved of a Program: integers only, no accumulator can overflow, and where every value can lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from unfloat.ir.graph import Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.program.program import Program
from unfloat.program.states import kept_states
from unfloat.program.verify import LayerBound, accumulator_bounds, check, layer_macs
from unfloat.spec.fixedpoint import ARITHMETIC, requantize
from unfloat.spec.record import Record


class ValueRange(Record):
    """Between which codes, and which real numbers, a value lies for any input."""

    name: str
    op: str
    dtype: str
    least: int
    greatest: int
    real_least: float
    real_greatest: float


class Crossing(Record):
    """Where reals meet codes at the border: `q = clamp(round(x / scale) + zero_point)`, or back."""

    name: str
    role: str
    dtype: str
    scale: float
    zero_point: int


class Certificate(Record):
    """What verification proved.

    Attributes:
        instructions: How many there are; none reads or writes a float.
        macs: Multiply-accumulates a sample.
        constant_bytes: Size of all constants.
        bounds: The exact accumulator bound of each instruction that accumulates, over all channels and inputs.
        ranges: Where every value lies, inputs first.
        border: The only places that know real numbers; `Engine.run` crosses none of them.
        roundings: The instructions' rules of rounding.
        digest: SHA-256 of the `.unfloat` bytes.
    """

    instructions: int
    macs: int
    constant_bytes: int
    bounds: tuple[LayerBound, ...]
    ranges: tuple[ValueRange, ...]
    border: tuple[Crossing, ...]
    roundings: tuple[str, ...]
    digest: str

    @property
    def widest(self) -> LayerBound | None:
        """The instruction nearest to overflow."""
        return min(self.bounds, key=lambda bound: bound.margin, default=None)

    @property
    def identity(self) -> str:
        """SHA-256 that names the bits: of the Program, the version of the arithmetic, and the roundings."""
        import hashlib  # here, because it maps a library of megabytes

        said = f"unfloat arithmetic {ARITHMETIC}; rounding {', '.join(self.roundings)}; program {self.digest}"
        return hashlib.sha256(said.encode()).hexdigest()


def verify(program: Program) -> Certificate:
    """Check every rule and say what holds.

    Raises:
        InvalidProgramError: A rule is broken; the message names the instruction, what was required and what was found.
    """
    check(program)
    constants = [a.nbytes for i in program.instructions for a in i.constants.values()]
    constants += [t.data.nbytes for t in program.tensors.values() if t.data is not None]
    roundings = {str(i.attributes["rounding"]) for i in program.instructions if "rounding" in i.attributes}
    return Certificate(
        len(program.instructions),
        sum(layer_macs(program).values()),
        sum(constants),
        accumulator_bounds(program),
        tuple(_ranges(program)),
        tuple(_crossings(program, "input", program.inputs)) + tuple(_crossings(program, "output", program.outputs)),
        tuple(sorted(roundings)),
        program.digest(),
    )


def _crossings(program: Program, role: str, ports: Sequence[Port]) -> Iterator[Crossing]:
    for port in ports:
        label = program.tensors[port.value].qparams
        yield Crossing(port.name, role, label.dtype, label.scale[0], label.zero_point)


def _ranges(program: Program) -> Iterator[ValueRange]:
    codes: dict[str, tuple[int, int]] = {}
    makers = {instruction.name: instruction for instruction in program.instructions}
    for name, tensor in program.tensors.items():
        if tensor.data is not None:
            codes[name] = int(tensor.data.min()), int(tensor.data.max())
        elif name not in makers:
            codes[name] = tensor.qparams.qmin, tensor.qparams.qmax
            yield _range(tensor, "input", codes[name])
    for instruction in program.instructions:
        codes[instruction.name] = _codes_of(program, instruction, codes)
        yield _range(program.tensors[instruction.name], instruction.op, codes[instruction.name])
        for role, state in kept_states(program, instruction).items():
            remembered = Tensor(f"{instruction.name}/{role}", state.shape, state.label)
            yield _range(remembered, "state", (state.label.qmin, state.label.qmax))


def _range(tensor: Tensor, op: str, codes: tuple[int, int]) -> ValueRange:
    label = tensor.qparams
    reals = [label.scale[0] * (code - label.zero_point) for code in codes]
    return ValueRange(tensor.name, op, label.dtype, *codes, *reals)


def _codes_of(program: Program, instruction: Instruction, known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """The least and greatest code that an instruction can give."""
    operator = REGISTRY[instruction.op]
    label = program.tensors[instruction.name].qparams
    if operator.moves:  # codes as they are; a pad has its border beside them
        ends = [code for name in operator.quant.values(instruction.inputs) for code in known[name]]
        ends += [instruction.attributes["value"]] if "value" in instruction.attributes else []
        return min(ends), max(ends)
    low = instruction.attributes.get("clamp_min", label.qmin)
    high = instruction.attributes.get("clamp_max", label.qmax)
    if operator.finish is None or operator.accumulators is None:
        return low, high
    fields = {**instruction.attributes, **instruction.constants}
    inputs = [program.tensors[name] for name in instruction.inputs]
    sums = np.stack(operator.accumulators(instruction, inputs)[:2]).astype(np.int64)
    multiplier, shift = (np.asarray(fields[role], np.int64) for role in ("multiplier", "shift"))
    steps = requantize(sums, multiplier, shift, instruction.attributes["rounding"]) + fields["output_zero_point"]
    ends = [min(max(int(end), low), high) for end in (steps.min(), steps.max())]
    return ends[0], ends[1]
