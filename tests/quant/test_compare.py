"""Comparing a Program with its model: bad layers are found, named and mended; other models are refused."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unfloat
from tests.quant.models import Small, batches, small
from unfloat.program.interpret import trace
from unfloat.quant.comparison import Comparison, SiteComparison
from unfloat.spec.qparams import dequantize, quantize

CALIBRATION = batches(8, size=16)
TRIAL = batches(4, size=5, seed=7)


@functools.cache
def usual() -> unfloat.Program:
    return unfloat.quantize(small(), CALIBRATION)


def compared(recipe: unfloat.Recipe, model: nn.Module | None = None, calibration: Any = CALIBRATION) -> Comparison:
    model = small() if model is None else model
    return unfloat.compare(model, unfloat.quantize(model, calibration, recipe), TRIAL)


def site(found: Comparison, name: str) -> SiteComparison:
    return next(s for s in found.sites if s.name == name)


def noise_db(expected: np.ndarray, found: np.ndarray) -> float:
    wanted, got = expected.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


def test_every_value_is_the_programs_own_beside_the_float_networks() -> None:
    """The ratios again, from the interpreter's trace, the engine and the model's own modules."""
    model, program = small(), unfloat.quantize(small(), CALIBRATION, unfloat.Recipe(bias_correction=False))
    found = unfloat.compare(model, program, TRIAL)
    assert {s.name for s in found.sites} == set(program.tensors)
    assert found.samples == 20
    x = torch.cat(TRIAL)
    with torch.no_grad():
        stem, output = model.stem(x).permute(0, 2, 3, 1).numpy(), model(x).numpy()
    port = program.inputs[0]
    inner = x.permute(port.permutation).numpy()
    codes = trace(program, [quantize(inner, program.tensors[port.value].qparams)])
    values = {name: dequantize(q, program.tensors[name].qparams) for name, q in codes.items()}
    assert site(found, "stem.0").sqnr_db == pytest.approx(noise_db(stem, values["stem.0"]), abs=0.01)
    assert site(found, "x").sqnr_db == pytest.approx(noise_db(inner, values["x"]), abs=0.01)
    engine = program.compile()(x.numpy())
    assert found.outputs[0].sqnr_db == pytest.approx(noise_db(output, engine), abs=0.01)
    assert found.outputs[0].same_argmax == (engine.argmax(1) == output.argmax(1)).mean()
    assert site(found, "stem.0").max_abs == pytest.approx(stem.max())
    own = site(found, "stem.0").own_sqnr_db
    stem_seen = model.stem(torch.from_numpy(values["x"]).permute(0, 3, 1, 2)).detach().permute(0, 2, 3, 1).numpy()
    born = ((stem_seen.astype(np.float64) - values["stem.0"]) ** 2).sum()
    assert own == pytest.approx(10 * math.log10((stem.astype(np.float64) ** 2).sum() / born), abs=0.01)


def test_clipped_values_are_those_beyond_the_window_and_not_those_that_a_relu_stops() -> None:
    model = small()
    program = unfloat.quantize(model, [x * 0.5 for x in CALIBRATION], unfloat.Recipe(ranges="minmax"))
    found = unfloat.compare(model, program, TRIAL)
    label, x = program.tensors["stem.0"].qparams, torch.cat(TRIAL)
    values = model.stem(x).detach().numpy()
    top = (label.qmax - label.zero_point + 0.5) * label.scale[0]
    assert site(found, "stem.0").clipped_share == (values > top).mean() > 0
    assert (values == 0).mean() > 0.2  # ReLU6's zeros are the lowest code
    inside = unfloat.compare(model, unfloat.quantize(model, TRIAL, unfloat.Recipe(ranges="minmax")), TRIAL)
    assert all(s.clipped_share == 0 for s in inside.sites)


BAD = [
    ({"activation_bits": 3}, "point", "rounding", {"activation_bits": 8}),
    ({"activation_bits": 2}, "head", "", {"activation_bits": 8}),
    ({"weight_bits": 2}, "deep.0", "weights", {"weight_bits": 8}),
]


@pytest.mark.parametrize(("wish", "layer", "cause", "mended"), BAD)
def test_a_bad_layer_is_first_and_the_suggestion_mends_it(
    wish: dict[str, int], layer: str, cause: str, mended: dict[str, int]
) -> None:
    recipe = unfloat.Recipe(overrides=(unfloat.Override(layer, **wish),))  # type: ignore[arg-type]
    found = compared(recipe)
    worst = found.sites[0]
    assert worst.name == layer
    assert cause in ("", worst.cause)
    assert worst.own_sqnr_db < found.sites[1].own_sqnr_db - 10
    assert found.overrides() == (unfloat.Override(layer, **mended),)  # type: ignore[arg-type]
    after = compared(replace(recipe, overrides=(*recipe.overrides, *found.overrides())))
    assert after.outputs[0].sqnr_db > found.outputs[0].sqnr_db + 3
    assert not after.overrides()


def test_noise_is_born_once_and_carried_on() -> None:
    """Layers after the bad one have its noise and none the more of their own, though their biases make up for it."""
    bad = compared(unfloat.Recipe(overrides=(unfloat.Override("point", activation_bits=3),)))
    good = compared(unfloat.Recipe())
    assert not good.overrides()
    for name in ("add", "head"):
        carried = site(good, name).sqnr_db - site(bad, name).sqnr_db
        assert carried > 10
        # Not the very same: what few codes an operand has left changes how its sums round.
        assert site(bad, name).own_sqnr_db == pytest.approx(site(good, name).own_sqnr_db, abs=carried / 10)
    assert site(bad, "pool").own_sqnr_db == math.inf  # it moves codes


class Cubed(nn.Module):
    """Its values grow far beyond most of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.last(y * y * y)


