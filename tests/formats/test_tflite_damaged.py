"""Models whose operands, shapes, options and labels were exchanged at random: read, or refused with a clear error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import TypeVar

import numpy as np
import pytest

from tests.formats.test_tflite_read import OPERATORS, written
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.fold import FOLDS
from unfloat.formats.tflite.model import Field, Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import drafted, from_model
from unfloat.formats.tflite.read_float import FloatDraft
from unfloat.formats.tflite.table import READERS
from unfloat.formats.tflite.write import to_bytes
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

T = TypeVar("T")
KINDS = sorted({*READERS, *FOLDS})
NUMBERS = (-(2**31), -129, -128, -5, -1, 0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 2**31 - 1)
REALS = (0.0, -1.0, 1e-38, 1e-30, 2.0**-8, 1.0, 1e6, 1e30, 3e38, float("nan"), float("inf"))
DTYPES = ("int4", "int8", "uint8", "int16", "int32", "int64", "float32", "bool", "string")
MOST_BYTES = 20_000  # of a case's file: many small ones are read quickly


class Dice:
    """Seeded choices."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def below(self, count: int) -> int:
        return int(self.rng.integers(count))

    def one(self, of: list[T] | tuple[T, ...]) -> T:
        return of[self.below(len(of))]


def other_operand(dice: Dice, operator: TfOperator, names: list[str]) -> TfOperator:
    """An operand exchanged, left out, dropped or added."""
    inputs = list(operator.inputs)
    at = dice.below(len(inputs) + 1)
    taken = dice.one((0, 1))
    given = dice.one(([], [None], [dice.one(names)]))
    return replace(operator, inputs=(*inputs[:at], *given, *inputs[at + taken :]))


def other_results(dice: Dice, operator: TfOperator, names: list[str]) -> TfOperator:
    """One result fewer, or one more."""
    outputs = operator.outputs
    return replace(operator, outputs=dice.one((outputs[:-1], (*outputs, dice.one(names)))))


def other_option(dice: Dice, operator: TfOperator, names: list[str]) -> TfOperator:
    """A number changed, or an enumeration left out."""
    if not operator.fields:
        return operator
    fields: dict[str, Field] = dict(operator.fields)
    name = dice.one(sorted(fields))
    value = fields.pop(name)
    if not isinstance(value, tuple):
        fields[name] = dice.one(REALS) if isinstance(value, float) else dice.one(NUMBERS)
    return replace(operator, fields=fields)


def other_kind(dice: Dice, operator: TfOperator, names: list[str]) -> TfOperator:
    """The same operands to another operator."""
    return replace(operator, builtin=dice.one(KINDS))


def other_shape(dice: Dice, tensor: TfTensor) -> TfTensor:
    """A dimension fewer, one more, or another size; a constant fits it."""
    shape = list(tensor.shape)
    at = dice.below(len(shape) + 1)
    shape[at : at + dice.one((0, 1))] = dice.one(([], [0], [1], [2], [3], [5]))
    data = None if tensor.data is None else np.resize(tensor.data, shape)
    return replace(tensor, shape=tuple(shape), data=data)


def other_label(dice: Dice, tensor: TfTensor) -> TfTensor:
    """No label where one was, and the reverse; or another scale, zero point, axis or number of scales."""
    found = tensor.quantization
    if found is None:
        return replace(tensor, quantization=Quantization((1.0,)))
    changes = (
        None,
        replace(found, scale=(dice.one(REALS),) * len(found.scale)),
        replace(found, scale=found.scale * dice.below(4)),
        replace(found, zero_point=dice.one(NUMBERS)),
        replace(found, axis=dice.below(7) - 2),
    )
    return replace(tensor, quantization=dice.one(changes))


def other_dtype(dice: Dice, tensor: TfTensor) -> TfTensor:
    """Another type; a constant is converted where NumPy has it."""
    dtype = dice.one(DTYPES)
    data = tensor.data
    if data is not None and dtype not in ("int4", "bool", "string"):
        data = data.astype(dtype)
    return replace(tensor, dtype=dtype, data=data)


