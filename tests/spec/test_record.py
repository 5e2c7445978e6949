"""Records behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from unfloat.spec.record import Content, Record


class Pair(Record):
    """Three fields, two with a default."""

    left: int
    right: str = "r"
    more: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.left < 0:
            raise ValueError("negative")


class Other(Record):
    """The same fields under another name."""

    left: int
    right: str = "r"
    more: tuple[int, ...] = ()


class Longer(Pair):
    """What derives from a record has its fields first."""

    last: int = 0


@dataclass(frozen=True)
class Standard:
    """What records stand for."""

    left: int
    right: str = "r"
    more: tuple[int, ...] = ()


@pytest.mark.parametrize("given", [((1,), {}), ((1, "x"), {}), ((1, "x", (2,)), {}), ((), {"left": 1, "more": (3,)})])
def test_fields_as_a_frozen_dataclass_has_them(given: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    values, named = given
    found, required = Pair(*values, **named), Standard(*values, **named)
    assert asdict(found) == asdict(required)
    assert repr(found) == repr(required).replace("Standard", "Pair")
    assert [f.name for f in fields(found)] == ["left", "right", "more"]
    assert Pair.__match_args__ == Standard.__match_args__
    assert replace(found, left=5) == Pair(**{**asdict(found), "left": 5})


@pytest.mark.parametrize(
    "given",
    [
        ((), {}),
        ((), {"right": "x"}),
        ((), {"wrong": 2}),
        ((), {"right": "x", "wrong": 2}),
        ((1, "x", (), 4), {}),
        ((1,), {"left": 1}),
        ((1,), {"wrong": 2}),
        ((1, "x"), {"right": "x"}),
        ((), {"left": 1, "wrong": 2}),
    ],
)
def test_wrong_arguments_are_refused(given: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    values, named = given
    with pytest.raises(TypeError):
        Standard(*values, **named)
    with pytest.raises(TypeError, match=r"Pair\(\) takes left, right, more"):
        Pair(*values, **named)


def test_rules_hold_whoever_makes_it() -> None:
    with pytest.raises(ValueError, match="negative"):
        Pair(-1)
    with pytest.raises(ValueError, match="negative"):
        replace(Pair(1), left=-1)


def test_defaults_that_may_change_are_refused() -> None:
    with pytest.raises(TypeError, match="never changes"):
        type("Bad", (Record,), {"__annotations__": {"items": "list[int]"}, "items": []})


def test_nothing_changes() -> None:
    pair = Pair(1)
    with pytest.raises(FrozenInstanceError, match="left"):
        pair.left = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="left"):
        del pair.left
    assert pair.left == 1


def test_equality_is_of_values_and_of_the_class() -> None:
    assert Pair(1) == Pair(1, "r", ())
    assert Pair(1) != Pair(2)
    assert Pair(1) != Other(1)
    assert Pair(1) != (1, "r", ())
    assert len({Pair(1), Pair(1)}) == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Pair(1, "r", []))  # type: ignore[arg-type]


class Holder(Content):
    """Arrays, and arrays in mappings and tuples."""

    array: np.ndarray
    by_name: Mapping[str, np.ndarray]
    several: tuple[np.ndarray, ...] = ()


def test_equality_of_arrays_is_to_the_byte_and_the_type() -> None:
    def made(**changes: Any) -> Holder:
        return Holder(**{"array": np.arange(3), "by_name": {"a": np.zeros(2)}, "several": (np.ones(1),), **changes})

    assert made() == made()
    others: list[dict[str, Any]] = [
        {"array": np.arange(3, dtype=np.int32)}, {"array": np.arange(4)}, {"array": np.arange(3)[None]},
        {"by_name": {"a": np.array([0.0, -0.0])}}, {"by_name": {"b": np.zeros(2)}}, {"several": ()},
    ]  # fmt: skip
    assert all(made() != made(**changes) for changes in others)
    assert made() != Pair(1)
    with pytest.raises(TypeError, match="unhashable type: 'Holder'"):
        hash(made())


def test_copies_and_derived_records() -> None:
    pair = Pair(1, "x", [4])  # type: ignore[arg-type]
    assert copy.deepcopy(pair) == pickle.loads(pickle.dumps(pair)) == pair
    assert copy.deepcopy(pair).more is not pair.more
    assert repr(Longer(1, last=3)) == "Longer(left=1, right='r', more=(), last=3)"
    assert Longer(1) != Pair(1)


class Lazy(Record):
    """One that finds something out later."""

    left: int

    @cached_property
    def double(self) -> int:
        return 2 * self.left


def test_what_is_found_out_later_is_no_field() -> None:
    known = Lazy(1)
    assert known.double == 2
    assert known == Lazy(1)
    assert hash(known) == hash(Lazy(1))
    assert repr(known) == "Lazy(left=1)"


def test_signatures_name_the_fields() -> None:
    found, required = inspect.signature(Pair), inspect.signature(Standard)
    assert list(found.parameters) == list(required.parameters)
    assert [p.annotation for p in found.parameters.values()] == [p.annotation for p in required.parameters.values()]
    assert found.parameters["right"].default == "r"
    found.bind(1, more=())


def all_records(base: type = Record) -> list[type]:
    return [each for sub in base.__subclasses__() for each in (sub, *all_records(sub))]


def test_no_record_asks_for_what_records_have_not() -> None:
    """Fields without a place in `__init__`, or left out of comparisons, and fields after those with defaults."""
    for room in ("program.certificate", "program.lower", "runtime.engine"):  # which import all others
        importlib.import_module(f"unfloat.{room}")
    assert len(all_records()) > 25
    for cls in all_records():
        own = fields(cls)  # type: ignore[arg-type]
        assert all(f.init and f.repr and f.compare and f.hash is None and not f.kw_only for f in own), cls
        given = [f.default is not MISSING or f.default_factory is not MISSING for f in own]
        assert given == sorted(given), cls
