"""How are images answered that lie on their side, without a word about it in the file?

    python benchmarks/turned_images.py IMAGES [--detector mtcnn] [--number 150] [--seed 0] [--upright]

IMAGES is a folder or a list of images that all show a face, such as LFW's. Of a draw of them each is turned by
90, 180 and 270 degrees and compared with its upright self: the same person, no face, or another person. With
`--upright`, faces are found in every upright image as they are and with one look only, interleaved: in how many the
answers differ, and how much longer all looks take.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from measure import machine_line

if TYPE_CHECKING:
    from spherecv import Face, FaceDetector, FaceVerifier

SAME = 0.5
"""Pixels up to which a box is the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="sphereface-mini")
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("--preset", help="of the detector")
    parser.add_argument("--number", type=int, default=150, help="images that are turned")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--upright", action="store_true", help="look at all upright images too")
    arguments = parser.parse_args()

    from spherecv import FaceVerifier
    from spherecv.images import find_images

    settings = {"preset": arguments.preset} if arguments.preset else {}
    verifier = FaceVerifier(arguments.model, detector=arguments.detector, **settings)
    paths = list(find_images(arguments.images))
    print(machine_line())
    chosen = np.random.default_rng(arguments.seed).permutation(len(paths))[: arguments.number]
    turned(verifier, [paths[row] for row in sorted(chosen)])
    if arguments.upright:
        upright(verifier.pipeline.detector, paths)


def turned(verifier: FaceVerifier, paths: list[Path]) -> None:
    """Count how the turned images are judged against their upright selves, and name those judged different."""
    from spherecv import load_image
    from spherecv.errors import NoFaceError

    counts = {"the same": 0, "no face": 0, "different": 0}
    for path in paths:
        image = load_image(path)
        for quarter in (1, 2, 3):
            try:
                result = verifier.verify(image, np.ascontiguousarray(np.rot90(image, quarter)))
            except NoFaceError:
                counts["no face"] += 1
                continue
            counts["the same" if result.verified else "different"] += 1
            if not result.verified:
                print(f"different: {path.name} by {90 * quarter} degrees, distance {result.distance:.3f}")
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{sum(counts.values())} turned images: {told}", flush=True)


def upright(detector: FaceDetector, paths: list[Path]) -> None:
    """Count the images that the looks at other turns change, and what those cost."""
    from spherecv import load_image
    from spherecv.detect import mtcnn, ssd, yunet

    def one_look(rule: object, look: object, images: object, answers: object, *search: object) -> object:  # noqa: ARG001
        return answers

    other, seconds = 0, [0.0, 0.0]
    for number, path in enumerate(paths):
        image = load_image(path)
        found: list[list[Face]] = [[], []]
        for way in (0, 1) if number % 2 else (1, 0):
            with ExitStack() as stack:
                for kind in (mtcnn, ssd, yunet) if way else ():
                    stack.enter_context(mock.patch.object(kind, "with_turns", one_look))
                started = time.perf_counter()
                found[way] = detector.detect(image)
                seconds[way] += time.perf_counter() - started
        boxes = [np.array([face.box for face in faces]).reshape(-1, 4) for faces in found]
        other += boxes[0].shape != boxes[1].shape or not np.allclose(*boxes, atol=SAME)
    print(f"{len(paths):,} upright images: {other} answered otherwise, {seconds[0] / seconds[1]:.3f} x the time")


if __name__ == "__main__":
    main()
