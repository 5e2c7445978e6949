"""Models whose operands, shapes, options and labels were exchanged at random: read, or refused with a clear error."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from fuzz.mutate import BUILTINS, mutate

from tests.formats.test_tflite_read import OPERATORS, written
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import drafted, from_model
from unfloat.formats.tflite.read_float import FloatDraft
from unfloat.formats.tflite.write import to_bytes
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

MOST_BYTES = 20_000  # of a case's file: many small ones are read quickly
PARTS, SEEDS = 4, 1500


@cache
def files() -> list[bytes]:
    """Every third case of every operator."""
    found = [to_bytes(program) for operator in OPERATORS for _, program in [*written(operator)][::3]]
    return [file for file in found if len(file) < MOST_BYTES]


def real(model: TfModel) -> TfModel:
    """The same of real numbers."""

    def one(tensor: TfTensor) -> TfTensor:
        data = None if tensor.data is None else tensor.data.astype(np.float32)
        return replace(tensor, dtype="float32", quantization=None, data=data)

    return replace(model, tensors={n: one(t) if t.quantization else t for n, t in model.tensors.items()})


@pytest.mark.parametrize("part", range(PARTS))
def test_damage_is_refused_with_a_clear_error(part: int) -> None:
    read = refused = 0
    for seed in range(SEEDS * part, SEEDS * (part + 1)):
        rng = np.random.default_rng(seed)
        content = mutate("tflite", files()[rng.integers(len(files()))], seed)
        assert content is not None
        try:
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # scales beyond float32
                model = decode(content)
                drafted(real(model), FloatDraft) if seed % 4 == 0 else from_model(model)
            read += 1
        except (UnsupportedError, InvalidProgramError):
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {model.operators}") from error
    assert min(read, refused) > 100


def test_a_file_without_tensors_is_damaged_too() -> None:
    content = encode(TfModel({}, (TfOperator("RELU", 1, (), (), ""),), (), ()), "no tensors")
    assert all(mutate("tflite", content, seed) is not None for seed in range(100))


OPERANDS = (
    TfTensor("image", (1, 4, 4, 8), "int8", Quantization((0.5,))),
    TfTensor("row", (1, 8), "int8", Quantization((0.5,))),
    TfTensor("scalar", (), "int8", Quantization((0.5,))),
    TfTensor("empty", (0,), "int32", None, np.zeros(0, np.int32)),
    TfTensor("number", (), "int32", None, np.array(1, np.int32)),
)


@pytest.mark.parametrize("kind", BUILTINS)
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
