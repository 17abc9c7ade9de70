"""Embeddings of a folder's images: made once, kept as `.npz` without pickle, and used again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.dataset.crops import center_crop
from spherecv.errors import CalibrationError, DatasetError, NoFaceError, SphereCVError
from spherecv.evaluate.subject import Subject
from spherecv.facetable import COLUMNS, FaceRows, FaceTable, check_members
from spherecv.files import open_whole
from spherecv.images import load_image
from spherecv.metrics import at_unit_length
from spherecv.records import Face
from spherecv.zoo import Recipe

_FORMAT = 1
_SAVE_EVERY = 15.0
"""Seconds between two savings, which a kill loses at most; longer where saving takes more than a twentieth of them."""

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageEmbeddings(FaceTable):
    """Embeddings of images of one folder by one model.

    Attributes
    ----------
    paths, embeddings, boxes, scores, qualities, landmarks
        Of the images that could be embedded, as in `FaceTable`: paths in the folder, with `/`; embeddings unnormalised,
        as the net gave them.
    centred : ndarray of bool, shape (N,)
        Where no face was found and the middle of the image was taken.
    failures : dict of str to str
        Images that could not be used, and why.
    stamps : dict of str to (int, int)
        Size in bytes and time of change of every image, by which a changed one is known.
    mirrored : bool
        Whether the second half of each row is the embedding of the mirror image.
    """

    centred: NDArray[np.bool_]
    failures: dict[str, str]
    stamps: dict[str, tuple[int, int]]
    mirrored: bool

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """The images: `paths`."""
        return self.paths

    def rows(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Positions of these images; each must have been embedded."""
        position = {name: i for i, name in enumerate(self.names)}
        return np.array([position[name] for name in names], dtype=np.intp)

    def by(self, recipe: Recipe) -> Embeddings:
        """The embeddings as a recipe wants them: mirrored or not, normalised or not. Shape (N, D)."""
        table = self.embeddings
        if self.mirrored and not recipe.mirror:
            table = table[:, : table.shape[1] // 2]
        return at_unit_length(table) if recipe.normalize else table

    def save(self, path: str | os.PathLike[str], meta: dict[str, Any]) -> None:
        """Write to an `.npz` that `numpy.load` reads without pickle; raises `StorageError`."""
        notes = {"format": _FORMAT, "mirrored": self.mirrored, "subject": meta, "failures": self.failures}
        with open_whole(path) as stream:
            np.savez(
                stream,
                names=np.array(self.names, dtype=np.str_),
                **{name: getattr(self, name) for name in COLUMNS},
                centred=self.centred,
                stamped=np.array(list(self.stamps), dtype=np.str_),
                stamps=np.array(list(self.stamps.values()), dtype=np.int64).reshape(-1, 2),
                meta=np.array(json.dumps(notes, sort_keys=True)),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[ImageEmbeddings, dict[str, Any]]:
        """Read what `save` wrote, and what it says of model, recipe and detector.

        Raises
        ------
        DatasetError
            Not such a file.
        """
        try:
            # Opened here, because NumPy leaves a file open that turns out to be a damaged archive.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                check_members(archive.files, {"names", *COLUMNS, "centred", "stamped", "stamps", "meta"})
                meta = json.loads(str(archive["meta"]))
                if meta["format"] != _FORMAT:
                    raise DatasetError(f"{path} is of another format: embed again")
                stamps = zip(archive["stamped"].tolist(), archive["stamps"].tolist(), strict=True)
                loaded = cls(
                    paths=tuple(archive["names"].tolist()),
                    **{name: archive[name] for name in COLUMNS if name in archive},  # earlier files hold fewer
                    centred=archive["centred"],
                    failures=meta["failures"],
                    stamps={name: (size, time) for name, (size, time) in stamps},
                    mirrored=meta["mirrored"],
                )
        except DatasetError:
            raise
        except Exception as error:  # zipfile, NumPy and json raise whatever a broken file makes them
            raise DatasetError(f"{path} cannot be read as saved embeddings: {error}") from None
        return loaded, meta["subject"]


def embed_images(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    subject: Subject,
    *,
    mirror: bool = False,
    saved: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageEmbeddings:
    """Embed images of a folder, but for those that are saved already.

    Parameters
    ----------
    folder : path
    names : sequence of str
        Paths in the folder.
    subject : Subject
    mirror : bool
        Keep the mirror image's embedding beside the image's own, whatever the recipe says.
    saved : path, optional
        An `.npz` to take from and to write to. Images that changed since are embedded again.
    progress : callable, optional
        Called with the number of images done and in all.

    Returns
    -------
    ImageEmbeddings
        Of these images and of whatever else was saved.

    Raises
    ------
    DatasetError
        The saved file is broken, or an image is not there.
    CalibrationError
        The saved file is of another model, recipe, detector or policy.
    NoFaceError, ImageError
        With the policy `"fail"`.
    """
    root = Path(folder)
    stamps = {name: _stamp(root / name) for name in names}
    recipe = replace(subject.source.recipe, mirror=mirror or subject.source.recipe.mirror, normalize=False)
    meta = {**subject.to_dict(), "recipe": {**recipe.to_dict(), "mirror": None}}
    meta["model_key"] = subject.source.key.split("-")[0]
    known = _saved(Path(saved), meta, recipe.mirror) if saved is not None else None
    recipe = replace(recipe, mirror=known.mirrored) if known is not None else recipe
    waiting = [name for name in names if known is None or known.stamps.get(name) != stamps[name]]
    if known is not None and not waiting:
        return known
    kept = _Growing(known, set(waiting), recipe.mirror)
    pipeline = subject.pipeline(recipe)
    answers = pipeline.run((root / name for name in waiting), face=subject.face, errors="return")
    with _saving(kept, saved, meta) as now_and_then:
        for done, (name, answer) in enumerate(zip(waiting, answers, strict=True), start=1):
            if not isinstance(answer, SphereCVError):
                kept.add(name, answer[0].embedding, answer[0].face)
            elif subject.no_face == "fail":
                raise answer
            elif isinstance(answer, NoFaceError) and subject.no_face == "center":
                crop = center_crop(load_image(root / name), recipe.size)
                kept.add(name, pipeline.embedder.embed(crop[None])[0], None)
            else:
                kept.failures[name] = str(answer)
            kept.stamps[name] = stamps[name]  # last: what is stamped is not looked at again
            now_and_then()
            if progress is not None:
                progress(done, len(waiting))
    return kept.result()


@contextmanager
def _saving(
    kept: _Growing, path: str | os.PathLike[str] | None, meta: dict[str, Any]
) -> Iterator[Callable[[], None]]:
    """Save what there is now and then, and at the end, whatever ends it: the next run goes on from there."""
    if path is None:
        yield lambda: None
        return
    last, pause = monotonic(), _SAVE_EVERY

    def save() -> None:
        nonlocal last, pause
        begun = monotonic()
        kept.result().save(path, meta)
        last = monotonic()
        pause = max(_SAVE_EVERY, 20 * (last - begun))

    def now_and_then() -> None:
        if monotonic() - last >= pause:
            save()

    try:
        yield now_and_then
    finally:
        if kept.stamps:
            save()


def saved_path(cache: Path, folder: str | os.PathLike[str], subject: Subject, *, mirror: bool) -> Path:
    """Where embeddings of a folder by a subject are kept when nobody says where."""
    recipe = replace(subject.source.recipe, mirror=mirror or subject.source.recipe.mirror, normalize=False)
    parts = (
        str(Path(folder).resolve()),
        subject.source.key.split("-")[0],
        recipe.fingerprint,
        subject.detector,
        subject.face,
        subject.no_face,
    )
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache / "embeddings" / f"{subject.source.name}-{digest}.npz"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    return status.st_size, status.st_mtime_ns


def _saved(path: Path, meta: dict[str, Any], mirror: bool) -> ImageEmbeddings | None:
    if not path.exists():
        return None
    found, theirs = ImageEmbeddings.load(path)
    for what, mine in meta.items():
        if what != "model" and theirs.get(what) != mine:
            raise CalibrationError(
                f"{path} holds embeddings of another {what.replace('_', ' ')} ({_brief(theirs.get(what))}, not "
                f"{_brief(mine)}): choose another file"
            )
    if mirror and not found.mirrored:
        raise CalibrationError(f"{path} holds embeddings without their mirror images: choose another file")
    return found


def _brief(value: Any) -> str:
    return str(value.get("name", "another") if isinstance(value, dict) else value)


class _Growing:
    """What is known so far, less what is embedded again."""

    def __init__(self, known: ImageEmbeddings | None, again: set[str], mirrored: bool) -> None:
        self.failures: dict[str, str] = {}
        self.stamps: dict[str, tuple[int, int]] = {}
        self._mirrored = known.mirrored if known is not None else mirrored
        self._old: FaceTable | None = None
        self._rows = FaceRows()
        self._centred: list[bool] = []
        if known is not None:
            kept = np.array([i for i, name in enumerate(known.names) if name not in again], dtype=np.intp)
            self._old, self._centred = known.take(kept), known.centred[kept].tolist()
            self.failures = {name: why for name, why in known.failures.items() if name not in again}
            self.stamps = {name: stamp for name, stamp in known.stamps.items() if name not in again}

    def add(self, name: str, embedding: Embeddings, face: Face | None) -> None:
        """Take in an image's face; None where its middle was embedded."""
        self._rows.add(name, embedding, face)
        self._centred.append(face is None)

    def result(self) -> ImageEmbeddings:
        new = self._rows.table()
        return ImageEmbeddings(
            **vars(new if self._old is None else self._old.followed_by(new)),
            centred=np.array(self._centred, dtype=np.bool_),
            failures=dict(self.failures),
            stamps=dict(self.stamps),
            mirrored=self._mirrored,
        )
