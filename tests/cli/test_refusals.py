"""Whatever a command line is given, it ends in an answer or in one message: no traceback, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unfloat
from tests.cli.test_cli import run
from tests.program.nets import small_net
from unfloat import api
from unfloat.cli import main as cli
from unfloat.cli.data import read_inputs, read_model
from unfloat.cli.output import save_arrays
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.program.program import Program
from unfloat.spec.errors import CalibrationError, ExportError, MissingExtraError


def one_exp(dtype: str) -> bytes:
    """A `.tflite` file of one operator: float, or quantized and unknown to a model to quantize."""
    label = None if dtype == "float32" else Quantization((0.5,))
    tensors = {n: TfTensor(n, (1, 4), dtype, label) for n in ("x", "y")}
    operator = TfOperator("LOGISTIC", 1, ("x",), ("y",), None, {})
    return encode(TfModel(tensors, (operator,), (("x", "x"),), (("y", "y"),)), "a test")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, whole and damaged."""
    folder = tmp_path_factory.mktemp("stock")
    net = small_net()
    net.save(folder / "net.unfloat")
    net.export(folder / "net.tflite")
    (folder / "float.tflite").write_bytes(one_exp("float32"))
    (folder / "codes.tflite").write_bytes(one_exp("int8"))
    for name in ("net.unfloat", "net.tflite", "float.tflite"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) // 2])
    for name in ("folder", "folder.unfloat", "folder.tflite"):
        (folder / name).mkdir()
    os.mkfifo(folder / "pipe.unfloat")
    os.mkfifo(folder / "pipe.tflite")
    x = np.random.default_rng(0).random((4, 3, 6, 5), np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "flat.npy", np.ones((4, 4), np.float32))
    np.savez(folder / "x.npz", x=x)
    (folder / "cut.npz").write_bytes((folder / "x.npz").read_bytes()[:400])
    np.save(folder / "words.npy", np.array(["a", "b"]))
    (folder / "latin.txt").write_bytes(b"\xe9t\xe9\n")
    (folder / "few.txt").write_text("one\ntwo\n")
    (folder / "many.txt").write_text("name\n" * 1000)
    return folder


