from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spherecv.errors import ModelFileError, ModelNotFoundError
from spherecv.zoo import DEFAULT_MODEL, get_recipe, model_info, model_names, models_dir, read_manifest
from spherecv.zoo.manifest import shipped_manifest


def test_the_models_of_the_design_are_there() -> None:
    assert {"sphereface-20", "sface"} <= set(model_names("embedder"))
    assert {"mtcnn", "yunet"} <= set(model_names("detector"))
    assert set(model_names()) == {*model_names("embedder"), *model_names("detector")}
    assert DEFAULT_MODEL in model_names("embedder")


def test_an_unknown_model_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'facenet': choose sphereface-mini, sphereface-20, .*models list"):
        model_info("facenet")


@pytest.mark.parametrize("name", model_names())
def test_every_model_says_what_a_user_must_know(name: str) -> None:
    info = model_info(name)
    assert info.name == name
    for text in (info.title, info.licence, info.terms, info.training_data, info.homepage):
        assert text.strip()
    assert not info.card or (models_dir() / info.card).is_file()
    for file in info.files:
        assert all(urlsplit(url).scheme == "https" for url in file.urls)


def test_every_threshold_belongs_to_the_recipe_as_it_is_now() -> None:
    for info in shipped_manifest().models.values():
        for row in info.thresholds:
            assert row.fingerprint == get_recipe(row.recipe).fingerprint, f"{info.name}: measure {row.recipe} again"


def test_sefiks_thresholds_are_marked_as_not_reproduced() -> None:
    rows = {row.metric: row for row in model_info("sphereface-20").thresholds if row.recipe == "sefiks"}
    assert rows["euclidean"].threshold == 17.212238311767578
    assert rows["cosine"].threshold == 0.4668717384338379
    assert not any(row.reproduced for row in rows.values())
    recipe = get_recipe("sefiks")
    assert recipe.mean == (0.0, 0.0, 0.0)
    assert recipe.scale == (1 / 255,) * 3
    assert (recipe.color, recipe.mirror, recipe.normalize, recipe.size) == ("BGR", False, False, (112, 96))


def test_the_authors_prototxt_is_the_known_form(data_dir: Path) -> None:
    (form,) = model_info("sphereface-20").file("prototxt").known_forms
    theirs = data_dir / "sphereface-prototxt" / "sphereface_deploy.prototxt"
    assert hashlib.sha256(theirs.read_bytes()).hexdigest() == form.sha256


def test_file_by_role() -> None:
    info = model_info("sphereface-20")
    assert info.file("caffemodel").size == 90_688_218
    with pytest.raises(KeyError):
        info.file("onnx")


def test_to_dict_is_plain() -> None:
    import json

    values = json.loads(json.dumps(model_info("sphereface-20").to_dict()))
    assert values["files"][1]["digests"]["sha384"].startswith("52c285241df2")
    assert values["thresholds"][0]["chosen_for"] == "best accuracy"


GOOD = """
[recipes.plain]
size = [112, 96]
[models.toy]
title = "Toy"
kind = "embedder"
format = "onnx"
recipe = "plain"
licence = "MIT"
terms = "none"
training_data = "none"
homepage = "none"
[[models.toy.files]]
role = "onnx"
name = "toy.onnx"
urls = ["https://example.org/toy.onnx"]
size = 5
sha256 = "HASH"
[[models.toy.thresholds]]
metric = "cosine"
threshold = 0.5
far = 1e-3
dataset = "LFW"
pairs = 3000
detector = "mtcnn"
recipe = "plain"
fingerprint = "0"
rate = 0.001
interval = [0.0005, 0.002]
reproduced = true
source = "us"
[[models.toy.probabilities]]
metric = "cosine"
method = "logistic"
distances = [0.1, 1]
log_ratios = [5, -5.0]
ece = { logistic = 0.01 }
dataset = "LFW view 1 train"
pairs = 2200
detector = "mtcnn"
recipe = "plain"
fingerprint = "0"
source = "us"
""".replace("HASH", "ab" * 32)


