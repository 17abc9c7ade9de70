"""`DeepFace.find`: the folder's faces, kept in SphereCV's index of it, and tables of those near a face."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice, check_path
from spherecv.compat.deepface.errors import EmptyDatasource
from spherecv.compat.deepface.faces import Found
from spherecv.compat.deepface.stages import Metric, Stages, confidence, distances
from spherecv.errors import ImageError, MissingDependencyError

Row: TypeAlias = dict[str, Any]

AREA_COLUMNS = ("x", "y", "w", "h")
COLUMNS = (
    "identity", "hash", "target_x", "target_y", "target_w", "target_h", "threshold", "source_x", "source_y", "source_w",
    "source_h", "distance", "confidence",
)  # fmt: skip


class Folder:
    """The faces of a folder's images, with their embeddings.

    Attributes
    ----------
    rows : list of dict
        `identity` (the image's path), `hash`, and where in it the face is, `target_x` to `target_h`.
    embeddings : ndarray of float32, shape (N, D)
    """

    def __init__(self, folder: str, stages: Stages, *, refresh: bool) -> None:
        from spherecv.gallery import FaceGallery
        from spherecv.gallery.caches import index_of

        check_path("db_path must be a folder", folder)
        pipeline = stages.pipeline
        place = index_of(folder, pipeline.source.key, pipeline.detector_name)
        if not refresh and not place.exists():
            raise EmptyDatasource(f"nothing is kept of {folder} yet: call find once with refresh_database=True")
        with FaceGallery.open(place, model=pipeline) as gallery:
            if refresh:
                try:
                    gallery.add_unknown(folder, prune=True)
                except ImageError as error:
                    raise EmptyDatasource(str(error)) from None
            table = gallery.store.table("unknown")
            faces = gallery.store.describe(table.ids.tolist())
        self.embeddings: NDArray[np.float32] = table.vectors
        digests: dict[str, str] = {}
        self.rows: list[Row] = []
        for face in faces:
            path, box = ("", None) if face is None else (face.path, face.box)
            digests.setdefault(path, _digest(path))
            left, top, right, bottom = (max(0, int(value)) for value in box or (0, 0, 0, 0))
            area = (left, top, right - left, bottom - top)
            target = {f"target_{name}": value for name, value in zip(AREA_COLUMNS, area, strict=True)}
            self.rows.append({"identity": path, "hash": digests[path], **target})

    def near(
        self, face: Found, metric: Metric, threshold: float, *, everybody: bool, most: int | None
    ) -> list[Row]:
        """The rows within the threshold, or all of them, the nearest first, with distance and confidence."""
        if not self.rows:
            return []
        away = distances(self.embeddings, face.embedding, metric)
        order = [int(i) for i in np.argsort(away, kind="stable") if everybody or away[i] <= threshold]
        source = {f"source_{name}": face.area[name] for name in AREA_COLUMNS}
        return [
            {
                **self.rows[i], "threshold": threshold, **source, "distance": float(away[i]),
                "confidence": confidence(float(away[i]), threshold, metric),
            }
            for i in order[:most]
        ]  # fmt: skip


def answer_type(return_type: str | None) -> str:
    """Settle the type of a search's answers: data frames where pandas is installed, unless the caller says.

    Raises
    ------
    MissingDependencyError
        Data frames are asked for and pandas is not there.
    """
    installed = find_spec("pandas") is not None
    if return_type is None:
        return "pandas" if installed else "dict"
    check_choice("return_type", return_type, ("pandas", "dict"))
    if return_type == "pandas" and not installed:
        raise MissingDependencyError("pandas", "deepface", "return_type='pandas'")
    return return_type


def as_answer(rows: list[Row], columns: tuple[str, ...], return_type: str) -> Any:
    """One face's rows, as a data frame or as they are."""
    if return_type == "dict":
        return rows
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))


def _digest(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:  # gone since the folder was looked at
        return ""
    return hashlib.sha1(f"{status.st_size}-{status.st_mtime_ns}".encode(), usedforsecurity=False).hexdigest()
