"""Recipes: TOML round trips, and refusals that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from unfloat.quant.recipe import InputSpec, Override, Recipe
from unfloat.spec.errors import ExportError, RecipeError

FULL = Recipe(
    scheme="uint8",
    weight_bits=5,
    activation_bits=7,
    ranges="percentile",
    percentile=99.9,
    rounding="single",
    bias_correction=False,
    overrides=(Override("features.*", weight_bits=4), Override("classifier", activation_bits=8, ranges="minmax")),
    input=InputSpec((224, 192), (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), resize=256, order="BGR"),
)


@pytest.mark.parametrize("recipe", [Recipe(), FULL])
def test_toml_round_trip(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    recipe.save(path)
    assert Recipe.load(path) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('scheme = "int4"', "scheme: required one of"),
        ("weight_bits = 9", "weight_bits: required an integer, 2 to 8, found 9"),
        ("activation_bits = 1", "activation_bits"),
        ('ranges = "best"', "ranges: required one of"),
        ("percentile = 10.0", "percentile"),
        ("norm = 0.5", "norm: required a number in"),
        ('rounding = "up"', "rounding"),
        ("weights_bits = 4", r"the recipe: required fields among .* found \['weights_bits'\]"),
        ("weights_bits = 4", r"fields among .*'override', 'percentile'"),
        ('overrides = [{pattern = "a", weight_bits = 4}]', r"overrides: required \[\[override\]\] above .* found \[{"),
        ('[[overrides]]\npattern = "a"', r"overrides: required \[\[override\]\] above"),
        ("[[override]]\nweight_bits = 4", "override.*pattern"),
        ('[[override]]\npattern = "a"\nweight_bits = 12', "override 'a': weight_bits"),
        ("[input]\nsize = [224, 224]", r"\[input\].*mean"),
        ("[input]\nsize = [224, 0]\nmean=[0,0,0]\nstd=[1,1,1]", "input.size"),
        ("[input]\nsize = [224, 224]\nmean=[0,0,0]\nstd=[1,0,1]", "input.std"),
        ("scheme = ", "not TOML"),
    ],
)
def test_refusals_name_the_field(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(text)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(RecipeError, match="'head' matches no layer; the layers are features, classifier"):
        Recipe(overrides=(Override("head"),)).check_patterns(["features", "classifier"])


def test_an_unwritable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot write"):
        Recipe().save(tmp_path / "missing" / "recipe.toml")
