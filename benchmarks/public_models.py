"""Others' quantized `.tflite` files, read: the public interpreters' codes and accuracy; their float files, quantized here.

    python -m benchmarks.public_models [--samples 1000] [FILE ...]

Interpreter and engine against TensorFlow Lite Micro (int8) and LiteRT's reference kernels, on 100 random inputs; then
engine and one of the public runtimes on the files' own data, where every code is compared, so that equal accuracies
are no luck. The float files of four networks are quantized from 128 samples and stand beside their makers' int8 files.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks import data, results
from benchmarks.data import Statistics
from tests.peers.call import peer

import unfloat
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.spec.qparams import STORAGE, quantize

RANDOM = 100
INTERPRETED = 10  # of the random inputs: NumPy takes its time
CALIBRATION = 128
UNIT: Statistics = ((0.0,) * 3, (255.0,) * 3)
HALF: Statistics = ((128.0,) * 3, (128.0,) * 3)
COLUMNS = (
    "file", "instructions", "interpreter, engine differ", "TFLM differs", "LiteRT differs", "read, written, read",
    "data", "samples", "accuracy", "public accuracy", "codes that differ",
)  # fmt: skip
FLOAT_COLUMNS = (
    "float file",
    "data",
    "samples",
    "float, in LiteRT",
    "quantized here",
    "its makers' int8",
    "standard error",
)


@dataclass(frozen=True)
class Data:
    """Samples that a file was made for: real inputs [n, ...] as its float network takes them, and classes."""

    name: str
    x: np.ndarray
    y: np.ndarray


def cifar10(samples: int) -> Data:
    """Raw pixels, as MLPerf Tiny's ResNet-8 takes them."""
    pictures, labels = data.cifar10("test")
    return Data("CIFAR-10 test", pictures[:samples].astype(np.float32), labels[:samples])


def vww(samples: int) -> Data:
    """Pictures of MLPerf Tiny's kind, person or not, 0 to 1."""
    with np.load(data.folder() / "mlperf_tiny" / "vww_like_coco_96.npz") as file:
        return Data("245 VWW-like pictures", (file["x"][:samples] / 255).astype(np.float32), file["y"][:samples])


def grey_vww(samples: int) -> Data:
    """The same in grey, -1 to 1."""
    colour = vww(samples)
    grey = colour.x @ np.array([0.299, 0.587, 0.114], np.float32)
    return Data("the same in grey", 2 * grey[..., None] - 1, colour.y)


def digits(samples: int) -> Data:
    """MNIST, 0 to 1."""
    with np.load(data.folder() / "mnist_10k_train_10k_test.npz") as file:
        x, y = (next(file[k] for k in file.files if k.endswith("test") and k.startswith(p)) for p in "xy")
    return Data("MNIST test", (x[:samples].reshape(-1, 28, 28, 1) / 255).astype(np.float32), y[:samples])


def imagenet(size: int, statistics: Statistics, background: int) -> Callable[[int], Data]:
    """val650; `background` is 1 where class 0 is none of the 1,000."""

    def load(samples: int) -> Data:
        pictures, labels = data.imagenet("val650", samples, size)
        real = (pictures.astype(np.float32) - np.float32(statistics[0])) / np.float32(statistics[1])
        return Data("val650", real.astype(np.float32), labels + background)

    return load


FILES: dict[str, Callable[[int], Data] | None] = {
    "hello_world_int8": None,
    "micro_speech_quantized": None,
    "mnist_resnet_q": digits,
    "pretrainedResnet_quant": cifar10,
    "vww_96_int8": vww,
    "person_detect": grey_vww,
    "mbnet128_0.25_q": imagenet(128, UNIT, 0),
    "mobilenet_v1_0.25_128_quant": imagenet(128, HALF, 1),
    "tf2_mobilenet_v2_1.0_224_ptq": imagenet(224, data.SYMMETRIC_STATISTICS, 1),
}
FLOAT_FILES: dict[str, tuple[str, Callable[[int], Data], Callable[[int], Data]]] = {  # its own data, its int8 file's
    "mnist_resnet_f": ("mnist_resnet_q", digits, digits),
    "pretrainedResnet": ("pretrainedResnet_quant", cifar10, cifar10),
    "vww_96_float": ("vww_96_int8", vww, vww),
    "mbnet128_0.25_f": ("mbnet128_0.25_q", imagenet(128, data.SYMMETRIC_STATISTICS, 0), imagenet(128, UNIT, 0)),
}


def path_of(name: str) -> Path:
    """A file of the data folder."""
    return data.folder() / "tflite" / f"{name}.tflite"


