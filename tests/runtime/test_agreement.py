from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spherecv.errors import BackendError, ModelFileError
from spherecv.runtime import Session, agreement, processor, reference
from spherecv.runtime.backend import Model, Settings
from spherecv.runtime.signature import read_signature

pytestmark = pytest.mark.runtime
OTHERS = [name for name in ("opencv", "openvino") if name != "openvino" or find_spec("openvino")]
needs_bfloat16 = pytest.mark.skipif(
    not (find_spec("openvino") and processor.computes_bfloat16()), reason="OpenVINO or the processor lacks bfloat16"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "agreement"


def model(nodes, shape, out, weights=(), *, opset: int = 13, ir: int = 8, producer: str = "") -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in weights],
    )
    opsets = [helper.make_opsetid("", opset)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=ir, producer_name=producer)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def average(producer: str = "") -> bytes:
    """What PyTorch exports by default, and what OpenCV's classic engine computes wrong at the border."""
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    node = helper.make_node("AveragePool", ["x"], ["y"], **settings)
    return model([node], [1, 2, 6, 6], [1, 2, 3, 3], producer=producer)


def old_softmax() -> bytes:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    return model([node], [1, 2, 5, 5], [1, 2, 5, 5], opset=11, ir=6)


def relu(batch: int | str = "n", side: int | str = 8) -> bytes:
    node = helper.make_node("Relu", ["x"], ["y"])
    return model([node], [batch, 3, side, side], [batch, 3, side, side])


def expected(blob: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def answer(blob: bytes, backend: str, x: np.ndarray) -> np.ndarray | str:
    """The numbers, or the refusal."""
    try:
        return Session(blob, backend=backend).run(x)["y"]
    except BackendError as error:
        return str(error)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("make", [average, old_softmax, relu])
def test_right_numbers_or_a_refusal_that_says_what_to_use(backend: str, make) -> None:
    blob = make()
    shape = [1 if isinstance(dim, str) else dim for dim in _dims(blob)]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    got = answer(blob, backend, x)
    if isinstance(got, str):
        assert make is not relu
        assert "output 'y' differs by" in got
        assert "--backend onnxruntime" in got
    else:
        np.testing.assert_allclose(got, expected(blob, x), atol=1e-4)


def _dims(blob: bytes) -> list[int | str]:
    dims = onnx.load_from_string(blob).graph.input[0].type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


def test_nan_weights_do_not_come_out_finite() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weights[1] = np.nan
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    blob = model(nodes, [1, 3, 8, 8], [1, 4, 6, 6], [("w", weights)])
    for backend in (*OTHERS, "onnxruntime"):
        with pytest.raises(ModelFileError, match="holds weights 'w' that are NaN or infinite"):
            Session(blob, backend=backend)


def test_a_verdict_is_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = agreement.Reference

    class Counted(real):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments) -> None:
            asked.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(agreement, "Reference", Counted)
    Session(relu())
    Session(relu())
    assert len(asked) == 1
    assert len(list(cache.iterdir())) == 1
    Session(relu(side=9))
    assert len(asked) == 2
    for path in cache.iterdir():
        path.write_text("{")  # damaged: compared again
    Session(relu())
    assert len(asked) == 3


def test_sizes_that_are_open_are_tried_too() -> None:
    for batch, side in (("n", "s"), (1, 8), (3, 8)):
        Session(relu(batch, side))


def test_what_the_converter_wrote_is_held_by_its_own_tests(cache: Path) -> None:
    for backend in OTHERS:
        Session(average("spherecv"), backend=backend)
    assert not cache.exists() or not list(cache.iterdir())


def test_without_a_place_or_a_second_opinion_the_backend_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "file"))
    Session(relu())

    def missing(*_: object) -> None:
        raise BackendError("ONNX Runtime cannot be imported")

    absent = type("Missing", (), {"__init__": missing})
    monkeypatch.setattr(agreement, "Reference", absent)
    Session(relu(side=9))


class Engine:
    """A backend that computes Relu, but for what `wrong` makes of it."""

    name, version, doubted = "opencv", "1.0", True

    def __init__(self, wrong) -> None:
        self.wrong, self.calls = wrong, []

    def run(self, feeds):
        (x,) = feeds.values()
        self.calls.append(x.shape)
        return [self.wrong(np.maximum(x, 0), self.calls)]


