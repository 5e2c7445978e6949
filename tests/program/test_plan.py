"""The memory plan, and that its independent checker finds what a planner could get wrong."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.program.nets import small_net
from unfloat.ir.graph import BATCH, Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.program.plan import ALIGNMENT, MAX_BYTES, Plan, check, plan, tensor_bytes
from unfloat.program.program import Program
from unfloat.program.verify import MAX_SAMPLE_BYTES
from unfloat.spec.errors import InvalidProgramError
from unfloat.spec.qparams import QParams


def test_lifetimes_share_bytes() -> None:
    program = small_net()
    result = plan(program)
    assert result.size < sum(tensor_bytes(program, name) for name in program.tensors)
    assert all(offset % ALIGNMENT == 0 for offset in result.offsets.values())
    assert result.offsets["sum"] in (result.offsets["a"], result.offsets["b"])  # computed in place
    assert result.offsets["flat"] == result.offsets["pool"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": "a"}, "b would overwrite its own input a"),
        ({"fc": "flat"}, "fc would overwrite its own input flat"),
        ({"b": "x", "a": "x"}, "would overwrite its own input"),
    ],
)
def test_overlaps_are_found(change: dict[str, str], message: str) -> None:
    program = small_net()
    good = plan(program)
    bad = Plan({**good.offsets, **{name: good.offsets[other] for name, other in change.items()}}, good.size)
    with pytest.raises(InvalidProgramError, match=message):
        check(program, bad)


def test_a_value_overwritten_before_its_last_reader_is_found() -> None:
    program = small_net()
    size = sum(tensor_bytes(program, name) for name in program.tensors)
    offsets, start = {}, 0
    for name in program.tensors:
        offsets[name], start = start, start + tensor_bytes(program, name)
    check(program, Plan(offsets, size))
    extra = replace(program.outputs[0], name="early", value="a")
    longer = replace(program, outputs=(*program.outputs, extra), structure=("tuple", 2))
    with pytest.raises(InvalidProgramError, match="a is overwritten before output early reads it"):
        check(longer, Plan({**offsets, "sum": offsets["a"]}, size))


@pytest.mark.parametrize("offset", [-64, 1, 1 << 40])
def test_bytes_outside_the_arena_are_found(offset: int) -> None:
    program = small_net()
    good = plan(program)
    with pytest.raises(InvalidProgramError, match="leaves the arena"):
        check(program, Plan({**good.offsets, "b": offset}, good.size))


def test_a_name_may_end_in_zeros() -> None:
    """Files made by others may; NumPy, asked for equality, would leave them out."""
    program = small_net()
    name = "fc\0\2\0\0"
    tensors = {(name if old == "fc" else old): tensor for old, tensor in program.tensors.items()}
    tensors[name] = replace(tensors[name], name=name)
    last = replace(program.instructions[-1], name=name)
    port = replace(program.outputs[0], value=name)
    renamed = replace(program, tensors=tensors, instructions=(*program.instructions[:-1], last), outputs=(port,))
    assert renamed.verify().instructions == len(program.instructions)
    assert plan(renamed).offsets[name] == plan(program).offsets["fc"]


def test_scratch_lies_apart_from_what_lives() -> None:
    program = small_net()
    scratch = {"b": 1000, "fc": 3}
    result = plan(program, 16, scratch)
    check(program, result, scratch)
    assert result.alignment == 16
    assert set(result.scratch) == {"b", "fc"}
    assert all(offset % 16 == 0 for offset in (*result.offsets.values(), *result.scratch.values()))
    assert result.size <= plan(program).size + 1008


@pytest.mark.parametrize(("victim", "message"), [("a", "a is overwritten before b"), ("b", "overwrite its own input")])
def test_scratch_over_an_operand_or_the_output_is_found(victim: str, message: str) -> None:
    program = small_net()
    scratch = {"b": 100}
    good = plan(program, scratch=scratch)
    bad = replace(good, scratch={"b": good.offsets[victim]})
    with pytest.raises(InvalidProgramError, match=message):
        check(program, bad, scratch)


def copies(count: int, size: int) -> Program:
    """So many outputs of so many bytes each, all alive at the end."""
    shape, label = (BATCH, size, 1), QParams((1.0,))
    names = [f"copy{i}" for i in range(count)]
    tensors = {"x": Tensor("x", (BATCH, size), label), **{name: Tensor(name, shape, label) for name in names}}
    made = tuple(Instruction("reshape", name, ("x",), {"shape": shape}) for name in names)
    ports = tuple(Port(name, name, shape, (0, 1, 2)) for name in names)
    return Program((Port("x", "x", (BATCH, size), (0, 1)),), ports, tensors, made, ("tuple", count))


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes that were held meanwhile."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_goes_with_the_values_not_with_their_bytes() -> None:
    program = copies(20, MAX_SAMPLE_BYTES)
    program.verify()
    assert plan(program).size == 20 << 31  # the first copy shares its bytes with the input
    assert peak_of(lambda: plan(program)) < 1 << 20


def test_an_arena_past_all_memory_is_refused() -> None:
    engine = (Path(__file__).parents[2] / "csrc/engine/engine.cc").read_text()
    assert f"kMaxBytes = int64_t{{1}} << {MAX_BYTES.bit_length() - 1};" in engine  # which refuses what is past it too
    program = copies(MAX_BYTES // MAX_SAMPLE_BYTES + 1, MAX_SAMPLE_BYTES)
    program.verify()
    with pytest.raises(InvalidProgramError, match=f"an arena of at most {MAX_BYTES} bytes a sample, found 1101"):
        plan(program)
    with pytest.raises(InvalidProgramError, match="memory plan: required an arena"):
        program.compile()
