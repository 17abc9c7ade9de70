"""Every layer of deployed nets, with the numbers that real Caffe gave (references/make_layers.py), in every runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import load
from spherecv.caffe.layers import BUILT_IN
from spherecv.errors import SphereCVError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime

with np.load(Path(__file__).parent / "references" / "layers.npz") as _stored:
    GOLDEN: dict[str, dict[str, np.ndarray]] = {}
    for _key in _stored.files:
        GOLDEN.setdefault(_key.partition("|")[0], {})[_key.partition("|")[2]] = _stored[_key]
TAKEN = [case for case, parts in GOLDEN.items() if "refused" not in parts]
REFUSED = [case for case, parts in GOLDEN.items() if "refused" in parts]
# A net without any input, and one whose answer for an image depends on the other images of the batch.
BEYOND = {
    "Parameter/plain": "declares no input",
    "Parameter/rank_1": "declares no input",
    "BatchNorm/test_batch": "layer 'it'.*use_global_stats",
}
# Relative to the largest number; OpenCV uses Winograd's transform.
TOLERANCE = {"onnxruntime": 1e-5, "opencv": 1e-4}


def _load(case):
    parts = GOLDEN[case]
    return load(str(parts["net"]).encode(), parts["caffemodel"].tobytes() if "caffemodel" in parts else None)


def test_the_set_is_whole():
    assert (len(TAKEN), len(REFUSED)) == (374, 7)


@pytest.mark.parametrize("backend", TOLERANCE)
@pytest.mark.parametrize("case", [case for case in TAKEN if case not in BEYOND])
def test_what_caffe_computes(case, backend):
    parts = GOLDEN[case]
    right = {part[4:]: value for part, value in parts.items() if part.startswith("out:")}
    session = Session(_load(case).to_onnx(), backend=backend)
    got = session.run({name: parts[f"in:{name}"] for name in session.inputs})
    assert sorted(got) == sorted(right)
    for name, numbers in right.items():
        assert got[name].shape == numbers.shape
        finite = np.isfinite(numbers)
        np.testing.assert_array_equal(got[name][~finite], numbers[~finite])
        largest = np.abs(numbers[finite]).max(initial=0) or 1
        np.testing.assert_allclose(got[name][finite], numbers[finite], rtol=0, atol=TOLERANCE[backend] * largest)


@pytest.mark.parametrize("case", BEYOND)
def test_what_is_refused_though_caffe_takes_it(case):
    with pytest.raises(SphereCVError, match=BEYOND[case]):
        _load(case).to_onnx()


@pytest.mark.parametrize("case", REFUSED)
def test_what_caffe_refuses(case):
    with pytest.raises(SphereCVError, match="layer 'it'"):
        _load(case).to_onnx()


def test_every_layer_says_what_it_was_checked_against():
    unchecked = [name for name, kind in BUILT_IN.items() if not kind.checked]
    assert unchecked == []
    golden = {case.partition("/")[0] for case in TAKEN}
    claimed = {name for name, kind in BUILT_IN.items() if kind.checked.startswith("Caffe's answers")}
    assert claimed - golden <= {"Axpy", "ConvolutionDepthwise", "DepthwiseConvolution"}
