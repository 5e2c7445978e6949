"""Codes that move, are chosen or compared: all of one label."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.formats.one_operator.built import (
    Built,
    Rng,
    codes,
    filled,
    label_of,
    moved,
    numbers,
    sizes,
)
from unfloat.formats.tflite.builtins import MAX_CONCATENATED
from unfloat.ir.graph import Shape


def concatenation(rng: Rng) -> Built:
    shape, count = sizes(rng), int(rng.integers(1, MAX_CONCATENATED + 1))
    axis = an_axis(rng, shape)
    lengths = [int(n) for n in rng.integers(1, 5, count)]
    operands = [codes(replaced(shape, axis, n)) for n in lengths]
    return moved(operands, [replaced(shape, axis, sum(lengths))], "ConcatenationOptions", {"Axis": axis})


def concatenation_with_constants(rng: Rng, dtype: str) -> Built:
    """Some of the operands, but one, are constants."""
    built = concatenation(rng)
    computed = int(rng.integers(len(built.operands)))
    operands = [
        filled(rng, value, dtype) if value is not None and index != computed and rng.random() < 0.4 else value
        for index, value in enumerate(built.operands)
    ]
    return built._replace(operands=operands)


def reshape(rng: Rng) -> Built:
    """The sizes in another order, or some of them joined."""
    shape = sizes(rng, 2, 5)
    turned = [int(n) for n in rng.permutation(shape[1:])]
    at = int(rng.integers(0, len(turned)))
    result = (1, *turned[:at], math.prod(turned[at:]))
    return moved([codes(shape), numbers(list(result))], [result], "ReshapeOptions", {"NewShape": result})


def pad(rng: Rng, dtype: str) -> Built:
    built = padv2(rng, dtype)
    return built._replace(operands=built.operands[:2], options="PadOptions")


def transpose(rng: Rng) -> Built:
    """In any order, at times with the batch of 1 among the others."""
    whole = rng.random() < 0.2
    shape = sizes(rng, 2, 4 if whole else 5)
    order = [
        int(axis) for axis in (rng.permutation(len(shape)) if whole else [0, *rng.permutation(range(1, len(shape)))])
    ]
    return moved([codes(shape), numbers(order)], [tuple(shape[axis] for axis in order)], "TransposeOptions")


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
    return moved([codes(shape), numbers(begin), numbers(said)], [tuple(size)], "SliceOptions")


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
                step, on["ShrinkAxisMask"] = 1, on["BeginMask"] or -extent <= bounds[0] < extent
            chosen = slice(*(None if on[m] else b for m, b in zip(masks, bounds, strict=False)), step)
            count = 1 if on["ShrinkAxisMask"] else len(range(extent)[chosen])
            if count:
                break
        for values, value in zip((begin, end, stride), (*bounds, step), strict=True):
            values.append(value)
        masks = {name: mask | on[name] << axis for name, mask in masks.items()}
        result += [] if on["ShrinkAxisMask"] else [count]
    constants = [numbers(values) for values in (begin, end, stride)]
    return moved([codes(shape), *constants], [tuple(result)], "StridedSliceOptions", masks)


def split(rng: Rng) -> Built:
    shape, parts = sizes(rng), int(rng.integers(1, 5))
    axis = an_axis(rng, shape)
    size = int(rng.integers(1, 4))
    whole = replaced(shape, axis, size * parts)
    results = [replaced(shape, axis, size)] * parts
    return moved([numbers(axis), codes(whole)], results, "SplitOptions", {"NumSplits": parts})


def split_v(rng: Rng) -> Built:
    shape = sizes(rng)
    axis, wanted = an_axis(rng, shape), [int(s) for s in rng.integers(1, 4, rng.integers(1, 5))]
    results = [replaced(shape, axis, size) for size in wanted]
    operands = [codes(replaced(shape, axis, sum(wanted))), numbers(wanted), numbers(axis)]
    return moved(operands, results, "SplitVOptions", {"NumSplits": len(wanted)})


def pack(rng: Rng) -> Built:
    shape, count = sizes(rng, 2, 4), int(rng.integers(1, 5))
    axis = int(rng.integers(1, len(shape) + 1))
    result = (*shape[:axis], count, *shape[axis:])
    said = axis - len(result) if rng.random() < 0.4 else axis
    return moved([codes(shape)] * count, [result], "PackOptions", {"Axis": said, "ValuesCount": count})


def unpack(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    count = shape[axis]
    return moved([codes(shape)], [replaced(shape, axis)] * count, "UnpackOptions", {"Num": count, "Axis": axis})


def gather(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    indices = rng.integers(0, shape[axis], tuple(rng.integers(1, 5, rng.integers(1, 3))))
    operands = [codes(shape), numbers(indices)]
    return moved(operands, [replaced(shape, axis, *indices.shape)], "GatherOptions", {"Axis": axis, "BatchDims": 0})


def take(rng: Rng, dtype: str) -> Built:
    """By indices that data decide: rows of a constant, or cells of any axis behind the batch."""
    ids = (1, *(int(n) for n in rng.integers(1, 5, rng.integers(0, 3))))
    by = codes(ids, None, "int32")
    if rng.random() < 0.5:
        table = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 4)))
        fields = {"Axis": int(rng.choice([0, -len(table)])), "BatchDims": 0}
        return moved([filled(rng, codes(table), dtype), by], [(*ids, *table[1:])], "GatherOptions", fields)
    shape = sizes(rng)
    said, together = an_axis(rng, shape), int(rng.integers(0, 2))
    axis, fields = said % len(shape), {"Axis": said, "BatchDims": together}
    result = (*shape[:axis], *ids[together:], *shape[axis + 1 :])
    return moved([codes(shape), by], [result], "GatherOptions", fields)


def tile(rng: Rng) -> Built:
    shape = sizes(rng)
    counts = [1, *(int(n) for n in rng.integers(1, 4, len(shape) - 1))]
    result = tuple(extent * count for extent, count in zip(shape, counts, strict=True))
    return moved([codes(shape), numbers(counts)], [result], "TileOptions")


def mirror_pad(rng: Rng) -> Built:
    mode, shape = str(rng.choice(["REFLECT", "SYMMETRIC"])), sizes(rng)
    most = [extent - (mode == "REFLECT") for extent in shape[1:]]
    pairs = np.array([[0, 0], *([int(a) for a in rng.integers(0, m + 1, 2)] for m in most)])
    result = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    return moved([codes(shape), numbers(pairs)], [result], "MirrorPadOptions", {"Mode": ("MirrorPadMode", mode)})


def padv2(rng: Rng, dtype: str) -> Built:
    shape = sizes(rng)
    pairs = np.array([[0, 0], *rng.integers(0, 3, (len(shape) - 1, 2))])
    result = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    operands = [codes(shape), numbers(pairs), filled(rng, codes((1,)), dtype)]
    return moved(operands, [result], "PadV2Options")


def resize(options: str, *, both: bool) -> Callable[[Rng], Built]:
    def build(rng: Rng) -> Built:
        image = tuple(int(s) for s in (1, *rng.integers(1, 12, 2), rng.integers(1, 5)))
        size = [int(s) for s in rng.integers(1, 25, 2)]
        modes = [(0, 0), (1, 0), (0, 1), *([(1, 1)] if both else [])]
        corners, centres = modes[rng.integers(0, len(modes))]
        fields = {"AlignCorners": bool(corners), "HalfPixelCenters": bool(centres)}
        return moved([codes(image), numbers(size)], [(1, *size, image[3])], options, fields)

    return build


def space_to_depth(rng: Rng) -> Built:
    b, rows, columns, channels = (int(s) for s in rng.integers(1, 5, 4))
    shape, result = (1, rows * b, columns * b, channels), (1, rows, columns, channels * b * b)
    return moved([codes(shape)], [result], "SpaceToDepthOptions", {"BlockSize": b})


def depth_to_space(rng: Rng) -> Built:
    made = space_to_depth(rng)
    (source,), (result,) = made[:2]
    return Built([result], [source], "DepthToSpaceOptions", made.fields)


def pair(rng: Rng) -> Built:
    shape = sizes(rng, 2, 5)
    second = tuple(int(rng.choice([1, extent])) for extent in shape)
    first = tuple(int(rng.choice([e, e if s == 1 else 1, e])) for e, s in zip(shape, second, strict=True))
    operands = [codes(first), codes(second)]
    result = tuple(np.broadcast_shapes(first, second))
    return moved(operands, [result], "MaximumMinimumOptions")


def reduction(rng: Rng) -> Built:
    shape = sizes(rng)
    chosen = sorted(int(a) + 1 for a in rng.choice(len(shape) - 1, int(rng.integers(1, len(shape))), replace=False))
    keep = bool(rng.integers(0, 2))
    kept = tuple(1 if axis in chosen else extent for axis, extent in enumerate(shape))
    result = kept if keep else tuple(extent for axis, extent in enumerate(shape) if axis not in chosen)
    said = [axis - len(shape) if rng.random() < 0.3 else axis for axis in chosen]
    return moved([codes(shape), numbers(said)], [result], "ReducerOptions", {"KeepDims": keep})


def arg_max(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = an_axis(rng, shape)
    fields = {"OutputType": ("TensorType", "INT32")}
    return Built(
        [codes(shape), numbers([axis])], [codes(replaced(shape, axis), None, "int32")], "ArgMaxOptions", fields
    )


def squeeze(rng: Rng) -> Built:
    shape = sizes(rng)
    axis = int(rng.integers(1, len(shape)))
    return moved([codes(replaced(shape, axis, 1))], [replaced(shape, axis)], "SqueezeOptions", {"SqueezeDims": (axis,)})


def expand_dims(rng: Rng) -> Built:
    shape = sizes(rng, 2, 4)
    axis = int(rng.integers(1, len(shape) + 1))
    return moved([codes(shape), numbers([axis])], [(*shape[:axis], 1, *shape[axis:])], "ExpandDimsOptions")


def space_to_batch(rng: Rng) -> Built:
    """Blocks of rows, or of rows and columns, to the leading dimension."""
    count, images = int(rng.integers(1, 3)), int(rng.choice([1, 1, 2]))
    block, whole = rng.integers(1, 4, count), rng.integers(1, 5, count)
    borders = np.array(
        [rng.multinomial(int(rng.integers(0, b * w)), [0.4, 0.4, 0.2])[:2] for b, w in zip(block, whole, strict=True)]
    )
    channels = int(rng.integers(1, 6))
    image = (images, *(block * whole - borders.sum(1)), channels)
    result = (images * block.prod(), *whole, channels)
    operands = [codes(image), numbers(block), numbers(borders)]
    return moved(operands, [result], "SpaceToBatchNDOptions")


def space_to_batch_at_zero(rng: Rng, dtype: str) -> Built:
    """The same under labels whose code 0 is real 0."""
    built, label = space_to_batch(rng), replace(label_of(rng, dtype), zero_point=0)
    return built._replace(
        operands=[codes(built.operands[0].shape, label), *built.operands[1:]],
        results=[codes(built.results[0].shape, label)],
    )


def batch_to_space(rng: Rng) -> Built:
    built = space_to_batch(rng)
    (image, block, crops), (phases,) = built[:2]
    return Built([phases, block, crops], [image], "BatchToSpaceNDOptions")
