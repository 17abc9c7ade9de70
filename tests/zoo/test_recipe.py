from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherecv.errors import InvalidArgumentError
from spherecv.zoo import Recipe, get_recipe
from spherecv.zoo.recipe import TEMPLATES

numbers = st.floats(-1e6, 1e6, allow_nan=False)
recipes = st.builds(
    Recipe,
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    color=st.sampled_from(["BGR", "RGB"]),
    mean=st.tuples(numbers, numbers, numbers),
    scale=st.tuples(*[st.floats(1e-6, 10)] * 3),
    template=st.sampled_from(["sphereface", "arcface"])
    | st.lists(st.tuples(numbers, numbers), min_size=5, max_size=5, unique=True).map(tuple),
    alignment=st.sampled_from(["cp2tform", "umeyama"]),
    mirror=st.booleans(),
    normalize=st.booleans(),
    output=st.none() | st.text(min_size=1),
    name=st.text(min_size=1),
)


@given(recipes)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    back = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert back == recipe
    assert back.fingerprint == recipe.fingerprint
    assert hash(back) == hash(recipe)


def test_arcface_template_is_the_sphereface_one_8_columns_further_right() -> None:
    shifted = np.array(TEMPLATES["sphereface"]) + (8, 0)
    np.testing.assert_allclose(np.array(TEMPLATES["arcface"]), shifted, rtol=0, atol=1e-12)


def test_fingerprint_changes_with_every_value_but_the_name() -> None:
    base = Recipe(size=(112, 96))
    changed = {
        "size": (112, 112),
        "color": "RGB",
        "mean": (0.0, 0.0, 1.0),
        "scale": (1.0, 1.0, 1.5),
        "template": "arcface",
        "alignment": "umeyama",
        "mirror": True,
        "normalize": True,
        "output": "fc5",
        "standardize": True,
    }
    prints = {base.fingerprint} | {dataclasses.replace(base, **{k: v}).fingerprint for k, v in changed.items()}
    boxes = [dataclasses.replace(base, alignment="box", margin=margin).fingerprint for margin in (0, 32)]
    assert len({*prints, *boxes}) == len(changed) + 3
    assert {field.name for field in dataclasses.fields(Recipe)} == {*changed, "margin", "name"}
    assert dataclasses.replace(base, name="other").fingerprint == base.fingerprint


def test_fingerprint_does_not_depend_on_how_a_recipe_is_written() -> None:
    wordy = Recipe(size=(112, 96), mean=(127, 127, 127), template=TEMPLATES["sphereface"])
    assert wordy.fingerprint == Recipe.from_dict({"size": [112, 96], "mean": 127.0}).fingerprint


def test_fingerprint_is_the_same_in_every_process() -> None:
    code = "from spherecv.zoo import get_recipe; print(get_recipe('sphereface').fingerprint)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Written down: a changed canonical form would orphan every stored threshold and gallery.
    assert out.stdout.strip() == get_recipe("sphereface").fingerprint == "0b154b1b95bb"


def test_template_may_be_an_array() -> None:
    recipe = Recipe(size=(112, 96), template=np.array(TEMPLATES["sphereface"]))  # type: ignore[arg-type]
    assert recipe.template_points == TEMPLATES["sphereface"]
    assert recipe.template != "sphereface"


def test_mean_and_scale_may_be_one_number_in_files(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("size = [112, 112]\nmean = [1, 2, 3]\nscale = 0.5\nmirror = true\n")
    recipe = Recipe.from_toml(path)
    assert recipe == Recipe(size=(112, 112), mean=(1.0, 2.0, 3.0), scale=(0.5, 0.5, 0.5), mirror=True, name="mine")
    assert get_recipe(path) == get_recipe(str(path)) == get_recipe(recipe) == get_recipe(recipe.to_dict()) == recipe


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe(size=(112, 96)).mirror = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": [112]}, "size must be"),
        ({"size": [112, 0]}, "size must be"),
        ({"size": [112, 96.0]}, "size must be"),
        ({"size": [True, 96]}, "size must be"),
        ({"size": [112, 100000]}, "size must be"),
        ({"size": "ab"}, "size must be"),
        ({"size": [112, 96], "color": "bgr"}, "color must be one of BGR, RGB, GRAY, but got 'bgr'"),
        ({"size": [112, 96], "mean": [1, 2]}, "mean must be"),
        ({"size": [112, 96], "mean": float("nan")}, "mean must be"),
        ({"size": [112, 96], "mean": "127.5"}, "mean must be"),
        ({"size": [112, 96], "mean": True}, "mean must be"),
        ({"size": [112, 96], "scale": [1, 0, 1]}, "scale must not be 0"),
        ({"size": [112, 96], "scale": float("inf")}, "scale must be"),
        ({"size": [112, 96], "template": "vgg"}, "template must be one of sphereface, arcface, but got 'vgg'"),
        ({"size": [112, 96], "template": [[1, 2]] * 4}, "template must be"),
        ({"size": [112, 96], "template": [[1, 2]] * 5}, "five different points"),
        ({"size": [112, 96], "template": [[1, "a"]] * 5}, "template must be"),
        ({"size": [112, 96], "template": 3}, "template must be"),
        ({"size": [112, 96], "alignment": "affine"}, "alignment must be"),
        ({"size": [112, 96], "alignment": ["umeyama"]}, "alignment must be"),
        ({"size": [112, 96], "margin": 32}, "margin belongs to alignment = 'box'"),
        ({"size": [112, 96], "alignment": "box", "margin": -1}, "margin must be a whole number"),
        ({"size": [112, 96], "alignment": "box", "margin": 1.5}, "margin must be a whole number"),
        ({"size": [112, 96], "standardize": True, "mean": 127.5}, "leave mean and scale out"),
        ({"size": [112, 96], "standardize": True, "scale": 0.5}, "leave mean and scale out"),
        ({"size": [112, 96], "standardize": "true"}, "standardize must be true or false"),
        ({"size": [112, 96], "mirror": "false"}, "mirror must be true or false, but got 'false'"),
        ({"size": [112, 96], "normalize": 1}, "normalize must be true or false"),
        ({"size": [112, 96], "output": ""}, "output must be"),
        ({"size": [112, 96], "name": ""}, "name must be"),
        ({"size": [112, 96], "flip": True}, "a recipe has no flip: it has size, color"),
        ({"mean": 1.0}, "a recipe needs size"),
        ([112, 96], "must be a table of values, but got list"),
    ],
)
def test_bad_values_are_named(values, words) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Recipe.from_dict(values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"size = [112", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"size = 3", "size must be"),
        (None, "cannot be read"),
    ],
)
def test_bad_recipe_files_are_named(tmp_path, text, words) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        get_recipe(path)
    assert str(path) in str(caught.value)


def test_unknown_recipe_name_lists_those_known() -> None:
    with pytest.raises(InvalidArgumentError, match="'openface': choose sphereface, sphereface-mini, sefiks, sface"):
        get_recipe("openface")
