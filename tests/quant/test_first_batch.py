"""The first batch traces the model; it is converted, and refused, as all others are. And models that cannot be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unfloat
from tests.quant.models import batches, small
from unfloat.program.file import to_bytes


class Two(nn.Module):
    """Numbers, and indices of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.rows = nn.Linear(4, 4), nn.Embedding(10, 4)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.linear(x) + self.rows(ids)


def test_other_floats_in_the_first_batch_are_converted_as_in_later_ones() -> None:
    first, *rest = batches()
    wanted = to_bytes(unfloat.quantize(small(), [first, *rest]))
    for data in ([first.double(), *rest], [x.double().numpy() for x in batches()], [{"x": first.double()}, *rest]):
        program = unfloat.quantize(small(), data)
        assert to_bytes(program) == wanted
    assert unfloat.compare(small(), program, [first.double()]).samples == len(first)
    for inputs in (first.double(), first.double().numpy(), [first.numpy()], {"x": first.numpy()}):
        assert to_bytes(unfloat.convert(unfloat.prepare(small(), inputs, calibration=batches())))


def test_indices_in_the_first_batch_stay_integers() -> None:
    for kind in (np.int64, np.int32):
        program = unfloat.quantize(Two(), [(np.random.default_rng(1).normal(size=(3, 4)), np.arange(3, dtype=kind))])
        assert program.tensors["ids"].qparams.dtype == "int16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :2], r"called with it, torch.float32 of shape \(4, 2, 16, 16\): RuntimeError: .*3 channels"),
        (lambda x: x.double()[0], r"called with it, torch.float32 of shape \(3, 16, 16\): ValueError: expected 4D"),
        (lambda x: x.to(torch.uint8), r"called with it, torch.uint8 of shape \(4, 3, 16, 16\): .*; try: floats, prepr"),
        (lambda x: {"y": x, "label": 1}, r"required entries \['x'\], found \['y', 'label'\]"),
        (lambda x: (), r"required 1 inputs \(x\), found 0"),
        (lambda x: np.array([["a"]]), "element 0: required numbers, found an array of <U1"),
    ],
)
def test_a_bad_first_batch_is_refused_as_a_batch(change: Callable[[Tensor], Any], message: str) -> None:
    model = small().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, *rest = batches()
    with pytest.raises(unfloat.CalibrationError, match=f"calibration batch 0.*{message}") as caught:
        unfloat.quantize(model, [change(first), *rest])
    assert "s7" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_what_a_model_of_two_inputs_lacks_is_named() -> None:
    x, ids = torch.randn(3, 4), torch.arange(3)
    with pytest.raises(unfloat.CalibrationError, match=r"batch 0: required 2 inputs \(x, ids\), found 1"):
        unfloat.quantize(Two(), [x])
    with pytest.raises(
        unfloat.CalibrationError, match=r"batch 0: required entries \['x', 'ids'\], found \['x', 'idx'\]"
    ):
        unfloat.quantize(Two(), [{"x": x, "idx": ids}])
    with pytest.raises(
        unfloat.CalibrationError, match=r"batch 0: .*float32 of shape \(3,\): RuntimeError: .*Long, Int"
    ):
        unfloat.quantize(Two(), [(x, ids.float())])


