from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import HashMismatchError
from spherecv.zoo import cache_dir, model_info, mtcnn_arrays, mtcnn_onnx
from spherecv.zoo import mtcnn as module

OFFICIAL = {"pnet": "det1", "rnet": "det2", "onet": "det3"}
# Weights that the authors' file of the second net holds for a layer that its prototxt does not have.
UNUSED = {("rnet", "conv5-3")}


def test_all_50_arrays_equal_the_authors(data_dir: Path) -> None:
    from spherecv.caffe import read_blob, read_caffemodel

    ours, compared = mtcnn_arrays(), 0
    for net, official in OFFICIAL.items():
        path = data_dir / "mtcnn-caffe" / f"{official}.caffemodel"
        (form,) = model_info("mtcnn").file(net).known_forms
        assert hashlib.sha256(path.read_bytes()).hexdigest() == form.sha256
        message = read_caffemodel(path)
        theirs = {layer.name: [read_blob(b) for b in layer.blobs] for layer in [*message.layer, *message.layers]}
        wanted = {name for name, blobs in theirs.items() if blobs and (net, name) not in UNUSED}
        assert set(ours[net]) == wanted
        for name in wanted:
            assert len(ours[net][name]) == len(theirs[name])
            for mine, their in zip(ours[net][name], theirs[name], strict=True):
                assert mine.shape == their.shape
                assert mine.dtype == np.float32
                np.testing.assert_array_equal(mine, their)
                compared += 1
    assert compared == 50


def test_the_nets_compute_what_the_authors_files_compute(data_dir: Path) -> None:
    import onnxruntime

    from spherecv import caffe

    ours = mtcnn_onnx()
    generator = np.random.default_rng(0)
    for net, official in OFFICIAL.items():
        stem = data_dir / "mtcnn-caffe" / official
        theirs = caffe.load(stem.with_suffix(".prototxt"), stem.with_suffix(".caffemodel")).to_onnx()
        side = {"pnet": 31, "rnet": 24, "onet": 48}[net]
        image = generator.standard_normal((2, 3, side, side), dtype=np.float32)
        answers = []
        for model in (ours[net], theirs):
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            names = sorted(output.name for output in session.get_outputs())
            answers.append(dict(zip(names, session.run(names, {"data": image}), strict=True)))
        assert answers[0].keys() == answers[1].keys()
        for name, value in answers[0].items():
            np.testing.assert_array_equal(value, answers[1][name])


def test_a_warm_process_imports_neither_joblib_nor_protobuf_nor_onnx() -> None:
    mtcnn_onnx()
    heavy = "'joblib', 'lz4', 'google.protobuf', 'onnx', 'numpy', 'cv2', 'mtcnn', 'tensorflow', 'urllib.request'"
    code = f"import sys; from spherecv.zoo import mtcnn_onnx; print(len(mtcnn_onnx()), {{{heavy}}} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "3 set()"


def test_the_cache_is_used_and_not_needed(monkeypatch, tmp_path) -> None:
    first = mtcnn_onnx()
    assert len(list((cache_dir() / "onnx").glob("mtcnn-*"))) == 3
    with monkeypatch.context() as patch:
        patch.setattr(module, "_arrays", None)  # would be called for anything that is not cached
        assert mtcnn_onnx() == first
    (tmp_path / "plain").write_text("a file where the cache should be")
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "plain"))
    assert mtcnn_onnx() == first


class _Bomb:
    """A pickle that says so when it goes off."""

    def __reduce__(self):
        return (Path.touch, (Path("bomb-went-off"),))


@pytest.mark.parametrize("padded", [False, True])
def test_nothing_is_unpickled_before_its_hash_is_known(monkeypatch, tmp_path, padded) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(_Bomb())
    pickle.loads(bomb)
    (tmp_path / "bomb-went-off").unlink()  # it works; now let it lie where the weights should be
    for net in OFFICIAL:
        file = model_info("mtcnn").file(net)
        path = tmp_path / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bomb.ljust(file.size, b"\0") if padded else bomb)
    monkeypatch.setattr("spherecv.zoo.files._package_dir", lambda package: tmp_path)
    for read in (mtcnn_arrays, mtcnn_onnx):
        with pytest.raises(HashMismatchError, match=r"pnet.lz4 is not the file that is known: .*pip install mtcnn=="):
            read()
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.runtime
@pytest.mark.parametrize("backend", ["opencv", "onnxruntime"])
def test_the_sessions_give_faces_boxes_and_landmarks(data_dir: Path, backend: str) -> None:
    import onnxruntime

    from spherecv import caffe
    from spherecv.zoo import mtcnn_sessions

    generator = np.random.default_rng(1)
    sessions = dict(zip(OFFICIAL, mtcnn_sessions(backend=backend, threads=1), strict=True))
    names = {"pnet": {"prob1", "conv4-2"}, "rnet": {"prob1", "conv5-2"}, "onet": {"prob1", "conv6-2", "conv6-3"}}
    for net, session in sessions.items():
        side = {"pnet": 37, "rnet": 24, "onet": 48}[net]
        image = generator.uniform(-1, 1, (3, 3, side, side)).astype(np.float32)
        answers = session.run({"data": image})
        assert set(answers) == names[net]
        stem = data_dir / "mtcnn-caffe" / OFFICIAL[net]
        official = caffe.load(stem.with_suffix(".prototxt"), stem.with_suffix(".caffemodel")).to_onnx()
        oracle = onnxruntime.InferenceSession(official, providers=["CPUExecutionProvider"])
        for name in names[net]:
            (theirs,) = oracle.run([name], {"data": image})
            np.testing.assert_allclose(answers[name], theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
