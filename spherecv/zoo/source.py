"""ModelSource: a model's files, their key, and its recipe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spherecv.checks import Metric, check_path
from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError
from spherecv.files import cache_dir
from spherecv.runtime.devices import backends_for, bfloat16_missing, check_settings, usual_backend
from spherecv.runtime.signature import signature_of
from spherecv.zoo.cache import digests_of, reading
from spherecv.zoo.files import require
from spherecv.zoo.key import ModelKey
from spherecv.zoo.manifest import get_recipe, is_known, known_manifest, model_info, model_names, models_dir, own_dir
from spherecv.zoo.model import KnownClustering, KnownPrecision, KnownThreshold, ModelFile, ModelInfo
from spherecv.zoo.probability import ProbabilityCurve
from spherecv.zoo.recipe import Recipe

if TYPE_CHECKING:
    from spherecv.runtime import Session

AnyRecipe = Recipe | str | os.PathLike[str] | Mapping[str, Any]
_KEY_DIGITS = 16
_LONGEST_TEXT = 1 << 24


@dataclass(frozen=True)
class ModelSource:
    """Where an embedder comes from.

    Made by `open_model`, or by the class methods from files of your own.

    Attributes
    ----------
    name : str
        Its name in the manifest, or the file's name without the suffix.
    format : {"caffe", "onnx"}
    files : dict of str to Path
        By role: `prototxt` and `caffemodel`, or `onnx`.
    recipe : Recipe
        How the model wants its input.
    info : ModelInfo or None
        What the manifest says of it, if it knows the files.
    precision : {"float32", "bfloat16", "int8"}
        What it is to be computed in; "float32" is what its files say, which for quantised files is int8.
    """

    name: str
    format: Literal["caffe", "onnx"]
    files: Mapping[str, Path] = field(repr=False)
    recipe: Recipe
    info: ModelInfo | None = field(default=None, repr=False)
    precision: str = "float32"

    @classmethod
    def from_caffe(
        cls, prototxt: str | os.PathLike[str], caffemodel: str | os.PathLike[str], *, recipe: AnyRecipe | None = None
    ) -> ModelSource:
        """Take a Caffe model of your own.

        Parameters
        ----------
        prototxt, caffemodel : path
            Its two files.
        recipe : Recipe, str, path or mapping, optional
            How it wants its input; may be left out for files that the manifest knows by their hashes.

        Raises
        ------
        ModelFileError
            A file is missing.
        InvalidArgumentError
            No recipe, and the files are not known; or not a recipe.
        """
        files = {"prototxt": _file(prototxt), "caffemodel": _file(caffemodel)}
        return cls._of_files("caffe", files, recipe)

    @classmethod
    def from_onnx(cls, path: str | os.PathLike[str], *, recipe: AnyRecipe | None = None) -> ModelSource:
        """Take an ONNX model of your own; the recipe as for `from_caffe`."""
        return cls._of_files("onnx", {"onnx": _file(path)}, recipe)

    @classmethod
    def _of_files(
        cls, model_format: Literal["caffe", "onnx"], files: Mapping[str, Path], recipe: AnyRecipe | None
    ) -> ModelSource:
        info = identify(files)
        weights = list(files.values())[-1]
        if info:
            _check_kind(info)
        chosen = recipe if recipe is not None else (info.recipe if info else None)
        if chosen is None:
            known = ", ".join(known_manifest().recipes)
            raise InvalidArgumentError(
                f"{weights} is not a file that the manifest knows, so say how it wants its input: recipe=... "
                f"({known}, a .toml file, or a Recipe)"
            )
        return cls(info.name if info else weights.stem, model_format, files, get_recipe(chosen), info)

    @property
    def thresholds(self) -> tuple[KnownThreshold, ...]:
        """What the manifest knows of thresholds for this model, whatever the recipe."""
        return self.info.thresholds if self.info else ()

    @property
    def calibration(self) -> Path | None:
        """What was measured of this model of the user's own with this very recipe; None where nothing was."""
        info = self.info
        if info is None or not info.calibration or self.recipe.fingerprint != get_recipe(info.name).fingerprint:
            return None
        return own_dir() / info.name / info.calibration

    def probability(self, metric: str) -> ProbabilityCurve | None:
        """What the manifest knows of probabilities for this model with this very recipe, in its precision."""
        if self.precision != "float32" and self.loss is None:
            return None
        for row in self.info.probabilities if self.info else ():
            if row.metric == metric and row.fingerprint == self.recipe.fingerprint:
                return row.curve
        return None

    def clustering(self, metric: Metric) -> KnownClustering | None:
        """What the manifest knows of grouping faces by this model with this very recipe."""
        for row in self.info.clustering if self.info else ():
            if row.fingerprint != self.recipe.fingerprint:
                continue
            if row.metric == metric:
                return row
            if self.recipe.normalize:  # of vectors of length 1 the square is twice the cosine distance
                other = sqrt(2 * row.distance) if metric == "euclidean" else row.distance**2 / 2
                return replace(row, metric=metric, distance=other)
        return None

    @cached_property
    def key(self) -> str:
        """What stored embeddings and calibrations of this model are kept under.

        Sixteen hexadecimal digits of a SHA-256 over the files, a dash, and the recipe's fingerprint; before the dash a
        plus sign and the precision, where it is not float32. Equal for the same model by name and by path, different
        as soon as an embedding could be.
        """
        if self.info:
            # By what the manifest says: the authors' prototxt and ours are different bytes of the same net.
            held = [(file, digest) for file in self.info.files for _, digest in file.digests[:1]]
            parts = [f"{file.role} {file.identity or digest}" for file, digest in held]
        else:
            parts = [f"{role} {_sha256(path)}" for role, path in self.files.items()]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return str(ModelKey(digest[:_KEY_DIGITS], self.precision, self.recipe.fingerprint))

    def computed_in(self, precision: str, *, backend: str | None = None, device: str = "cpu") -> ModelSource:
        """Return the same model computed in a precision, "auto" settled for a backend and a device."""
        settled = self._settled(precision, backend or usual_backend(device, precision), device)
        return self if settled == self.precision else replace(self, precision=settled)

    def _settled(self, precision: str, backend: str, device: str) -> str:
        check_settings(backend, device, None, precision)
        if precision == "auto":
            return self._fastest(backend, device)
        if precision == "int8" and self.format == "onnx" and self._is_quantised:
            return "float32"  # which is what its file says
        return precision

    def _fastest(self, backend: str, device: str) -> str:
        """The fastest precision that the backend computes and that was measured to lose little."""
        able = {"float32"}
        if not bfloat16_missing(backend, device):
            able.add("bfloat16")
        if backend != "opencv" and device == "cpu":
            able.add("int8")
        fitting = {row.precision: row for row in self.measured_precisions if row.precision in able and row.is_small}
        name = backends_for(backend, device)[0][0]
        for precision in ("int8", "bfloat16"):
            if precision in fitting and name in fitting[precision].backends:
                return precision
        return "float32"

    @property
    def _is_quantised(self) -> bool:
        return signature_of(self.files["onnx"]).quantised

    @property
    def measured_precisions(self) -> tuple[KnownPrecision, ...]:
        """What the manifest knows of other precisions for this model with this very recipe."""
        rows = self.info.precisions if self.info else ()
        return tuple(row for row in rows if row.fingerprint == self.recipe.fingerprint)

    @property
    def loss(self) -> KnownPrecision | None:
        """What the manifest knows of the precision that this model is to be computed in; None of float32."""
        return next((row for row in self.measured_precisions if row.precision == self.precision), None)

    def onnx(self) -> bytes:
        """The model as ONNX; a Caffe model is converted once, and then kept in the cache.

        Raises
        ------
        ModelFileError
            The files cannot be read, do not belong together, or hold what cannot be converted.
        """
        model = self._model()
        if isinstance(model, bytes):
            return model
        try:
            return model.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{model} cannot be read: {error.strerror or error}") from None

    def _model(self) -> bytes | Path:
        """The ONNX model where it lies; bytes where there is no cache."""
        return self._quantised() if self.precision == "int8" else self._float32()

    def _quantised(self) -> bytes | Path:
        """The model in int8, made once by the ranges that ship with it, and then kept in the cache."""
        if self.info is None or not self.info.int8:
            raise InvalidArgumentError(
                f"{self.name} has no int8 form: make one with `spherecv convert PROTOTXT CAFFEMODEL --precision int8 "
                "--calibrate IMAGES -o FILE.onnx`, and give that file as the model"
            )
        from spherecv.runtime.normalise import kept, normalised
        from spherecv.runtime.quantise import quantise

        told = (models_dir() / self.info.int8).read_bytes()
        key = hashlib.sha256(self.key.encode() + told).hexdigest()

        def make() -> bytes:
            held = json.loads(told)
            plain = self._float32() if self.format == "caffe" else normalised(self._float32(), self.name)[0]
            data = plain if isinstance(plain, bytes) else plain.read_bytes()
            return quantise(data, ranges=held["ranges"], calibration=held["calibration"])

        return kept(f"{key}-int8", make)

    def _float32(self) -> bytes | Path:
        if self.format == "onnx":
            return self.files["onnx"]
        from spherecv import caffe
        from spherecv.caffe.cache import cached_file, ending_key

        prototxt, caffemodel = self.files["prototxt"], self.files["caffemodel"]
        folder = cache_dir() / "onnx"
        verified = dict(self.info.file("caffemodel").digests).get("sha256") if self.info else None
        outputs = [self.recipe.output] if self.recipe.output else None
        if not verified:
            return caffe.onnx_of(prototxt, caffemodel, outputs=outputs, cache_dir=folder)
        # `onnx_of` would hash the 90 MB of SphereFace-20 once more, which were verified a moment or a month ago.
        key = f"{_sha256(prototxt)[:32]}-{verified[:32]}{ending_key(outputs)}"
        return cached_file(key, lambda: caffe.load(prototxt, caffemodel, outputs=outputs).to_onnx(), cache_dir=folder)

    def session(self, *, backend: str | None = None, device: str = "cpu", threads: int | None = None) -> Session:
        """Open the model for running, in its precision; the options are those of `spherecv.runtime.Session`.

        By default it runs where it is fastest: ONNX Runtime on the CPU, where that is installed, "auto" elsewhere.

        Raises
        ------
        ModelFileError
            As for `onnx`.
        BackendError, DeviceError, MissingDependencyError
            As for `Session`.
        """
        from spherecv.runtime import Session

        outputs = [self.recipe.output] if self.recipe.output else None
        try:
            model = self._model()
            backend = backend or usual_backend(device, self.precision)
            return Session(
                model, backend=backend, device=device, threads=threads, precision=self.precision, outputs=outputs
            )
        except ModelFileError as error:
            path = str(list(self.files.values())[-1])
            if path in str(error) or self.format != "onnx":
                raise
            raise ModelFileError(f"{path}: {error}") from None


