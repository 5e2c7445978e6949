"""Others' quantized `.tflite` files, read: the public interpreters' codes and accuracy; their float files, quantized here.

    python -m benchmarks.public_models [--fresh] [FILE ...]

Interpreter and engine against TensorFlow Lite Micro and LiteRT's reference kernels on 100 random inputs; then the
engine and one of the public runtimes on the files' own data, where every code is compared, so that equal accuracies
are no luck. The float files of four networks are quantized here and stand beside their makers' int8 files.

A file takes from seconds to ten minutes. What was measured is kept, the page shows it, and the next run goes on from
there, unless --fresh asks for its files anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from benchmarks import data, results
from benchmarks.data import Statistics
from tests.peers.call import peer
from tqdm import tqdm

import unfloat
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.qparams import STORAGE, quantize

RANDOM = 100
PORTION = 10  # samples that NumPy takes at a time, for the memory's sake
CALIBRATION = 128
CORES = os.cpu_count() or 1
RUNTIMES = {"tflm": "TFLM", "litert": "LiteRT"}
UNIT: Statistics = ((0.0,) * 3, (255.0,) * 3)
HALF: Statistics = ((128.0,) * 3, (128.0,) * 3)
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601's luma
FOUND = Path(__file__).parents[1] / "build" / "public_models" / "found.json"

RANDOM_COLUMNS = (
    "file", "instructions", "codes compared", "engine and interpreter differ", "TFLM differs", "LiteRT differs",
    "read, written, read",
)  # fmt: skip
DATA_COLUMNS = (
    "file", "data", "samples", "accuracy", "public accuracy", "public runtime", "codes compared", "codes that differ",
)  # fmt: skip
FLOAT_COLUMNS = (
    "float file", "data", "samples", "float, in LiteRT", "quantized here", "its makers' int8", "difference",
    "its standard error",
)  # fmt: skip
Cell = dict[str, Any]
"""What one measurement found, by column."""


@dataclass(frozen=True)
class Data:
    """Samples that a file was made for: real inputs [n, ...] as its float network takes them, and classes."""

    name: str
    x: np.ndarray
    y: np.ndarray


def cifar10() -> Data:
    """Raw pixels, as MLPerf Tiny's ResNet-8 takes them."""
    pictures, labels = data.cifar10("test")
    return Data("CIFAR-10 test", pictures.astype(np.float32), labels)


def ic01() -> Data:
    """The pictures of CIFAR-10's test that MLPerf Tiny's accuracy runs take."""
    x, y = _tiny("ic01_mlperf_tiny")
    return Data("ic01, MLPerf Tiny's 200 of it", x.astype(np.float32), y)


def vww() -> Data:
    """Pictures of MLPerf Tiny's kind, person or not, 0 to 1."""
    x, y = _tiny("vww_like_coco_96")
    return Data("245 VWW-like pictures", (x / 255).astype(np.float32), y)


def grey_vww() -> Data:
    """The same in grey, -1 to 1."""
    colour = vww()
    return Data("the same in grey", 2 * (colour.x @ GREY)[..., None] - 1, colour.y)


