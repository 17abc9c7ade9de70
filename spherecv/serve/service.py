"""Operations of the service, apart from HTTP: forms in, plain answers out."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv import __version__
from spherecv.errors import IdentityError, InvalidArgumentError, SphereCVError
from spherecv.gallery import FaceGallery
from spherecv.metrics import Metric, check_metric
from spherecv.records import EmbeddedFace, several_note
from spherecv.serve import forms
from spherecv.serve.pool import OverdueError, PipelinePool
from spherecv.serve.problems import Problem, problem_of
from spherecv.serve.settings import ServiceSettings
from spherecv.serve.uploads import FORMATS, Upload, checked_upload
from spherecv.templates import SetTemplate, unlike_text, unlike_the_rest
from spherecv.thresholds import Calibration, Threshold
from spherecv.verify import FaceVerifier


class FaceService:
    """The operations of the service; every method may be called from any thread.

    Parameters
    ----------
    pool : PipelinePool
        Finds and embeds faces.
    verifier : FaceVerifier
        Decides; made on the pool, with a threshold that is known.
    gallery : FaceGallery, optional
        Opened with the pool for its model.
    settings : ServiceSettings, optional
    """

    def __init__(
        self,
        pool: PipelinePool,
        verifier: FaceVerifier,
        gallery: FaceGallery | None = None,
        settings: ServiceSettings | None = None,
    ) -> None:
        self.pool = pool
        self.settings = settings or ServiceSettings()
        if verifier.pipeline is not pool:
            raise InvalidArgumentError("the verifier must be made on the pool: FaceVerifier(pool, ...)")
        self._verifier = verifier
        self._gallery = gallery
        # Asked for once, since they may come with warnings; without a threshold nothing could ever be answered.
        self._threshold, self._rates = verifier.threshold, verifier.known_thresholds

    @classmethod
    def open(
        cls,
        pool: PipelinePool,
        gallery: str | os.PathLike[str] | None = None,
        settings: ServiceSettings | None = None,
        *,
        metric: str = "cosine",
        calibration: Calibration | str | os.PathLike[str] | None = None,
        **decision: Any,
    ) -> FaceService:
        """Open what a pool needs to serve.

        Parameters
        ----------
        pool : PipelinePool
        gallery : path or str, optional
            Where the gallery is; made if it is missing.
        settings : ServiceSettings, optional
        metric, calibration
            As for `FaceVerifier`; the gallery's too.
        **decision
            `threshold`, `far` and `prior` of `FaceVerifier`. The gallery decides at the same threshold.

        Raises
        ------
        SphereCVError
            As for `FaceVerifier` and `FaceGallery.open`.
        """
        checked = check_metric(metric)
        verifier = FaceVerifier(pool, metric=checked, calibration=calibration, **decision)
        opened = None
        if gallery is not None:
            opened = FaceGallery.open(gallery, model=pool, metric=checked, calibration=calibration)
        return cls(pool, verifier, opened, settings)

    @property
    def has_gallery(self) -> bool:
        """Whether people can be enrolled and named."""
        return self._gallery is not None

    @property
    def read_only(self) -> bool:
        """Whether people can be named, but the gallery not be changed."""
        return self._gallery is not None and not self._gallery.store.writable

    def verify(self, form: forms.VerifyForm) -> dict[str, Any]:
        """Compare two images, or two sets of images of one person each."""
        started = perf_counter()
        with self._explained():
            sides = self._uploads(form.img1, "img1"), self._uploads(form.img2, "img2")
            threshold = self._verifier.threshold_at(form.far, face=form.face)
            (first, faces, notes), (second, others, more) = self._embedded(sides, form.face)
            seconds = perf_counter() - started
            result = self._verifier.judge(first, second, threshold, face=form.face, seconds=seconds)
            result = replace(result, notes=(*notes, *more))
            if faces > 1 or others > 1:  # probabilities are known of single images only
                result = replace(result, templates=(faces, others), probability=None, prior=None)
            answer = result.to_dict()
            if form.crops:
                answer["crops"] = {"img1": self._crop(first), "img2": self._crop(second)}
        return answer

    def detect(self, form: forms.DetectForm) -> dict[str, Any]:
        """Find the faces of an image."""
        started = perf_counter()
        with self._explained():
            found = self.pool.detect(self._upload(form.img, "img"))
        return {
            "faces": [face.to_dict() for face in found.faces],
            "width": found.width,
            "height": found.height,
            "detector_backend": self.pool.detector.name,
            "time": round(perf_counter() - started, 4),
        }

    def embed(self, form: forms.EmbedForm) -> dict[str, Any]:
        """Embed the faces of an image."""
        started = perf_counter()
        with self._explained():
            (found,) = self._faces([self._upload(form.img, "img")], form.face)
        return {
            "faces": [{**item.face.to_dict(), "embedding": item.embedding.tolist()} for item in found],
            **self._origin(),
            "time": round(perf_counter() - started, 4),
        }

    def identify(self, form: forms.IdentifyForm) -> dict[str, Any]:
        """Name the people on an image, or nobody."""
        started = perf_counter()
        with self._explained():
            gallery = self._people()
            threshold = self._verifier.threshold_at(form.far, face=form.face)
            matches = gallery.identify(
                self._upload(form.img, "img"), form.k, threshold=threshold, template=form.template, face=form.face
            )
        answers = [match.to_dict() for match in matches]
        for candidate in (candidate for answer in answers for candidate in answer["candidates"]):
            candidate["image"] = _image_name(candidate["image"])
        return {"matches": answers, **self._origin(), "time": round(perf_counter() - started, 4)}

    def enrol(self, form: forms.EnrolForm) -> dict[str, Any]:
        """Take a person in; what is answered is on the disk."""
        with self._explained():
            images = self._uploads(form.img, "img")
            gallery = self._people()
            try:
                done = gallery.enrol(
                    form.identity,
                    images,
                    form.metadata,
                    face=form.face,
                    min_quality=form.min_quality,
                    if_exists=form.if_exists,
                )
            except IdentityError:
                raise Problem("exists", "somebody of that name is in the gallery: if_exists says what to do") from None
        return {"identity": form.identity, **done.to_dict()}

    def people(self, limit: int, after: str | None) -> dict[str, Any]:
        """List people by name, a page at a time."""
        with self._explained():
            gallery = self._people()
            found = gallery.identities()
            counts = gallery.store.counts()
        rest = [person for person in found if after is None or person.name > after]
        page = [person.to_dict() for person in rest[:limit]]
        return {
            "people": page,
            "next": page[-1]["identity"] if len(rest) > limit else None,
            "identities": counts["identities"],
            "images": counts["images"],
            "faces": counts["faces"],
        }

    def person(self, identity: str) -> dict[str, Any]:
        """Tell what is kept of a person."""
        with self._explained():
            gallery = self._people()
            images = list(gallery.images(identity))
            (metadata,) = gallery.store.people_metadata([identity])
        return {
            "identity": identity,
            "images": [
                {"id": one.id, "name": _image_name(one.key.path), "faces": one.faces, "problem": one.problem}
                for one in images
            ],
            "metadata": dict(metadata),
        }

    def rename(self, identity: str, form: forms.RenameForm) -> dict[str, Any]:
        """Give a person another name, or make two people one."""
        with self._explained():
            gallery = self._people()
            if not gallery.store.holds(identity):
                raise Problem("unknown-identity", "the gallery holds nobody of that name")
            if form.merge:
                gallery.merge([identity], form.identity)
                return {"identity": form.identity}
            try:
                gallery.rename(identity, form.identity)
            except IdentityError:
                if not gallery.store.holds(identity):  # gone meanwhile
                    raise
                raise Problem("exists", "somebody bears that name: merge=true makes the two one") from None
        return {"identity": form.identity}

    def remove(self, identity: str, image: int | None) -> dict[str, Any]:
        """Forget a person, or one image of theirs."""
        with self._explained():
            gallery = self._people()
            if image is None:
                return dict(gallery.remove(identity)._asdict())
            held = [one.key.path for one in gallery.images(identity) if one.id == image]
            if not held:
                raise Problem("unknown-identity", f"the gallery holds no image {image} of that person")
            return dict(gallery.store.remove_images([(identity, held[0])])._asdict())

    def counts(self) -> dict[str, int]:
        """Numbers of people and faces, for the metrics; empty without a gallery."""
        return {} if self._gallery is None else self._gallery.store.counts()

    def describe(self) -> dict[str, Any]:
        """Tell what serves, at which threshold, within which limits."""
        recipe = self.pool.embedder.recipe
        return {
            "version": __version__,
            **self._origin(),
            "recipe": recipe.name,
            "crop": {"height": recipe.size[0], "width": recipe.size[1]},
            "backend": self.pool.embedder.backend,
            "similarity_metric": self._verifier.metric,
            "threshold": _told(self._threshold),
            "rates": [_told(row) for row in self._rates],
            "prior": self._verifier.prior,
            "gallery": self.has_gallery,
            "read_only": self.read_only,
            "limits": {
                "max_body_bytes": self.settings.max_body,
                "max_pixels": self.settings.max_pixels,
                "max_images": self.settings.max_images,
                "formats": list(FORMATS),
            },
        }

    def close(self) -> None:
        """Finish what waits, and close the gallery."""
        self.pool.close()
        if self._gallery is not None:
            self._gallery.close()

    def _origin(self) -> dict[str, Any]:
        embedder = self.pool.embedder
        return {
            "model": embedder.name,
            "model_key": embedder.source.key,
            "detector_backend": self.pool.detector.name,
        }

    def _people(self) -> FaceGallery:
        if self._gallery is None:
            raise Problem("no-gallery", "the service was started without a gallery: `spherecv serve --gallery FILE`")
        return self._gallery

    def _upload(self, data: bytes, name: str) -> Upload:
        return checked_upload(data, name, self.settings.max_pixels)

    def _uploads(self, images: list[bytes], name: str) -> list[Upload]:
        """The images of a field, which is not empty and takes several."""
        if not 1 <= len(images) <= self.settings.max_images:
            raise Problem("invalid", f"{name}: 1 to {self.settings.max_images} images at once, not {len(images)}")
        alone = len(images) == 1
        return [self._upload(data, name if alone else f"{name} {number}") for number, data in enumerate(images, 1)]

    def _embedded(
        self, sides: Sequence[list[Upload]], face: forms.OneFace
    ) -> list[tuple[EmbeddedFace, int, list[str]]]:
        """The face of each side, or the best of several with their template, how many they are, and what to say."""
        found = iter([faces[0] for faces in self._faces([one for side in sides for one in side], face)])
        return [self._side(side, [next(found) for _ in side], face) for side in sides]

    def _side(
        self, side: list[Upload], faces: list[EmbeddedFace], which: forms.OneFace
    ) -> tuple[EmbeddedFace, int, list[str]]:
        metric, usual = self._verifier.metric, self._verifier.decision.usual_distance
        notes = [
            note
            for upload, one in zip(side, faces, strict=True)
            for note in several_note(upload.name, one.faces_found, which)
        ]
        rows = [one.embedding for one in faces]
        if usual is not None and len(others := unlike_the_rest(rows, usual, metric=metric)):
            label = side[0].name.partition(" ")[0]
            notes.append(unlike_text(label, [side[place].name for place in others], len(side)))
        return *_pooled(faces, metric), notes

    def _faces(self, images: list[Upload], face: forms.AnyFace) -> list[list[EmbeddedFace]]:
        return [found for found in self.pool.run(images, face=face) if not isinstance(found, SphereCVError)]

    def _crop(self, embedded: EmbeddedFace) -> dict[str, Any]:
        """The aligned crop, and where the landmarks are in it."""
        landmarks = embedded.face.landmarks
        places = None
        if landmarks is not None and self.pool.aligner.alignment != "box":
            matrix = self.pool.aligner.transform(landmarks)
            places = np.round(landmarks @ matrix[:, :2].T + matrix[:, 2], 2).tolist()
        return {"png": None if embedded.crop is None else _png(embedded.crop), "landmarks": places}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn failures of the library into problems, without telling where the gallery lies."""
        try:
            yield
        except OverdueError as error:
            again = {"Retry-After": str(max(1, round(self.pool.backlog)))}
            raise Problem("overdue", str(error), headers=again) from None
        except SphereCVError as error:
            raise problem_of(error, conceal=None if self._gallery is None else self._gallery.store.label) from error


def _pooled(faces: list[EmbeddedFace], metric: Metric) -> tuple[EmbeddedFace, int]:
    """One face as it is; of several the best, with the template of all of them for its embedding."""
    if len(faces) == 1:
        return faces[0], 1
    template = SetTemplate(metric=metric)
    for number, one in enumerate(faces):
        template.add(one.embedding, one.face.quality, number)
    return replace(faces[template.frames[0]], embedding=template.vector), len(faces)


def _told(threshold: Threshold) -> dict[str, Any]:
    return {"value": threshold.value, "far": threshold.rate, "source": threshold.source}


def _png(crop: NDArray[np.uint8]) -> str:
    import cv2

    done, data = cv2.imencode(".png", crop)
    if not done:
        raise InvalidArgumentError("the crop cannot be written as PNG")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _image_name(path: str | None) -> str | None:
    """What an image is called, without the folders it lay in on the server."""
    return None if path is None else PurePath(os.fsdecode(path)).name.replace("\\", "/").rpartition("/")[2]
