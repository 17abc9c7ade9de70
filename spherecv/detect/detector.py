"""FaceDetector: images to faces, whichever kind finds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import batch_of, check_choice, plain_number
from spherecv.detect.base import Detections, Kind, detector_name, precision_in_name
from spherecv.errors import InvalidArgumentError, SphereCVError
from spherecv.images import ImageSource, LabelledImage, load_batches
from spherecv.quality import face_quality
from spherecv.records import Face
from spherecv.runtime.devices import check_settings
from spherecv.zoo import Recipe

Image = NDArray[np.uint8]
Model = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

KINDS = ("mtcnn", "yunet", "retinaface", "ssd")
ANY_BACKEND = ("mtcnn", "ssd")
"""Kinds whose nets run on any backend."""

_BATCH_IMAGES = 16


class FaceDetector:
    """Find faces and their five landmarks.

    Parameters
    ----------
    kind : {"mtcnn", "yunet", "retinaface", "ssd"}
        `mtcnn` is what the SphereFace authors used; it runs on any backend, and its weights come with the installation.
        `yunet` is OpenCV's own, faster and less exact, for video; its file of 233 kB is downloaded when it is first
        used. `retinaface` is the package retina-face, for the hardest images, slow; it downloads 109 MB.
        `ssd` is OpenCV's SSD face detector of Caffe's days (res10), for one or a few large faces; its file of 11 MB is
        downloaded when it is first used. Its landmarks are found by the third net of MTCNN.
    preset : {"fast", "sphereface"}, optional
        Of `mtcnn` only. `fast`, the default: faces from a twelfth of the image's shorter side, and from 20 pixels.
        `sphereface`: as the SphereFace authors cut their faces out, from 20 pixels whatever the image, with scales
        closer together; five times slower on a photograph of 640x480. For small faces in large images set
        `min_size`.
    min_size : float, optional
        Side of the smallest face to look for, in pixels, from 10; of `mtcnn` only.
    factor : float, optional
        Ratio of each scale of the image to the one before, 0.1..0.95; of `mtcnn` only.
    thresholds : sequence of three floats, or float, optional
        Least score, 0..1: of the three nets of `mtcnn` (0.7, 0.7, 0.9; 0.6, 0.7, 0.9 with `sphereface`), or of the one
        net of `yunet` (0.7), `retinaface` (0.9) and `ssd` (0.5).
    model : path or sequence of paths, optional
        Files of your own instead of those that SphereCV knows. `mtcnn`: a folder with `det1` to `det3` as `.prototxt`
        and `.caffemodel`, or these six files, net by net, or three `.onnx` files. `ssd`: prototxt and caffemodel of any
        SSD net whose label 1 is a face. The others: an `.onnx` file.
    recipe : Recipe, str, path or mapping, optional
        Of `ssd` only: how a net of your own wants its images, by `size`, `color`, `mean` and `scale`. By default BGR
        less (104, 177, 123).
    backend : {"opencv", "onnxruntime", "openvino", "auto"}, optional
        What runs the nets of `mtcnn` and `ssd`: by default ONNX Runtime, which is the fastest for `mtcnn`, and OpenCV
        for `ssd` on the CPU, the fastest that there is on CUDA.
        `yunet` runs on OpenCV only, `retinaface` on ONNX Runtime only.
    device : {"cpu", "cuda", "auto"}
        A device that is asked for and is not there is an error.
    threads : int, optional
        Threads to use; all cores by default.
    precision : {"float32", "bfloat16", "int8", "auto"}
        What the nets of `mtcnn` and `ssd` are computed in, as for `spherecv.runtime.Session`; the others know float32
        only. Any but float32 makes the backend "auto" where none is given.

    Attributes
    ----------
    name : str
        The kind, and what differs from its defaults: `"mtcnn"`, `"mtcnn preset=sphereface"`.

    Raises
    ------
    InvalidArgumentError
        An unknown kind, or an argument that does not apply to it or is out of its range.
    SphereCVError
        The model cannot be had, or the backend or device is not there.

    Examples
    --------
    >>> detector = FaceDetector()                              # doctest: +SKIP
    >>> [face.box for face in detector.detect("group.jpg")]    # doctest: +SKIP
    """

    def __init__(
        self,
        kind: str = "mtcnn",
        *,
        preset: str | None = None,
        min_size: float | None = None,
        factor: float | None = None,
        thresholds: Sequence[float] | float | None = None,
        model: Model | None = None,
        recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        backend: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        check_kind(kind, preset=preset, min_size=min_size, factor=factor)
        if recipe is not None and kind != "ssd":
            raise InvalidArgumentError(f"recipe cannot be set for {kind}, only for ssd")
        check_settings(backend or "auto", device, threads, precision)
        min_size, threads = plain_number(min_size), plain_number(threads)
        if precision not in ("float32", "auto"):
            if kind not in ANY_BACKEND:
                raise InvalidArgumentError(f"precision cannot be set for {kind}, only for mtcnn and ssd")
            backend = backend or "auto"
        self._settings = _Settings(
            kind, preset, min_size, factor, thresholds, model, recipe, backend, device, threads, precision
        )
        self._kind = self._settings.open()
        self.name = detector_name(self._kind.name, precision=precision_in_name(precision))

    def __reduce__(self) -> tuple[Callable[[_Settings], FaceDetector], tuple[_Settings]]:
        """Travel as settings: another process, or a copy, opens nets of its own."""
        return _reopened, (self._settings,)

    def detect(self, image: ImageSource) -> list[Face]:
        """Find the faces of one image.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
            As for `spherecv.load_image`.

        Returns
        -------
        list of Face
            The most certain first; empty where there is no face.

        Raises
        ------
        ImageError
            It is not a readable image.
        """
        return self.detect_batch([image])[0]

    @overload
    def detect_batch(
        self, images: Iterable[ImageSource], *, errors: Literal["raise"] = "raise"
    ) -> list[list[Face]]: ...

    @overload
    def detect_batch(
        self, images: Iterable[ImageSource], *, errors: Literal["raise", "return"]
    ) -> list[list[Face] | SphereCVError]: ...

    def detect_batch(
        self, images: Iterable[ImageSource], *, errors: Literal["raise", "return"] = "raise"
    ) -> list[list[Face]] | list[list[Face] | SphereCVError]:
        """Find the faces of many images, which go through the nets together.

        Paths and the like are loaded as they are needed, a few at a time.

        Parameters
        ----------
        images : iterable of path, bytes, binary file object, ndarray or PIL image
            Of any sizes.
        errors : {"raise", "return"}
            Whether an image that cannot be read, or that a net fails on, ends the call or is answered with its error.

        Returns
        -------
        list of list of Face
            One for each image, in their order; the most certain face first. With `errors="return"`, a `SphereCVError`
            in the place of an image that failed.

        Raises
        ------
        SphereCVError
            With `errors="raise"`: what went wrong with the first image that failed.
        InvalidArgumentError
            One image instead of several.
        """
        check_choice("errors", errors, ("raise", "return"))
        answers: list[list[Face] | SphereCVError] = []
        for batch in load_batches(batch_of("images", images), _BATCH_IMAGES):
            for answer in self._answers(batch):
                if isinstance(answer, SphereCVError) and errors == "raise":
                    raise answer
                answers.append(answer)
        return answers

    def _answers(self, batch: Sequence[LabelledImage | SphereCVError]) -> Iterator[list[Face] | SphereCVError]:
        images = [item.image for item in batch if not isinstance(item, SphereCVError)]
        found = iter(self._found(images))
        for item in batch:
            if isinstance(item, SphereCVError):
                yield item
            else:
                answer = next(found)
                yield answer if isinstance(answer, SphereCVError) else _faces(item.image, answer)

    def _found(self, images: Sequence[Image]) -> list[Detections | SphereCVError]:
        try:
            return list(self._kind.find(images)) if images else []
        except SphereCVError as error:
            if len(images) == 1:
                return [error]
        # One of them is to blame, and only one: find out which.
        return [answer for image in images for answer in self._found([image])]


@dataclass(frozen=True)
class _Settings:
    """What `FaceDetector` was asked for."""

    kind: str
    preset: str | None
    min_size: float | None
    factor: float | None
    thresholds: Sequence[float] | float | None
    model: Model | None
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None
    backend: str | None
    device: str
    threads: int | None
    precision: str

    def open(self) -> Kind:
        """Open the nets of this kind."""
        device, threads, precision = self.device, self.threads, self.precision
        if self.kind == "mtcnn":
            from spherecv.detect.mtcnn import open_mtcnn

            return open_mtcnn(
                self.model, preset=self.preset, min_size=self.min_size, factor=self.factor, thresholds=self.thresholds,
                backend=self.backend, device=device, threads=threads, precision=precision,
            )  # fmt: skip
        thresholds, model = self.thresholds, self.model
        if thresholds is not None and not isinstance(thresholds, int | float):
            raise InvalidArgumentError(f"thresholds must be one number for {self.kind}, but got {thresholds!r}")
        if self.kind == "ssd":
            from spherecv.detect.ssd import Ssd

            files = None if model is None else [model] if isinstance(model, str | os.PathLike) else list(model)
            options: dict[str, Any] = {"backend": self.backend, "device": device, "threads": threads}
            return Ssd(files, recipe=self.recipe, threshold=thresholds, precision=precision, **options)
        if model is not None and not isinstance(model, str | os.PathLike):
            raise InvalidArgumentError(f"model must be the path of one file for {self.kind}, but got {model!r}")
        if self.kind == "yunet":
            from spherecv.detect.yunet import YuNet

            return YuNet(model, threshold=thresholds, backend=self.backend, device=device)
        from spherecv.detect.retinaface import RetinaFace

        return RetinaFace(model, threshold=thresholds, backend=self.backend, device=device, threads=threads)


def _reopened(settings: _Settings) -> FaceDetector:
    return FaceDetector(**vars(settings))


def check_kind(kind: object, **settings: object) -> None:
    """Raise `InvalidArgumentError` for an unknown kind of detector, and for settings of MTCNN beside another."""
    check_choice("a detector", kind, KINDS)
    given = [name for name, value in settings.items() if value is not None]
    if kind != "mtcnn" and given:
        raise InvalidArgumentError(f"{', '.join(given)} cannot be set for {kind}, only for mtcnn")
    if kind == "mtcnn":
        from spherecv.detect.mtcnn import check_preset

        check_preset(settings.get("preset"), settings.get("min_size"))


def _faces(image: Image, found: Detections) -> list[Face]:
    best = np.argsort(-found.scores, kind="stable")
    faces = [
        Face(box, float(score), landmarks)
        for box, score, landmarks in zip(found.boxes[best], found.scores[best], found.landmarks[best], strict=True)
    ]
    return [replace(face, quality=face_quality(image, face)) for face in faces]