def answer(runtime: str, name: str, x: np.ndarray) -> np.ndarray | str:
    """A runtime's output codes or reals, or why it refuses the file."""
    (found,) = peer(runtime)([(path_of(name).read_bytes(), [x])])
    return found if isinstance(found, str) else found[0]


def differing(found: np.ndarray | str, expected: np.ndarray) -> str:
    """How many codes differ, of how many; or that the runtime refuses."""
    if isinstance(found, str):
        return "refused"
    return f"{int((found.reshape(expected.shape) != expected).sum())} of {expected.size:,}"


def row(name: str, load: Callable[[int], Data] | None, samples: int) -> list[object]:
    """One file's figures."""
    program = unfloat.load(path_of(name))
    label = program.tensors[program.inputs[0].value].qparams
    shape = (RANDOM, *program.inputs[0].shape[1:])
    codes = np.random.default_rng(0).integers(label.qmin, label.qmax + 1, shape).astype(STORAGE[label.dtype])
    engine = program.compile(threads=2)
    expected = np.asarray(engine.run(codes))
    own = differing(interpret(program, [codes[:INTERPRETED]])[0], expected[:INTERPRETED])
    public = [differing(answer(runtime, name, codes), expected) for runtime in ("tflm", "litert")]
    same = from_bytes(to_bytes(program)).digest() == program.digest()
    found: list[object] = [f"`{name}`", len(program.instructions), own, *public, "same bytes" if same else "differs"]
    return [*found, *(["", "", "", "", ""] if load is None else accuracies(program, name, load(samples)))]


def accuracies(program: Program, name: str, samples: Data) -> list[object]:
    """On a file's own data: Unfloat's accuracy, a public runtime's, and the codes that differ."""
    codes = quantize(samples.x, program.tensors[program.inputs[0].value].qparams)
    ours = np.asarray(program.compile(threads=2).run(codes))
    theirs = next(a for a in (answer(runtime, name, codes) for runtime in ("tflm", "litert")) if not isinstance(a, str))
    shares = [f"{100 * (out.argmax(1) == samples.y).mean():.2f}" for out in (ours, theirs)]
    return [samples.name, len(samples.y), *shares, differing(theirs, ours)]


def float_row(name: str, samples: int) -> list[object]:
    """A float file, quantized here, beside its makers' int8 file; the standard error is that of the paired difference."""
    makers, load, load_makers = FLOAT_FILES[name]
    own, other = load(samples), load_makers(samples)
    program = unfloat.quantize(path_of(name), [calibration(name)], progress=False)
    right = [program.compile(threads=2)(own.x).argmax(1) == own.y]
    right.append(unfloat.load(path_of(makers)).compile(threads=2)(other.x).argmax(1) == other.y)
    reals = answer("litert", name, own.x)
    if isinstance(reals, str):
        raise RuntimeError(f"{name} must run in LiteRT, found: {reals}")
    shares = [f"{100 * share.mean():.2f}" for share in (reals.argmax(1) == own.y, *right)]
    difference = right[0].astype(float) - right[1]
    return [f"`{name}`", own.name, len(own.y), *shares, f"{100 * difference.std() / len(own.y) ** 0.5:.2f}"]


def calibration(name: str) -> np.ndarray:
    """Inputs like a file's own, none of those it is evaluated on where there are others."""
    if name == "mbnet128_0.25_f":
        pictures, _ = data.imagenet("train1000", CALIBRATION, 128)
        mean, std = (np.float32(values) for values in data.SYMMETRIC_STATISTICS)
        return ((pictures.astype(np.float32) - mean) / std).astype(np.float32)
    if name == "pretrainedResnet":
        return data.cifar10("train")[0][:CALIBRATION].astype(np.float32)
    return FLOAT_FILES[name][1](CALIBRATION).x


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=[*FILES, *FLOAT_FILES])
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    rows = [row(name, FILES[name], arguments.samples) for name in arguments.files if name in FILES]
    floats = [float_row(name, arguments.samples) for name in arguments.files if name in FLOAT_FILES]
    notes = [
        f"Random codes: {RANDOM} samples, {INTERPRETED} of them in the interpreter. TensorFlow Lite Micro knows no uint8;",
        "LiteRT refuses `person_detect` for its bias's quantized dimension, which no arithmetic reads.",
        "",
        *results.table(FLOAT_COLUMNS, floats),
        "",
        f"Calibrated with {CALIBRATION} samples: training pictures of CIFAR-10 and ImageNet, else the first ones evaluated.",
    ]
    results.write("public_models", "Others' .tflite files", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
