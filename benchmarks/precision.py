"""What precision buys and what it costs: speed side by side, and loss on LFW view 1.

    python benchmarks/precision.py speed [--nets sphereface-20 mobilefacenet sphereface-mini sface] [--batch 32]
    python benchmarks/precision.py loss MODEL --lfw LFW [--recipe RECIPE] [--rows ROWS.toml] [--int8 FILE.onnx]
    python benchmarks/precision.py ranges MODEL FACES -o NAME.int8.json [--images 64]

`speed` runs every net through a Session in every precision and backend that there is, interleaved in one process, in
batches and one face at a time. With ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI in the environment OpenVINO computes as on a
processor without AMX and BF16. SphereFace-20 has random weights, for speed does not depend on them.

`loss` aligns the images of view 1 once (LFW holds images/ and the two lists), embeds them in every precision, and gives
accuracy (threshold from DevTrain's pairs, rate on DevTest's), TAR at FAR 1e-3 on all pairs of DevTest, cosines to
float32, and the false accept rate on all pairs of DevTrain at every threshold that the manifest has: of the
precision, and of a probe in the precision against a gallery in float32. The manifest's rows go to ROWS.toml.

`ranges` measures what the int8 form of a model of the manifest is made by, on a folder of aligned 112x112 crops.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleave, machine_line
from session import mobilefacenet, sphereface_20

from spherecv import FaceEmbedder
from spherecv.embed import blob_of
from spherecv.errors import SphereCVError
from spherecv.runtime import Session
from spherecv.runtime.normalise import normalise
from spherecv.runtime.quantise import quantise, ranges_of
from spherecv.runtime.signature import read_signature
from spherecv.zoo import ModelSource, open_model

_DATA = Path(os.environ.get("SPHERECV_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
_FAR = 1e-3


def nets(names: list[str]) -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Float32 ONNX and the shape of one input, by name; what cannot be had is left out."""
    found: dict[str, tuple[bytes, tuple[int, ...]]] = {}
    if "sphereface-20" in names:
        found["sphereface-20"] = sphereface_20().to_onnx(), (3, 112, 96)
    if "mobilefacenet" in names and (net := mobilefacenet()):
        found["mobilefacenet"] = net.to_onnx(), (3, 112, 112)
    if "sphereface-mini" in names:
        found["sphereface-mini"] = open_model("sphereface-mini").onnx(), (3, 112, 96)
    sface = _DATA / "sface" / "face_recognition_sface_2021dec.onnx"
    if "sface" in names and sface.is_file():
        found["sface"] = sface.read_bytes(), (3, 112, 112)
    return found


def speed(arguments: argparse.Namespace) -> None:
    print(machine_line(), f"\n\nlimit of the instruction set: {os.environ.get('ONEDNN_MAX_CPU_ISA', 'none')}")
    for name, (onnx, shape) in nets(arguments.nets).items():
        random = np.random.default_rng(0)
        scale = 100 if name == "sface" else 0.6
        feeds = [(random.standard_normal((1, *shape)) * scale).astype(np.float32) for _ in range(4)]
        int8 = quantise(normalise(onnx, name), feeds=feeds)
        runs = {}
        for backend in ("opencv", "onnxruntime", "openvino"):
            for precision, model in (("float32", onnx), ("bfloat16", onnx), ("int8", int8)):
                try:
                    session = Session(model, backend=backend, precision=precision, threads=arguments.threads)
                except SphereCVError:
                    continue
                runs[f"{backend} {precision}"] = session
        for batch, repeats in ((arguments.batch, arguments.repeats), (1, 4 * arguments.repeats)):
            data = (random.standard_normal((batch, *shape)) * scale).astype(np.float32)
            results = interleave({key: partial(one.run, data) for key, one in runs.items()}, repeats=repeats)
            best = results.fastest([key for key in runs if key.endswith("float32")])
            print(f"\n{name}, {batch} at a time, {arguments.threads} threads\n")
            print(results.table(base=best, items=batch))


