"""Moves, resizes and comparisons as PyTorch means them, read and run; and their integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

import unfloat
from tests.formats.test_torch_read import Calls, check, image
from tests.passes.evaluate import ops
from unfloat.program.interpret import interpret
from unfloat.spec.qparams import quantize

MOVES = {
    "slice": (lambda m, x: x[:, 1:3, ::2, -3:], ["slice"]),
    "slice of channels": (lambda m, x: x[:, ::3], ["slice"]),
    "narrow": (lambda m, x: x.narrow(2, 1, 4), ["slice"]),
    "select": (lambda m, x: x[:, 2], ["slice", "reshape"]),
    "last column": (lambda m, x: x[..., -1], ["slice", "reshape"]),
    "chunk": (lambda m, x: torch.chunk(x, 3, 2), ["slice"] * 3),
    "split": (lambda m, x: x.split(3, 1), ["slice"] * 2),
    "split in sizes": (lambda m, x: x.split([1, 3, 5], 2), ["slice"] * 3),
    "unbind": (lambda m, x: torch.unbind(x, 1), ["slice", "reshape"] * 4),
    "one half": (lambda m, x: torch.chunk(x, 2, 1)[1], ["slice"]),
    "every other, backwards": (lambda m, x: x[:, 1:, ::2].flip(1, 2)[:, :, 1:], ["slice"]),
    "gated": (lambda m, x: torch.mul(*torch.chunk(x, 2, 1)), ["slice", "slice", "mul"]),
    "stack": (lambda m, x: torch.stack([x, x * 2], 2), None),
    "unsqueeze": (lambda m, x: x.unsqueeze(2), None),
    "squeeze": (lambda m, x: x[:, :1].squeeze(1), None),
    "index_select": (lambda m, x: x.index_select(1, m.order), ["gather"]),
    "index": (lambda m, x: x[:, :, m.order], ["gather"]),
    "index by a list": (lambda m, x: x[:, [3, 0]], ["gather"]),
    "flip": (lambda m, x: x.flip(1, -1), ["slice"]),
    "roll": (lambda m, x: x.roll((2, -1), (2, 3)), ["gather", "gather"]),
    "repeat": (lambda m, x: x.repeat(1, 2, 1, 3), ["gather", "gather"]),
    "tile": (lambda m, x: x.tile((2, 1)), ["gather"]),
    "repeat_interleave": (lambda m, x: x.repeat_interleave(3, -1), ["gather"]),
    "expand": (lambda m, x: x[:, :1].expand(-1, 4, -1, -1), ["slice", "gather"]),
    "expand_as": (
        lambda m, x: x.amax((2, 3), keepdim=True).expand_as(x) * x,
        ["reduce_max", "gather", "gather", "mul"],
    ),
    "nearest": (lambda m, x: functional.interpolate(x, scale_factor=2), ["gather", "gather"]),
    "nearest to a size": (lambda m, x: functional.interpolate(x, (5, 13)), ["gather", "gather"]),
    "nearest by odd factors": (lambda m, x: functional.interpolate(x, scale_factor=(1.7, 0.6)), ["gather", "gather"]),
    "nearest exact": (lambda m, x: functional.interpolate(x, (5, 13), mode="nearest-exact"), ["gather", "gather"]),
    "nearest by sizes and factors": (lambda m, x: torch.ops.aten.upsample_nearest2d(x, [15, 11], 1.7, 1.7), None),
    "nearest exact by both": (lambda m, x: torch.ops.aten._upsample_nearest_exact2d(x, [15, 11], 1.7, None), None),
    "nearest of a sequence by both": (lambda m, x: torch.ops.aten.upsample_nearest1d(x.flatten(2), [80], 1.3), None),
    "nearest of a sequence": (lambda m, x: functional.interpolate(x.flatten(2), 100), None),
    "reflect": (lambda m, x: functional.pad(x, (2, 1, 0, 3), "reflect"), ["gather", "gather"]),
    "replicate": (lambda m, x: functional.pad(x, (2, 1, 3, 3), "replicate"), ["gather", "gather"]),
    "circular": (lambda m, x: functional.pad(x, (2, 1, 3, 3), "circular"), ["gather", "gather"]),
    "pixel_shuffle": (lambda m, x: functional.pixel_shuffle(x, 2), None),
    "pixel_unshuffle": (lambda m, x: functional.pixel_unshuffle(x[:, :, 1:, 1:], 2), None),
    "maximum": (lambda m, x: torch.maximum(x, x * 0.5), None),
    "max of two": (lambda m, x: torch.max(x, x * 0.5), None),
    "minimum": (lambda m, x: torch.minimum(x, x.amax(1, keepdim=True)), None),
    "amax": (lambda m, x: x.amax((2, 3)), ["reduce_max"]),
    "amin": (lambda m, x: x.amin(1, keepdim=True), ["reduce_min"]),
    "max along": (lambda m, x: x.max(1)[0], ["reduce_max"]),
    "min along": (lambda m, x: x.min(2, keepdim=True).values, ["reduce_min"]),
    "argmax": (lambda m, x: x.argmax(1).to(torch.float32), None),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    function, expected = MOVES[name]
    graph = check(Calls(function, order=torch.tensor([2, 0, 3])), image())
    assert expected is None or ops(graph) == expected


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
def test_padding_modes_of_convolutions(padding: str) -> None:
    check(nn.Conv2d(4, 4, 3, padding=1, padding_mode=padding), image())


@pytest.mark.parametrize("mode", [{"align_corners": True}, {"align_corners": False}])
@pytest.mark.parametrize("size", [(18, 14), (5, 13), (1, 1)])
def test_bilinear(mode: dict[str, bool], size: tuple[int, int]) -> None:
    """Half a step in, half a step out; and the step between new cells, rounded to 1/1024, adds up along both axes."""
    torch.manual_seed(1)
    x = torch.rand(2, 4, 9, 7)
    program = unfloat.quantize(Calls(lambda m, x: functional.interpolate(x, size, mode="bilinear", **mode)), [x])
    real = functional.interpolate(x, size, mode="bilinear", **mode).numpy()
    label = program.tensors[program.outputs[0].value].qparams
    near = 1 + sum(cells * 255 / 2048 for cells in size)
    assert np.abs(program.compile()(x.numpy()) - real).max() <= label.scale[0] * near


class Segmenter(nn.Module):
    """A little of everything, down to a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(x).relu()
        left, right = self.deep(x).chunk(2, 1)
        joined = torch.cat([torch.maximum(left, right), left[:, [3, 2, 1, 0]]], 1)
        grown = functional.interpolate(joined, scale_factor=2, mode="bilinear")
        return self.head(grown + functional.interpolate(joined, scale_factor=2)).argmax(1)


def test_a_student_that_ends_in_classes_has_the_programs_bits() -> None:
    torch.manual_seed(3)
    x = torch.randn(4, 3, 8, 8)
    student = unfloat.prepare(Segmenter(), x, calibration=[x])
    program = unfloat.convert(student)
    assert "transpose" not in [i.op for i in program.instructions]
    codes = quantize(x.permute(0, 2, 3, 1).numpy(), program.tensors["x"].qparams)
    (truth,) = interpret(program, [codes])
    assert truth.dtype == np.int16
    assert len(np.unique(truth)) > 1
    with torch.no_grad():
        np.testing.assert_array_equal(student.eval()(x).numpy(), truth)
    np.testing.assert_array_equal(program.compile()(x.numpy()), truth)
