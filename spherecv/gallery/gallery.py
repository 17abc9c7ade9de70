"""FaceGallery: people enrolled, identified, verified, clustered and removed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike

from spherecv.checks import batch_of, check_choice, check_count, check_distance, check_path, check_share, shown
from spherecv.config import PipelineSettings
from spherecv.errors import (
    GalleryError,
    GalleryKeyError,
    IdentityError,
    InvalidArgumentError,
    NotEnoughDataError,
    SphereCVError,
    StorageError,
)
from spherecv.facetable import FaceTable, read_embeddings
from spherecv.gallery import classifier, folders, intake, transfer
from spherecv.gallery.bulk.shards import read_manifest, read_shards
from spherecv.gallery.checks import checked_metadata, checked_rows, plain_name
from spherecv.gallery.checkup import Checkup
from spherecv.gallery.classifier import Classifier
from spherecv.gallery.clustering import Clustering, cluster_rows, pair_scores
from spherecv.gallery.damage import OnDamage
from spherecv.gallery.identify import Template, as_match, nearest_people
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import Added, Entry, Hit, IdentityInfo, Origin, Removed, StoredImage, Vector
from spherecv.gallery.sqlite import SqliteStore, check_name
from spherecv.gallery.stages import Model, Stages
from spherecv.gallery.store import IfExists, Store, is_milvus
from spherecv.images import ImageSource
from spherecv.metrics import Metric, check_metric, distance, similarity
from spherecv.pipeline import FacePipeline, OnError, WhichFace
from spherecv.records import Candidate, EmbeddedFace, Match
from spherecv.templates import SetWarning, pooled, unlike_text, unlike_the_rest
from spherecv.thresholds import Calibration, Threshold
from spherecv.zoo.key import ModelKey

_COMPARED = 256
"""Faces of a person that new ones are compared with: the latest."""
_CLASSIFIER = "classifier"
"""What the classifier is kept under in the store."""


class FaceGallery:
    """Faces of known people, and of unknown ones, to be asked who is on an image.

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

    def __init__(self, store: Store, stages: Stages, *, metric: Metric = "cosine") -> None:
        self.store = store
        self.metric = metric
        self._stages = stages

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
        damaged: OnDamage = "warn",
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
        damaged : {"warn", "raise"}
            Whether a face whose stored values are damaged is left out with a `DamageWarning` that names it, or is a
            `GalleryError`. Removals work in any case.
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
        check_choice("damaged", damaged, get_args(OnDamage))
        check_path("a gallery must be a path or a milvus:// address", location)
        store: Store
        if is_milvus(location):
            from spherecv.gallery.milvus import MilvusStore

            store = MilvusStore(str(location), create=create, metric=metric, timeout=timeout)
        else:
            store = SqliteStore(location, create=create, key=key, timeout=timeout, index=index, damaged=damaged)
        try:
            _settle_names(store)
            stages = Stages(store, model, metric=metric, calibration=calibration, **settings)
        except BaseException:
            store.close()
            raise
        return cls(store, stages, metric=metric)

    def __enter__(self) -> FaceGallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pipeline(self) -> FacePipeline:
        """Detector, aligner and embedder; opened when first asked for."""
        return self._stages.pipeline

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def enrol(
        self,
        identity: str,
        images: ImageSource | Iterable[ImageSource],
        metadata: Mapping[str, Any] | None = None,
        *,
        face: WhichFace = "largest",
        min_quality: float | None = None,
        if_exists: IfExists = "add",
        errors: OnError = "raise",
    ) -> Enrolment:
        """Enrol a person by images; all of them at once, or none.

        Parameters
        ----------
        identity : str
            Who it is.
        images : image, or iterable of images
            Paths (a folder counts as its images), bytes, binary file objects, ndarrays or PIL images.
        metadata : mapping, optional
            Anything that JSON can hold.
        face : {"largest", "center", "only", "all", "whole"}
            Which face of an image is theirs; with `"only"`, an image of several faces is one that cannot be used.
        min_quality : float, optional
            Faces of a lower quality (`Face.quality`, 0..1) are not taken: their image cannot be used.
        if_exists : {"add", "raise", "replace"}
            What to do where the gallery holds somebody of that name: give them further faces, refuse, or put the new
            faces in place of the old.
        errors : {"raise", "return"}
            Whether an image that cannot be used ends it, before anything is stored, or is reported with the rest.

        Returns
        -------
        Enrolment

        Raises
        ------
        IdentityError
            The gallery holds them already, with `if_exists="raise"`.
        ImageError, NoFaceError, SeveralFacesError
            With `errors="raise"`.
        GalleryMismatchError, GalleryLockedError, StorageError

        Warns
        -----
        SetWarning
            Some faces of the person are unlike the others, those enrolled before included.
        """
        check_choice("if_exists", if_exists, get_args(IfExists))
        if min_quality is not None:
            check_share("min_quality", min_quality)
        identity = plain_name(identity)
        check_name(identity)
        notes = {} if metadata is None else {identity: checked_metadata(metadata)}
        keys, sources = zip(*(intake.keyed(image) for image in intake.as_images(images)), strict=True)
        if if_exists == "raise":
            self._refuse_known(identity)
        entries, failures, crowded = [], [], []
        for key, found in zip(keys, self.pipeline.run(sources, face=face, errors=errors), strict=True):
            taken = intake.good_enough(found, key.path, min_quality)
            if not isinstance(taken, SphereCVError):
                entries.append(Entry(identity, key, intake.new_faces(taken)))
                crowded += [key.path] if intake.is_crowded(taken) else []
            elif errors == "raise":
                raise taken
            else:
                failures.append((key.path, taken))
        if not entries:
            return Enrolment(failures=tuple(failures))
        added = self.store.add(entries, self._stages.origin, metadata=notes, if_exists=if_exists)
        doubts = self._doubts([identity]) if added.faces else ()
        return Enrolment(**added._asdict(), failures=tuple(failures), crowded=tuple(crowded), doubts=doubts)

    def _doubts(self, identities: Iterable[str]) -> tuple[str, ...]:
        """Say, and warn, whose faces are unlike the others of theirs; of each the last `_COMPARED` are looked at."""
        said: list[str] = []
        if (usual := self._stages.usual_distance) is None:
            return ()
        for identity in identities:
            with self.store.snapshot():
                table = self.store.table(identity=identity)
                ids, vectors = table.ids[-_COMPARED:], table.vectors[-_COMPARED:]
                others = unlike_the_rest(vectors, usual, metric=self.metric)
                faces = self.store.describe(ids[others].tolist())
            if len(others):
                said.append(unlike_text(identity, [one.path for one in faces if one is not None], len(ids)))
                warnings.warn(said[-1], SetWarning, stacklevel=3)
        return tuple(said)

    def _refuse_known(self, identity: str) -> None:
        if self.store.holds(identity):
            raise IdentityError(
                f"{identity!r} is in {self.store.label} already: if_exists='add' adds images, 'replace' replaces them"
            )

    def enrol_embeddings(
        self,
        identities: Sequence[str | None],
        embeddings: ArrayLike,
        *,
        images: Sequence[str] | None = None,
        qualities: ArrayLike | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        if_exists: IfExists = "add",
    ) -> Enrolment:
        """Enrol ready-made embeddings, all or none.

        Parameters
        ----------
        identities : sequence of str or None, length N
            Whose each row is; None for nobody known.
        embeddings : array_like of float, shape (N, D)
            As the gallery's model and recipe make them.
        images : sequence of str, optional
            What to call the image of each row; by default each row is an image of its own, known by its content.
        qualities : array_like of float, shape (N,), optional
            0..1, NaN where unknown.
        metadata : mapping of str to mapping, optional
            By identity.
        if_exists : {"add", "raise", "replace"}

        Returns
        -------
        Enrolment

        Raises
        ------
        InvalidArgumentError
            Shapes that do not fit, values that are not finite.
        GalleryMismatchError
            Embeddings of another model or size than the gallery's.
        """
        check_choice("if_exists", if_exists, get_args(IfExists))
        rows = checked_rows(embeddings)
        identities = list(batch_of("identities", identities))
        weights = None if qualities is None else np.asarray(qualities, np.float64)
        given = {"identities": len(identities), "images": None if images is None else len(images)}
        given["qualities"] = None if weights is None else len(weights)
        for name, count in given.items():
            if count not in (None, len(rows)):
                raise InvalidArgumentError(f"{name} must have {len(rows)} entries, one a row, but got {count}")
        identities = [plain_name(name) for name in identities]
        notes = {plain_name(name): checked_metadata(value) for name, value in (metadata or {}).items()}
        paths = [f"embedding:{sha256(row.data).hexdigest()[:16]}" for row in rows] if images is None else images
        weights = None if weights is None else weights.astype(np.float32)
        table = FaceTable(paths=tuple(paths), embeddings=rows, qualities=weights)  # type: ignore[arg-type]
        entries = intake.entries_of(table, identities)
        added = self.store.add(entries, self._stages.origin, metadata=notes, if_exists=if_exists)
        return Enrolment(**added._asdict())

    def enrol_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        face: WhichFace = "largest",
        min_quality: float | None = None,
        prune: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Enrol a tree of one folder for each person, named after them.

        What is in the gallery already is left alone: a file of the same size and time is not even opened, one of
        another time is compared by its content. Work is kept every few images, so that an interrupted run goes on
        where it stopped.

        Parameters
        ----------
        folder : path
        face : {"largest", "center", "only", "all", "whole"}
            Which face of an image is the person's; with `"only"`, images of several faces are among the failures.
        min_quality : float, optional
            Faces of a lower quality, 0..1, are not taken: their images are among the failures.
        prune : bool
            Whether images whose files are gone are removed.
        progress : callable, optional
            Called with the numbers of images done and of all to do.

        Returns
        -------
        Enrolment
            Images without a face are among its `failures`.

        Raises
        ------
        ImageError
            No such folder, or no images in it.

        Warns
        -----
        SetWarning
            Some faces of a person are unlike the others of theirs.
        """
        if min_quality is not None:
            check_share("min_quality", min_quality)
        check_path("folder must be a path", folder)
        files, others = folders.labelled_files(Path(folder))
        run = folders.Run(self.store, self._stages, face, progress, min_quality=min_quality)
        done = run.over(files, Path(folder), prune=prune)
        return replace(done, passed_over=tuple(map(str, others)), doubts=self._doubts(sorted(run.enriched)))

    def enrol_shards(
        self,
        folder: str | os.PathLike[str],
        identity: Callable[[str], str | None] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Enrol what `spherecv embed SRC --out FOLDER` embedded, shard by shard.

        Parameters
        ----------
        folder : path
            With its `manifest.json`.
        identity : callable, optional
            Says who is on the image of a path, None for nobody known; by default nobody is.
        progress : callable, optional
            Called with the numbers of shards done and of all.

        Returns
        -------
        Enrolment

        Raises
        ------
        DatasetError
            The job was not finished, or a shard was changed.
        GalleryMismatchError
            Embeddings of another model than the gallery's.
        """
        manifest = read_manifest(folder)
        origin = self._stages.accepted(Origin(manifest["model"], manifest["key"], manifest["detector"]))
        total = Added()
        failures: list[tuple[str, SphereCVError]] = []
        for number, shard in enumerate(read_shards(folder), 1):
            added = self.store.add(intake.entries_of(shard, _named(shard, identity)), origin)
            total = Added(*(a + b for a, b in zip(total, added, strict=True)))
            failures += [(image, SphereCVError(problem)) for image, problem in shard.failures]
            if progress is not None:
                progress(number, len(manifest["shards"]))
        return Enrolment(**total._asdict(), failures=tuple(failures))

    def enrol_file(
        self, path: str | os.PathLike[str], identity: Callable[[str], str | None] | None = None
    ) -> Enrolment:
        """Enrol what `spherecv embed SRC --out FILE.npz` embedded, all or nothing.

        Parameters
        ----------
        path : path
            Of the `.npz`, which is read as a whole: for images by the million see `enrol_shards`.
        identity : callable, optional
            Says who is on the image of a path, None for nobody known; by default nobody is.

        Returns
        -------
        Enrolment

        Raises
        ------
        DatasetError
            The file is missing, damaged, or not of embeddings.
        GalleryMismatchError
            Embeddings of another model or recipe than the gallery's.
        """
        table, origin = read_embeddings(path)
        added = self.store.add(intake.entries_of(table, _named(table, identity)), self._stages.accepted(origin))
        return Enrolment(**added._asdict())

    def add_unknown(
        self,
        folder: str | os.PathLike[str],
        *,
        prune: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Add every face of the images of a folder or list, without names, for `find` and `cluster`.

        As `enrol_folder`, without names.
        """
        check_path("folder must be a path", folder)
        files = folders.unlabelled_files(Path(folder))
        return folders.Run(self.store, self._stages, "all", progress).over(files, Path(folder), prune=prune)

    def threshold(self, *, threshold: float | Threshold | None = None, far: float | None = None) -> Threshold:
        """Settle which distance counts as the same person, as the questions below do.

        Raises
        ------
        MissingThresholdError
            Neither is given, and none is known for this model, recipe and metric.
        """
        return self._stages.threshold(threshold, far)

    def identify(
        self,
        image: ImageSource,
        k: int = 5,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        template: Template = "best",
        face: WhichFace = "all",
    ) -> list[Match]:
        """Say who is on an image, face by face; the answer may be nobody.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        k : int
            Candidates to name for each face.
        threshold : float or Threshold, optional
            The largest distance that counts as the same person; by default the one known for the model.
        far : float, optional
            Take the threshold measured at this false accept rate. It is the rate of one comparison: a stranger has as
            many chances as the gallery has people, which `Match.fpir` reckons with.
        template : {"best", "mean"}
            A person is as near as the nearest of their images, or as the quality-weighted mean of them.
        face : {"all", "largest", "center", "only", "whole"}

        Returns
        -------
        list of Match
            One for each face found.

        Raises
        ------
        ImageError, NoFaceError, MissingThresholdError
        """
        settled = self._stages.threshold(threshold, far, face)
        found = self.pipeline.faces(image, face=face)
        hits = self._people(_stacked(found), k, template)
        people = self.store.counts()["identities"]
        return [
            as_match(self.store, near, item, settled, self.metric, people=people)
            for item, near in zip(found, hits, strict=True)
        ]

    def identify_embeddings(
        self, embeddings: ArrayLike, k: int = 5, *, threshold: float, template: Template = "best"
    ) -> list[Match]:
        """Say who ready-made embeddings are of; arguments and answers as for `identify`, one for each row."""
        settled = Threshold(check_distance("threshold", threshold))
        hits = self._people(checked_rows(embeddings), k, template)
        people = self.store.counts()["identities"]
        return [as_match(self.store, near, None, settled, self.metric, people=people) for near in hits]

    def _people(self, rows: Vector, k: int, template: Template) -> list[list[Hit]]:
        check_choice("template", template, get_args(Template))
        return nearest_people(self.store, rows, check_count("k", k), self.metric, template)

    def find(
        self,
        image: ImageSource,
        k: int = 100,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        face: WhichFace = "all",
    ) -> list[Match]:
        """Find images of the people on an image among those that `add_unknown` took in.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        k : int
            Most images to name for each face.
        threshold, far, face
            As for `identify`.

        Returns
        -------
        list of Match
            One for each face found; its candidates are the images within the threshold, its identity is None.
        """
        settled = self._stages.threshold(threshold, far, face)
        found = self.pipeline.faces(image, face=face)
        hits = self.store.nearest(_stacked(found), check_count("k", k), self.metric, "unknown")
        near = [[hit for hit in row if hit.distance <= settled.value] for row in hits]
        return [
            as_match(self.store, row, item, settled, self.metric) for item, row in zip(found, near, strict=True)
        ]

    def verify(
        self,
        identity: str,
        image: ImageSource,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        template: Template = "mean",
        face: WhichFace = "largest",
    ) -> Match:
        """Verify that an image shows a named person.

        Parameters
        ----------
        identity : str
            Of the gallery.
        image : path, bytes, binary file object, ndarray or PIL image
        threshold, far
            As for `identify`.
        template : {"mean", "best"}
        face : {"largest", "center", "only", "whole"}
            Which one, where the image shows several.

        Returns
        -------
        Match
            True where they are; its one candidate is the person.

        Raises
        ------
        IdentityError
            The gallery does not hold them.
        """
        identity = plain_name(identity)
        check_name(identity)
        check_choice("template", template, get_args(Template))
        check_choice("face", face, ("largest", "center", "only", "whole"))
        settled = self._stages.threshold(threshold, far, face)
        with self.store.snapshot():
            table, (note,) = self.store.table(identity=identity), self.store.people_metadata([identity])
        if not len(table.ids):
            raise IdentityError(f"{self.store.label} holds no face of {identity!r}")
        (found,) = self.pipeline.faces(image, face=face)
        mean = template == "mean"
        stored = pooled(table.vectors, table.qualities, metric=self.metric) if mean else table.vectors
        away = float(distance(found.embedding, stored, self.metric).min())
        candidate = Candidate(identity, away, float(similarity(away, self.metric)), metadata=note)
        return Match(
            identity=identity if away <= settled.value else None,
            candidates=(candidate,),
            threshold=settled.value,
            metric=self.metric,
            face=found.face,
            far=settled.rate,
            threshold_source=settled.source,
            faces_found=found.faces_found,
        )

    def classify(self, image: ImageSource, k: int = 5, *, face: WhichFace = "all") -> list[Match]:
        """Say who is on an image by the classifier that `fit_classifier` trained; it may answer nobody.

        Arguments and answers are as for `identify`; a candidate's distance is 1 - its score, and `probability` is the
        score of the first.

        Raises
        ------
        GalleryError
            No classifier was fitted, or somebody was removed, renamed or merged since.
        """
        trained = self._classifier()
        found = self.pipeline.faces(image, face=face)
        return [trained.match(item.embedding, check_count("k", k), item.face) for item in found]

    def classify_embeddings(self, embeddings: ArrayLike, k: int = 5) -> list[Match]:
        """Say who ready-made embeddings are of, by the classifier; answers as for `classify`, one for each row."""
        trained = self._classifier()
        return [trained.match(row, check_count("k", k)) for row in checked_rows(embeddings)]

    def _classifier(self) -> Classifier:
        data = self.store.attachment(_CLASSIFIER)
        if data is None:
            raise GalleryError(
                f"{self.store.label} has no classifier: fit_classifier (or `spherecv gallery fit`) makes one, and a "
                "removal deletes it"
            )
        return Classifier.from_bytes(data)

    def identities(self) -> list[IdentityInfo]:
        """Everybody in the gallery, by name, with numbers of images and faces and what was said of them."""
        return self.store.identities()

    def images(self, identity: str | None = None) -> Iterator[StoredImage]:
        """Images of one person, or all, with those that have no face and why."""
        return self.store.images(plain_name(identity))

    def remove(self, identity: str | None, image: str | os.PathLike[str] | None = None) -> Removed:
        """Forget a person, or one image of theirs.

        Every trace goes: rows, log, index file, classifier. Large files are searched for what was removed, and written
        again where a copy is found.

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
        if identity is not None and not isinstance(identity, str):
            raise InvalidArgumentError(f"identity must be a name, but got {shown(identity)}")
        identity = plain_name(identity)
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
        check_choice("kind", kind, ("hnsw", "ivf"))
        if not isinstance(self.store, SqliteStore):
            raise InvalidArgumentError(f"{self.store.label} keeps its own index: choose it by ?index= in its address")
        return self.store.index.build(kind, self.metric)

    def check(self) -> Checkup:
        """Read everything in the gallery's files and say what is damaged, by checksums and by SQLite's own check.

        Returns
        -------
        Checkup
        """
        if not isinstance(self.store, SqliteStore):
            raise InvalidArgumentError(f"{self.store.label} is a gallery on Milvus, which checks its files by itself")
        return self.store.check()

    def erase_pending(self) -> bool:
        """Finish erasing what earlier removals could not while others read an older state (`erased` was False).

        Returns
        -------
        bool
            True when no byte of anything removed is left in any file; False while somebody still reads.
        """
        if not isinstance(self.store, SqliteStore):
            raise InvalidArgumentError(f"{self.store.label} is a gallery on Milvus, which erases by itself")
        return self.store.flush()

    def rename(self, old: str, new: str) -> None:
        """Give a person another name; raises `IdentityError` where it is taken (`merge` then)."""
        self.store.rename(plain_name(old), plain_name(new))

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one, under a name that may be one of theirs or new."""
        self.store.merge([plain_name(name) for name in names], plain_name(into))

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
            Faces at most so far apart are neighbours. By default the distance that was measured for grouping faces with
            this model (`spherecv models info`); the answer's `measured` says how well it groups.
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
            No distance is known for this model, and none was given.
        NotEnoughDataError
            There are no faces of unknown people.
        """
        distance, measured = self.clustering_distance(threshold=threshold, far=far)
        with self.store.snapshot():
            table = self.store.table("unknown")
            described = self.store.describe(table.ids.tolist())
        if not len(table.ids):
            raise NotEnoughDataError(
                f"{self.store.label} holds no faces of unknown people: take some in with add_unknown "
                "(`spherecv gallery enrol --unknown`)"
            )
        groups = cluster_rows(table.vectors, distance, metric=self.metric, min_faces=min_faces)
        faces = tuple(("", None) if face is None else (face.path, face.box) for face in described)
        precision, recall, f1 = (None, None, None) if labels is None else pair_scores(groups, labels)
        return Clustering(groups, faces, distance, min_faces, precision, recall, f1, measured)

    def clustering_distance(
        self, *, threshold: float | Threshold | None = None, far: float | None = None
    ) -> tuple[float, str]:
        """Choose how far apart neighbours may be for `cluster`, with its measured quality in words; empty if given."""
        if threshold is not None or far is not None:
            settled = self._stages.threshold(threshold, far)
            rate = "" if settled.far is None else f"a false accept rate of {settled.far:g} for pairs ({settled.source})"
            return settled.value, rate
        known = self._stages.clustering
        used = (self.store.origin or self._stages.origin).detector
        if not used or used == known.detector:
            return known.distance, known.measured
        return known.distance, f"{known.measured}, with the detector {known.detector} and not {used}"

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
        check_choice("kind", kind, get_args(classifier.Kind))
        if not 0.0 <= strangers < 1.0:
            raise InvalidArgumentError(f"strangers must be within 0..1, but got {strangers}")
        with self.store.snapshot():
            table, changes = self.store.table("known"), self.store.changes
        trained, report = classifier.fit(table, kind, strangers=strangers)
        self.store.attach(_CLASSIFIER, trained.to_bytes(), changes=changes)
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
            what = f"{self.store.label} is encrypted and an export is not"
            raise GalleryKeyError(f"{what}: pass decrypt=True (--decrypt)")
        check_path("path must be a path", path)
        return transfer.export_store(self.store, path)

    def import_file(self, path: str | os.PathLike[str], *, if_exists: IfExists = "raise") -> Enrolment:
        """Take in what `export` wrote, of this gallery or another of the same model; all or nothing."""
        check_choice("if_exists", if_exists, get_args(IfExists))
        check_path("path must be a path", path)
        return Enrolment(**transfer.import_store(self.store, path, if_exists=if_exists)._asdict())

    def stats(self) -> dict[str, Any]:
        """Numbers of identities, images and faces, bytes on disk, and what the embeddings were made by."""
        origin = self.store.origin
        made_by = {} if origin is None else {**asdict(origin), "precision": ModelKey.of(origin.key).precision}
        return {**self.store.counts(), "dimension": self.store.dimension, **made_by}


def _named(table: FaceTable, identity: Callable[[str], str | None] | None) -> list[str | None]:
    return [None if identity is None else plain_name(identity(path)) for path in table.paths]


def _settle_names(store: Store) -> None:
    """Bring the names of a gallery of an earlier version into their one form; who then bears one name is one person."""
    try:
        if store.names_settled:
            return
        for known in store.names():
            name = plain_name(known)
            if name in ("", known):
                continue
            if store.holds(name):
                store.merge([name, known], name)
            else:
                store.rename(known, name)
        if store.writable:
            store.note_names_settled()
    except (GalleryError, StorageError):
        # Read-only or in use: the next opening tries again. A damaged name is an error when names are asked for.
        return


def _stacked(found: Sequence[EmbeddedFace]) -> Vector:
    return np.stack([item.embedding for item in found])
