"""Odd files and the facts of docs/caffe.md, against real Caffe: what it computes and what it refuses."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import load
from spherecv.errors import SphereCVError
from spherecv.runtime import Session

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "caffe.md").read_text(encoding="utf8")
REFERENCES = Path(__file__).parent / "references"
GOLDEN = {}
for _file in ("files.npz", "facts.npz"):
    with np.load(REFERENCES / _file) as _stored:
        GOLDEN.update({key: _stored[key] for key in _stored.files})
CASES = sorted({key.partition("|")[0] for key in GOLDEN})
TAKEN = [case for case in CASES if f"{case}|refused" not in GOLDEN]
REFUSED = [case for case in CASES if f"{case}|refused" in GOLDEN]
# BatchNorm of phase TRAIN depends on the other faces of the batch.
BEYOND = {"rule_phase_field": "phase: TRAIN"}


def _load(case):
    model = GOLDEN.get(f"{case}|caffemodel")
    return load(str(GOLDEN[f"{case}|net"]).encode(), None if model is None else model.tobytes())


def test_the_set_is_whole():
    files = [case for case in CASES if "/" not in case]
    assert (len(files), len([case for case in files if case in REFUSED])) == (87, 26)
    named = {name.removeprefix("files/") for name in re.findall(r"`(\w+/\w+)`", PAGE)}
    assert len(named) > 60
    assert named <= set(CASES), "run tests/caffe/references/make_golden.py"


@pytest.mark.parametrize("case", [case for case in TAKEN if case not in BEYOND])
def test_what_caffe_computes(case):
    net = _load(case)
    session = Session(net.to_onnx(), backend="onnxruntime")
    got = session.run({name: GOLDEN[f"{case}|in:{name}"] for name in session.inputs})
    outputs = [key.partition("|out:")[2] for key in GOLDEN if key.startswith(f"{case}|out:")]
    assert sorted(got) == sorted(outputs)
    for name in outputs:
        right = GOLDEN[f"{case}|out:{name}"]
        assert got[name].shape == right.shape
        scale = np.abs(right[np.isfinite(right)]).max(initial=0) or 1
        np.testing.assert_allclose(got[name], right, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("case", BEYOND)
def test_what_is_refused_though_caffe_takes_it(case):
    with pytest.raises(SphereCVError, match=BEYOND[case]):
        _load(case).to_onnx()


@pytest.mark.parametrize("case", REFUSED)
def test_what_caffe_refuses(case):
    with pytest.raises(SphereCVError):
        _load(case).to_onnx()


def test_the_table_of_layers_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("make_caffe", ROOT / "docs" / "make_caffe.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.page(PAGE) == PAGE, "run docs/make_caffe.py"
    assert "| Convolution | " in PAGE
