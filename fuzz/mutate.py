"""Changes to a file that keep its frame whole, so that they reach the rules behind it.

Bytes changed at random seldom get past a checksum of structure: JSON that no longer parses, offsets that lead nowhere.
These change one value of what the frame holds.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.fold import FOLDS
from unfloat.formats.tflite.model import Field, Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.table import READERS
from unfloat.program.file import KEY
from unfloat.spec.errors import UnfloatError

NUMBERS = (-(2**63), -(2**31), -129, -2, -1, 0, 1, 2, 3, 4, 7, 127, 255, 4096, 65535, 65536, 2**30, 2**31 - 1, 2**63)
WORDS = tuple(number for number in NUMBERS if -(2**31) <= number < 2**31)
BUILTINS = sorted({*READERS, *FOLDS})
DTYPES = ("int4", "int8", "uint8", "int16", "int32", "int64", "float32", "bool", "string")
MOST_NUMBERS = 1 << 16
SCALES = (0.0, -1.0, 1e-45, 2.0**-126, 0.5, 1.0, 3e38, float("inf"), float("nan"))


def mutate(kind: str, content: bytes, seed: int) -> bytes | None:
    """A changed file of a format, "unfloat" or "tflite"; None where the frame is damaged already."""
    with np.errstate(all="ignore"):
        return MUTATORS[kind](content, random.Random(seed))


def _unfloat(content: bytes, rng: random.Random) -> bytes | None:
    try:
        arrays = load_arrays(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        document = json.loads(header["__metadata__"][KEY])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    for _ in range(rng.randint(1, 3)):
        if arrays and rng.random() < 0.3:
            name = rng.choice(sorted(arrays))
            arrays[name] = _array(arrays[name], rng)
        else:
            document = _value(document, rng)
    return bytes(save_arrays(arrays, {KEY: json.dumps(document, sort_keys=True, separators=(",", ":"))}))


def _array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array with one number changed, or of another shape or type."""
    how = rng.randrange(4)
    if how == 0 or not array.size:
        return array.reshape(-1)
    if how == 1:
        return array.reshape(-1)[: rng.randint(0, array.size)]
    if how == 2:
        return array.astype(rng.choice([np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32]))
    changed = np.array(array)
    least, most = (0, 1) if array.dtype.kind == "f" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    changed.reshape(-1)[rng.randrange(array.size)] = rng.choice([least, most])
    return changed


def _value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of the values in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(sorted(value))
        if rng.random() < 0.02:
            return {name: held for name, held in value.items() if name != key}
        return {**value, key: _value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        how = rng.random()
        changed = [value[i], value[i]] if how < 0.05 else [] if how < 0.1 else [_value(value[i], rng)]
        return [*value[:i], *changed, *value[i + 1 :]]
    if isinstance(value, float):
        return rng.choice([value * 2, value / 2, *SCALES])
    if isinstance(value, int) and rng.random() < 0.9:
        return rng.choice([value + 1, value - 1, value * 2, -value, *NUMBERS])
    return rng.choice([None, True, "", "x0", "out", "double", [], {}, 0, 1.5, [1] * 8, value])


def _tflite(content: bytes, rng: random.Random) -> bytes | None:
    if rng.random() < 0.3:
        return _words(content, rng)
    try:
        model = decode(content)
        for _ in range(rng.randint(1, 3)):
            model = _model(model, rng)
        return encode(model, "")
    except (UnfloatError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error):
        return _words(content, rng)


def _words(content: bytes, rng: random.Random) -> bytes | None:
    """Aligned words overwritten: offsets, counts, indices."""
    if len(content) < 8:
        return None
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) // 4) * 4
        struct.pack_into("<i", changed, at, rng.choice([*WORDS, len(content), len(content) - at]))
    return bytes(changed)


