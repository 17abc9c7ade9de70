from __future__ import annotations

from pathlib import Path

import pytest

from spherecv.caffe import architectures, load, read_prototxt
from spherecv.caffe.architectures import sphereface, sphereface_training
from spherecv.caffe.text import render
from spherecv.errors import InvalidArgumentError

MODELS = Path(__file__).resolve().parents[2] / "models"
OFFICIAL = {
    "mtcnn-caffe/det1": architectures.mtcnn_pnet,
    "mtcnn-caffe/det2": architectures.mtcnn_rnet,
    "mtcnn-caffe/det3": architectures.mtcnn_onet,
    "sphereface-prototxt/sphereface_deploy": lambda: sphereface(20),
    "sphereface-prototxt/sphereface_model": lambda: sphereface_training(20),
    "sphereface-prototxt/sphereface_64_deploy": lambda: sphereface(64),
    "sphereface-prototxt/sphereface_64_model": lambda: sphereface_training(64),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_equal_to_the_authors_prototxt_layer_by_layer(name, data_dir):
    official, ours = read_prototxt(data_dir / f"{name}.prototxt"), OFFICIAL[name]()
    for theirs, mine in zip(official.layer, ours.layer, strict=True):
        assert mine == theirs
    assert ours == official  # name and inputs too


@pytest.mark.parametrize("name", architectures.SHIPPED)
def test_the_shipped_prototxts_are_the_builders_output(name):
    assert (MODELS / f"{name}.prototxt").read_text() == render(architectures.SHIPPED[name]())


def test_the_command_writes_them(tmp_path):
    architectures.main(str(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(architectures.SHIPPED)


@pytest.mark.parametrize("depth", [4, 10, 20, 36])
def test_the_depth_counts_the_convolutions(depth):
    net = load(render(sphereface(depth)).encode())
    assert sum(layer.type == "Convolution" for layer in net.layers) == depth
    assert net.outputs == ("fc5",)


def test_other_numbers_of_identities_and_margins():
    net = sphereface_training(4, identities=30, margin=3, batch_size=16, source="list.txt")
    margin = net.layer[-2].margin_inner_product_param
    assert (margin.num_output, margin.type) == (30, margin.TRIPLE)
    assert net.layer[0].image_data_param.batch_size == 16


@pytest.mark.parametrize("build", [sphereface, sphereface_training])
def test_other_depths_are_refused(build):
    with pytest.raises(InvalidArgumentError, match="depth must be one of 4, 10, 20, 36, 64, but got 50"):
        build(50)
