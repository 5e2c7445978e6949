"""torch.nn.LSTM, read in all the ways it is built and called; and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unfloat
from tests.formats.test_torch_read import Calls, check
from tests.passes.evaluate import ops
from unfloat.formats.torch.read import read
from unfloat.program.interpret import interpret
from unfloat.spec.errors import UnsupportedError
from unfloat.spec.qparams import quantize

STEPS, INPUTS, UNITS = 5, 8, 6


def rows(batch: int = 2) -> Tensor:
    return torch.randn(batch, STEPS, INPUTS)


def called(function: Callable[..., object], **options: object) -> Calls:
    """A function of a layer `lstm`, and of a linear layer that fits its rows."""
    width = UNITS * (2 if options.get("bidirectional") else 1)
    return Calls(function, lstm=nn.LSTM(INPUTS, UNITS, **options), head=nn.Linear(width, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_layers_and_directions(layers: int, both: bool, bias: bool) -> None:
    options = {"num_layers": layers, "bidirectional": both, "bias": bias}
    first = check(called(lambda m, x: m.lstm(x)[0], batch_first=True, **options), rows())
    assert ops(first).count("lstm") == layers * (1 + both)
    assert ops(first).count("slice") == 2 * layers * both
    second = check(called(lambda m, x: m.lstm(x.transpose(0, 1))[0].transpose(0, 1), **options), rows())
    assert ops(second) == ops(first)
    names = [node.name for node in first.nodes if node.op == "lstm"]
    expected = [f"lstm:l{layer}{suffix}" for layer in range(layers) for suffix in ("", "_reverse")[: 1 + both]]
    assert names == (expected if len(expected) > 1 else ["lstm"])


CALLS = {
    "last row": (lambda m, x: m.head(m.lstm(x)[0][:, -1]), {"batch_first": True}),
    "h_n": (lambda m, x: m.head(m.lstm(x)[1][0][-1]), {"batch_first": True, "num_layers": 2}),
    "h_n, squeezed": (lambda m, x: m.head(m.lstm(x)[1][0].squeeze(0)), {"batch_first": True}),
    "h_n, a row each": (lambda m, x: m.lstm(x)[1][0].transpose(0, 1), {"batch_first": True, "num_layers": 3}),
    "h_n, flat": (
        lambda m, x: m.lstm(x)[1][0].permute(1, 0, 2).flatten(1),
        {"batch_first": True, "bidirectional": True},
    ),
    "h_n, some": (
        lambda m, x: m.lstm(x)[1][0][-2:].transpose(0, 1),
        {"batch_first": True, "num_layers": 2, "bidirectional": True},
    ),
    "both ends": (
        lambda m, x: m.head((lambda h: torch.cat([h[-2], h[-1]], 1))(m.lstm(x)[1][0])),
        {"batch_first": True, "bidirectional": True},
    ),
    "time first, last row": (lambda m, x: m.head(m.lstm(x.permute(1, 0, 2))[0][-1]), {}),
    "time first, a head for each row": (lambda m, x: m.head(m.lstm(x.transpose(0, 1))[0]).relu().transpose(0, 1), {}),
    "time first, a matrix": (lambda m, x: (m.lstm(x.transpose(0, 1))[0] @ m.head.weight.t()).transpose(0, 1), {}),
    "time first, mean": (lambda m, x: m.head(m.lstm(x.transpose(0, 1))[0].mean(0)), {}),
    "time first, mean kept": (lambda m, x: m.lstm(x.transpose(0, 1))[0].mean(0, keepdim=True).squeeze(0), {}),
    "time first, softmax in time": (lambda m, x: m.lstm(x.transpose(0, 1))[0].softmax(0).transpose(0, 1), {}),
    "time first, some rows": (lambda m, x: m.lstm(x.transpose(0, 1))[0][1:-1].sum(-3), {}),
    "time first, in reverse": (lambda m, x: m.lstm(x.transpose(0, 1).flip(0))[0].amax(0), {}),
    "time first, joined": (
        lambda m, x: (lambda y: torch.cat([y, m.lstm(y)[0] * 2 + m.lstm(y)[0]], -1).transpose(1, 0))(x.transpose(0, 1)),
        {},
    ),
    "time first, units first": (lambda m, x: m.lstm(x.transpose(0, 1))[0].permute(1, 2, 0), {}),
    "time first, views": (lambda m, x: m.lstm(x.transpose(0, 1))[0].view(STEPS, -1, 2, 3).transpose(0, 1), {}),
    "zeros": (
        lambda m, x: m.lstm(x, (torch.zeros(1, x.size(0), UNITS), torch.zeros(1, x.size(0), UNITS).to(x.device)))[0],
        {"batch_first": True},
    ),
    "zeros, as tutorials write them": (
        lambda m, x: m.head(
            m.lstm(x, tuple(torch.zeros(1, x.size(0), UNITS).requires_grad_().detach() for _ in range(2)))[0][:, -1, :]
        ),
        {"batch_first": True},
    ),
    "zeros like others": (
        lambda m, x: m.lstm(x, (x.new_zeros(1, x.shape[0], UNITS), torch.zeros_like(x[:, :1, :UNITS]).transpose(0, 1)))[
            0
        ],
        {"batch_first": True},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    function, options = CALLS[name]
    assert "lstm" in ops(check(called(function, **options), rows()))


def test_a_last_row_is_a_slice_of_its_own_layer() -> None:
    function, options = CALLS["both ends"]
    graph = check(called(function, **options), rows())
    assert ops(graph).count("concatenation") == 1
    function, options = CALLS["h_n"]
    assert ops(check(called(function, **options), rows())) == ["lstm", "lstm", "slice", "reshape", "fully_connected"]


@pytest.mark.parametrize("training", [True, False])
def test_dropout_between_layers_is_kept_for_training_only(training: bool) -> None:
    model = nn.Sequential(nn.LSTM(INPUTS, UNITS, num_layers=3, dropout=0.25, batch_first=True))
    graph = read(Calls(lambda m, x: m.net(x)[0], net=model).train(training), rows(), training=training)
    dropouts = [node for node in graph.nodes if node.op == "dropout"]
    assert [node.name for node in dropouts] == (["net.0:l0_dropout", "net.0:l1_dropout"] if training else [])
    assert all(node.attributes == {"rate": 0.25, "channels": 0} for node in dropouts)


def test_reading_changes_nothing_and_warns_of_nothing() -> None:
    model = called(lambda m, x: m.lstm(x)[0], batch_first=True)
    before, x = dict(model.lstm.named_parameters()), rows()
    expected = model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(model, x)
    assert all(model.lstm._flat_weights[i] is parameter for i, parameter in enumerate(before.values()))
    assert torch.equal(model(x), expected)


REFUSED = {
    "projected": (lambda m, x: m.lstm(x)[0], {"batch_first": True, "proj_size": 3}, "without proj_size"),
    "c_n": (lambda m, x: m.lstm(x)[1][1][0], {"batch_first": True}, r"the last state of its cells \(c_n\) is used"),
    "a given state": (
        lambda m, x: m.lstm(x, (torch.ones(1, x.size(0), UNITS), x.new_zeros(1, x.size(0), UNITS)))[0],
        {"batch_first": True},
        "aten.ones: there is no integer operator",
    ),
    "a computed state": (
        lambda m, x: m.lstm(x, (x[:, :1, :UNITS].transpose(0, 1), x.new_zeros(1, x.size(0), UNITS)))[0],
        {"batch_first": True},
        "it starts from a given state",
    ),
    "time in the batch's place": (lambda m, x: m.lstm(x)[0], {}, "batch_first=False its time runs along the batch"),
    "the batch in time's place": (
        lambda m, x: m.lstm(x.transpose(0, 1))[0],
        {"batch_first": True},
        "batch_first=True its time runs along the batch",
    ),
    "without a batch": (lambda m, x: m.lstm(x[:, 0])[0], {"batch_first": True}, "its time runs along the batch"),
    "a new axis before the batch": (lambda m, x: x.unsqueeze(0), {}, r"must be the batch, found \(1, batch, 5, 8\)"),
    "time first as an output": (
        lambda m, x: m.lstm(x.transpose(0, 1))[0],
        {},
        r"output output: dimension 0 must be the batch, found \(5, batch, 6\); try: x.transpose\(0, 1\)",
    ),
    "all h_n as an output": (lambda m, x: m.lstm(x)[1][0], {"batch_first": True}, "output output: dimension 0 must be"),
    "time and batch in one": (
        lambda m, x: m.head(m.lstm(x.transpose(0, 1))[0]).flatten(0, 1),
        {},
        r"dimension 0 must be the batch, found \(5 \* batch, 3\); try: a view in which the batch is an axis of its own",
    ),
    "one row out of the batch's order": (
        lambda m, x: m.lstm(x.transpose(0, 1))[0].reshape(-1, STEPS * UNITS),
        {},
        r"a view of \(5, batch, 6\) as \(batch, 30\) joins values of several samples; try: x.transpose\(0, 1\)",
    ),
    "time first into a convolution": (
        lambda m, x: nn.functional.conv1d(m.lstm(x.transpose(0, 1))[0], torch.ones(2, UNITS, 1)),
        {},
        "cannot trace|dimension 0 must be the batch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    function, options, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        read(called(function, **options), rows())


def test_all_problems_of_a_layer_and_of_others_are_listed_at_once() -> None:
    model = Calls(
        lambda m, x: (m.a(x, (x.new_zeros(1, x.size(0), 3), x[:, :1, :UNITS].transpose(0, 1)))[1][1][0], m.b(x)[0]),
        a=nn.LSTM(INPUTS, UNITS, batch_first=True, proj_size=3),
        b=nn.GRU(INPUTS, UNITS, batch_first=True),
    )
    with pytest.raises(UnsupportedError) as caught:
        read(model, rows())
    first, second = caught.value.problems
    assert [problem.split()[0] for problem in (first, second)] == ["a", "b"]
    assert all(part in first for part in ("aten.lstm: ", "proj_size", "a given state", "c_n"))
    assert second.endswith("aten.gru: there is no integer operator for it; try: train it with nn.LSTM")


def test_packed_sequences_are_refused() -> None:
    def pack(m: Calls, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        return m.lstm(packed)[1][0][-1]

    with pytest.raises(UnsupportedError):
        read(called(pack, batch_first=True), rows())


@pytest.mark.parametrize("name", ["last row", "both ends", "time first, a head for each row", "h_n, a row each"])
def test_integers_stay_near_the_float_network(name: str) -> None:
    torch.manual_seed(1)
    function, options = CALLS[name]
    model, x = called(function, **options).eval(), rows(64)
    program = unfloat.quantize(model, [x], unfloat.Recipe(ranges="minmax"), progress=False)
    (codes,) = interpret(program, [quantize(x.numpy(), program.tensors[program.inputs[0].value].qparams)])
    label = program.tensors[program.outputs[0].value].qparams
    found = (codes.astype(np.int64) - label.zero_point) * label.scale[0]
    with torch.no_grad():
        expected = model(x).numpy().transpose(np.argsort(program.outputs[0].permutation))
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max() + label.scale[0]
    assert np.array_equal(
        program.compile()(x.numpy()), found.transpose(program.outputs[0].permutation).astype(np.float32)
    )
