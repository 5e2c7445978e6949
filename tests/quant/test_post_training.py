"""The main path: a module and data in, a Program out; what may vary, what must not, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unfloat
from tests.quant.models import batches, small
from unfloat.formats.torch.read import read
from unfloat.passes import prepare
from unfloat.program.file import to_bytes
from unfloat.program.interpret import interpret, trace
from unfloat.quant.algorithms.bias_correction import correct_biases
from unfloat.quant.calibrate import calibrate
from unfloat.quant.post_training import simulate
from unfloat.quant.simulate import Simulation
from unfloat.spec.qparams import quantize

RECIPES = [
    unfloat.Recipe(),
    unfloat.Recipe(scheme="uint8"),
    unfloat.Recipe(rounding="single"),
    unfloat.Recipe(weight_bits=4, activation_bits=6),
    unfloat.Recipe(ranges="percentile"),
    unfloat.Recipe(ranges="mse"),
    unfloat.Recipe(ranges="moving_average"),
    unfloat.Recipe(ranges="minmax", bias_correction=False),
    unfloat.Recipe(overrides=(unfloat.Override("head*", weight_bits=2, activation_bits=3),)),
]


def calibrated(recipe: unfloat.Recipe, correct: bool = False) -> Simulation:
    model = small()
    simulation = simulate(model, read(model, (batches()[0],)), recipe, prepare)
    kept = calibrate(simulation, batches(8), lambda b: b)
    if correct:
        assert correct_biases(simulation, kept, lambda: None) > 0
    return simulation


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.scheme}-{r.ranges}-{r.rounding}-{r.weight_bits}")
def test_simulation_program_and_engine_give_the_same_bits(recipe: unfloat.Recipe) -> None:
    simulation = calibrated(recipe, recipe.bias_correction)
    program = simulation.convert()
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    truth = interpret(program, [codes])[0]
    assert np.array_equal(simulation.exact([x])[0].numpy(), truth)
    for level in (None, "scalar"):
        engine = program.compile(threads=2, level=level)
        assert np.array_equal(engine.run(codes), truth)
        label = program.tensors[program.outputs[0].value].qparams
        expected = (truth.astype(np.float32) - label.zero_point) * np.float32(label.scale[0])
        assert np.array_equal(engine(x.numpy()), expected)


def test_integers_stay_near_the_float_model() -> None:
    model = small()
    engine = unfloat.quantize(model, batches(8)).compile()
    x = torch.cat(batches(4, seed=7))
    expected = model(x).detach().numpy()
    noise = ((engine(x.numpy()) - expected) ** 2).sum()
    assert 10 * np.log10((expected**2).sum() / noise) > 18


def test_the_float_simulation_is_the_model() -> None:
    simulation = calibrated(unfloat.Recipe())
    x = torch.cat(batches(2, seed=3))
    with torch.no_grad():
        (found,) = simulation.execute(simulation.to_inner([x]), simulation.float_value)
        assert torch.allclose(found, small()(x), atol=1e-5)


def test_the_model_is_not_changed() -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    unfloat.quantize(model, batches())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_the_same_call_gives_the_same_bytes() -> None:
    assert to_bytes(unfloat.quantize(small(), batches())) == to_bytes(unfloat.quantize(small(), batches()))


def test_any_iterable_of_batches_serves() -> None:
    wanted = to_bytes(unfloat.quantize(small(), batches()))
    data = torch.cat(batches())
    labels = torch.zeros(len(data), dtype=torch.long)
    forms: list[Any] = [
        iter(batches()),
        [(x, torch.zeros(4)) for x in batches()],
        [[x, "ignored"] for x in batches()],
        [{"x": x, "label": 3} for x in batches()],
        [x.numpy() for x in batches()],
        DataLoader(TensorDataset(data, labels), batch_size=4),
    ]
    for form in forms:
        assert to_bytes(unfloat.quantize(small(), form)) == wanted


def test_a_smaller_last_batch_and_an_exported_program_serve() -> None:
    exported = torch.export.export(small(), (batches()[0],), dynamic_shapes={"x": {0: torch.export.Dim.AUTO}})
    assert unfloat.quantize(exported, batches()).verify().instructions == 7
    unfloat.quantize(small(), [*batches(), torch.randn(1, 3, 16, 16)])


def bad_batch(change: Callable[[torch.Tensor], Any]) -> list[Any]:
    return [batches()[0], change(batches()[1])]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "at least one batch, found none"),
        (bad_batch(lambda x: x[:, :2]), r"batch 1, input x: required shape \(n, 3, 16, 16\), found \(4, 2, 16, 16\)"),
        (bad_batch(lambda x: x[0]), "batch 1, input x: required shape"),
        (bad_batch(lambda x: x[:0]), "batch 1, input x: required shape"),
        (bad_batch(lambda x: (x * 50).to(torch.uint8)), "batch 1, input x: required floats.*found torch.uint8"),
        (bad_batch(lambda x: x * torch.nan), "batch 1, input x: required finite numbers"),
        (bad_batch(lambda x: x / 0), "batch 1, input x: required finite numbers"),
        (bad_batch(lambda x: {"y": x}), r"batch 1: required entries \['x'\], found \['y'\]"),
        (bad_batch(lambda x: "a path"), "batch 1, input x: required a tensor or an array, found str"),
        (bad_batch(lambda x: ()), "batch 1: required 1 inputs, found 0"),
    ],
)
def test_bad_calibration_data_is_refused(data: list[Any], message: str) -> None:
    with pytest.raises(unfloat.CalibrationError, match=message):
        unfloat.quantize(small(), data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_layer(value: float) -> None:
    model = small()
    with torch.no_grad():
        model.point.weight[0, 0, 0, 0] = value
    with pytest.raises(
        unfloat.NumericDomainError, match=r"layer point .*weight, parameter point.weight, must hold finite"
    ):
        unfloat.quantize(model, batches())


def test_activations_that_overflow_are_refused_by_layer() -> None:
    model = small()
    with torch.no_grad():
        model.point.weight.fill_(3e38)
    with pytest.raises(unfloat.CalibrationError, match=r"layer point .*finite activations"):
        unfloat.quantize(model, batches())


def test_zero_channels_constant_layers_and_large_biases_are_normal_and_counted() -> None:
    model = small()
    with torch.no_grad():
        model.point.weight[1] = 0
        model.point.bias[1] = 0
        model.stem[1].weight[2] = 0  # a norm that silences a channel
        model.head.weight[3] *= 1e-9  # a bias far too large for its weight's scale
        model.head.bias[3] = 5.0
    program = unfloat.quantize(model, batches())
    counts = program.metadata["counts"]
    assert counts["zero_channels"] >= 2
    assert counts["enlarged_scales"] >= 1
    x = torch.cat(batches(2, seed=5))
    assert np.abs(program.compile()(x.numpy())[:, 3] - 5.0).max() < 0.1
    with torch.no_grad():
        model.stem[0].weight.zero_()
        model.stem[1].bias.zero_()
        model.stem[1].running_mean.zero_()
    program = unfloat.quantize(model, batches())
    assert program.metadata["counts"]["constant_sites"] >= 1
    assert np.allclose(program.compile()(x.numpy()), model(x).detach().numpy(), atol=0.1)


def test_m_out_of_range_is_refused_by_layer() -> None:
    simulation = calibrated(unfloat.Recipe())
    node = next(n for n in simulation.graph.nodes if n.name == "point")
    simulation.labels["point"] = unfloat.spec.qparams.QParams((float(np.float32(1e-30)),), 0)
    with pytest.raises(unfloat.NumericDomainError, match=r"layer point .*a rescaling factor must be below"):
        simulation.instruction(node)


def test_bias_correction_is_kept_only_where_it_helps() -> None:
    """A weight of two bits shifts means; the correction brings the held-back outputs nearer, never further."""
    recipe = unfloat.Recipe(weight_bits=2)
    simulation, plain = calibrated(recipe, correct=True), calibrated(recipe)
    x = torch.cat(batches(8, seed=11))
    expected = small()(x).detach().numpy()

    def error(s: Simulation) -> float:
        return float(((s.convert().compile()(x.numpy()) - expected) ** 2).mean())

    assert error(simulation) < error(plain)


def test_sites_show_the_labels_they_share() -> None:
    program = unfloat.quantize(small(), batches())
    names = [i.name for i in program.instructions]
    pooled = next(n for n in names if n.startswith("pool"))
    source = next(i for i in program.instructions if i.name == pooled).inputs[0]
    assert program.tensors[pooled].qparams == program.tensors[source].qparams
    codes = np.zeros((1, *program.inputs[0].shape[1:]), np.int8)
    assert set(trace(program, [codes])) == set(program.tensors)


def test_an_override_that_matches_nothing_is_refused() -> None:
    with pytest.raises(unfloat.RecipeError, match="'haed' matches no layer; the layers are"):
        unfloat.quantize(small(), batches(), unfloat.Recipe(overrides=(unfloat.Override("haed", weight_bits=4),)))


@pytest.mark.parametrize("recipe", ["recipe.toml", "", Path("recipe.toml"), {"scheme": "uint8"}])
@pytest.mark.parametrize("call", [unfloat.quantize, unfloat.prepare])
def test_what_is_no_recipe_is_refused(call: Callable[..., object], recipe: object) -> None:
    with pytest.raises(unfloat.RecipeError, match=r"recipe: required a Recipe, found .* pass Recipe.load\(path\)"):
        call(small(), batches(), recipe)


def test_unsupported_operators_are_listed_all_at_once() -> None:
    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(torch.cumsum(x, dim=2))

    with pytest.raises(unfloat.UnsupportedError) as caught:
        unfloat.quantize(Strange(), batches())
    assert len(caught.value.problems) == 2
    assert "sin" in str(caught.value)
    assert "cumsum" in str(caught.value)
    assert "test_post_training.py" in str(caught.value)


class Branches(nn.Module):
    """Two convolutions joined, one of them read again elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.left(x), self.right(x)
        return (self.last(torch.cat([left, right], 1)) + right).mean((2, 3))


def test_ties_are_cut_where_a_value_is_read_elsewhere_or_has_other_bits() -> None:
    program = unfloat.quantize(Branches(), batches())
    joined = next(i for i in program.instructions if i.op == "concatenation")
    assert joined.inputs[0] == "left"
    assert joined.inputs[1] == "cat:rescale"
    recipe = unfloat.Recipe(overrides=(unfloat.Override("left", activation_bits=5),))
    program = unfloat.quantize(Branches(), batches(), recipe)
    joined = next(i for i in program.instructions if i.op == "concatenation")
    assert program.tensors["left"].qparams.bits == 5
    assert program.tensors[joined.name].qparams.bits == 8
    assert all(name.startswith("cat:rescale") for name in joined.inputs)
