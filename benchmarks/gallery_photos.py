"""What a user waits for: `find` from a fresh process, and `identify` in a gallery of 100,000 faces.

    python benchmarks/gallery_photos.py PHOTO FOLDER [--model NAME | --prototxt NET --caffemodel NET --recipe NAME]

The first `spherecv find PHOTO FOLDER` indexes the folder, which takes as long as embedding its photos, and is not
counted; the next ones are. The gallery is filled with random directions as wide as the model's embeddings: a search
takes as long whatever they are.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import machine_line

from spherecv.gallery import FaceGallery
from spherecv.images import load_image
from spherecv.zoo import DEFAULT_MODEL, ModelSource, open_model

FACES = 100_000


def find(given: argparse.Namespace, folder: Path) -> None:
    model = ["--model", given.model]
    if given.prototxt:
        model = ["--prototxt", given.prototxt, "--caffemodel", given.caffemodel, "--recipe", given.recipe]
    command = [sys.executable, "-m", "spherecv", "find", given.photo, given.folder, *model]
    command += ["--threshold", "0.5", "--index", given.index or folder / "find.db"]
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    later = seconds[1:]
    print(
        f"find: first call {seconds[0]:.1f} s, later ones {statistics.median(later):.2f} s "
        f"({min(later):.2f} to {max(later):.2f}), each a fresh process"
    )


def identify(given: argparse.Namespace, folder: Path) -> None:
    if given.prototxt:
        model = ModelSource.from_caffe(given.prototxt, given.caffemodel, recipe=given.recipe)
    else:
        model = open_model(given.model, recipe=given.recipe)
    image = load_image(given.photo)
    with FaceGallery.open(folder / "g.db", model=model) as gallery:
        pipeline = gallery.pipeline
        width = len(pipeline.faces(image, face="largest")[0].embedding)
        rows = np.random.default_rng(0).standard_normal((FACES, width), dtype=np.float32)
        gallery.enrol_embeddings([f"p{number // 5}" for number in range(FACES)], rows)
        probe = pipeline.faces(image, face="largest")[0].embedding
        gallery.identify_embeddings(probe, threshold=0.5)
        looking, searching = [], []
        for _ in range(15):
            started = time.perf_counter()
            pipeline.faces(image, face="largest")
            looking.append(time.perf_counter() - started)
            started = time.perf_counter()
            gallery.identify_embeddings(probe, threshold=0.5)
            searching.append(time.perf_counter() - started)
    looked, searched = (1e3 * statistics.median(values) for values in (looking, searching))
    print(
        f"identify among {FACES:,} faces of {width} numbers, photo of {image.shape[1]} x {image.shape[0]}: "
        f"detect and embed {looked:.1f} ms, search {searched:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--prototxt", type=Path)
    parser.add_argument("--caffemodel", type=Path)
    parser.add_argument("--recipe")
    parser.add_argument("--index", type=Path, help="an index that an earlier run made")
    given = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as folder:
        find(given, Path(folder))
        identify(given, Path(folder))


if __name__ == "__main__":
    main()
