"""In how many images of a data set is a face found, by each preset or kind, and how fast?

    python benchmarks/detection_rate.py IMAGES [--detector mtcnn:fast] [--detector mtcnn:sphereface] ...

IMAGES is a folder or a list of images that all show a face, such as LFW's. Prints the images without one, and how far
the landmarks of the face nearest the middle lie from those of the first detector named, in pixels and in percent of the
distance between its eyes. Where they lie further off than that distance, another face was taken: it is counted apart.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

import numpy as np
from measure import machine_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--detector", action="append", help="KIND or mtcnn:PRESET, again for each")
    parser.add_argument("--model", help="file for a kind that would download one")
    parser.add_argument("--backend", help="of mtcnn")
    parser.add_argument("--first", type=int, help="only so many images")
    arguments = parser.parse_args()

    from spherecv.images import find_images

    paths = list(islice(find_images(arguments.images), arguments.first))
    print(machine_line())
    print(f"\n{len(paths):,} images of {arguments.images.name}\n")
    columns = ["with a face", "%", "faces", "images/s", "other face"]
    columns += ["landmarks off, mean px", "median", "99th percentile", "mean %"]
    print(f"| detector | {' | '.join(columns)} |")
    print("| --- |" + " ---: |" * len(columns), flush=True)
    reference = None
    misses = []
    for name in arguments.detector or ["mtcnn:sphereface", "mtcnn:fast"]:
        found, points, seconds = measure(name, paths, arguments)
        reference = points if reference is None else reference
        off = np.linalg.norm(points - reference, axis=2).mean(axis=1)
        eyes = np.linalg.norm(reference[:, 0] - reference[:, 1], axis=1)
        same = off <= eyes
        others = np.count_nonzero(off > eyes)
        share = 100 * np.mean(off[same] / eyes[same])
        off = off[same]
        print(
            f"| {name} | {np.count_nonzero(found):,} | {100 * np.mean(found > 0):.2f} | {found.sum():,} | "
            f"{len(paths) / seconds:.0f} | {others} | {np.mean(off):.2f} | {np.median(off):.2f} | "
            f"{np.percentile(off, 99):.2f} | {share:.2f} |",
            flush=True,
        )
        misses += [f"{name}: no face in {path.name}" for path, count in zip(paths, found, strict=True) if not count]
    print("\n" + "\n".join(misses[:40]))


def measure(name: str, paths: list[Path], arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, float]:
    """Faces found in each image, the landmarks nearest its middle, and the seconds that finding them took."""
    from spherecv import FaceDetector, load_image
    from spherecv.pipeline import choose_faces

    kind, _, preset = name.partition(":")
    options = {"preset": preset} if preset else {}
    if kind == "mtcnn":
        options["backend"] = arguments.backend
    else:
        options["model"] = arguments.model
    detector = FaceDetector(kind, **options)
    found, points, seconds = [], [], 0.0
    for first in range(0, len(paths), 16):
        images = [load_image(path) for path in paths[first : first + 16]]
        start = time.perf_counter()
        answers = detector.detect_batch(images)
        seconds += time.perf_counter() - start
        for image, faces in zip(images, answers, strict=True):
            found.append(len(faces))
            best = choose_faces(faces, image.shape, "center")[0].landmarks if faces else np.full((5, 2), np.nan)
            points.append(best)
    return np.array(found), np.array(points), seconds


if __name__ == "__main__":
    main()
