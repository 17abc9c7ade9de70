"""The teacher of a distillation: an ONNX embedder, and its embeddings of a data set, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError, ModelFileError, TrainingError
from spherecv.files import atomic_path
from spherecv.train.data import Dataset, View

if TYPE_CHECKING:
    from spherecv.runtime import Session

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher wants its input: ``(pixel - mean) / std``, per channel, in its own order of colours.

    Attributes
    ----------
    height, width : int
    rgb : bool
        Whether red comes first.
    mean, std : tuple of float
        One number, or three in the teacher's order of colours; pixels are 0..255.
    """

    height: int = 112
    width: int = 112
    rgb: bool = True
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)


class Teacher:
    """An ONNX embedder.

    Parameters
    ----------
    onnx : path
    recipe : TeacherRecipe
    backend, threads
        As for `spherecv.runtime.Session`.
    """

    def __init__(
        self,
        onnx: str | Path,
        recipe: TeacherRecipe | None = None,
        *,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        from spherecv.runtime import Session

        self.path, self.recipe = Path(onnx), recipe or TeacherRecipe()
        try:
            self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be read: {error.strerror or error}") from None
        self._session: Session = Session(self.path, backend=backend, threads=threads)
        if len(self._session.inputs) != 1:
            raise InvalidArgumentError(f"{self.path} has {len(self._session.inputs)} inputs: a teacher has one")

    def embed(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Return unit embeddings.

        Parameters
        ----------
        images : ndarray of uint8 (count, height, width, 3)
            BGR, of at least the teacher's size; a larger picture is cut in the middle.
        """
        recipe = self.recipe
        images = centre(images, recipe.height, recipe.width)
        ordered = images[..., ::-1] if recipe.rgb else images
        values = (ordered.astype(np.float32) - np.asarray(recipe.mean, np.float32)) / np.asarray(recipe.std, np.float32)
        answer = self._session.run(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
        rows = next(iter(answer.values())).reshape(len(images), -1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise TrainingError(f"the teacher {self.path} gives embeddings that are not numbers: check its recipe")
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def embed_both(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Return unit embeddings averaged over each picture and its mirror image."""
        both = self.embed(images) + self.embed(images[:, :, ::-1])
        lengths = np.linalg.norm(both, axis=1, keepdims=True)
        return np.asarray(both / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def centre(images: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return the middle of pictures (count, height, width, channels)."""
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    if top < 0 or left < 0:
        raise InvalidArgumentError(
            f"pictures of {images.shape[2]}x{images.shape[1]} are smaller than the {width}x{height} asked for"
        )
    return images[:, top : top + height, left : left + width]


def targets(
    teacher: Teacher,
    dataset: Dataset,
    view: View,
    cache: str | Path | None,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Return the teacher's embedding of every picture, averaged with its mirror image's; from the cache if it is there.

    Parameters
    ----------
    teacher : Teacher
    dataset : Dataset
    view : View
        Without augmentation.
    cache : path, optional
        A ``.npz`` that is used if it was written for this teacher, recipe and data, and written otherwise.
    batch_size : int
    progress : callable, optional
        Called with the number done and in all.

    Returns
    -------
    ndarray of float32 (items, width)
        Rows of zeros for pictures that cannot be read; training skips these by itself.
    """
    key = _key(teacher, dataset, view)
    stored = _load(cache, key)
    if stored is not None:
        return stored
    from spherecv.train.data.loader import read_batch

    rows: Floats | None = None
    count = len(dataset.items)
    for start in range(0, count, batch_size):
        places = np.arange(start, min(start + batch_size, count))
        images, failures = read_batch(dataset, view, places, (0, 0))
        read = np.array([place for n, place in enumerate(places) if n not in failures], dtype=np.int64)
        if len(read):
            found = teacher.embed_both(images)
            rows = np.zeros((count, found.shape[1]), np.float32) if rows is None else rows
            rows[read] = found
        if progress is not None:
            progress(int(places[-1]) + 1, count)
    if rows is None:
        raise InvalidArgumentError(f"none of the {count} pictures can be read: check {dataset.items[0].path}")
    if cache is not None:
        with atomic_path(cache) as temporary, temporary.open("wb") as target:
            np.savez(target, key=np.frombuffer(key.encode(), np.uint8), targets=rows)
    return rows


def _key(teacher: Teacher, dataset: Dataset, view: View) -> str:
    about = {
        "teacher": teacher.digest,
        "recipe": asdict(teacher.recipe),
        "view": view.to_dict(),
        "items": [[Path(item.path).name, item.offset, item.size] for item in dataset.items],
    }
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _load(cache: str | Path | None, key: str) -> Floats | None:
    if cache is None or not Path(cache).is_file():
        return None
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if stored["key"].tobytes().decode() != key:
                return None
            found: Any = stored["targets"]
            return np.asarray(found, dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError):
        return None  # what cannot be read is computed anew
