"""False match rates by group."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.blocks import similarity_blocks, unit_rows
from spherecv.evaluate.curves import FloatArray
from spherecv.evaluate.shares import group_interval

_PROBES = 2048
_MOST_VALUES = 10
_AGES = (0, 10, 20, 30, 40, 50, 60, 70)


@dataclass(frozen=True, eq=False)
class GroupRates:
    """How often two different people pass for one, within groups and between them.

    Attributes
    ----------
    column : str
        What the groups are.
    names : tuple of str
    threshold : float
        The largest cosine distance accepted.
    pairs, false_matches : ndarray of int, shape (G, G)
        Impostor pairs compared and accepted; symmetric.
    rates, low, high : ndarray of float64, shape (G, G)
        Share accepted, 0..1, and its 95 % interval, people resampled; NaN without pairs.
    notes : tuple of str
    """

    column: str
    names: tuple[str, ...]
    threshold: float
    pairs: NDArray[np.int64]
    false_matches: NDArray[np.int64]
    rates: FloatArray
    low: FloatArray
    high: FloatArray
    notes: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def ratio(self) -> float:
        """Worst false match rate within a group over the geometric mean of the groups'; NaN where one is 0."""
        return worst_over_mean(np.diag(self.rates))

    def to_dict(self) -> dict[str, Any]:
        """The rates as plain Python values, ready for JSON."""
        return {
            "column": self.column,
            "groups": list(self.names),
            "threshold": self.threshold,
            "pairs": self.pairs.tolist(),
            "false_matches": self.false_matches.tolist(),
            "rates": [[None if np.isnan(rate) else float(rate) for rate in row] for row in self.rates],
            "intervals": [
                [None if np.isnan(a) else [float(a), float(b)] for a, b in zip(*row, strict=True)]
                for row in zip(self.low, self.high, strict=True)
            ],
            "fmr_worst_over_geometric_mean": None if np.isnan(self.ratio) else self.ratio,
            "notes": list(self.notes),
        }


def false_match_rates(
    embeddings: ArrayLike,
    groups: Sequence[str],
    threshold: float,
    *,
    identities: ArrayLike | None = None,
    column: str = "group",
    replicates: int = 300,
    seed: int = 0,
) -> GroupRates:
    """Compare everyone with everyone, and count by group who passes for whom.

    Parameters
    ----------
    embeddings : array_like of float, shape (N, D)
    groups : sequence of str, length N
    threshold : float
        The largest cosine distance accepted.
    identities : array_like, shape (N,), optional
        Who is who; by default every image is of another person.
    column : str
        What the groups are, for titles.
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    GroupRates

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or values that are not finite.
    NotEnoughDataError
        Fewer than two people.
    """
    rows = unit_rows(np.asarray(embeddings))
    names, member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    people = np.arange(len(rows)) if identities is None else np.unique(np.asarray(identities), return_inverse=True)[1]
    if len(member) != len(rows) or people.shape != (len(rows),):
        raise InvalidArgumentError(f"groups and identities must have one entry for each of the {len(rows)} embeddings")
    if len(rows) < 2 or people.max() == 0:
        raise NotEnoughDataError("false match rates need at least two people")
    first, second = _matches(rows, people, threshold)
    pairs, false, rates, low, high = (np.zeros((len(names), len(names))) for _ in range(5))
    for a in range(len(names)):
        for b in range(a, len(names)):
            inside = ((member[first] == a) & (member[second] == b)) | ((member[first] == b) & (member[second] == a))
            count = _pairs(people, member, a, b)
            accepted = np.stack([people[first[inside]], people[second[inside]]], axis=1)
            span = group_interval(
                accepted, people[member == a], people[member == b], same=a == b, replicates=replicates, seed=seed
            )
            rate = len(accepted) / count if count else np.nan
            values = (count, len(accepted), rate, *span)
            for table, value in zip((pairs, false, rates, low, high), values, strict=True):
                table[a, b] = table[b, a] = value
    notes = () if identities is not None else ("every image counts as another person",)
    return GroupRates(
        column,
        tuple(names.tolist()),
        threshold,
        pairs.astype(np.int64),
        false.astype(np.int64),
        rates,
        low,
        high,
        notes,
    )


