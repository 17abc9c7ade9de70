"""Strict reading of a manifest's entries: unknown and missing words are errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

from spherecv.checks import Metric
from spherecv.errors import InvalidArgumentError
from spherecv.zoo.model import (
    Format,
    IndexSource,
    Kind,
    KnownClustering,
    KnownForm,
    KnownPrecision,
    KnownProbability,
    KnownThreshold,
    ModelFile,
    ModelInfo,
    Shift,
)
from spherecv.zoo.probability import ProbabilityCurve
from spherecv.zoo.recipe import Recipe

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""A model's name, which becomes the name of a folder: nothing that could leave it."""
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96}
_ROLES = {"caffe": {"prototxt", "caffemodel"}, "onnx": {"onnx"}}
_MISSING: Any = object()

T = TypeVar("T")


class EntryError(Exception):
    """Something in the manifest that cannot be; becomes a ModelFileError with the path before it."""


class _Entry:
    """A table of the manifest that is read key by key, and complains of keys that nobody asked for."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise EntryError(f"{where} must be a table")
        self._values = dict(values)
        self.where = where

    def take(self, key: str, kind: type[T] | tuple[type[T], ...], default: T = _MISSING) -> T:
        value = self._values.pop(key, default)
        if value is _MISSING:
            raise EntryError(f"{self.where} needs {key}")
        # bool is an int to Python, and never meant as one here.
        if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise EntryError(f"{self.where}: {key} cannot be {value!r}")
        return value

    def choice(self, key: str, choices: Any) -> Any:
        value = self.take(key, str)
        if value not in get_args(choices):
            raise EntryError(f"{self.where}: {key} must be one of {', '.join(get_args(choices))}, but is {value!r}")
        return value

    def rate(self, key: str) -> float | None:
        value = self.take(key, (int, float), cast(Any, None))
        if value is None:
            return None
        if not 0 <= value <= 1:
            raise EntryError(f"{self.where}: {key} must lie within 0..1, but is {value}")
        return float(value)

    def done(self) -> None:
        if self._values:
            raise EntryError(f"{self.where} has no {', '.join(self._values)}")


def each(table: Mapping[str, Any], key: str, read: Callable[[str, Any], T]) -> dict[str, T]:
    """Read every entry of one part of the manifest; a part that is not there is empty."""
    entries = table.get(key, {})
    if not isinstance(entries, Mapping):
        raise EntryError(f"{key} must be a table")
    return {name: read(name, entry) for name, entry in entries.items()}


def read_model(name: str, values: Any, recipes: Mapping[str, Recipe]) -> ModelInfo:
    """Read one `[models.NAME]`, whose recipes must be among `recipes`.

    Raises
    ------
    EntryError
        Something is missing, of the wrong type, contradicts itself, or is not known.
    """
    if not NAME.fullmatch(name):
        raise EntryError(f"models.{name}: a name is made of a-z, 0-9, dot and dash")
    entry = _Entry(values, f"models.{name}")
    model_format = entry.choice("format", Format)
    files = [_read_file(item, f"models.{name}.files[{i}]") for i, item in enumerate(entry.take("files", list))]
    roles = [file.role for file in files]
    if not files or len(set(roles)) < len(roles) or set(roles) != _ROLES.get(model_format, set(roles)):
        raise EntryError(f"models.{name}: a {model_format} model cannot have the files {', '.join(roles) or '(none)'}")
    recipe = entry.take("recipe", str, cast(Any, None))
    kind = entry.choice("kind", Kind)
    if model_format == "wheel" and kind == "embedder":
        raise EntryError(f"models.{name}: an embedder cannot be of the format wheel")
    if (recipe is None) is (kind == "embedder") or (recipe is not None and recipe not in recipes):
        raise EntryError(f"models.{name}: an embedder needs a recipe of [recipes], a detector none; not {recipe!r}")
    measured = entry.take("precisions", list, [])
    rows, curves = entry.take("thresholds", list, []), entry.take("probabilities", list, [])
    info = ModelInfo(
        name=name,
        title=entry.take("title", str),
        kind=kind,
        format=model_format,
        files=tuple(files),
        recipe=recipe,
        licence=entry.take("licence", str),
        terms=entry.take("terms", str),
        training_data=entry.take("training_data", str),
        homepage=entry.take("homepage", str),
        card=entry.take("card", str, ""),
        calibration=entry.take("calibration", str, ""),
        thresholds=tuple(_read_threshold(row, f"models.{name}.thresholds[{i}]", recipes) for i, row in enumerate(rows)),
        probabilities=tuple(
            _read_probability(row, f"models.{name}.probabilities[{i}]", recipes) for i, row in enumerate(curves)
        ),
        precisions=tuple(
            _read_precision(row, f"models.{name}.precisions[{i}]", recipes) for i, row in enumerate(measured)
        ),
        int8=entry.take("int8", str, ""),
        earlier=_read_earlier(entry),
        clustering=tuple(
            _read_clustering(row, f"models.{name}.clustering[{i}]", recipes)
            for i, row in enumerate(entry.take("clustering", list, []))
        ),
    )
    entry.done()
    return info


def _read_earlier(entry: _Entry) -> tuple[str, ...]:
    keys = entry.take("earlier", list, [])
    if not all(isinstance(key, str) and re.fullmatch(r"[0-9a-f]{16}", key) for key in keys):
        raise EntryError(f"{entry.where}: earlier must list keys of 16 hexadecimal digits, but is {keys!r}")
    return tuple(keys)


def _read_file(values: Any, where: str) -> ModelFile:
    entry = _Entry(values, where)
    urls = entry.take("urls", list, [])
    if not all(isinstance(url, str) and urlsplit(url).scheme in ("http", "https") for url in urls):
        raise EntryError(f"{where}: urls must be http or https, but are {urls!r}")
    wheel, packaged = entry.take("wheel", str, ""), entry.take("packaged", bool, False)
    own = entry.take("own", bool, False)
    index = _read_index(entry.take("index", dict), f"{where}.index") if "index" in values else None
    if [bool(urls or index), bool(wheel), packaged, own].count(True) != 1:
        raise EntryError(f"{where} needs either urls or index, or wheel, or packaged = true, or own = true")
    digests = tuple((name, entry.take(name, str).lower()) for name in _DIGEST_LENGTHS if name in values)
    for algorithm, digest in digests:
        if not re.fullmatch(rf"[0-9a-f]{{{_DIGEST_LENGTHS[algorithm]}}}", digest):
            raise EntryError(f"{where}: {algorithm} must be {_DIGEST_LENGTHS[algorithm]} hexadecimal digits")
    name, size = entry.take("name", str), entry.take("size", int, cast(Any, None))
    if not name or name.startswith("/") or not set(name.split("/")).isdisjoint({"", ".", ".."}) or "\\" in name:
        raise EntryError(f"{where}: {name!r} is not a plain file name")
    if not packaged and (size is None or size < 1 or not digests):
        raise EntryError(f"{where} needs size, and sha256 or sha384")
    forms = entry.take("known_forms", list, [])
    file = ModelFile(
        role=entry.take("role", str),
        name=name,
        origin="wheel" if wheel else "packaged" if packaged else "own" if own else "download",
        urls=tuple(urls),
        index=index,
        size=size,
        digests=digests,
        manual=entry.take("manual", str, ""),
        wheel=wheel,
        version=entry.take("version", str, ""),
        identity=entry.take("identity", str, ""),
        known_forms=tuple(_read_form(form, f"{where}.known_forms[{i}]") for i, form in enumerate(forms)),
    )
    entry.done()
    return file


def _read_index(values: Any, where: str) -> IndexSource:
    entry = _Entry(values, where)
    source = IndexSource(
        package=entry.take("package", str),
        version=entry.take("version", str),
        sha256=entry.take("sha256", str).lower(),
        path=entry.take("path", str),
    )
    entry.done()
    # Package and version become a line of requirements: nothing in them that pip could take for an option.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", source.package) or not re.fullmatch(
        r"[0-9][A-Za-z0-9.+!]*", source.version
    ):
        raise EntryError(f"{where}: {source.package!r} {source.version!r} is not a package and its version")
    if not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise EntryError(f"{where}: sha256 must be 64 hexadecimal digits")
    return source


def _read_form(values: Any, where: str) -> KnownForm:
    entry = _Entry(values, where)
    form = KnownForm(sha256=entry.take("sha256", str).lower(), source=entry.take("source", str))
    if not re.fullmatch(r"[0-9a-f]{64}", form.sha256):
        raise EntryError(f"{where}: sha256 must be 64 hexadecimal digits")
    entry.done()
    return form


def _read_threshold(values: Any, where: str, recipes: Mapping[str, Recipe]) -> KnownThreshold:
    entry = _Entry(values, where)
    threshold = entry.take("threshold", (int, float))
    if not (math.isfinite(threshold) and threshold > 0):
        raise EntryError(f"{where}: threshold must be a positive distance, but is {threshold}")
    far = entry.rate("far")
    if (entry.take("chosen_for", str, "far") == "best accuracy") is not (far is None):
        raise EntryError(f"{where} needs either far or chosen_for = 'best accuracy'")
    recipe = _recipe_name(entry, recipes)
    interval = entry.take("interval", list, cast(Any, None))
    if interval is not None and not _is_interval(interval):
        raise EntryError(f"{where}: interval must be [low, high] within 0..1, but is {interval!r}")
    row = KnownThreshold(
        metric=cast(Metric, entry.choice("metric", Metric)),
        threshold=float(threshold),
        far=far,
        dataset=entry.take("dataset", str),
        pairs=entry.take("pairs", int),
        detector=entry.take("detector", str),
        recipe=recipe,
        fingerprint=entry.take("fingerprint", str),
        rate=entry.rate("rate"),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        measured_far=entry.rate("measured_far"),
        reproduced=entry.take("reproduced", bool),
        source=entry.take("source", str),
    )
    entry.done()
    return row


def _provenance(entry: _Entry, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """What a row was measured on and with, and by whom."""
    return {
        "dataset": entry.take("dataset", str),
        "detector": entry.take("detector", str),
        "recipe": _recipe_name(entry, recipes),
        "fingerprint": entry.take("fingerprint", str),
        "source": entry.take("source", str),
    }


def _read_clustering(values: Any, where: str, recipes: Mapping[str, Recipe]) -> KnownClustering:
    entry = _Entry(values, where)
    distance = entry.take("distance", (int, float))
    precision, recall = entry.rate("precision"), entry.rate("recall")
    if not (math.isfinite(distance) and distance > 0) or precision is None or recall is None:
        raise EntryError(f"{where} needs a positive distance, a precision and a recall")
    row = KnownClustering(
        metric=cast(Metric, entry.choice("metric", Metric)),
        distance=float(distance),
        precision=precision,
        recall=recall,
        faces=entry.take("faces", int),
        people=entry.take("people", int),
        **_provenance(entry, recipes),
    )
    entry.done()
    return row


def _read_probability(values: Any, where: str, recipes: Mapping[str, Recipe]) -> KnownProbability:
    entry = _Entry(values, where)
    distances, log_ratios = entry.take("distances", list), entry.take("log_ratios", list)
    try:
        curve = ProbabilityCurve(
            method=entry.choice("method", Literal["logistic", "isotonic"]),
            distances=tuple(map(float, distances)),
            log_ratios=tuple(map(float, log_ratios)),
            ece=entry.take("ece", dict),
        )
    except (InvalidArgumentError, TypeError, ValueError) as error:
        raise EntryError(f"{where}: {error}") from None
    row = KnownProbability(
        metric=cast(Metric, entry.choice("metric", Metric)),
        curve=curve,
        pairs=entry.take("pairs", int),
        **_provenance(entry, recipes),
    )
    entry.done()
    return row


def _read_precision(values: Any, where: str, recipes: Mapping[str, Recipe]) -> KnownPrecision:
    entry = _Entry(values, where)
    shifts = []
    for number, given in enumerate(entry.take("shifts", list)):
        shift = _Entry(given, f"{where}.shifts[{number}]")
        metric, threshold = shift.choice("metric", Metric), shift.take("threshold", (int, float))
        rates = {name: shift.take(name, (int, float)) for name in ("far", "measured", "mixed")}
        if not all(0 <= rate <= 1 for rate in rates.values()):
            raise EntryError(f"{shift.where}: rates must lie within 0..1, but are {list(rates.values())}")
        shifts.append(Shift(metric=cast(Metric, metric), threshold=float(threshold), **rates))
        shift.done()
    row = KnownPrecision(
        precision=entry.choice("precision", Literal["bfloat16", "int8"]),
        backends=tuple(entry.take("backends", list)),
        accuracy=_two_shares(entry, "accuracy"),
        tar=_two_shares(entry, "tar"),
        cosine=_two_shares(entry, "cosine"),
        shifts=tuple(shifts),
        **_provenance(entry, recipes),
    )
    entry.done()
    return row


def _two_shares(entry: _Entry, key: str) -> tuple[float, float]:
    given = entry.take(key, list)
    if len(given) != 2 or not all(isinstance(share, int | float) and -1 <= share <= 1 for share in given):
        raise EntryError(f"{entry.where}: {key} must be two numbers within -1..1, but is {given!r}")
    return float(given[0]), float(given[1])


def _recipe_name(entry: _Entry, recipes: Mapping[str, Recipe]) -> str:
    name = entry.take("recipe", str)
    if name not in recipes:
        raise EntryError(f"{entry.where}: no recipe is called {name!r}")
    return name


def _is_interval(ends: list[Any]) -> bool:
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
        return False
    return bool(0 <= ends[0] <= ends[1] <= 1)
