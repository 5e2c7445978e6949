"""`unfloat train`, as a user types it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unfloat
from tests.cli.test_cli import folder, run  # noqa: F401  # the fixture
from tests.quant.models import batches, small
from unfloat.cli.samples import Samples, read_labels
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import CalibrationError

TRAIN = ["--data", "data.npz", "-o", "n.unfloat", "--epochs", "2", "--batch", "8", "--rate", "1e-3"]


@pytest.fixture
def data(folder: Path) -> Path:  # noqa: F811
    """In the folder: labelled.npz, whose labels are the float model's own choice, but for one."""
    x = torch.cat(batches(6, 4))
    with torch.no_grad():
        y = small()(x).argmax(1)
    y[0] = (y[0] + 1) % 5
    np.savez(folder / "labelled.npz", x=x.numpy(), y=y.numpy())
    return folder


def outputs(path: str = "n.unfloat") -> np.ndarray:
    return unfloat.load(path).compile()(torch.cat(batches(6, 4)).numpy())


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_without_labels_it_learns_from_the_float_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "nets:build", *TRAIN, "--validation", "data.npz") == 0
    text = capsys.readouterr().out
    assert "16 samples; the student learns from the float model" in text
    assert re.search(r"kept the student (after epoch|before).*agreement with the float model", text, re.DOTALL)
    assert "none reads or writes a float" in text
    assert outputs().shape == (24, 5)


def test_it_stops_early(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TRAIN, "--epochs", "9", "--rate", "1e-9", "--patience", "2", "--gradient-clip", "0.5", "--json"]
    assert run("train", "nets:build", *words, "--validation", "data.npz") == 0
    assert len(said(capsys)["history"]["loss"]) == 2  # nothing moves: the score of the start is never beaten


def test_with_labels_it_learns_from_them_and_prints_the_accuracy(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TRAIN, "--data", "labelled.npz", "--validation", "labelled.npz", "--json"]
    assert run("train", "nets:build", *words) == 0
    record = said(capsys)
    assert (record["teacher"], record["measure"], record["integer_only"]) == ("labels", "accuracy", True)
    history = record["history"]
    with np.load("labelled.npz") as arrays:
        accuracy = (outputs().argmax(1) == arrays["y"]).mean()
    assert accuracy == [history["before"], *history["score"]][history["best"]]
    assert run("train", "nets:build", *words, "--teacher", "self") == 0
    distilled = said(capsys)
    assert (distilled["teacher"], distilled["measure"]) == ("the float model", "accuracy")
    assert distilled["history"]["loss"] != history["loss"]


def test_an_exported_program_trains(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "net.pt2", *TRAIN) == 0
    assert "loss of the last epoch" in capsys.readouterr().out
    student = unfloat.prepare(torch.export.load("net.pt2").module(check_guards=False), batches()[0])
    assert dict(student.named_parameters()).keys() == dict(small().named_parameters()).keys()
    trained = outputs()
    assert run("quantize", "net.pt2", "--calibration", "data.npz", "-o", "ptq.unfloat") == 0
    assert not np.array_equal(trained, outputs("ptq.unfloat"))


