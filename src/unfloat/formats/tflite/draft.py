"""What one reading has made so far: the Program's tensors and instructions, and what the file's names stand for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from unfloat.formats.tflite.activation import activation_codes
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.model import (
    INTEGERS,
    LEAST_ALLOWANCE,
    MOST_SHARING,
    Field,
    TfModel,
    TfOperator,
    TfTensor,
    apart,
)
from unfloat.formats.tflite.survey import FLOATS, real_tensor
from unfloat.ir.graph import BATCH, EMPTY, Shape
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.ops import REGISTRY
from unfloat.program.lower import complete
from unfloat.program.verify import check_kinds
from unfloat.spec.errors import InvalidProgramError, NumericDomainError
from unfloat.spec.fixedpoint import WIDE_ROUNDING
from unfloat.spec.qparams import INDEX, STORAGE, WIDE_BITS, QParams

IMAGE_RANK = 4
INDEX_BYTES = 36  # of one in a list


class BatchTouchedError(UnreadableError):
    """The file's leading dimension takes part in a computation, so that it cannot be the batch."""


class Draft:
    """The Program being made.

    Dimension 0 of a Program's value is the batch. Where the leading 1 of the file's tensors can be that, it is
    (`lead` 0), and tensors that begin otherwise get one more dimension. Where operators compute with the leading 1, a
    batch goes before the dimensions of all tensors (`lead` 1).
    """

    filler = "maximum"  # what puts constants into the gaps of a value
    carried = 1  # whether a run goes on from the states of the one before, as it does in a runtime

    def __init__(self, model: TfModel, lead: int) -> None:
        """Begin with nothing; `lead` as above."""
        self.model = model
        self.lead = lead
        self.batch = next((t.shape[0] for _, name in model.inputs if (t := model.tensors[name]).shape), 1)
        self.tensors: dict[str, Tensor] = {}
        self.instructions: list[Instruction] = []
        self.values: dict[str, str] = {}  # of the file's activations: the Program's value
        self.readers = Counter(name for operator in model.operators for name in operator.inputs)
        self.shown = {name for _, name in (*model.inputs, *model.outputs)}
        self.made = {name for operator in model.operators for name in operator.outputs}
        held = sum(tensor.data.nbytes for tensor in model.tensors.values() if tensor.data is not None)
        self.allowance = MOST_SHARING * max(held, LEAST_ALLOWANCE)  # bytes that may be made of the file's constants
        self.unbatched: set[str] = set()  # of the file's tensors: those of which a RESHAPE took the batch's 1 away
        self.known: dict[str, np.ndarray] = {}  # of the file's shapes and indices: their numbers

    # --- the file's tensors ---

    def tensor(self, name: str | None) -> TfTensor:
        """One of the file's tensors."""
        if name is None:
            raise UnreadableError("required an operand, found that it was left out")
        return self.model.tensors[name]

    def label(self, name: str | None) -> QParams:
        """The QParams of a tensor of codes, or of computed integers."""
        tensor = self.tensor(name)
        if tensor.is_index:
            return INDEX
        stored = "int8" if tensor.dtype == "int4" else tensor.dtype
        if stored not in STORAGE or tensor.quantization is None:
            raise UnreadableError(f"required quantized codes, found {tensor.dtype} in {tensor.name}")
        quantization = tensor.quantization
        axis = quantization.axis if len(quantization.scale) > 1 else None
        bits = {"int4": 4, "int16": WIDE_BITS}.get(tensor.dtype, 8)
        try:
            return QParams(quantization.scale, quantization.zero_point, stored, bits, axis)
        except NumericDomainError as error:
            raise UnreadableError(f"{tensor.name}: {error}") from error

    def lead_of(self, name: str | None) -> int:
        """Whether the batch goes before a tensor's own dimensions (1) or is the first of them (0)."""
        tensor = self.tensor(name)
        if self.lead or tensor.shape[:1] == (self.batch,):
            return self.lead
        if self.batch != 1:
            raise BatchTouchedError(f"required the batch of {self.batch} in front, found {tensor.name}, {tensor.shape}")
        return 1

    def shape(self, name: str | None) -> Shape:
        """The shape of an activation in the Program."""
        tensor = self.tensor(name)
        if 0 in tensor.shape:
            raise UnreadableError(f"required sizes of 1 and more, found {tensor.shape} of {tensor.name}")
        return (BATCH, *tensor.shape[1 - self.lead_of(name) :])

    def axis(self, axis: int, name: str | None, lead: int | None = None) -> int:
        """A dimension of a tensor, from the front or (negative) from behind, as the Program counts.

        `lead` where that is known better than `lead_of` does.
        """
        rank = len(self.tensor(name).shape)
        if not -rank <= axis < rank:
            raise UnreadableError(f"required an axis of {rank} dimensions, found {axis}")
        found = axis % rank + (self.lead_of(name) if lead is None else lead)
        if found == 0:
            raise BatchTouchedError(f"required an axis other than the batch, found {axis}")
        return found

    def unlike(self, message: str) -> UnreadableError:
        """The error of shapes that do not fit: they may where the batch goes before all dimensions."""
        return UnreadableError(message) if self.lead else BatchTouchedError(message)

    def constant(self, name: str | None) -> np.ndarray:
        """A constant's content."""
        tensor = self.tensor(name)
        if tensor.data is None:
            raise UnreadableError(f"required a constant, found that {tensor.name} is computed")
        self.spend(tensor.data.nbytes)
        return tensor.data

    def single(self, name: str | None) -> float:
        """The only number of a constant."""
        found = self.constant(name)
        if found.size != 1:
            raise UnreadableError(f"required one number, found {found.shape}")
        return float(found.reshape(-1)[0])

    def numbers(self, name: str | None) -> np.ndarray:
        """A shape, axes or indices: plain integers, constant or folded; none are constant too."""
        tensor = self.tensor(name)
        none = np.zeros(tensor.shape, np.int32) if tensor.dtype in INTEGERS and 0 in tensor.shape else None
        found = self.known.get(tensor.name, none if tensor.data is None else tensor.data)
        if found is None or found.dtype.kind not in "iu":
            raise UnreadableError(f"required integers known beforehand, found {tensor.dtype} computed in {tensor.name}")
        self.spend(found.nbytes)
        return found

    def one(self, name: str | None) -> int:
        """The only one of a list of such numbers."""
        found = self.numbers(name)
        if found.size != 1:
            raise UnreadableError(f"required one number, found {found.shape}")
        return int(found.reshape(-1)[0])

    def pairs(self, name: str | None, count: int) -> np.ndarray:
        """Numbers before and after each of `count` dimensions, none negative: int64 [count, 2]."""
        found = self.numbers(name).astype(np.int64)
        if found.size != 2 * count or (found < 0).any():
            raise UnreadableError(f"required a pair of paddings for each of {count} dimensions, found {found.tolist()}")
        return found.reshape(count, 2)

    def spend(self, size: int) -> None:
        """Count bytes that are made of the file's constants, or of indices that its shapes imply.

        Operators may share a constant, and a few bytes may ask for a row of indices as long as an axis: both are
        bounded by the constants that the file holds.
        """
        self.allowance -= size
        if self.allowance < 0:
            raise UnreadableError(
                f"required constants and indices of no more than {MOST_SHARING} times those in the file"
            )

    def codes_of(self, name: str) -> str:
        """The codes of one of the file's inputs: the tensor itself, or what a QUANTIZE makes of its real numbers.

        Or a CAST: indices that come as real numbers.
        """
        if self.tensor(name).dtype not in FLOATS:
            return name
        consumers = [operator for operator in self.model.operators if name in operator.inputs]
        if len(consumers) != 1 or not _makes_codes(self.model, consumers[0]):
            required = "required codes, or real numbers that one QUANTIZE takes"
            raise UnreadableError(f"{required}; this model computes with floats: unfloat.quantize makes it integer")
        return consumers[0].outputs[0]

    def input_name(self, user: str, codes: str) -> str:
        """What the value of an input is called, of the user's name for it and the file's."""
        return codes

    def reason(self, operator: TfOperator) -> str:
        """Why an operator on real numbers is refused; "" for others."""
        name = real_tensor(self.model, operator)
        if name is None:
            return ""
        return f"it computes with floats ({self.tensor(name).dtype} in {name}): quantize the whole model"

    # --- the Program's values ---

    def operand(self, name: str | None, rank: int | None = None) -> str:
        """The Program's value of an activation or a constant of codes, of `rank` dimensions if that is given.

        A value of fewer dimensions gets more of size 1 in front, behind the batch, as NumPy broadcasts.
        """
        tensor = self.tensor(name)
        if tensor.data is None and tensor.name not in self.values:
            raise UnreadableError(f"required an operand that is computed before, found {tensor.name}")
        value = self.values.get(tensor.name) or self._declare_constant(tensor, rank)
        found = self.tensors[value].shape
        if rank is None or len(found) == rank:
            return value
        if len(found) > rank:
            raise UnreadableError(f"required at most {rank} dimensions with the batch, found {tensor.shape}")
        if self.batch != 1 and not self.lead and tensor.data is None:  # its first dimension is not the others' first
            raise BatchTouchedError(f"required {rank} dimensions with the batch, found {tensor.name}, {tensor.shape}")
        return self.reshaped(value, (BATCH, *(1 for _ in range(rank - len(found))), *found[1:]))

    def _declare_constant(self, tensor: TfTensor, rank: int | None) -> str:
        return self.declared(tensor.name, self.for_every_sample(tensor.name, None, rank), self.label(tensor.name))

    def for_every_sample(self, name: str | None, shape: Shape | None = None, rank: int | None = None) -> np.ndarray:
        """A constant's content with one cell for the batch in front; seen as a `shape`, or of a `rank`, if given."""
        data = self.constant(name)
        if shape:
            if data.size != math.prod(shape[1:]):
                raise UnreadableError(f"required a constant of {shape[1:]}, found {data.shape}")
            return data.reshape((1, *shape[1:]))
        found = (*(1 for _ in range((rank or data.ndim + self.lead_of(name)) - data.ndim)), *data.shape) or (1,)
        if found[0] != 1:
            raise BatchTouchedError(f"required a constant for every sample alike, found {data.shape}")
        return data.reshape(found)

    def declared(self, name: str, content: np.ndarray, label: QParams) -> str:
        """The Program's value of constant codes."""
        name = self.unused(name)
        self.hold(Tensor(name, content.shape, label, content))
        return name

    def hold(self, tensor: Tensor) -> None:
        """Take a value into the Program."""
        if (axis := tensor.qparams.axis) is not None:
            raise UnreadableError(f"required one scale for all of {tensor.name}, found one for each index along {axis}")
        self.tensors[tensor.name] = tensor

    def gap(self, label: QParams) -> dict[str, Any]:
        """What a pad writes where `filler` puts constants: the lowest code, of which each is the maximum."""
        return {"value": label.qmin}

    def stand_in(self, operator: TfOperator) -> None:
        """Values that nothing makes for what an operator that cannot be read makes: its readers' own faults show."""
        for output in operator.outputs:
            with suppress(UnreadableError):
                value = self.unused(output)
                self.tensors[value] = Tensor(value, self.shape(output), self.label(output))
                self.values[output] = value

    def reshaped(self, value: str, shape: Shape, name: str | None = None) -> str:
        """A value in another shape; under `name` if that is given."""
        source = self.tensors[value]
        if source.shape == shape and name is None:
            return value
        return self.emit("reshape", (value,), source.qparams, {"shape": shape}, name=name)

    def index(self, name: str | None) -> str:
        """The Program's value of computed integers."""
        tensor, value = self.tensor(name), self.operand(name)
        if not tensor.is_index:
            raise UnreadableError(f"required integers that choose, found {tensor.dtype} in {tensor.name}")
        return value

    def takes_indices(self, operator: TfOperator) -> bool:
        """Whether an operand holds integers that data decide."""
        return any(name in self.values and self.tensor(name).is_index for name in operator.inputs)

    def image(self, name: str | None) -> str:
        """An activation of rows, columns and channels behind the batch."""
        tensor, value = self.tensor(name), self.operand(name)
        if len(tensor.shape) != IMAGE_RANK or (self.lead_of(name) and tensor.shape[0] != 1):
            raise UnreadableError(f"required one image of rows, columns and channels, found {tensor.shape}")
        return self.reshaped(value, (BATCH, *tensor.shape[1:]))

    def unused(self, name: str) -> str:
        """The name, or one made of it that no value has."""
        return apart(name, self.tensors)

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        label: QParams,
        attributes: Mapping[str, Any],
        constants: Mapping[str, np.ndarray] = EMPTY,
        labels: Mapping[str, QParams] = EMPTY,
        name: str | None = None,
    ) -> str:
        """Append an instruction and what follows from its labels; its output's name."""
        name = self.unused(name or f"{inputs[0]}/{op}")
        bare = Instruction(op, name, tuple(inputs), attributes, constants, labels)
        output = Tensor(name, self.made_by(op, inputs, attributes, constants), label)
        self.hold(output)
        operands = [self.tensors[value] for value in inputs]
        made = complete(bare, REGISTRY[op].derive(bare, operands, output))
        try:
            check_kinds(made, operands, output)
        except InvalidProgramError as error:
            raise UnreadableError(str(error)) from error
        self.instructions.append(made)
        return name

    def define(
        self,
        output: str,
        op: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any],
        constants: Mapping[str, np.ndarray] = EMPTY,
        labels: Mapping[str, QParams] = EMPTY,
    ) -> None:
        """Append the instruction that makes one of the file's activations, `output`; see `emit`.

        What it makes is reshaped where the activation's own shape differs in ones.
        """
        label, own = self.label(output), self.shape(output)
        made = self.made_by(op, inputs, attributes, constants)
        if [size for size in made if size != 1] != [size for size in own if size != 1]:
            raise self.unlike(f"required a result of {made}, found {own}")
        name = output if made == own else None
        value = self.emit(op, inputs, label, attributes, constants, labels, name)
        self.values[output] = value if made == own else self.reshaped(value, own, output)

    def made_by(
        self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any], constants: Mapping[str, np.ndarray]
    ) -> Shape:
        """The shape that an instruction makes."""
        shapes, own = [self.tensors[value].shape for value in inputs], {r: c.shape for r, c in constants.items()}
        try:
            return REGISTRY[op].shape(attributes, shapes, own)
        except (ValueError, IndexError) as error:
            raise self.unlike(str(error)) from error

    def weights(
        self, source: str, weight: tuple[np.ndarray, QParams], bias: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, QParams], dict[str, Any]]:
        """Constants and labels of a linear instruction on `source`, and the rounding that its width asks for."""
        codes, label = weight
        wide = self.is_wide(source)
        kind = np.dtype(np.int64 if wide else np.int32)
        if bias.dtype != kind:  # kernels read its bytes as this type, whatever they are
            width = "int16" if wide else "8-bit"
            raise UnreadableError(f"required a bias of {kind} for {width} codes, found {bias.dtype}")
        rounding = {"rounding": WIDE_ROUNDING} if wide else {}
        return {"weight": codes, "bias": bias.astype(kind)}, {"weight": snug(codes, label)}, rounding

    def is_wide(self, value: str) -> bool:
        """Whether one of the Program's values holds int16 codes."""
        return self.tensors[value].qparams.dtype == "int16"

    def clip_code(self, bound: float, label: QParams) -> int:
        """The code at which a state is clipped on both sides, as TFLite truncates it; 0 for none."""
        code = int(min(bound / label.scale[0], 2.0 ** (label.bits - 1) - 1))
        if bound and not code:
            raise UnreadableError(f"required a clip of one code at least, found {bound} of steps of {label.scale[0]}")
        return code

    def clamp(self, operator: TfOperator) -> dict[str, Any]:
        """An instruction's clamp by the operator's fused activation, and its rounding."""
        return self.clamp_by(fused_activation_of(operator), operator.outputs[0])

    def clamp_by(self, activation: str, output: str) -> dict[str, Any]:
        """The same by an activation's name."""
        low, high = activation_codes(activation, self.label(output))
        return {"clamp_min": low, "clamp_max": high, "rounding": "double"}

    def border(self, name: str | None) -> dict[str, Any]:
        """What a pad writes, by a constant: one code."""
        return {"value": int(self.single(name))}

    def cuts(self, operator: TfOperator) -> bool:
        """Whether the fused activation cuts off anything that the output could say."""
        label, clamp = self.label(operator.outputs[0]), self.clamp(operator)
        return (clamp["clamp_min"], clamp["clamp_max"]) != (label.qmin, label.qmax)

    def bounded(self, output: str, source: str, bound: np.ndarray, *, below: bool) -> None:
        """One of the file's activations is another one, of the same label, with one bound: a code of that label."""
        label, code = self.label(source), int(bound.reshape(-1)[0])
        low, high = (code, label.qmax) if below else (label.qmin, code)
        self.narrowed(output, source, {"clamp_min": low, "clamp_max": high, "rounding": "double"})

    def narrowed(self, output: str, source: str, clamp: Mapping[str, Any]) -> None:
        """One of the file's activations is another one, of the same label, clamped.

        The clamp joins the instruction that makes the other, where that has one and nothing else reads the value.
        """
        value, low, high = self.operand(source), clamp["clamp_min"], clamp["clamp_max"]
        maker = self.instructions[-1] if self.instructions else None
        if maker is None or maker.name != value or "clamp_min" not in maker.attributes or self.is_shared(value):
            self.define(output, "rescale", (value,), clamp)
            return
        ends = {end: min(max(maker.attributes[end], low), high) for end in ("clamp_min", "clamp_max")}
        made = self._remade(output, ends)
        self.values = {name: found for name, found in self.values.items() if found != made}  # nothing else reads those
        self.alias(output, made)

    def alias(self, output: str, value: str) -> None:
        """One of the file's activations is a value of the Program already, in its own shape or another."""
        shape = self.shape(output)
        found = self.tensors[value]
        if math.prod(found.shape[1:]) != math.prod(shape[1:]):
            raise UnreadableError(f"required as many values as {shape} has, found {found.shape}")
        self.require_same(output, found.qparams)
        last = self.instructions[-1].name if self.instructions else None
        if found.shape != shape:
            value = self.reshaped(value, shape, output)
        elif value == last != output and not self.is_shared(value):
            value = self._remade(output, EMPTY)
        self.values[output] = value

    def _remade(self, name: str, changes: Mapping[str, Any]) -> str:
        """The last instruction under another name and with other attributes."""
        last = self.instructions.pop()
        made = self.tensors.pop(last.name)
        attributes = {**last.attributes, **changes}
        value = self.emit(last.op, last.inputs, made.qparams, attributes, last.constants, last.labels, name)
        self.values |= {other: value for other, old in self.values.items() if old == last.name}
        return value

    def is_shared(self, value: str) -> bool:
        """Whether more than one operator, or an output, reads a value under any of the file's names for it."""
        names = {name for name, found in self.values.items() if found == value}
        inside = sum(self.readers[name] for name in names)
        return inside + 2 * any(name in names for _, name in self.model.outputs) > 1

    def is_own(self, state: str) -> bool:
        """Whether one operator alone sees a state."""
        return self.readers[state] == 1 and state not in self.shown and state not in self.made

    def require_same(self, output: str, label: QParams) -> None:
        """Raise unless codes that only move keep their meaning."""
        if self.label(output) != label:
            raise UnreadableError(
                f"required the QParams of its operands for its output, {label}; found {self.label(output)}"
            )


