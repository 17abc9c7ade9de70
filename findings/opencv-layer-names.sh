#!/usr/bin/env bash
# Code that takes features out of the middle of a net asks getLayerNames() for the layer and gives its name to forward().
#
# versions: Python 3.11, opencv-python-headless 4.14.0.94 and 5.0.0.93, onnx 1.22.0
# expected: forward(name) answers for every name that getLayerNames() lists
# seen: OpenCV 4 answers for each; OpenCV 5 lists the names of nodes, and forward() knows those of tensors only:
#       "tensor 'first' is not found in the graph"
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/names.py" <<'PYTHON'
import cv2
import numpy as np
from onnx import TensorProto, helper

INFO = helper.make_tensor_value_info
nodes = [helper.make_node("Neg", ["x"], ["a"], name="first"), helper.make_node("Exp", ["a"], ["b"], name="second")]
ends = [[INFO(name, TensorProto.FLOAT, [1, 2])] for name in ("x", "b")]
graph = helper.make_graph(nodes, "two", *ends)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
known = []
for name in net.getLayerNames():
    net.setInput(np.array([[1, -2]], np.float32))
    try:
        known.append(net.forward(name) is not None)
    except cv2.error:
        known.append(False)
print(f"{len(known)} names, forward() knows {sum(known)}")
PYTHON
for version in 4.14.0.94 5.0.0.93; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install --quiet "opencv-python-headless==$version" 'onnx==1.22.0'
    "$work/$version/bin/python" "$work/names.py" 2> /dev/null > "$work/$version.txt"
    echo "OpenCV $version: $(cat "$work/$version.txt")"
done
[ "$(cat "$work/4.14.0.94.txt")" = "3 names, forward() knows 3" ] && [ "$(cat "$work/5.0.0.93.txt")" = "2 names, forward() knows 0" ]