@dataclass
class View:
    """Aligned crops of view 1, and its lists."""

    names: list[str]
    crops: np.ndarray
    train: list[tuple[str, str, bool]]
    test: list[tuple[str, str, bool]]

    def listed(self, pairs: list[tuple[str, str, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = {name: number for number, name in enumerate(self.names)}
        kept = [pair for pair in pairs if pair[0] in place and pair[1] in place]
        a, b, same = zip(*kept, strict=True)
        return np.array([place[name] for name in a]), np.array([place[name] for name in b]), np.array(same)

    def every(self, pairs: list[tuple[str, str, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = {name: number for number, name in enumerate(self.names)}
        rows = np.array(sorted({place[name] for pair in pairs for name in pair[:2] if name in place}))
        people = np.array([self.names[row].split("/")[0] for row in rows])
        a, b = np.triu_indices(len(rows), 1)
        return rows[a], rows[b], people[a] == people[b]


def view_one(lfw: Path, source: ModelSource) -> View:
    from spherecv.align import FaceAligner
    from spherecv.config import PipelineConfig
    from spherecv.images import load_image
    from spherecv.pipeline import choose_faces

    lists = [_pairs(lfw / f"pairsDev{part}.txt") for part in ("Train", "Test")]
    wanted = sorted({name for pairs in lists for pair in pairs for name in pair[:2]})
    detector, recipe = PipelineConfig().open_detector(), source.recipe
    aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin)
    names, crops = [], []
    for start in range(0, len(wanted), 32):
        images = [load_image(lfw / "images" / name) for name in wanted[start : start + 32]]
        for name, image, found in zip(wanted[start:], images, detector.detect_batch(images), strict=False):
            if found:
                names.append(name)
                crops.append(aligner.align(image, choose_faces(found, image.shape, "center"))[0])
    return View(names, np.stack(crops), *lists)


def _pairs(path: Path) -> list[tuple[str, str, bool]]:
    def image(person: str, number: str) -> str:
        return f"{person}/{person}_{int(number):04d}.jpg"

    pairs = []
    for words in (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]):
        if len(words) == 3:
            pairs.append((image(words[0], words[1]), image(words[0], words[2]), True))
        elif len(words) == 4:
            pairs.append((image(words[0], words[1]), image(words[2], words[3]), False))
    return pairs


def distances(metric: str, one: np.ndarray, other: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of rows `a` of one and `b` of the other, which repeat."""
    left, first = np.unique(a, return_inverse=True)
    right, second = np.unique(b, return_inverse=True)
    products = one[left].astype(np.float64) @ other[right].astype(np.float64).T
    lengths = np.linalg.norm(one[left], axis=1)[:, None], np.linalg.norm(other[right], axis=1)[None]
    if metric == "cosine":
        whole = 1 - products / (lengths[0] * lengths[1])
    else:
        whole = np.sqrt(np.maximum(lengths[0] ** 2 + lengths[1] ** 2 - 2 * products, 0))
    return np.asarray(whole[first, second])


def figures(view: View, rows: np.ndarray) -> tuple[float, float]:
    """Accuracy on DevTest, and TAR at FAR 1e-3 on all its pairs."""
    a, b, same = view.listed(view.train)
    found = distances("cosine", rows, rows, a, b)
    steps = np.unique(found)
    threshold = steps[int(np.argmax([((found <= step) == same).mean() for step in steps]))]
    a, b, same = view.listed(view.test)
    accuracy = ((distances("cosine", rows, rows, a, b) <= threshold) == same).mean()
    a, b, same = view.every(view.test)
    found = distances("cosine", rows, rows, a, b)
    return float(accuracy), float((found[same] <= np.quantile(found[~same], _FAR)).mean())


def loss(arguments: argparse.Namespace) -> None:
    prototxt, comma, caffemodel = arguments.model.partition(",")
    files = ModelSource.from_caffe(prototxt, caffemodel, recipe=arguments.recipe) if comma else None
    source = files or open_model(arguments.model, recipe=arguments.recipe)
    view = view_one(arguments.lfw, source)
    exact = FaceEmbedder(source, backend="openvino").embed(view.crops)
    before = figures(view, exact)
    print(machine_line(), f"\n\n{source.name}: {len(view.names)} images; float32: {before[0]:.2%}, TAR {before[1]:.2%}")
    a, b, same = view.every(view.train)
    a, b = a[~same], b[~same]
    thresholds = [row for row in source.thresholds if row.fingerprint == source.recipe.fingerprint]
    known = [(row.metric, row.threshold) for row in thresholds]
    if not known:
        found = distances("cosine", exact, exact, a, b)
        known = [("cosine", float(np.quantile(found, far))) for far in (1e-2, 1e-3, 1e-4)]
    lines: list[str] = []
    for precision, backends in (("bfloat16", ["openvino"]), ("int8", ["openvino", "onnxruntime"])):
        told, rates = [], []
        for backend in backends:
            rows = _embedder(source, precision, backend, arguments.int8).embed(view.crops)
            cosine = (rows * exact).sum(1) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(exact, axis=1))
            told.append((*figures(view, rows), float(cosine.mean()), float(cosine.min())))
            rates.append(_rates(known, exact, rows, a, b))
            accuracy, tar, *near = told[-1]
            print(f"{precision}, {backend}: {accuracy:.2%}, TAR {tar:.2%}, cosine {near}", flush=True)
            for (metric, at), (far, then, mixed) in zip(known, rates[-1], strict=True):
                print(f"  FAR at {metric} {at:.6g}: {far:.3g}, {then:.3g}, mixed {mixed:.3g}", flush=True)
        worst = [min(one[kind] for one in told) for kind in range(4)]
        shifts = []
        for number, (metric, at) in enumerate(known):
            far = rates[0][number][0]
            then, mixed = (max((one[number][i] for one in rates), key=lambda rate: abs(rate - far)) for i in (1, 2))
            numbers = f"far = {far:.4g}, measured = {then:.4g}, mixed = {mixed:.4g}"
            shifts.append(f'    {{ metric = "{metric}", threshold = {at!r}, {numbers} }},')
        lines += [
            f"[[models.{source.name}.precisions]]", f'precision = "{precision}"', f'recipe = "{source.recipe.name}"',
            f'fingerprint = "{source.recipe.fingerprint}"', f"backends = {json.dumps(backends)}",
            'dataset = "LFW view 1"', 'detector = "mtcnn"',
            f"accuracy = [{before[0]:.4f}, {worst[0]:.4f}]", f"tar = [{before[1]:.4f}, {worst[1]:.4f}]",
            f"cosine = [{worst[2]:.5f}, {worst[3]:.5f}]", "shifts = [", *shifts, "]",
            'source = "python benchmarks/precision.py loss, SphereCV"', "",
        ]  # fmt: skip
    if arguments.rows:
        arguments.rows.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rates(known: list[tuple[str, float]], exact: Any, rows: Any, a: Any, b: Any) -> list[list[float]]:
    """False accept rates in float32, in the precision, and of one against the other, at each threshold."""
    found: list[list[float]] = [[] for _ in known]
    for one, other in ((exact, exact), (rows, rows), (rows, exact)):
        for metric in {metric for metric, _ in known}:
            values = distances(metric, one, other, a, b)
            for place, (of, at) in enumerate(known):
                if of == metric:
                    found[place].append(float((values <= at).mean()))
    return found


def _embedder(source: ModelSource, precision: str, backend: str, own: Path | None) -> FaceEmbedder:
    if precision == "int8" and own is not None:
        return FaceEmbedder(ModelSource.from_onnx(own, recipe=source.recipe), backend=backend)
    return FaceEmbedder(source, backend=backend, precision=precision)


def ranges(arguments: argparse.Namespace) -> None:
    source = open_model(arguments.model)
    paths = sorted(arguments.faces.rglob("*.jpg"))
    chosen = [paths[number] for number in np.linspace(0, len(paths) - 1, arguments.images).astype(int)]
    digest = hashlib.sha256()
    feeds = []
    import cv2

    for path in chosen:
        digest.update(path.read_bytes())
        crop = cv2.imread(str(path))
        spare = (crop.shape[1] - source.recipe.size[1]) // 2
        crop = crop[:, spare : spare + source.recipe.size[1]]
        blob = blob_of(crop[None], source.recipe)
        feeds += [blob, np.ascontiguousarray(blob[..., ::-1])] if source.recipe.mirror else [blob]
    onnx = source.onnx() if source.format == "caffe" else normalise(source.onnx(), source.name)
    made = quantise(onnx, feeds=feeds)
    held = ranges_of(read_signature(made, source.name))
    told = {"images": len(chosen), "of": arguments.of, "sha256": digest.hexdigest()}
    rounded = {name: [float(f"{low:.6g}"), float(f"{high:.6g}")] for name, (low, high) in held.items()}
    arguments.out.write_text(json.dumps({"calibration": told, "ranges": rounded}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("speed")
    one.add_argument("--nets", nargs="+", default=["sphereface-20", "mobilefacenet", "sphereface-mini", "sface"])
    one.add_argument("--batch", type=int, default=32)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--repeats", type=int, default=5)
    one.set_defaults(run=speed)
    two = parts.add_parser("loss")
    two.add_argument("model")
    two.add_argument("--lfw", type=Path, required=True)
    two.add_argument("--recipe")
    two.add_argument("--rows", type=Path)
    two.add_argument("--int8", type=Path, help="the model in int8, where the manifest has no ranges for it")
    two.set_defaults(run=loss)
    three = parts.add_parser("ranges")
    three.add_argument("model")
    three.add_argument("faces", type=Path)
    three.add_argument("--out", "-o", type=Path, required=True)
    three.add_argument("--images", type=int, default=64)
    three.add_argument("--of", default="UTKFace, aligned faces")
    three.set_defaults(run=ranges)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
