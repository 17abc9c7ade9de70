from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spherecv import FaceVerifier
from spherecv.cli.app import app
from spherecv.config import PipelineConfig
from spherecv.errors import (
    CalibrationError,
    HashMismatchError,
    InvalidArgumentError,
    MissingThresholdError,
    ModelFileError,
    ModelNotFoundError,
    StorageError,
)
from spherecv.gallery import FaceGallery
from spherecv.thresholds import CalibratedThreshold, Calibration
from spherecv.zoo import (
    DEFAULT_MODEL,
    Learnt,
    Terms,
    add_model,
    model_info,
    model_names,
    models_dir,
    open_model,
    own_dir,
    remove_model,
)
from spherecv.zoo.key import ModelKey

PROTOTXT, CAFFEMODEL = models_dir() / "sphereface-mini.prototxt", models_dir() / "sphereface-mini.caffemodel"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shipped net, with a prototxt that the manifest does not know."""
    prototxt = tmp_path_factory.mktemp("nets") / "deploy.prototxt"
    prototxt.write_text(PROTOTXT.read_text() + "# the door's\n")
    return {"prototxt": prototxt, "caffemodel": CAFFEMODEL}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPHERECV_MODELS", str(tmp_path / "own models"))
    return tmp_path / "own models"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def measured(source, path: Path, *, detector: str = "mtcnn") -> Path:
    row = CalibratedThreshold(
        chosen_for="FAR 0.01", threshold=0.61, far=0.01, measured_far=0.01, far_interval=(0, 1), measured_tar=0.9,
        tar_interval=(0, 1), false_accepts=30,
    )  # fmt: skip
    Calibration(
        model=source.name, model_key=source.key, recipe=source.recipe, metric="cosine", detector=detector,
        face="largest", no_face="skip", dataset="our door", impostor_pairs_from="listed pairs", genuine=9,
        impostors=3000, identities=9, images=9, failed=0, thresholds=(row,),
    ).save(path)  # fmt: skip
    return path


def test_a_model_by_name_is_the_model_by_its_files(home: Path, files) -> None:
    info = add_model("door", files, recipe="mobilefacenet")
    assert info == model_info("door")
    assert "door" in model_names("embedder")
    by_name = PipelineConfig("door")
    by_files = PipelineConfig((files["prototxt"], CAFFEMODEL), recipe="mobilefacenet")
    assert by_name.source.recipe.fingerprint == by_files.source.recipe.fingerprint
    copied = home / "door" / "door.caffemodel"
    assert hashlib.sha256(copied.read_bytes()).digest() == hashlib.sha256(CAFFEMODEL.read_bytes()).digest()
    assert by_name.fingerprint.key.split("-")[0] == by_files.fingerprint.key.split("-")[0]
    assert by_files.source.name == "door"
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    with pytest.raises(ModelFileError):
        PipelineConfig("door").open_embedder()  # the net of 112x96 with a recipe of 112x112
    add_model("door", files, recipe="sphereface", replace=True)
    one = PipelineConfig("door").open_embedder().embed(crops[:, :, 8:104])
    other = PipelineConfig(DEFAULT_MODEL, recipe="sphereface").open_embedder().embed(crops[:, :, 8:104])
    np.testing.assert_array_equal(one, other)


def test_terms_beside_the_weights_are_kept(tmp_path: Path, files) -> None:
    weights = tmp_path / "door.caffemodel"
    weights.write_bytes(CAFFEMODEL.read_bytes())
    beside = tmp_path / "door.terms.toml"
    given = ("--prototxt", files["prototxt"], "--caffemodel", weights, "--recipe", "sphereface")
    assert "licence" not in run("models", "add", "door", *given).stdout
    assert model_info("door").licence == "not stated"
    Terms(licence="research only", terms="Ask us.", training_data="doors").save(weights)
    added = run("models", "add", "door", *given, "--replace")
    assert "licence research only. Ask us." in added.stdout
    info = model_info("door")
    assert (info.licence, info.terms, info.training_data) == ("research only", "Ask us.", "doors")
    for text in ('licence = "MIT"', 'licence = "MIT"\nterms = 3\ntraining_data = ""', "licence ="):
        beside.write_text(text)
        refused = run("models", "add", "door", *given, "--replace")
        assert refused.exit_code == 2
        assert "door.terms.toml" in refused.stderr
    assert model_info("door").licence == "research only"


def test_what_the_weights_were_tuned_on_is_kept(tmp_path: Path, files) -> None:
    weights = tmp_path / "door.caffemodel"
    weights.write_bytes(CAFFEMODEL.read_bytes())
    image = tmp_path / "ann.jpg"
    image.write_bytes(b"Ann")
    Learnt.of([b"Ann", b"Bob"]).save(weights)
    model = add_model("door", {"prototxt": files["prototxt"], "caffemodel": weights}, recipe="sphereface")
    kept = Learnt.beside(own_dir() / "door" / "door.caffemodel")
    assert kept == Learnt.beside(weights) == Learnt.of([b"Bob", b"Ann"])
    assert kept is not None
    assert kept.count([image, weights, tmp_path / "nobody.jpg"]) == 1
    assert len(model.files) == 2
    weights.with_suffix(".learnt.txt").write_bytes(b"\xff")
    with pytest.raises(ModelFileError, match=r"door\.learnt\.txt cannot be read"):
        Learnt.beside(weights)
    assert Learnt.beside(tmp_path / "other.caffemodel") is None


def test_the_name_works_in_the_commands(tmp_path: Path, files) -> None:
    recipe = tmp_path / "door.toml"
    recipe.write_text("size = [112, 96]\nmean = 127.5\nscale = 0.0078125\n")
    given = ("--prototxt", files["prototxt"], "--caffemodel", CAFFEMODEL, "--recipe", recipe)
    added = run("models", "add", "door", *given)
    assert added.exit_code == 0, added.output
    assert "spherecv calibrate" in added.stdout
    assert "door" in run("models", "list").stdout
    assert json.loads(run("models", "info", "door", "--json").stdout)["files"][0]["role"] == "prototxt"
    assert str(own_dir() / "door" / "door.prototxt") in run("models", "path", "door").stdout
    twice = run("models", "add", "door", *given)
    assert twice.exit_code == 2
    assert "--replace" in twice.stderr
    assert run("models", "add", "door", *given, "--replace").exit_code == 0
    undecided = run("verify", "a.jpg", "b.jpg", "-m", "door")
    assert undecided.exit_code == 2
    assert run("models", "remove", "door").exit_code == 0
    assert not list(own_dir().iterdir())
    assert run("verify", "a.jpg", "b.jpg", "-m", "door").exit_code == 2


def test_a_calibration_that_was_added_decides(tmp_path: Path, files) -> None:
    add_model("door", files, recipe="sphereface")
    with pytest.raises(MissingThresholdError):
        _ = FaceVerifier("door").threshold
    calibration = measured(open_model("door"), tmp_path / "c.toml")
    added = run(
        "models", "add", "door", "--prototxt", files["prototxt"], "--caffemodel", CAFFEMODEL, "--recipe", "sphereface",
        "--calibration", calibration, "--replace",
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    verifier = FaceVerifier("door")
    assert verifier.threshold.value == 0.61
    assert verifier.threshold.far == 0.01
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01"):
        FaceVerifier("door", far=0.5)
    with pytest.raises(MissingThresholdError):  # measured by cosine and with MTCNN's own preset only
        _ = FaceVerifier("door", metric="euclidean").threshold
    with pytest.raises(MissingThresholdError):
        _ = FaceVerifier("door", preset="sphereface").threshold
    with FaceGallery.open(tmp_path / "people.db", model="door") as gallery:
        assert gallery.threshold().value == 0.61
    assert "our door" in run("models", "info", "door").stdout


def test_a_calibration_of_another_model_is_refused(tmp_path: Path, files) -> None:
    calibration = measured(open_model(DEFAULT_MODEL), tmp_path / "c.toml")
    added = run(
        "models", "add", "door", "--prototxt", files["prototxt"], "--caffemodel", CAFFEMODEL,
        "--recipe", "mobilefacenet", "--calibration", calibration,
    )  # fmt: skip
    assert added.exit_code == 2
    assert not own_dir().exists()
    add_model("door", files, recipe="sphereface", calibration=calibration)
    with pytest.raises(CalibrationError, match="with other files than door"):
        FaceVerifier("door")


def test_a_calibration_of_an_earlier_edition_says_what_to_do(tmp_path: Path) -> None:
    path = measured(open_model(DEFAULT_MODEL), tmp_path / "c.toml")
    held = Calibration.load(path)
    replace(held, model_key="856de5ee4b511f90-" + ModelKey.of(held.model_key).recipe).save(path)
    with pytest.raises(CalibrationError, match=r"earlier edition of sphereface-mini.*spherecv calibrate"):
        FaceVerifier(calibration=path)


def test_damage_is_seen(home: Path, files) -> None:
    add_model("door", files, recipe="sphereface")
    (home / "door" / "door.caffemodel").write_bytes(b"something else")
    with pytest.raises(HashMismatchError, match="models add door"):
        open_model("door")
    (home / "door" / "manifest.toml").write_text("[models.door]\n")
    with pytest.raises(ModelFileError, match=r"manifest\.toml"):
        model_names()
    assert open_model(DEFAULT_MODEL).name == DEFAULT_MODEL  # what travels with SphereCV is found all the same


def test_damage_to_one_model_does_not_reach_another(home: Path, files) -> None:
    add_model("door", files, recipe="sphereface")
    add_model("twin", files, recipe="sphereface")
    (home / "twin" / "manifest.toml").write_text("x = [")
    assert open_model("door").recipe.fingerprint == open_model("door", recipe="sphereface").recipe.fingerprint
    remove_model("twin")
    assert "twin" not in model_names()


def test_a_replacement_that_fails_leaves_what_was_there(home: Path, files, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model("door", files, recipe="sphereface")
    before, real = open_model("door").key, Path.replace

    def refused(self: Path, target: Path) -> Path:
        if target == home / "door" and (self / "manifest.toml").read_text().count("112") > 1:
            raise OSError("no room")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(StorageError, match="no room"):
        add_model("door", files, recipe="mobilefacenet", replace=True)
    monkeypatch.undo()
    monkeypatch.setenv("SPHERECV_MODELS", str(home))
    assert open_model("door").key == before
    assert [path.name for path in home.iterdir()] == ["door"]


@pytest.mark.parametrize("name", ["", "Door", "../door", "door/x", "-door", DEFAULT_MODEL])
def test_names_that_cannot_be_are_refused(name: str, files) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        add_model(name, files, recipe="sphereface")
    with pytest.raises(ModelNotFoundError):
        remove_model(name)


def test_what_cannot_be_used_is_not_kept(tmp_path: Path, files) -> None:
    with pytest.raises(ModelFileError, match=r"missing\.prototxt"):
        add_model("door", {**files, "prototxt": tmp_path / "missing.prototxt"}, recipe="sphereface")
    with pytest.raises(InvalidArgumentError, match="prototxt and a caffemodel"):
        add_model("door", {"prototxt": PROTOTXT}, recipe="sphereface")
    given = ("--prototxt", files["prototxt"], "--caffemodel", CAFFEMODEL)
    wrong = run("models", "add", "door", *given, "--recipe", "sface")
    assert wrong.exit_code == 2
    assert run("models", "add", "door").exit_code == 2
    assert not own_dir().exists()


def test_what_cannot_be_read_is_not_counted_as_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("learnt", "other", "missing", "refused")]
    for path, content in zip(paths, (b"a", b"b"), strict=False):
        path.write_bytes(content)
    paths[3].write_bytes(b"a")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "refused":
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert Learnt.of([b"a"]).count([*paths, tmp_path]) == 1
