from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError
from spherecv.zoo import ModelSource, Recipe, get_recipe, identify, manifest, model_info, models_dir, open_model
from spherecv.zoo.manifest import Manifest, shipped_manifest
from spherecv.zoo.model import KnownPrecision


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def known(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the manifest believe that `weights` are those of SphereFace-20."""
    info = model_info("sphereface-20")
    prototxt, caffemodel = info.files
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    ours = dataclasses.replace(caffemodel, size=weights.stat().st_size, digests=(("sha256", digest),))
    models = {**shipped_manifest().models, info.name: dataclasses.replace(info, files=(prototxt, ours))}
    made = Manifest(models=models, recipes=shipped_manifest().recipes)
    monkeypatch.setattr("spherecv.zoo.manifest.shipped_manifest", lambda: made)


OURS = models_dir() / "sphereface-20.prototxt"


@pytest.fixture(params=["ours", "theirs", "crlf"])
def prototxt(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "ours":
        return OURS
    theirs = request.getfixturevalue("data_dir") / "sphereface-prototxt" / "sphereface_deploy.prototxt"
    if request.param == "theirs":
        return theirs
    path = tmp_path / "crlf.prototxt"
    path.write_bytes(theirs.read_bytes().replace(b"\n", b"\r\n"))
    return path


@pytest.mark.usefixtures("known")
def test_known_files_need_no_recipe(prototxt, weights) -> None:
    assert identify({"prototxt": prototxt, "caffemodel": weights}).name == "sphereface-20"
    source = ModelSource.from_caffe(prototxt, str(weights))
    assert source.name == "sphereface-20"
    assert source.recipe == get_recipe("sphereface")
    assert source.thresholds
    assert source.key == ModelSource.from_caffe(OURS, weights).key


@pytest.mark.usefixtures("known")
def test_known_files_may_be_given_another_recipe(weights) -> None:
    source = ModelSource.from_caffe(OURS, weights, recipe="sefiks")
    assert source.name == "sphereface-20"
    assert source.recipe == get_recipe("sefiks")
    assert source.key != ModelSource.from_caffe(OURS, weights).key


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("change", ["prototxt", "weights", "length"])
def test_changed_files_are_not_known(weights, tmp_path, change) -> None:
    prototxt = tmp_path / "p.prototxt"
    shutil.copy(OURS, prototxt)
    if change == "prototxt":
        prototxt.write_text(prototxt.read_text().replace("fc5", "fc6"))
    elif change == "weights":
        weights.write_bytes(b"Weights")
    else:
        weights.write_bytes(b"weights and more")
    assert identify({"prototxt": prototxt, "caffemodel": weights}) is None
    with pytest.raises(InvalidArgumentError, match=r"w.caffemodel is not a file that the manifest knows.*sefiks"):
        ModelSource.from_caffe(prototxt, weights)


def test_own_files_need_a_recipe_and_have_no_thresholds(weights, tmp_path) -> None:
    mine = Recipe(size=(112, 112))
    source = ModelSource.from_caffe(OURS, weights, recipe=mine)
    assert (source.name, source.recipe, source.thresholds, source.info) == ("w", mine, (), None)
    other = tmp_path / "other.prototxt"
    other.write_text("name: 'x'")
    keys = {
        source.key,
        ModelSource.from_caffe(other, weights, recipe=mine).key,
        ModelSource.from_caffe(OURS, weights, recipe="sface").key,
    }
    weights.write_bytes(b"changed")
    keys.add(ModelSource.from_caffe(OURS, weights, recipe=mine).key)
    assert len(keys) == 4


def test_the_file_of_a_detector_is_not_taken_for_an_embedder(monkeypatch, tmp_path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"onnx")
    monkeypatch.setattr("spherecv.zoo.source.identify", lambda files: model_info("yunet"))
    with pytest.raises(InvalidArgumentError, match="yunet is a detector"):
        open_model(path, recipe="sface")


@pytest.mark.usefixtures("known")
def test_a_known_model_is_converted_once_and_not_hashed_again(weights, monkeypatch) -> None:
    from spherecv import caffe

    class Net:
        def to_onnx(self) -> bytes:
            return b"converted"

    with monkeypatch.context() as patch:
        patch.setattr(caffe, "load", lambda *files, outputs: Net(), raising=False)
        assert ModelSource.from_caffe(OURS, weights).onnx() == b"converted"
    monkeypatch.setattr(caffe, "onnx_of", pytest.fail, raising=False)
    assert ModelSource.from_caffe(OURS, weights).onnx() == b"converted"


@pytest.mark.parametrize("which", ["missing", "folder"])
def test_missing_files_are_named(weights, tmp_path, which) -> None:
    gone = tmp_path / "gone.prototxt"
    if which == "folder":
        gone.mkdir()
    with pytest.raises(ModelFileError, match=r"gone.prototxt"):
        ModelSource.from_caffe(gone, weights, recipe="sphereface")
    with pytest.raises(ModelFileError, match=r"gone.prototxt"):
        ModelSource.from_onnx(gone, recipe="sphereface")


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("facenet", ModelNotFoundError, "'facenet' is neither the path of an .onnx file nor the name of a model"),
        ("mtcnn", InvalidArgumentError, "mtcnn is a detector, not an embedder"),
        ("yunet", InvalidArgumentError, "yunet is a detector, not an embedder"),
        ("net.caffemodel", InvalidArgumentError, "is half of a Caffe model"),
        ("gone.onnx", ModelFileError, "gone.onnx: no such file"),
        ("sface", ModelNotFoundError, "models download sface"),
    ],
)
def test_models_that_cannot_be_opened(model, error, words) -> None:
    with pytest.raises(error) as caught:
        open_model(model)
    assert words in str(caught.value)


def test_a_named_model_is_opened_by_its_manifest(monkeypatch, tmp_path) -> None:
    path = tmp_path / "sface.onnx"
    path.write_bytes(b"onnx")
    monkeypatch.setattr("spherecv.zoo.source.require", lambda info: {"onnx": path})
    source = open_model("sface")
    assert (source.name, source.format, source.recipe) == ("sface", "onnx", get_recipe("sface"))
    assert source.onnx() == b"onnx"
    assert {row.metric for row in source.thresholds} == {"cosine", "euclidean"}
    assert open_model("sface", recipe="mobilefacenet").recipe == get_recipe("mobilefacenet")


def test_an_onnx_file_by_path(data_dir: Path) -> None:
    path = data_dir / "teacher" / "mobilefacenet.onnx"
    imagenet = {
        "size": [112, 112],
        "color": "RGB",
        "mean": [255 * m for m in (0.485, 0.456, 0.406)],
        "scale": [1 / (255 * s) for s in (0.229, 0.224, 0.225)],
        "template": "arcface",
        "alignment": "umeyama",
    }
    with pytest.raises(InvalidArgumentError, match="is not a file that the manifest knows"):
        open_model(path)
    source = open_model(path, recipe=imagenet)
    assert source.onnx() == path.read_bytes()
    assert source.name == "mobilefacenet"
    assert source.key == open_model(str(path), recipe=imagenet).key


@pytest.mark.runtime
def test_a_caffe_model_runs(mobilefacenet: tuple[Path, Path]) -> None:
    import numpy as np

    session = ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet").session(threads=1)
    ((name, shape),) = session.inputs.items()
    assert tuple(shape[1:]) == (3, 112, 112)
    answer = session.run({name: np.zeros((2, 3, 112, 112), np.float32)})
    assert [value.shape[:2] for value in answer.values()] == [(2, 128)]


def test_the_prototxt_of_every_caffe_model_is_packaged() -> None:
    for info in shipped_manifest().models.values():
        for file in info.files:
            if file.origin == "packaged":
                assert (manifest.models_dir() / file.name).is_file()


def test_the_second_edition_of_the_default_model_has_a_key_of_its_own() -> None:
    """The first edition embeds otherwise: what was made with it has another key, and is not compared."""
    key = open_model("sphereface-mini").key
    assert key == "5a27a336d5e95cf1-d16c800e233b"


def _row(source: ModelSource, precision: str, lost: float) -> KnownPrecision:
    return KnownPrecision(
        precision=precision, recipe=source.recipe.name, fingerprint=source.recipe.fingerprint, backends=("openvino",),
        dataset="x", detector="mtcnn", accuracy=(0.98, 0.98 - lost), tar=(0.9, 0.9), cosine=(1.0, 1.0), shifts=(),
        source="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "able", "backend", "settled"),
    [
        ({"int8": 0.0, "bfloat16": 0.0}, True, "openvino", "int8"),
        ({"int8": 0.01, "bfloat16": 0.0}, True, "openvino", "bfloat16"),
        ({"int8": 0.01, "bfloat16": 0.0}, False, "openvino", "float32"),
        ({"int8": 0.0}, True, "opencv", "float32"),
        ({}, True, "openvino", "float32"),
    ],
)
def test_auto_takes_the_fastest_precision_that_loses_little(
    monkeypatch: pytest.MonkeyPatch, lost: dict[str, float], able: bool, backend: str, settled: str
) -> None:
    monkeypatch.setattr("spherecv.zoo.source.bfloat16_missing", lambda *_: "" if able else "no")
    plain = open_model("sphereface-mini")
    rows = tuple(_row(plain, precision, share) for precision, share in lost.items())
    source = dataclasses.replace(plain, info=dataclasses.replace(plain.info, precisions=rows))
    chosen = source.computed_in("auto", backend=backend)
    assert chosen.precision == settled
    assert (chosen.loss is None) is (settled == "float32")
    other = dataclasses.replace(source, recipe=get_recipe("mobilefacenet"))
    assert other.computed_in("auto", backend=backend).precision == "float32"


def test_the_small_net_has_an_int8_form_that_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path))
    plain = open_model("sphereface-mini")
    source = plain.computed_in("int8")
    assert source.key == plain.key.replace("-", "+int8-")
    made = source.onnx()
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 96, 3), np.uint8)
    embedder = FaceEmbedder(plain, precision="int8", backend="onnxruntime")
    assert (embedder.precision, embedder.source.precision) == ("int8", "int8")
    exact = FaceEmbedder(plain, backend="onnxruntime").embed(crops)
    assert ((embedder.embed(crops) * exact).sum(axis=1) > 0.9).all()
    monkeypatch.setattr("spherecv.runtime.quantise.quantise", None)
    assert source.onnx() == made
    with pytest.raises(InvalidArgumentError, match=r"has no int8 form: make one with `spherecv convert"):
        dataclasses.replace(source, info=None).onnx()
    path = tmp_path / "int8.onnx"
    path.write_bytes(made)
    own = ModelSource.from_onnx(path, recipe="sphereface-mini")
    assert own.computed_in("int8").key == own.key  # its own file says so
