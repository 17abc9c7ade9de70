"""Classifiers of faces in Caffe's files: age, sex, expression, mask, spoof; probabilities for every face found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherecv.align import FaceAligner
from spherecv.checks import batch_of, check_choice, check_stage
from spherecv.detect import FaceDetector
from spherecv.detect.base import check_number
from spherecv.embed import blob_of
from spherecv.errors import BackendError, InvalidArgumentError, ModelFileError, SphereCVError
from spherecv.images import ImageSource, load_batches
from spherecv.records import Face
from spherecv.runtime.devices import usual_backend
from spherecv.zoo import Recipe, get_recipe

Image: TypeAlias = NDArray[np.uint8]
FloatArray: TypeAlias = NDArray[np.float32]
PathLike: TypeAlias = str | os.PathLike[str]
Labels: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]

CROPS = ("box", "square", "aligned", "whole")
_BATCH_IMAGES = 16
_BATCH_CROPS = 32
_MOST_MARGIN = 10.0
_PASSING = ("Flatten", "Reshape", "Split", "Dropout")
"""Layers that leave probabilities what they are."""


@dataclass(frozen=True, eq=False)
class ClassifiedFace:
    """What a classifier says of one face.

    Attributes
    ----------
    face : Face
        Where it is; the whole image for classifiers of whole images.
    heads : dict of str to dict of str to float
        By output of the net: every label with its probability, 0..1, in the order of the labels.
    softmax : tuple of str
        Outputs whose numbers became probabilities by a softmax that the net itself lacks.
    """

    face: Face
    heads: dict[str, dict[str, float]]
    softmax: tuple[str, ...] = ()

    @property
    def probabilities(self) -> dict[str, float]:
        """Every label with its probability, of a net with one output.

        Raises
        ------
        InvalidArgumentError
            The net has several: ask `heads`.
        """
        if len(self.heads) != 1:
            raise InvalidArgumentError(f"there are several outputs: ask heads[...] for {', '.join(self.heads)}")
        return next(iter(self.heads.values()))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain Python values, ready for JSON."""
        heads = {name: dict(labels) for name, labels in self.heads.items()}
        return {"face": self.face.to_dict(), "heads": heads, "softmax": list(self.softmax)}


