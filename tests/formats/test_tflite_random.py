"""Random programs of one instruction in TensorFlow Lite Micro: 0 mismatches, whatever the shapes, labels and attributes.

UNFLOAT_RANDOM_MODELS is how many of each operator and width; 60 unless it is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, build, codes_for, generator
from tests.formats.test_tflite_peers import crashes, differing
from tests.peers.call import peer
from tests.peers.protocol import Arrays
from unfloat.ir.graph import Clamp
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.ops.softmax import beta_pair
from unfloat.program.program import Program
from unfloat.spec.errors import InvalidProgramError, NumericDomainError
from unfloat.spec.qparams import float32

COUNT = int(os.environ.get("UNFLOAT_RANDOM_MODELS", "60"))
SAMPLES = 2
CLAMPS = (None, None, Clamp(0.0, float("inf")), Clamp(0.0, 6.0), Clamp(-1.0, 1.0), Clamp(-float("inf"), 0.5))
Shape = tuple[int, ...]


def _shape(rng: np.random.Generator, least: int, most: int, extent: int = 9) -> Shape:
    return tuple(int(n) for n in rng.integers(1, extent + 1, rng.integers(least, most + 1)))


def _clamp(rng: np.random.Generator) -> Clamp | None:
    return CLAMPS[rng.integers(len(CLAMPS))]


def _sub(rng: np.random.Generator, label: str) -> Case:
    shape = _shape(rng, 1, 3)
    holes = [tuple(1 if rng.random() < 0.2 else n for n in shape) for _ in range(2)]
    return Case(label, (holes[0], holes[1]), clamp=_clamp(rng))


def _sum(rng: np.random.Generator, label: str) -> Case:
    shape = _shape(rng, 1, 3)
    count = int(rng.integers(1, len(shape) + 1))
    axes = tuple(sorted(int(a) + 1 for a in rng.choice(len(shape), count, replace=False)))
    return Case(label, (shape,), {"axes": axes, "keep_dims": int(rng.integers(2))})


def _transpose_conv2d(rng: np.random.Generator, label: str) -> Case:
    height, width, channels, out = (int(n) for n in rng.integers(1, 8, 4))
    kernel, stride = (tuple(int(n) for n in rng.integers(1, most + 1, 2)) for most in (5, 3))
    crop, size = [], []
    for n, k, s in zip((height, width), kernel, stride, strict=True):
        made = (n - 1) * s + k
        first = int(rng.integers(0, min(made, k)))
        crop.append(first)
        size.append(int(rng.integers(max(made - first - k, 1), made - first + s)))
    attributes = {"stride": stride, "crop": tuple(crop), "size": tuple(size)}
    params = {"weight": (out, *kernel, channels), "bias": (out,)}
    return Case(label, ((height, width, channels),), attributes, params, _clamp(rng))


def _batch_matmul(rng: np.random.Generator, label: str) -> Case:
    batch, (rows, depth, columns) = _shape(rng, 0, 2, 3), (int(n) for n in rng.integers(1, 20, 3))
    transpose = tuple(int(n) for n in rng.integers(0, 2, 2))
    first = (depth, rows) if transpose[0] else (rows, depth)
    second = (columns, depth) if transpose[1] else (depth, columns)
    return Case(label, ((*batch, *first), (*batch, *second)), {"transpose": transpose}, clamp=_clamp(rng))


def _rows(rng: np.random.Generator, label: str) -> Case:
    return Case(label, ((*_shape(rng, 0, 2, 5), int(rng.integers(1, 200))),))


def _softmax(rng: np.random.Generator, label: str) -> Case:
    beta = beta_pair(float32(2.0 ** rng.uniform(-2, 2)))
    return replace(_rows(rng, label), attributes={"beta": beta} if rng.random() < 0.5 else {})


MAKERS: dict[str, Callable[[np.random.Generator, str], Case]] = {
    "sub": _sub,
    "sum": _sum,
    "transpose_conv2d": _transpose_conv2d,
    "batch_matmul": _batch_matmul,
    "softmax": _softmax,
    "log_softmax": _rows,
    "l2_normalization": _rows,
}
SCHEMES = {"int8": "int8", "int16": "int16x8"}  # by the storage of activations
WIDTHS = [(name, SCHEMES[dtype]) for name in MAKERS for dtype in SCHEMES if dtype in REGISTRY[name].storages]


def _jobs(name: str, scheme: str) -> Iterator[tuple[str, tuple[Program, Arrays]]]:
    draws = [draw for draw in DRAWS if draw.scheme == scheme and draw.rounding == "double" and draw.bits == 8]
    rng, made = generator("random", name, scheme), 0
    while made < COUNT:
        label, draw = f"random {made}", draws[rng.integers(len(draws))]
        try:
            program = build(REGISTRY[name], MAKERS[name](rng, label), draw)
        except (InvalidProgramError, NumericDomainError):  # a range too small for its operands: drawn again
            continue
        inputs = codes_for(program, SAMPLES, label)
        if not crashes(REGISTRY[name], program, inputs):
            yield label, (program, inputs)
            made += 1


@pytest.mark.parametrize(("name", "scheme"), WIDTHS)
def test_random_models_in_tflite_micro(name: str, scheme: str) -> None:
    jobs = dict(_jobs(name, scheme))
    assert len(jobs) == COUNT
    assert not differing(peer("tflm"), jobs)
