"""A gallery on real photographs: closed-set rank-1, open-set TPIR at FPIR, and clustering.

    python benchmarks/gallery_faces.py PHOTOS [--model NAME | --prototxt NET --caffemodel NET --recipe NAME]

PHOTOS is a PERSON/IMAGE tree, or the folder of shards or `.npz` that `spherecv embed` made of one. Half of the people
with two photos or more are enrolled by all of their photos but one, which is the probe; everybody else is a stranger,
whose first photo is a probe too. Thresholds are those at which a share FPIR of the strangers' probes is given a name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from spherecv.gallery import FaceGallery, Origin
from spherecv.gallery.bulk import embed_images, read_shards
from spherecv.gallery.clustering import cluster_rows, pair_scores
from spherecv.zoo import DEFAULT_MODEL, ModelSource, open_model


def embedded(given: argparse.Namespace, folder: Path) -> Path:
    """Shards of the photos, made where they are not there yet."""
    if given.photos.suffix == ".npz" or (given.photos / "manifest.json").is_file():
        return given.photos
    if given.prototxt:
        model = ModelSource.from_caffe(given.prototxt, given.caffemodel, recipe=given.recipe)
    else:
        model = open_model(given.model, recipe=given.recipe)
    print(f"model {model.name}, detector {given.detector}, default preset")
    settings = {"detector": given.detector, "face": given.face, "shard_images": 250}
    done = embed_images(given.photos, folder, model=model, **settings)
    print(f"{done.faces} faces in {done.images} photos, {done.failures} failed")
    return folder


def loaded(source: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if source.is_dir():
        shards = list(read_shards(source))
        paths = [path for shard in shards for path in shard.paths]
        rows = np.concatenate([shard.embeddings for shard in shards])
        qualities = np.concatenate([shard.qualities for shard in shards])
    else:
        with np.load(source) as held:
            paths, rows, qualities = held["paths"].tolist(), held["embeddings"], held["qualities"]
    return rows, np.array([Path(path).parent.name for path in paths]), qualities


def identification(
    rows: np.ndarray, people: np.ndarray, qualities: np.ndarray, template: str, seed: int
) -> tuple[float, ...]:
    generator = np.random.default_rng(seed)
    names, counts = np.unique(people, return_counts=True)
    several = names[counts > 1]
    known = set(generator.choice(several, len(several) // 2, replace=False).tolist())
    enrolled, genuine, strangers = [], [], []
    for name in names:
        mine = generator.permutation(np.flatnonzero(people == name))
        if name in known:
            genuine.append(mine[0])
            enrolled.extend(mine[1:])
        else:
            strangers.append(mine[0])
    with (
        tempfile.TemporaryDirectory() as folder,
        FaceGallery.open(Path(folder) / "g.db", model=Origin("m", "k")) as gallery,
    ):
        gallery.enrol_embeddings(people[enrolled].tolist(), rows[enrolled], qualities=qualities[enrolled])
        asked = [
            gallery.identify_embeddings(rows[part], 1, threshold=2, template=template) for part in (genuine, strangers)
        ]
    right = np.array([match.identity == people[number] for match, number in zip(asked[0], genuine, strict=True)])
    near = np.array([match.distance for match in asked[0]])
    strange = np.sort([match.distance for match in asked[1]])
    cut = {rate: strange[int(rate * len(strange))] for rate in (1e-2, 1e-1)}
    return (
        right.mean(),
        *(float((right & (near < value)).mean()) for value in cut.values()),
        len(genuine),
        len(strangers),
        len(enrolled),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--prototxt", type=Path)
    parser.add_argument("--caffemodel", type=Path)
    parser.add_argument("--recipe")
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("--face", default="center", help="whose name a photo of several bears")
    parser.add_argument("--keep", type=Path, help="folder to keep the embeddings in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, people, qualities = loaded(embedded(given, given.keep or Path(folder)))
    print(f"{len(rows)} faces of {len(set(people))} people, {rows.shape[1]} numbers each")
    for template in ("best", "mean"):
        found = np.array([identification(rows, people, qualities, template, seed) for seed in range(5)])
        mean, spread = found.mean(axis=0), found.std(axis=0)
        print(
            f"template {template}: rank-1 {mean[0]:.4f} +- {spread[0]:.4f}; "
            f"TPIR at FPIR 0.01 {mean[1]:.4f} +- {spread[1]:.4f}, "
            f"at 0.1 {mean[2]:.4f} +- {spread[2]:.4f} ({mean[3]:.0f} genuine probes, {mean[4]:.0f} strangers, "
            f"{mean[5]:.0f} enrolled photos; 5 draws)"
        )
    best = max(
        ((limit, *pair_scores(cluster_rows(rows, limit), people)) for limit in np.arange(0.3, 0.66, 0.025)),
        key=lambda row: row[3],
    )
    print(f"clustering, best distance {best[0]:.3f}: precision {best[1]:.4f}, recall {best[2]:.4f}, F1 {best[3]:.4f}")
    # Chosen on one half of the people, measured on the other.
    half = np.isin(people, np.random.default_rng(0).permutation(np.unique(people))[::2])
    limit = max(
        np.arange(0.3, 0.66, 0.025), key=lambda value: pair_scores(cluster_rows(rows[half], value), people[half])[2]
    )
    precision, recall, f1 = pair_scores(cluster_rows(rows[~half], limit), people[~half])
    print(
        f"clustering, distance {limit:.3f} chosen on the other half: "
        f"precision {precision:.4f}, recall {recall:.4f}, F1 {f1:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
