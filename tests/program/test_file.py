"""The .unfloat file: the same bytes for the same Program, and nothing damaged or hostile gets in."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

import unfloat
from tests.program.nets import small_codes, small_net
from unfloat.program.file import KEY, load, to_bytes
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.errors import ExportError, InvalidProgramError

CONTENT = to_bytes(small_net())


def read(content: bytes) -> Program:
    """What a file of that content holds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.unfloat"
        path.write_bytes(content)
        return load(path)


def change(edit: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> bytes:
    """The file with its document and arrays edited."""
    arrays = load_arrays(CONTENT)
    header = json.loads(CONTENT[8 : 8 + int.from_bytes(CONTENT[:8], "little")])
    document = json.loads(header["__metadata__"][KEY])
    edit(document, arrays)
    return bytes(save_arrays(arrays, {KEY: json.dumps(document)}))


def test_round_trip_gives_the_same_bytes_and_codes(tmp_path: Path) -> None:
    program = small_net()
    path = tmp_path / "net.unfloat"
    program.save(path)
    loaded = unfloat.load(path)
    assert to_bytes(loaded) == path.read_bytes() == CONTENT == to_bytes(small_net())
    assert loaded.digest() == program.digest()
    codes = small_codes()
    assert np.array_equal(interpret(loaded, [codes])[0], interpret(program, [codes])[0])
    assert loaded.metadata == {"made_by": "a test"}
    assert loaded == program != replace(program, metadata={"made_by": "another"})
    assert repr(loaded).startswith(f"<Program of {len(program.instructions)} instructions: ")
    assert len(repr(loaded)) < 200


def instruction(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(i for i in document["instructions"] if i["name"] == name)


def tensor(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(t for t in document["tensors"] if t["name"] == name)


def poke(arrays: dict[str, np.ndarray], name: str, value: np.ndarray) -> None:
    arrays[name] = value


HOSTILE: dict[str, tuple[Callable[[dict[str, Any], dict[str, np.ndarray]], object], str]] = {
    "a version of the future": (lambda d, a: d.update(version=99), "version 99"),
    "a missing field": (lambda d, a: d.pop("outputs"), "required the fields"),
    "an operand that does not exist": (
        lambda d, a: instruction(d, "b").update(inputs=["nowhere"]),
        "b .*operands that are already known",
    ),
    "an operand that comes later": (
        lambda d, a: instruction(d, "a").update(inputs=["b"]),
        "a .*operands that are already known",
    ),
    "an operator that does not exist": (
        lambda d, a: instruction(d, "b").update(op="shell"),
        "an integer operator, found 'shell'",
    ),
    "an operator named half a surrogate pair": (
        lambda d, a: instruction(d, "b").update(op="\ud800"),
        "an integer operator",
    ),
    "a Graph's operator": (lambda d, a: instruction(d, "b").update(op="batch_norm"), "an integer operator"),
    "a wrong number of operands": (
        lambda d, a: instruction(d, "sum").update(inputs=["a"]),
        "sum .*2 to 2 operands, found 1",
    ),
    "a shape that does not follow": (lambda d, a: tensor(d, "b").update(shape=[-1, 6, 5, 9]), "b .*an output of shape"),
    "a size of zero": (lambda d, a: tensor(d, "b").update(shape=[-1, 6, 0, 8]), "tensor b.*positive sizes"),
    "a huge shape": (lambda d, a: tensor(d, "x").update(shape=[-1, 2**20, 2**20, 3]), "tensor x.*fit int32"),
    "a port of another shape": (
        lambda d, a: d["inputs"][0].update(shape=[-1, 6, 5, 4]),
        "input x.*the shape of its tensor",
    ),
    "a permutation with a repeat": (
        lambda d, a: d["inputs"][0].update(permutation=[0, 1, 1, 3]),
        "input x.*permutation",
    ),
    "an output that nothing makes": (
        lambda d, a: d["outputs"][0].update(value="nowhere"),
        "output y.*a tensor of the program",
    ),
    "a stride of zero": (
        lambda d, a: instruction(d, "a")["attributes"].update(stride=[0, 1]),
        "stride to be a tuple of 2 integers",
    ),
    "a negative padding": (
        lambda d, a: instruction(d, "a")["attributes"].update(padding=[-1, 1, 1, 1]),
        "padding to be",
    ),
    "a huge padding": (
        lambda d, a: instruction(d, "a")["attributes"].update(padding=[2**40, 1, 1, 1]),
        "padding to be",
    ),
    "groups that do not divide": (
        lambda d, a: instruction(d, "a")["attributes"].update(groups=3),
        "a weight .* in 3 groups",
    ),
    "an attribute too many": (lambda d, a: instruction(d, "a")["attributes"].update(evil=1), "attributes"),
    "an attribute too few": (lambda d, a: instruction(d, "a")["attributes"].pop("groups"), "attributes"),
    "an attribute that is a float": (lambda d, a: instruction(d, "a")["attributes"].update(groups=1.0), "required int"),
    "an attribute that is true": (lambda d, a: instruction(d, "a")["attributes"].update(groups=True), "required int"),
    "an unknown rounding": (
        lambda d, a: instruction(d, "a")["attributes"].update(rounding="up"),
        "rounding to be one of",
    ),
    "a clamp outside the codes": (
        lambda d, a: instruction(d, "a")["attributes"].update(clamp_max=200),
        "clamp codes in order",
    ),
    "a clamp upside down": (
        lambda d, a: instruction(d, "a")["attributes"].update(clamp_min=100, clamp_max=50),
        "clamp codes in order",
    ),
    "a zero point that is not the label's": (
        lambda d, a: instruction(d, "b")["attributes"].update(input_zero_point=3),
        "input_zero_point = ",
    ),
    "a shift out of range": (
        lambda d, a: poke(a, "b/shift", a["b/shift"] + 60),
        r"shift\[0\] = .*follows from the labels",
    ),
    "a multiplier of its own": (
        lambda d, a: poke(a, "b/multiplier", a["b/multiplier"] + 1),
        r"multiplier\[0\] = .*follows from the labels",
    ),
    "a bias that overflows": (
        lambda d, a: poke(a, "b/bias", np.full_like(a["b/bias"], 2**31 - 1)),
        "b .*accumulators that fit int32",
    ),
    "a bias of another length": (lambda d, a: poke(a, "b/bias", a["b/bias"][:3]), "bias of 8 channels"),
    "a bias of another type": (lambda d, a: poke(a, "b/bias", a["b/bias"].astype(np.int16)), "bias of int32"),
    "a weight at the lowest code": (
        lambda d, a: poke(a, "b/weight", np.full_like(a["b/weight"], -128)),
        r"weight codes in \[-127, 127\]",
    ),
    "a weight of another shape": (lambda d, a: poke(a, "b/weight", a["b/weight"][:, :2]), "b "),
    "an array that nothing uses": (
        lambda d, a: poke(a, "more", np.zeros(3, np.int8)),
        "every array to be used, found .'more'",
    ),
    "an array that is missing": (lambda d, a: a.pop("b/weight"), "b/weight"),
    "a scale of zero": (lambda d, a: tensor(d, "b")["qparams"].update(scale=0.0), "positive, finite"),
    "a scale that is infinite": (lambda d, a: tensor(d, "b")["qparams"].update(scale=float("inf")), "positive, finite"),
    "a scale that is no float32": (lambda d, a: tensor(d, "b")["qparams"].update(scale=0.1), "float32"),
    "a weight scale of NaN": (
        lambda d, a: poke(a, "b/weight.scale", a["b/weight.scale"] * np.float32("nan")),
        "positive, finite",
    ),
    "a zero point that is no code": (
        lambda d, a: tensor(d, "b")["qparams"].update(zero_point=900),
        "a zero point must be a code",
    ),
    "a dtype that does not exist": (lambda d, a: tensor(d, "b")["qparams"].update(dtype="float32"), "int8 or uint8"),
    "labels that should be the same": (
        lambda d, a: tensor(d, "flat")["qparams"].update(zero_point=5),
        "QParams of its output",
    ),
    "two tensors of one name": (lambda d, a: d["tensors"].append(d["tensors"][0]), "two tensors of the same name"),
    "a port named half a surrogate pair": (lambda d, a: d["inputs"][0].update(name="\ud800"), "surrogates not allowed"),
    "a tensor named half a surrogate pair": (
        lambda d, a: tensor(d, "b").update(name="b\udfff"),
        "surrogates not allowed",
    ),
    "outputs keyed by half a surrogate pair": (
        lambda d, a: d.update(structure=["dict", ["\ud800"]]),
        "surrogates not allowed",
    ),
    "a recipe that is a number": (lambda d, a: d["metadata"].update(recipe=5), "required str, found 5"),
    "a recipe that is no text": (lambda d, a: d["metadata"].update(recipe="\ud800"), "surrogates not allowed"),
    "metadata that cannot be written again": (lambda d, a: d["metadata"].update(n=float("nan")), "not JSON compliant"),
    "an output structure for more": (lambda d, a: d.update(structure=["tuple", 7]), "structure"),
    "instructions that are no list": (lambda d, a: d.update(instructions={}), "required list"),
    "a second maker": (
        lambda d, a: d["instructions"].append(instruction(d, "b") | {"constants": [], "labels": {}}),
        "b",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(name: str) -> None:
    edit, message = HOSTILE[name]
    with pytest.raises(InvalidProgramError, match=message):
        read(change(edit))


def test_an_unchanged_edit_is_accepted() -> None:
    assert read(change(lambda d, a: None)).digest() == small_net().digest()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, len(CONTENT) // 2, len(CONTENT) - 1])
def test_truncated_files_are_refused(length: int) -> None:
    with pytest.raises(InvalidProgramError, match=r"not a whole .unfloat file"):
        read(CONTENT[:length])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_crashes(position: int, flip: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= flip
    try:
        program = read(bytes(damaged))
    except InvalidProgramError:
        return
    program.compile()(np.zeros((1, 3, 6, 5), np.float32))  # still a Program that keeps every rule


def test_random_bytes_are_refused() -> None:
    for content in (b"", b"\xff" * 64, b"\0" * 64, np.random.default_rng(0).bytes(4096)):
        with pytest.raises(InvalidProgramError):
            read(content)


def test_a_path_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(ExportError, match="cannot write"):
        small_net().save(target)
    with pytest.raises(ExportError, match="cannot write"):
        small_net().save(tmp_path / "missing" / "net.unfloat")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["net.tflite", "net.TFLITE", "net.c", "net.h", "net_c/"])
def test_another_formats_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"{name}: save writes \.unfloat files.*program\.export\(path\)"):
        small_net().save(f"{tmp_path}/{name}")
    assert not list(tmp_path.iterdir())


def test_saving_by_a_symbolic_link_writes_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for there in ("old", "new"):
        link, target = tmp_path / f"{there}.unfloat", tmp_path / "store" / there
        if there == "old":
            target.write_bytes(b"old")
        link.symlink_to(f"store/{there}")
        small_net().save(link)
        assert link.is_symlink()
        assert target.read_bytes() == CONTENT
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["new", "new.unfloat", "old", "old.unfloat", "store"]
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    with pytest.raises(ExportError, match="cannot write"):
        small_net().save(circle)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    pipe, link, door = tmp_path / "pipe", tmp_path / "link", tmp_path / "door"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(door.name)
        for path in (pipe, link, door):
            with pytest.raises(ExportError, match="required a file, found a pipe, a socket or a device"):
                small_net().save(path)
        assert pipe.is_fifo()
        assert link.is_symlink()
        assert door.is_socket()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_path_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot write .*null"):
        small_net().save(f"{tmp_path}/a\0b")


def test_a_missing_file_and_a_folder_are_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.unfloat")
    with pytest.raises(OSError, match="directory"):
        load(tmp_path)
