"""Random small networks of one operator as the public converter writes them. Run by the environment `converter`.

    python write_converted.py FOLDER MODELS [OPERATOR ...]

A PyTorch module becomes a float `.tflite` file by litert-torch, and that quantized ones by litert-quantizer, each with
ranges that it measures on other random inputs: FOLDER/OPERATOR_WIDTH_INDEX.tflite. Files that are there are not made
again. What the converter refuses is written in their place, as text. Images are read channels last, so that no TRANSPOSE
comes with them. Operators that litert-quantizer leaves in float are not here.
"""

from __future__ import annotations

import logging
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from litert_quantizer import recipe
from litert_quantizer.quantizer import Quantizer
from torch.nn import functional as F

Rng = np.random.Generator
Shapes = list[tuple[int, ...]]
Made = tuple[torch.nn.Module, Shapes]
RECIPES = {"int8": recipe.static_wi8_ai8, "int16": recipe.static_wi8_ai16}
CALIBRATION = 3
RANGES = 5  # quantized files of one float file


class Applied(torch.nn.Module):
    """A function, or a module, of any number of inputs; after it, another function."""

    def __init__(self, function: Callable[..., Any], after: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.function, self.after = function, after

    def forward(self, *inputs: torch.Tensor) -> Any:
        outputs = self.function(*inputs)
        return outputs if self.after is None else self.after(outputs)


class ChannelsLast(torch.nn.Module):
    """A module of images whose channels come first, for images whose channels come last."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Lookup(torch.nn.Module):
    """Rows of a table, and something on them; its input are integers."""

    def __init__(self, rows: int, width: int, after: Callable[..., Any]) -> None:
        super().__init__()
        self.table, self.after, self.rows = torch.nn.Embedding(rows, width), after, rows

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.after(self.table(ids))


def shape(rng: Rng, rank: int = 4, most: int = 9) -> tuple[int, ...]:
    """Of one sample."""
    return (1, *(int(n) for n in rng.integers(1, most + 1, rank - 1)))


def image(rng: Rng, channels: int, least: int) -> tuple[int, ...]:
    """Of one sample, channels last."""
    height, width = (int(n) for n in rng.integers(least, least + 8, 2))
    return (1, height, width, channels)


def window(rng: Rng) -> dict[str, Any]:
    """A kernel that images of 7 by 7 and more have room for."""
    kernel = tuple(int(n) for n in rng.integers(1, 5, 2))
    return {"kernel_size": kernel, "stride": tuple(int(n) for n in rng.integers(1, 4, 2))}


def activated(rng: Rng, function: Callable[..., Any]) -> Applied:
    """Perhaps with an activation, which the converter makes the operator's own."""
    return Applied(function, (None, F.relu, F.relu6)[rng.integers(3)])


def conv(rng: Rng) -> Made:
    inputs, outputs = (int(n) for n in rng.integers(1, 18, 2))
    padded = {"padding": "same", "stride": 1} if rng.random() < 0.4 else {"padding": "valid"}
    dilation = tuple(int(n) for n in rng.integers(1, 3, 2))
    module = torch.nn.Conv2d(inputs, outputs, bias=bool(rng.integers(2)), dilation=dilation, **window(rng) | padded)
    return ChannelsLast(activated(rng, module)), [image(rng, inputs, 7)]


def depthwise(rng: Rng) -> Made:
    channels = int(rng.integers(2, 18))
    module = torch.nn.Conv2d(
        channels, channels * int(rng.integers(1, 3)), groups=channels, bias=bool(rng.integers(2)), **window(rng)
    )
    return ChannelsLast(activated(rng, module)), [image(rng, channels, 7)]


def transposed(rng: Rng) -> Made:
    inputs, outputs = (int(n) for n in rng.integers(1, 12, 2))
    module = torch.nn.ConvTranspose2d(inputs, outputs, bias=bool(rng.integers(2)), **window(rng))
    return ChannelsLast(module), [image(rng, inputs, 2)]


def linear(rng: Rng) -> Made:
    inputs, outputs = (int(n) for n in rng.integers(1, 40, 2))
    module = torch.nn.Linear(inputs, outputs, bias=bool(rng.integers(2)))
    rows = () if rng.random() < 0.5 else (int(rng.integers(2, 6)),)
    return activated(rng, module), [(1, *rows, inputs)]


def batch_matmul(rng: Rng) -> Made:
    batch, rows, depth, columns = (int(n) for n in rng.integers(1, 9, 4))
    return Applied(torch.matmul), [(1, batch, rows, depth), (1, batch, depth, columns)]


def joint(function: Callable[..., Any], ends: bool = True) -> Callable[[Rng], Made]:
    """Of two operands, the second one sometimes of one value a channel."""

    def made(rng: Rng) -> Made:
        first = shape(rng, int(rng.integers(2, 5)))
        return activated(rng, function) if ends else Applied(function), [
            first,
            (*(1,) * (len(first) - 1), first[-1]) if rng.random() < 0.3 else first,
        ]

    return made


def pooled(module: Callable[..., torch.nn.Module]) -> Callable[[Rng], Made]:
    return lambda rng: (ChannelsLast(module(**window(rng))), [image(rng, int(rng.integers(1, 18)), 7)])


def each(function: Callable[..., Any]) -> Callable[[Rng], Made]:
    """Of every value."""
    return lambda rng: (Applied(function), [shape(rng, int(rng.integers(2, 5)))])


def fixed(draw: Callable[[Rng, int, int], Callable[..., Any]]) -> Callable[[Rng], Made]:
    """Along an axis, with more that is drawn once."""

    def made(rng: Rng) -> Made:
        found = tuple(int(n) for n in rng.integers(2, 9, 3))
        axis = int(rng.integers(1, 4))
        return Applied(draw(rng, axis, (1, *found)[axis])), [(1, *found)]

    return made


def reduced(function: Callable[..., Any]) -> Callable[[Rng], Made]:
    def made(rng: Rng) -> Made:
        axes = [(1, 2), (1,), (2,), (3,)][rng.integers(4)]
        keep = bool(rng.integers(2))
        return Applied(lambda x: function(x, dim=axes, keepdim=keep)), [shape(rng, 4)]

    return made


def part(rng: Rng, axis: int, extent: int) -> Callable[..., Any]:
    length = int(rng.integers(1, extent))
    start = int(rng.integers(0, extent - length + 1))
    return lambda x: x.narrow(axis, start, length)


def stepped(rng: Rng, axis: int, extent: int) -> Callable[..., Any]:
    step = int(rng.integers(2, 4))
    return lambda x: x[tuple(slice(None, None, step) if i == axis else slice(None) for i in range(4))]


def halves(rng: Rng, axis: int, extent: int) -> Callable[..., Any]:
    return lambda x: torch.split(x, (extent + 1) // 2, axis)


def padding(mode: str) -> Callable[[Rng], Made]:
    def made(rng: Rng) -> Made:
        amounts = [int(n) for n in rng.integers(0, 2 if mode == "reflect" else 4, 4)]
        value = float(rng.choice([0.0, 0.7])) if mode == "constant" else None
        return Applied(lambda x: F.pad(x, [0, 0, *amounts] if mode == "constant" else amounts, mode, value)), [
            image(rng, int(rng.integers(2, 9)), 3)
        ]

    return made


def resized(mode: str) -> Callable[[Rng], Made]:
    def made(rng: Rng) -> Made:
        size = tuple(int(n) for n in rng.integers(2, 15, 2))
        corners = {} if mode == "nearest" else {"align_corners": bool(rng.integers(2))}
        return ChannelsLast(Applied(lambda x: F.interpolate(x, size, mode=mode, **corners))), [
            image(rng, int(rng.integers(1, 9)), 2)
        ]

    return made


def reshaped(rng: Rng) -> Made:
    found = shape(rng, 4)
    return Applied(lambda x: x.reshape(1, -1, found[1])), [found]


def permuted(rng: Rng) -> Made:
    order = [0, *(int(n) + 1 for n in rng.permutation(3))]
    return Applied(lambda x: x.permute(order)), [shape(rng, 4)]


def joined(rng: Rng) -> Made:
    first = shape(rng, 4)
    axis = int(rng.integers(1, 4))
    second = tuple(int(rng.integers(1, 9)) if i == axis else n for i, n in enumerate(first))
    return Applied(lambda x, y: torch.cat([x, y], axis)), [first, second]


def stacked(rng: Rng) -> Made:
    first, axis = shape(rng, 3), int(rng.integers(1, 4))
    return Applied(lambda x, y: torch.stack([x, y], axis)), [first, first]


def blocks(rng: Rng) -> Made:
    height, width = (2 * int(n) for n in rng.integers(1, 6, 2))
    return ChannelsLast(torch.nn.PixelUnshuffle(2)), [(1, height, width, int(rng.integers(1, 6)))]


def embedding(rng: Rng) -> Made:
    after = [lambda rows: rows, torch.relu, lambda rows: rows.mean(1)][rng.integers(0, 3)]
    return Lookup(int(rng.integers(2, 99)), int(rng.integers(1, 17)), after), [(1, int(rng.integers(2, 12)))]


OPERATORS: dict[str, Callable[[Rng], Made]] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transposed,
    "FULLY_CONNECTED": linear,
    "BATCH_MATMUL": batch_matmul,
    "ADD": joint(torch.add),
    "SUB": joint(torch.sub),
    "MUL": joint(torch.mul),
    "MAXIMUM": joint(torch.maximum, ends=False),
    "AVERAGE_POOL_2D": pooled(torch.nn.AvgPool2d),
    "MAX_POOL_2D": pooled(torch.nn.MaxPool2d),
    "MEAN": reduced(torch.mean),
    "SUM": reduced(torch.sum),
    "REDUCE_MIN": reduced(torch.amin),
    "SOFTMAX": each(lambda x: torch.softmax(x, -1)),
    "LOGISTIC": each(torch.sigmoid),
    "TANH": each(torch.tanh),
    "RELU": each(torch.relu),
    "HARD_SWISH": each(F.hardswish),
    "SILU": each(F.silu),
    "RESHAPE": reshaped,
    "TRANSPOSE": permuted,
    "PAD": padding("constant"),
    "MIRROR_PAD": padding("reflect"),
    "CONCATENATION": joined,
    "PACK": stacked,
    "UNPACK": fixed(lambda rng, axis, extent: lambda x: torch.unbind(x, axis)),
    "SPLIT": fixed(halves),
    "SLICE": fixed(part),
    "STRIDED_SLICE": fixed(stepped),
    "RESIZE_BILINEAR": resized("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": resized("nearest"),
    "SPACE_TO_DEPTH": blocks,
    "EMBEDDING_LOOKUP": embedding,
    "DEPTH_TO_SPACE": lambda rng: (ChannelsLast(torch.nn.PixelShuffle(2)), [image(rng, 8, 1)]),
}


def quantized(model: bytes, module: torch.nn.Module, shapes: Shapes, index: int, width: str) -> bytes:
    """A float file with the ranges of random inputs."""
    rng = np.random.default_rng(index)
    spreads = np.exp(rng.normal(0, 1.5, len(shapes)))
    offsets = rng.normal(0, 0.5, len(shapes)) * spreads

    def sample(i: int) -> np.ndarray:
        if isinstance(module, Lookup):
            return rng.integers(0, module.rows, shapes[i]).astype(np.int32)
        return rng.normal(offsets[i], spreads[i], shapes[i]).astype(np.float32)

    samples = [{f"args_{i}": sample(i) for i in range(len(shapes))} for _ in range(CALIBRATION)]
    quantizer = Quantizer(model, RECIPES[width]())
    found = quantizer.calibrate({"serving_default": samples}, num_threads=1)
    return bytes(quantizer.quantize(found).quantized_model)


def converted(name: str, index: int, folder: Path) -> tuple[bytes, torch.nn.Module, Shapes]:
    """A float file, what it was made of, and the shapes of its inputs."""
    rng = np.random.default_rng([index, zlib.crc32(name.encode())])
    torch.manual_seed(int(rng.integers(2**31)))
    module, shapes = OPERATORS[name](rng)
    path = folder / "float.tflite"
    kind = torch.int32 if isinstance(module, Lookup) else torch.float32
    litert_torch.convert(module.eval(), tuple(torch.zeros(found, dtype=kind) for found in shapes)).export(str(path))
    return path.read_bytes(), module, shapes


def write(folder: Path, name: str, models: range) -> None:
    """Files of one float network, of both widths."""
    paths = {(w, i): folder / f"{name}_{w}_{i}.tflite" for i in models for w in RECIPES}
    if all(path.exists() for path in paths.values()):
        return
    try:
        model, module, shapes = converted(name, models.start, folder)
        for (width, index), path in paths.items():
            path.write_bytes(quantized(model, module, shapes, index, width))
    except Exception as error:  # of any kind: what the converter does not do is its to say
        for path in paths.values():
            path.write_text(f"refused: {error!r}"[:400])


def main() -> None:
    """Write what is missing."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    folder, models, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or OPERATORS:
        for first in range(0, models, RANGES):
            write(folder, name, range(first, min(first + RANGES, models)))


if __name__ == "__main__":
    main()
