"""Makes files.npz and facts.npz: what real Caffe (BVLC 9b891540, or an SSD build) answers, out of the golden set.

    SPHERECV_TEST_DATA=... python tests/caffe/references/make_golden.py

The golden set was made by Caffe itself; this only packs what tests need without it: the group `files`, 87 small nets in
odd files, and the cases of layers that docs/caffe.md names. Keys are `CASE|PART`, with the parts `net`, `caffemodel`,
`in:BLOB`, `out:BLOB` and `refused`, Caffe's message where it does not take the net.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PARTS = re.compile(r"net|caffemodel|in:.*|out:.*")


def pack(folder: Path, entries: Collection[dict[str, Any]], goal: Path) -> None:
    """Write some cases into one file."""
    packed = {}
    for entry in entries:
        with np.load(folder / entry["file"]) as stored:
            for key in stored.files:
                name, _, part = key.partition("|")
                if name == entry["name"] and PARTS.fullmatch(part):
                    packed[f"{name.removeprefix('files/')}|{part}"] = stored[key]
        if "refused" in entry:
            packed[f"{entry['name'].removeprefix('files/')}|refused"] = np.array(entry["refused"])
    np.savez_compressed(goal, **packed)


def main() -> None:
    """Write the files beside this script."""
    folder = Path(os.environ.get("SPHERECV_TEST_DATA", "../shared/data")) / "caffe-golden"
    index = json.loads((folder / "index.json").read_text(encoding="utf8"))
    page = (HERE.parents[2] / "docs" / "caffe.md").read_text(encoding="utf8")
    named = set(re.findall(r"`(\w+/\w+)`", page))
    pack(folder, [entry for entry in index if entry["group"] == "files"], HERE / "files.npz")
    facts = [entry for entry in index if entry["group"] == "layers" and entry["name"] in named]
    pack(folder, facts, HERE / "facts.npz")


if __name__ == "__main__":
    main()