class FaceClassifier:
    """Find faces, and say with which probability each is what.

    Made by `from_caffe`.

    Attributes
    ----------
    labels : dict of str to tuple of str
        By output.
    recipe : Recipe
        How the net is fed; its `mirror` averages over the crop and its mirror image.

    Examples
    --------
    >>> files = "gender.prototxt", "gender.caffemodel"
    >>> sex = FaceClassifier.from_caffe(*files, labels=["male", "female"])       # doctest: +SKIP
    >>> [face.probabilities for face in sex.classify("group.jpg")]               # doctest: +SKIP
    [{'male': 0.03, 'female': 0.97}]
    """

    def __init__(self, net: _Net, detector: FaceDetector | None, crop: str, margin: float) -> None:
        self._net, self._detector, self._crop, self._margin = net, detector, crop, margin
        recipe = net.recipe
        self._aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment)
        self._again: Callable[[], FaceClassifier] | None = None

    @classmethod
    def from_caffe(
        cls,
        prototxt: PathLike,
        caffemodel: PathLike,
        *,
        labels: Labels,
        recipe: Recipe | str | PathLike | Mapping[str, Any] | None = None,
        crop: Literal["box", "square", "aligned", "whole"] = "box",
        margin: float = 0.0,
        detector: FaceDetector | str = "mtcnn",
        backend: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
    ) -> FaceClassifier:
        """Open a Caffe net as a classifier.

        Parameters
        ----------
        prototxt, caffemodel : path
            The net's files. A training prototxt will do.
        labels : sequence of str, or mapping of str to sequence of str
            What each number of the output stands for, in its order. For a net of several outputs, or for blobs of your
            choice: by the blob's name.
        recipe : Recipe, str, path or mapping, optional
            How the net wants its crops. By default as Caffe feeds a net of which nothing else is said: BGR of 0..255,
            of the size that the prototxt declares. Most nets want a mean subtracted: say so here.
        crop : {"box", "square", "aligned", "whole"}
            What of the image is fed: the face's box with its margin, cut off at the image's border; a square about its
            centre, black beyond the border; the face aligned by its landmarks, as the recipe's template says; or the
            whole image, in which no face is looked for.
        margin : float
            What is added to the box on every side, as a share of its width and height, 0..10.
        detector : FaceDetector or str
            What finds the faces.
        backend, device, threads, precision
            As for `spherecv.runtime.Session`; the backend by default as for `FaceEmbedder`.

        Returns
        -------
        FaceClassifier

        Raises
        ------
        InvalidArgumentError
            Labels that do not fit the outputs, a recipe that does not fit the input, or an option that cannot be.
        ModelFileError
            As for `spherecv.caffe.load`; or a net of several outputs without a choice.
        BackendError, DeviceError, MissingDependencyError
            As for `Session`.
        """
        check_choice("crop", crop, CROPS)
        margin = check_number("margin", margin, 0.0, _MOST_MARGIN)
        options = {"device": device, "threads": threads, "precision": precision}
        options["backend"] = backend or usual_backend(device, precision)
        net = _Net(Path(prototxt), Path(caffemodel), labels, recipe, options)
        finder = None
        if crop != "whole":
            finder = FaceDetector(detector, device=device) if isinstance(detector, str) else detector
            check_stage("detector must be a FaceDetector or the name of a kind", finder, "detect_batch")
        made = cls(net, finder, crop, margin)
        made._again = partial(
            cls.from_caffe, prototxt, caffemodel, labels=labels, recipe=net.recipe, crop=crop, margin=margin,
            detector="mtcnn" if finder is None else finder, backend=backend, device=device, threads=threads,
            precision=precision,
        )  # fmt: skip
        return made

    def __reduce__(self) -> tuple[Callable[[], FaceClassifier], tuple[()]]:
        """Travel as files and settings: another process, or a copy, opens nets of its own."""
        if self._again is None:
            raise InvalidArgumentError("only a classifier that from_caffe made can be copied")
        return self._again, ()

    def __repr__(self) -> str:
        heads = ", ".join(f"{name}: {len(labels)} labels" for name, labels in self.labels.items())
        return f"FaceClassifier({self._net.name}; {heads}; crop {self._crop}, margin {self._margin:g})"

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """What the numbers of each output stand for."""
        return self._net.labels

    @property
    def recipe(self) -> Recipe:
        """How the net is fed."""
        return self._net.recipe

    def classify(self, image: ImageSource, faces: Sequence[Face] | None = None) -> list[ClassifiedFace]:
        """Classify the faces of one image.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        faces : sequence of Face, optional
            Faces that were found already; by default the detector looks for them.

        Returns
        -------
        list of ClassifiedFace
            In the order of the faces, the most certain first; empty where there is no face.

        Raises
        ------
        ImageError
            It is not a readable image.
        BackendError
            The net failed, or gave numbers that are not finite.
        """
        if faces is None:
            (answer,) = self.classify_batch([image])
            return answer  # type: ignore[return-value]
        from spherecv.images import load_image

        pixels = load_image(image)
        return self._answers([(pixels, list(faces))])[0]

    def classify_batch(
        self, images: Iterable[ImageSource], *, errors: Literal["raise", "return"] = "raise"
    ) -> list[list[ClassifiedFace] | SphereCVError]:
        """Classify the faces of many images, which go through the nets together.

        Parameters
        ----------
        images : iterable of path, bytes, binary file object, ndarray or PIL image
        errors : {"raise", "return"}
            Whether an image that cannot be read ends the call or is answered with its error.

        Returns
        -------
        list of list of ClassifiedFace
            One for each image, in their order; with `errors="return"` a `SphereCVError` in the place of one that
            failed.
        """
        check_choice("errors", errors, ("raise", "return"))
        return list(self.run(images, errors=errors))

    def run(
        self, images: Iterable[ImageSource], *, errors: Literal["raise", "return"] = "raise"
    ) -> Iterator[list[ClassifiedFace] | SphereCVError]:
        """Classify as `classify_batch` does, and give each image's answer when it is there."""
        for batch in load_batches(batch_of("images", images), _BATCH_IMAGES):
            loaded = [item.image for item in batch if not isinstance(item, SphereCVError)]
            found = self._faces(loaded)
            located = [(image, faces) for image, faces in zip(loaded, found, strict=True) if isinstance(faces, list)]
            answers, faces_of = iter(self._answers(located)), iter(found)
            for item in batch:
                faces = item if isinstance(item, SphereCVError) else next(faces_of)
                answer = faces if isinstance(faces, SphereCVError) else next(answers)
                if isinstance(answer, SphereCVError) and errors == "raise":
                    raise answer
                yield answer

    def _faces(self, images: Sequence[Image]) -> list[list[Face] | SphereCVError]:
        if self._detector is not None:
            return self._detector.detect_batch(images, errors="return") if images else []
        return [[Face(np.array((0, 0, *image.shape[1::-1]), np.float32))] for image in images]

    def _answers(self, located: Sequence[tuple[Image, list[Face]]]) -> list[list[ClassifiedFace]]:
        crops = [crop for image, faces in located for crop in self._crops(image, faces)]
        height, width = self.recipe.size
        rows = self._net.run(np.stack(crops) if crops else np.empty((0, height, width, 3), np.uint8))
        numbers = iter(range(len(crops)))
        return [[self._record(face, rows, next(numbers)) for face in faces] for _, faces in located]

    def _record(self, face: Face, rows: Mapping[str, FloatArray], number: int) -> ClassifiedFace:
        heads = {
            name: dict(zip(labels, map(float, rows[name][number]), strict=True)) for name, labels in self.labels.items()
        }
        return ClassifiedFace(face, heads, self._net.softmax)

    def _crops(self, image: Image, faces: Sequence[Face]) -> list[Image]:
        if self._crop == "aligned":
            return list(self._aligner.align(image, faces))
        return [self._cut(image, face) for face in faces]

    def _cut(self, image: Image, face: Face) -> Image:
        import cv2

        height, width = self.recipe.size
        x1, y1, x2, y2 = _grown(face, self._margin, square=self._crop == "square")
        left, top = max(x1, 0), max(y1, 0)
        part = image[top : max(y2, 0), left : max(x2, 0)]
        if not part.size:
            return np.zeros((height, width, 3), np.uint8)
        if self._crop == "square":
            beyond = (top - y1, y2 - top - part.shape[0], left - x1, x2 - left - part.shape[1])
            part = np.asarray(cv2.copyMakeBorder(part, *beyond, cv2.BORDER_CONSTANT), np.uint8)
        return np.asarray(cv2.resize(part, (width, height)), np.uint8)