def are_comparable(model: str, key: str, other: str) -> bool:
    """Whether embeddings of two keys may be compared: equal ones, and those of a model whose precisions were measured.

    Parameters
    ----------
    model : str
        Its name.
    key, other : str
        As of `ModelSource.key`.
    """
    if key == other:
        return True
    one, two = ModelKey.of(key), ModelKey.of(other)
    known = known_manifest().models.get(model)
    if known is None or one._replace(precision=two.precision) != two or "float32" not in (one.precision, two.precision):
        return False
    changed = one.precision if two.precision == "float32" else two.precision
    rows = [row for row in known.precisions if (row.precision, row.fingerprint) == (changed, one.recipe)]
    return any(row.is_comparable for row in rows)


def is_earlier(model: str, key: str) -> bool:
    """Whether a key is that of an earlier edition of a model of the manifest, whose embeddings are others.

    So is one without files, which is what the first versions of SphereCV wrote, of any model that has such an edition.

    Parameters
    ----------
    model : str
        Its name.
    key : str
        As of `ModelSource.key`.
    """
    known = known_manifest().models.get(model)
    return known is not None and bool(known.earlier) and ModelKey.of(key).files in ("", *known.earlier)


def open_model(model: str | os.PathLike[str], *, recipe: AnyRecipe | None = None) -> ModelSource:
    """Find an embedder by its name or by its path; what has a name and is missing is downloaded.

    Parameters
    ----------
    model : str or path
        A name of the manifest, or the path of an `.onnx` file.
    recipe : Recipe, str, path or mapping, optional
        How the model wants its input, instead of what the manifest says.

    Returns
    -------
    ModelSource

    Raises
    ------
    ModelNotFoundError
        Neither a name nor a file.
    InvalidArgumentError
        A detector; a Caffe file, which needs its companion; or a file of your own without a recipe.
    DownloadError, HashMismatchError, StorageError
        As for `require`.
    """
    check_path("a model must be a name, the path of an .onnx file, a ModelSource or a FaceEmbedder", model)
    name = os.fspath(model)
    if isinstance(model, str) and is_known(name):
        return _named(model_info(name), recipe)
    suffix = Path(name).suffix.lower()
    if suffix == ".onnx":
        return ModelSource.from_onnx(model, recipe=recipe)
    if suffix in (".prototxt", ".caffemodel"):
        raise InvalidArgumentError(
            f"{name} is half of a Caffe model: give prototxt and caffemodel together (FaceVerifier.from_caffe, or "
            "--prototxt and --caffemodel)"
        )
    raise ModelNotFoundError(
        f"{name!r} is neither the path of an .onnx file nor the name of a model: choose "
        f"{', '.join(model_names('embedder'))} (`spherecv models list`)"
    )


