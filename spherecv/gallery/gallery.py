"""Who is this? People enrolled once, asked for ever after, and forgotten when they wish."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Unpack

from spherecv.checks import check_path
from spherecv.config import PipelineSettings
from spherecv.errors import GalleryKeyError, InvalidArgumentError, NotEnoughDataError
from spherecv.gallery import classifier, transfer
from spherecv.gallery.ask import CLASSIFIER, Asking
from spherecv.gallery.base import check_choice
from spherecv.gallery.clustering import Clustering, cluster_rows, pair_scores
from spherecv.gallery.enrol import Enrolling
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import IdentityInfo, Removed, StoredImage
from spherecv.gallery.sqlite import SqliteStore
from spherecv.gallery.stages import Model, Stages
from spherecv.gallery.store import IfExists, Store, is_milvus
from spherecv.metrics import Metric, check_metric
from spherecv.thresholds import Calibration, Threshold


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
        metric: Metric = "cosine",
        calibration: Calibration | str | os.PathLike[str] | None = None,
        create: bool = True,
        key: str | None = None,
        index: str = "auto",
        timeout: float = 5.0,
        **settings: Unpack[PipelineSettings],
    ) -> FaceGallery:
        """Open a gallery, or make one.

        Parameters
        ----------
        location : path or str
            A file, made where it is missing; or `milvus://host:port/collection`, `milvus+https://...`, or
            `milvus:path.db?collection=name` for Milvus Lite (extra `milvus`).
        model : str, path, (path, path), ModelSource, FaceEmbedder, PipelineConfig, FacePipeline or Origin, optional
            What makes embeddings. By default the model that the gallery was made with, and for a new one the default
            model. It is opened with the first image. An `Origin` stands for ready-made embeddings.
        metric : {"cosine", "euclidean"}
        calibration : Calibration or path, optional
            What `spherecv calibrate` measured for this model and detector: its thresholds are used.
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
        **settings
            As for `PipelineConfig`.

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
        check_path("a gallery must be a path or a milvus:// address", location)
        store: Store
        if is_milvus(location):
            from spherecv.gallery.milvus import MilvusStore

            store = MilvusStore(str(location), create=create, metric=metric, timeout=timeout)
        else:
            store = SqliteStore(location, create=create, key=key, timeout=timeout, index=index)
        try:
            stages = Stages(store, model, metric=metric, calibration=calibration, **settings)
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
            if identity is None:
                raise InvalidArgumentError("say whom to remove, or which image")
            return self.store.remove(identity)
        names = {str(image), os.path.abspath(image)}  # noqa: PTH100 - as they were enrolled
        stored = self.store.images(identity, which="unknown" if identity is None else None)
        held = [one.key.path for one in stored if one.key.path in names]
        return self.store.remove_images([(identity, path) for path in held or [str(image)]])

    def build_index(self, kind: Literal["hnsw", "ivf"] = "hnsw") -> int:
        """Build a FAISS index of the known faces, in a file beside the gallery's (extra `gallery`).

        From then on `identify` goes through it, with `index="auto"`; faces enrolled later are taken in as they come.
        It is worth it from some 100,000 faces on.

        Parameters
        ----------
        kind : {"hnsw", "ivf"}
            A graph: the fastest search, minutes to build. Lists: built in a tenth of the time, and smaller.

        Returns
        -------
        int
            Faces in it.

        Raises
        ------
        NotEnoughDataError
            Fewer than a thousand faces: exact search is as fast.
        MissingDependencyError
        """
        check_choice("kind", kind, Literal["hnsw", "ivf"])
        if not isinstance(self.store, SqliteStore):
            raise InvalidArgumentError(f"{self.store.label} keeps its own index: choose it by ?index= in its address")
        return self.store.index.build(kind, self.metric)

    def rename(self, old: str, new: str) -> None:
        """Give a person another name; raises `IdentityError` where it is taken (`merge` then)."""
        self.store.rename(old, new)

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one, under a name that may be one of theirs or new."""
        self.store.merge(list(names), into)

    def cluster(
        self,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        min_faces: int = 2,
        labels: Sequence[Any] | None = None,
    ) -> Clustering:
        """Group the faces of unknown people (`add_unknown`) into people.

        Parameters
        ----------
        threshold : float, optional
            Faces at most so far apart are neighbours.
        far : float, optional
            Take the distance measured at this false accept rate. Among N faces there are N^2 / 2 pairs: for a thousand
            faces a rate of 1e-5 still gives a handful of wrong links.
        min_faces : int
            Neighbours, itself counted, that make a face the core of a group.
        labels : sequence, optional
            Who each face really is, in the order of the answer's `faces`: then its precision and recall are measured.

        Returns
        -------
        Clustering

        Raises
        ------
        MissingThresholdError
        NotEnoughDataError
            There are no faces of unknown people.
        """
        settled = self._stages.threshold(threshold, far)
        with self.store.snapshot():
            table = self.store.table("unknown")
            described = self.store.describe(table.ids.tolist())
        if not len(table.ids):
            raise NotEnoughDataError(
                f"{self.store.label} holds no faces of unknown people: take some in with add_unknown "
                "(`spherecv gallery enrol --unknown`)"
            )
        groups = cluster_rows(table.vectors, settled.value, metric=self.metric, min_faces=min_faces)
        faces = tuple(("", None) if face is None else (face.path, face.box) for face in described)
        scores = (None, None, None) if labels is None else pair_scores(groups, labels)
        return Clustering(groups, faces, settled.value, min_faces, *scores)

    def fit_classifier(
        self, kind: classifier.Kind = "logistic", *, strangers: float = 0.01
    ) -> classifier.ClassifierReport:
        """Train a classifier on the enrolled faces, for `classify`; it is kept in the gallery, as plain numbers.

        Parameters
        ----------
        kind : {"logistic", "svm"}
        strangers : float
            Share of strangers' faces that may be given a name, 0..1, as measured on enrolled people left out.

        Returns
        -------
        ClassifierReport

        Raises
        ------
        NotEnoughDataError
            Fewer than three people, or one with a single face.
        GalleryError
            Somebody was removed meanwhile: what was learnt from them is not kept.
        """
        check_choice("kind", kind, classifier.Kind)
        if not 0.0 <= strangers < 1.0:
            raise InvalidArgumentError(f"strangers must be within 0..1, but got {strangers}")
        with self.store.snapshot():
            table, changes = self.store.table("known"), self.store.changes
        trained, report = classifier.fit(table, kind, strangers=strangers)
        self.store.attach(CLASSIFIER, trained.to_bytes(), changes=changes)
        return report

    def export(self, path: str | os.PathLike[str], *, decrypt: bool = False) -> int:
        """Write the gallery to an `.npz` that `import_file` and `numpy.load` read; returns the number of faces.

        Parameters
        ----------
        path : path
        decrypt : bool
            Must be True for an encrypted gallery: the file can be read by anybody.
        """
        if isinstance(self.store, SqliteStore) and self.store.encrypted and not decrypt:
            raise GalleryKeyError(f"{self.store.label} is encrypted and an export is not: pass decrypt=True")
        return transfer.export_store(self.store, path)

    def import_file(self, path: str | os.PathLike[str], *, if_exists: IfExists = "raise") -> Enrolment:
        """Take in what `export` wrote, of this gallery or another of the same model; all or nothing."""
        check_choice("if_exists", if_exists, IfExists)
        return Enrolment(**transfer.import_store(self.store, path, if_exists=if_exists)._asdict())

    def stats(self) -> dict[str, Any]:
        """Numbers of identities, images and faces, bytes on disk, and what the embeddings were made by."""
        origin = self.store.origin
        made_by = {} if origin is None else {"model": origin.model, "key": origin.key, "detector": origin.detector}
        return {**self.store.counts(), "dimension": self.store.dimension, **made_by}
