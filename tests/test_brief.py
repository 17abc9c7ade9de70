"""Records shown by their reprs: a few lines, whatever they hold."""

from __future__ import annotations

import dataclasses
import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spherecv.brief import brief
from spherecv.facetable import FaceTable
from spherecv.records import Candidate, Face, Match
from spherecv.zoo import model_info

API = Path(__file__).resolve().parent.parent / "docs" / "api"
SCREEN = 24 * 80
MANY = re.compile(r"Array|Floats|tuple\[(?!float, )\S+, \.\.\.|dict\[|Mapping|list\[")


@dataclass
class _Record:
    numbers: np.ndarray
    name: str = ""
    parts: tuple[Any, ...] = ()
    hidden: int = field(default=1, repr=False)

    __repr__ = brief


def test_arrays_are_shown_by_their_shape_and_little_ones_as_they_are() -> None:
    assert repr(_Record(np.zeros((3, 512), np.float32))) == "_Record(numbers=<float32 of 3 x 512>)"
    assert repr(_Record(np.array([1, 2]), "a")) == "_Record(numbers=[1, 2], name='a')"


def test_what_is_long_is_shortened_and_records_within_records_are_shown() -> None:
    shown = repr(_Record(np.zeros(9), "x" * 1000, tuple(_Record(np.zeros(9), str(one)) for one in range(1000))))
    assert len(shown) < 600
    assert "_Record(numbers=<float64 of 9>, name='3'), ..." in shown
    assert "xxx...xxx" in shown


def test_a_record_that_holds_itself_ends() -> None:
    one = _Record(np.zeros(9))
    one.parts = (one,)
    assert "_Record(...)" in repr(one)


def test_what_a_gallery_answers_fits_a_screen() -> None:
    near = tuple(Candidate(f"Person {one}", one / 7, 1 - one / 7, "/long" * 40, (1.5, 2, 3, 4)) for one in range(50))
    shown = repr(Match("Person 0", near, 0.5, "cosine", Face((1, 2, 3, 4)), 1e-3, "measured on " + "pairs " * 60))
    assert len(shown) < SCREEN
    assert shown.startswith("Match(identity='Person 0', candidates=(Candidate(identity='Person 0', distance=0, ")


def test_a_table_of_many_faces_and_a_model_fit_a_screen() -> None:
    paths = tuple(f"folder/{one}.jpg" for one in range(1000))
    table = FaceTable(paths=paths, embeddings=np.zeros((1000, 128), np.float32))
    assert "embeddings=<float32 of 1000 x 128>" in repr(table)
    assert len(repr(table)) < SCREEN / 4
    assert len(repr(model_info("sface"))) < SCREEN


def public_records() -> list[type]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in API.glob("*.md"))
    found = {}
    for name in re.findall(r"public names of (spherecv[\w.]*)", text):
        module = importlib.import_module(name)
        for one in getattr(module, "__all__", dir(module)):
            value = getattr(module, one, None)
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                found[f"{value.__module__}.{one}"] = value
    return [found[name] for name in sorted(found)]


def many_values(record: type) -> list[str]:
    return [one.name for one in dataclasses.fields(record) if one.repr and MANY.search(str(one.type))]


def own_repr(record: type) -> bool:
    source = Path(importlib.import_module(record.__module__).__file__ or "").read_text(encoding="utf-8")
    body = re.search(rf"^class {record.__name__}\b.*?(?=^\S|\Z)", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    return re.search(r"^    (?:def )?__repr__\b", body[0], re.MULTILINE) is not None


def test_public_records_of_many_values_have_a_repr_of_their_own() -> None:
    for package in ("array_api_compat", "fastapi"):  # of extras whose records are public, too
        pytest.importorskip(package)
    records = public_records()
    assert len(records) > 30
    assert not [record for record in records if many_values(record) and not own_repr(record)]
