"""Take a third of real Caffe's answers into this folder: ``python tests/train/golden/collect.py FOLDER``.

FOLDER is the whole set, ``caffe-golden`` of the test data; its README says how it was made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NOT_TRAINED = ("BilinearInterpolate", "DetectionOutput", "HardSigmoid", "HardSwish", "MaxUnPool", "Pad", "PixelShuffle")
NOT_TRAINED += ("PriorBox", "Proposal", "Resize", "Unsqueeze", "Upsample")  # the fork's, which have no gradients there


def collect(folder: Path) -> None:
    """Write ``index.json`` and a ``.npz`` for each group."""
    entries = json.loads((folder / "index.json").read_text(encoding="utf8"))
    taken = []
    for group in ("layers", "losses", "solvers"):
        kinds: dict[str, list[dict]] = {}
        for entry in entries:
            if entry["group"] == group and entry["type"] not in NOT_TRAINED:
                kinds.setdefault(entry["type"], []).append(entry)
        chosen = [entry for kind in kinds.values() for entry in kind[::3]]
        arrays = {}
        for entry in chosen:
            with np.load(folder / entry["file"]) as stored:
                prefix = f"{entry['name']}|"
                arrays |= {key: stored[key] for key in stored.files if key.startswith(prefix)}
        np.savez_compressed(HERE / f"{group}.npz", **arrays)
        taken += [{**entry, "file": f"{group}.npz"} for entry in chosen]
    lines = ",\n".join(json.dumps(entry) for entry in taken)
    (HERE / "index.json").write_text(f"[\n{lines}\n]\n", encoding="utf8")


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
