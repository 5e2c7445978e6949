"""What a Program must satisfy, checked when it is made and again when it is loaded.

A file is untrusted: every shape, index, shift and scale is re-derived or bounded here before anything runs, and the
engine relies on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unfloat.ir.graph import BATCH, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Operator
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError, NumericDomainError
from unfloat.spec.fixedpoint import INT32_MAX, INT32_MIN, WIDE_ACCUMULATOR_MAX, WIDE_ROUNDING, requantize
from unfloat.spec.qparams import INDEX, STORAGE, QParams
from unfloat.spec.record import Record

MAX_RANK = 6
MAX_ELEMENTS = 2**31 - 1  # a sample
MAX_INSTRUCTIONS = 2**13  # planning memory takes time of their square
_CONSTANT_DTYPES = {
    "bias": np.dtype(np.int32),
    "multiplier": np.dtype(np.int32),
    "shift": np.dtype(np.int8),
    "table": np.dtype(np.int16),
}
WIDE_BITS_OF_SUMS = 48
_WIDE_DTYPES = {**_CONSTANT_DTYPES, "bias": np.dtype(np.int64)}


class LayerBound(Record):
    """How near an instruction's accumulator can come to the end of its `limit` of bits: 32, or 48 where it is wide."""

    name: str
    op: str
    least: int
    greatest: int
    limit: int = 32

    @property
    def bits(self) -> int:
        """Two's complement bits that hold every possible accumulator, left shift included."""
        return max((-self.least - 1).bit_length() if self.least < 0 else 0, self.greatest.bit_length()) + 1

    @property
    def margin(self) -> int:
        """Bits that no input can reach."""
        return self.limit - self.bits


def check(program: Program) -> None:
    """Check every rule.

    Raises:
        InvalidProgramError: A rule is broken; the message names the instruction, what was required and what was found.
    """
    count = len(program.instructions)
    _require(count <= MAX_INSTRUCTIONS, "program", f"at most {MAX_INSTRUCTIONS} instructions", count)
    _check_tensors(program)
    _check_ports(program)
    known = {port.value for port in program.inputs} | {n for n, t in program.tensors.items() if t.data is not None}
    for instruction in program.instructions:
        _check_wiring(program, instruction, known)
        _check_instruction(program, instruction)
        known.add(instruction.name)
    for port in program.outputs:
        _require(port.value in known, f"output {port.name}", "a tensor that an instruction makes", port.value)
    unmade = set(program.tensors) - known
    _require(not unmade, "program", "every activation to be made by an instruction", sorted(unmade)[:3])


def accumulator_bounds(program: Program) -> tuple[LayerBound, ...]:
    """The exact accumulator bound of each instruction that accumulates, of a Program that passes `check`."""
    bounds = []
    for instruction in program.instructions:
        operator, inputs = REGISTRY[instruction.op], [program.tensors[name] for name in instruction.inputs]
        if operator.accumulators is not None:
            low, high, shift = operator.accumulators(instruction, inputs)
            wide = _is_wide(instruction)  # its shift is no part of the accumulator
            ends = (low, high) if wide else (low << shift, high << shift)
            least, greatest = int(ends[0].min()), int(ends[1].max())
            limit = WIDE_BITS_OF_SUMS if wide else 32
            bounds.append(LayerBound(instruction.name, instruction.op, least, greatest, limit))
    return tuple(bounds)


def _require(condition: bool, where: str, required: str, found: object) -> None:
    if not condition:
        raise InvalidProgramError(f"{where}: required {required}, found {found}")


def _check_tensors(program: Program) -> None:
    for name, tensor in program.tensors.items():
        where = f"tensor {name}"
        _require(name == tensor.name and bool(name), where, "its own name as its key", tensor.name)
        _require(1 <= len(tensor.shape) <= MAX_RANK, where, f"1 to {MAX_RANK} dimensions", tensor.shape)
        sizes = tensor.shape if tensor.data is not None else tensor.shape[1:]
        fits = all(isinstance(s, int) and s > 0 for s in sizes) and math.prod(sizes) <= MAX_ELEMENTS
        _require(fits, where, "positive sizes whose product fits int32", tensor.shape)
        _require(tensor.qparams.axis is None, where, "QParams per tensor", f"axis {tensor.qparams.axis}")
        if tensor.data is None:
            _require(tensor.shape[0] == BATCH, where, "the batch as dimension 0", tensor.shape)
        else:
            _require(tensor.data.shape == tensor.shape, where, f"codes of shape {tensor.shape}", tensor.data.shape)
            _check_codes(where, tensor.data, tensor)


