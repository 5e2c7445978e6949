"""A student's `eval()` is its Program, bit for bit; once frozen, `train()` is too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import unfloat
from tests.quant.families import FAMILIES, image, student_of, train
from unfloat.program.interpret import trace
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student
from unfloat.spec.qparams import quantize

pytestmark = pytest.mark.filterwarnings("ignore:the layers .* share")
NORMS = ("batch", "average", "correct")
RANGES = ("moving_average", "learned")


def assert_equal_to_program(student: Student, x: torch.Tensor) -> None:
    """The interpreter at every tensor, the engine at the output."""
    program = unfloat.convert(student)
    codes = student.eval().trace(x)
    port = program.inputs[0]
    entered = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    for name, truth in trace(program, [entered]).items():
        found = codes[name].numpy()
        assert np.array_equal(np.broadcast_to(truth, found.shape), found), name
    assert np.array_equal(program.compile()(x.numpy()), student(x).numpy())


def assert_train_equals_eval(student: Student, x: torch.Tensor) -> None:
    evaluated = student.eval().trace(x)
    trained = student.train().trace(x)
    assert evaluated.keys() == trained.keys()
    for name, codes in evaluated.items():
        assert torch.equal(codes, trained[name]), name


def check(student: Student) -> None:
    train(student, rate=0.3)
    x = image(5, seed=50) * 3  # outside the ranges, too
    assert_equal_to_program(student, x)
    student.freeze_norm()
    student.freeze_ranges()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert_train_equals_eval(student, x)
    for name, value in student.state_dict().items():
        assert name == "unfloat.progress" or torch.equal(before[name], value), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_its_program(family: str) -> None:
    """Schemes, norm modes and range kinds take turns; the next test has all of them on one network."""
    i = list(FAMILIES).index(family)
    check(student_of(family, "int8", norm=NORMS[i % 3], ranges=RANGES[i % 2]))
    check(student_of(family, "uint8", norm=NORMS[(i + 1) % 3], ranges=RANGES[(i + 1) % 2]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("scheme", ["int8", "uint8"])
def test_every_way_of_training_equals_its_program(scheme: str, ranges: str, norm: str) -> None:
    check(student_of("residual", scheme, norm=norm, ranges=ranges))


@pytest.mark.parametrize("bits", range(2, 9))
def test_any_bits_equal_their_program(bits: int) -> None:
    scheme = ("int8", "uint8")[bits % 2]
    student = student_of("conv norm", scheme, (bits, 10 - bits), ranges=RANGES[bits // 2 % 2])
    check(student)
    for instruction in unfloat.convert(student).instructions:
        if "weight" in instruction.constants:
            codes, half = instruction.constants["weight"].astype(int), 2 ** (bits - 1)
            low, high = (1 - half, half - 1) if scheme == "int8" else (1, 2**bits - 1)
            assert low <= codes.min() and codes.max() <= high  # never the lowest code (paper, section 3)


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_both_roundings_and_exact_sums_past_float32(rounding: str) -> None:
    """64 * 1,200 products of 127 * 255 pass 2^24: a float32 sum would be wrong."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(1200, 4, bias=False), nn.ReLU()).train()
    with torch.no_grad():
        model[0].weight.abs_().clamp_(min=0.02)
    x = torch.rand(3, 1200) + 0.5
    recipe = unfloat.Recipe(rounding=rounding, training=Training(momentum=0.5))
    student = unfloat.prepare(model, x, recipe, progress=False)
    student(x).sum().backward()
    assert_equal_to_program(student, x)
    student.freeze_ranges()
    assert_train_equals_eval(student, x)


def test_dropout_acts_in_train_and_is_gone_from_the_program() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 4)).train()
    x = torch.randn(8, 50)
    student = unfloat.prepare(model, x, progress=False)
    hidden = student.trace(x)["0"]
    assert not torch.equal(student(x), student(x))
    assert bool((hidden == student.labels()["0"].zero_point).float().mean() < 0.7)
    assert len(unfloat.convert(student).instructions) == 2
    assert_equal_to_program(student, x)


def test_structures_and_several_inputs_come_and_go_as_the_models() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": self.left(a) + self.right(b), "left": self.left(a)}

    a, b = torch.randn(6, 4), torch.randn(6, 5)
    student = unfloat.prepare(Two(), {"b": b, "a": a}, progress=False)
    for mode in (True, False):
        found = student.train(mode)(a, b=b)
        assert list(found) == ["sum", "left"]
        assert found["sum"].shape == (6, 3)
        assert (found["sum"] - Two.forward(student, a, b)["sum"]).abs().max() < 0.1
    expected = unfloat.convert(student).compile()(a.numpy(), b.numpy())
    assert np.array_equal(expected["sum"], student(a, b)["sum"].numpy())
