"""MTCNN: SphereCV against a plain reading of the algorithm on the same nets, and against the `mtcnn` package.

    python benchmarks/detector.py [PHOTO ...] [--peer-python PYTHON] [--yunet FILE.onnx]
    python benchmarks/detector.py [PHOTO ...] --beside FOLDER [--yunet FILE.onnx]

All at equal smallest face, factor, thresholds and threads, interleaved. The plain reading is
`tests/detect/plain_mtcnn.py`: one net call for each scale and each crop. The `mtcnn` package needs TensorFlow, so it
runs in an interpreter of its own (`pip install mtcnn tensorflow-cpu`); without --peer-python it is left out. So is
`cv2.FaceDetectorYN` without --yunet, the file of its net (`spherecv models path yunet`).

Every photo is cut to the shape of, and resized to, 640x480 and 1920x1080. Without PHOTO: NASA's portrait of Eileen
Collins out of scikit-image's wheel, one face. --mosaic makes a group of the photos, as many as fit at their own size.

--beside times the default detector alone, at 640x480, in turn with that of another build, whose packages `spherecv` and
`spherecv/models` lie in FOLDER (git archive), and with YuNet: each in a process of its own, in blocks of 40 calls.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from measure import interleave, machine_line

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "detect"))

SIZES = ((640, 480), (1920, 1080))

PEER = """
import pickle, sys
import tensorflow as tf
threads = int(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
from mtcnn import MTCNN
settings, photos = pickle.load(sys.stdin.buffer)
detector = MTCNN()
print("ready", flush=True)
while index := sys.stdin.buffer.readline():
    print(len(detector.detect_faces(photos[int(index)], **settings)), flush=True)
"""

BUILD = """
import pickle, sys, time
import cv2
threads, photo, net = pickle.load(sys.stdin.buffer)
if net:
    cv2.setNumThreads(threads)
    detector = cv2.FaceDetectorYN.create(net, "", photo.shape[1::-1], 0.7)
else:
    from spherecv import FaceDetector
    detector = FaceDetector(threads=threads)
print("ready", flush=True)
while calls := sys.stdin.buffer.readline():
    start = time.perf_counter(), time.process_time()
    for _ in range(int(calls)):
        detector.detect(photo)
    print(time.perf_counter() - start[0], time.process_time() - start[1], flush=True)
"""
WARM_UP, BLOCK = 8, 40


class Asked:
    """A process that is told what to work on once, and then answers numbers with numbers."""

    def __init__(self, command: list[str], told: object, failure: str, **options: object) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, **pipes, **options)
        with suppress(BrokenPipeError):  # it has ended
            pickle.dump(told, self._process.stdin)
            self._process.stdin.flush()
        if self._process.stdout.readline().strip() != b"ready":
            raise SystemExit(failure)

    def answer(self, number: int) -> list[bytes]:
        self._process.stdin.write(b"%d\n" % number)
        self._process.stdin.flush()
        return self._process.stdout.readline().split()


class Build(Asked):
    """The default detector of a build, or YuNet, in a process of its own."""

    def __init__(self, build: Path, photo: np.ndarray, arguments: argparse.Namespace, net: str = "") -> None:
        command = [sys.executable, "-c", BUILD]
        environment = {**os.environ, "PYTHONPATH": str(build)}
        told = (arguments.threads, photo, net)
        super().__init__(command, told, f"the build in {build} failed", env=environment, cwd=build)

    def milliseconds(self, calls: int) -> tuple[float, float]:
        """Wall and processor time of one call, the mean of so many."""
        wall, used = self.answer(calls)
        return float(wall) / calls * 1e3, float(used) / calls * 1e3


def compare(arguments: argparse.Namespace) -> None:
    """Print a portrait's time by this build, by another and by YuNet, in turn."""
    here = Path(__file__).resolve().parent.parent
    for photo in load_photos(arguments, *SIZES[0]):
        builds = {
            "the other build": Build(arguments.beside.resolve(), photo, arguments),
            "this build": Build(here, photo, arguments),
        }
        if arguments.yunet:
            builds["YuNet"] = Build(here, photo, arguments, str(arguments.yunet.resolve()))
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in builds}
        order = list(builds)
        for _ in range(arguments.repeats):
            random.shuffle(order)
            for name in order:
                builds[name].milliseconds(WARM_UP)
                taken[name].append(builds[name].milliseconds(BLOCK))
        print(f"\n| {photo.shape[1]}x{photo.shape[0]}, one call | wall ms, median / least | processor ms |")
        print("| --- | ---: | ---: |")
        for name, times in taken.items():
            wall, used = zip(*times, strict=True)
            print(f"| {name} | {statistics.median(wall):.1f} / {min(wall):.1f} | {statistics.median(used):.1f} |")


