"""Networks that look rows up: indices in, gradients into the table, the same bits in every copy; what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import unfloat
from tests.peers.call import peer
from tests.quant.reference import F64, assert_near, rounded
from tests.quant.test_student import assert_train_equals_eval
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import Port
from unfloat.ir.instruction import Instruction
from unfloat.program.interpret import interpret, trace
from unfloat.program.program import Program
from unfloat.quant.recipe import Override, Training
from unfloat.quant.student import Student
from unfloat.runtime.engine import levels
from unfloat.spec.errors import CalibrationError, ExportError, InputError, UnsupportedError

ROWS, WIDTH, STEPS = 40, 12, 7


class Words(nn.Module):
    """Words and places looked up, added, convolved in time, and classified."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, WIDTH, padding_idx=0)
        self.places = nn.Embedding(STEPS, WIDTH)
        self.conv = nn.Conv1d(WIDTH, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids.long()) + self.places(torch.arange(STEPS))
        return self.head(functional.relu(self.conv(x.transpose(1, 2))).mean(2))


def ids(count: int = 9, seed: int = 0, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, ROWS, (count, STEPS), generator=torch.Generator().manual_seed(seed)).to(dtype)


def words(seed: int = 0) -> Words:
    torch.manual_seed(seed)
    return Words()


def trained(model: nn.Module, recipe: unfloat.Recipe, steps: int = 4) -> Student:
    student = unfloat.prepare(model, ids(), recipe, calibration=[ids(seed=1)], progress=False).train()
    optimizer = torch.optim.SGD(student.parameters(), 0.05)
    for step in range(steps):
        x = ids(16, step)
        functional.cross_entropy(student(x), x.sum(1) % 5).backward()
        optimizer.step()
        optimizer.zero_grad()
    return student


def codes_of(x: Tensor) -> np.ndarray:
    return x.numpy().astype(np.int16)