def _tiny(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(data.folder() / "mlperf_tiny" / f"{name}.npz") as file:
        return file["x"], file["y"]


def digits(part: str = "test") -> Data:
    """MNIST, 0 to 1."""
    with np.load(data.folder() / "mnist_10k_train_10k_test.npz") as file:
        x, y = (next(file[k] for k in file.files if k.endswith(part) and k.startswith(p)) for p in "xy")
    return Data(f"MNIST {part}", (x.reshape(-1, 28, 28, 1) / 255).astype(np.float32), y)


def imagenet(size: int, statistics: Statistics, background: int) -> Callable[[], Data]:
    """val650; `background` is 1 where class 0 is none of the 1,000."""

    def load() -> Data:
        pictures, labels = data.imagenet("val650", size=size)
        return Data("val650", _normal(pictures, statistics), labels + background)

    return load


def _normal(pictures: np.ndarray, statistics: Statistics) -> np.ndarray:
    mean, std = np.array(statistics, np.float32)
    return (pictures.astype(np.float32) - mean) / std


FILES: dict[str, tuple[str, tuple[Callable[[], Data], ...]]] = {  # which runtime is asked on its data, and those
    "hello_world_int8": ("tflm", ()),
    "micro_speech_quantized": ("tflm", ()),
    "mnist_resnet_q": ("tflm", (digits,)),
    "pretrainedResnet_quant": ("tflm", (ic01, cifar10)),
    "vww_96_int8": ("tflm", (vww,)),
    "person_detect": ("tflm", (grey_vww,)),
    "mbnet128_0.25_q": ("tflm", (imagenet(128, UNIT, 0),)),
    "mobilenet_v1_0.25_128_quant": ("litert", (imagenet(128, HALF, 1),)),  # uint8
    "tf2_mobilenet_v2_1.0_224_ptq": ("litert", (imagenet(224, data.SYMMETRIC_STATISTICS, 1),)),  # the quicker one
}
FLOAT_FILES: dict[str, tuple[str, Callable[[], Data], Callable[[], Data]]] = {  # its data, and its int8 file with its
    "mnist_resnet_f": ("mnist_resnet_q", digits, digits),
    "pretrainedResnet": ("pretrainedResnet_quant", cifar10, cifar10),
    "vww_96_float": ("vww_96_int8", vww, vww),
    "mbnet128_0.25_f": ("mbnet128_0.25_q", imagenet(128, data.SYMMETRIC_STATISTICS, 0), imagenet(128, UNIT, 0)),
}


def path_of(name: str) -> Path:
    """A file of the data folder."""
    return data.folder() / "tflite" / f"{name}.tflite"


def answer(runtime: str, name: str, x: np.ndarray) -> np.ndarray | str:
    """A runtime's output codes or reals, or why it refuses the file; a part of the samples on each core."""
    content, run = path_of(name).read_bytes(), peer(runtime)
    with ThreadPoolExecutor(CORES) as pool:
        found = list(pool.map(lambda part: run([(content, [part])])[0], np.array_split(x, CORES)))
    refusal = next((said for said in found if isinstance(said, str)), None)
    return refusal if refusal is not None else np.concatenate([said[0] for said in found])


def differing(found: np.ndarray, expected: np.ndarray) -> str:
    """How many codes differ, and by how much."""
    gaps = np.abs(found.reshape(expected.shape).astype(int) - expected)
    return f"{np.count_nonzero(gaps):,}" + (f", by {gaps.max()} at most" if gaps.any() else "")


def in_portions(program: Program, codes: np.ndarray) -> np.ndarray:
    """The interpreter's codes."""
    return np.concatenate([interpret(program, [codes[at : at + PORTION]])[0] for at in range(0, len(codes), PORTION)])


def random_cell(name: str) -> Cell:
    """Random codes in every witness, and the Program that the written file gives back."""
    program = unfloat.load(path_of(name))
    label = program.tensors[program.inputs[0].value].qparams
    shape = (RANDOM, *program.inputs[0].shape[1:])
    codes = np.random.default_rng(0).integers(label.qmin, label.qmax + 1, shape).astype(STORAGE[label.dtype])
    expected = np.asarray(program.compile(threads=2).run(codes))
    own = differing(in_portions(program, codes), expected)
    answers = {runtime: answer(runtime, name, codes) for runtime in RUNTIMES}
    refusals = [
        f"{RUNTIMES[r]} refuses `{name}`: {shorten(said, 90)}" for r, said in answers.items() if isinstance(said, str)
    ]
    public = ["refused" if isinstance(said, str) else differing(said, expected) for said in answers.values()]
    same = "the same bytes" if from_bytes(to_bytes(program)).digest() == program.digest() else "another Program"
    row = (f"`{name}`", len(program.instructions), f"{expected.size:,}", own, *public, same)
    return {**dict(zip(RANDOM_COLUMNS, row, strict=True)), "refusals": refusals}


def data_cell(name: str, load: Callable[[], Data]) -> Cell:
    """On a file's own data: Unfloat's accuracy, a public runtime's, and the codes that differ."""
    samples, program, runtime = load(), unfloat.load(path_of(name)), FILES[name][0]
    codes = quantize(samples.x, program.tensors[program.inputs[0].value].qparams)
    ours = np.asarray(program.compile(threads=2).run(codes))
    theirs = answer(runtime, name, codes)
    if isinstance(theirs, str):
        raise RuntimeError(f"{name} must run in {RUNTIMES[runtime]}, found: {theirs}")
    shares = (percent(out.argmax(1) == samples.y) for out in (ours, theirs))
    counts = (f"{ours.size:,}", differing(theirs, ours))
    row = (f"`{name}`", samples.name, len(samples.y), *shares, RUNTIMES[runtime], *counts)
    return dict(zip(DATA_COLUMNS, row, strict=True))


def float_cell(name: str) -> Cell:
    """A float file quantized here beside its makers' int8 file; the difference is of the same samples, pair by pair."""
    makers, load, load_makers = FLOAT_FILES[name]
    own, other = load(), load_makers()
    reals = answer("xnnpack", name, own.x)  # LiteRT's default kernels
    if isinstance(reals, str):
        raise RuntimeError(f"{name} must run in LiteRT, found: {reals}")
    program = unfloat.quantize(path_of(name), [calibration(name)], progress=False)
    right = [out.argmax(1) == own.y for out in (reals, program.compile(threads=2)(own.x))]
    right.append(unfloat.load(path_of(makers)).compile(threads=2)(other.x).argmax(1) == other.y)
    pairs = right[1].astype(float) - right[2]
    error = 100 * pairs.std(ddof=1) / len(pairs) ** 0.5
    row = (f"`{name}`", own.name, len(own.y), *map(percent, right), f"{100 * pairs.mean():+.2f}", f"{error:.2f}")
    return dict(zip(FLOAT_COLUMNS, row, strict=True))


def percent(right: np.ndarray) -> str:
    """The share of samples named right."""
    return f"{100 * right.mean():.2f}"


def calibration(name: str) -> np.ndarray:
    """Inputs like a file's own, none of those it is evaluated on."""
    if name == "mnist_resnet_f":
        return digits("train").x[:CALIBRATION]
    if name == "pretrainedResnet":
        return data.cifar10("train")[0][:CALIBRATION].astype(np.float32)
    size, statistics = (96, UNIT) if name == "vww_96_float" else (128, data.SYMMETRIC_STATISTICS)
    return _normal(data.imagenet("train1000", CALIBRATION, size)[0], statistics)


def cells(name: str) -> Iterator[tuple[str, Callable[[], Cell]]]:
    """A file's measurements, each under the table it stands in and what tells it there."""
    if name in FLOAT_FILES:
        yield f"float/{name}", partial(float_cell, name)
        return
    yield f"random/{name}", partial(random_cell, name)
    for index, load in enumerate(FILES[name][1]):
        yield f"data/{name}/{index}", partial(data_cell, name, load)


def write_page(found: dict[str, Cell]) -> None:
    """What has been measured, in the order of the lists above."""
    every = [key for name in (*FILES, *FLOAT_FILES) for key, _ in cells(name)]
    order, missing = ([key for key in every if (key in found) is there] for there in (True, False))

    def rows(table: str, columns: tuple[str, ...]) -> list[list[object]]:
        return [[found[key][column] for column in columns] for key in order if key.startswith(f"{table}/")]

    refusals = [f"- {refusal}" for key in order for refusal in found[key].get("refusals", [])]
    notes = [
        f"{RANDOM} random inputs a file in engine, interpreter, TFLM (TensorFlow Lite Micro) and LiteRT's reference kernels;",
        "differences are from the engine's codes. LiteRT requantizes FULLY_CONNECTED in floating point, by its design.",
        "",
        *refusals,
        "",
        "On their data, the engine and one public runtime:",
        "",
        *results.table(DATA_COLUMNS, rows("data", DATA_COLUMNS)),
        "",
        "The float files quantized here, beside their makers' int8 files:",
        "",
        *results.table(FLOAT_COLUMNS, rows("float", FLOAT_COLUMNS)),
        "",
        f"Calibrated with {CALIBRATION} samples, none of them evaluated: training digits, training pictures of CIFAR-10, and",
        "`train1000` for the other two. Difference and standard error are of the same samples, pair by pair, in points.",
    ]
    notes += ["", f"Still to be measured: {', '.join(f'`{key}`' for key in missing)}."] if missing else []
    results.write("public_models", "Others' .tflite files", RANDOM_COLUMNS, rows("random", RANDOM_COLUMNS), notes)


def main() -> None:
    """Measure what is missing, add it to what was found before, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=[*FILES, *FLOAT_FILES])
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Cell] = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    wanted = [cell for name in arguments.files for cell in cells(name)]
    missing = [(key, measure) for key, measure in wanted if arguments.fresh or key not in found]
    for key, measure in tqdm(missing, disable=not sys.stderr.isatty()):
        found[key] = measure()
        FOUND.write_text(json.dumps(found, indent=1))
    write_page(found)


if __name__ == "__main__":
    main()
