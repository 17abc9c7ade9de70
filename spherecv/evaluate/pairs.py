"""Lists of image pairs: what they hold once read, checked, and found on the disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError
from spherecv.images import IMAGE_SUFFIXES


class PairRow(NamedTuple):
    """One pair as its file says it.

    Attributes
    ----------
    first, second : str
        Paths relative to the folder of images, with `/`; in the LFW form without a suffix.
    same : bool
    fold : int
        0 where the file knows no folds.
    people : tuple of two str, or None
        Who is in the pair, where the file or the form says so.
    line : int
        Where in the file, counted from 1.
    """

    first: str
    second: str
    same: bool
    fold: int
    people: tuple[str, str] | None
    line: int


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of images, each with its truth.

    Attributes
    ----------
    images : tuple of str
        Every image once: paths relative to a folder, with `/`.
    first, second : ndarray of int, shape (N,)
        Positions in `images`.
    same : ndarray of bool, shape (N,)
    folds : ndarray of int, shape (N,)
        All 0 where there are none.
    identities : ndarray of int, shape (images,)
        A number for each person.
    source : str
        The file.
    notes : tuple of str
        What a reader must know beside the numbers.
    """

    images: tuple[str, ...]
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    same: NDArray[np.bool_]
    folds: NDArray[np.intp]
    identities: NDArray[np.intp]
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.same)

    @property
    def people(self) -> NDArray[np.intp]:
        """Identities of each pair, shape (N, 2)."""
        return np.stack([self.identities[self.first], self.identities[self.second]], axis=1)

    def without(self, missing: Iterable[str]) -> PairList:
        """The pairs that need none of these images; the images themselves stay, so that positions hold."""
        gone = set(missing)
        lost = np.array([name in gone for name in self.images], dtype=np.bool_)
        return self.select(~(lost[self.first] | lost[self.second]))

    def select(self, chosen: NDArray[np.bool_]) -> PairList:
        """The pairs chosen by a mask of shape (N,)."""
        return replace(
            self,
            first=self.first[chosen],
            second=self.second[chosen],
            same=self.same[chosen],
            folds=self.folds[chosen],
        )


def make_pairs(rows: Sequence[PairRow], source: str, *, trust_labels: bool = False) -> PairList:
    """Check the pairs of a file and give every image and person a number.

    Where the file does not say who is who, images joined by genuine pairs are taken for one person.

    Parameters
    ----------
    rows : sequence of PairRow
    source : str
        What to call the file in messages.
    trust_labels : bool
        Believe a label that contradicts the people's names: for lists whose labels were corrected.

    Returns
    -------
    PairList
        Duplicates stay, as often as they are listed, with a note.

    Raises
    ------
    DatasetError
        No pairs, an image paired with itself, or pairs that contradict each other.
    """
    if not rows:
        raise DatasetError(f"{source} holds no pairs")
    seen: dict[frozenset[str], PairRow] = {}
    duplicates = 0
    for row in rows:
        if row.first == row.second:
            raise DatasetError(f"{source}, line {row.line}: {row.first} is paired with itself")
        known = seen.setdefault(frozenset((row.first, row.second)), row)
        if known.same != row.same:
            raise DatasetError(
                f"{source}, line {row.line}: {row.first} and {row.second} are "
                f"{'the same' if row.same else 'different people'}, but line {known.line} says otherwise"
            )
        duplicates += known is not row
    images = tuple(dict.fromkeys(name for row in rows for name in (row.first, row.second)))
    position = {name: i for i, name in enumerate(images)}
    notes = [f"{duplicates} pairs are listed more than once, and count as often"] if duplicates else []
    if any(row.people is None for row in rows):
        identities = _joined(rows, position, source)
        notes.append("the file does not name people: images joined by genuine pairs count as one person")
    else:
        identities = _named(rows, images, source, trust_labels)
    return PairList(
        images=images,
        first=np.array([position[row.first] for row in rows], dtype=np.intp),
        second=np.array([position[row.second] for row in rows], dtype=np.intp),
        same=np.array([row.same for row in rows], dtype=np.bool_),
        folds=np.array([row.fold for row in rows], dtype=np.intp),
        identities=identities,
        source=source,
        notes=tuple(notes),
    )


