"""The command line, as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unfloat
from tests.program.nets import small_net
from tests.quant.models import batches, small
from unfloat.cli import main as cli
from unfloat.cli import show

RECIPE = """
[input]
size = [16, 16]
resize = 20
mean = [127.5, 127.5, 127.5]
std = [60.0, 60.0, 60.0]
"""
MODULE = """
from tests.quant.models import small
def build():
    return small()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(MODULE)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (24 + i, 30, 3), dtype=np.uint8)).save(pictures / f"{i}.png")
    np.savez(tmp_path / "data.npz", x=torch.cat(batches()).numpy())
    torch.export.save(
        torch.export.export(small(), (batches()[0],), dynamic_shapes={"x": {0: torch.export.Dim.AUTO}}),
        tmp_path / "net.pt2",
    )
    yield tmp_path
    sys.modules.pop("nets", None)


def run(*words: str) -> int:
    """The exit code of one command line."""
    sys.argv = ["unfloat", *words]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def said(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


def test_from_pictures_to_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("quantize", "nets:build", "--calibration", "pictures", "--recipe", "recipe.toml", "-o", "net.unfloat") == 0
    )
    text = capsys.readouterr().out
    assert "mean" in text
    assert "none reads or writes a float" in text
    assert run("run", "net.unfloat", "pictures/0.png", "pictures/1.png", "--json", "--top", "2") == 0
    record = said(capsys)
    assert [r["input"] for r in record] == ["0.png", "1.png"]  # type: ignore[attr-defined, index]
    from unfloat.formats.pictures.read import in_model_layout, read_picture

    program = unfloat.load("net.unfloat")
    spec = unfloat.Recipe.from_toml(program.metadata["recipe"]).input
    assert spec is not None
    x = in_model_layout(read_picture("pictures/0.png", spec)[None], program.inputs[0])
    assert record[0]["top"][0]["class"] == int(program.compile()(x)[0].argmax())  # type: ignore[index]
    assert run("run", "net.unfloat", "pictures", "--json", "--top", "2", "-o", "out.npz") == 0
    every: Any = said(capsys)
    assert [r["input"] for r in every] == [f"{i}.png" for i in range(9)]  # more than are run at a time
    assert every[:2] == record
    with np.load("out.npz") as saved:
        np.testing.assert_array_equal(next(iter(saved.values()))[:1], program.compile()(x))
    assert run("run", "net.unfloat", "pictures/0.png", "pictures", "--json") == 0
    assert len(said(capsys)) == 10  # type: ignore[arg-type]
    assert run("run", "net.unfloat", "nets.py") == 1
    assert "nets.py: not usable as a picture" in capsys.readouterr().err


def test_from_arrays_to_every_other_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.unfloat", "--json") == 0
    assert said(capsys)["integer_only"] is True  # type: ignore[index]
    assert run("run", "net.unfloat", "data.npz", "-o", "out.npz") == 0
    with np.load("out.npz") as saved:
        expected = unfloat.load("net.unfloat").compile()(torch.cat(batches()).numpy())
        assert np.array_equal(next(iter(saved.values())), expected)
    for words in (["verify"], ["inspect"], ["bench", "--runs", "3", "--no-profile"]):
        assert run(words[0], "net.unfloat", *words[1:]) == 0
        assert run(words[0], "net.unfloat", *words[1:], "--json") == 0
    assert run("export", "net.unfloat", "net.tflite") == 0
    assert Path("net.tflite").read_bytes()[4:8] == b"TFL3"


