"""Does memory grow with the number of images? Peak resident memory of embedding N photos, for several N.

    python benchmarks/memory.py PHOTOS --prototxt NET.prototxt --caffemodel NET.caffemodel --recipe NAME

PHOTOS is an image, a folder or a list; it is gone through again and again until N photos are embedded. Each N runs in
a process of its own, detection and alignment included.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--prototxt", required=True)
    parser.add_argument("--caffemodel", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        embed(arguments)
        return
    print(machine_line())
    print("\n| photos | with a face | peak resident MB | photos/s |\n| ---: | ---: | ---: | ---: |", flush=True)
    for count in arguments.counts:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", str(count)], check=True)


if __name__ == "__main__":
    main()