def other_content(dice: Dice, tensor: TfTensor) -> TfTensor:
    """One number of a constant changed, or the constant computed."""
    data = tensor.data
    if data is None or not data.size or data.dtype.kind not in "iu":
        return replace(tensor, data=None)
    data = data.copy()
    data.reshape(-1)[dice.below(data.size)] = np.array(dice.one(NUMBERS)).astype(data.dtype)
    return replace(tensor, data=data)


OF_OPERATORS: tuple[Callable[[Dice, TfOperator, list[str]], TfOperator], ...] = (
    other_operand,
    other_operand,
    other_results,
    other_option,
    other_kind,
)
OF_TENSORS: tuple[Callable[[Dice, TfTensor], TfTensor], ...] = (other_shape, other_label, other_dtype, other_content)


def damaged(dice: Dice, model: TfModel) -> TfModel:
    """The model with one change."""
    tensors, operators = dict(model.tensors), list(model.operators)
    if operators and dice.below(2):
        at = dice.below(len(operators))
        operators[at] = dice.one(OF_OPERATORS)(dice, operators[at], list(tensors))
    else:
        name = dice.one(list(tensors))
        tensors[name] = dice.one(OF_TENSORS)(dice, tensors[name])
    return replace(model, tensors=tensors, operators=tuple(operators))


def real(model: TfModel) -> TfModel:
    """The same of real numbers."""

    def one(tensor: TfTensor) -> TfTensor:
        data = None if tensor.data is None else tensor.data.astype(np.float32)
        return replace(tensor, dtype="float32", quantization=None, data=data)

    return replace(model, tensors={n: one(t) if t.quantization else t for n, t in model.tensors.items()})


@cache
def models() -> list[TfModel]:
    """Every third case of every operator."""
    files = [to_bytes(program) for operator in OPERATORS for _, program in [*written(operator)][::3]]
    return [decode(file) for file in files if len(file) < MOST_BYTES]


@pytest.mark.parametrize("part", range(8))
def test_damage_is_refused_with_a_clear_error(part: int) -> None:
    read = refused = 0
    for seed in range(1000 * part, 1000 * (part + 1)):
        dice = Dice(seed)
        model = dice.one(models())
        is_real = dice.below(4) == 0
        model = real(model) if is_real else model
        for _ in range(dice.one((1, 1, 2, 3))):
            model = damaged(dice, model)
        try:
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # scales beyond float32
                drafted(model, FloatDraft) if is_real else from_model(model)
            read += 1
        except (UnsupportedError, InvalidProgramError):
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {model.operators}") from error
    assert min(read, refused) > 100


OPERANDS = (
    TfTensor("image", (1, 4, 4, 8), "int8", Quantization((0.5,))),
    TfTensor("row", (1, 8), "int8", Quantization((0.5,))),
    TfTensor("scalar", (), "int8", Quantization((0.5,))),
    TfTensor("empty", (0,), "int32", None, np.zeros(0, np.int32)),
    TfTensor("number", (), "int32", None, np.array(1, np.int32)),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", [OPERANDS[0], OPERANDS[1], OPERANDS[3]], ids=lambda tensor: tensor.name)
def test_operands_of_any_number_and_rank(kind: str, output: TfTensor) -> None:
    """Empty lists and missing dimensions among them."""
    made = replace(output, name="made", data=None)
    tensors = {tensor.name: tensor for tensor in (*OPERANDS, made)}
    border = tuple((name, name) for name in ("image", "row"))
    for operands in (found for count in range(4) for found in product(list(tensors)[:5], repeat=count)):
        for options in ({}, {"BlockSize": 2}):
            operator = TfOperator(kind, 1, operands, ("made",), "", options)
            with contextlib.suppress(UnsupportedError, InvalidProgramError):
                from_model(TfModel(tensors, (operator,), border, (("made", "made"),)))
