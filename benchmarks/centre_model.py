"""Take what all faces share out of the last layer of a net: the features' mean, and the directions between groups.

    python benchmarks/centre_model.py NET.prototxt NET.caffemodel CROPS.tar [CROPS.tar ...] -o CENTRED.caffemodel
        [--table FACES.csv --column age --width 10 --most 7 --directions 1] [--compare OTHER.caffemodel]

The archives hold aligned images, which are fed as SphereFace's are, with their mirror images. FACES.csv has a row for
each image, found by `file`; its group is the column's number divided by --width and at most --most, and an image whose
number is missing or negative is in none. This made the second edition of sphereface-mini of the first; --compare says
how far the result is from weights that are there.
"""

from __future__ import annotations

import argparse
import csv
import tarfile
from pathlib import Path

import numpy as np

from spherecv.caffe import load, write_caffemodel
from spherecv.embed import blob_of
from spherecv.runtime import Session
from spherecv.train.backend import open_backend
from spherecv.train.centring import centre
from spherecv.train.data import View, open_dataset
from spherecv.train.data.loader import read_batch
from spherecv.train.net import Net
from spherecv.train.recipes import deployed
from spherecv.train.weights import load_weights, to_caffemodel
from spherecv.zoo import get_recipe

_BATCH = 64


def features_of(given: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """What the net gives for the images, then for their mirror images; and the names of their files."""
    recipe = get_recipe("sphereface")
    session = Session(load(given.prototxt, given.caffemodel).to_onnx(), backend=given.backend, threads=given.threads)
    plain, mirrored, names = [], [], []
    for path in given.crops:
        data = open_dataset(path)
        for start in range(0, len(data.items), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(data.items)))
            images, failures = read_batch(data, View(*recipe.size), rows, (0, 0))
            if failures:
                raise SystemExit(f"{path}: {failures[0]}")
            blob = blob_of(images, recipe)
            for kept, batch in ((plain, blob), (mirrored, np.ascontiguousarray(blob[..., ::-1]))):
                kept.append(next(iter(session.run(batch).values())).copy())
        with tarfile.open(path) as archive:
            at = {member.offset_data: Path(member.name).name for member in archive}
        names += [at[item.offset] for item in data.items]
    return np.concatenate(plain + mirrored), names


def groups_of(given: argparse.Namespace, names: list[str]) -> np.ndarray:
    with given.table.open(encoding="utf-8", newline="") as stream:
        known = {row["file"]: row[given.column] for row in csv.DictReader(stream)}
    numbers = np.array([int(known.get(name) or -1) for name in names])
    return np.where(numbers < 0, -1, np.minimum(numbers // given.width, given.most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prototxt", type=Path)
    parser.add_argument("caffemodel", type=Path)
    parser.add_argument("crops", type=Path, nargs="+")
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--column", default="age")
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--most", type=int, default=7)
    parser.add_argument("--directions", type=int, default=1)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    features, names = features_of(given)
    groups = np.tile(groups_of(given, names), 2) if given.table else None
    definition, shape, _ = deployed(given.prototxt)
    net = Net(definition, {"data": (1, *shape[1:])}, open_backend("cpu", threads=given.threads))
    load_weights(net, given.caffemodel)
    centre(net, features, groups, directions=given.directions)
    write_caffemodel(to_caffemodel(net), given.out)
    print(f"{len(names)} images and their mirror images, {0 if groups is None else given.directions} directions")
    if given.compare:
        other = Net(definition, {"data": (1, *shape[1:])}, open_backend("cpu", threads=given.threads))
        load_weights(other, given.compare)
        pairs = zip(net.params, other.params, strict=True)
        worst = max(float(np.abs(one.data - two.data).max()) for one, two in pairs)
        print(f"largest difference from {given.compare.name}: {worst:.3g}")


if __name__ == "__main__":
    main()
