"""Makes files.npz: what real Caffe (BVLC 9b891540) makes of odd files, out of the group `files` of the golden set.

    SPHERECV_TEST_DATA=... python tests/caffe/references/make_files.py

The golden set was made by Caffe itself; this only packs one group of it, 87 small nets, into one file. Keys are
`CASE|PART`, with the parts `net`, `caffemodel`, `in:BLOB`, `out:BLOB` and `refused`, Caffe's message where it takes no
such net.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


def main() -> None:
    """Write the file beside this script."""
    folder = Path(os.environ.get("SPHERECV_TEST_DATA", "../shared/data")) / "caffe-golden"
    packed = {}
    for entry in json.loads((folder / "index.json").read_text(encoding="utf8")):
        if entry["group"] != "files":
            continue
        case = entry["name"].removeprefix("files/")
        with np.load(folder / entry["file"]) as stored:
            for key in stored.files:
                name, _, part = key.partition("|")
                if name == entry["name"]:
                    packed[f"{case}|{part}"] = stored[key]
        if "refused" in entry:
            packed[f"{case}|refused"] = np.array(entry["refused"])
    np.savez_compressed(Path(__file__).with_name("files.npz"), **packed)


if __name__ == "__main__":
    main()