def _check_codes(where: str, codes: np.ndarray, tensor: Tensor) -> None:
    label = tensor.qparams
    _require(codes.dtype == STORAGE[label.dtype], where, f"codes of {label.dtype}", codes.dtype)
    low, high = int(codes.min()), int(codes.max())
    _require(
        label.qmin <= low and high <= label.qmax, where, f"codes in [{label.qmin}, {label.qmax}]", f"[{low}, {high}]"
    )


def _check_ports(program: Program) -> None:
    _require(bool(program.inputs) and bool(program.outputs), "program", "at least one input and one output", "none")
    values = [port.value for port in program.inputs]
    _require(len(set(values)) == len(values), "program", "inputs that are different tensors", values)
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        names = [port.name for port in ports]
        _require(len(set(names)) == len(names), "program", f"{kind}s with different names", names)
        for port in ports:
            where = f"{kind} {port.name}"
            tensor = program.tensors.get(port.value)
            if tensor is None:
                raise InvalidProgramError(f"{where}: required a tensor of the program, found {port.value!r}")
            _require(tensor.data is None, where, "an activation", "a constant")
            _require(port.shape == tensor.shape, where, f"the shape of its tensor, {tensor.shape}", port.shape)
            whole = sorted(port.permutation) == list(range(len(port.shape))) and port.permutation[0] == 0
            _require(whole, where, "a permutation that keeps the batch in front", port.permutation)


def _check_wiring(program: Program, instruction: Instruction, known: set[str]) -> None:
    where = f"instruction {instruction.name} ({instruction.op})"
    operator = REGISTRY.get(instruction.op)
    if operator is None or operator.integer_meaning is None:
        raise InvalidProgramError(f"{where}: required an integer operator, found {instruction.op!r}")
    least, most = operator.arity
    count = len(instruction.inputs)
    _require(least <= count <= (most or count), where, f"{least} to {most or 'any number of'} operands", count)
    for name in instruction.inputs:
        _require(name in known, where, "operands that are already known", repr(name))
    _require(instruction.name in program.tensors, where, "an output tensor of its own name", "none")
    _require(instruction.name not in known, where, "an output that nothing else makes", instruction.name)


def _check_instruction(program: Program, instruction: Instruction) -> None:
    operator = REGISTRY[instruction.op]
    where = f"instruction {instruction.name} ({instruction.op})"
    inputs = [program.tensors[name] for name in instruction.inputs]
    output = program.tensors[instruction.name]
    _check_fields(operator, instruction, where)
    _check_shapes(operator, instruction, inputs, output, where)
    _check_storages(operator, instruction, inputs, output, where)
    _check_labels(operator, inputs, output, where)
    _check_derived(operator, instruction, inputs, output, where)
    if "clamp_min" in operator.fields:
        low, high = instruction.attributes["clamp_min"], instruction.attributes["clamp_max"]
        inside = output.qparams.qmin <= low <= high <= output.qparams.qmax
        _require(
            inside, where, f"clamp codes in order inside [{output.qparams.qmin}, {output.qparams.qmax}]", (low, high)
        )
    _check_accumulators(operator, instruction, inputs, where)


