"""Does memory grow with the number of images? Peak resident memory of embedding N photos, for several N.

    python benchmarks/memory.py PHOTOS --prototxt NET.prototxt --caffemodel NET.caffemodel --recipe NAME

PHOTOS is an image, a folder or a list; it is gone through again and again until N photos are embedded. Each N runs in
a process of its own, detection and alignment included.

    python benchmarks/memory.py PHOTO --sizes 500

Does memory grow with the number of image sizes? Each backend, in a process of its own, finds and embeds with the
default model the faces of one photo at so many sizes, no two alike; and then again at the last ones, for the time that
a repeated size takes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from itertools import cycle, islice

from measure import machine_line


def embed(arguments: argparse.Namespace) -> None:
    from spherecv.embed import FaceEmbedder
    from spherecv.images import find_images
    from spherecv.pipeline import FacePipeline
    from spherecv.zoo import ModelSource

    source = ModelSource.from_caffe(arguments.prototxt, arguments.caffemodel, recipe=arguments.recipe)
    pipeline = FacePipeline(FaceEmbedder(source))
    photos = islice(cycle(find_images(arguments.photos)), arguments.one)
    start = time.perf_counter()
    found = sum(isinstance(answer, list) for answer in pipeline.run(photos, errors="return"))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {arguments.one:,} | {found:,} | {peak:.0f} | {arguments.one / seconds:.1f} |")


def sizes(arguments: argparse.Namespace) -> None:
    import cv2
    import numpy as np

    from spherecv import PipelineConfig
    from spherecv.images import load_image

    pipeline = PipelineConfig(backend=arguments.backend).open()
    photo = load_image(arguments.photos)
    drawn = np.random.default_rng(0).choice(500 * 500, arguments.sizes, replace=False)
    shapes = [(200 + int(place) // 500, 200 + int(place) % 500) for place in drawn]
    seconds = []
    for shape in shapes + shapes[-8:] * 6:
        image = cv2.resize(photo, shape)
        start = time.perf_counter()
        next(pipeline.run([image], errors="return"))
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    new, again = np.median(seconds[: len(shapes)]), np.median(seconds[len(shapes) + 8 :])
    print(f"| {arguments.backend} | {peak:.0f} | {new * 1e3:.1f} | {again * 1e3:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--prototxt")
    parser.add_argument("--caffemodel")
    parser.add_argument("--recipe")
    parser.add_argument("--sizes", type=int, help="so many image sizes on each backend")
    parser.add_argument("--backend", help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        embed(arguments)
        return
    if arguments.backend:
        sizes(arguments)
        return
    print(machine_line())
    if arguments.sizes:
        print(f"\n{arguments.sizes} sizes\n")
        heads = ("backend", "peak resident MB", "ms, new size", "ms, repeated size")
        print(f"| {' | '.join(heads)} |\n| --- | ---: | ---: | ---: |", flush=True)
        for backend in ("opencv", "onnxruntime", "openvino"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--backend", backend], check=True)
        return
    if None in (arguments.prototxt, arguments.caffemodel, arguments.recipe):
        parser.error("--prototxt, --caffemodel and --recipe go with --counts")
    print("\n| photos | with a face | peak resident MB | photos/s |\n| ---: | ---: | ---: | ---: |", flush=True)
    for count in arguments.counts:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", str(count)], check=True)


if __name__ == "__main__":
    main()