def with_a_pixel_of(value: float) -> list[torch.Tensor]:
    data = [x.clone() for x in CALIBRATION]
    data[0][0, :, 5, 5] = value
    return data


def test_an_input_is_mended_by_the_whole_recipe() -> None:
    found = compared(unfloat.Recipe(ranges="minmax"), calibration=with_a_pixel_of(400.0))
    assert found.sites[0].name == "x"
    assert found.sites[0].advice == 'ranges = "mse" for the whole recipe: no override reaches an input'
    assert found.sites[0].suggestion is None


def test_a_window_stretched_by_an_outlier_is_narrowed() -> None:
    data = with_a_pixel_of(40.0)
    recipe = unfloat.Recipe(ranges="minmax", bias_correction=False)
    found = compared(recipe, Cubed(), data)
    assert unfloat.Override("mul:2", ranges="mse") in found.overrides()
    assert site(found, "mul:2").cause == "rounding"
    again = compared(replace(recipe, overrides=found.overrides()), Cubed(), data)
    assert unfloat.Override("mul:2", ranges="percentile") in again.overrides()  # one square outweighs all else
    after = compared(replace(recipe, overrides=again.overrides()), Cubed(), data)
    assert site(after, "mul:2").own_sqnr_db > site(found, "mul:2").own_sqnr_db + 20
    assert after.outputs[0].sqnr_db > found.outputs[0].sqnr_db + 10


def test_a_clipped_site_is_widened_where_calibration_saw_more() -> None:
    recipe = unfloat.Recipe(overrides=(unfloat.Override("mul:2", ranges="percentile"),), percentile=95.0)
    found = compared(recipe, Cubed())
    worst = found.sites[0]
    assert (worst.name, worst.cause, worst.suggestion) == (
        "mul:2",
        "clipping",
        unfloat.Override("mul:2", ranges="minmax"),
    )
    assert worst.clipped_share == pytest.approx(0.1, abs=0.03)
    after = compared(replace(recipe, overrides=(*recipe.overrides, *found.overrides())), Cubed())
    assert after.outputs[0].sqnr_db > found.outputs[0].sqnr_db + 10


def test_data_beyond_calibration_are_said_to_be() -> None:
    model = small()
    program = unfloat.quantize(model, [x * 0.2 for x in CALIBRATION], unfloat.Recipe(ranges="minmax"))
    found = unfloat.compare(model, program, TRIAL)
    assert found.sites[0].cause == "clipping"
    assert "calibrate on data like these" in found.sites[0].advice
    assert not found.overrides()


