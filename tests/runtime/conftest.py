"""Small models of every kind, made here, and every backend that is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

BACKENDS = ("opencv", "onnxruntime", "openvino")


class GraphMaker:
    """Builds a model node by node; values are chained by the names that `op` returns."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list = []
        self.constants: list = []

    def constant(self, array: NDArray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, to: str | None = None, **attributes: object) -> str:
        to = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [to], name=f"n{len(self.nodes)}", **attributes))
        return to

    def conv(self, value: str, inside: int, outside: int, *, stride: int = 1, groups: int = 1, pad: int = 1) -> str:
        shape = (outside, inside // groups, 3, 3)
        weights = self.random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        bias = self.random.normal(0, 0.1, outside).astype(np.float32)
        return self.op("Conv", value, self.constant(weights), self.constant(bias), kernel_shape=[3, 3],
                       strides=[stride, stride], pads=[pad] * 4, group=groups)  # fmt: skip

    def prelu(self, value: str, channels: int) -> str:
        slopes = self.random.uniform(0.1, 0.4, (channels, 1, 1)).astype(np.float32)
        return self.op("PRelu", value, self.constant(slopes))

    def dense(self, value: str, inside: int, outside: int, to: str) -> str:
        weights = self.random.normal(0, inside**-0.5, (outside, inside)).astype(np.float32)
        bias = self.random.normal(0, 0.1, outside).astype(np.float32)
        return self.op("Gemm", value, self.constant(weights), self.constant(bias), to=to, transB=1)

    def model(
        self,
        inputs: dict[str, Sequence[int | str | None] | None],
        outputs: dict[str, Sequence[int | str | None] | None],
        *,
        element: int = TensorProto.FLOAT,
        ir_version: int = 7,
        constants_are_inputs: bool = False,
    ) -> bytes:
        given = [helper.make_tensor_value_info(name, element, shape) for name, shape in inputs.items()]
        if constants_are_inputs:
            given += [helper.make_tensor_value_info(c.name, c.data_type, c.dims) for c in self.constants]
        asked = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "net", given, asked, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)
        return model.SerializeToString()


def dense_net(batch: int | str = "batch") -> bytes:
    """Like SphereFace: 3x3 convolutions, PReLU, a residual, a dense layer; one image size."""
    net = GraphMaker(1)
    a = net.prelu(net.conv("data", 3, 16, stride=2), 16)
    b = net.prelu(net.conv(a, 16, 16), 16)
    c = net.op("Add", a, net.prelu(net.conv(b, 16, 16), 16))
    net.dense(net.op("Flatten", c, axis=1), 16 * 14 * 12, 8, "fc5")
    return net.model({"data": [batch, 3, 28, 24]}, {"fc5": [batch, 8]})


def depthwise_net() -> bytes:
    """Like MobileFaceNet."""
    net = GraphMaker(2)
    a = net.prelu(net.conv("data", 3, 8, stride=2), 8)
    b = net.prelu(net.conv(a, 8, 8, groups=8), 8)
    net.dense(net.op("Flatten", b, axis=1), 8 * 8 * 8, 4, "fc1")
    return net.model({"data": ["N", 3, 16, 16]}, {"fc1": ["N", 4]})


def any_size_net() -> bytes:
    """Like MTCNN's P-net: height and width are open, two outputs."""
    net = GraphMaker(3)
    a = net.prelu(net.conv("data", 3, 10, pad=0), 10)
    a = net.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    a = net.prelu(net.conv(a, 10, 12, pad=0), 12)
    net.conv(a, 12, 4, pad=0)
    net.nodes[-1].output[0] = "boxes"
    net.op("Softmax", net.conv(a, 12, 2, pad=0), to="scores", axis=1)
    return net.model({"data": ["N", 3, "H", "W"]}, {"scores": ["N", 2, "h", "w"], "boxes": ["N", 4, "h", "w"]})


def two_input_net() -> bytes:
    net = GraphMaker(4)
    net.op("Add", net.dense("left", 5, 3, "hidden"), "right", to="sum")
    return net.model({"left": ["N", 5], "right": ["N", 3]}, {"sum": ["N", 3]})


MODELS: dict[str, Callable[[], bytes]] = {
    "dense": dense_net,
    "depthwise": depthwise_net,
    "any_size": any_size_net,
    "two_inputs": two_input_net,
    "one_at_a_time": lambda: dense_net(1),
}

SHAPES: dict[str, list[dict[str, tuple[int, ...]]]] = {
    "dense": [{"data": (n, 3, 28, 24)} for n in (1, 2, 7, 1, 40)],
    "depthwise": [{"data": (n, 3, 16, 16)} for n in (1, 2, 7, 1, 40)],
    "any_size": [{"data": (n, 3, *size)} for n, size in ((1, (30, 41)), (2, (13, 12)), (7, (21, 33)), (1, (30, 41)))],
    "two_inputs": [{"left": (n, 5), "right": (n, 3)} for n in (1, 2, 7, 1)],
    "one_at_a_time": [{"data": (n, 3, 28, 24)} for n in (1, 3)],
}


@pytest.fixture(scope="session")
def models() -> dict[str, bytes]:
    made = {name: make() for name, make in MODELS.items()}
    for model in made.values():
        checker.check_model(model)
    return made


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino" and not find_spec("openvino"):
        pytest.skip("openvino is not installed")
    return request.param


@pytest.fixture
def graph() -> GraphMaker:
    return GraphMaker()


@pytest.fixture(scope="session")
def expected() -> Callable[[bytes, dict[str, NDArray]], dict[str, NDArray]]:
    """What the ONNX project's own reference implementation computes."""
    evaluators: dict[bytes, ReferenceEvaluator] = {}

    def evaluate(model: bytes, feeds: dict[str, NDArray]) -> dict[str, NDArray]:
        evaluator = evaluators.setdefault(model, ReferenceEvaluator(model))
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))

    return evaluate


@pytest.fixture(scope="session")
def caffe_onnx(data_dir: Path) -> Callable[[str], bytes]:
    """Real Caffe nets as ONNX: det1 to det4 and mobilefacenet."""
    from spherecv import caffe

    @cache
    def convert(name: str) -> bytes:
        folder = data_dir / ("mtcnn-caffe" if name.startswith("det") else "mobilefacenet-caffe")
        return caffe.load(folder / f"{name}.prototxt", folder / f"{name}.caffemodel").to_onnx()

    return convert


@pytest.fixture
def noise() -> Callable[..., NDArray[np.float32]]:
    random = np.random.default_rng(7)
    return lambda *shape: random.normal(0, 1, shape).astype(np.float32)


@pytest.fixture
def difference() -> Callable[[NDArray, NDArray], float]:
    """The largest difference as a fraction of the largest value; shapes must be equal."""

    def relative(a: NDArray, b: NDArray) -> float:
        assert a.shape == b.shape
        return float(np.abs(a - b).max() / np.abs(b).max()) if a.size else 0.0

    return relative


@pytest.fixture(scope="session")
def shapes() -> dict[str, list[dict[str, tuple[int, ...]]]]:
    """What each of `models` is run on, one after another: batches and sizes that go up and down."""
    return SHAPES


@pytest.fixture
def installed() -> list[str]:
    return [name for name in BACKENDS if name != "openvino" or find_spec("openvino")]
