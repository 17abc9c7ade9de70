"""The teacher of a distillation: an ONNX embedder, and its embeddings of a data set, computed once."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import ImageError, InvalidArgumentError, ModelFileError, TrainingError
from spherecv.files import open_whole
from spherecv.images import load_image
from spherecv.train.data import Dataset, View
from spherecv.train.data.reading import bytes_of

if TYPE_CHECKING:
    from spherecv.runtime import Session

_LOOKED_AT = 24
_LARGEST = 1.5  # times the teacher's crop: what is larger is no crop of which the middle is the face
_ALIKE = 0.5  # right recipes of two public embedders gave 0.12 and 0.22, wrong ones 0.66 to 0.87

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
        (shape,) = self._session.inputs.values()
        wanted = (3, self.recipe.height, self.recipe.width)
        if len(shape) != 4 or any(size not in (None, own) for size, own in zip(shape[1:], wanted, strict=True)):
            given = "x".join("?" if size is None else str(size) for size in shape[:0:-1][:2])
            raise InvalidArgumentError(
                f"the teacher {self.path} takes images of {given}, but its recipe says {wanted[2]}x{wanted[1]}: mend "
                "height and width in the settings' table teacher, or pass another recipe"
            )

    def embed(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Return unit embeddings.

        Parameters
        ----------
        images : ndarray of uint8 (count, height, width, 3)
            BGR, of at least the teacher's size; a larger image is cut in the middle.
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
        """Return unit embeddings averaged over each image and its mirror image."""
        both = self.embed(images) + self.embed(images[:, :, ::-1])
        lengths = np.linalg.norm(both, axis=1, keepdims=True)
        return np.asarray(both / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def centre(images: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return the middle of images (count, height, width, channels)."""
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    if top < 0 or left < 0:
        raise InvalidArgumentError(
            f"images of {images.shape[2]}x{images.shape[1]} are smaller than the {width}x{height} asked for"
        )
    return images[:, top : top + height, left : left + width]


def check_crops(teacher: Teacher, dataset: Dataset, student: tuple[int, int]) -> None:
    """Look at some crops before a distillation: whether they suit the teacher and the student.

    Parameters
    ----------
    teacher : Teacher
    dataset : Dataset
    student : (int, int)
        Height and width of the student's input.

    Raises
    ------
    InvalidArgumentError
        The crops are smaller than the teacher's, or much larger, or the teacher's smaller than the student's.

    Warns
    -----
    UserWarning
        The teacher finds different images alike: as it does when its recipe is wrong, or the faces are not aligned.
    """
    recipe = teacher.recipe
    own = f"{recipe.width}x{recipe.height}"
    if student[0] > recipe.height or student[1] > recipe.width:
        raise InvalidArgumentError(
            f"the student takes {student[1]}x{student[0]} and sees the middle of the teacher's {own}: that is too small"
        )
    step = max(1, len(dataset.items) // _LOOKED_AT)
    images = []
    for item in dataset.items[::step][:_LOOKED_AT]:
        try:
            image = load_image(bytes_of(item) if item.size else item.path)
        except ImageError:
            continue  # the loader counts them, and ends the training where they are too many
        height, width = image.shape[:2]
        ratios = height / recipe.height, width / recipe.width
        if min(ratios) < 1 or max(ratios) > _LARGEST:
            raise InvalidArgumentError(
                f"{item.path} is {width}x{height}, and the teacher takes aligned crops of {own}: align faces to its "
                "recipe first (spherecv align), or mend height and width in the settings' table teacher"
            )
        images.append(centre(image[None], recipe.height, recipe.width)[0])
    if len(images) < 2 or (np.stack(images) == images[0]).all():
        return
    rows = np.concatenate([teacher.embed(image[None]) for image in images])
    alike = float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())
    if alike > _ALIKE:
        warnings.warn(
            f"the teacher {teacher.path} finds different images alike (mean cosine {alike:.2f} of {len(rows)} images, "
            "where 0 to 0.3 is usual): its recipe (mean, std, rgb) is likely wrong, or the faces are not aligned to it",
            stacklevel=3,
        )


def targets(
    teacher: Teacher,
    dataset: Dataset,
    view: View,
    cache: str | Path | None,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Return the teacher's embedding of every image, averaged with its mirror image's; from the cache if it is there.

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
        Rows of zeros for images that cannot be read; training skips these by itself.
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
        raise InvalidArgumentError(f"none of the {count} images can be read: check {dataset.items[0].path}")
    if cache is not None:
        with open_whole(cache) as target:
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
        return None  # what cannot be read is computed again