def test_a_scheme_of_one_scale_for_all_channels_is_named() -> None:
    model = small()
    with torch.no_grad():
        for tensor, factor in ((model.stem[1].weight, 1e-3), (model.stem[1].bias, 1e-3), (model.deep[0].weight, 1e3)):
            tensor[3] *= factor  # the same function; one channel of `deep` sets the weight scale of all
    recipe = unfloat.Recipe(scheme="uint8", bias_correction=False)
    found = compared(recipe, model)
    assert (found.sites[0].name, found.sites[0].cause) == ("deep.0", "weights")
    assert 'scheme = "int8"' in found.sites[0].advice
    assert found.sites[0].suggestion is None
    after = compared(replace(recipe, scheme="int8"), model)
    assert site(after, "deep.0").own_sqnr_db > found.sites[0].own_sqnr_db + 10


@pytest.mark.parametrize("scheme", ["int8", "uint8"])
def test_low_bits_everywhere_are_not_blamed_on_a_layer(scheme: str) -> None:
    assert not compared(unfloat.Recipe(scheme=scheme, weight_bits=5, activation_bits=5)).overrides()


def test_a_network_on_the_grid_has_no_noise() -> None:
    model = nn.Conv2d(2, 2, 1, groups=2, bias=False)
    nn.init.ones_(model.weight)
    codes = torch.arange(-128, 128, dtype=torch.float32).repeat(2).reshape(2, 2, 16, 8)
    data = [codes / 64]
    program = unfloat.quantize(model, data, unfloat.Recipe(ranges="minmax", bias_correction=False))
    found = unfloat.compare(model, program, data)
    assert [s.sqnr_db for s in found.sites] == [math.inf] * 2
    assert [s.own_sqnr_db for s in found.sites] == [math.inf] * 2
    assert found.outputs[0].sqnr_db == math.inf
    assert found.outputs[0].same_argmax is None
    assert found.record()["sites"][0]["sqnr_db"] is None
    assert found.to_toml() == ""


class Joined(nn.Module):
    """A concatenation shares its QParams with what it joins; a constant; a softmax dictates its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("shift", torch.tensor([0.3, -0.2, 0.1]))
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = torch.cat([self.left(x), self.right(x)], 1).mean((2, 3))
        logits = self.last(pooled) + self.shift
        return {"logits": logits, "shares": torch.softmax(logits * 20, 1)}


def test_shared_sites_constants_fixed_ranges_and_several_outputs() -> None:
    torch.manual_seed(0)
    recipe = unfloat.Recipe(overrides=(unfloat.Override("*", activation_bits=3), unfloat.Override("last", 8, 8)))
    found = compared(recipe, Joined())
    assert [o.name for o in found.outputs] == ["logits", "shares"]
    assert all(o.same_argmax is not None and 0 < o.same_argmax <= 1 for o in found.outputs)
    assert "add:constant" in {s.name for s in found.sites}
    wide = unfloat.Recipe(overrides=(unfloat.Override("cat", activation_bits=2),))
    suggested = compared(wide, Joined()).overrides()
    assert unfloat.Override("cat", activation_bits=8) in suggested
    before, after = (compared(replace(wide, overrides=o), Joined()) for o in (wide.overrides, suggested))
    assert site(after, "cat").bits == 8
    assert site(before, "cat").bits == 2


def test_the_toml_continues_a_recipe() -> None:
    recipe = unfloat.Recipe(overrides=(unfloat.Override("point", activation_bits=3), unfloat.Override("deep.0", 2)))
    found = compared(recipe)
    read = unfloat.Recipe.from_toml(unfloat.Recipe().to_toml() + "\n" + found.to_toml())
    assert read.overrides == found.overrides()
    assert {o.pattern for o in read.overrides} == {"point", "deep.0"}


def test_a_limit_stops_in_the_middle_of_a_batch_and_reads_no_further() -> None:
    program = usual()
    taken = 0

    def counted() -> Iterator[torch.Tensor]:
        nonlocal taken
        for x in TRIAL:
            taken += 1
            yield x

    found = unfloat.compare(small(), program, counted(), limit=7)
    assert (found.samples, taken) == (7, 2)
    whole = unfloat.compare(small(), program, [torch.cat(TRIAL)[:7]])
    ratios = [[s.sqnr_db for s in c.sites if math.isfinite(s.own_sqnr_db)] for c in (found, whole)]
    assert ratios[0] == pytest.approx(ratios[1], abs=1e-3)
    with pytest.raises(unfloat.InputError, match="at least one sample, found 0"):
        unfloat.compare(small(), program, TRIAL, limit=0)


def test_the_model_is_left_alone_and_an_exported_program_serves() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    program = unfloat.quantize(model, CALIBRATION)
    found = unfloat.compare(model, program, TRIAL)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    exported = torch.export.export(small(), (TRIAL[0],), dynamic_shapes={"x": {0: torch.export.Dim.AUTO}})
    assert unfloat.compare(exported, program, TRIAL).outputs == found.outputs


def test_a_students_program_is_compared_with_the_model_it_came_from() -> None:
    student = unfloat.prepare(small(), TRIAL[0], calibration=CALIBRATION)
    assert unfloat.compare(small(), unfloat.convert(student), TRIAL).outputs[0].sqnr_db > 15


class Other(Small):
    """As many layers, another name."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise = self.point
        del self.point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.pointwise(self.deep(x)))
        return self.head(self.drop(torch.flatten(self.pool(x), 1)))


