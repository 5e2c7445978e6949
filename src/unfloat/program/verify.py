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
from unfloat.spec.qparams import INDEX, STORAGE, QParams, stray_codes
from unfloat.spec.record import Record

MAX_RANK = 6
MAX_SAMPLE_BYTES = 2**31 - 1
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
    _check_wiring(program)
    places = [
        (REGISTRY[i.op], i, [program.tensors[name] for name in i.inputs], program.tensors[i.name])
        for i in program.instructions
    ]
    # Rule by rule, each relying on those before: a rule's code stays in the processor's caches for all instructions.
    for rule in (_check_fields, _check_shapes, _check_storages, _check_labels, _check_derived, _check_accumulators):
        for place in places:
            rule(*place)


def check_kinds(instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    """The rules of one complete instruction's storage types and labels alone, for who makes it.

    Raises:
        InvalidProgramError: One is broken, as by `check`.
    """
    for rule in (_check_storages, _check_labels):
        rule(REGISTRY[instruction.op], instruction, inputs, output)


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


def _require(condition: bool, where: str | Tensor | Instruction, required: str, found: object, *by: object) -> None:
    """Raise unless the condition holds. `required` is a template of `by`, as words that nobody reads take longest."""
    if not condition:
        raise InvalidProgramError(f"{_place(where)}: required {required.format(*by)}, found {found}")


def _place(where: str | Tensor | Instruction) -> str:
    if isinstance(where, Instruction):
        return f"instruction {where.name} ({where.op})"
    return f"tensor {where.name}" if isinstance(where, Tensor) else where


def _check_tensors(program: Program) -> None:
    for name, tensor in program.tensors.items():
        shape = tensor.shape
        _require(name == tensor.name and bool(name), f"tensor {name}", "its own name as its key", tensor.name)
        _require(1 <= len(shape) <= MAX_RANK, tensor, "1 to {} dimensions", shape, MAX_RANK)
        sizes = shape if tensor.data is not None else shape[1:]
        most = MAX_SAMPLE_BYTES // STORAGE[tensor.qparams.dtype].itemsize
        fits = all(isinstance(s, int) and s > 0 for s in sizes) and math.prod(sizes) <= most
        _require(fits, tensor, "positive sizes whose bytes fit int32", shape)
        _require(tensor.qparams.axis is None, tensor, "QParams per tensor, not along an axis", tensor.qparams.axis)
        if tensor.data is None:
            _require(shape[0] == BATCH, tensor, "the batch as dimension 0", shape)
        else:
            _require(tensor.data.shape == shape, tensor, "codes of shape {}", tensor.data.shape, shape)
            dtype = STORAGE[tensor.qparams.dtype]
            _require(tensor.data.dtype == dtype, tensor, "codes of {}", tensor.data.dtype, dtype)
            _check_codes(tensor.data, tensor.qparams, "", tensor)


def _check_codes(codes: np.ndarray, label: QParams, role: str, where: Tensor | Instruction) -> None:
    stray = stray_codes(codes, label)
    if stray:
        raise InvalidProgramError(f"{_place(where)}: required {role}{stray}")


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


def _check_wiring(program: Program) -> None:
    """Every tensor is made once, before it is read, by an operator that exists."""
    known = {port.value for port in program.inputs} | {n for n, t in program.tensors.items() if t.data is not None}
    for instruction in program.instructions:
        _check_operands(instruction, known)
        _require(instruction.name in program.tensors, instruction, "an output tensor of its own name", "none")
        _require(instruction.name not in known, instruction, "an output that nothing else makes", instruction.name)
        known.add(instruction.name)
    for port in program.outputs:
        _require(port.value in known, f"output {port.name}", "a tensor that an instruction makes", port.value)
    unmade = set(program.tensors) - known
    _require(not unmade, "program", "every activation to be made by an instruction", sorted(unmade)[:3])


def _check_operands(instruction: Instruction, known: set[str]) -> None:
    operator = REGISTRY.get(instruction.op)
    if operator is None or operator.integer_meaning is None:
        raise InvalidProgramError(f"{_place(instruction)}: required an integer operator, found {instruction.op!r}")
    least, most = operator.arity
    count = len(instruction.inputs)
    enough = least <= count <= (most or count)
    _require(enough, instruction, "{} to {} operands", count, least, most or "any number of")
    for name in instruction.inputs:
        _require(name in known, instruction, "operands that are already known", repr(name))


def _check_fields(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    attributes, constants = instruction.attributes, instruction.constants
    domains = operator.domains
    if operator.optional:
        domains = {**domains, **{name: d for name, d in operator.optional.items() if name in attributes}}
    if domains.keys() != attributes.keys():
        _require(False, instruction, "attributes {}", sorted(attributes), sorted(domains))
    for name, domain in domains.items():
        if not domain.allows(attributes[name]):
            _require(False, instruction, "{} to be {}", repr(attributes[name]), name, domain)
    found = constants.keys()
    _require(found == operator.roles, instruction, "constants {}", tuple(found), operator.constants)
    dtypes = _WIDE_DTYPES if _is_wide(instruction) else _CONSTANT_DTYPES
    for role, array in constants.items():
        label = instruction.labels.get(role)
        dtype = STORAGE[label.dtype] if label else dtypes.get(role)
        _require(array.dtype == dtype, instruction, "{} of {}", array.dtype, role, dtype)
        _require(array.size > 0, instruction, "{} not to be empty", array.shape, role)
    labelled = instruction.labels.keys()
    _require(labelled == operator.labelled, instruction, "labels for {}", tuple(labelled), tuple(operator.labelled))


def _check_shapes(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    constants: dict[str, Shape] = {role: array.shape for role, array in instruction.constants.items()}
    try:
        shape = operator.shape(instruction.attributes, [t.shape for t in inputs], constants)
    except (ValueError, IndexError) as error:
        raise InvalidProgramError(f"{_place(instruction)}: {error}") from error
    _require(shape == output.shape, instruction, "an output of shape {}", output.shape, shape)
    axis = operator.quant.weight_axis
    if axis is not None:
        channels = constants["weight"][axis]
        for role in ("bias", "multiplier", "shift"):
            found = constants[role]
            _require(found == (channels,), instruction, "{} of {} channels", found, role, channels)
        label = instruction.labels["weight"]
        fits = label.axis is None or label.axis == axis
        _require(fits, instruction, "a weight label along axis {} or none", label.axis, axis)
    for role, label in instruction.labels.items():
        if role in constants:
            _check_labelled(instruction, role, instruction.constants[role], label)


def _check_labelled(instruction: Instruction, role: str, codes: np.ndarray, label: QParams) -> None:
    """A constant's codes and scales fit its label."""
    if label.axis is not None:
        inside = 0 <= label.axis < codes.ndim
        _require(inside, instruction, "a {} label along one of its axes", label.axis, role)
        channels, found = codes.shape[label.axis], len(label.scale)
        _require(found == channels, instruction, "a {} scale for each of {} channels", found, role, channels)
    _check_codes(codes, label, f"{role} ", instruction)


def _is_wide(instruction: Instruction) -> bool:
    """Whether it accumulates in 64 bits."""
    return instruction.attributes.get("rounding") == WIDE_ROUNDING


def _check_storages(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    found = [tensor.qparams.dtype for tensor in (*operator.quant.values(inputs), output)]
    if not operator.storable.issuperset(found):
        _require(False, instruction, "codes of {}", ", ".join(found), " or ".join(operator.storages))
    if not operator.converts and len({STORAGE[dtype].itemsize for dtype in found}) > 1:
        _require(False, instruction, "codes of one width", ", ".join(found))
    if operator.accumulate is not None:
        wide = found[0] == "int16"
        _require(_is_wide(instruction) == wide, instruction, "acc64 rounding on int16 codes alone", found[0])
        label = instruction.labels["weight"]
        _require(label.dtype != "int16", instruction, "a weight of int8 or uint8", label.dtype)
        plain = not wide or (label.dtype == "int8" and label.zero_point == 0)
        _require(plain, instruction, "a symmetric int8 weight under int16 codes", label)


def _check_labels(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    label = output.qparams
    for tensor in operator.quant.tied(inputs):
        _require(tensor.qparams == label, instruction, "the QParams of its output, {}", tensor.qparams, label)
    for place in operator.quant.indices:
        found = inputs[place].qparams
        _require(found == INDEX, instruction, "indices as operand {}, whose label is {}", found, place, INDEX)
    if operator.quant.output == "fixed":
        fixed = operator.quant.fixed[label.dtype]
        _require(label == fixed, instruction, "an output of {}", label, fixed)
    if "clamp_min" in operator.fields:
        low, high = instruction.attributes["clamp_min"], instruction.attributes["clamp_max"]
        inside = label.qmin <= low <= high <= label.qmax
        _require(inside, instruction, "clamp codes in order inside [{}, {}]", (low, high), label.qmin, label.qmax)


def _check_derived(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    try:
        derived = operator.derive(instruction, inputs, output)
    except NumericDomainError as error:
        raise InvalidProgramError(f"{_place(instruction)}: {error}") from error
    for name, expected in derived.items():
        if isinstance(expected, np.ndarray):
            _check_array(instruction, name, expected)
        else:
            found = instruction.attributes[name]
            _require(expected == found, instruction, "{} = {}, which follows from the labels", found, name, expected)


def _check_array(instruction: Instruction, name: str, expected: np.ndarray) -> None:
    array = instruction.constants[name]
    _require(expected.shape == array.shape, instruction, "{} of shape {}", array.shape, name, expected.shape)
    if expected.dtype == array.dtype and expected.tobytes() == array.tobytes():
        return  # as it nearly always is
    differs = np.flatnonzero(expected != array)
    if differs.size:
        place = np.unravel_index(differs[0], expected.shape)
        required = "{}{} = {}, which follows from the labels"
        _require(False, instruction, required, array[place], name, [int(i) for i in place], expected[place])


def _check_accumulators(operator: Operator, instruction: Instruction, inputs: Sequence[Tensor], output: Tensor) -> None:
    if operator.accumulators is None:
        return
    wide = _is_wide(instruction)
    if wide and "bias" in instruction.constants:
        _check_wide_bias(instruction)  # first: the sums below are of 64 bits
    if not wide and operator.reach is not None and operator.reach(instruction, inputs) <= INT32_MAX:
        return
    low, high, shift = operator.accumulators(instruction, inputs)
    if wide:
        _check_wide_accumulators(instruction, low, high)
    else:
        _check_narrow_accumulators(instruction, low, high, shift)


def _check_narrow_accumulators(instruction: Instruction, low: np.ndarray, high: np.ndarray, shift: np.ndarray) -> None:
    least, greatest = int(low.min()), int(high.max())
    fits = least >= INT32_MIN and greatest <= INT32_MAX  # asked of the sums first: shifted ones may leave 64 bits
    if fits:
        least, greatest = int((low << shift).min()), int((high << shift).max())
    _require(
        fits and least >= INT32_MIN and greatest <= INT32_MAX,
        instruction,
        "accumulators that fit int32 after their left shift",
        f"[{least}, {greatest}]; the output's range is too small or the layer too deep",
    )


def _check_wide_bias(instruction: Instruction) -> None:
    bias = instruction.constants["bias"]
    least, greatest = int(bias.min()), int(bias.max())
    fits = max(-least, greatest) <= WIDE_ACCUMULATOR_MAX
    _require(fits, instruction, "a bias that fits 48 bits", [least, greatest])


def _check_wide_accumulators(instruction: Instruction, low: np.ndarray, high: np.ndarray) -> None:
    """64-bit accumulators stay inside 48 bits, so that products with 16-bit multipliers fit, and leave in 32."""
    least, greatest = int(low.min()), int(high.max())
    fits = max(-least, greatest) <= WIDE_ACCUMULATOR_MAX  # low <= high, and neither wraps, as the bias fits
    _require(fits, instruction, "accumulators that fit 48 bits", f"[{least}, {greatest}]; the layer is too deep")
    numbers = {**instruction.attributes, **instruction.constants}
    multiplier, shift = (np.asarray(numbers[role], np.int64) for role in ("multiplier", "shift"))
    ends = requantize(np.stack([low, high]), multiplier, shift, WIDE_ROUNDING)
    fits = bool(((ends >= INT32_MIN) & (ends <= INT32_MAX)).all())
    found = f"[{int(ends.min())}, {int(ends.max())}]; the output's range is too small"
    _require(fits, instruction, "results that fit int32 before they are clamped", found)


def layer_macs(program: Program) -> dict[str, int]:
    """Multiply-accumulates a sample of each instruction, by its name."""
    macs = {}
    for instruction in program.instructions:
        shapes = [program.tensors[name].shape for name in instruction.inputs]
        out = program.tensors[instruction.name].shape
        macs[instruction.name] = REGISTRY[instruction.op].macs(instruction, shapes, out)
    return macs