@pytest.fixture
def here(stock: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stock as the current folder; nothing may be added to it."""
    monkeypatch.chdir(stock)
    before = sorted(stock.rglob("*"))
    yield stock
    assert sorted(stock.rglob("*")) == before


PROGRAMS = {
    "none.unfloat": "No such file",
    "none.tflite": "No such file",
    "cut_net.unfloat": "cut_net.unfloat is not a whole .unfloat file",
    "cut_net.tflite": "cut_net.tflite: ",
    "latin.txt": "latin.txt is not a whole .unfloat file",
    "float.tflite": "it computes with floats",
    "pipe.unfloat": "pipe.unfloat: required a file, found a pipe",
    "pipe.tflite": "pipe.tflite: required a file, found a pipe",
    "folder": "folder: required a file, found a directory",
    "folder.tflite": "folder.tflite: required a file, found a directory",
}
COMMANDS = {
    "verify": ["verify", "{}"],
    "inspect": ["inspect", "{}"],
    "run": ["run", "{}", "x.npy"],
    "bench": ["bench", "{}", "--runs", "1"],
    "export": ["export", "{}", "out/"],
    "compare": ["compare", "float.tflite", "{}", "--data", "x.npy"],
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_programs_that_are_none(command: str, name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = PROGRAMS[name]
    assert run(*(word.format(name) for word in COMMANDS[command])) == 1
    said = capsys.readouterr()
    if command != "verify":
        assert message in said.err
    elif name == "float.tflite":
        assert "1 of 1 operators compute with floats" in said.out
    else:
        assert (
            "required a folder of C that Unfloat exported" in said.err if Path(name).is_dir() else message in said.err
        )


MODELS = {
    "none.tflite": "No such file",
    "cut_float.tflite": "cut_float.tflite: ",
    "pipe.tflite": "pipe.tflite: required a file, found a pipe",
    "folder.tflite": "folder.tflite: required a file, found a directory",
    "codes.tflite": "required float32 in a model to quantize, found int8",
    "net.unfloat": "MODEL must be a .pt2 file, a float .tflite or package.module:function",
    "folder/": "MODEL must be",
    "./mod.py:tiny": "./mod.py:tiny: required a module's name, found a path: try mod:tiny",
    "nets/mod:tiny": "found a path: try mod:tiny, run in the folder that holds the module",
    "mod.py:tiny": "found a path: try mod:tiny",
    ".mod:tiny": "found a path: try mod:tiny",
    "none.pt2": "none.pt2: not a loadable .pt2 file",
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_none(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quantize", name, "--calibration", "x.npy", "-o", "out.unfloat") == 1
    assert MODELS[name] in capsys.readouterr().err
    assert run("train", name, "--data", "x.npz", "-o", "out.unfloat") == 1
    expected = "has no module to train" if name.endswith(".tflite") else MODELS[name]
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantize", "float.tflite", "--calibration", "cut.npz", "-o", "o.unfloat"], "cut.npz: cannot be read"),
        (["quantize", "float.tflite", "--calibration", "words.npy", "-o", "o.unfloat"], "required arrays of numbers"),
        (["quantize", "float.tflite", "--calibration", "flat.npy", "-o", ""], "required the suffix .tflite"),
        (["quantize", "float.tflite", "--calibration", "flat.npy", "-o", "no/o.tflite"], "there is no folder no"),
        (["quantize", "float.tflite", "--calibration", "flat.npy", "-o", "folder.unfloat"], "it is a folder"),
        (
            ["quantize", "float.tflite", "--calibration", "flat.npy", "-o", "o.tflite", "--recipe", "latin.txt"],
            "latin.txt: not TOML, which is UTF-8",
        ),
        (["run", "net.unfloat", "cut.npz"], "cut.npz: cannot be read"),
        (["run", "net.unfloat", "none.npz"], "No such file or directory: 'none.npz'"),
        (["run", "net.unfloat", "none.png"], "No such file or directory: 'none.png'"),
        (["run", "net.unfloat", "none/"], "No such file or directory: 'none'"),
        (["run", "net.unfloat", "pipe.unfloat"], "pipe.unfloat: required a file, found a pipe"),
        (["run", "net.unfloat", "folder"], "folder: required at least one picture"),
        (
            ["run", "net.unfloat", "x.npy", "x.npz"],
            "x.npy: required pictures, or one .npz or .npy alone, found 2 files",
        ),
        (["run", "net.unfloat", "latin.txt"], "this Program does not say how pictures become inputs"),
        (["run", "net.unfloat", "x.npy", "--labels", "latin.txt"], "latin.txt: required class names in UTF-8"),
        (["run", "net.unfloat", "x.npy", "--labels", "few.txt"], "a name for each of 5 classes, found 2"),
        (["run", "net.unfloat", "x.npy", "--labels", "many.txt"], "a name for each of 5 classes, found 1000"),
        (["bench", "net.unfloat", "--python", "ort=python"], "--python: required --compare"),
        (["bench", "net.unfloat", "--compare", ""], "--compare: required some of ort, openvino, litert, executorch"),
        (
            ["bench", "net.unfloat", "--compare", "litert=net.tflite", "--python", "foo=python"],
            "--python: required a runtime that --compare names, found foo",
        ),
        (
            ["bench", "net.unfloat", "--compare", "litert=net.tflite", "--python", "litert=/bin/cat"],
            "litert: could not run net.tflite",
        ),
        (["run", "net.unfloat", "x.npy", "--level", "abacus"], "found 'abacus'"),
        (["run", "net.unfloat", "x.npy", "--threads", "9999"], "threads must lie in"),
        (["bench", "net.unfloat", "--level", "abacus"], "found 'abacus'"),
        (["bench", "net.unfloat", "--batch", "999999999999"], "Unable to allocate"),
        (["export", "net.unfloat", ""], "required the suffix .tflite"),
        (["export", "net.unfloat", "folder.tflite"], "cannot write folder.tflite: Is a directory"),
        (["run", "net.unfloat", "x.npz", "-o", "./x.npz"], "cannot write x.npz: this command reads it"),
        (["run", "net.unfloat", "x.npz", "-o", "net.unfloat"], "cannot write net.unfloat: this command reads it"),
        (["run", "net.unfloat", "x.npz", "-o", "no/y.npz"], "cannot write no/y.npz: there is no folder no"),
        (["bench", "net.unfloat", "--plot", "no/a.svg"], "cannot write no/a.svg: there is no folder no"),
        (["bench", "net.unfloat", "--plot", "a.foo"], "cannot draw a.foo: required a suffix among "),
        (["export", "net.tflite", "net.tflite"], "cannot write net.tflite: this command reads it"),
        (["quantize", "float.tflite", "--calibration", "flat.npy", "-o", "float.tflite"], "this command reads it"),
        (["train", "net.pt2", "--data", "x.npz", "-o", "o.tflite", "--checkpoint", "net.pt2"], "this command reads it"),
        (
            ["train", "net.pt2", "--data", "x.npz", "-o", "o.unfloat", "--checkpoint", "o.unfloat"],
            "something else there",
        ),
        (["verify", "folder", "--json"], "required a folder of C that Unfloat exported"),
    ],
)
def test_what_else_is_refused(words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1


def never(*_: object) -> Program:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize(
    ("output", "recipe", "message"),
    [
        ("out.unfloat/", "", "required a file's path, found one that ends in /"),
        ("folder", "", "folder/: folder: Operation not permitted; choose another folder"),
        ("folder/new/c/", "", "folder: Operation not permitted; choose another folder"),
        ("folder/o.unfloat", "", "cannot write folder/o.unfloat: Operation not permitted"),
        ("o.tflite", 'rounding = "single"', 'o.tflite: required rounding = "double" in the recipe'),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    output: str,
    recipe: str,
    message: str,
    tmp_path: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "recipe.toml").write_text(recipe)
    real = tempfile.TemporaryFile

    def refusing(**where: Any) -> Any:
        if Path(where["dir"]).resolve() == here / "folder":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return real(**where)

    monkeypatch.setattr(tempfile, "TemporaryFile", refusing)
    monkeypatch.setattr(unfloat, "quantize", never)
    words = ["float.tflite", "--calibration", "flat.npy", "--recipe", str(tmp_path / "recipe.toml"), "-o", output]
    assert run("quantize", *words) == 1
    assert message in capsys.readouterr().err


def test_a_missing_extra_shows_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unfloat, "quantize", never)

    def lack(name: str, extra: str) -> None:
        assert name == "unfloat.formats.tflite.write"
        raise MissingExtraError.of("this needs the package flatbuffers", extra)

    monkeypatch.setattr(api, "_room", lack)
    assert run("quantize", "float.tflite", "--calibration", "flat.npy", "-o", "o.tflite") == 1
    assert "this needs the package flatbuffers" in capsys.readouterr().err


def test_a_program_that_a_format_cannot_say_is_kept(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ExportError("cannot be said")

    monkeypatch.setattr(Program, "export", refuse)
    words = ["quantize", str(stock / "float.tflite"), "--calibration", str(stock / "flat.npy"), "-o"]
    for output in ("o.tflite", "o/"):
        kept = tmp_path / f"{output.rstrip('/')}.kept.unfloat"
        assert run(*words, f"{tmp_path}/{output}") == 1
        assert f"cannot be said; the program itself is kept as {kept}" in capsys.readouterr().err
        unfloat.load(kept).verify()


@pytest.mark.parametrize("others", [(), ("before", "other"), ("y",), ("labels", "other")])
def test_run_takes_the_array_of_the_inputs_name(others: tuple[str, ...], tmp_path: Path) -> None:
    net = small_net()
    x = np.random.default_rng(0).random((4, 3, 6, 5), np.float32)
    np.savez(tmp_path / "x.npz", **dict.fromkeys(others, x + 1), **{net.inputs[0].name: x})
    ((found,),) = read_inputs(net, [tmp_path / "x.npz"])
    np.testing.assert_array_equal(found, x)


def test_run_takes_the_only_array_beside_labels_whatever_its_name(tmp_path: Path) -> None:
    x = np.ones((4, 3, 6, 5), np.float32)
    for label in ("y", "label", "labels"):
        np.savez(tmp_path / "x.npz", **{label: np.arange(4), "what": x})
        ((found,),) = read_inputs(small_net(), [tmp_path / "x.npz"])
        np.testing.assert_array_equal(found, x)
    np.savez(tmp_path / "x.npz", y=x)
    ((found,),) = read_inputs(small_net(), [tmp_path / "x.npz"])
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_labelled_arrays_of_any_float_serve_every_command(
    dtype: type, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((10, 4)).astype(dtype)
    np.savez("x.npz", labels=np.arange(10), what=x)
    float_file = str(stock / "float.tflite")
    assert run("quantize", float_file, "--calibration", "x.npz", "-o", "net.unfloat") == 0
    assert run("compare", float_file, "net.unfloat", "--data", "x.npz") == 0
    assert run("run", "net.unfloat", "x.npz", "-o", "y.npz") == 0
    np.savez("plain.npz", what=x)
    assert run("quantize", float_file, "--calibration", "plain.npz", "-o", "plain.unfloat") == 0
    assert Path("net.unfloat").read_bytes() == Path("plain.unfloat").read_bytes()


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "y"), ("y", "label")])
def test_run_does_not_guess_among_arrays(names: tuple[str, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{name: np.ones((4, 3, 6, 5), np.float32) for name in names})
    with pytest.raises(CalibrationError) as refused:
        list(read_inputs(small_net(), [tmp_path / "x.npz"]))
    required = [port.name for port in small_net().inputs]
    assert f"required arrays named as the inputs, {required}, found {sorted(names)}" in str(refused.value)


def test_a_model_may_import_from_the_current_folder_when_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("made_late.py").write_text("def make():\n    import found_late\n    return found_late.answer\n")
    Path("found_late.py").write_text("answer = 42\n")
    assert read_model("made_late:make") == 42


def test_outputs_of_any_name_are_written(tmp_path: Path) -> None:
    arrays = {name: np.full((2, 3), i, np.float32) for i, name in enumerate(("file", "allow_pickle", "self", "logits"))}
    save_arrays(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz") as saved:
        assert list(saved) == list(arrays)
        assert all(np.array_equal(saved[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    "words", [["run", "net.unfloat", "x.npy", "-o", "no/y.npz"], ["bench", "net.unfloat", "--plot", "a.x"]]
)
def test_nothing_runs_whose_result_could_not_be_written(
    words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Program, "compile", never)
    assert run(*words) == 1
    assert "error: cannot " in capsys.readouterr().err


@pytest.mark.parametrize("where", ["", "    "])
def test_a_module_that_ends_the_process_has_made_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"ends{len(where)}"
    Path(f"{name}.py").write_text(f"import sys\ndef make():\n    pass\n{where}sys.exit(0)\n")
    np.save("x.npy", np.ones((4, 4), np.float32))
    assert run("quantize", f"{name}:make", "--calibration", "x.npy", "-o", "o.unfloat") == 1
    assert "it ended the process (sys.exit) instead of making a module" in capsys.readouterr().err


def test_suffixes_are_of_either_case(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("F.TFLITE").write_bytes((stock / "float.tflite").read_bytes())
    Path("X.NPY").write_bytes((stock / "flat.npy").read_bytes())
    assert run("quantize", "F.TFLITE", "--calibration", "X.NPY", "-o", "N.UNFLOAT") == 0
    assert run("export", "N.UNFLOAT", "N.TFLITE") == 0
    capsys.readouterr()
    assert run("verify", "N.TFLITE") == 0
    assert "none reads or writes a float" in capsys.readouterr().out


def test_pictures_are_named_by_their_way_from_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictured(SPEC.format(6, 5)).save(tmp_path / "net.unfloat")
    paths = [tmp_path / f"shots/{day}/a.png" for day in ("monday", "tuesday")]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (5, 6)).save(path)
    words = [str(tmp_path / "net.unfloat"), str(tmp_path / "shots"), str(paths[0])]
    assert run("run", *words, "--json") == 0
    found = [row["input"] for row in json.loads(capsys.readouterr().out)]
    assert found == ["monday/a.png", "tuesday/a.png", "monday/a.png"]
    assert run("run", words[0], words[2], "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["input"] == "a.png"


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(OSError, match="null byte"):
        unfloat.load("a\0b.unfloat")


def test_a_float_file_is_quantized_compared_and_written_as_c(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["quantize", str(stock / "float.tflite"), "--calibration", str(stock / "flat.npy"), "-o"]
    assert run(*words, "net.unfloat") == 0
    assert run("compare", str(stock / "float.tflite"), "net.unfloat", "--data", str(stock / "flat.npy")) == 0
    assert "outputs, 4 samples" in capsys.readouterr().out
    Path("net_c").mkdir()
    Path("net_c/firmware.bin").write_bytes(bytes(10_000_000))  # which was there before, and is not counted
    assert run(*words, "net_c/") == 0
    wrote = re.search(r"wrote net_c/ \(([\d,]+) bytes\)", capsys.readouterr().out)
    assert wrote and 0 < int(wrote[1].replace(",", "")) < 10_000_000
    assert Path("net_c/net_c.h").is_file()


def pictured(recipe: object) -> Program:
    """A network of pictures with that recipe."""
    return replace(small_net(), metadata={"recipe": recipe})


SPEC = "[input]\nsize = [{}, {}]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n"
RECIPES = {"not TOML": "size = [", "of unknown fields": "colour = 1", "deep": "x = " + "[" * 5000}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_that_cannot_be_read_is_refused(
    kind: str, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pictured(RECIPES[kind]).save("net.unfloat")
    Image.new("RGB", (5, 6)).save("x.png")
    for words in (
        ["run", "net.unfloat", "x.png"],
        ["export", "net.unfloat", "out/"],
        ["compare", str(stock / "float.tflite"), "net.unfloat", "--data", str(stock / "x.npy")],
    ):
        assert run(*words) == 1
        assert "error: cannot read the recipe that the Program carries: " in capsys.readouterr().err
    assert run("run", "net.unfloat", str(stock / "x.npy")) == 0


@pytest.mark.parametrize("recipe", [5, *RECIPES.values()])
def test_c_of_a_recipe_that_cannot_be_read_is_refused(recipe: object, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot read the recipe that the Program carries"):
        pictured(recipe).export(f"{tmp_path}/out/")
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_another_size_is_refused_before_pictures_are_read(tmp_path: Path) -> None:
    message = r"input x takes \(6, 5, 3\) inside, the picture gives \(6000, 6000, 3\): check input.size"
    with pytest.raises(CalibrationError, match=message):
        list(read_inputs(pictured(SPEC.format(6000, 6000)), [tmp_path / "none.png"]))
    Image.new("RGB", (5, 6)).save(tmp_path / "x.png")
    ((found,),) = read_inputs(pictured(SPEC.format(6, 5)), [tmp_path / "x.png"])
    assert found.shape == (1, 3, 6, 5)


@pytest.mark.parametrize(
    ("error", "message"), [(MemoryError(), "there is not enough memory"), (OSError(), "OSError()")]
)
def test_an_error_without_words_is_named(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert run("inspect") == 1
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("name", ["[/x]", "[red]", ":cat:"])
def test_names_are_shown_as_they_are(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = small_net()
    tensors = {(name if old == "fc" else old): tensor for old, tensor in net.tensors.items()}
    tensors[name] = replace(tensors[name], name=name)
    last = replace(net.instructions[-1], name=name)
    ports = (replace(net.inputs[0], name=name),), (replace(net.outputs[0], name=name, value=name),)
    path = str(tmp_path / "net.unfloat")
    Program(*ports, tensors, (*net.instructions[:-1], last), None, net.metadata).save(path)
    for words in (["inspect"], ["verify", "--ranges"], ["bench", "--runs", "1"]):
        assert run(words[0], path, *words[1:]) == 0
        assert name in capsys.readouterr().out