def with_another_clamp() -> nn.Module:
    model = small()
    model.deep[2] = nn.Hardtanh(-0.1, 0.1)
    return model


def with_another_dilation() -> nn.Module:
    model = small()
    model.stem[0].dilation, model.stem[0].padding = (2, 2), (2, 2)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Small(classes=7).eval(), r"layer 6 of the model is head, fully_connected, 7, .*; of the Program head"),
        (lambda: Other().eval(), "layer 2 of the model is pointwise, .*; of the Program point, "),
        (with_another_clamp, "layer deep.0, clamp_max: of the model -?[0-9]+, of the Program 127"),
        (with_another_dilation, r"layer stem.0, dilation: of the model \(2, 2\), of the Program \(1, 1\)"),
        (lambda: small(seed=5), "layer stem.0: its weights in the Program are further from the model's than zeros"),
        (lambda: nn.Conv2d(1, 8, 3).eval(), "which cannot be read with the Program's inputs"),
        (lambda: nn.Flatten(), "input 0 of the model is input, 3x16x16, .*; of the Program x, 16x16x3"),
    ],
)
def test_another_model_is_refused_by_the_first_difference(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(unfloat.UnfloatError, match=f"(?s)this Program was not made from this model.*{message}"):
        unfloat.compare(model(), usual(), TRIAL)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "does not carry the recipe"),
        ({"recipe": "bits = 3"}, "the recipe: required fields among"),
        ({"recipe": "equalize = true"}, "made with equalize = true"),
    ],
)
def test_a_program_without_a_recipe_of_use_is_refused(metadata: dict[str, str], message: str) -> None:
    program = replace(usual(), metadata=metadata)
    with pytest.raises(unfloat.UnfloatError, match=message):
        unfloat.compare(small(), program, TRIAL)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "comparison data: required at least one batch, found none"),
        ([TRIAL[0][:, :2]], r"comparison batch 0, input x: required shape \(n, 3, 16, 16\), found \(5, 2, 16, 16\)"),
        ([TRIAL[0], TRIAL[1] * math.nan], "comparison batch 1, input x: required finite numbers"),
        (["a path"], "comparison batch 0, input x: required a tensor or an array, found str"),
    ],
)
def test_bad_data_are_refused(data: list[Any], message: str) -> None:
    with pytest.raises(unfloat.CalibrationError, match=message):
        unfloat.compare(small(), usual(), data)


def test_a_path_in_place_of_a_program_is_refused() -> None:
    with pytest.raises(
        unfloat.UnfloatError, match=r"required a Program, found str 'net.unfloat'; of a file, pass unfloat.load"
    ):
        unfloat.compare(small(), "net.unfloat", batches())  # type: ignore[arg-type]


def test_activations_that_overflow_are_refused_by_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[0].weight, 2.0)
    program = unfloat.quantize(model, CALIBRATION)
    with pytest.raises(
        unfloat.CalibrationError, match=r"layer 0: .*finite activations.*check its weights and the data"
    ):
        unfloat.compare(model, program, [TRIAL[0].abs() * 5e37])
