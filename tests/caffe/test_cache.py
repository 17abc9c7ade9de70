from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from spherecv.caffe import cache, load, onnx_of
from spherecv.errors import CaffeModelError, ModelFileError

TEXT = (
    b'name: "n" input: "x" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }'
    b'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
)


@pytest.fixture
def files(tmp_path):
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_bytes(TEXT)
    caffemodel.write_bytes(b"\xa2\x06\x03\x0a\x01r")  # one layer, named r
    return prototxt, caffemodel


@pytest.fixture
def conversions(monkeypatch):
    """The number of conversions so far."""
    counted = []
    original = load

    def count(*args: object, **kwargs: object) -> object:
        counted.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr("spherecv.caffe.net.load", count)
    return counted


def test_converted_once(files, tmp_path, conversions):
    folder = tmp_path / "cache" / "deep"
    first = onnx_of(*files, cache_dir=folder)
    assert first == load(*files).to_onnx()
    assert onnx_of(*files, cache_dir=folder) == first
    assert len(conversions) == 1
    assert len(list(folder.iterdir())) == 1


def test_the_content_is_the_key(files, tmp_path, conversions):
    folder = tmp_path / "cache"
    onnx_of(*files, cache_dir=folder)
    renamed = files[0].rename(tmp_path / "other.prototxt")
    onnx_of(renamed, files[1], cache_dir=folder)
    assert len(conversions) == 1
    renamed.write_bytes(TEXT.replace(b"ReLU", b"TanH"))
    onnx_of(renamed, files[1], cache_dir=folder)
    files[1].write_bytes(files[1].read_bytes() * 2)
    onnx_of(renamed, files[1], cache_dir=folder)
    assert len(conversions) == 3


def test_another_converter_converts_anew(files, tmp_path, conversions, monkeypatch):
    onnx_of(*files, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(cache, "CONVERTER_VERSION", "next")
    onnx_of(*files, cache_dir=tmp_path / "cache")
    assert len(conversions) == 2


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-5] + b"xxxxx", lambda b: b"\0" + b])
def test_a_damaged_entry_is_made_anew(damage, files, tmp_path, conversions):
    folder = tmp_path / "cache"
    whole = onnx_of(*files, cache_dir=folder)
    (entry,) = folder.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert onnx_of(*files, cache_dir=folder) == whole
    assert onnx_of(*files, cache_dir=folder) == whole
    assert len(conversions) == 2


def test_a_folder_that_cannot_be_written_is_no_error(files, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    assert onnx_of(*files, cache_dir=blocked / "cache") == load(*files).to_onnx()


def test_an_entry_that_cannot_be_touched_is_still_used(files, tmp_path, conversions, monkeypatch):
    onnx_of(*files, cache_dir=tmp_path / "cache")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    onnx_of(*files, cache_dir=tmp_path / "cache")
    assert len(conversions) == 1


def test_the_entries_used_last_are_kept(files, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(cache, "_MOST_ENTRIES", 2)
    for number, name in enumerate((b"a", b"b", b"c")):
        files[0].write_bytes(TEXT.replace(b'"n"', b'"' + name + b'"'))
        onnx_of(*files, cache_dir=folder)
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (number, number))
    assert sorted(path.stat().st_mtime for path in folder.iterdir()) == [1, 2]


def test_the_default_folder(files, tmp_path, monkeypatch):
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "chosen"))
    onnx_of(*files)
    assert len(list((tmp_path / "chosen" / "onnx").iterdir())) == 1


def test_files_that_are_missing_or_wrong(files, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        onnx_of(tmp_path / "none", files[1], cache_dir=tmp_path)
    with pytest.raises(ModelFileError, match="cannot read"):
        onnx_of(files[0], tmp_path, cache_dir=tmp_path)
    files[1].write_bytes(b"\xa2\x06\x05")
    with pytest.raises(CaffeModelError):
        onnx_of(*files, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_cached_model_needs_neither_protobuf_nor_onnx(files, tmp_path):
    code = (
        "import sys; from spherecv.caffe import onnx_of; "
        f"onnx_of({str(files[0])!r}, {str(files[1])!r}, cache_dir={str(tmp_path / 'cache')!r}); "
        "print(sorted({'onnx', 'google.protobuf', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root).stdout
        for _ in range(2)
    ]
    assert "onnx" in runs[0]
    assert runs[1].strip() == "[]"


MANY_LAYERS = """
input: "x" input_shape { dim: 1 dim: 4 dim: 12 dim: 12 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "p" type: "PReLU" bottom: "c" top: "c" }
layer { name: "e" type: "Eltwise" bottom: "c" bottom: "x" top: "e" eltwise_param { coeff: 1 coeff: 0.5 } }
layer { name: "m" type: "Pooling" bottom: "e" top: "m" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "a" type: "Pooling" bottom: "m" top: "a" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "d" type: "Deconvolution" bottom: "a" top: "d" convolution_param { num_output: 4 kernel_size: 2 } }
layer { name: "l" type: "LRN" bottom: "d" top: "l" lrn_param { norm_region: WITHIN_CHANNEL } }
layer { name: "n" type: "Normalize" bottom: "l" top: "n" }
layer { name: "s" type: "Slice" bottom: "n" top: "s1" top: "s2" }
layer { name: "cat" type: "Concat" bottom: "s2" bottom: "s1" top: "cat" }
layer { name: "sc" type: "Scale" bottom: "cat" top: "sc" }
layer { name: "pw" type: "Power" bottom: "sc" top: "pw" power_param { power: 2 scale: 0.5 shift: 1 } }
layer { name: "t" type: "Permute" bottom: "pw" top: "t" permute_param { order: 0 order: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "t" top: "f" inner_product_param { num_output: 6 } }
layer { name: "r" type: "Reshape" bottom: "f" top: "r" reshape_param { shape { dim: 0 dim: 2 dim: 3 } } }
layer { name: "sm" type: "Softmax" bottom: "r" top: "sm" }
"""


def test_the_version_is_raised_with_the_form_of_the_onnx(convert):
    """If this fails, the converter writes something else than before: raise CONVERTER_VERSION, then mend the digest."""
    graph = onnx.load_from_string(convert(MANY_LAYERS)[1]).graph
    form = [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]
    for node in graph.node:
        settings = sorted((a.name, repr(onnx.helper.get_attribute_value(a))) for a in node.attribute)
        form.append((node.op_type, node.name, list(node.input), list(node.output), settings))
    form += [(tensor.name, list(tensor.dims)) for tensor in graph.initializer]
    digest = hashlib.sha256(repr(form).encode()).hexdigest()
    assert (cache.CONVERTER_VERSION, digest[:16]) == ("5", "9b931925c3da44cc")
