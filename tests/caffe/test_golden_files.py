"""Odd files, against real Caffe: what it computes is computed, what it refuses is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import load
from spherecv.errors import SphereCVError
from spherecv.runtime import Session

with np.load(Path(__file__).parent / "references" / "files.npz") as _stored:
    GOLDEN = {key: _stored[key] for key in _stored.files}
CASES = sorted({key.partition("|")[0] for key in GOLDEN})
TAKEN = [case for case in CASES if f"{case}|refused" not in GOLDEN]
REFUSED = [case for case in CASES if f"{case}|refused" in GOLDEN]
# BatchNorm of phase TRAIN depends on the other faces of the batch.
BEYOND = {"rule_phase_field": "phase: TRAIN"}


def _load(case):
    model = GOLDEN.get(f"{case}|caffemodel")
    return load(str(GOLDEN[f"{case}|net"]).encode(), None if model is None else model.tobytes())


def test_the_set_is_whole():
    assert (len(TAKEN), len(REFUSED)) == (61, 26)


@pytest.mark.parametrize("case", [case for case in TAKEN if case not in BEYOND])
def test_what_caffe_computes(case):
    net = _load(case)
    feeds = {name: GOLDEN[f"{case}|in:{name}"] for name in net.inputs}
    got = Session(net.to_onnx(), backend="onnxruntime").run(feeds)
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