def test_inspect_shows_the_shape_that_run_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_net().save("net.unfloat")
    assert run("inspect", "net.unfloat") == 0
    assert "input x: [n, 3, 6, 5], inside [n, 6, 5, 3] NHWC" in capsys.readouterr().out
    assert run("inspect", "net.unfloat", "--json") == 0
    (port,) = said(capsys)["inputs"]  # type: ignore[index]
    assert (port["own_shape"], port["shape"]) == ([-1, 3, 6, 5], [-1, 6, 5, 3])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_map_has_one_line_for_each_activation(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    tensors = [
        {"name": f"features.{i}.{'x' * 30}", "offset": 512 * i, "bytes": 512, "first": i, "last": i + 1}
        for i in range(4)
    ]
    show._arena({"bytes": 2048, "tensors": tensors})
    maps = re.findall(r"[.#]{10,}(?= │$)", capsys.readouterr().out, re.MULTILINE)
    assert [m.index("#") for m in maps] == [i * len(maps[0]) // 4 for i in range(4)]


def test_a_picture_of_layers_asks_for_no_table_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_net().save("net.unfloat")
    bench = ("bench", "net.unfloat", "--runs", "1", "--no-profile", "--plot", "a.svg")
    assert run(*bench) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert run(*bench, "--json") == 0
    assert "layers" not in said(capsys)  # type: ignore[operator]
    assert Path("a.svg").stat().st_size


def test_names_are_of_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = small_net()
    second = replace(net.outputs[0], name="again")
    replace(net, outputs=(*net.outputs, second), structure=("tuple", 2)).save("two.unfloat")
    Path("names.txt").write_text("a\nb\nc\nd\ne\n")
    np.save("x.npy", np.ones((1, 3, 6, 5), np.float32))
    assert run("run", "two.unfloat", "x.npy", "--labels", "names.txt") == 1
    assert "one output, a number for each class, found [n, 5] and [n, 5]" in capsys.readouterr().err
    assert run("run", "two.unfloat", "x.npy", "--json") == 0
    assert [row["output"] for row in said(capsys)] == [net.outputs[0].name, "again"]  # type: ignore[attr-defined]


def test_json_is_alone_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = "print('imported')\n" + MODULE.replace("    return", "    print('made')\n    return")
    Path("nets.py").write_text(loud)
    data = ["--calibration", "data.npz", "-o", "net.unfloat"]
    assert run("quantize", "nets:build", *data, "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["integer_only"] is True
    assert "imported\nmade\n" in output.err
    assert run("compare", "nets:build", "net.unfloat", "--data", "data.npz", "--json") == 0
    assert said(capsys)["samples"] == 16  # type: ignore[index]
    assert run("train", "nets:build", "--data", "data.npz", "-o", "net.unfloat", "--epochs", "1", "--json") == 0
    assert said(capsys)["integer_only"] is True  # type: ignore[index]


def test_names_that_a_terminal_cannot_show_are_spelled_out(folder: Path) -> None:
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "né.unfloat") == 0
    words = [sys.executable, "-m", "unfloat.cli.main", "export", "né.unfloat", "né.tflite"]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"wrote n\\xe9.tflite" in done.stdout


def test_bench_shows_layers_beside_the_peak_and_where_activations_lie(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.unfloat") == 0
    capsys.readouterr()
    assert run("bench", "net.unfloat", "--runs", "2", "--batch", "3", "--json") == 0
    record: Any = said(capsys)
    program = unfloat.load("net.unfloat")
    assert [layer["name"] for layer in record["layers"]] == [i.name for i in program.instructions]
    assert sum(layer["macs"] for layer in record["layers"]) == 3 * program.verify().macs
    assert record["peak_macs_per_second"] > 1e9 or record["level"] == "scalar"
    tensors = record["arena"]["tensors"]
    assert {t["name"] for t in tensors} == {n for n, t in program.tensors.items() if t.data is None}
    assert max(t["offset"] + t["bytes"] for t in tensors) == record["arena"]["bytes"]
    assert run("bench", "net.unfloat", "--runs", "2", "--level", "scalar") == 0
    text = capsys.readouterr().out
    monkeypatch.setenv("UNFLOAT_ISA", "scalar")
    assert run("bench", "net.unfloat", "--runs", "2", "--json") == 0
    record = said(capsys)
    assert (record["level"], record["peak_macs_per_second"]) == ("scalar", 0.0)
    assert "1 threads, batch 1, scalar" in text and "bytes a sample" in text and "####" in text


def test_bench_takes_turns_with_other_runtimes_and_draws_the_layers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.unfloat") == 0
    capsys.readouterr()
    bench = ("bench", "net.unfloat", "--runs", "2", "--turns", "2")
    assert run(*bench, "--compare", "litert", "--plot", "layers.svg", "--json") == 0
    record: Any = said(capsys)
    engine, litert = record["peers"]
    assert (engine["runtime"], engine["ratio"], litert["runtime"]) == ("unfloat", 1.0, "litert")
    assert litert["turns"] == 2 and litert["median_ms"] > 0 and litert["version"][0].isdigit()
    assert litert["ratio_quartiles"][0] <= litert["ratio"] <= litert["ratio_quartiles"][1]
    drawing = Path("layers.svg").read_text()
    assert drawing.lstrip().startswith("<?xml") and all(layer["name"] for layer in record["layers"])
    assert run("export", "net.unfloat", "net.tflite") == 0
    assert run(*bench, "--compare", "litert=net.tflite", "--no-profile", "--python", f"litert={sys.executable}") == 0
    assert "engine's time over it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "tvm=a.so"], "required some of ort, openvino, litert, executorch, found 'tvm'"),
        (["--compare", "ort"], "ort needs a file to run"),
        (["--compare", "ort=missing.onnx"], "found 'missing.onnx'"),
        (["--compare", "litert", "--python", "litert"], "--python: required RUNTIME=PATH, found 'litert'"),
        (["--compare", "litert", "--python", "litert=nowhere"], "cannot start nowhere: No such file"),
        (["--compare", "litert=net.pt2"], "litert: could not run net.pt2"),
        (["--compare", "ort=net.pt2"], "pip install onnxruntime, or name a Python that has it: --python ort=PATH"),
        (["--plot", "layers.what"], "cannot draw layers.what"),
    ],
)
def test_bench_says_what_a_peer_lacks(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.unfloat") == 0
    capsys.readouterr()
    assert run("bench", "net.unfloat", "--runs", "2", *words) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("layers.what").exists()


def test_compare_names_the_bad_layer_and_what_to_paste(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("low.toml").write_text(RECIPE + '[[override]]\npattern = "point"\nactivation_bits = 3\n')
    assert run("quantize", "nets:build", "--calibration", "pictures", "--recipe", "low.toml", "-o", "net.unfloat") == 0
    capsys.readouterr()
    words = ["compare", "nets:build", "net.unfloat", "--data"]
    assert run(*words, "pictures", "--top", "2") == 0
    text = capsys.readouterr().out
    assert "6 more: --top 8" in text
    assert '[[override]]\npattern = "point"\nactivation_bits = 8\n' in text
    assert "activation_bits = 8 for point" in text
    assert run(*words, "data.npz", "--json") == 0
    assert said(capsys)["samples"] == 16  # type: ignore[index]
    assert run(*words, "pictures", "--json", "--limit", "5") == 0
    record: Any = said(capsys)
    assert record["samples"] == 5
    assert len(record["sites"]) == 8
    sites = {s["name"]: s for s in record["sites"]}
    assert sites["point"]["suggestion"] == {"pattern": "point", "activation_bits": 8}
    assert sites["pool"]["own_sqnr_db"] is None  # no noise
    assert 0 <= record["outputs"][0]["same_argmax"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nets:build", "none.unfloat", "--data", "data.npz"], "none.unfloat"),
        (["nets:other", "net.unfloat", "--data", "data.npz"], "not made from this model: layer 6 of the model is head"),
        (
            ["nets:build", "net.unfloat", "--data", "pictures"],
            "pictures is a folder of pictures, and this Program does",
        ),
        (["nets:build", "net.unfloat", "--data", "none.npz"], "none.npz: required"),
        (["nets:build", "net.unfloat", "--data", "empty.npy"], "empty.npy: required at least one array"),
        (["nets:build", "net.unfloat", "--data", "nan.npy"], "comparison batch 0, input x: required finite numbers"),
        (["nets:build", "net.unfloat", "--data", "flat.npy"], "comparison batch 0, input x: required shape"),
        (["net.pt2", "net.pt2", "--data", "data.npz"], "net.pt2 is not a whole .unfloat file"),
    ],
)
def test_what_compare_refuses(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    Path("nets.py").write_text(MODULE + "def other():\n    return type(small())(classes=7).eval()\n")
    x = torch.cat(batches()).numpy()
    for name, array in (("empty", x[:0]), ("nan", x * np.nan), ("flat", x[:, 0])):
        np.save(f"{name}.npy", array)
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.unfloat") == 0
    assert run("compare", *words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["quantize", "nets:build", "--calibration", "pictures", "-o", "n.unfloat"],
            r"the recipe's \[input\] must say",
        ),
        (
            ["quantize", "nets:nothing", "--calibration", "data.npz", "-o", "n.unfloat"],
            "nets:nothing: cannot be imported",
        ),
        (["quantize", "nets", "--calibration", "data.npz", "-o", "n.unfloat"], "MODEL must be"),
        (["quantize", "none.pt2", "--calibration", "data.npz", "-o", "n.unfloat"], "not a loadable .pt2"),
        (["quantize", "nets:build", "--calibration", "none.npz", "-o", "n.unfloat"], "none.npz: required"),
        (["quantize", "nets:build", "--calibration", "nets.py", "-o", "n.unfloat"], "nets.py: required"),
        (["quantize", "nets:build", "--calibration", "data.npz", "-o", "no/n.unfloat"], "cannot write no/n.unfloat"),
        (["quantize", "nets:build", "--calibration", "data.npz", "-o", "n.exe"], "required the suffix .tflite"),
        (["verify", "nets.py"], "nets.py is not a whole .unfloat file"),
        (["verify", "none.unfloat"], "none.unfloat"),
    ],
)
def test_refusals_exit_with_1_and_say_why(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not list(folder.glob("n.*"))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    version = capsys.readouterr().out.strip()
    assert version == unfloat.__version__
    assert f'version = "{version}"' in (Path(__file__).parents[2] / "pyproject.toml").read_text().splitlines()


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "unfloat", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, unfloat.__version__)
    assert {"Recipe", "Training", "Override", "InputSpec", "load", "__version__"} <= set(dir(unfloat))


def test_a_wrong_command_line_exits_with_2() -> None:
    assert run("quantize") == 2
    assert run("fly") == 2