def test_a_good_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    info = read_manifest(path).models["toy"]
    assert info.thresholds[0].interval == (0.0005, 0.002)
    assert info.thresholds[0].chosen_for == "FAR 0.001"
    assert info.probabilities[0].curve.probability(0.55) == pytest.approx(0.5)
    assert info.to_dict()["probabilities"][0]["curve"]["distances"] == (0.1, 1.0)
    assert info.size == 5
    assert info.files[0].digests == (("sha256", "ab" * 32),)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Toy"', "", "models.toy needs title"),
        ('title = "Toy"', "title = 3", "models.toy: title cannot be 3"),
        ('title = "Toy"', 'title = "Toy"\nflavour = 1', "models.toy has no flavour"),
        ('kind = "embedder"', 'kind = "recogniser"', "kind must be one of embedder, detector"),
        ('kind = "embedder"', 'kind = "detector"', "a detector none; not 'plain'"),
        ('recipe = "plain"\nlicence', "licence", "an embedder needs a recipe of [recipes], a detector none; not None"),
        ('recipe = "plain"\nlicence', 'recipe = "x"\nlicence', "not 'x'"),
        ('format = "onnx"', 'format = "caffe"', "a caffe model cannot have the files onnx"),
        ('format = "onnx"', 'format = "wheel"', "an embedder cannot be of the format wheel"),
        ("[models.toy]", '[models."../toy"]', "a name is made of a-z"),
        ("https://example.org", "ftp://example.org", "urls must be http or https"),
        ("size = 5", "size = 0", "needs size, and sha256 or sha384"),
        ("size = 5", "size = true", "size cannot be True"),
        ("size = 5", "", "needs size"),
        ("ab" * 32, "xy" * 32, "sha256 must be 64 hexadecimal digits"),
        ('name = "toy.onnx"', 'name = "../../etc/passwd"', "is not a plain file name"),
        ('name = "toy.onnx"', 'name = "/etc/passwd"', "is not a plain file name"),
        ('name = "toy.onnx"', 'name = "a\\\\b"', "is not a plain file name"),
        ('urls = ["https://example.org/toy.onnx"]', "", "needs either urls or index, or wheel, or packaged"),
        ("size = 5", "size = 5\npackaged = true", "needs either urls or index, or wheel, or packaged"),
        ("threshold = 0.5", "threshold = -1", "must be a positive distance"),
        ("threshold = 0.5", "threshold = nan", "must be a positive distance"),
        ("far = 1e-3", "far = 2.0", "far must lie within 0..1"),
        ("far = 1e-3", "", "needs either far or chosen_for"),
        ("far = 1e-3", 'far = 1e-3\nchosen_for = "best accuracy"', "needs either far or chosen_for"),
        ("interval = [0.0005, 0.002]", "interval = [0.2, 0.1]", "interval must be"),
        ("interval = [0.0005, 0.002]", 'interval = ["a", "b"]', "interval must be"),
        ("reproduced = true", "measured_far = 2\nreproduced = true", "measured_far must lie within 0..1"),
        ("reproduced = true", 'reproduced = "false"', "reproduced cannot be 'false'"),
        ('method = "logistic"', 'method = "guess"', "method must be one of logistic, isotonic"),
        ("distances = [0.1, 1]", "distances = [1, 0.1]", "a probability curve needs"),
        ("distances = [0.1, 1]", 'distances = ["a", "b"]', "probabilities[0]: could not convert"),
        ('recipe = "plain"\nfingerprint = "0"\nsource', 'recipe = "x"\nfingerprint = "0"\nsource', "is called 'x'"),
        ("size = [112, 96]", "size = [112]", "size must be"),
        ("[models.toy]", "[models.toy", "is not TOML"),
        ("[recipes.plain]", "[recipe.plain]", "a manifest has no recipe"),
    ],
)
def test_mistakes_in_a_manifest_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    path = tmp_path / "m.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ModelFileError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_manifest(tmp_path / "none.toml")


def test_the_manifest_travels_with_the_package() -> None:
    assert (models_dir() / "manifest.toml").is_file()
    assert tomllib.loads((models_dir() / "manifest.toml").read_text())["models"]


def test_every_model_with_thresholds_of_ours_can_group_faces() -> None:
    for name in model_names("embedder"):
        info = model_info(name)
        if any(row.reproduced for row in info.thresholds):
            assert info.clustering, name
            assert all(row.fingerprint == get_recipe(row.recipe).fingerprint for row in info.clustering)
