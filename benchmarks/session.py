"""What a Session costs over the library it runs on, and how the libraries compare, in one run.

    python benchmarks/session.py [--threads 2] [--batch 32] [--repeats 10] [--cpu] [--nets sphereface-20 mobilefacenet]

Every library is measured bare, as its own users call it, with equal threads and in full precision, and through a
Session. SphereFace-20 has random weights, for speed does not depend on them; MobileFaceNet-Caffe is read from the test
data (SPHERECV_TEST_DATA) and left out where it is not there. PyTorch and OpenVINO are left out where not installed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from measure import Results, interleave, machine_line

from spherecv.caffe import CaffeNet, load, write_blob
from spherecv.caffe.architectures import sphereface
from spherecv.caffe.fold import fold
from spherecv.caffe.graph import Layer, single_assignment
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import infer
from spherecv.runtime import Session, available_backends

Run = Callable[[np.ndarray], np.ndarray]

_DATA = Path(os.environ.get("SPHERECV_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


# The nets


def sphereface_20() -> CaffeNet:
    """SphereFace-20 with random weights that keep the activations in range."""
    definition = sphereface(20)
    text = str(definition).encode()
    net, random = load(text), np.random.default_rng(0)
    shapes = {
        layer.name: kind_of(layer).blob_shapes(layer, bottoms)
        for layer, (bottoms, _) in zip(net.layers, infer(net.layers, net.inputs), strict=True)
    }
    for layer in definition.layer:
        for shape in shapes.get(layer.name, ()):
            if len(shape) > 1:
                values = random.normal(0, np.sqrt(1.5 / np.prod(shape[1:])), shape)
            else:
                values = random.uniform(0.1, 0.3, shape)
            layer.blobs.append(write_blob(values.astype(np.float32)))
    return load(text, definition.SerializeToString())


def mobilefacenet() -> CaffeNet | None:
    folder = _DATA / "mobilefacenet-caffe"
    if not folder.is_dir():
        return None
    return load(folder / "mobilefacenet.prototxt", folder / "mobilefacenet.caffemodel")


# The libraries, bare


def bare_opencv(onnx: bytes, engine: str | None) -> Run:
    options = [getattr(cv2.dnn, engine)] if engine else []
    path = Path(f"/proc/self/fd/{_memory_file(onnx)}")  # OpenCV 5.0 chooses the engine only for files
    net = cv2.dnn.readNetFromONNX(str(path), *options)

    def run(data: np.ndarray) -> np.ndarray:
        net.setInput(data)
        return net.forward()

    return run


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("net")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor


def bare_onnxruntime(onnx: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return lambda data: session.run(None, {"data": data})[0]


def bare_openvino(onnx: bytes, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(onnx, b""), "CPU", config).create_infer_request()
    return lambda data: request.infer({0: data})[0]


def bare_torch(net: CaffeNet, data: np.ndarray, threads: int, *, optimized: bool) -> Run:
    """The same net in PyTorch, with BatchNorm and Scale folded as in the ONNX; `optimized` by its own compiler."""
    import torch

    torch.set_num_threads(threads)
    module = torch_module(net)
    if optimized:
        with torch.inference_mode():
            traced = torch.jit.trace(module, torch.from_numpy(data))
            module = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

    def run(data: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(data)).numpy()

    return run


def torch_module(net: CaffeNet):
    """Transcribe a net of convolutions, PReLU, element-wise sums and dense layers."""
    import torch
    from torch.nn import functional

    layers, final = single_assignment(net.layers, list(net.inputs))
    goal = final[net.outputs[0]]
    layers = fold(layers, infer(layers, net.inputs), {goal})

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList()
            self.steps = [(layer, self.place(layer)) for layer in layers]
            self.eval()

        def place(self, layer: Layer) -> slice:
            start = len(self.weights)
            self.weights.extend(torch.nn.Parameter(torch.tensor(blob), requires_grad=False) for blob in layer.blobs)
            return slice(start, len(self.weights))

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            values = dict.fromkeys(net.inputs, data)
            for layer, place in self.steps:
                values[layer.tops[0]] = self.step(layer, list(self.weights[place]), [values[b] for b in layer.bottoms])
            return values[goal]

        def step(self, layer: Layer, weights: list[torch.Tensor], inputs: list[torch.Tensor]) -> torch.Tensor:
            if layer.type == "Convolution":
                settings = layer.param.convolution_param
                pad, stride = (list(settings.pad) or [0])[0], (list(settings.stride) or [1])[0]
                return functional.conv2d(inputs[0], *weights, stride=stride, padding=pad, groups=settings.group)
            if layer.type == "PReLU":
                return functional.prelu(inputs[0], *weights)
            if layer.type == "InnerProduct":
                return functional.linear(inputs[0].flatten(1), *weights)
            assert layer.type == "Eltwise", layer
            return torch.add(*inputs)

    return Net()


# The comparison


def contenders(net: CaffeNet, data: np.ndarray, threads: int) -> dict[str, Run]:
    onnx = net.to_onnx()
    bare: dict[str, Run] = {}
    if hasattr(cv2.dnn, "ENGINE_NEW"):
        for engine in ("ENGINE_CLASSIC", "ENGINE_NEW"):
            if hasattr(cv2.dnn, engine):
                bare[f"bare OpenCV, {engine.removeprefix('ENGINE_').lower()} engine"] = bare_opencv(onnx, engine)
    else:
        bare["bare OpenCV"] = bare_opencv(onnx, None)
    bare["bare ONNX Runtime"] = bare_onnxruntime(onnx, threads)
    if find_spec("openvino"):
        bare["bare OpenVINO"] = bare_openvino(onnx, threads)
    if find_spec("torch"):
        bare["bare PyTorch"] = bare_torch(net, data, threads, optimized=False)
        bare["bare PyTorch, optimized"] = bare_torch(net, data, threads, optimized=True)

    def through(session: Session) -> Run:
        return lambda data: session.run(data)[session.outputs[0]]

    ours = {
        f"Session {name}": through(Session(onnx, backend=name, threads=threads))
        for name, reason in available_backends().items()
        if not reason
    }
    return bare | ours


def same_answers(runs: dict[str, Run], data: np.ndarray) -> None:
    """Nobody may be fast by computing something else."""
    wanted = runs["bare ONNX Runtime"](data)
    for name, run in runs.items():
        answer = run(data)
        assert np.abs(answer - wanted).max() < 1e-4 * np.abs(wanted).max(), name


def verdict(results: Results) -> str:
    ours = [name for name in results.seconds if name.startswith("Session")]
    bare = [name for name in results.seconds if name.startswith("bare")]
    best, peer = results.fastest(ours), results.fastest(bare)
    lines = [f"best of ours / best bare: {best} / {peer}: {results.ratio(best, peer)}"]
    for name, label in (("opencv", "OpenCV"), ("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        if f"Session {name}" in ours:
            own = results.fastest(other for other in bare if label in other)
            lines.append(f"Session {name} / {own}: {results.ratio(f'Session {name}', own)}")
    return "\n".join(f"* {line}" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each timing")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds: for a machine that is busy")
    parser.add_argument("--nets", nargs="+", default=["sphereface-20", "mobilefacenet"])
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    print(machine_line())
    for name in arguments.nets:
        net = {"sphereface-20": sphereface_20, "mobilefacenet": mobilefacenet}[name]()
        if net is None:
            print(f"\n{name}: not in {_DATA}, left out")
            continue
        shape = (arguments.batch, *net.inputs["data"][1:])
        data = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        runs = contenders(net, data, arguments.threads)
        same_answers(runs, data)
        results = interleave(
            {label: partial(run, data) for label, run in runs.items()},
            repeats=arguments.repeats,
            pause=arguments.pause,
            clock=time.process_time if arguments.cpu else time.perf_counter,
        )
        print(f"\n{name}, batch {arguments.batch}, {arguments.threads} threads\n")
        print(results.table(items=arguments.batch))
        print(f"\n{verdict(results)}")


if __name__ == "__main__":
    main()
