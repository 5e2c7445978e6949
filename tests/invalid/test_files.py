"""Files that attack: every one is refused by name, in bounded time, and a path that is no file is not waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.attacks import ATTACKS, edited
from fuzz.corpus import WRITERS, programs, truncations, valid

import unfloat
from tests.program.nets import small_net
from unfloat.cli.data import read_model
from unfloat.formats.tflite.survey import survey
from unfloat.formats.tflite.table import WRITERS as SAYABLE
from unfloat.ops import REGISTRY
from unfloat.program.file import to_bytes
from unfloat.spec.errors import InvalidProgramError, UnfloatError, UnsupportedError

REFUSALS = (InvalidProgramError, UnsupportedError)
HOSTILE = [(kind, name) for kind, attacks in ATTACKS.items() for name in attacks]


def load(kind: str, content: bytes, folder: Path) -> unfloat.Program:
    path = folder / f"net.{kind}"
    path.write_bytes(content)
    return unfloat.load(path)


@pytest.mark.parametrize(("kind", "name"), HOSTILE)
def test_attacks_are_refused_by_name(kind: str, name: str, tmp_path: Path) -> None:
    make, message = ATTACKS[kind][name]
    with pytest.raises(REFUSALS, match=message):
        load(kind, make(), tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_operator_is_in_the_corpus(kind: str, tmp_path: Path) -> None:
    names = {operator.name for operator in REGISTRY.values() if operator.integer_meaning is not None}
    if kind == "tflite":
        names &= set(SAYABLE)
    files = dict(valid(kind, most=1 << 20))
    assert {name.split(",")[0] for name in files} == names
    for name in list(files)[::40]:
        load(kind, files[name], tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_truncation_is_refused(kind: str, tmp_path: Path) -> None:
    """At every length of the smallest file, and at some of one of each operator."""
    seen: dict[str, bytes] = {}
    for name, content in valid(kind):
        seen.setdefault(name.split(",")[0], content)
    smallest = min(seen.values(), key=len)
    cut = [*truncations(smallest), *(part for content in seen.values() for part in truncations(content, 293))]
    for content in cut:
        with pytest.raises(REFUSALS):
            load(kind, content, tmp_path)


def test_too_many_instructions_are_refused(tmp_path: Path) -> None:
    def repeat(document: dict, arrays: dict) -> None:
        last = document["instructions"][-1]
        assert not last["constants"]
        document["instructions"] += [{**last, "name": f"again {i}"} for i in range(9000)]

    with pytest.raises(InvalidProgramError, match="at most 8192 instructions"):
        load("unfloat", edited(to_bytes(_movable()), repeat), tmp_path)


def _movable() -> unfloat.Program:
    return next(program for name, program in programs() if name.startswith("reshape"))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_path_that_is_no_file_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    pipe, folder = tmp_path / f"pipe.{suffix}", tmp_path / f"folder.{suffix}"
    os.mkfifo(pipe)
    folder.mkdir()
    with pytest.raises(OSError, match="found a pipe"):
        unfloat.load(pipe)
    with pytest.raises(OSError, match="directory"):
        unfloat.load(folder)
    if suffix == "tflite":
        with pytest.raises(OSError, match="found a pipe"):
            survey(pipe)


def test_a_good_file_stays_good(tmp_path: Path) -> None:
    assert load("unfloat", edited(to_bytes(small_net()), lambda d, a: None), tmp_path).digest() == small_net().digest()


def test_a_model_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pt2")
    for name in ("net.pt2", "none.pt2"):
        with pytest.raises(UnfloatError, match=r"not a loadable \.pt2 file"):
            read_model(str(tmp_path / name))


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_a_damaged_model_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes((b"PK\3\4" + bytes(range(256)) * 4)[:cut])
    with pytest.raises(UnfloatError, match=r"not a loadable \.pt2 file"):
        read_model(str(path))


FACTORIES = """
from torch import nn

class Plain(nn.Module):
    pass

class Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()

def build(width, *, depth):
    return Plain()

def broken():
    raise TypeError("its own")

net = Plain()
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("factories", None)


@pytest.mark.usefixtures("factories")
def test_a_model_may_be_named_by_its_class_or_itself() -> None:
    for name in ("Plain", "net"):
        assert type(read_model(f"factories:{name}")).__name__ == "Plain"


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("factories:Wide", "factories:Wide: is called without arguments, but missing a required argument: 'width'"),
        ("factories:build", "factories:build: is called without arguments, but missing a required .*'width'"),
        (":build", "MODEL must be"),
        ("factories:", "MODEL must be"),
    ],
)
def test_a_model_that_cannot_be_called_is_refused(name: str, message: str) -> None:
    with pytest.raises(UnfloatError, match=message):
        read_model(name)


@pytest.mark.usefixtures("factories")
def test_what_goes_wrong_inside_the_users_function_stays_the_users() -> None:
    with pytest.raises(TypeError, match="its own"):
        read_model("factories:broken")
