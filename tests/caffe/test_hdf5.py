"""Weights as Caffe stores them with `snapshot_format: HDF5`."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from spherecv.caffe import load, read_blob, read_caffemodel
from spherecv.errors import CaffeModelError, MissingDependencyError

h5py = pytest.importorskip("h5py")

SHARED = b'type: "InnerProduct" param { name: "w" } inner_product_param { num_output: 2 } }'
TEXT = b"""input: "x" input_shape { dim: 1 dim: 2 }
layer { name: "a/1" bottom: "x" top: "a" SHARED
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" bottom: "a" top: "b" SHARED
""".replace(b"SHARED", SHARED)
WEIGHT, BIAS = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, -0.5])


def _file(fill):
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        fill(file)
    return memory.getvalue()


def _stored(file, kind="<f4"):
    data = file.create_group("data")
    data.create_group("x")
    data["a/1/0"], data["a/1/1"] = WEIGHT.astype(kind), BIAS.astype(kind)
    data.create_group("r")
    data["b/1"] = -BIAS.astype(kind)  # "b/0" is the weight of a/1, which Caffe stores once


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4"])
def test_weights_shared_ones_among_them(kind):
    net = load(TEXT, _file(lambda file: _stored(file, kind)))
    a, _, b = net.layers
    assert a.blobs[0].tolist() == b.blobs[0].tolist() == WEIGHT.tolist()
    assert (a.blobs[1].tolist(), b.blobs[1].tolist()) == (BIAS.tolist(), (-BIAS).tolist())


def test_the_message_is_a_caffemodel():
    message = read_caffemodel(_file(_stored))
    assert [layer.name for layer in message.layer] == ["a/1", "b"]
    assert read_blob(message.layer[0].blobs[0]).tolist() == WEIGHT.tolist()


def _other(file):
    file["data/a/0"] = h5py.ExternalLink("/etc/passwd", "/x")


def _huge(file):
    file.create_dataset("data/b/0", shape=(1 << 40,), dtype="f4")


def _bomb(file):
    file.create_dataset("data/b/0", shape=(1 << 26,), dtype="f4", chunks=True, compression="gzip", fillvalue=0)[:10] = 1


def _elsewhere(file):
    file.create_dataset("data/b/0", shape=(4,), dtype="f4", external=[("/tmp/elsewhere.bin", 0, 16)])


def _loop(file):
    group = file.create_group("data/a")
    group["again"] = group


def _words(file):
    file["data/b/0"] = "words"


@pytest.mark.parametrize(
    ("fill", "complaint"),
    [
        (lambda file: None, "no group 'data'"),
        (lambda file: file.create_group("data"), "holds no layers"),
        (_other, "links to '0' elsewhere"),
        (_huge, "more than the file holds"),
        (_bomb, "more than the file holds"),
        (_elsewhere, "lies in another file"),
        (_loop, "more groups than any net"),
        (_words, "holds no numbers"),
        (lambda file: file.create_dataset("data/b/99", data=[1.0]), "a blob 99"),
    ],
)
def test_files_that_hold_no_weights(fill, complaint):
    with pytest.raises(CaffeModelError, match=complaint):
        read_caffemodel(_file(fill))


def test_every_truncation_is_told():
    whole = _file(_stored)
    for length in range(8, len(whole), 97):
        with pytest.raises(CaffeModelError, match="HDF5"):
            read_caffemodel(whole[:length])


def test_the_extra_is_named(monkeypatch):
    data = _file(_stored)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"HDF5.*spherecv\[hdf5\]"):
        read_caffemodel(data)