RECIPES = {
    "int8": unfloat.Recipe(),
    "uint8": unfloat.Recipe("uint8"),
    "4 bits": unfloat.Recipe(activation_bits=4, weight_bits=4),
    "int16x8": unfloat.Recipe("int16x8"),
    "learned": unfloat.Recipe(training=Training(ranges="learned")),
    "wide inside": unfloat.Recipe(overrides=(Override("conv", activation_bits=16),)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_copy_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    student = trained(words(), RECIPES[name])
    x, program = ids(11, 7, torch.int32), unfloat.convert(student)
    assert [i.op for i in program.instructions].count("take") == 1
    codes = student.eval().trace(x)
    for value, truth in trace(program, [codes_of(x)]).items():
        assert np.array_equal(np.broadcast_to(truth, codes[value].shape), codes[value].numpy()), value
    for level in levels():
        assert np.array_equal(program.compile(level=level)(x.numpy()), student(x).numpy())
    program.save(tmp_path / "net.unfloat")
    assert unfloat.load(tmp_path / "net.unfloat").digest() == program.digest()
    student.freeze_ranges()
    assert_train_equals_eval(student, x)


def test_gradients_reach_the_table() -> None:
    """Only rows that were looked up, each as often as it was."""
    table = nn.Embedding(ROWS, WIDTH)
    student = unfloat.prepare(nn.Sequential(table), ids(), progress=False).train()
    student.unfloat.window.mul_(0.6)  # so that some values are clamped
    student.freeze_ranges()
    x, towards = ids(6, 3), torch.randn(6, STEPS, WIDTH)
    weight = table.weight.detach().to(F64).requires_grad_()
    label = student.labels()["0"]
    (rounded(weight, label)[x] * towards.to(F64)).sum().backward()
    (student(x) * towards).sum().backward()
    assert_near(student.get_parameter("0.weight").grad, weight.grad, "table")


def test_the_row_of_padding_stays() -> None:
    """As in torch.nn.Embedding: it has no gradient, though it is looked up and quantized as others."""
    table = nn.Embedding(ROWS, WIDTH, padding_idx=3)
    with torch.no_grad():
        table.weight[3] = 0.5
    student = unfloat.prepare(nn.Sequential(table), ids(), progress=False).train()
    x = ids(50, 3)
    student(x).square().sum().backward()
    gradient = student.get_parameter("0.weight").grad
    assert gradient is not None
    assert (gradient.abs().sum(1) == 0).tolist() == [row == 3 for row in range(ROWS)]
    program = unfloat.convert(student)
    assert [i.op for i in program.instructions] == ["take"]
    assert np.array_equal(program.compile()(x.numpy()), student.eval()(x).numpy())


def test_gradients_that_would_be_others_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(ROWS, WIDTH, scale_grad_by_freq=True))
    assert unfloat.quantize(model, [ids()]).instructions
    with pytest.raises(UnsupportedError, match="scale_grad_by_freq"):
        unfloat.prepare(model, ids(), progress=False)


class Chosen(nn.Module):
    """A row for the greatest value of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.argmax(2)).mean(1)


def test_what_is_greatest_chooses() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 5, 6)
    program = unfloat.quantize(Chosen(), [x])
    engine = program.compile()
    assert [i.op for i in program.instructions] == ["arg_max", "take", "mean"]
    codes = np.random.default_rng(0).integers(-128, 128, (30, 5, 6)).astype(np.int8)
    (truth,) = interpret(program, [codes])
    assert np.array_equal(engine.run(codes), truth)
    ((found,),) = peer("tflm")([(to_bytes(program), [codes])])
    assert np.array_equal(found, truth)
    again = from_bytes(to_bytes(program))
    assert again.digest() == from_bytes(to_bytes(again)).digest()


def test_computed_indices_are_refused() -> None:
    call = Odd(lambda table, x: table((x.argmax(2) + 1) % ROWS))
    with pytest.raises(UnsupportedError, match=r"remainder|computes indices"):
        unfloat.quantize(call, [torch.randn(4, 5, 6)])
    call = Odd(lambda table, x: table(x.argmax(2) + 1))
    with pytest.raises(
        UnsupportedError, match=r"add.* computes indices: take them from the model's inputs, or from argmax"
    ):
        unfloat.quantize(call, [torch.randn(4, 5, 6)])


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("scheme", ["int8", "uint8"])
def test_a_file_takes_plain_integers(scheme: str, border: bool) -> None:
    program = unfloat.quantize(words(), [ids()], unfloat.Recipe(scheme))  # type: ignore[arg-type]
    x = ids(20, 5)
    expected = program.compile()(x.numpy()) if border else interpret(program, [codes_of(x)])[0]
    runtime = "tflm" if scheme == "int8" else "litert"
    ((found,),) = peer(runtime)([(to_bytes(program, float_border=border), [codes_of(x)])])
    assert np.array_equal(found, expected)


def test_indices_count_from_the_end_and_saturate() -> None:
    program = unfloat.quantize(words(), [ids()])
    low, last = interpret(program, [np.full((1, STEPS), -ROWS, np.int16)]), np.full((1, STEPS), -1, np.int16)
    assert np.array_equal(low[0], interpret(program, [np.zeros((1, STEPS), np.int16)])[0])
    assert np.array_equal(low[0], interpret(program, [np.full((1, STEPS), -32768, np.int16)])[0])
    for code in (ROWS - 1, ROWS, 32767):
        found = program.compile().run(np.full((1, STEPS), code, np.int16))
        assert np.array_equal(found, interpret(program, [last])[0])
    assert np.array_equal(program.compile()(last), program.compile()(last % ROWS))


def test_the_certificate_knows_the_rows() -> None:
    certificate = unfloat.quantize(words(), [ids()]).verify()
    ranges = {value.name: value for value in certificate.ranges}
    assert (ranges["ids"].least, ranges["ids"].greatest) == (-32768, 32767)
    assert -128 <= ranges["words"].least < ranges["words"].greatest <= 127


@pytest.mark.parametrize("wrong", [ROWS, -ROWS - 1])
def test_indices_outside_of_the_table_are_refused(wrong: int) -> None:
    student, bad = trained(words(), unfloat.Recipe()), ids()
    bad[3, 2] = wrong
    for call, kind in (
        (lambda: student(bad), InputError),
        (lambda: unfloat.convert(student).compile()(bad.numpy()), InputError),
        (lambda: unfloat.quantize(words(), [bad]), CalibrationError),
    ):
        with pytest.raises(kind, match=rf"ids: required indices below {ROWS}, .* found .*{wrong}"):
            call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool, torch.complex64])
def test_other_numbers_are_no_indices(dtype: torch.dtype) -> None:
    student, bad = trained(words(), unfloat.Recipe()), ids().to(dtype)
    with pytest.raises(InputError, match="ids: required integers"):
        student(bad)
    with pytest.raises(InputError, match="ids: required integers"):
        unfloat.convert(student).compile()(bad.numpy())
    with pytest.raises(CalibrationError, match="ids: required"):
        student.calibrate([bad], progress=False)


def test_a_table_has_the_width_of_its_lookup() -> None:
    recipe = unfloat.Recipe(overrides=(Override("words", activation_bits=16), Override("add", activation_bits=16)))
    program = unfloat.quantize(words(), [ids()], recipe)
    assert program.tensors["words"].qparams.dtype == "int16"
    x = codes_of(ids(9, 5))
    assert np.array_equal(program.compile().run(x), interpret(program, [x])[0])


class Odd(nn.Module):
    """A table, and something else done with indices."""

    def __init__(self, call: object) -> None:
        super().__init__()
        self.table, self.call = nn.Embedding(ROWS, 3), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.table, x)  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table, x: x.float() * 2, "int64 must choose the rows of an embedding, found that mul"),
        (lambda table, x: table(x[:, :3].clamp(0, 5)), "int64 must choose the rows of an embedding, found that "),
        (lambda table, x: table(x).sum((1, 2)) + x.float().sigmoid().sum(1), "sigmoid.* computes with indices"),
        (lambda table, x: table(x).sum((1, 2)) + x.float().relu().sum(1), "relu.* computes with indices"),
        (lambda table, x: table(x // 2), "floor_divide|computes indices"),
        (lambda table, x: table(x + 1), "int64 must choose the rows of an embedding"),
        (lambda table, x: table(x).sum(2) + x, "computes with indices"),
        (lambda table, x: table(torch.tensor([3, 1])) + table(x)[:, :2], f"must name all {ROWS} rows"),
    ],
)
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_indices_only_choose(scheme: str, call: object, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        unfloat.quantize(Odd(call), [ids()], unfloat.Recipe(scheme))  # type: ignore[arg-type]


def test_indices_leave_as_they_are() -> None:
    """Moved, beside the rows they choose: plain integers in the file."""
    call = Odd(lambda table, x: (table(x), x.reshape(-1, STEPS, 1), x))
    program = unfloat.quantize(call, [ids()])
    x = codes_of(ids(10, 4))
    (answer,) = peer("tflm")([(to_bytes(program), [x])])
    for found, expected in zip(answer, interpret(program, [x]), strict=True):
        assert np.array_equal(found, expected)
    again = from_bytes(to_bytes(program))
    assert again.digest() == from_bytes(to_bytes(again)).digest()


def test_files_keep_indices_apart_from_codes() -> None:
    """A Program may take an index for a code; a file cannot say it, and says which layer."""
    program = unfloat.quantize(Odd(lambda table, x: (table(x), x.flip(1))), [ids()])
    with pytest.raises(ExportError, match=r"most \(maximum\): it takes indices for codes"):
        to_bytes(maximal(program))


def maximal(program: Program) -> Program:
    """The same with the greatest of the indices and themselves as a further output."""
    source = program.tensors[program.inputs[0].value]
    greatest = Instruction("maximum", "most", (source.name, source.name))
    port = Port("most", "most", source.shape, (0, 1))
    tensors = {**program.tensors, "most": replace(source, name="most")}
    outputs, structure = (*program.outputs, port), ("tuple", len(program.outputs) + 1)
    instructions = (*program.instructions, greatest)
    return replace(program, tensors=tensors, instructions=instructions, outputs=outputs, structure=structure)


def test_indices_may_move() -> None:
    def call(table: nn.Embedding, x: Tensor) -> Tensor:
        return table(torch.cat([x[:, 2:], x[:, :2]], 1).reshape(-1, STEPS, 1).to(torch.int32)).sum((1, 2))

    program = unfloat.quantize(Odd(call), [ids()])
    x = codes_of(ids(10, 4))
    assert np.array_equal(program.compile().run(x), interpret(program, [x])[0])
    ((found,),) = peer("tflm")([(to_bytes(program), [x])])
    assert np.array_equal(found, interpret(program, [x])[0])


def test_a_ready_loop_trains_it(tmp_path: Path) -> None:
    batches = [(ids(16, k), ids(16, k).sum(1) % 5) for k in range(3)]
    student = unfloat.prepare(words(), ids(), progress=False)
    history = unfloat.fit(student, batches, epochs=2, teacher=words(), progress=False)
    assert len(history.loss) == 2
    program: Program = unfloat.convert(student)
    assert np.array_equal(program.compile()(ids().numpy()), student.eval()(ids()).numpy())


def test_it_is_compared_with_its_model() -> None:
    model, data = words(), [ids(32, 1)]
    found = unfloat.compare(model, unfloat.quantize(model, data), data, progress=False)
    assert {site.name for site in found.sites} >= {"words", "conv"}
