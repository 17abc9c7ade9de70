"""The process at the other end of a `Loader`: reads orders from its input, writes pictures to its output."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import numpy as np

from spherecv.train.data.dataset import Dataset, Item
from spherecv.train.data.loader import read_batch
from spherecv.train.data.reading import View


def main() -> None:
    """Answer until the input ends."""
    _one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer stops its workers itself
    source, target = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but answers may go to the output
    first = source.readline()
    if not first:
        return
    head: dict[str, Any] = json.loads(first)
    view = View.from_dict(head["view"])
    dataset = Dataset(tuple(Item(*item) for item in head["items"]), tuple(head["names"]))
    for line in source:
        order = json.loads(line)
        images, failures = read_batch(dataset, view, np.array(order["indices"], dtype=np.int64), tuple(order["seed"]))
        try:
            target.write(json.dumps({"count": len(images), "failures": failures}).encode() + b"\n")
            target.write(images.tobytes())
            target.flush()
        except BrokenPipeError:
            return


def _one_thread() -> None:
    """Leave the other cores to the trainer."""
    import cv2

    cv2.setNumThreads(1)


if __name__ == "__main__":
    main()
