"""Kinds of files that the package replaces as a whole: how a version is written, and which one lies there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def _bytes(path: Path, version: int) -> None:
    from spherecv.files import write_bytes

    write_bytes(path, json.dumps({"version": version, "more": "x" * 100_000}).encode())


def _json_version(path: Path) -> int:
    return int(json.loads(path.read_bytes())["version"])


def _toml(path: Path, version: int) -> None:
    from spherecv.files import write_toml

    write_toml(path, {"version": version, "more": ["x" * 1000] * 50})


def _toml_version(path: Path) -> int:
    from spherecv.errors import StorageError
    from spherecv.files import read_toml

    return int(read_toml(path, StorageError)["version"])


def _embeddings(path: Path, version: int) -> None:
    from spherecv.facetable import write_embeddings
    from spherecv.records import Fingerprint

    with write_embeddings(path, Fingerprint("m", "k-r", "d")) as writer:
        for number in range(50):
            writer.add(f"{number}.jpg", np.full(128, version, np.float32), None)


def _embeddings_version(path: Path) -> int:
    from spherecv.facetable import read_embeddings

    (value,) = np.unique(read_embeddings(path)[0].embeddings)
    return int(value)


def _table(path: Path, version: int) -> None:
    from spherecv.dataset.table import TableRow, write_table

    write_table(path, [TableRow(f"{number}.jpg", None, "no face", faces=version) for number in range(500)])


def _table_version(path: Path) -> int:
    lines = path.read_text().splitlines()[1:]
    (value,) = {line.split(",")[4] for line in lines}
    assert len(lines) == 500
    return int(value)


def _features(path: Path, version: int) -> None:
    from spherecv.evaluate.featurefiles import write_features

    write_features(path, np.full((300, 64), version, np.float32))


def _features_version(path: Path) -> int:
    from spherecv.evaluate.featurefiles import read_features

    (value,) = np.unique(read_features(path))
    return int(value)


def _picture(path: Path, version: int) -> None:
    from PIL import Image

    from spherecv.drawing import save_picture

    save_picture(Image.new("L", (300, 300), version % 256), path)


def _picture_version(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        (found,) = image.getcolors()
    return int(found[1])


def _video(path: Path, version: int) -> None:
    from spherecv.watch.recording import VideoFile

    with VideoFile(path, rate=10) as video:
        for _ in range(version % 50 + 1):
            video.write(np.full((48, 64, 3), 99, np.uint8))


def _video_version(path: Path) -> int:
    from spherecv.video import open_frames

    return len(list(open_frames(path))) - 1


def _snapshot(path: Path, version: int) -> None:
    from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
    from spherecv.train.snapshot import write_snapshot
    from spherecv.train.state import Rest, TrainingState

    rest = Rest(
        next_batch=version, lanes=1, ranks=1, layers={}, loss={}, rng={}, recent=[], exact={"a": np.full(5000, version)}
    )
    model = NetParameter(name=f"net {version}")
    model.layer.add(name="fc", type="InnerProduct").blobs.add(data=[float(version)] * 20_000).shape.dim.extend([20_000])
    state = TrainingState(model, [], 1, 0, rest, str(path))
    write_snapshot(state, path.with_name("net"))


def _snapshot_version(path: Path) -> int:
    from spherecv.train.snapshot import read_snapshot

    state = read_snapshot(path)
    assert state.rest is not None
    assert state.model.name == f"net {state.rest.next_batch}"
    return int(state.rest.next_batch)


_Kind = tuple[str, Any, Any]
WRITERS: dict[str, _Kind] = {
    "report": ("report.json", _bytes, _json_version),
    "calibration": ("calibration.toml", _toml, _toml_version),
    "embeddings": ("faces.npz", _embeddings, _embeddings_version),
    "table": ("faces.csv", _table, _table_version),
    "features": ("features.bin", _features, _features_version),
    "picture": ("plot.png", _picture, _picture_version),
    "video": ("film.avi", _video, _video_version),
    "snapshot": ("net_iter_1.solverstate", _snapshot, _snapshot_version),
}


def write(folder: Path, name: str, version: int) -> None:
    """Write a version of a file."""
    file, writer, _ = WRITERS[name]
    writer(folder / file, version)


def version_of(folder: Path, name: str) -> int:
    """The version that lies there, all of it looked at; 0 where there is none."""
    file, _, reader = WRITERS[name]
    path = folder / file
    if not path.exists():  # of a snapshot that was being replaced, the older one can be resumed from
        path = path.with_suffix(f".old{path.suffix}")
    return int(reader(path)) if path.exists() else 0
