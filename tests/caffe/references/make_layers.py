"""Makes layers.npz: what real Caffe makes of every layer of deployed nets, out of the group `layers` of the golden set.

    SPHERECV_TEST_DATA=... python tests/caffe/references/make_layers.py

The golden set was made by Caffe itself (BVLC 9b891540; the SSD layers and those of forks by an SSD build); this only
packs the cases of one group in phase TEST, some 380 small nets, into one file. Keys are `CASE|PART`, with the parts
`net`, `caffemodel`, `in:BLOB`, `out:BLOB` and `refused`, Caffe's message where it takes no such net.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

KEPT = ("net", "caffemodel", "in", "out")


def main() -> None:
    """Write the file beside this script."""
    folder = Path(os.environ.get("SPHERECV_TEST_DATA", "../shared/data")) / "caffe-golden"
    packed, opened = {}, {}
    for entry in json.loads((folder / "index.json").read_text(encoding="utf8")):
        if entry["group"] != "layers" or entry["phase"] != "TEST":
            continue
        if entry["file"] not in opened:
            with np.load(folder / entry["file"]) as stored:
                opened[entry["file"]] = {key: stored[key] for key in stored.files}
        for key, value in opened[entry["file"]].items():
            name, _, part = key.partition("|")
            if name == entry["name"] and part.split(":")[0] in KEPT:
                packed[key] = value
        if "refused" in entry:
            packed[f"{entry['name']}|refused"] = np.array(entry["refused"])
    np.savez_compressed(Path(__file__).with_name("layers.npz"), **packed)


if __name__ == "__main__":
    main()