class KeywordOnly(Two):
    def forward(self, x: Tensor, *, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.linear(x) if y is None else self.linear(x) + y


class AnyKeywords(Two):
    def forward(self, x: Tensor, **more: Tensor) -> Tensor:  # type: ignore[override]
        return self.linear(x) + more["y"] if "y" in more else self.linear(x)


class AnyNumber(Two):
    def forward(self, *both: Tensor) -> Tensor:  # type: ignore[override]
        return self.linear(both[0]) + sum(both[1:])


class Optional(Two):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.linear(x) if y is None else self.linear(x) + y


@pytest.mark.parametrize(
    ("kind", "named"), [(KeywordOnly, True), (AnyKeywords, True), (Optional, True), (AnyNumber, False)]
)
def test_every_input_that_forward_takes_is_one(kind: type[Two], named: bool) -> None:
    x, y = torch.randn(32, 4), torch.randn(32, 4)
    batch: Any = {"y": y, "x": x} if named else (x, y)
    model = kind()
    program = unfloat.quantize(model, [batch])
    assert len(program.inputs) == 2
    trained = unfloat.convert(unfloat.prepare(model, batch, calibration=[batch]))
    assert [port.name for port in trained.inputs] == [port.name for port in program.inputs]
    inputs = [y.numpy(), x.numpy()] if program.inputs[0].name == "y" else [x.numpy(), y.numpy()]
    assert np.array_equal(trained.compile()(*inputs), program.compile()(*inputs))
    assert unfloat.compare(model, program, [batch]).samples == 32


def test_what_may_be_a_label_is_none_of_the_inputs() -> None:
    """An optional argument is an input in a dict, where it has a name."""
    x, y = torch.randn(32, 4), torch.randn(32, 4)
    assert [port.name for port in unfloat.quantize(Optional(), [(x, y)]).inputs] == ["x"]
    labelled = {"x": x, "y": y, "label": torch.arange(32)}
    assert [port.name for port in unfloat.quantize(KeywordOnly(), [labelled]).inputs] == ["x", "y"]
    wrapped = nn.DataParallel(Optional(), device_ids=[])
    assert len(unfloat.quantize(wrapped, [(x, torch.arange(32))]).inputs) == 1
    with pytest.raises(unfloat.CalibrationError, match=r"batch 0: required entries \['x', 'y'\], found \['x'\]"):
        unfloat.quantize(Demanding(), [{"x": x}])


class Demanding(Two):
    def forward(self, x: Tensor, *, y: Tensor) -> Tensor:  # type: ignore[override]
        return self.linear(x) + y


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (batches()[0], r"one Tensor of shape \(4, 3, 16, 16\)"),
        (batches()[0].numpy(), r"one ndarray of shape \(4, 3, 16, 16\)"),
        ({"x": batches()[0]}, "one dict"),
        ("folder", "one str"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_one_batch_in_place_of_batches_is_refused(data: Any, found: str) -> None:
    message = rf"data: required batches \(a list, a DataLoader\), found {found}; for one batch X, pass \[X\]"
    with pytest.raises(unfloat.CalibrationError, match=f"calibration {message}"):
        unfloat.quantize(small(), data)
    with pytest.raises(unfloat.CalibrationError, match=f"comparison {message}"):
        unfloat.compare(small(), unfloat.quantize(small(), batches()), data)
    if data is not None:
        with pytest.raises(unfloat.CalibrationError, match=f"calibration {message}"):
            unfloat.prepare(small(), batches()[0], calibration=data)


def test_a_failure_of_tracing_alone_is_not_the_batch() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(
        unfloat.UnsupportedError, match=r"torch.export cannot trace this model.*\n.*no branch on the values"
    ):
        unfloat.quantize(Branch(), batches())


def test_a_model_of_other_floats_is_refused_by_its_parameter() -> None:
    with pytest.raises(
        unfloat.UnsupportedError, match=r"found stem\.0\.weight of torch\.float64; try: model\.float\(\)"
    ):
        unfloat.quantize(small().double(), [batches()[0].double()])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, batches()[0])])
def test_scripted_and_traced_modules_are_refused_by_name(make: Callable[[nn.Module], nn.Module]) -> None:
    message = r"scripted or traced module \(torch.jit\) cannot be exported, found \w+{}; try: the torch.nn.Module that"
    with pytest.raises(unfloat.UnsupportedError, match=message.format("")):
        unfloat.quantize(make(small()), batches())
    with pytest.raises(unfloat.UnsupportedError, match=message.format("")):
        unfloat.prepare(make(small()), batches()[0])
    with pytest.raises(unfloat.UnsupportedError, match=message.format(" as 1")):
        unfloat.quantize(nn.Sequential(nn.ReLU(), make(small())), batches())
    with pytest.raises(unfloat.UnsupportedError, match=r"required a torch.nn.Module or an ExportedProgram, found type"):
        unfloat.quantize(nn.ReLU, batches())
