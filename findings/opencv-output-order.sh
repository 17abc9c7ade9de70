#!/usr/bin/env bash
# Code that takes a net's outputs by place, as detectors' scripts do, hands getUnconnectedOutLayersNames() to forward().
#
# versions: Python 3.11, opencv-python-headless 4.14.0.94 and 5.0.0.93, onnx 1.22.0; the same ONNX file in both
# expected: the outputs in one order, that of the graph's list of outputs
# seen: OpenCV 4 sorts them by name, OpenCV 5 keeps the graph's order: the same line of code gets boxes for scores
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/order.py" <<'PYTHON'
import cv2
import numpy as np
from onnx import TensorProto, helper

INFO = helper.make_tensor_value_info
names = ["scores", "boxes", "angles"]
nodes = [helper.make_node(kind, ["x"], [name]) for kind, name in zip(["Relu", "Sigmoid", "Neg"], names)]
outputs = [INFO(name, TensorProto.FLOAT, [1, 4]) for name in names]
graph = helper.make_graph(nodes, "three", [INFO("x", TensorProto.FLOAT, [1, 4])], outputs)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
print(*net.getUnconnectedOutLayersNames())
PYTHON
for version in 4.14.0.94 5.0.0.93; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install --quiet "opencv-python-headless==$version" 'onnx==1.22.0'
    "$work/$version/bin/python" "$work/order.py" 2> /dev/null > "$work/$version.txt"
    echo "OpenCV $version: $(cat "$work/$version.txt")"
done
[ "$(cat "$work/4.14.0.94.txt")" = "angles boxes scores" ] && [ "$(cat "$work/5.0.0.93.txt")" = "scores boxes angles" ]
