#!/usr/bin/env bash
# OpenCV 4.14's Caffe importer gives as many rows of detections as it might, most of them zeros.
#
# versions: opencv-python-headless 4.14.0.94 (readNetFromCaffe), numpy 2.4.6
# expected: what SSD's Caffe, whose layer it is, gives: a row for each detection (three here), and where nothing is found
#           in a batch, a row for each image: its number, then -1.
# seen: keep_top_k rows (50 here), zeros behind the detections; nothing found is 50 rows of zeros. Code that takes the
#       number of rows for the number of faces is wrong, and code that waits for -1 never sees it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet opencv-python-headless==4.14.0.94 numpy==2.4.6
cat > rows.py << 'END'
import cv2
import numpy as np

NET = b"""
input: "loc" input_shape { dim: 1 dim: 16 }
input: "conf" input_shape { dim: 1 dim: 8 }
input: "prior" input_shape { dim: 1 dim: 2 dim: 16 }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0 keep_top_k: 50
  nms_param { nms_threshold: 0.4 top_k: 100 } code_type: CENTER_SIZE confidence_threshold: 0.1 } }
"""
net = cv2.dnn.readNetFromCaffe(np.frombuffer(NET, np.uint8))
prior = np.zeros((1, 2, 16), np.float32)
for index in range(4):
    prior[0, 0, 4 * index : 4 * index + 4] = [0.2 * index, 0.1, 0.2 * index + 0.15, 0.3]
prior[0, 1] = 0.1
for scores in ([0.9, 0.8, 0.05, 0.7], [0.05, 0.05, 0.05, 0.05]):
    net.setInput(np.zeros((1, 16), np.float32), "loc")
    net.setInput(np.float32([value for score in scores for value in (1 - score, score)])[None], "conf")
    net.setInput(prior, "prior")
    rows = net.forward()[0, 0]
    print(len(rows), int((rows[:, 2] > 0).sum()), int((rows == -1).sum()))
END
seen=$(env/bin/python rows.py | tr '\n' ';')
echo "rows, detections, numbers of -1: $seen"
[ "$seen" = "50 3 0;50 0 0;" ] || { echo "changed: was 50 3 0;50 0 0;"; exit 1; }