def _named(info: ModelInfo, recipe: AnyRecipe | None) -> ModelSource:
    _check_kind(info)
    model_format: Literal["caffe", "onnx"] = "caffe" if info.format == "caffe" else "onnx"
    return ModelSource(info.name, model_format, require(info), get_recipe(recipe or info.recipe or ""), info)


def _check_kind(info: ModelInfo) -> None:
    if info.kind != "embedder":
        raise InvalidArgumentError(
            f"{info.name} is a {info.kind}, not an embedder: choose {', '.join(model_names('embedder'))}"
        )


def identify(files: Mapping[str, str | os.PathLike[str]]) -> ModelInfo | None:
    """Tell which model of the manifest some files are, by their hashes.

    Parameters
    ----------
    files : mapping of str to path
        By role: `prototxt` and `caffemodel`, or `onnx`.

    Returns
    -------
    ModelInfo or None
        None unless every file is one that the manifest knows of the same model. A file is hashed only if its size fits.

    Raises
    ------
    StorageError
        A file cannot be read.
    """
    for info in known_manifest().models.values():
        if info.format == "wheel" or {file.role for file in info.files} != set(files):
            continue
        # The weights first: a size that does not fit ends the matter without any hashing.
        known = sorted(info.files, key=lambda file: file.size is None)
        if all(_is_known(Path(files[file.role]), file) for file in known):
            return info
    return None


def _is_known(path: Path, file: ModelFile) -> bool:
    if file.digests:
        with reading(path):
            if file.size not in (None, path.stat().st_size):
                return False
            algorithm, digest = file.digests[0]
            return digests_of(path, [algorithm])[algorithm] in (digest, *(form.sha256 for form in file.known_forms))
    # A text that travels with SphereCV, or the authors' form of it, whatever a checkout made of its line ends.
    forms = {form.sha256 for form in file.known_forms}
    if file.origin == "packaged" and (models_dir() / file.name).is_file():
        forms.add(_text_sha256(models_dir() / file.name))
    return _text_sha256(path) in forms


def _text_sha256(path: Path) -> str:
    with reading(path), path.open("rb") as stream:
        return hashlib.sha256(stream.read(_LONGEST_TEXT).replace(b"\r\n", b"\n")).hexdigest()


def _sha256(path: Path) -> str:
    with reading(path):
        return digests_of(path, ["sha256"])["sha256"]


def _file(path: str | os.PathLike[str]) -> Path:
    check_path("a model's file must be a path", path)
    found = Path(path)
    if found.is_dir():
        raise ModelFileError(f"{found} is a folder, not a model file")
    if not found.is_file():
        raise ModelFileError(f"{found}: no such file")
    return found
