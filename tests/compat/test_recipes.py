"""The recipes of docs/caffe-on-opencv5.md, run as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv import caffe
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter

pytestmark = pytest.mark.runtime

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "caffe-on-opencv5.md").read_text(encoding="utf8")
PAGE = PAGE.partition("\n# The same with a Session")[0]  # whose recipes tests/caffe/test_migration.py runs
RECIPES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
GENDER = """
input: "data" input_shape { dim: 1 dim: 3 dim: 227 dim: 227 }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc8" type: "InnerProduct" bottom: "pool" top: "fc8" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }
"""
POSE = """
input: "image" input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layer { name: "conv1" type: "Convolution" bottom: "image" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "maps" type: "Convolution" bottom: "conv1" top: "maps"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""
SHAPES = {"fc8": [(2, 3), (2,)], "conv1": [(4, 3, 3, 3), (4,)], "maps": [(3, 4, 1, 1), (3,)]}


def save(name: str, prototxt: str) -> None:
    net, random = NetParameter(), np.random.default_rng(0)
    for layer, shapes in SHAPES.items():
        if f'name: "{layer}"' in prototxt:
            arrays = [random.standard_normal(shape).astype(np.float32) / 50 for shape in shapes]
            net.layer.add(name=layer).blobs.extend(map(caffe.write_blob, arrays))
    Path(f"{name}.prototxt").write_text(prototxt)
    Path(f"{name}.caffemodel").write_bytes(net.SerializeToString())


@pytest.fixture
def folder(tmp_path, data_dir, mobilefacenet, monkeypatch):
    """A folder with the files that the recipes name."""
    monkeypatch.chdir(tmp_path)
    for path in (data_dir / "ssd-res10-caffe").iterdir():
        shutil.copy(path, tmp_path)
    for path in mobilefacenet:
        shutil.copy(path, tmp_path / f"embedder{path.suffix}")
    save("gender", GENDER)
    save("pose", POSE)
    image = cv2.imread(str(data_dir / "deepface-pairs" / "img1.jpg"))
    cv2.imwrite("photo.jpg", cv2.resize(image, (640, round(640 * image.shape[0] / image.shape[1]))))
    monkeypatch.setitem(vars(cv2.dnn), "readNetFromCaffe", getattr(cv2.dnn, "readNetFromCaffe", None))
    monkeypatch.setitem(vars(cv2), "dnn_readNetFromCaffe", getattr(cv2, "dnn_readNetFromCaffe", None))
    return tmp_path


def run(code: str, capsys) -> list[str]:
    exec(compile(code, "caffe-on-opencv5.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_every_recipe_runs(folder, capsys):
    printed = {index: run(code, capsys) for index, code in enumerate(RECIPES)}
    names = {
        name: [index for index, code in enumerate(RECIPES) if name in code]
        for name in ("res10", "gender.proto", "pose.proto", "embedder.proto")
    }
    assert [len(found) for found in names.values()] == [2, 2, 1, 2]
    by_hand, by_detector = (printed[index] for index in names["res10"])
    assert len(by_hand) == len([line for line in by_detector if line.startswith("0.9")]) == 1
    assert float(by_hand[0].split()[0]) == pytest.approx(float(by_detector[0].split()[0]), abs=1e-4)
    by_hand, by_detector = (printed[index] for index in names["gender.proto"])
    assert "male" in by_hand[0]
    assert "female" in by_detector[-1]
    assert [line.split()[0] for line in printed[names["pose.proto"][0]]] == ["0", "1", "2"]
    assert [printed[index] for index in names["embedder.proto"]] == [["(1, 128)"], ["True"]]


def test_the_recipes_are_short():
    assert len(RECIPES) == 9
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 10 for code in RECIPES)
