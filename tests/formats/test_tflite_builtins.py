"""Random one-operator files of others' making: TensorFlow Lite Micro, interpreter and engine give the same codes.

UNFLOAT_PEER_MODELS sets how many random models of each builtin are run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conformance.generate import codes_for, generator
from tests.formats.one_operator.built import Rng, Value, codes, file_of, moved, numbers
from tests.formats.one_operator.kinds import KINDS, Job, Key, Outcome, job, outcomes
from tests.formats.one_operator.weights import conv2d, fully_connected
from tests.peers.call import peer
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Quantization, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import Shape
from unfloat.ir.instruction import Instruction
from unfloat.program.interpret import interpret
from unfloat.spec.errors import UnsupportedError

MODELS = int(os.environ.get("UNFLOAT_PEER_MODELS", "5"))
# Read, but not written: TensorFlow Lite Micro does not know them.
UNSAYABLE = {("RESIZE_BILINEAR", "int16"), ("GATHER by data", "int16")}
WIDTHS = [(name, dtype) for name, kind in KINDS.items() for dtype in kind.witnesses]


Tried = dict[Key, tuple[list[Job], Outcome]]


@pytest.fixture(scope="module")
def tried() -> Tried:
    """Some files of each kind and width, and what all witnesses made of them."""
    jobs = {(name, dtype): [job(name, dtype, index) for index in range(MODELS)] for name, dtype in WIDTHS}
    return {key: (jobs[key], outcome) for key, outcome in outcomes(jobs).items()}


@pytest.mark.parametrize(("name", "dtype"), WIDTHS)
def test_random_files(name: str, dtype: str, tried: Tried) -> None:
    """Read and run as a public runtime does; written and read again."""
    jobs, outcome = tried[name, dtype]
    assert outcome.codes
    assert not outcome.wrong
    for _, program, given, _ in jobs if (name, dtype) not in UNSAYABLE else ():
        again = from_bytes(to_bytes(program))
        assert again.digest() == from_bytes(to_bytes(again)).digest()
        for one, other in zip(interpret(again, given), interpret(program, given), strict=True):
            np.testing.assert_array_equal(one.reshape(other.shape), other)


def test_litert_rounds_fully_connected_of_uint8_once() -> None:
    """What today's LiteRT does differently from the integer kernels, and nothing else: no product is a tie here."""
    rng = generator("uint8", "FULLY_CONNECTED")
    files = [file_of("FULLY_CONNECTED", fully_connected(rng, "uint8"), rng, "uint8") for _ in range(60)]
    programs = [from_bytes(file) for file in files]
    given = [codes_for(program, 4, "uint8") for program in programs]
    answers = peer("litert")(list(zip(files, given, strict=True)))
    others = 0
    for program, inputs, (answer,) in zip(programs, given, answers, strict=True):
        once = replace(program, instructions=tuple(map(rounded_once, program.instructions)))
        (expected,), (twice,) = interpret(once, inputs), interpret(program, inputs)
        np.testing.assert_array_equal(answer.reshape(expected.shape), expected)
        others += np.count_nonzero(expected != twice)
        assert np.abs(expected.astype(int) - twice).max() <= 1
    assert others


def rounded_once(instruction: Instruction) -> Instruction:
    """The instruction with the other rounding, where it has one."""
    changes = {"rounding": "single"} if "rounding" in instruction.attributes else {}
    return replace(instruction, attributes={**instruction.attributes, **changes})


def masked(
    shape: Shape, result: Shape, rows: list[tuple[int, int, int]], **masks: int
) -> tuple[np.ndarray, np.ndarray]:
    """A strided slice of a file, and the codes that went in."""
    constants = [numbers(list(column)) for column in zip(*rows, strict=True)]
    built = moved([codes(shape), *constants], [result], "StridedSliceOptions", masks)
    program = from_bytes(file_of("STRIDED_SLICE", built, generator("masks")))
    given = codes_for(program, 1, "masks")
    return interpret(program, given)[0], given[0]


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
    inputs = [codes_for(program, 1, f"blocks {index}") for index, program in enumerate(programs)]
    for runtime in ("litert", "tflm"):
        answers = peer(runtime)(list(zip(files, inputs, strict=True)))
        for program, given, answer in zip(programs, inputs, answers, strict=True):
            bordered = any(i.op == "pad" and i.attributes["value"] for i in program.instructions)
            if runtime == "tflm" and bordered:
                continue
            assert not isinstance(answer, str), f"{program.instructions}: {answer}"
            np.testing.assert_array_equal(answer[0], interpret(program, given)[0], str(program.instructions))


def between_the_ends(builtin: str, options: str, **fields: Any) -> bytes:
    """SPACE_TO_BATCH_ND in blocks of 2 x 2, one operator, BATCH_TO_SPACE_ND."""
    label, phases, image = Quantization((0.05,), 3), (4, 2, 3, 5), (1, 4, 6, 5)
    tensors = [
        TfTensor("x", image, "int8", label),
        TfTensor("block", (2,), "int32", None, np.array([2, 2], np.int32)),
        TfTensor("borders", (2, 2), "int32", None, np.zeros((2, 2), np.int32)),
        TfTensor("phases", phases, "int8", label),
        TfTensor("changed", phases, "int8", label),
        TfTensor("y", image, "int8", label),
    ]
    operators = (
        TfOperator("SPACE_TO_BATCH_ND", 1, ("x", "block", "borders"), ("phases",), "SpaceToBatchNDOptions"),
        TfOperator(builtin, 1, ("phases",), ("changed",), options, fields),
        TfOperator("BATCH_TO_SPACE_ND", 1, ("changed", "block", "borders"), ("y",), "BatchToSpaceNDOptions"),
    )
    return encode(TfModel({t.name: t for t in tensors}, operators, (("x", "x"),), (("y", "y"),)), "phases")


def test_values_are_the_same_in_either_order() -> None:
    program = from_bytes(between_the_ends("RELU", ""))
    (x,) = codes_for(program, 3, "phases")
    np.testing.assert_array_equal(interpret(program, [x])[0], np.maximum(x, 3))
    (answer,) = peer("tflm")([(between_the_ends("RELU", ""), [x])])
    np.testing.assert_array_equal(answer[0], np.maximum(x, 3))


def test_windows_over_phases_are_refused() -> None:
    window = {"StrideH": 1, "StrideW": 1, "FilterHeight": 2, "FilterWidth": 2}
    with pytest.raises(UnsupportedError, match="required one image of rows, columns and channels"):
        from_bytes(between_the_ends("MAX_POOL_2D", "Pool2DOptions", **window))


def test_a_narrow_bias_of_wide_codes_is_refused() -> None:
    """The public kernels sum in 32 bits then, or read it as int64, each in its own way."""
    rng = generator("narrow bias")
    image, weight, _ = conv2d(rng, "int16").operands
    bias = Value((weight.shape[0],), None, "int32", np.zeros(weight.shape[0], np.int32))
    built = conv2d(generator("narrow bias"), "int16")._replace(operands=[image, weight, bias])
    with pytest.raises(UnsupportedError, match="required a bias of int64 for int16 codes, found int32"):
        from_bytes(file_of("CONV_2D", built, rng, "int16"))