def test_an_export_with_a_fixed_batch_has_no_teacher(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(torch.export.export(small(), (batches()[0],)), "fixed.pt2")
    assert run("train", "fixed.pt2", *TRAIN) == 1
    assert re.search("the teacher does not take a batch of 8.*dynamic batch", capsys.readouterr().err, re.DOTALL)
    assert run("train", "fixed.pt2", *TRAIN, "--data", "labelled.npz") == 0


def test_a_stopped_run_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "nets:build", *TRAIN, "--data", "labelled.npz", "--checkpoint", "c.pt"]
    assert run(*words) == 0
    whole = Path("n.unfloat").read_bytes()
    order = Samples.set_epoch

    def interrupted(self: Samples, epoch: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        order(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Samples, "set_epoch", interrupted)
        Path("n.unfloat").unlink()
        assert run(*words) not in (0, 2)
        assert not Path("n.unfloat").exists()
    assert run(*words, "--resume") == 0
    assert Path("n.unfloat").read_bytes() == whole


def test_a_run_goes_on_only_as_it_began(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "nets:build", *TRAIN, "--data", "labelled.npz", "--epochs", "1", "--checkpoint", "c.pt"]
    assert run(*words) == 0
    shutil.copy("labelled.npz", "other.npz")
    for changed, message in (
        (["--rate", "0.01"], "rate 0.01 instead of 0.001"),
        (["--seed", "1"], "seed 1 instead of 0"),
        (["--teacher", "self"], "teacher Small instead of None"),
        (["--data", "other.npz"], "other.npz instead of"),
    ):
        assert run(*words, "--resume", *changed) == 1
        assert message in capsys.readouterr().err


def test_pictures_are_labelled_by_folder_or_by_a_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        (data / f"sorted/{'edcba'[i]}").mkdir(parents=True)
        shutil.copy(data / f"pictures/{i}.png", data / f"sorted/{'edcba'[i]}/{i}.png")
    words = ["nets:build", *TRAIN, "--recipe", "recipe.toml", "--epochs", "1", "--json"]
    assert run("train", *words, "--data", "sorted") == 0
    assert said(capsys)["teacher"] == "labels"
    samples = Samples(data / "sorted", Recipe.load(data / "recipe.toml"), 5)
    assert samples.classes == ("a", "b", "c", "d", "e")
    (_, labels), table = next(iter(samples)), data / "pictures/labels.csv"
    assert labels.tolist() == [0, 1, 2, 3, 4]
    table.write_text("file,class\n3.png,1\n1.png,4\n")
    assert run("train", *words, "--data", "pictures") == 0
    assert said(capsys)["teacher"] == "labels"
    listed = Samples(data / "pictures", Recipe.load(data / "recipe.toml"), 5)
    x, y = next(iter(listed))
    assert y.tolist() == [1, 4]
    assert np.array_equal(x[0], samples.inputs([1])[0])  # 3.png is in the folder b
    for content, message in (
        ("0.png,cat\n1.png,dog\n", "labels.csv:1: required file,class.*found 0.png,cat"),
        ("0.png,²\n", "labels.csv:1: required file,class"),
        ("0.png,1\n1.png,99999999999999999999\n", "labels.csv:2: required file,class with a class from 0 to"),
        ("9.png,1\n", "labels.csv:1: there is no"),
        ("file,class\n", "at least one row"),
    ):
        table.write_text(content)
        with pytest.raises(CalibrationError, match=message):
            Samples(data / "pictures", Recipe.load(data / "recipe.toml"), 5)


def test_a_table_of_labels_is_utf_8_with_or_without_a_mark(data: Path) -> None:
    table = data / "pictures/labels.csv"
    table.write_bytes(b"\xef\xbb\xbf3.png,1\r\n1.png,4\r\n")
    pictures, labels = read_labels(table)
    assert ([p.name for p in pictures], labels.tolist()) == (["3.png", "1.png"], [1, 4])
    table.write_bytes("é.png,1\n".encode("latin-1"))
    with pytest.raises(CalibrationError, match=r"labels\.csv: required rows file,class in UTF-8"):
        read_labels(table)


def test_folders_that_are_no_classes_are_not_taken_for_labels(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("monday", "tuesday"):
        shutil.copytree(data / "pictures", data / f"days/{name}")
    words = ["train", "nets:build", *TRAIN, "--recipe", "recipe.toml", "--data", "days", "--epochs", "1"]
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert re.search(r"each of the network's 5 classes, found 2 \(monday, tuesday\).*--teacher self", error), error
    assert run(*words, "--teacher", "self") == 0
    assert "18 samples; the student learns from the float model" in capsys.readouterr().out


def test_the_order_of_samples_follows_from_seed_and_epoch(data: Path) -> None:
    def order(epoch: int, seed: int | None = 1, batch: int = 7) -> list[int]:
        samples = Samples(data / "numbers.npy", Recipe(), batch, seed)
        samples.set_epoch(epoch)
        found = [int(v) for x in samples for v in x[:, 0]]
        assert len(list(samples)) == len(samples)
        return found

    np.save(data / "numbers.npy", np.arange(20.0)[:, None])
    assert order(0) == order(0) and order(0) != order(1) and order(0) != order(0, 2)
    assert len(set(order(0))) == 14  # 2 whole batches
    assert order(0, None) == list(range(20))
    assert sorted(order(0, batch=32)) == list(range(20))
    calibration = Samples(data / "numbers.npy", Recipe(), 7).calibration()
    assert [len(x) for x in calibration] == [8, 8, 4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "none"], "--teacher none needs labels, found none"),
        (["--teacher", "me"], "--teacher: required one of self, none"),
        (["--data", "pictures"], r"the recipe's \[input\] must say"),
        (["--data", "none.npz"], "none.npz: required"),
        (["--resume"], "resume: required the path of a checkpoint"),
        (["--patience", "1"], "patience: required validation data to watch"),
        (["--gradient-clip", "-1"], "gradient_clip: required a positive norm"),
        (["--rate", "0"], "rate: required a positive number"),
        (["--data", "real.npz"], "labels must be integers, found 'y' of float"),
        (
            ["--data", "bytes.npz"],
            "bytes.npz: the model cannot be called with it, torch.uint8 .*try: floats, preprocessed",
        ),
        (["--data", "named.npz"], r"training batch 0: required entries \['x'\], found \['after', 'before'\]"),
        (["-o", "n.exe", "--data", "none.npz"], "required the suffix"),
        (["-o", "no/n.unfloat", "--data", "none.npz"], "cannot write no/n.unfloat: there is no folder"),
    ],
)
def test_refusals_exit_with_1_and_say_why(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    bytes_, floats = np.zeros((4, 3, 16, 16), np.uint8), np.zeros((4, 3, 16, 16), np.float32)
    np.savez("bytes.npz", x=bytes_)
    np.savez("named.npz", after=floats, before=floats)
    np.savez("real.npz", x=np.zeros((4, 3, 16, 16), np.float32), y=np.zeros(4))
    assert run("train", "nets:build", *TRAIN, *words) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not list(data.glob("n.*"))
