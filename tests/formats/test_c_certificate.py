"""The certificate of exported C: unchanged, compiled without a float, naming the Program; and all ways to break it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unfloat
from tests.conformance.generate import DRAWS
from tests.formats.test_c import cases
from tests.program.nets import small_net
from unfloat.cli import main as cli
from unfloat.cli import show
from unfloat.formats.c import manifest
from unfloat.formats.c.no_float import CORES, CORTEX_M, prove
from unfloat.formats.c.objects import SOFT_FLOAT, inspect
from unfloat.formats.c.report import code_bytes
from unfloat.formats.c.text import identifier
from unfloat.spec.errors import ExportError, MissingExtraError


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "net"
    small_net().export(folder, to="c")
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """An export, to be changed at will."""
    return Path(shutil.copytree(exported, tmp_path / "net"))


def run(*words: str | Path) -> int:
    """The exit code of one command line."""
    with pytest.raises(SystemExit) as ended:
        cli.app([str(word) for word in words])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def as_if_exported(folder: Path) -> None:
    """Sums of the files as they are now."""
    said = manifest.read(folder)
    sums = {path: manifest.sha256((folder / path).read_bytes()) for path in said.files}
    (folder / manifest.NAME).write_text(replace(said, files=sums).text())


# The certificate ------------------------------------------------------------------------------------------------------


@pytest.mark.cross
def test_a_certificate_names_the_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = small_net().verify()
    for path in (
        "look.c",
        "x_weights.c",
        "kernels/add/more.c",
    ):  # a firmware's own, which the folder's build leaves out
        (folder / path).write_text("float half(float x) { return x / 2; }\n")
    found = unfloat.certify(folder)
    said = found.networks["net"]
    assert (said.identity, said.program, said.macs) == (program.identity, program.digest, program.macs)
    assert f'#define NET_IDENTITY "{program.identity}"' in (folder / "net.h").read_text()
    assert found.code_bytes == {"net": code_bytes("net", folder)}
    assert [core.core for core in found.cores] == list(CORES)
    assert all(core.objects == 7 and core.instructions > 1000 for core in found.cores)
    assert {"memcpy", "memset"} <= set(found.cores[0].calls)
    show.export_certificate(found)
    table = re.sub(r"[\s│]+", "", capsys.readouterr().out)
    assert program.identity in table
    assert table.count("noneoffloatingpoint") == len(CORES)


@pytest.mark.cross
def test_the_command_line_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", folder, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["integer_only"] is True
    assert record["networks"]["net"]["identity"] == small_net().verify().identity
    assert [core["core"] for core in record["cores"]] == list(CORES)


def test_networks_of_one_folder(tmp_path: Path) -> None:
    """Each export adds its network and leaves the others' sums; a deleted network goes with the next export."""
    other = cases(DRAWS[0], 40)
    small_net().export(tmp_path, name="first")
    other.export(tmp_path, name="second")
    said = manifest.read(tmp_path)
    assert {name: about.identity for name, about in said.networks.items()} == {
        "first": small_net().verify().identity,
        "second": other.verify().identity,
    }
    assert set(manifest.read_files(tmp_path, said)) == set(said.files)
    for name in ("first.h", "first.c", "first_weights.c", "first_golden.c"):
        (tmp_path / name).unlink()
    other.export(tmp_path, name="second")
    assert list(manifest.read(tmp_path).networks) == ["second"]
    manifest.read_files(tmp_path, manifest.read(tmp_path))
    small_net().export(tmp_path, name="third")
    (tmp_path / "third.h").unlink()
    other.export(tmp_path, name="second")  # no network of which a file is missing is vouched for
    assert list(manifest.read(tmp_path).networks) == ["second"]


def test_an_export_beside_a_changed_network_vouches_for_its_own(tmp_path: Path) -> None:
    small_net().export(tmp_path, name="first")
    (tmp_path / "first.c").write_text("")
    small_net().export(tmp_path, name="second")
    with pytest.raises(ExportError, match=r"again:\n  - first\.c was changed$"):
        manifest.read_files(tmp_path, manifest.read(tmp_path))


# What breaks it -------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a weight": (lambda f: _append(f / "net_weights.c"), "net_weights.c was changed"),
    "a kernel": (lambda f: _append(f / "kernels/conv2d/scalar.c"), "kernels/conv2d/scalar.c was changed"),
    "a kernel's header": (lambda f: _append(f / "kernels/qmath.h"), "kernels/qmath.h was changed"),
    "no header": (lambda f: (f / "net.h").unlink(), "net.h is missing"),
    "no kernels": (lambda f: (f / "kernels").rename(f / "others"), "kernels/add/scalar.c is missing"),
    "nothing said": (lambda f: (f / manifest.NAME).unlink(), "required a folder of C that Unfloat exported"),
    "half a manifest": (lambda f: _manifest(f, lambda text: text[:90]), "unfloat.json is damaged"),
    "no JSON object": (lambda f: _manifest(f, lambda text: "[1]"), "unfloat.json is damaged"),
    "nested without end": (lambda f: _manifest(f, lambda text: "[" * 100_000), "unfloat.json is damaged"),
    "another version": (lambda f: _field(f, lambda d: d.update(version=2)), "this Unfloat reads version 1"),
    "no networks": (lambda f: _field(f, lambda d: d.update(networks={})), "it names no network"),
    "a network without files": (lambda f: _field(f, lambda d: d["files"].pop("net.c")), "networks without files"),
    "a path outside": (lambda f: _field(f, lambda d: d["files"].update({"../x.c": "0" * 64})), r"found '../x\.c'"),
    "no sum": (lambda f: _field(f, lambda d: d["files"].update({"net.c": "0"})), "found '0'"),
    "a size that is none": (
        lambda f: _field(f, lambda d: d["networks"]["net"].update(macs=True)),
        "a size of True",
    ),
    "a field too many": (lambda f: _field(f, lambda d: d["networks"]["net"].update(x=1)), "damaged"),
}


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


