"""int8 models against float32 ones, both on ONNX Runtime, and what OpenVINO makes of them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.runtime import Session
from spherecv.runtime.quantise import quantise, ranges_of
from spherecv.runtime.signature import read_signature
from spherecv.runtime.variants import QUANTISED_KEY, chained

pytestmark = pytest.mark.runtime


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def feeds() -> list[np.ndarray]:
    random = np.random.default_rng(4)
    return [random.standard_normal((2, 3, 28, 24)).astype(np.float32) for _ in range(4)]


@pytest.fixture(scope="module")
def int8(models, feeds) -> bytes:
    return quantise(models["dense"], feeds=feeds, calibration={"images": 8})


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def test_the_file_is_what_every_runtime_reads(int8: bytes) -> None:
    net = onnx.load_from_string(int8)
    onnx.checker.check_model(net, full_check=True)
    assert net.opset_import[0].version >= 13
    stored = {tensor.name: tensor for tensor in net.graph.initializer}
    convolutions = {node.input[1] for node in net.graph.node if node.op_type == "Conv"}
    scales = [node for node in net.graph.node if node.op_type == "DequantizeLinear" and node.output[0] in convolutions]
    assert scales
    for node in scales:  # one scale for each channel
        weights = numpy_helper.to_array(stored[node.input[0]])
        assert weights.dtype == np.int8
        assert numpy_helper.to_array(stored[node.input[1]]).shape == weights.shape[:1]
    for node in net.graph.node:
        if node.op_type == "QuantizeLinear":
            assert numpy_helper.to_array(stored[node.input[2]]).dtype == np.uint8
    assert not {port.name for port in net.graph.input} & set(stored)


def test_numbers_are_near_those_of_float32(models, int8: bytes, feeds) -> None:
    wanted = Session(models["dense"], backend="onnxruntime").run(feeds[0])["fc5"]
    for backend in ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]:
        session = Session(int8, backend=backend, precision="int8")
        assert session.precision == "int8"
        got = session.run(feeds[0])["fc5"]
        assert cosines(got, wanted).min() > 0.98
        assert not np.array_equal(got, wanted)


def test_metadata_make_the_same_file_again(models, int8: bytes) -> None:
    signature = read_signature(int8, "it")
    assert json.loads(signature.metadata[QUANTISED_KEY])["calibration"] == {"images": 8}
    again = quantise(models["dense"], ranges=ranges_of(signature), calibration={"images": 8})
    assert again == int8
    assert ranges_of(read_signature(models["dense"], "it")) == {}


def test_openvino_gets_one_quantiser_for_each_product(int8: bytes, feeds) -> None:
    def quantised(blob: bytes) -> tuple[int, set[str]]:
        nodes = onnx.load_from_string(blob).graph.node
        makers = {name: node.op_type for node in nodes for name in node.output}
        read = {makers.get(node.input[0], "input") for node in nodes if node.op_type == "PRelu"}
        return sum(node.op_type == "QuantizeLinear" for node in nodes), read

    before, after = quantised(int8), quantised(chained(int8))
    assert "DequantizeLinear" in before[1]
    assert after[1] == {"Conv"}
    assert after[0] < before[0]
    one, other = (Session(blob, backend="onnxruntime").run(feeds[0])["fc5"] for blob in (int8, chained(int8)))
    assert cosines(one, other).min() > 0.98


def test_what_cannot_be_quantised_is_said(models) -> None:
    with pytest.raises(InvalidArgumentError, match="give some to calibrate on"):
        quantise(models["dense"])
    with pytest.raises(ModelFileError, match="cannot be quantised"):
        quantise(models["dense"], ranges={"data": (0.0, 1.0)})


def test_a_quantised_file_is_not_bfloat16(int8: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="runs in int8, not in bfloat16"):
        Session(int8, precision="bfloat16", backend="openvino")
