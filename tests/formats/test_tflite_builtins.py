"""Random one-operator files of others' making: TensorFlow Lite Micro, interpreter and engine give the same codes.

UNFLOAT_PEER_MODELS sets how many random models of each builtin are run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.conformance.generate import codes_for, generator
from tests.peers.call import peer
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import Shape
from unfloat.program.interpret import interpret
from unfloat.runtime.engine import Engine
from unfloat.spec.errors import UnsupportedError

MODELS = int(os.environ.get("UNFLOAT_PEER_MODELS", "5"))
Rng = np.random.Generator
Numbers = np.ndarray | list[int] | int


class Built(NamedTuple):
    """One operator: operands in order (shapes of activations, numbers of constants), results, options' fields."""

    operands: list[tuple[str, Any]]  # ("codes", shape), ("numbers", integers) or ("code", one code of the label)
    results: list[Shape]
    options: str
    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed
    plain: bool = False  # the result is int32 numbers, not codes


def sizes(rng: Rng, least: int = 2, most: int = 4) -> Shape:
    """A shape with the batch of 1."""
    return (1, *(int(size) for size in rng.integers(1, 8, int(rng.integers(least, most + 1)) - 1)))


def an_axis(rng: Rng, shape: Shape, negative: bool = True) -> int:
    axis = int(rng.integers(1, len(shape)))
    return axis - len(shape) if negative and rng.random() < 0.4 else axis


def replaced(shape: Shape, axis: int, *sizes: int) -> Shape:
    axis %= len(shape)
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def slice_(rng: Rng) -> Built:
    shape = sizes(rng, 2, 5)
    begin = [0, *(int(rng.integers(0, extent)) for extent in shape[1:])]
    size = [1, *(int(rng.integers(1, extent - first + 1)) for first, extent in zip(begin[1:], shape[1:], strict=True))]
    said = [-1 if rng.random() < 0.3 and b + s == e else s for b, s, e in zip(begin, size, shape, strict=True)]
    return Built([("codes", shape), ("numbers", begin), ("numbers", said)], [tuple(size)], "SliceOptions")


def strided_slice(rng: Rng) -> Built:
    """Bounds inside and outside, counted from either end; masks; axes that go."""
    shape = sizes(rng)
    begin, end, stride, result = [0], [1], [1], [1]
    masks = {"BeginMask": 0, "EndMask": 0, "ShrinkAxisMask": 0}
    for axis, extent in enumerate(shape[1:], 1):
        while True:
            bounds = (int(rng.integers(-extent - 2, extent + 3)), int(rng.integers(-extent - 2, extent + 3)))
            step = int(rng.choice([1, 1, 2, 3, -1, -2]))
            on = {name: rng.random() < 0.2 for name in masks}
            if on["ShrinkAxisMask"]:
                step, on = 1, {"BeginMask": False, "EndMask": False, "ShrinkAxisMask": -extent <= bounds[0] < extent}
            chosen = slice(*(None if on[m] else b for m, b in zip(masks, bounds, strict=False)), step)
            count = 1 if on["ShrinkAxisMask"] else len(range(extent)[chosen])
            if count:
                break
        for values, value in zip((begin, end, stride), (*bounds, step), strict=True):
            values.append(value)
        masks = {name: mask | on[name] << axis for name, mask in masks.items()}
        result += [] if on["ShrinkAxisMask"] else [count]
    constants = [("numbers", values) for values in (begin, end, stride)]
    return Built([("codes", shape), *constants], [tuple(result)], "StridedSliceOptions", masks)


def split(rng: Rng) -> Built:
    shape, parts = sizes(rng), int(rng.integers(1, 5))
    axis = an_axis(rng, shape)
    size = int(rng.integers(1, 4))
    whole = replaced(shape, axis, size * parts)
    results = [replaced(shape, axis, size)] * parts
    return Built([("numbers", axis), ("codes", whole)], results, "SplitOptions", {"NumSplits": parts})


def split_v(rng: Rng) -> Built:
    shape = sizes(rng)
    axis, wanted = an_axis(rng, shape), [int(s) for s in rng.integers(1, 4, rng.integers(1, 5))]
    results = [replaced(shape, axis, size) for size in wanted]
    operands = [("codes", replaced(shape, axis, sum(wanted))), ("numbers", wanted), ("numbers", axis)]
    return Built(operands, results, "SplitVOptions", {"NumSplits": len(wanted)})


def pack(rng: Rng) -> Built:
    shape, count = sizes(rng, 2, 4), int(rng.integers(1, 5))
    axis = int(rng.integers(1, len(shape) + 1))
    result = (*shape[:axis], count, *shape[axis:])
    said = axis - len(result) if rng.random() < 0.4 else axis
    return Built([("codes", shape)] * count, [result], "PackOptions", {"Axis": said, "ValuesCount": count})


