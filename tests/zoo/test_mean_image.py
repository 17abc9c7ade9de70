"""Means of every pixel, and grey crops: read, kept in a recipe, subtracted as Caffe does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import write_blob
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, NetParameter
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.zoo import MeanImage, ModelSource, Recipe

MEAN = np.random.default_rng(0).uniform(0, 255, (3, 8, 6)).astype(np.float32)


def _binaryproto(path: Path, array: np.ndarray) -> Path:
    blob = BlobProto(num=1, channels=array.shape[0], height=array.shape[1], width=array.shape[2])
    blob.data.extend(array.ravel())
    path.write_bytes(blob.SerializeToString())
    return path


def test_a_binaryproto_and_an_npy_are_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", MEAN)
    of_numpy, of_caffe = (
        MeanImage.read(tmp_path / "mean.npy"),
        MeanImage.read(_binaryproto(tmp_path / "m.binaryproto", MEAN)),
    )
    assert of_numpy == of_caffe
    np.testing.assert_array_equal(of_caffe.array, MEAN)
    (tmp_path / "recipe.toml").write_text('size = [4, 4]\nmean = "m.binaryproto"\n')
    recipe = Recipe.from_toml(tmp_path / "recipe.toml")
    np.testing.assert_array_equal(recipe.mean.array, MEAN[:, 2:6, 1:5])  # the middle, as Caffe crops it


def test_a_recipe_with_a_mean_image_needs_no_file_afterwards() -> None:
    recipe = Recipe(size=(8, 6), mean=MeanImage.from_array(MEAN))
    back = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert (back, back.fingerprint, hash(back)) == (recipe, recipe.fingerprint, hash(recipe))
    other = Recipe(size=(8, 6), mean=MeanImage.from_array(MEAN + 1))
    assert other.fingerprint != recipe.fingerprint


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (MeanImage.from_array(MEAN[:1]), "3 channels"),
        (MeanImage.from_array(MEAN[:, :4]), "at least as large"),
        ("float32;3x8x6;!!", "mean must be"),
        ("float32;3x9999999x6;", "mean must be"),
        ("float32;3x8x6;", "mean must be|other data"),
        ("mean.jpg", "mean must be"),
    ],
)
def test_means_that_do_not_fit(mean, words) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Recipe.from_dict({"size": [8, 6], "mean": mean})


def test_files_that_are_no_mean_image(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY nothing")
    (tmp_path / "x.binaryproto").write_bytes(b"\x0a\xff\xff")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("x.npy", "x.binaryproto", "objects.npy", "gone.npy", "gone.binaryproto"):
        with pytest.raises(ModelFileError, match=name):
            MeanImage.read(tmp_path / name)
    for array in (np.full((3, 2, 2), np.nan), np.zeros((2, 2, 2)), np.zeros(3), np.zeros((3, 0, 2)), np.array("x")):
        with pytest.raises(InvalidArgumentError, match="a mean image must"):
            MeanImage.from_array(array)


def _source(folder: Path, channels: int, recipe: Recipe) -> tuple[ModelSource, np.ndarray]:
    """An InnerProduct on crops of 8x6, as files."""
    text = f'input: "data" input_shape {{ dim: 1 dim: {channels} dim: 8 dim: 6 }}\n'
    text += 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
    text += "inner_product_param { num_output: 4 bias_term: false } }"
    text += '\nlayer { name: "end" type: "Fancy" bottom: "fc" top: "end" }'
    weight = np.random.default_rng(1).uniform(-1, 1, (4, channels * 48)).astype(np.float32)
    net = NetParameter()
    write_blob(weight, net.layer.add(name="fc").blobs.add())
    prototxt, caffemodel = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(text)
    caffemodel.write_bytes(net.SerializeToString())
    return ModelSource.from_caffe(prototxt, caffemodel, recipe=recipe), weight


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (3, 8, 6, 3), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("color", ["BGR", "RGB"])
def test_the_mean_of_every_pixel_is_subtracted_and_mirrored_with_the_crop(tmp_path: Path, crops, color) -> None:
    recipe = Recipe(
        size=(8, 6), color=color, mean=MeanImage.from_array(MEAN), scale=(0.5,) * 3, mirror=True, output="fc"
    )
    source, weight = _source(tmp_path, 3, recipe)
    pixels = crops.astype(np.float64) if color == "BGR" else crops[..., ::-1].astype(np.float64)
    inputs = (pixels.transpose(0, 3, 1, 2) - MEAN) * 0.5
    expected = np.hstack([inputs.reshape(3, -1) @ weight.T, inputs[..., ::-1].reshape(3, -1) @ weight.T])
    np.testing.assert_allclose(FaceEmbedder(source).embed(crops), expected, rtol=1e-4, atol=1e-2)


def test_grey_crops(tmp_path: Path, crops) -> None:
    import cv2

    recipe = Recipe.from_dict({"size": [8, 6], "color": "GRAY", "mean": 100, "scale": 0.25, "output": "fc"})
    assert (recipe.mean, recipe.scale, recipe.channels) == ((100.0,), (0.25,), 1)
    source, weight = _source(tmp_path, 1, recipe)
    grey = np.stack([cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) for crop in crops])[..., None]
    expected = ((grey.astype(np.float64) - 100) * 0.25).reshape(3, -1) @ weight.T
    embedder = FaceEmbedder(source)
    np.testing.assert_allclose(embedder.embed(crops), expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(embedder.embed(grey), embedder.embed(crops))
    assert embedder.embed(crops[:0]).shape == (0, 4)
    with pytest.raises(ModelFileError, match="wants input of shape"):
        FaceEmbedder(ModelSource.from_caffe(*source.files.values(), recipe=Recipe(size=(8, 6), output="fc")))


def test_any_blob_of_a_caffe_model_can_be_the_embedding(tmp_path: Path) -> None:
    recipe = Recipe(size=(8, 6), output="fc")
    source, _ = _source(tmp_path, 3, recipe)
    assert FaceEmbedder(source).embed(np.zeros((1, 8, 6, 3), np.uint8)).shape == (1, 4)
    missing, _ = _source(tmp_path, 3, Recipe(size=(8, 6), output="fc7"))
    with pytest.raises(InvalidArgumentError, match="no blob 'fc7' to output; it has fc, end"):
        FaceEmbedder(missing)