def worst_over_mean(rates: ArrayLike) -> float:
    """Largest rate over the geometric mean of all (NIST IR 8429): 1 is even.

    Parameters
    ----------
    rates : array_like of float, shape (G,)
        NaN, of groups without pairs, are passed over.

    Returns
    -------
    float
        From 1 on; NaN without rates, or where one is 0: its true value is not known, only that it is small.
    """
    values = np.asarray(rates, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values) or values.min() <= 0:
        return float("nan")
    return float(values.max() / np.exp(np.log(values).mean()))


def csv_rows(file: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV table with a header; DatasetError where it cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is not a CSV table: {error}") from None


def read_groups(path: str | os.PathLike[str], columns: Sequence[str] = ()) -> tuple[list[str], dict[str, list[str]]]:
    """Read a table that says to which groups the people on images belong.

    Parameters
    ----------
    path : path
        CSV with a header; its first column, or one called `file` or `path`, names the images.
    columns : sequence of str
        The columns to group by; by default those with two to ten values, and `age`.

    Returns
    -------
    files : list of str
    groups : dict of str to list of str
        By column; numbers with many values fall into tens, and empty cells stay empty.

    Raises
    ------
    DatasetError
        The table cannot be read, has no such column, or none to group by.
    """
    file = Path(path)
    table = csv_rows(file)
    if not table:
        raise DatasetError(f"{file} holds no rows")
    header = [name for name in table[0] if name]
    key = next((name for name in ("file", "path", "image") if name in header), header[0])
    missing = [name for name in columns if name not in header]
    if missing:
        raise DatasetError(f"{file} has no column {missing[0]}: it has {', '.join(header)}")
    wanted = columns or [name for name in header if name != key and _groups_well([str(row[name]) for row in table])]
    if not wanted:
        raise DatasetError(f"{file} has no column to group by: name some with at most {_MOST_VALUES} values")
    return [str(row[key]) for row in table], {name: _grouped([str(row[name]) for row in table]) for name in wanted}


def _groups_well(values: Sequence[str]) -> bool:
    return 2 <= len(set(_grouped(values)) - {""}) <= _MOST_VALUES


def _grouped(values: Sequence[str]) -> list[str]:
    if len(set(values)) <= _MOST_VALUES or not all(value.isdigit() for value in values if value):
        return list(values)
    names = [f"{low}-{high - 1}" for low, high in pairwise(_AGES)] + [f"{_AGES[-1]}+"]
    return [names[int(np.searchsorted(_AGES, int(value), side="right")) - 1] if value else "" for value in values]


def _matches(
    rows: NDArray[np.float32], people: NDArray[np.intp], threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the impostor pairs that are accepted, each once."""
    found: list[NDArray[np.intp]] = []
    for start in range(0, len(rows), _PROBES):
        mine = np.arange(start, min(start + _PROBES, len(rows)))
        for where, block in similarity_blocks(rows[mine], rows[start:], normalized=True):
            near = np.argwhere(block >= np.float32(1.0 - threshold)) + np.array([start, where.start + start])
            later = (near[:, 0] < near[:, 1]) & (people[near[:, 0]] != people[near[:, 1]])
            found.append(near[later])
    both = np.concatenate(found)
    return both[:, 0], both[:, 1]


def _pairs(people: NDArray[np.intp], member: NDArray[np.intp], a: int, b: int) -> int:
    """Pairs of different people, one of group a and one of group b."""
    size = int(people.max()) + 1
    first, second = (np.bincount(people[member == group], minlength=size).astype(np.int64) for group in (a, b))
    mixed = int(first.sum()) * int(second.sum()) - int((first * second).sum())
    return mixed // 2 if a == b else mixed
