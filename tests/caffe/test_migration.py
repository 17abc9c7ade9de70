"""The recipes of docs/caffe-on-opencv5.md, run as they are printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import load, write_prototxt
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "caffe-on-opencv5.md"
PART = PAGE.read_text(encoding="utf8").partition("\n# The same with a Session")[2]  # the rest: tests/compat
RECIPES = dict(re.findall(r"^## (\w+).*?```python\n(.*?)```", PART, re.MULTILINE | re.DOTALL))


@pytest.fixture
def run_recipe(tmp_path: Path, monkeypatch):
    """`run_recipe(name, files)`: run one in a folder with these files and return its variables."""
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(name, files):
        for goal, source in files.items():
            shutil.copy(source, tmp_path / goal)
        variables: dict[str, object] = {}
        exec(compile(RECIPES[name], f"{PAGE.name}: {name}", "exec"), variables)
        return variables

    return run


def _net(folder: Path, seeded_weights, text: str, name: str) -> dict[str, Path]:
    """Files of a small net with weights by chance."""
    prototxt, caffemodel = folder / f"{name}.in.prototxt", folder / f"{name}.in.caffemodel"
    prototxt.write_text(text)
    caffemodel.write_bytes(seeded_weights(load(prototxt)).SerializeToString())
    return {"prototxt": prototxt, "caffemodel": caffemodel}


def test_every_recipe_is_tried():
    assert set(RECIPES) == {"Faces", "Age", "Heat", "Embeddings"}


def test_faces_by_ssd(run_recipe, data_dir: Path):
    res10 = data_dir / "ssd-res10-caffe"
    weights = "res10_300x300_ssd_iter_140000.caffemodel"
    photo = sorted((data_dir / "deepface-pairs").glob("*.jpg"))[0]
    found = run_recipe(
        "Faces", {"deploy.prototxt": res10 / "deploy.prototxt", weights: res10 / weights, "photo.jpg": photo}
    )
    assert found["boxes"]
    for x1, y1, x2, y2 in found["boxes"]:
        assert x2 - x1 > 20
        assert y2 - y1 > 20


def test_age(run_recipe, tmp_path: Path, data_dir: Path, seeded_weights):
    text = """input: "data" input_dim: 1 input_dim: 3 input_dim: 227 input_dim: 227
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 4 kernel_size: 7 stride: 8 } }
    layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE global_pooling: true } }
    layer { name: "fc8" type: "InnerProduct" bottom: "p" top: "fc8" inner_product_param { num_output: 8 } }
    layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }"""
    files = _net(tmp_path, seeded_weights, text, "age")
    photo = sorted((data_dir / "deepface-pairs").glob("*.jpg"))[0]
    found = run_recipe(
        "Age", {"age_deploy.prototxt": files["prototxt"], "age_net.caffemodel": files["caffemodel"], "face.jpg": photo}
    )
    assert found["age"] in found["AGES"]
    assert found["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_heat_maps_of_another_size_than_the_declared_one(run_recipe, tmp_path: Path, data_dir: Path, seeded_weights):
    text = """input: "image" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1
    layer { name: "c" type: "Convolution" bottom: "image" top: "net_output"
            convolution_param { num_output: 5 kernel_size: 9 pad: 4 stride: 8 } }"""
    files = _net(tmp_path, seeded_weights, text, "pose")
    photo = sorted((data_dir / "deepface-pairs").glob("*.jpg"))[0]
    found = run_recipe(
        "Heat", {"pose_deploy.prototxt": files["prototxt"], "pose.caffemodel": files["caffemodel"], "photo.jpg": photo}
    )
    assert found["maps"].shape == (5, 46, 46)
    assert len(found["points"]) == 5
    for x, y, _ in found["points"]:
        assert 0 <= x < found["width"]
        assert 0 <= y < found["height"]


def test_embeddings(run_recipe, data_dir: Path, mobilefacenet: tuple[Path, Path]):
    prototxt, caffemodel = mobilefacenet
    photos = sorted((data_dir / "deepface-pairs").glob("*.jpg"))[:2]
    files = {"net.prototxt": prototxt, "net.caffemodel": caffemodel, "a.jpg": photos[0], "b.jpg": photos[1]}
    assert 0 <= run_recipe("Embeddings", files)["distance"] <= 2


def test_the_table_runs(tmp_path: Path, seeded_weights):
    from spherecv import caffe
    from spherecv.runtime import Session

    text = """input: "left" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1
    input: "right" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1
    layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "s" }
    layer { name: "fc" type: "InnerProduct" bottom: "s" top: "f" inner_product_param { num_output: 2 } }"""
    weights: NetParameter = seeded_weights(caffe.load(text.encode()))
    net = caffe.load(text.encode(), weights.SerializeToString())
    session = Session(net.to_onnx(), backend="onnxruntime")
    one = np.ones((1, 2, 1, 1), np.float32)
    assert session.outputs == ("f",)
    assert session.run({"left": one, "right": one})["f"].shape == (1, 2)
    assert [layer.name for layer in net.layers] == ["sum", "fc"]
    files = write_prototxt(net.definition, tmp_path / "n.prototxt"), tmp_path / "n.caffemodel"
    files[1].write_bytes(weights.SerializeToString())
    ended = Session(caffe.onnx_of(*files, outputs=["s"], cache_dir=tmp_path / "cache"), backend="onnxruntime")
    assert ended.run({"left": one, "right": one})["s"].ravel().tolist() == [2, 2]
