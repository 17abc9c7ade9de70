"""Who is this? People enrolled once, asked for ever after, and forgotten when they wish."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from spherecv.detect import FaceDetector
from spherecv.gallery.ask import Asking
from spherecv.gallery.enrol import Enrolling
from spherecv.gallery.rows import IdentityInfo, Removed, StoredImage
from spherecv.gallery.sqlite import SqliteStore
from spherecv.gallery.stages import Model, Stages
from spherecv.gallery.store import Store, is_milvus
from spherecv.metrics import Metric, check_metric
from spherecv.zoo import Recipe


class FaceGallery(Enrolling, Asking):
    """Faces of known people, and of unknown ones, to be asked who is on a photo.

    Made by `FaceGallery.open`; a context manager that closes the store.

    Attributes
    ----------
    store : Store
        What keeps it.
    metric : {"cosine", "euclidean"}
        How embeddings are compared.

    Examples
    --------
    >>> with FaceGallery.open("people.db") as gallery:           # doctest: +SKIP
    ...     gallery.enrol("Ann", ["ann1.jpg", "ann2.jpg"])
    ...     [match.identity for match in gallery.identify("party.jpg")]
    ['Ann', None]
    """

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str],
        *,
        model: Model | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        detector: str | FaceDetector = "mtcnn",
        metric: Metric = "cosine",
        create: bool = True,
        key: str | None = None,
        index: str = "auto",
        timeout: float = 5.0,
        backend: str = "opencv",
        device: str = "cpu",
        threads: int | None = None,
    ) -> FaceGallery:
        """Open a gallery, or make one.

        Parameters
        ----------
        location : path or str
            A file, made where it is missing; or `milvus://host:port/collection`, `milvus+https://...`, or
            `milvus:path.db?collection=name` for Milvus Lite (extra `milvus`).
        model : str, path, ModelSource, FaceEmbedder, FacePipeline or Origin, optional
            What makes embeddings. By default the model that the gallery was made with, and for a new one the default
            model. It is opened with the first photo. An `Origin` stands for ready-made embeddings.
        recipe, detector, backend, device, threads
            As for `FaceVerifier`.
        metric : {"cosine", "euclidean"}
        create : bool
            Whether a missing gallery is made.
        key : str, optional
            Passphrase that encrypts a new gallery and opens an encrypted one, instead of the environment's
            `SPHERECV_GALLERY_KEY` (extra `gallery`). An empty one counts as none.
        index : {"auto", "exact", "hnsw", "ivf"}
            How to search: exactly, or by FAISS (extra `gallery`). `auto` takes the index that was built
            (`build_index`), and is exact without one.
        timeout : float
            Seconds to wait for another process that writes.

        Returns
        -------
        FaceGallery

        Raises
        ------
        GalleryError
            Missing, damaged, or the file of something else.
        GalleryMismatchError
            Made with another model, recipe or version.
        GalleryKeyError, GalleryLockedError, StorageError, MissingDependencyError
        """
        check_metric(metric)
        store: Store
        if is_milvus(location):
            from spherecv.gallery.milvus import MilvusStore

            store = MilvusStore(str(location), create=create, metric=metric, timeout=timeout)
        else:
            store = SqliteStore(location, create=create, key=key, timeout=timeout, index=index)
        try:
            settings = {"backend": backend, "device": device, "threads": threads}
            stages = Stages(store, model, recipe=recipe, detector=detector, **settings)  # type: ignore[arg-type]
        except BaseException:
            store.close()
            raise
        return cls(store, stages, metric=metric)

    def __enter__(self) -> FaceGallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def identities(self) -> list[IdentityInfo]:
        """Everybody in the gallery, by name, with numbers of images and faces and what was said of them."""
        return self.store.identities()

    def images(self, identity: str | None = None) -> Iterator[StoredImage]:
        """Images of one person, or all, with those that have no face and why."""
        return self.store.images(identity)

    def remove(self, identity: str | None, image: str | os.PathLike[str] | None = None) -> Removed:
        """Forget a person, or one image of theirs.

        Every trace goes: rows, log, index file, classifier. Large files are searched for what was removed, and written
        anew where a copy is found.

        Parameters
        ----------
        identity : str or None
            Who; None for an image of nobody known.
        image : path, optional
            One image only, by its path or the name it was enrolled under.

        Returns
        -------
        Removed
            `erased` is False while another process reads an older state of the file: the person is gone for everybody
            who asks from now on, and the bytes at the next removal or opening after that process is done.

        Raises
        ------
        IdentityError
            The gallery does not hold them.
        """
        if image is None:
            return self.store.remove(identity)
        names = {str(image), os.path.abspath(image)}  # noqa: PTH100 - as they were enrolled
        held = [stored.key.path for stored in self.store.images(identity) if stored.key.path in names]
        return self.store.remove(identity, held[0] if held else str(image))

    def rename(self, old: str, new: str) -> None:
        """Give a person another name; raises `IdentityError` where it is taken (`merge` then)."""
        self.store.rename(old, new)

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one, under a name that may be one of theirs or new."""
        self.store.merge(list(names), into)

    def stats(self) -> dict[str, Any]:
        """Numbers of identities, images and faces, bytes on disk, and what the embeddings were made by."""
        origin = self.store.origin
        made_by = {} if origin is None else {"model": origin.model, "key": origin.key, "detector": origin.detector}
        return {**self.store.counts(), "dimension": self.store.dimension, **made_by}