def find_pairs(pairs: PairList, folder: str | os.PathLike[str]) -> PairList:
    """Find the images of a list in a folder, whatever their suffix.

    Parameters
    ----------
    pairs : PairList
    folder : path

    Returns
    -------
    PairList
        With the images' real names.

    Raises
    ------
    DatasetError
        The folder, a person's folder, or an image is not there.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of images")
    listings: dict[str, dict[str, str]] = {}
    found: list[str] = []
    missing: list[str] = []
    for name in pairs.images:
        parent, _, file = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _listing(root / parent)
        actual = listings[parent].get(file)
        found.append(name if actual is None else f"{parent}/{actual}" if parent else actual)
        if actual is None:
            missing.append(name)
    if missing:
        raise DatasetError(_missing_text(missing, listings, root, pairs))
    return replace(pairs, images=tuple(found))


def _listing(folder: Path) -> dict[str, str]:
    """Names of a folder's images, by full name and by name without suffix."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES)
    except OSError:
        return {}
    return {**{name.rpartition(".")[0]: name for name in reversed(names)}, **{name: name for name in names}}


def _missing_text(missing: list[str], listings: dict[str, dict[str, str]], root: Path, pairs: PairList) -> str:
    unknown = [name for name in missing if not listings[name.rpartition("/")[0]]]
    example = (unknown or missing)[0]
    what = f"{root / example.rpartition('/')[0]} (no such folder, or no image in it)" if unknown else root / example
    return (
        f"{len(missing)} of the {len(pairs.images)} images of {pairs.source or 'the list'} are not in {root}: "
        f"the first is {what}"
    )


def _named(rows: Sequence[PairRow], images: Sequence[str], source: str, trust_labels: bool) -> NDArray[np.intp]:
    owner: dict[str, str] = {}
    for row in rows:
        first, second = row.people or ("", "")
        for name, person in ((row.first, first), (row.second, second)):
            if owner.setdefault(name, person) != person:
                raise DatasetError(f"{source}, line {row.line}: {name} is {person} here and {owner[name]} before")
        if (first == second) != row.same and not trust_labels:
            raise DatasetError(
                f"{source}, line {row.line}: the pair is said to be {'the same' if row.same else 'different people'}, "
                f"but names {first} and {second}"
            )
    numbers = {person: i for i, person in enumerate(dict.fromkeys(owner[name] for name in images))}
    return np.array([numbers[owner[name]] for name in images], dtype=np.intp)


def _joined(rows: Sequence[PairRow], position: dict[str, int], source: str) -> NDArray[np.intp]:
    links = np.array([(position[row.first], position[row.second]) for row in rows if row.same], dtype=np.intp)
    labels = linked(links, len(position))
    for row in rows:
        if not row.same and labels[position[row.first]] == labels[position[row.second]]:
            raise DatasetError(
                f"{source}, line {row.line}: {row.first} and {row.second} are different people, "
                "but genuine pairs of the list join them"
            )
    return labels


def linked(links: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Number the groups of `size` images that links of shape (L, 2) join, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = links.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def folder_pairs(folder: str | os.PathLike[str]) -> tuple[tuple[str, ...], NDArray[np.intp], tuple[str, ...]]:
    """List the images of an `identity/image` folder.

    Parameters
    ----------
    folder : path
        The first level of folders names the people; images may lie deeper.

    Returns
    -------
    images : tuple of str
        Relative to the folder, with `/`, sorted.
    identities : ndarray of int, shape (images,)
    names : tuple of str
        Of the identities.

    Raises
    ------
    DatasetError
        Images that lie in no identity's folder, or fewer than two identities.
    ImageError
        No such folder, or no images.
    """
    from spherecv.images import find_images

    root = Path(folder)
    if root.is_file():  # find_images takes it for a list
        raise DatasetError(f"{root} is a file: name a folder with a folder of images for each person")
    images = [path.relative_to(root).as_posix() for path in find_images(root)]
    loose = [name for name in images if "/" not in name]
    if loose:
        raise DatasetError(f"{root / loose[0]} lies in no person's folder: the images must be {root}/IDENTITY/IMAGE")
    people = Counter(name.partition("/")[0] for name in images)
    if len(people) < 2:
        raise DatasetError(f"{root} holds {len(people)} identity; there must be at least two")
    names = tuple(sorted(people))
    numbers = {name: i for i, name in enumerate(names)}
    identities = np.array([numbers[name.partition("/")[0]] for name in images], dtype=np.intp)
    return tuple(images), identities, names
