"""Makes res10.npz: what OpenCV 4.14's own Caffe importer finds with OpenCV's SSD face detector.

Run from the project's root, in an environment with OpenCV 4.14 and with the test data in place:

    SPHERECV_TEST_DATA=... python tests/caffe/references/make_res10.py

Kept of each image: the rows of its detections with a score from 0.1 on; below it, flat parts of
an image give boxes of equal scores, whose order is chance. The images are those of the test data.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

LEAST = 0.1
IMAGES = 12


def main() -> None:
    """Write the file beside this script."""
    data = Path(os.environ.get("SPHERECV_TEST_DATA", "../shared/data"))
    folder = data / "ssd-res10-caffe"
    found = {}
    for path in sorted((data / "deepface-pairs").glob("*.jpg"))[:IMAGES]:
        net = cv2.dnn.readNetFromCaffe(
            str(folder / "deploy.prototxt"), str(folder / "res10_300x300_ssd_iter_140000.caffemodel")
        )
        net.setInput(cv2.dnn.blobFromImage(cv2.imread(str(path)), 1.0, (300, 300), (104, 177, 123)))
        rows = net.forward()[0, 0]
        found[path.name] = rows[rows[:, 2] >= LEAST]
    np.savez_compressed(Path(__file__).with_name("res10.npz"), **found)


if __name__ == "__main__":
    main()
