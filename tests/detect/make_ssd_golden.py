"""Makes `ssd_golden.npz`: what OpenCV 4's own Caffe importer gives for res10 on photographs.

    python tests/detect/make_ssd_golden.py ../shared/data       # with OpenCV 4

For every image the rows of at least 0.5: score, then x1, y1, x2, y2 in pixels, by the usual script: the image squeezed
to 300x300 by cv2.resize, less (104, 177, 123), and the boxes times the image's sides.
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np

LFW_IMAGES = 40


def images(data: Path):
    """Name and pixels of every photograph of deepface-pairs, and of the first of LFW view 1."""
    for path in sorted((data / "deepface-pairs").glob("*.jpg")):
        yield path.name, cv2.imread(str(path))
    count = 0
    with tarfile.open(data / "lfw-view1.tar") as archive:
        for member in archive:
            if member.name.endswith(".jpg") and count < LFW_IMAGES:
                count += 1
                pixels = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                yield Path(member.name).name, cv2.imdecode(pixels, cv2.IMREAD_COLOR)


def rows_of(net, image: np.ndarray) -> np.ndarray:
    """Detections of at least 0.5, shape (N, 5)."""
    height, width = image.shape[:2]
    net.setInput(cv2.dnn.blobFromImage(cv2.resize(image, (300, 300)), 1.0, (300, 300), (104.0, 177.0, 123.0)))
    found = net.forward()[0, 0]
    found = found[found[:, 2] >= 0.5]
    return np.hstack([found[:, 2:3], found[:, 3:] * np.array([width, height, width, height])]).astype(np.float32)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    model = folder / "ssd-res10-caffe"
    net = cv2.dnn.readNetFromCaffe(
        str(model / "deploy.prototxt"), str(model / "res10_300x300_ssd_iter_140000.caffemodel")
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: rows_of(net, image) for name, image in images(folder)})
    Path(__file__).with_name("ssd_golden.npz").write_bytes(buffer.getvalue())
    print(f"OpenCV {cv2.__version__}, {len(buffer.getvalue())} bytes")