@pytest.mark.parametrize(("batch", "side"), [("n", 8), (1, "s"), ("n", "s")])
def test_an_engine_that_keeps_what_it_made_of_the_first_size_is_seen(batch, side) -> None:
    source = relu(batch, side)
    opened = Model(source, read_signature(source, "net"), "net")
    settings = Settings(("y",), None, None)
    right = Engine(lambda answer, calls: answer)
    assert agreement.disagreement(opened, right, settings) == ""
    assert len(set(right.calls)) == len(right.calls) > 1
    stale = Engine(lambda answer, calls: np.resize(answer, calls[0]))
    stale.version = "2.0"
    assert "has shape" in agreement.disagreement(opened, stale, settings)


def test_a_doubted_engine_is_not_taken_where_nothing_can_vouch_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise BackendError("ONNX Runtime cannot be imported")

    monkeypatch.setattr(agreement, "Reference", type("Missing", (), {"__init__": missing}))
    source = relu()
    opened = Model(source, read_signature(source, "net"), "net")
    doubted = Engine(lambda answer, calls: answer)
    assert "cannot be imported" in agreement.disagreement(opened, doubted, Settings(("y",), None, None))
    doubted.doubted = False
    assert agreement.disagreement(opened, doubted, Settings(("y",), None, None)) == ""


def test_large_models_are_compared_without_copying_their_weights(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 32, 3, 3)).astype(np.float32)
    bias = np.zeros(64, np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    blob = model(nodes, ["n", 32, 8, 8], ["n", 64, 6, 6], [("w", weights), ("b", bias)])
    path = tmp_path / "net.onnx"
    path.write_bytes(blob)
    skeleton = onnx.load_from_string(reference.without_weights(blob, path.name))
    assert len(skeleton.SerializeToString()) < 2_000
    told = {entry.key: entry.value for entry in skeleton.graph.initializer[0].external_data}
    start, length = int(told["offset"]), int(told["length"])
    assert (told["location"], blob[start : start + length]) == ("net.onnx", weights.tobytes())
    x = np.random.default_rng(1).standard_normal((2, 32, 8, 8)).astype(np.float32)
    for source in (path, blob):
        (got,) = reference.Reference(Model(source, read_signature(blob, "net"), "net"), ["y"]).run({"x": x})
        np.testing.assert_allclose(got, expected(blob, x), rtol=1e-5, atol=1e-4)
    link = tmp_path / "links" / "net.onnx"  # whose folder is another than that of the file
    link.parent.mkdir()
    link.symlink_to(path)
    (got,) = reference.Reference(Model(link, read_signature(blob, "net"), "net"), ["y"]).run({"x": x})
    np.testing.assert_allclose(got, expected(blob, x), rtol=1e-5, atol=1e-4)


def test_old_verdicts_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_MOST_VERDICTS", 2)
    for side in (5, 6, 7):
        Session(relu(side=side))
    assert len(list(cache.iterdir())) == 2


def of_pixels() -> bytes:
    """A net that takes 0..255 and looks at edges alone, of which noise near 0 has none that bfloat16 could tell."""
    weights = np.zeros((2, 3, 3, 3), np.float32)
    weights[:, :, 1, 0], weights[:, :, 1, 2] = 1, -1
    nodes = [helper.make_node("Sub", ["x", "mean"], ["centred"]), helper.make_node("Conv", ["centred", "w"], ["y"])]
    return model(nodes, [1, 3, 16, 16], [1, 2, 14, 14], [("mean", np.float32(127.5)), ("w", weights)])


@needs_bfloat16
def test_reduced_precision_is_tried_on_what_the_net_takes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 3, 16, 16)).astype(np.float32)
    got = Session(of_pixels(), backend="openvino", precision="bfloat16").run(pixels)["y"]
    wanted = expected(of_pixels(), pixels)
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()
    monkeypatch.setattr(agreement, "_RANGES", agreement._RANGES[:1])  # noise alone; and the verdict above is another's
    with pytest.raises(BackendError, match="output 'y' differs by"):
        Session(of_pixels(), backend="openvino", precision="bfloat16")


@pytest.mark.parametrize(("precision", "share", "trusted"), [("float32", 1e-2, False), ("float32", 1e-4, True),
    ("bfloat16", 5e-2, True), ("bfloat16", 0.2, False)])  # fmt: skip
def test_how_far_off_is_too_far(precision: str, share: float, trusted: bool) -> None:
    source = relu()
    opened = Model(source, read_signature(source, "net"), "net")
    settings = Settings(("y",), None, None, precision)

    class Wrong:
        name, version, doubted = "openvino", f"1.{share}", False

        def run(self, feeds):
            right = expected(source, feeds["x"])
            return [right + np.float32(share) * right.max()]

    found = agreement.disagreement(opened, Wrong(), settings)
    assert (found == "") is trusted
    if not trusted:
        assert "output 'y' differs by" in found
