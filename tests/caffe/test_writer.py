from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv import protobuf as wire
from spherecv.caffe import read_caffemodel, read_prototxt, write_caffemodel, write_prototxt
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter
from spherecv.errors import StorageError

FILES = [*(f"mtcnn-caffe/det{n}" for n in (1, 2, 3, 4)), "mobilefacenet-caffe/mobilefacenet"]
OFFICIAL = ["sphereface_deploy", "sphereface_model", "sphereface_64_deploy", "sphereface_64_model"]


@pytest.mark.parametrize("name", FILES)
def test_a_released_caffemodel_comes_back_byte_for_byte(name, data_dir, tmp_path):
    source = data_dir / f"{name}.caffemodel"
    written = write_caffemodel(read_caffemodel(source), tmp_path / "net.caffemodel")
    assert written.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", [*FILES, *(f"sphereface-prototxt/{name}" for name in OFFICIAL)])
def test_a_prototxt_comes_back_in_content(name, data_dir, tmp_path):
    message = read_prototxt(data_dir / f"{name}.prototxt")
    assert read_prototxt(write_prototxt(message, tmp_path / "net.prototxt")) == message


def test_fields_of_other_forks_are_kept(tmp_path):
    foreign = wire.encode_bytes(999, b"something of another fork")
    layer = LayerParameter(name="conv1").SerializeToString() + foreign
    net = NetParameter.FromString(wire.encode_bytes(100, layer) + foreign)
    assert write_caffemodel(net, tmp_path / "net").read_bytes().count(foreign) == 2


_NAMES = st.text(max_size=8)
_FLOATS = st.floats(width=32, allow_nan=False)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    name=_NAMES,
    layers=st.lists(st.tuples(_NAMES, _NAMES, st.lists(_FLOATS, max_size=3), _FLOATS, st.booleans()), max_size=3),
)
def test_any_net_comes_back_from_text_and_binary(name, layers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    net = NetParameter(name=name)
    for title, kind, coeff, slope, flag in layers:
        layer = net.layer.add(name=title, type=kind, bottom=[title], loss_weight=coeff, propagate_down=[flag])
        layer.eltwise_param.coeff.extend(coeff)
        layer.relu_param.negative_slope = slope
    assert read_prototxt(write_prototxt(net, folder / "net.prototxt")) == net
    assert NetParameter.FromString(write_caffemodel(net, folder / "net.caffemodel").read_bytes()) == net


def test_weights_stay_out_of_the_prototxt(tmp_path):
    net = NetParameter(name="net")
    net.layer.add(name="fc", type="InnerProduct").blobs.add(data=[1, 2])
    net.layers.add(name="old").blobs.add(data=[3])
    assert "blobs" not in write_prototxt(net, tmp_path / "net.prototxt").read_text()
    assert list(net.layer[0].blobs[0].data) == [1, 2]


@pytest.mark.parametrize("write", [write_prototxt, write_caffemodel])
def test_a_failed_write_leaves_what_was_there(write, tmp_path, monkeypatch):
    target = tmp_path / "net"
    target.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(StorageError, match="No space left"):
        write(NetParameter(name="new"), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        write_prototxt(NetParameter(), tmp_path / "file" / "net.prototxt")