class Peer(Asked):
    """The `mtcnn` package in an interpreter that has TensorFlow; the photos are sent to it once."""

    def __init__(self, python: str, photos: list[np.ndarray], arguments: argparse.Namespace) -> None:
        first, second, third = arguments.thresholds
        settings = {"min_face_size": arguments.min_size, "scale_factor": arguments.factor}
        settings |= {"threshold_pnet": first, "threshold_rnet": second, "threshold_onet": third}
        command = [python, "-c", PEER, str(arguments.threads)]
        told = (settings, [np.ascontiguousarray(photo[:, :, ::-1]) for photo in photos])
        super().__init__(command, told, f"{python} cannot run the mtcnn package: pip install mtcnn tensorflow-cpu")

    def detect(self, index: int) -> int:
        return int(self.answer(index)[0])


def main() -> None:
    arguments = parse_arguments()
    if arguments.beside:
        print(machine_line())
        compare(arguments)
        return
    import plain_mtcnn

    from spherecv import FaceDetector
    from spherecv.zoo import mtcnn_sessions

    cv2.setNumThreads(arguments.threads)
    photos = [photo for size in SIZES for photo in load_photos(arguments, *size)]
    options = {"backend": arguments.backend, "threads": arguments.threads}
    settings = {"min_size": arguments.min_size, "factor": arguments.factor, "thresholds": arguments.thresholds}
    detector = FaceDetector(preset="sphereface", **settings, **options)
    nets = [session.run for session in mtcnn_sessions(**options)]
    plain = partial(plain_mtcnn.detect_face, fastresize=False, factor=arguments.factor)
    peer = Peer(arguments.peer_python, photos, arguments) if arguments.peer_python else None
    default = FaceDetector(**options)

    print(machine_line("tensorflow-cpu"))
    print(f"backend {arguments.backend}, {arguments.threads} threads, smallest face {arguments.min_size:g}, "
          f"factor {arguments.factor:g}, thresholds {arguments.thresholds}")
    if peer is None:
        print("the mtcnn package is left out: give --peer-python an interpreter that has mtcnn and tensorflow-cpu")
    for index, photo in enumerate(photos):
        contenders = {
            "SphereCV": partial(detector.detect, photo),
            "plain reading": partial(plain, photo, arguments.min_size, *nets, arguments.thresholds),
            "SphereCV, default preset": partial(default.detect, photo),
        }
        found = {"SphereCV": len(contenders["SphereCV"]()), "plain reading": len(contenders["plain reading"]()[0])}
        found["SphereCV, default preset"] = len(contenders["SphereCV, default preset"]())
        if peer:
            contenders["mtcnn package"] = partial(peer.detect, index)
            found["mtcnn package"] = peer.detect(index)
        if arguments.yunet:
            net = cv2.FaceDetectorYN.create(str(arguments.yunet), "", photo.shape[1::-1], 0.7)
            contenders["YuNet"] = partial(net.detect, photo)
            faces = net.detect(photo)[1]
            found["YuNet"] = 0 if faces is None else len(faces)
        results = interleave(contenders, repeats=arguments.repeats, warmup=2, shortest=0.1, pause=0.05)
        print(f"\n{photo.shape[1]}x{photo.shape[0]}, faces found: {found}\n")
        print(results.table(base="SphereCV"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--mosaic", action="store_true")
    parser.add_argument("--peer-python", help="an interpreter with mtcnn and TensorFlow")
    parser.add_argument("--yunet", type=Path, help="the file of YuNet's net")
    parser.add_argument("--beside", type=Path, help="a folder with another build")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--min-size", type=float, default=20)
    parser.add_argument("--factor", type=float, default=0.709)
    parser.add_argument("--thresholds", type=float, nargs=3, default=[0.6, 0.7, 0.7])
    parser.add_argument("--repeats", type=int, default=15)
    return parser.parse_args()


def load_photos(arguments: argparse.Namespace, width: int, height: int) -> list[np.ndarray]:
    if arguments.photos:
        images = [cv2.imread(str(path)) for path in arguments.photos]
    else:
        from skimage.data import astronaut

        images = [np.ascontiguousarray(astronaut()[:, :, ::-1])]
    return [mosaic(images, width, height)] if arguments.mosaic else [fitted(image, width, height) for image in images]


def fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut to the shape wanted, from the middle at the top, where portraits have their faces; then resize."""
    scale = max(width / image.shape[1], height / image.shape[0])
    columns, rows = min(round(width / scale), image.shape[1]), min(round(height / scale), image.shape[0])
    left = (image.shape[1] - columns) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image[:rows, left : left + columns], (width, height), interpolation=method)


def mosaic(images: list[np.ndarray], width: int, height: int) -> np.ndarray:
    """Photos of one size side by side, over and over, until the picture is full."""
    rows, columns = images[0].shape[:2]
    across, down = -(-width // columns), -(-height // rows)
    tiles = [images[i % len(images)][:rows, :columns] for i in range(across * down)]
    lines = [np.hstack(tiles[i * across : (i + 1) * across]) for i in range(down)]
    return np.ascontiguousarray(np.vstack(lines)[:height, :width])


if __name__ == "__main__":
    main()
