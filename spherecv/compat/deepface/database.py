"""`register`, `search` and `build_index`: deepface's database, as a gallery in one file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherecv.checks import shown
from spherecv.compat.deepface.errors import EmptyDatasource, UnimplementedError
from spherecv.compat.deepface.faces import Found
from spherecv.compat.deepface.folder import AREA_COLUMNS, Row
from spherecv.compat.deepface.stages import Metric, Stages, confidence, distances
from spherecv.errors import InvalidArgumentError, NotEnoughDataError

if TYPE_CHECKING:
    from spherecv.gallery import FaceGallery

PATH = "DEEPFACE_SQLITE_PATH"
"""The environment's variable of that package for the database's file."""
COLUMNS = (
    "id", "img_name", "model_name", "detector_backend", "aligned", "l2_normalized", "search_method", "target_x",
    "target_y", "target_w", "target_h", "threshold", "distance_metric", "distance", "confidence",
)  # fmt: skip
_CANDIDATES = 20
"""How many a search by index names where no number is given, as in deepface."""


def open_database(
    stages: Stages, database_type: str, connection: Any, details: Any, *, create: bool
) -> FaceGallery:
    """Open the gallery that stands for a database: one SQLite file, of SphereCV's own form.

    Raises
    ------
    UnimplementedError
        Another database, or an open connection.
    EmptyDatasource
        No such file.
    """
    from spherecv.gallery import FaceGallery

    if database_type != "sqlite" or connection is not None:
        raise UnimplementedError(
            f"database_type must be 'sqlite' and connection None, but got {shown(database_type)}: pass the path of a "
            "gallery as connection_details"
        )
    path = details.get("database") if isinstance(details, dict) else details or os.environ.get(PATH)
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgumentError(f"connection_details must be the path of a gallery, or set {PATH} to it")
    if not create and not Path(path).exists():
        raise EmptyDatasource(f"{path} does not exist: register somebody first")
    return FaceGallery.open(path, model=stages.pipeline)


def add(gallery: FaceGallery, source: Any, name: str | None, faces: list[Found]) -> int:
    """Add an image's faces to the database under a name; returns how many are new."""
    called = name or (str(source) if isinstance(source, str | os.PathLike) else str(uuid.uuid4()))
    rows = np.stack([face.embedding for face in faces])
    places = [called if len(faces) == 1 else f"{called}#{number}" for number in range(len(faces))]
    return gallery.enrol_embeddings([called] * len(faces), rows, images=places, if_exists="add").faces


def nearest(
    gallery: FaceGallery, stages: Stages, face: Found, *, metric: Metric, threshold: float, everybody: bool,
    most: int | None, method: str, align: bool, l2_normalize: bool,
) -> list[Row]:  # fmt: skip
    """The registered faces within the threshold, or all of them, the nearest first."""
    if method == "ann":
        found = gallery.store.nearest(face.embedding[None], most or _CANDIDATES, "cosine", "known")[0]
        ids = [hit.face for hit in found]
        table = gallery.store.table("known")
        at = {int(number): row for row, number in enumerate(table.ids)}
        rows = table.vectors[[at[number] for number in ids]]
    else:
        table = gallery.store.table("known")
        ids, rows = table.ids.tolist(), table.vectors
    if not len(ids):
        raise EmptyDatasource(f"{gallery.store.label} holds nobody: register somebody first")
    away = distances(rows, face.embedding, metric)
    order = [int(i) for i in np.argsort(away, kind="stable") if everybody or away[i] <= threshold][:most]
    owners = gallery.store.describe([ids[i] for i in order])
    target = {f"target_{name}": face.area[name] for name in AREA_COLUMNS}
    return [
        {
            "id": int(ids[i]), "img_name": None if owner is None else owner.identity, "model_name": stages.model,
            "detector_backend": stages.detector, "aligned": align, "l2_normalized": l2_normalize,
            "search_method": method, **target, "threshold": threshold, "distance_metric": metric,
            "distance": float(away[i]), "confidence": confidence(float(away[i]), threshold, metric),
        }
        for i, owner in zip(order, owners, strict=True)
    ]  # fmt: skip


def index(gallery: FaceGallery) -> None:
    """Build the index of a database; a thousand faces and fewer are searched exactly, which is as fast."""
    if not len(gallery.store.table("known").ids):
        raise EmptyDatasource(f"{gallery.store.label} holds nobody: register somebody first")
    try:
        gallery.build_index("hnsw")
    except NotEnoughDataError:
        return