def _check_fields(operator: Operator, instruction: Instruction, where: str) -> None:
    given = {name: domain for name, domain in operator.optional.items() if name in instruction.attributes}
    domains = {**operator.attributes, **operator.fields, **given}
    if domains.keys() != instruction.attributes.keys():  # asked first, as below: saying what was required takes longer
        _require(False, where, f"attributes {sorted(domains)}", sorted(instruction.attributes))
    for name, domain in domains.items():
        value = instruction.attributes[name]
        if not domain.allows(value):
            _require(False, where, f"{name} to be {domain}", repr(value))
    _require(
        set(operator.constants) == set(instruction.constants),
        where,
        f"constants {operator.constants}",
        sorted(instruction.constants),
    )
    dtypes = _WIDE_DTYPES if _is_wide(instruction) else _CONSTANT_DTYPES
    for role, array in instruction.constants.items():
        label = instruction.labels.get(role)
        dtype = STORAGE[label.dtype] if label else dtypes.get(role)
        if array.dtype != dtype:  # NumPy takes longer to name a dtype than to read the file
            _require(False, where, f"{role} of {dtype}", array.dtype)
        _require(array.size > 0, where, f"{role} not to be empty", array.shape)
    labelled = {"weight"} & set(operator.constants) | set(operator.labels)
    _require(set(instruction.labels) == labelled, where, f"labels for {sorted(labelled)}", sorted(instruction.labels))


def _check_shapes(
    operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor, where: str
) -> None:
    constants: dict[str, Shape] = {role: array.shape for role, array in instruction.constants.items()}
    try:
        shape = operator.shape(instruction.attributes, [t.shape for t in inputs], constants)
    except (ValueError, IndexError) as error:
        raise InvalidProgramError(f"{where}: {error}") from error
    _require(shape == output.shape, where, f"an output of shape {shape}", output.shape)
    axis = operator.quant.weight_axis
    if axis is not None:
        channels = constants["weight"][axis]
        for role in ("bias", "multiplier", "shift"):
            _require(constants[role] == (channels,), where, f"{role} of {channels} channels", constants[role])
        label = instruction.labels["weight"]
        _require(label.axis in (None, axis), where, f"a weight label along axis {axis} or none", label.axis)
    for role in instruction.labels.keys() & constants.keys():
        _check_labelled(instruction.constants[role], instruction.labels[role], role, where)


def _check_labelled(codes: np.ndarray, label: QParams, role: str, where: str) -> None:
    """A constant's codes and scales fit its label."""
    if label.axis is not None:
        _require(0 <= label.axis < codes.ndim, where, f"a {role} label along one of its axes", label.axis)
        channels = codes.shape[label.axis]
        _require(len(label.scale) == channels, where, f"a {role} scale for each channel", len(label.scale))
    low, high = int(codes.min()), int(codes.max())
    fits = label.qmin <= low and high <= label.qmax
    _require(fits, where, f"{role} codes in [{label.qmin}, {label.qmax}]", f"[{low}, {high}]")


def _is_wide(instruction: Instruction) -> bool:
    """Whether it accumulates in 64 bits."""
    return instruction.attributes.get("rounding") == WIDE_ROUNDING


def _check_storages(
    operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor, where: str
) -> None:
    found = [tensor.qparams.dtype for tensor in (*operator.quant.values(inputs), output)]
    allowed = set(found) <= set(operator.storages)
    _require(allowed, where, f"codes of {' or '.join(operator.storages)}", ", ".join(found))
    if not operator.converts:
        _require(len({STORAGE[dtype].itemsize for dtype in found}) == 1, where, "codes of one width", ", ".join(found))
    if operator.accumulate is not None:
        _require(_is_wide(instruction) == (found[0] == "int16"), where, "acc64 rounding on int16 codes alone", found[0])
        label = instruction.labels["weight"]
        _require(label.dtype != "int16", where, "a weight of int8 or uint8", label.dtype)
        plain = found[0] != "int16" or (label.dtype == "int8" and label.zero_point == 0)
        _require(
            plain, where, "a symmetric int8 weight under int16 codes", f"{label.dtype}, zero at {label.zero_point}"
        )


def _check_labels(operator: Operator, inputs: Sequence[Tensor], output: Tensor, where: str) -> None:
    for tensor in operator.quant.tied(inputs):
        same = tensor.qparams == output.qparams
        _require(same, where, f"the QParams of its output, {output.qparams}", tensor.qparams)
    for place in operator.quant.indices:
        found = inputs[place].qparams
        _require(found == INDEX, where, f"indices as operand {place}, whose label is {INDEX}", found)
    if operator.quant.output == "fixed":
        fixed = operator.quant.fixed[output.qparams.dtype]
        _require(output.qparams == fixed, where, f"an output of {fixed}", output.qparams)


