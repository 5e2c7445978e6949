"""Recipes: TOML round trips, and refusals that name the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unfloat.quant.recipe import InputSpec, Override, Recipe, Training
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

ENDLESS = "[input]\nsize = [8, 8]\nmean = [0.0, 0.0, {}]\nstd = [0.2, 0.2, {}]"
PICTURES = "[input]\nmean = [0, 0, 0]\nstd = [1, 1, 1]"


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
        ('bias_correction = "false"', "bias_correction: required true or false, found 'false'"),
        ('equalize = "yes"', "equalize: required true or false, found 'yes'"),
        ("equalize = 1", "equalize: required true or false, found 1"),
        ("weight_bits = 4.0", "weight_bits: required an integer, found 4.0"),
        ("weight_bits = true", "weight_bits: required an integer, found True"),
        ('norm = "a"', "norm: required a number, found 'a'"),
        ("norm = true", "norm: required a number, found True"),
        ('scheme = ["int8"]', r"scheme: required a string, found \('int8',\)"),
        ("override = 3", r"override: required tables, each under a \[\[override\]\] of its own, found 3"),
        ('[override]\npattern = "a"', r"override: required tables, each under a \[\[override\]\]"),
        ("override = [3]", r"\[\[override\]\]: required a table of fields, found 3"),
        ("[[override]]\npattern = 3", "override 3: pattern: required a string, found 3"),
        ('[[override]]\npattern = "a"\nbias_correction = "no"', "bias_correction: required true or false or nothing"),
        ("training = 3", r"\[training\]: required a table of fields, found 3"),
        ("[training]\nstart_after = 1.5", "training.start_after: required an integer, found 1.5"),
        ('[training]\nsynchronize = "no"', "training.synchronize: required true or false, found 'no'"),
        ("[training]\nfreeze_ranges_after = -1", "training.freeze_ranges_after: required a number of steps"),
        ("input = 3", r"\[input\]: required a table of fields, found 3"),
        (
            f"{PICTURES}\nsize = 224",
            r"input.size: required a tuple of 2 \(a list in TOML\), each an integer, found 224",
        ),
        (f"{PICTURES}\nsize = [16.5, 16]", r"input.size: .* each an integer, found \(16.5, 16\)"),
        (PICTURES, r"\[input\]: required the fields \['mean', 'size', 'std'\], found \['mean', 'std'\]"),
        (
            "[[override]]\nweight_bits = 4",
            r"\[\[override\]\]: required the fields \['pattern'\], found \['weight_bits'\]",
        ),
        (f"{ENDLESS.format('0.0', 'nan')}", r"input.std: required three positive numbers.*nan"),
        (f"{ENDLESS.format('0.0', 'inf')}", r"input.std: required three positive numbers.*inf"),
        (f"{ENDLESS.format('-inf', '1.0')}", r"input.mean: required three numbers.*-inf"),
        (f"norm = {'9' * 5000}", "not TOML: Exceeds the limit"),
        (f"norm = {'[' * 5000}", "not TOML: maximum recursion depth"),
        (f"{PICTURES}\nsize = [16]", r"input.size: required a tuple of 2 .* found \(16,\)"),
        (f"{PICTURES}\nsize = [16, 16]\nresize = 16.5", "input.resize: required an integer or nothing, found 16.5"),
    ],
)
def test_refusals_name_the_field(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(overrides=Override("a")), "overrides: required a tuple .* each Override, found Override"),
        (lambda: Recipe(overrides=(3,)), r"overrides: .* found \(3,\)"),
        (lambda: Recipe(training=None), "training: required Training, found None"),
        (lambda: Recipe(input=(224, 224)), r"input: required InputSpec or nothing, found \(224, 224\)"),
        (lambda: Recipe(weight_bits=None), "weight_bits: required an integer, found None"),
        (lambda: Training(momentum="0.9"), "training.momentum: required a number, found '0.9'"),
        (lambda: Override(None), "override None: pattern: required a string"),
    ],
)
def test_fields_of_another_type_are_refused_in_python_too(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_a_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbf" + Recipe(norm=2.0).to_toml().encode())
    assert Recipe.load(tmp_path / "recipe.toml") == Recipe(norm=2.0)


def test_an_integer_serves_as_a_number() -> None:
    assert Recipe.from_toml("norm = 2\npercentile = 100").norm == 2
    assert InputSpec((224, 224), (0, 0, 0), (1, 1, 1)).resize is None


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(RecipeError, match="'head' matches no layer; the layers are features, classifier"):
        Recipe(overrides=(Override("head"),)).check_patterns(["features", "classifier"])


def test_an_unwritable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot write"):
        Recipe().save(tmp_path / "missing" / "recipe.toml")