def _manifest(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / manifest.NAME
    path.write_text(change(path.read_text()))


def _field(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((folder / manifest.NAME).read_text())
    change(document)
    (folder / manifest.NAME).write_text(json.dumps(document))


@pytest.mark.parametrize("name", CHANGES)
def test_a_folder_that_is_not_as_exported_is_refused(name: str, folder: Path) -> None:
    change, message = CHANGES[name]
    change(folder)
    with pytest.raises(ExportError, match=message):
        unfloat.certify(folder)


def test_all_changes_are_listed(folder: Path) -> None:
    _append(folder / "net.c")
    (folder / "main.c").unlink()
    with pytest.raises(ExportError, match=r"again:\n  - main\.c is missing\n  - net\.c was changed$"):
        unfloat.certify(folder)


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="needs the program arm-none-eabi-gcc: apt install gcc-arm-none-eabi"):
        unfloat.certify(folder)


def test_ranges_are_not_of_a_folder(folder: Path) -> None:
    with pytest.raises(ExportError, match="--ranges is of a"):
        cli.verify(folder, ranges=True)


# Integers only --------------------------------------------------------------------------------------------------------


@pytest.mark.cross
def test_no_float_in_any_object(tmp_path: Path) -> None:
    for draw in DRAWS[:1] + DRAWS[5:6] + DRAWS[11:12]:  # bytes, weights of 4 bits, words
        cases(draw, 5).export(tmp_path, name=identifier(draw.name))
    (core,) = prove(tmp_path, ["cortex-m3"])
    assert core.objects > 20
    assert core.instructions > 5000


FLOATS = {
    "int f(int x) { return (int)(x * 0.1f); }": "__aeabi_fmul",
    "long long g(double x) { return (long long)x; }": "__aeabi_d2lz",
    "double h(unsigned x) { return x; }": "__aeabi_ui2d",
    "int i(float x, float y) { return x < y; }": "__aeabi_fcmplt",
}


@pytest.mark.cross
def test_every_float_is_found(folder: Path) -> None:
    """Also where the sums are those of the broken file."""
    broken = folder / "kernels/add/scalar.c"
    broken.write_text("\n".join([*FLOATS, broken.read_text()]))
    as_if_exported(folder)
    with pytest.raises(ExportError, match=r"^cortex-m3: required integers only, found floating point:") as refused:
        unfloat.certify(folder)
    for symbol in FLOATS.values():
        assert f"\n  - kernels/add/scalar.c: calls {symbol}" in str(refused.value)


@pytest.mark.cross
def test_a_float_of_one_core_alone_is_found(folder: Path) -> None:
    broken = folder / "kernels/add/scalar.c"
    body = "#ifdef __ARM_FEATURE_MVE\nint f(int x) { return (int)(x * 0.1f); }\n#endif\n"
    broken.write_text(f"{body}\n{broken.read_text()}")
    with pytest.raises(ExportError, match=r"cortex-m55: required integers only"):
        prove(folder)


@pytest.mark.cross
def test_a_float_instruction_is_found(tmp_path: Path) -> None:
    (tmp_path / "f.c").write_text(
        "float f(float x, float y) { return x * y; }\nint g(int x) { return (int)(x * 0.5f); }\n"
    )
    flags = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2")
    subprocess.run(["arm-none-eabi-gcc", *flags, "-c", "f.c", "-o", "f.o"], cwd=tmp_path, check=True)
    found = inspect(tmp_path / "f.o", CORTEX_M).found()
    assert any("f has the instruction vmul.f32" in what for what in found)
    assert any("g has the instruction vcvt" in what for what in found)


@pytest.mark.parametrize(
    "symbol",
    re.findall(
        r"\w+",
        """__aeabi_ldivmod __aeabi_lmul __aeabi_idiv __aeabi_uldivmod __aeabi_llsl memcpy
    __divdi3 __ashldi3""",
    ),
)
def test_integer_helpers_are_no_floats(symbol: str) -> None:
    assert not SOFT_FLOAT.match(symbol)


@pytest.mark.parametrize(
    "symbol",
    re.findall(
        r"\w+",
        """__aeabi_dadd __aeabi_cfcmple __aeabi_f2iz __aeabi_l2f __adddf3 __mulsf3
    __floatsidf __fixunssfdi __ltdf2 __extendsfdf2 __truncdfsf2 expf lroundf fma""",
    ),
)
def test_float_helpers_are_known(symbol: str) -> None:
    assert SOFT_FLOAT.match(symbol)
