"""Networks with an LSTM: gradients of the float meaning, and the Program's bits in `eval()` and, frozen, in `train()`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import unfloat
from tests.quant.families import Net
from tests.quant.reference import F64, assert_near, ends, half_away, quantized_weight, rounded
from tests.quant.test_student import assert_equal_to_program, assert_train_equals_eval
from unfloat.ir.graph import BATCH, Node
from unfloat.ir.instruction import Tensor
from unfloat.ops._operator import WeightRule
from unfloat.program.lower import make_instruction
from unfloat.quant.recipe import Training
from unfloat.quant.student import Student
from unfloat.spec.qparams import QParams

INPUTS, UNITS, STEPS = 6, 5, 7


def rows(count: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, STEPS, INPUTS, generator=torch.Generator().manual_seed(seed))


def gates_of(weights: dict[str, torch.Tensor], x: torch.Tensor, bits: int) -> torch.Tensor:
    """The definition of torch.nn.LSTM, over weights as their codes say them."""
    weight, recurrent = (
        quantized_weight(weights[f"weight_{kind}_l0"].reshape(4, UNITS, -1), 0, "int8", bits).reshape(4 * UNITS, -1)
        for kind in ("ih", "hh")
    )
    bias = sum(weights[name] for name in ("bias_ih_l0", "bias_hh_l0") if name in weights)
    hidden, cell, made = x.new_zeros(len(x), UNITS), x.new_zeros(len(x), UNITS), []
    for step in x.unbind(1):
        i, f, g, o = (step @ weight.T + hidden @ recurrent.T + bias).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        made.append(hidden)
    return torch.stack(made, 1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_gradients_reach_every_parameter(bits: int, bias: bool) -> None:
    torch.manual_seed(bits)
    x = rows().requires_grad_()
    model = Net(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(INPUTS, UNITS, bias=bias, batch_first=True)).train()
    nn.init.normal_(model.lstm.weight_hh_l0)
    student = unfloat.prepare(model, x.detach(), unfloat.Recipe(weight_bits=bits), progress=False)
    student.calibrate([x.detach()], progress=False)
    student.freeze_ranges()
    with torch.no_grad():
        assert (student(x) - model(x)).abs().max() < (0.02 if bits == 8 else 0.5)
    student.unfloat.window.mul_(0.6)  # so that some values are clamped: in time too, which the float meaning is not
    labels = student.labels()
    own = dict(student.get_submodule("lstm").named_parameters())
    assert len(own) == (4 if bias else 2)
    p = {name: parameter.detach().to(F64).requires_grad_() for name, parameter in own.items()}
    given = x.detach().to(F64).requires_grad_()
    expected = gates_of(p, rounded(given, labels["x"]), bits).clamp(*ends(labels["lstm"]))
    found = student(x)
    towards = torch.randn(found.shape)
    (found * towards).sum().backward()
    (expected * towards.to(F64)).sum().backward()
    assert_near(x.grad, given.grad, "input")
    for name, parameter in own.items():
        assert_near(parameter.grad, p[name].grad, name)


def test_a_learned_scale_has_lsqs_gradient() -> None:
    torch.manual_seed(4)
    x = rows()
    model = Net(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(INPUTS, UNITS, batch_first=True)).train()
    recipe = unfloat.Recipe(activation_bits=5, training=Training(ranges="learned"))
    student = unfloat.prepare(model, x, recipe, progress=False)
    with torch.no_grad():
        student.unfloat.scale.mul_(0.7)
    labels = student.labels()
    p = {name: value.detach().to(F64) for name, value in student.get_submodule("lstm").named_parameters()}
    label = labels["lstm"]
    real = gates_of(p, rounded(x.to(F64), labels["x"]), 8)
    found = student(x)
    towards = torch.randn(found.shape)
    (found * towards).sum().backward()
    low, high = ends(label)
    steps = half_away(found.detach().to(F64) / label.scale[0])
    missed = steps - real / label.scale[0] * ((real >= low) & (real <= high))
    share = (UNITS * STEPS * (label.qmax - label.qmin)) ** -0.5
    gradient = (towards.to(F64) * missed).sum() * label.scale[0] / 0.7 * share
    assert_near(student.unfloat.scale.grad[student.unfloat.index["lstm"]][None], gradient[None], "scale", 4e-6)


def _both_ends(m: Net, x: torch.Tensor) -> torch.Tensor:
    _, (last, _) = m.lstm(x.transpose(0, 1))
    return m.head(torch.cat([last[-2], last[-1]], 1))


NETWORKS = {
    "one layer": lambda: Net(
        lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(INPUTS, 8, batch_first=True), head=nn.Linear(8, 3)
    ),
    "two layers both ways": lambda: Net(
        _both_ends, lstm=nn.LSTM(INPUTS, 5, num_layers=2, bidirectional=True), head=nn.Linear(10, 3)
    ),
    "after a convolution, no bias": lambda: Net(
        lambda m, x: m.head(m.lstm(m.conv(x.transpose(1, 2)).relu().transpose(1, 2))[0]),
        conv=nn.Conv1d(INPUTS, 4, 3),
        lstm=nn.LSTM(4, 17, bias=False, batch_first=True),
        head=nn.Linear(17, 3),
    ),
}


def trained(name: str, **wishes: object) -> Student:
    torch.manual_seed(len(name))
    student = unfloat.prepare(NETWORKS[name]().train(), rows(), unfloat.Recipe(**wishes), progress=False)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        student(rows(seed=step)).square().sum().backward()
        optimizer.step()
    return student


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"weight_bits": 4, "activation_bits": 6},
        {"rounding": "single", "overrides": (unfloat.Override("lstm*", weight_bits=2),)},
        {"training": Training(ranges="learned")},
    ],
    ids=["8 bits", "4 and 6 bits", "2 bits in the LSTM", "learned"],
)
def test_a_student_equals_its_program(name: str, wishes: dict[str, object]) -> None:
    student, x = trained(name, **wishes), rows(5, seed=50) * 3  # outside the ranges, too
    assert_equal_to_program(student, x)
    student.freeze_ranges()
    assert_train_equals_eval(student, x)


def test_weights_of_few_bits_have_few_codes() -> None:
    program = unfloat.convert(trained("one layer", overrides=(unfloat.Override("lstm", weight_bits=3),)))
    (cells,) = (i for i in program.instructions if i.op == "lstm")
    for role in ("weight", "recurrent"):
        assert set(abs(cells.constants[role]).reshape(-1).tolist()) == {0, 1, 2, 3}


def test_dropout_between_layers_acts_in_train_alone() -> None:
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(INPUTS, UNITS, num_layers=2, dropout=0.5, batch_first=True)
    ).train()
    student = unfloat.prepare(model, rows(), progress=False)
    hidden = student.trace(rows())
    zero = student.labels()["lstm:l0"].zero_point
    assert (hidden["lstm:l0"] == zero).float().mean() < 0.2
    assert 0.4 < (hidden["lstm:l0_dropout"] == zero).float().mean() < 0.7
    assert [i.op for i in unfloat.convert(student).instructions] == ["lstm", "lstm"]
    assert_equal_to_program(student, rows())


def test_two_biases_are_their_sum_and_none_is_zeros() -> None:
    rng = np.random.default_rng(0)
    weights = {"weight": rng.normal(size=(4, UNITS, INPUTS)), "recurrent": rng.normal(size=(4, UNITS, UNITS))}
    first, second = rng.normal(size=(2, 4, UNITS))
    given = Tensor("x", (BATCH, STEPS, INPUTS), QParams((2.0**-6,), 3))
    output = Tensor("out", (BATCH, STEPS, UNITS), QParams((2.0**-7,)))
    node = Node("out", "lstm", ("x",), output.shape, {"carried": 0})

    def lowered(**biases: np.ndarray) -> dict[str, np.ndarray]:
        return dict(make_instruction(node, {**weights, **biases}, [given], output, WeightRule(), "double").constants)

    for one, other in (
        (lowered(bias=first, recurrent_bias=second), lowered(bias=first + second)),
        (lowered(recurrent_bias=second), lowered(bias=second)),
        (lowered(), lowered(bias=np.zeros((4, UNITS)))),
    ):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[role], other[role]) for role in one)
