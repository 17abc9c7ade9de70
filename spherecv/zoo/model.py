"""Manifest records: models, files, thresholds and probabilities with their provenance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from spherecv.brief import brief
from spherecv.checks import Metric
from spherecv.zoo.probability import ProbabilityCurve

Kind = Literal["embedder", "detector"]
Format = Literal["caffe", "onnx", "wheel"]
Origin = Literal["download", "packaged", "wheel", "own"]
MOST_LOST = (0.001, 0.003)
"""Accuracy and TAR at FAR 1e-3, as shares, that "auto" gives away for speed."""
LEAST_RATE = 1e-4
"""Rates below it rest on too few false accepts to say that they moved."""
MOST_MOVED = 0.1


@dataclass(frozen=True, kw_only=True)
class KnownForm:
    """Another file that holds the same thing as a `ModelFile`, such as its authors' own prototxt.

    Attributes
    ----------
    sha256 : str
        Its SHA-256.
    source : str
        Where it is.
    """

    sha256: str
    source: str


@dataclass(frozen=True, kw_only=True)
class IndexSource:
    """A package that holds a file, where a package index can be reached and nothing else.

    Attributes
    ----------
    package, version : str
        What is asked of the index.
    sha256 : str
        Of the archive: a wheel.
    path : str
        Of the file inside the archive.
    """

    package: str
    version: str
    sha256: str
    path: str

    def __str__(self) -> str:
        return f"the package index: {self.package} {self.version}, {self.path}"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One file of a model.

    Attributes
    ----------
    role : str
        What it is to the model: `prototxt`, `caffemodel`, `onnx`, or the name of a net.
    name : str
        Its file name in the cache, in `spherecv.models`, or its path inside the wheel's package.
    origin : {"download", "packaged", "wheel", "own"}
        Fetched from `urls` or `index` into the cache; travels with SphereCV; belongs to the installed package `wheel`;
        or added by the user.
    urls : tuple of str
        Mirrors, tried in turn.
    index : IndexSource or None
        A package that holds the file too; asked after the first of `urls`.
    size : int or None
        Bytes. Always known of a download.
    digests : tuple of (str, str)
        Algorithm and hexadecimal digest; all must hold. The first one names the file in keys.
    manual : str
        Where a person can get the file that a program cannot; empty if nowhere else.
    wheel, version : str
        Name and version of the Python package that carries the file; empty for other origins.
    known_forms : tuple of KnownForm
        Other files that stand for the same thing.
    identity : str
        What stands for the file in keys where its first digest does not: that of an earlier file whose embeddings were
        the same to the last bit, so that galleries and calibrations of it stay valid.
    """

    role: str
    name: str
    origin: Origin
    urls: tuple[str, ...] = ()
    index: IndexSource | None = None
    size: int | None = None
    digests: tuple[tuple[str, str], ...] = ()
    manual: str = ""
    wheel: str = ""
    version: str = ""
    known_forms: tuple[KnownForm, ...] = ()
    identity: str = ""

    __repr__ = brief


@dataclass(frozen=True, kw_only=True)
class KnownThreshold:
    """A threshold, and all that must be said of where it comes from.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
        The distance that it cuts: cosine distance is 1 - cosine similarity.
    threshold : float
        Two faces are of one person where the distance is at most this.
    far : float or None
        The false accept rate it was chosen for, 0..1; None for the best accuracy.
    dataset : str
        What it was measured on.
    pairs : int
        How many pairs that were: all of them for the best accuracy, the impostors for a rate.
    detector : str
        What found the faces.
    recipe, fingerprint : str
        Name and `Recipe.fingerprint` of the recipe that it belongs to.
    rate : float or None
        What was measured at the threshold, 0..1: the accuracy, or the false accept rate; None if nobody said.
    interval : (float, float) or None
        95 % interval of `rate`.
    measured_far : float or None
        The false accept rate at a threshold for best accuracy, 0..1; None if nobody said.
    reproduced : bool
        Whether this project measured it, or only passes it on.
    source : str
        Who measured it, and how to check.
    """

    metric: Metric
    threshold: float
    far: float | None
    dataset: str
    pairs: int
    detector: str
    recipe: str
    fingerprint: str
    rate: float | None
    interval: tuple[float, float] | None
    reproduced: bool
    source: str
    measured_far: float | None = None

    __repr__ = brief

    @property
    def chosen_for(self) -> str:
        """What the threshold was chosen for, in words."""
        return "best accuracy" if self.far is None else f"FAR {self.far:g}"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain Python values, ready for JSON."""
        return {**asdict(self), "chosen_for": self.chosen_for}


@dataclass(frozen=True, kw_only=True)
class KnownClustering:
    """A distance for grouping faces into people, chosen on some people and measured on others.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
    distance : float
        Faces at most so far apart are neighbours.
    precision, recall : float
        Over all pairs of faces: the share of pairs in one group that are of one person, and the share of pairs of one
        person that are in one group, 0..1.
    faces, people : int
        How many it was measured on.
    dataset : str
    detector : str
        What found the faces.
    recipe, fingerprint : str
        Name and `Recipe.fingerprint` of the recipe that it belongs to.
    source : str
        Who measured it, and how to check.
    """

    metric: Metric
    distance: float
    precision: float
    recall: float
    faces: int
    people: int
    dataset: str
    detector: str
    recipe: str
    fingerprint: str
    source: str

    __repr__ = brief

    @property
    def measured(self) -> str:
        """How well it groups people, in words."""
        return (
            f"precision {self.precision:.3f} (of pairs put together, those of one person) and recall "
            f"{self.recall:.3f} (of pairs of one person, those put together) over the pairs of {self.faces:,} faces of "
            f"{self.people:,} people ({self.dataset}; {self.source})"
        )


@dataclass(frozen=True, kw_only=True)
class KnownProbability:
    """A map from distance to probability, and where it comes from.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
    curve : ProbabilityCurve
    dataset : str
        What it was fitted on.
    pairs : int
        How many pairs that were, genuine and impostor.
    detector : str
        What found the faces.
    recipe, fingerprint : str
        Name and `Recipe.fingerprint` of the recipe that it belongs to.
    source : str
        Who fitted it, and how to check.
    """

    metric: Metric
    curve: ProbabilityCurve
    dataset: str
    pairs: int
    detector: str
    recipe: str
    fingerprint: str
    source: str

    __repr__ = brief


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What became of the false accept rate of a threshold in another precision.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
    threshold : float
        As in the model's thresholds.
    far, measured, mixed : float
        False accept rates, 0..1, on the same pairs: in float32; in the precision; of a probe in the precision against a
        gallery in float32.
    """

    metric: Metric
    threshold: float
    far: float
    measured: float
    mixed: float


