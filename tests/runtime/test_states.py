"""Layers that remember, in the engine: runs in a row are the interpreter's, and each can begin anew."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, build, codes_for
from unfloat import _native
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case
from unfloat.program.interpret import Memory, interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine
from unfloat.spec.errors import InputError, NumericDomainError

CASES = [(name, case) for name in ("svdf", "lstm") for case in REGISTRY[name].cases()]
REMEMBERING = [pair for pair in CASES if pair[1].attributes.get("carried", 1)]
every = pytest.mark.parametrize(("name", "case"), CASES, ids=lambda part: getattr(part, "label", part))
remembering = pytest.mark.parametrize(("name", "case"), REMEMBERING, ids=lambda part: getattr(part, "label", part))


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Let the process have so many bytes more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def programs(name: str, case: Case) -> list[Program]:
    return [build(REGISTRY[name], case, draw) for draw in DRAWS if draw.storage in REGISTRY[name].storages]


@every
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("level", _native.levels())
def test_runs_in_a_row(name: str, case: Case, threads: int, level: str) -> None:
    for program in programs(name, case):
        engine, memory = Engine(program, threads, level), Memory()
        for run in range(4):
            inputs = codes_for(program, 3, f"{run}")
            np.testing.assert_array_equal(engine.run(*inputs), interpret(program, inputs, memory)[0])


@remembering
def test_a_reset_begins_anew_with_any_batch(name: str, case: Case) -> None:
    for program in programs(name, case):
        engine = Engine(program)
        engine.run(*codes_for(program, 3, "before"))
        for batch in (1, 5, 2):
            engine.reset()
            inputs = codes_for(program, batch, f"{batch}")
            np.testing.assert_array_equal(engine.run(*inputs), interpret(program, inputs)[0])


@remembering
def test_another_batch_is_refused_and_changes_nothing(name: str, case: Case) -> None:
    program = programs(name, case)[0]
    engine, memory = Engine(program), Memory()
    for run in range(2):
        inputs = codes_for(program, 3, f"{run}")
        np.testing.assert_array_equal(engine.run(*inputs), interpret(program, inputs, memory)[0])
        with pytest.raises(InputError, match=r"remembers 3 samples, found a batch of 2: call reset\(\) first"):
            engine.run(*codes_for(program, 2, "other"))
    empty = np.empty((0, *program.inputs[0].shape[1:]), np.int8)
    assert engine.run(empty).shape[0] == 0


def test_what_begins_anew_takes_any_batch() -> None:
    case = next(case for name, case in CASES if case.attributes.get("carried", 1) == 0)
    program = programs("lstm", case)[0]
    engine = Engine(program, threads=2)
    for batch in (1, 4, 2, 4):
        inputs = codes_for(program, batch, f"{batch}")
        np.testing.assert_array_equal(engine.run(*inputs), interpret(program, inputs)[0])


def test_engines_remember_apart() -> None:
    """Two of one Program in two threads, each with its own inputs."""
    program = programs(*REMEMBERING[-1])[0]
    wrong: list[int] = []

    def stream(seed: int) -> None:
        engine, memory = Engine(program), Memory()
        for run in range(20):
            inputs = codes_for(program, 2, f"{seed}/{run}")
            wrong.append(int((engine.run(*inputs) != interpret(program, inputs, memory)[0]).sum()))

    streams = [threading.Thread(target=stream, args=(seed,)) for seed in range(2)]
    for one in streams:
        one.start()
    for one in streams:
        one.join()
    assert wrong == [0] * 40


@remembering
@pytest.mark.parametrize("threads", [1, 3])
def test_a_refused_nan_changes_nothing(name: str, case: Case, threads: int) -> None:
    program = programs(name, case)[0]
    shape = (3, *program.inputs[0].shape[1:])
    first, second = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    spoilt = first.copy()
    spoilt.flat[-1] = np.nan
    engine, other = Engine(program, threads), Engine(program)
    with pytest.raises(NumericDomainError, match="found NaN"):
        engine(spoilt[-1:])  # nor is the batch remembered
    for x in (first, second):
        np.testing.assert_array_equal(engine(x), other(x))
        with pytest.raises(NumericDomainError, match="found NaN"):
            engine(spoilt)


@remembering
def test_profiling_leaves_what_is_remembered(name: str, case: Case) -> None:
    program = programs(name, case)[0]
    first, second = np.random.default_rng(0).normal(size=(2, 2, *program.inputs[0].shape[1:])).astype(np.float32)
    engine, other = Engine(program), Engine(program)
    engine.profile(first[:1], runs=2)  # nor the batch
    for x in (first, second):
        np.testing.assert_array_equal(engine(x), other(x))
        engine.profile(second, runs=2)


def test_a_batch_that_does_not_fit_the_memory_changes_nothing() -> None:
    """The arena of such a batch can be had, and what the layer would remember of it cannot."""
    case = Case("long", ((5,),), {"rank": 1}, {"weight": (64, 5), "time": (64, 400), "bias": (64,)})
    program = build(REGISTRY["svdf"], case, DRAWS[0])
    engine, other = Engine(program), Engine(program)
    x = codes_for(program, 1, "small")
    np.testing.assert_array_equal(engine.run(*x), other.run(*x))
    engine.reset()
    other.reset()
    many = np.zeros((200_000, 5), np.int8)  # 40 MB, and 10 GB to remember
    with memory_limit(1 << 30), pytest.raises(MemoryError):
        engine.run(many)
    np.testing.assert_array_equal(engine.run(*x), other.run(*x))


def test_reals_remember_too() -> None:
    program = programs(*REMEMBERING[0])[0]
    engine = Engine(program)
    x = np.random.default_rng(0).normal(size=(2, *program.inputs[0].shape[1:])).astype(np.float32)
    first, second = engine(x), engine(x)
    engine.reset()
    np.testing.assert_array_equal(engine(x), first)
    np.testing.assert_array_equal(engine(x), second)
