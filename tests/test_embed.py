from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spherecv.embed import FaceEmbedder, _standardized
from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.zoo import ModelSource, Recipe, get_recipe


@pytest.fixture(scope="module")
def source(mobilefacenet: tuple[Path, Path]) -> ModelSource:
    return ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet")


def some_crops(count: int, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def plain_embedding(source: ModelSource, crops: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The recipe word for word in float64, one crop at a time, through ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(source.onnx(), providers=["CPUExecutionProvider"])
    rows = []
    for crop in crops:
        pixels = crop.astype(np.float64) if recipe.color == "BGR" else crop[:, :, ::-1].astype(np.float64)
        views = [pixels, pixels[:, ::-1]] if recipe.mirror else [pixels]
        if recipe.standardize:
            views = [(view - view.mean()) / max(view.std(), 1.0 / np.sqrt(view.size)) for view in views]
        blobs = [((view - recipe.mean) * recipe.scale).transpose(2, 0, 1)[None].astype(np.float32) for view in views]
        row = np.concatenate([session.run(None, {"data": blob})[0].ravel() for blob in blobs])
        rows.append(row / np.linalg.norm(row) if recipe.normalize else row)
    return np.array(rows)


@pytest.mark.runtime
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"color": "BGR", "normalize": False},
        {"mirror": True},
        {"standardize": True, "mean": 0.0, "scale": 1.0, "mirror": True},
        {"mean": (123.7, 116.3, 103.5), "scale": (1 / 58.4, 1 / 57.1, 1 / 57.4), "normalize": False},
    ],
)
def test_the_recipe_is_followed_to_the_letter(source: ModelSource, changes: dict[str, object]) -> None:
    recipe = replace(source.recipe, **changes)
    crops = some_crops(3)
    expected = plain_embedding(source, crops, recipe)
    actual = FaceEmbedder(replace(source, recipe=recipe)).embed(crops)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.runtime
@pytest.mark.parametrize("backend", ["opencv", "onnxruntime", "openvino"])
def test_the_number_of_crops_does_not_change_an_embedding(source: ModelSource, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    embedder = FaceEmbedder(source, backend=backend)
    crops = some_crops(70)
    together = embedder.embed(crops)
    assert together.shape == (70, 128)
    apart = np.concatenate([embedder.embed(crops[i : i + 1]) for i in (0, 31, 32, 69)])
    np.testing.assert_allclose(together[[0, 31, 32, 69]], apart, atol=1e-5)
    assert embedder.embed(crops[:0]).shape == (0, 128)


def test_crops_of_another_shape_or_type_are_refused(source: ModelSource) -> None:
    embedder = FaceEmbedder(source)
    bad = (some_crops(2, (112, 96)), some_crops(2)[0], some_crops(2).astype(np.float32), list(some_crops(2)), None)
    for crops in bad:
        with pytest.raises(InvalidArgumentError, match=r"\(N, 112, 112, 3\)"):
            embedder.embed(crops)


def test_a_recipe_that_does_not_fit_the_net_is_refused_when_it_is_opened(source: ModelSource) -> None:
    with pytest.raises(ModelFileError, match="recipe"):
        FaceEmbedder(replace(source, recipe=get_recipe("sphereface")))


def test_a_net_with_several_outputs_needs_the_name_of_one(tmp_path: Path) -> None:
    import onnx
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ports = [helper.make_tensor_value_info(name, kind, ["N", 3, 112, 96]) for name in ("data", "first", "second")]
    nodes = [helper.make_node("Relu", ["data"], ["first"]), helper.make_node("Neg", ["data"], ["second"])]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    recipe = get_recipe("sefiks")
    with pytest.raises(ModelFileError, match="first, second"):
        FaceEmbedder(path, recipe=recipe)
    embedder = FaceEmbedder(path, recipe=replace(recipe, output="second"))
    assert (embedder.embed(some_crops(1, (112, 96))) <= 0).all()


@pytest.mark.parametrize("model", [None, b"", 3])
def test_what_is_no_model_is_refused(model: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^a model must be a name, the path of an \.onnx file"):
        FaceEmbedder(model)


def test_a_crop_without_contrast_is_scaled_by_the_floor_of_the_deviation() -> None:
    flat = np.full((1, 160, 160, 3), 90, np.uint8)
    nearly = flat.copy()
    nearly[0, 0, 0, 0] = 91
    blobs = _standardized(np.concatenate([flat, nearly]))
    assert (blobs[0] == 0).all()
    # One value of 76,800 is off by 1: its deviation, 1 / root of 76,800, is just below the floor.
    assert blobs[1].max() == pytest.approx(np.sqrt(76_800), rel=1e-4)
