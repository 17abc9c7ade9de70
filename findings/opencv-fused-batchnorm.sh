#!/usr/bin/env bash
# A convolution, BatchNorm and Scale, as in every Caffe ResNet; a script asks for the layer in the middle by its name.
#
# versions: Python 3.11, opencv-python-headless 4.14.0.94 (its Caffe importer)
# expected: forward("bn") is the output of the BatchNorm, -1.5 and -5.5, with layers fused or not
# seen: with fusion, which is the default, a buffer that no layer has written to; no error. With enableFusion(False)
#       the right numbers
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet 'opencv-python-headless==4.14.0.94'
"$work/env/bin/python" - <<'PYTHON'
import struct
import sys

import cv2
import numpy as np


def varint(number):  # of protobuf's wire format
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def layer(name, *blobs):
    shaped = [field(7, field(1, bytes([len(blob)]))) + field(5, struct.pack(f"<{len(blob)}f", *blob)) for blob in blobs]
    return field(100, field(1, name) + b"".join(field(7, blob) for blob in shaped))


weights = field(100, field(1, b"conv") + field(7, field(7, field(1, bytes([1] * 4))) + field(5, struct.pack("<f", 2))))
weights += layer(b"bn", [5.0], [4.0], [1.0]) + layer(b"scale", [3.0], [100.0])
net = b"""
input: "data" input_shape { dim: 1 dim: 1 dim: 1 dim: 2 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" batch_norm_param { use_global_stats: true } }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
"""
found = {}
for fused in (False, True):
    opened = cv2.dnn.readNetFromCaffe(np.frombuffer(net, np.uint8), np.frombuffer(weights, np.uint8))
    opened.enableFusion(fused)
    opened.setInput(np.array([[[[1, -3]]]], np.float32))
    found[fused] = opened.forward("bn").ravel()
    print("fused:" if fused else "not fused:", found[fused])
right = [np.allclose(found[fused], [-1.5, -5.5], atol=1e-4) for fused in (False, True)]
sys.exit(0 if right == [True, False] else 1)
PYTHON
