"""Dilated convolutions that a file says as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND, said in one again.

Both ends move pixels into the batch and back, which a Program must not: its batch are samples. A block of pixels that
goes into the batch before a convolution without padding and comes out of it afterwards is the same convolution dilated
by the block, on the padded image; what is cropped afterwards is sliced.

The border stands for real 0, as in LiteRT. TensorFlow Lite Micro's SPACE_TO_BATCH_ND writes code 0 instead, which is
another real where the zero point is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.draft import number, text
from unfloat.formats.tflite.model import TfModel, TfOperator, TfTensor, apart
from unfloat.ir.graph import Shape

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
INTO, OUT_OF = "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"
IMAGE_RANK = 4


def undo(model: TfModel) -> TfModel:
    """The model with every such run of operators as PAD, dilated convolution, SLICE; others stay."""
    operators, tensors = list(model.operators), dict(model.tensors)
    at = 0
    while at < len(operators):
        run = _run(replace(model, operators=tuple(operators), tensors=tensors), operators[at])
        if run:
            rewritten = _rewritten(tensors, run)
            last = operators.index(run[-1])
            operators[last : last + 1] = rewritten
            for operator in run[:-1]:
                operators.remove(operator)
        else:
            at += 1
    return replace(model, operators=tuple(operators), tensors=tensors)


def _run(model: TfModel, first: TfOperator) -> list[TfOperator]:
    """The operators from one end to the other, if that is what begins here."""
    if first.builtin != INTO or not _is_end(model.tensors, first):
        return []
    run = [first]
    while len(run) < 3 and run[-1].builtin != OUT_OF:
        following = _only_reader(model, run[-1])
        if following is None or not _fits(model.tensors, first, following):
            return []
        run.append(following)
    return run if run[-1].builtin == OUT_OF else []


def _only_reader(model: TfModel, operator: TfOperator) -> TfOperator | None:
    """The one operator that reads an operator's one result, and nothing else does."""
    if len(operator.outputs) != 1:
        return None
    readers = [other for other in model.operators if operator.outputs[0] in other.inputs]
    leaves = any(name in operator.outputs for _, name in model.outputs)
    return readers[0] if len(readers) == 1 and not leaves else None


def _is_end(tensors: Mapping[str, TfTensor], operator: TfOperator) -> bool:
    """Whether it moves blocks of an image, by constants."""
    if len(operator.inputs) != 3 or len(operator.outputs) != 1 or None in operator.inputs:
        return False
    source, *constants = (tensors[name] for name in operator.inputs if name is not None)
    sizes = [constant.data.size for constant in constants if constant.data is not None]
    return sizes == [2, 4] and len(source.shape) == IMAGE_RANK


def _fits(tensors: Mapping[str, TfTensor], first: TfOperator, operator: TfOperator) -> bool:
    """Whether an operator may follow: the other end, of the same block, or a convolution that meets whole phases."""
    if operator.builtin == OUT_OF:
        return _is_end(tensors, operator) and bool(
            (_constant(tensors, operator, 1) == _constant(tensors, first, 1)).all()
        )
    steps = [number(operator, name, 1) for name in ("StrideH", "StrideW", "DilationHFactor", "DilationWFactor")]
    plain = steps == [1, 1, 1, 1] and text(operator, "Padding", "SAME") == "VALID"
    return operator.builtin in CONVOLUTIONS and plain and operator.inputs[:1] == first.outputs


def _constant(tensors: Mapping[str, TfTensor], operator: TfOperator, index: int) -> np.ndarray:
    return np.asarray(tensors[str(operator.inputs[index])].data, np.int64).reshape(-1)


def _rewritten(tensors: dict[str, TfTensor], run: Sequence[TfOperator]) -> list[TfOperator]:
    """PAD, the convolution dilated, SLICE; the tensors between them get their new shapes."""
    first, last = run[0], run[-1]
    source, padded = tensors[str(first.inputs[0])], first.outputs[0]
    block, borders = (tuple(int(v) for v in _constant(tensors, first, index)) for index in (1, 2))
    crops = [int(v) for v in _constant(tensors, last, 2)]
    rows, columns = source.shape[1] + sum(borders[:2]), source.shape[2] + sum(borders[2:])
    tensors[padded] = replace(tensors[padded], shape=(source.shape[0], rows, columns, source.shape[3]))
    pairs = _numbers(tensors, f"{padded}/paddings", [0, 0, *borders, 0, 0], (IMAGE_RANK, 2))
    made = [TfOperator("PAD", 1, (source.name, pairs), (padded,), "PadOptions")]
    for operator in run[1:-1]:
        result = tensors[operator.outputs[0]]
        cells = [int(size) * b for size, b in zip(result.shape[1:3], block, strict=True)]
        tensors[result.name] = replace(result, shape=(source.shape[0], *cells, result.shape[3]))
        dilation = {"DilationHFactor": block[0], "DilationWFactor": block[1]}
        made.append(replace(operator, fields={**operator.fields, **dilation}))
    whole, target = str(last.inputs[0]), last.outputs[0]
    size = tensors[whole].shape
    kept = [size[0], size[1] - sum(crops[:2]), size[2] - sum(crops[2:]), size[3]]
    begin = _numbers(tensors, f"{target}/begin", [0, crops[0], crops[2], 0], (IMAGE_RANK,))
    extent = _numbers(tensors, f"{target}/size", kept, (IMAGE_RANK,))
    return [*made, TfOperator("SLICE", 1, (whole, begin, extent), (target,), "SliceOptions")]


def _numbers(tensors: dict[str, TfTensor], name: str, values: Sequence[int], shape: Shape) -> str:
    name = apart(name, tensors)
    tensors[name] = TfTensor(name, shape, "int32", None, np.array(values, np.int32).reshape(shape))
    return name