@dataclass(frozen=True, kw_only=True)
class KnownPrecision:
    """What a model loses in a precision, as it was measured.

    Attributes
    ----------
    precision : {"bfloat16", "int8"}
    recipe, fingerprint : str
        Name and `Recipe.fingerprint` of the recipe that it was measured with.
    backends : tuple of str
        Where; of several, the worst figure of each kind is given.
    dataset : str
    detector : str
    accuracy : (float, float)
        Of the listed pairs, 0..1, in float32 and in this precision.
    tar : (float, float)
        The true accept rate at a false accept rate of 1e-3, 0..1, in float32 and in this precision.
    cosine : (float, float)
        Mean and least cosine similarity of an embedding to the one in float32.
    shifts : tuple of Shift
        For every threshold of the model with this recipe.
    source : str
        Who measured it, and how to check.
    """

    precision: Literal["bfloat16", "int8"]
    recipe: str
    fingerprint: str
    backends: tuple[str, ...]
    dataset: str
    detector: str
    accuracy: tuple[float, float]
    tar: tuple[float, float]
    cosine: tuple[float, float]
    shifts: tuple[Shift, ...]
    source: str

    __repr__ = brief

    @property
    def is_small(self) -> bool:
        """Whether "auto" may take it: at most 0.1 points of accuracy and 0.3 points of TAR lost."""
        lost = (self.accuracy[0] - self.accuracy[1], self.tar[0] - self.tar[1])
        return all(loss <= bound + 1e-9 for loss, bound in zip(lost, MOST_LOST, strict=True))

    @property
    def is_comparable(self) -> bool:
        """Whether its embeddings may be compared with those in float32.

        Where they were, no false accept rate of 1e-4 and more may have moved by more than a tenth of itself.
        """
        rows = [row for row in self.shifts if row.far >= LEAST_RATE]
        return bool(rows) and all(abs(row.mixed - row.far) <= MOST_MOVED * row.far for row in rows)

    def shift(self, metric: str, threshold: float) -> Shift | None:
        """What was measured at a threshold."""
        for row in self.shifts:
            if row.metric == metric and abs(row.threshold - threshold) < 1e-9:
                return row
        return None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One model of the manifest.

    Attributes
    ----------
    name, title : str
        What it is called on the command line, and for people.
    kind : {"embedder", "detector"}
        The stage that it serves.
    format : {"caffe", "onnx", "wheel"}
        What its files are; `wheel` is weights inside another Python package.
    files : tuple of ModelFile
        In the order of the manifest.
    recipe : str or None
        Name of the recipe that an embedder wants by default.
    licence, terms : str
        The licence of the files, and what a user must know beside it.
    training_data, homepage : str
        What it learned from, and where it comes from.
    card : str
        File name of its card in `spherecv.models`; empty if it has none.
    calibration : str
        Of a model of the user's own: the file name of its calibration; empty if it has none.
    thresholds : tuple of KnownThreshold
        In the order of the manifest.
    probabilities : tuple of KnownProbability
        At most one for each metric and recipe.
    precisions : tuple of KnownPrecision
        At most one for each precision and recipe.
    int8 : str
        File name in `spherecv.models` of the ranges that its int8 form is made by; empty if it has none.
    clustering : tuple of KnownClustering
        At most one for each metric and recipe.
    earlier : tuple of str
        Of editions that embed otherwise: what stood for their files in keys (`ModelKey.files`).
    """

    name: str
    title: str
    kind: Kind
    format: Format
    files: tuple[ModelFile, ...]
    recipe: str | None
    licence: str
    terms: str
    training_data: str
    homepage: str
    card: str = ""
    calibration: str = ""
    thresholds: tuple[KnownThreshold, ...] = ()
    probabilities: tuple[KnownProbability, ...] = ()
    precisions: tuple[KnownPrecision, ...] = ()
    int8: str = ""
    clustering: tuple[KnownClustering, ...] = ()
    earlier: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def size(self) -> int | None:
        """Bytes of the files whose size is stated, which are at least those to download; None if there are none."""
        return sum(file.size or 0 for file in self.files) or None

    def file(self, role: str) -> ModelFile:
        """The file with this role.

        Raises
        ------
        KeyError
            The model has none.
        """
        for file in self.files:
            if file.role == role:
                return file
        raise KeyError(role)

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain Python values, ready for JSON."""
        values = asdict(self)
        for file in values["files"]:
            file["digests"] = dict(file["digests"])
        values["size"] = self.size
        values["thresholds"] = [row.to_dict() for row in self.thresholds]
        return values