def _check_derived(
    operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor, where: str
) -> None:
    try:
        derived = operator.derive(instruction, inputs, output)
    except NumericDomainError as error:
        raise InvalidProgramError(f"{where}: {error}") from error
    for name, expected in derived.items():
        if not isinstance(expected, np.ndarray):
            found = instruction.attributes[name]
            _require(expected == found, where, f"{name} = {expected}, which follows from the labels", found)
            continue
        array = instruction.constants[name]
        _require(expected.shape == array.shape, where, f"{name} of shape {expected.shape}", array.shape)
        differs = expected != array
        if differs.any():
            place = np.unravel_index(np.flatnonzero(differs)[0], expected.shape)
            required = f"{name}{[int(i) for i in place]} = {expected[place]}, which follows from the labels"
            _require(False, where, required, array[place])


def _check_accumulators(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], where: str) -> None:
    if operator.accumulators is None:
        return
    wide = _is_wide(instruction)
    if wide and "bias" in instruction.constants:
        _check_wide_bias(instruction.constants["bias"], where)  # first: the sums below are of 64 bits
    if not wide and operator.reach is not None and operator.reach(instruction, inputs) <= INT32_MAX:
        return
    low, high, shift = operator.accumulators(instruction, inputs)
    if wide:
        _check_wide_accumulators(instruction, low, high, where)
    else:
        _check_narrow_accumulators(low, high, shift, where)


def _check_narrow_accumulators(low: np.ndarray, high: np.ndarray, shift: np.ndarray, where: str) -> None:
    least, greatest = int(low.min()), int(high.max())
    fits = least >= INT32_MIN and greatest <= INT32_MAX  # asked of the sums first: shifted ones may leave 64 bits
    if fits:
        least, greatest = int((low << shift).min()), int((high << shift).max())
    _require(
        fits and least >= INT32_MIN and greatest <= INT32_MAX,
        where,
        "accumulators that fit int32 after their left shift",
        f"[{least}, {greatest}]; the output's range is too small or the layer too deep",
    )


def _check_wide_bias(bias: np.ndarray, where: str) -> None:
    least, greatest = int(bias.min()), int(bias.max())
    fits = max(-least, greatest) <= WIDE_ACCUMULATOR_MAX
    _require(fits, where, "a bias that fits 48 bits", f"[{least}, {greatest}]")


def _check_wide_accumulators(instruction: Instruction, low: np.ndarray, high: np.ndarray, where: str) -> None:
    """64-bit accumulators stay inside 48 bits, so that products with 16-bit multipliers fit, and leave in 32."""
    least, greatest = int(low.min()), int(high.max())
    fits = max(-least, greatest) <= WIDE_ACCUMULATOR_MAX  # low <= high, and neither wraps, as the bias fits
    _require(fits, where, "accumulators that fit 48 bits", f"[{least}, {greatest}]; the layer is too deep")
    numbers = {**instruction.attributes, **instruction.constants}
    multiplier, shift = (np.asarray(numbers[role], np.int64) for role in ("multiplier", "shift"))
    ends = requantize(np.stack([low, high]), multiplier, shift, WIDE_ROUNDING)
    fits = bool(((ends >= INT32_MIN) & (ends <= INT32_MAX)).all())
    found = f"[{int(ends.min())}, {int(ends.max())}]; the output's range is too small"
    _require(fits, where, "results that fit int32 before they are clamped", found)


def layer_macs(program: Program) -> dict[str, int]:
    """Multiply-accumulates a sample of each instruction, by its name."""
    macs = {}
    for instruction in program.instructions:
        shapes = [program.tensors[name].shape for name in instruction.inputs]
        out = program.tensors[instruction.name].shape
        macs[instruction.name] = REGISTRY[instruction.op].macs(instruction, shapes, out)
    return macs