class _Net:
    """The net, its labels, and what makes probabilities of its outputs."""

    def __init__(
        self, prototxt: Path, caffemodel: Path, labels: Labels, recipe: Any, options: Mapping[str, Any]
    ) -> None:
        from spherecv import caffe
        from spherecv.files import cache_dir
        from spherecv.runtime import Session

        self.name = caffemodel.name
        chosen = None if recipe is None else get_recipe(recipe)
        wanted = _wanted(labels, chosen)
        net = caffe.load(prototxt, outputs=wanted)
        if wanted is None and len(net.outputs) != 1:
            several = ", ".join(net.outputs)
            raise ModelFileError(f"{prototxt} has the outputs {several}: give labels as {{output: labels}}")
        self._outputs = tuple(net.outputs if wanted is None else wanted)
        onnx = caffe.onnx_of(prototxt, caffemodel, outputs=wanted, cache_dir=cache_dir() / "onnx")
        self._session = Session(onnx, **options)
        self._input, shape = _one_input(self._session.inputs, self.name)
        _, channels, height, width = net.inputs[self._input]
        self.recipe = chosen or Recipe(size=(height, width), color="GRAY" if channels == 1 else "BGR", name="caffe")
        fits = (self.recipe.channels, *self.recipe.size)
        if any(side not in (None, want) for side, want in zip(shape[1:], fits, strict=True)):
            raise InvalidArgumentError(f"{self.name} takes crops of shape {shape[1:]}, but the recipe's are {fits}")
        makers = {top: layer for layer in net.layers for top in layer.tops}
        kinds = {name: _kind(name, makers) for name in self._outputs}
        self.softmax = tuple(name for name, kind in kinds.items() if kind == "numbers")
        self.labels = _labels(labels, self._outputs)
        rows = self._rows(np.zeros((1, *self.recipe.size, 3), np.uint8))
        for name, known in self.labels.items():
            count = rows[name].shape[1]
            if len(known) != count:
                raise InvalidArgumentError(f"{name} of {self.name} gives {count} numbers, but labels has {len(known)}")
            if count == 1 and kinds[name] != "sigmoid":
                raise InvalidArgumentError(f"{name} of {self.name} is one number, and not a probability")

    def run(self, crops: Image) -> dict[str, FloatArray]:
        """Return the probabilities of crops, an array (N, labels) for each output."""
        parts = [self._rows(crops[start : start + _BATCH_CROPS]) for start in range(0, len(crops), _BATCH_CROPS)]
        if not parts:
            return {name: np.empty((0, len(labels)), np.float32) for name, labels in self.labels.items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _rows(self, crops: Image) -> dict[str, FloatArray]:
        blob = blob_of(crops, self.recipe)
        looks = [blob, blob[..., ::-1]] if self.recipe.mirror else [blob]
        answers = [self._session.run({self._input: look}) for look in looks]
        return {name: self._probable(name, [answer[name] for answer in answers]) for name in self._outputs}

    def _probable(self, name: str, arrays: Sequence[FloatArray]) -> FloatArray:
        rows = [array.reshape(len(array), -1) for array in arrays]
        if not all(np.isfinite(row).all() for row in rows):
            raise BackendError(f"{name} of {self.name} gave numbers that are not finite")
        if name in self.softmax:
            rows = [_softmax(row) for row in rows]
        mean = np.mean(rows, axis=0, dtype=np.float32)
        if ((mean < 0) | (mean > 1 + 1e-5)).any():
            raise BackendError(f"{name} of {self.name} gave numbers beyond 0..1, which are no probabilities")
        return np.minimum(mean, np.float32(1))


def _softmax(rows: FloatArray) -> FloatArray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _kind(blob: str, makers: Mapping[str, Any]) -> str:
    """Tell what the numbers of a blob are: of a softmax, of a sigmoid, or any."""
    for _ in range(len(makers)):
        layer = makers.get(blob)
        if layer is None or layer.type not in _PASSING:
            break
        blob = layer.bottoms[0]
    return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(getattr(makers.get(blob), "type", ""), "numbers")


def _wanted(labels: object, recipe: Recipe | None) -> list[str] | None:
    """Which blobs are asked for; None for the net's own output."""
    if isinstance(labels, Mapping):
        if not labels:
            raise InvalidArgumentError("labels must not be empty")
        return list(labels)
    return [recipe.output] if recipe is not None and recipe.output else None


def _labels(labels: Labels, outputs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    given = labels if isinstance(labels, Mapping) else {outputs[0]: labels}
    for words in given.values():
        several = isinstance(words, Sequence) and not isinstance(words, str)
        if not several or not words or not all(isinstance(word, str) and word for word in words):
            raise InvalidArgumentError(f"labels must be words, one for each number, but got {words!r}")
        if len(set(words)) < len(words):
            raise InvalidArgumentError(f"labels must be different words, one for each number, but got {words!r}")
    return {name: tuple(given[name]) for name in outputs}


def _one_input(inputs: Mapping[str, tuple[int | None, ...]], where: str) -> tuple[str, tuple[int | None, ...]]:
    ((name, shape), *others) = inputs.items()
    if others or len(shape) != 4:
        raise ModelFileError(f"{where} is no classifier of images: its inputs are {dict(inputs)}")
    return name, shape


def _grown(face: Face, margin: float, *, square: bool) -> tuple[int, int, int, int]:
    """The box with its margin, in whole pixels; a square about its centre if so asked."""
    x, y = face.center
    width, height = face.width * (1 + 2 * margin), face.height * (1 + 2 * margin)
    if square:
        side = max(1, round(max(width, height)))
        left, top = round(x - side / 2), round(y - side / 2)
        return left, top, left + side, top + side
    return round(x - width / 2), round(y - height / 2), round(x + width / 2), round(y + height / 2)