def unpack(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    count = shape[axis]
    return Built([("codes", shape)], [replaced(shape, axis)] * count, "UnpackOptions", {"Num": count, "Axis": axis})


def gather(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    indices = rng.integers(0, shape[axis], tuple(rng.integers(1, 5, rng.integers(1, 3))))
    operands = [("codes", shape), ("numbers", indices)]
    return Built(operands, [replaced(shape, axis, *indices.shape)], "GatherOptions", {"Axis": axis, "BatchDims": 0})


def mirror_pad(rng: Rng) -> Built:
    mode, shape = str(rng.choice(["REFLECT", "SYMMETRIC"])), sizes(rng)
    most = [extent - (mode == "REFLECT") for extent in shape[1:]]
    pairs = np.array([[0, 0], *([int(a) for a in rng.integers(0, m + 1, 2)] for m in most)])
    result = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    return Built(
        [("codes", shape), ("numbers", pairs)], [result], "MirrorPadOptions", {"Mode": ("MirrorPadMode", mode)}
    )


def padv2(rng: Rng) -> Built:
    shape = sizes(rng)
    pairs = np.array([[0, 0], *rng.integers(0, 3, (len(shape) - 1, 2))])
    result = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    return Built(
        [("codes", shape), ("numbers", pairs), ("code", int(rng.integers(-128, 128)))], [result], "PadV2Options"
    )


def resize(options: str, *, both: bool) -> Callable[[Rng], Built]:
    def build(rng: Rng) -> Built:
        image = tuple(int(s) for s in (1, *rng.integers(1, 12, 2), rng.integers(1, 5)))
        size = [int(s) for s in rng.integers(1, 25, 2)]
        modes = [(0, 0), (1, 0), (0, 1), *([(1, 1)] if both else [])]
        corners, centres = modes[rng.integers(0, len(modes))]
        fields = {"AlignCorners": bool(corners), "HalfPixelCenters": bool(centres)}
        return Built([("codes", image), ("numbers", size)], [(1, *size, image[3])], options, fields)

    return build


def space_to_depth(rng: Rng) -> Built:
    b, rows, columns, channels = (int(s) for s in rng.integers(1, 5, 4))
    shape, result = (1, rows * b, columns * b, channels), (1, rows, columns, channels * b * b)
    return Built([("codes", shape)], [result], "SpaceToDepthOptions", {"BlockSize": b})


def depth_to_space(rng: Rng) -> Built:
    made = space_to_depth(rng)
    return Built([("codes", made.results[0])], [made.operands[0][1]], "DepthToSpaceOptions", made.fields)


def pair(rng: Rng) -> Built:
    shape = sizes(rng, 2, 5)
    second = tuple(int(rng.choice([1, extent])) for extent in shape)
    first = tuple(int(rng.choice([e, e if s == 1 else 1, e])) for e, s in zip(shape, second, strict=True))
    operands = [("codes", first), ("codes", second)]
    result = tuple(np.broadcast_shapes(first, second))
    return Built(operands, [result], "MaximumMinimumOptions")


def reduction(rng: Rng) -> Built:
    shape = sizes(rng)
    chosen = sorted(int(a) + 1 for a in rng.choice(len(shape) - 1, int(rng.integers(1, len(shape))), replace=False))
    keep = bool(rng.integers(0, 2))
    kept = tuple(1 if axis in chosen else extent for axis, extent in enumerate(shape))
    result = kept if keep else tuple(extent for axis, extent in enumerate(shape) if axis not in chosen)
    said = [axis - len(shape) if rng.random() < 0.3 else axis for axis in chosen]
    return Built([("codes", shape), ("numbers", said)], [result], "ReducerOptions", {"KeepDims": keep})


def arg_max(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    fields = {"OutputType": ("TensorType", "INT32")}
    return Built([("codes", shape), ("numbers", [axis])], [replaced(shape, axis)], "ArgMaxOptions", fields, plain=True)


def squeeze(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = int(rng.integers(1, len(shape)))
    return Built(
        [("codes", replaced(shape, axis, 1))], [replaced(shape, axis)], "SqueezeOptions", {"SqueezeDims": (axis,)}
    )


def expand_dims(rng: Rng) -> Built:
    shape = sizes(rng, 2, 4)
    axis = int(rng.integers(1, len(shape) + 1))
    return Built([("codes", shape), ("numbers", [axis])], [(*shape[:axis], 1, *shape[axis:])], "ExpandDimsOptions")


BUILTINS: dict[str, Callable[[Rng], Built]] = {
    "ARG_MAX": arg_max,
    "DEPTH_TO_SPACE": depth_to_space,
    "EXPAND_DIMS": expand_dims,
    "GATHER": gather,
    "MAXIMUM": pair,
    "MINIMUM": pair,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PADV2": padv2,
    "REDUCE_MAX": reduction,
    "REDUCE_MIN": reduction,
    "RESIZE_BILINEAR": resize("ResizeBilinearOptions", both=False),
    "RESIZE_NEAREST_NEIGHBOR": resize("ResizeNearestNeighborOptions", both=True),
    "SLICE": slice_,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": squeeze,
    "STRIDED_SLICE": strided_slice,
    "UNPACK": unpack,
}


def file_of(builtin: str, built: Built, rng: Rng) -> bytes:
    """The model of one operator, its codes under one random label."""
    label = Quantization((float(np.float32(2.0 ** rng.uniform(-8, -3))),), int(rng.integers(-128, 128)))
    tensors, inputs = {}, []
    for index, (kind, value) in enumerate(built.operands):
        name = f"operand{index}"
        if kind == "codes":
            tensors[name] = TfTensor(name, value, "int8", label)
            inputs.append((name, name))
        elif kind == "code":
            tensors[name] = TfTensor(name, (1,), "int8", label, np.array([value], np.int8))
        else:
            data = np.array(value, np.int32)
            tensors[name] = TfTensor(name, data.shape, "int32", None, data)
    operands = tuple(tensors)
    results = tuple(f"result{index}" for index in range(len(built.results)))
    for name, shape in zip(results, built.results, strict=True):
        tensors[name] = TfTensor(name, shape, *(("int32", None) if built.plain else ("int8", label)))
    operator = TfOperator(builtin, 2, operands, results, built.options, built.fields)
    return encode(TfModel(tensors, (operator,), tuple(inputs), tuple((n, n) for n in results)), "one operator")


@pytest.mark.parametrize("builtin", BUILTINS)
def test_random_files(builtin: str) -> None:
    """Read, run, written and read again."""
    rng, tflm = generator("files", builtin), peer("tflm")
    jobs = []
    for index in range(MODELS):
        content = file_of(builtin, BUILTINS[builtin](rng), rng)
        program = from_bytes(content)
        jobs.append((content, program, codes_for(program, 1, f"{builtin} {index}")))
    answers = tflm([(content, codes) for content, _, codes in jobs])
    for (_, program, codes), answer in zip(jobs, answers, strict=True):
        assert not isinstance(answer, str), f"{program.instructions}: {answer}"
        expected = interpret(program, codes)
        found = Engine(program).run(*codes)
        for public, own, native in zip(answer, expected, found if len(expected) > 1 else [found], strict=True):
            np.testing.assert_array_equal(public.reshape(own.shape), own, str(program.instructions))
            np.testing.assert_array_equal(native, own)
        again = from_bytes(to_bytes(program))
        assert again.digest() == from_bytes(to_bytes(again)).digest()
        for one, other in zip(interpret(again, codes), expected, strict=True):
            np.testing.assert_array_equal(one.reshape(other.shape), other)


def masked(
    shape: Shape, result: Shape, rows: list[tuple[int, int, int]], **masks: int
) -> tuple[np.ndarray, np.ndarray]:
    """A strided slice of a file, and the codes that went in."""
    constants = [("numbers", list(column)) for column in zip(*rows, strict=True)]
    built = Built([("codes", shape), *constants], [result], "StridedSliceOptions", masks)
    program = from_bytes(file_of("STRIDED_SLICE", built, generator("masks")))
    codes = codes_for(program, 1, "masks")
    return interpret(program, codes)[0], codes[0]


def test_masks_that_micro_does_not_know() -> None:
    """Ellipsis and new axes, as NumPy's."""
    found, x = masked((1, 3, 4, 5), (1, 3, 4, 2), [(0, 1, 1), (0, 0, 1), (1, 5, 2)], EllipsisMask=2)
    np.testing.assert_array_equal(found, x[..., 1:5:2])
    found, x = masked((1, 3, 4), (1, 2, 1, 4), [(0, 1, 1), (1, 3, 1), (0, 0, 1), (0, 4, 1)], NewAxisMask=4)
    np.testing.assert_array_equal(found, x[:, 1:3, None])
    found, x = masked((1, 3, 4, 5), (1, 1, 4), [(0, 1, 1), (0, 0, 1), (1, 2, 1), (0, 0, 1), (2, 0, 1)],
                      EllipsisMask=8, NewAxisMask=2, ShrinkAxisMask=20)  # fmt: skip
    np.testing.assert_array_equal(found, x[:, None, 1, ..., 2])


def dilated(rng: Rng) -> tuple[bytes, bytes]:
    """A convolution between the two ends of a batch of blocks, and the same without: only the ends."""
    channels, kernel = int(rng.integers(1, 5)), tuple(int(k) for k in rng.integers(1, 4, 2))
    block = [int(b) for b in rng.integers(1, 4, 2)]
    phases = [int(k + rng.integers(0, 4)) for k in kernel]  # of each phase, at least one window
    borders = [[int(rng.integers(0, min(2, b * p - 1) + 1)), 0] for b, p in zip(block, phases, strict=True)]
    image = (1, *(b * p - sum(e) for b, p, e in zip(block, phases, borders, strict=True)), channels)
    depthwise = bool(rng.integers(0, 2))
    outputs = channels if depthwise else int(rng.integers(1, 5))
    results = [p - k + 1 for p, k in zip(phases, kernel, strict=True)]
    return (
        _blocks(rng, image, block, borders, phases, results, (kernel, outputs, depthwise)),
        _blocks(rng, image, block, borders, phases, phases, None),
    )


def _blocks(
    rng: Rng,
    image: Shape,
    block: list[int],
    borders: list[list[int]],
    phases: list[int],
    results: list[int],
    convolution: tuple[tuple[int, ...], int, bool] | None,
) -> bytes:
    kernel, outputs, depthwise = convolution or ((), image[3], False)
    batch = block[0] * block[1]
    crops = [[int(rng.integers(0, min(2, b * r - 1) + 1)), 0] for b, r in zip(block, results, strict=True)]
    kept = [b * r - sum(c) for b, r, c in zip(block, results, crops, strict=True)]
    label = Quantization((0.05,), int(rng.choice([0, 7])))

    def numbers(name: str, values: list[Any]) -> TfTensor:
        return TfTensor(name, np.array(values).shape, "int32", None, np.array(values, np.int32))

    tensors = [
        TfTensor("x", image, "int8", label),
        numbers("block", block),
        numbers("borders", borders),
        numbers("crops", crops),
        TfTensor("phases", (batch, *phases, image[3]), "int8", label),
        TfTensor("y", (1, *kept, outputs), "int8", label),
    ]
    inside: list[TfOperator] = []
    if convolution:
        weight = rng.integers(-127, 128, (1, *kernel, outputs) if depthwise else (outputs, *kernel, image[3]))
        scale = Quantization(tuple(float(np.float32(s)) for s in rng.uniform(0.001, 0.02, outputs)), 0, 3 * depthwise)
        bias = Quantization(tuple(float(np.float32(np.float32(0.05) * np.float32(s))) for s in scale.scale))
        tensors += [
            TfTensor("weight", weight.shape, "int8", scale, weight.astype(np.int8)),
            TfTensor("bias", (outputs,), "int32", bias, rng.integers(-500, 500, outputs).astype(np.int32)),
            TfTensor("mixed", (batch, *results, outputs), "int8", label),
        ]
        fields: dict[str, Any] = {"Padding": ("Padding", "VALID"), "StrideH": 1, "StrideW": 1}
        fields |= {"DilationHFactor": 1, "DilationWFactor": 1, **({"DepthMultiplier": 1} if depthwise else {})}
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        inside = [TfOperator(name, 3, ("phases", "weight", "bias"), ("mixed",), options, fields)]
    last = "mixed" if convolution else "phases"
    operators = (
        TfOperator("SPACE_TO_BATCH_ND", 2, ("x", "block", "borders"), ("phases",), "SpaceToBatchNDOptions"),
        *inside,
        TfOperator("BATCH_TO_SPACE_ND", 2, (last, "block", "crops"), ("y",), "BatchToSpaceNDOptions"),
    )
    return encode(TfModel({t.name: t for t in tensors}, operators, (("x", "x"),), (("y", "y"),)), "blocks")


def test_blocks_in_the_batch_are_dilations() -> None:
    """LiteRT's border is real 0. TensorFlow Lite Micro's is code 0, which is the same where the zero point is 0."""
    rng = generator("blocks")
    files = [content for _ in range(MODELS) for content in dilated(rng)]
    programs = [from_bytes(content) for content in files]
    codes = [codes_for(program, 1, f"blocks {index}") for index, program in enumerate(programs)]
    for runtime in ("litert", "tflm"):
        answers = peer(runtime)(list(zip(files, codes, strict=True)))
        for program, given, answer in zip(programs, codes, answers, strict=True):
            bordered = any(i.op == "pad" and i.attributes["value"] for i in program.instructions)
            if runtime == "tflm" and bordered:
                continue
            assert not isinstance(answer, str), f"{program.instructions}: {answer}"
            np.testing.assert_array_equal(answer[0], interpret(program, given)[0], str(program.instructions))


def test_pixels_that_stay_in_the_batch_are_refused() -> None:
    numbers = [("numbers", [2, 2]), ("numbers", [[0, 0], [0, 0]])]
    built = Built([("codes", (1, 4, 6, 3)), *numbers], [(4, 2, 3, 3)], "SpaceToBatchNDOptions")
    with pytest.raises(UnsupportedError, match="pixels may not become samples otherwise"):
        from_bytes(file_of("SPACE_TO_BATCH_ND", built, generator("blocks")))
