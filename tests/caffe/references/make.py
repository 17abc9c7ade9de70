"""Makes the reference outputs in this folder with OpenCV 4.14's own Caffe importer.

Run from the project's root, in an environment with OpenCV 4.14 and with the test data in place:

    python tests/caffe/references/make.py

Kept of each output: its largest absolute value, and up to 1024 values at even distances.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
SAMPLES = 1024

# name -> (files in the test data, or a depth of SphereFace with seeded weights; inputs as batch, height, width)
CASES = {
    "det1": ("mtcnn-caffe/det1", [(1, 12, 12), (2, 37, 53), (7, 24, 31), (1, 120, 161)]),
    "det2": ("mtcnn-caffe/det2", [(1, 24, 24), (2, 24, 24), (7, 24, 24)]),
    "det3": ("mtcnn-caffe/det3", [(1, 48, 48), (2, 48, 48), (7, 48, 48)]),
    "det4": ("mtcnn-caffe/det4", [(1, 24, 24), (2, 24, 24), (7, 24, 24)]),
    "mobilefacenet": ("mobilefacenet-caffe/mobilefacenet", [(1, 112, 112), (2, 112, 112), (7, 112, 112)]),
    "sphereface-20": (20, [(1, 112, 96), (2, 112, 96), (7, 112, 96)]),
    "sphereface-64": (64, [(1, 112, 96), (2, 112, 96), (7, 112, 96)]),
}
WINOGRAD = {"direct": False, "winograd": True}


def sample(values: np.ndarray) -> np.ndarray:
    """Return up to SAMPLES values of an array, at even distances."""
    flat = values.reshape(-1)
    return flat[:: max(1, -(-len(flat) // SAMPLES))]


def caffe_files(name: str, data: Path | None, tools: dict) -> tuple[bytes, bytes]:
    """Return the content of a model's prototxt and caffemodel."""
    source = CASES[name][0]
    if isinstance(source, str):
        return (data / f"{source}.prototxt").read_bytes(), (data / f"{source}.caffemodel").read_bytes()
    from spherecv.caffe import load
    from spherecv.caffe.architectures import sphereface
    from spherecv.caffe.text import render
    from spherecv.caffe.writer import serialize

    prototxt = render(sphereface(source)).encode()
    return prototxt, serialize(tools["weights_of"](load(prototxt), seed=source))


def run_caffe(prototxt: bytes, caffemodel: bytes, inputs: list, *, winograd: bool) -> list[dict]:
    """Run a model in OpenCV 4's Caffe importer."""
    from spherecv.caffe import load

    net = load(prototxt)
    # OpenCV asks for layers, not blobs: a blob's last value is made by the last layer that writes it.
    last = [next(layer.name for layer in reversed(net.layers) if output in layer.tops) for output in net.outputs]
    theirs = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8))
    theirs.enableWinograd(winograd)
    results = []
    for array in inputs:
        theirs.setInput(array)
        arrays = theirs.forward(last)
        results.append({key: np.array(value) for key, value in zip(net.outputs, arrays, strict=True)})
    return results


def make_inputs(name: str, channels: int, tools: dict) -> list[np.ndarray]:
    """Return the inputs of a model's cases."""
    return [
        tools["numbers_of"]((batch, channels, height, width), seed=100 + index)
        for index, (batch, height, width) in enumerate(CASES[name][1])
    ]


def main() -> None:
    """Write one .npz per model."""
    from spherecv.caffe import load

    tools = runpy.run_path(str(HERE.parent / "conftest.py"))
    data = Path(os.environ.get("SPHERECV_TEST_DATA", "../shared/data"))
    for name in CASES:
        prototxt, caffemodel = caffe_files(name, data, tools)
        net = load(prototxt, caffemodel)
        inputs = make_inputs(name, next(iter(net.inputs.values()))[1], tools)
        kept = {}
        for mode, winograd in WINOGRAD.items():
            results = run_caffe(prototxt, caffemodel, inputs, winograd=winograd)
            for index, result in enumerate(results):
                for output, values in result.items():
                    kept[f"{mode}/{index}/{output}/largest"] = np.abs(values).max()
                    kept[f"{mode}/{index}/{output}/sample"] = sample(values)
        np.savez_compressed(HERE / f"{name}.npz", **kept)
        print(name, (HERE / f"{name}.npz").stat().st_size, max(v for k, v in kept.items() if k.endswith("largest")))


if __name__ == "__main__":
    main()
