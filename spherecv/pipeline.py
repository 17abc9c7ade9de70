"""FacePipeline: images to faces with embeddings, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from spherecv.align import FaceAligner
from spherecv.checks import batch_of, check_choice, check_count, check_stage
from spherecv.detect import FaceDetector
from spherecv.detect.detector import KINDS
from spherecv.embed import FaceEmbedder
from spherecv.errors import NoFaceError, SeveralFacesError, SphereCVError
from spherecv.images import ImageSource, LabelledImage, load_batches
from spherecv.records import EmbeddedFace, Face, Fingerprint
from spherecv.zoo import ModelSource, Recipe

WhichFace = Literal["largest", "center", "only", "all", "whole"]
OnError = Literal["raise", "return"]
Image: TypeAlias = NDArray[np.uint8]

_Located: TypeAlias = tuple[list[Face], Image, int | None]
"""The faces that count, their crops, and how many faces were found; None where nothing looked for any."""
_Answer: TypeAlias = list[EmbeddedFace] | SphereCVError


class FacePipeline:
    """Detector, aligner and embedder in a row.

    Parameters
    ----------
    embedder : FaceEmbedder or str
        The embedder, or the name of a model. Its recipe says how to align.
    detector : FaceDetector or str
        The detector, or the name of a kind: `"mtcnn"`, `"yunet"`, `"retinaface"`, `"ssd"`.
    device : {"cpu", "cuda", "auto"}
        Where the stages named by a string run.

    Examples
    --------
    >>> pipeline = FacePipeline("sphereface-20")                       # doctest: +SKIP
    >>> [embedded.face.box for embedded in pipeline.faces("group.jpg")]  # doctest: +SKIP
    """

    def __init__(
        self, embedder: FaceEmbedder | str, *, detector: FaceDetector | str = "mtcnn", device: str = "cpu"
    ) -> None:
        self.embedder = FaceEmbedder(embedder, device=device) if isinstance(embedder, str) else embedder
        check_stage("embedder must be a FaceEmbedder or the name of a model", self.embedder, "embed")
        self.detector = FaceDetector(detector, device=device) if isinstance(detector, str) else detector
        check_stage(f"detector must be a FaceDetector or one of {', '.join(KINDS)}", self.detector, "detect_batch")
        recipe = self.embedder.recipe
        self.aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin)

    @property
    def source(self) -> ModelSource:
        """The embedder's model."""
        return self.embedder.source

    @property
    def detector_name(self) -> str:
        """What finds the faces: the kind of detector, and what differs from its defaults."""
        return self.detector.name

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides the embeddings: what galleries, calibrations, bulk jobs and evaluations are kept under."""
        return Fingerprint(self.embedder.name, self.source.key, self.detector_name)

    def with_recipe(self, recipe: Recipe) -> FacePipeline:
        """Make a pipeline of the same open nets whose embedder is fed and read by another recipe."""
        return FacePipeline(self.embedder.with_recipe(recipe), detector=self.detector)

    def faces(self, image: ImageSource, *, face: WhichFace = "all") -> list[EmbeddedFace]:
        """Find and embed the faces of one image.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        face : {"all", "largest", "center", "only", "whole"}
            Which of several; see `run`.

        Returns
        -------
        list of EmbeddedFace
            The most certain first; never empty.

        Raises
        ------
        ImageError, NoFaceError
        """
        (found,) = self.run([image], face=face)
        if isinstance(found, SphereCVError):  # pragma: no cover - run raises; this tells the type checker so
            raise found
        return found

    def run(
        self,
        images: Iterable[ImageSource | LabelledImage],
        *,
        face: WhichFace = "largest",
        errors: OnError = "raise",
        batch_size: int = 16,
    ) -> Iterator[list[EmbeddedFace] | SphereCVError]:
        """Find and embed the faces of many images, one answer for each, in their order.

        Images are loaded as they are needed and dropped after use, so that memory does not grow with their number.

        Parameters
        ----------
        images : iterable of path, bytes, binary file object, ndarray or PIL image
        face : {"largest", "center", "only", "all", "whole"}
            The largest face; the one nearest the middle of the image, as the SphereFace authors took; the only one,
            where several are an error; all of them; or the whole image as one ready-made crop, with no detection: its
            middle where it is wider than the recipe's crop (112x112 holds the face of 112x96), scaled to the recipe's
            size.
        errors : {"raise", "return"}
            Whether an image that cannot be read, or has no face, ends the run or is answered with its error.
        batch_size : int
            Images that go through the nets together, fewer where they are large.

        Yields
        ------
        list of EmbeddedFace, or SphereCVError

        Raises
        ------
        ImageError, NoFaceError, SeveralFacesError
            With `errors="raise"`.
        InvalidArgumentError
            One image instead of several, an unknown `face` or `errors`, or `batch_size` below 1.
        """
        check_choice("face", face, get_args(WhichFace))
        check_choice("errors", errors, get_args(OnError))
        check_count("batch_size", batch_size)
        return self._run(batch_of("images", images), face, errors, batch_size)

    def _run(
        self, images: Iterable[ImageSource | LabelledImage], face: WhichFace, errors: OnError, batch_size: int
    ) -> Iterator[_Answer]:
        for batch in load_batches(images, batch_size):
            for answer in self._process(batch, face):
                if isinstance(answer, SphereCVError) and errors == "raise":
                    raise answer
                yield answer

    def _process(self, batch: Sequence[LabelledImage | SphereCVError], which: WhichFace) -> list[_Answer]:
        located = self._locate(batch, which)
        crops = [crop for item in located if not isinstance(item, SphereCVError) for crop in item[1]]
        embeddings = iter(self.embedder.embed(np.stack(crops)) if crops else ())
        return [
            item
            if isinstance(item, SphereCVError)
            else [EmbeddedFace(*one, next(embeddings), item[2]) for one in zip(item[0], item[1], strict=True)]
            for item in located
        ]

    def _locate(
        self, batch: Sequence[LabelledImage | SphereCVError], which: WhichFace
    ) -> list[_Located | SphereCVError]:
        loaded = [item for item in batch if not isinstance(item, SphereCVError)]
        if which == "whole":
            return [item if isinstance(item, SphereCVError) else self._whole(item.image) for item in batch]
        found = iter(self.detector.detect_batch([item.image for item in loaded], errors="return"))
        return [item if isinstance(item, SphereCVError) else self._aligned(item, next(found), which) for item in batch]

    def _aligned(
        self, loaded: LabelledImage, found: list[Face] | SphereCVError, which: WhichFace
    ) -> _Located | SphereCVError:
        if isinstance(found, SphereCVError):
            return found
        height, width = loaded.image.shape[:2]
        if not found:
            where = f"{loaded.label} ({width}x{height}) by {self.detector.name}"
            return NoFaceError(f"no face found in {where}", advice=_cure(self.detector.name))
        if which == "only" and len(found) > 1:
            return SeveralFacesError(
                f"{len(found)} faces found in {loaded.label} ({width}x{height}), and one was to be there: take the "
                "largest (face='largest', --face largest), the one nearest the middle ('center'), or crop the image"
            )
        faces = choose_faces(found, (height, width), which)
        return faces, self.aligner.align(loaded.image, faces), len(found)

    def _whole(self, image: Image) -> _Located:
        import cv2

        height, width = self.aligner.size
        spare = max(0, image.shape[1] - max(1, round(image.shape[0] * width / height)))
        left, right = spare // 2, image.shape[1] - (spare - spare // 2)
        middle = image[:, left:right]
        shrinks = middle.shape[0] > height and middle.shape[1] > width
        crop = cv2.resize(middle, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return [Face(box=np.array((left, 0, right, image.shape[0]), np.float32))], crop[None], None


def choose_faces(faces: Sequence[Face], shape: tuple[int, ...], which: WhichFace) -> list[Face]:
    """Pick the face that counts out of those found in one image.

    Parameters
    ----------
    faces : sequence of Face
        At least one.
    shape : tuple of int
        Height and width of the image.
    which : {"largest", "center", "only", "all"}

    Returns
    -------
    list of Face
        All of them, or the one.
    """
    if which in ("only", "all"):
        return list(faces)
    if which == "largest":
        return [max(faces, key=lambda face: face.width * face.height)]
    middle = np.array((shape[1] / 2, shape[0] / 2))
    return [min(faces, key=lambda face: float(np.square(np.array(face.center) - middle).sum()))]


def _cure(detector: str) -> str:
    """What would find more, where a detector was not asked for it already."""
    if detector != "mtcnn":
        return ""
    return ", in all four turns of the image; set min_size=20 for small faces, preset='sphereface' for hard ones"