def _makes_codes(model: TfModel, operator: TfOperator) -> bool:
    """Whether an operator takes real numbers in: a QUANTIZE, or a CAST to indices."""
    made = [model.tensors[name] for name in operator.outputs]
    return bool(made) and (operator.builtin == "QUANTIZE" or (operator.builtin == "CAST" and made[0].is_index))


def snug(codes: np.ndarray, label: QParams) -> QParams:
    """A weight's label, narrow where the lowest code is never used and stands for nothing either."""
    return replace(label, narrow=bool(min(codes.min(), label.zero_point) > label.qmin))


def fused_activation_of(operator: TfOperator) -> str:
    """The activation fused into an operator; "NONE" where it has none."""
    activation = text(operator, "FusedActivationFunction", "NONE")
    if activation not in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1"):
        raise UnreadableError(f"required an activation that clamps, found {activation}")
    return activation


def text(operator: TfOperator, field: str, otherwise: str) -> str:
    """An option that is a member of an enumeration, by the member's name."""
    value: Field = operator.fields.get(field, ("", otherwise))
    return str(value[1]) if isinstance(value, tuple) else otherwise


def number(operator: TfOperator, field: str, otherwise: int = 0) -> int:
    """An option that is an integer or a truth value."""
    value = operator.fields.get(field, otherwise)
    if not isinstance(value, int | np.integer | bool | np.bool_):
        raise UnreadableError(f"required a number for {field}, found {value}")
    return int(value)