def _model(model: TfModel, rng: random.Random) -> TfModel:
    """A model with one of its tensors or operators changed."""
    if rng.random() < 0.5 and model.tensors:
        name = rng.choice(sorted(model.tensors))
        return replace(model, tensors={**model.tensors, name: _tensor(model.tensors[name], rng)})
    if not model.operators:
        return model
    i = rng.randrange(len(model.operators))
    changed = [_operator(model, model.operators[i], rng)]
    if rng.random() < 0.1:
        changed.append(model.operators[i])
    return replace(model, operators=(*model.operators[:i], *changed, *model.operators[i + 1 :]))


def _tensor(tensor: TfTensor, rng: random.Random) -> TfTensor:
    how = rng.randrange(6)
    if how == 0 and tensor.shape:
        i = rng.randrange(len(tensor.shape))
        return replace(tensor, shape=(*tensor.shape[:i], rng.choice(WORDS), *tensor.shape[i + 1 :]))
    if how == 1:
        return _shaped(tensor, rng)
    if how == 2 and tensor.data is not None and tensor.data.size:
        return replace(tensor, data=_array(tensor.data, rng))
    if how == 3:
        dtype = rng.choice(DTYPES)
        held = tensor.data.astype(dtype) if tensor.data is not None and dtype in np.sctypeDict else tensor.data
        return replace(tensor, dtype=dtype, data=held)
    if how == 4 and rng.random() < 0.3:
        return replace(tensor, quantization=None)
    if tensor.quantization is None or rng.random() < 0.2:
        return replace(
            tensor, quantization=Quantization((rng.choice(SCALES),), rng.choice(NUMBERS[:-1]), rng.choice((0, 9)))
        )
    scale = tuple(rng.choice([one, one * 2, rng.choice(SCALES)]) for one in tensor.quantization.scale)
    return replace(tensor, quantization=replace(tensor.quantization, scale=scale))


def _shaped(tensor: TfTensor, rng: random.Random) -> TfTensor:
    """Another shape, small and of any rank; a constant has as many numbers."""
    i = rng.randint(0, len(tensor.shape))
    small = (*tensor.shape[:i], *rng.choice([(), (0,), (1,), (2,), (5,)]), *tensor.shape[i + rng.randint(0, 1) :])
    shape = rng.choice([(), (0,), (1,), tensor.shape[1:], (1, *tensor.shape), tensor.shape[::-1], small, small])
    fits = tensor.data is not None and abs(math.prod(shape)) <= MOST_NUMBERS
    return replace(tensor, shape=shape, data=np.resize(tensor.data, shape) if fits else tensor.data)


def _operator(model: TfModel, operator: TfOperator, rng: random.Random) -> TfOperator:
    how = rng.randrange(4)
    if how == 3:
        return replace(operator, builtin=rng.choice(BUILTINS))
    if how == 0 and operator.fields:
        name = rng.choice(sorted(operator.fields))
        return replace(operator, fields={**operator.fields, name: _field(operator.fields[name], rng)})
    names = sorted(model.tensors) or [""]  # a name of no tensor: such a model cannot be written
    if how == 1:
        i = rng.randint(0, len(operator.inputs))
        given = rng.choice([(), (None,), (rng.choice(names),), (rng.choice(names),)])
        return replace(operator, inputs=(*operator.inputs[:i], *given, *operator.inputs[i + rng.randint(0, 1) :]))
    if rng.random() < 0.5:
        return replace(operator, inputs=operator.inputs[: rng.randint(0, len(operator.inputs))])
    return replace(operator, outputs=rng.choice([(), (rng.choice(names),), operator.outputs * 2]))


def _field(value: Field, rng: random.Random) -> Field:
    if isinstance(value, tuple):
        if value and isinstance(value[0], str):
            return rng.choice([0, 1, 2, 3, 4])
        return tuple(rng.choice(WORDS) for _ in range(rng.randint(0, 7)))
    return rng.choice([*WORDS, value]) if isinstance(value, int) else rng.choice(SCALES)


MUTATORS: Mapping[str, Callable[[bytes, random.Random], bytes | None]] = {"unfloat": _unfloat, "tflite": _tflite}
