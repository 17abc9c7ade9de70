"""The process at the other end of a `Loader`: reads orders from its input, writes images to its output."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from spherecv.runtime.opencv_settings import keep_opencv_threads
from spherecv.train.data.dataset import Dataset, Item
from spherecv.train.data.loader import read_batch
from spherecv.train.data.reading import View


def main() -> None:
    """Answer until the input ends."""
    keep_opencv_threads(1)  # the other cores are the trainer's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer stops its workers itself
    source = sys.stdin.buffer
    # Nothing but answers may go to the output, not even what a library in C prints.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as target:
        os.dup2(2, 1)
        _answer(source, target)


def _answer(source: BinaryIO, target: BinaryIO) -> None:
    first = source.readline()
    if not first:
        return
    head: dict[str, Any] = json.loads(first)
    view = View.from_dict(head["view"])
    dataset = Dataset(tuple(Item(*item) for item in head["items"]), tuple(head["names"]))
    for line in source:
        order = json.loads(line)
        images, failures = read_batch(dataset, view, np.array(order["indices"], dtype=np.int64), tuple(order["seed"]))
        target.write(json.dumps({"count": len(images), "failures": failures}).encode() + b"\n")
        target.write(images.tobytes())
        target.flush()


if __name__ == "__main__":
    main()
