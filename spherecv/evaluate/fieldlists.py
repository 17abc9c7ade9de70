"""Pair lists in forms of their own: CFP's folders of splits, and CALFW's two lines for a pair."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from spherecv.errors import DatasetError
from spherecv.evaluate.pairs import PairRow

_SIDES = {"FF": ("F", "F"), "FP": ("F", "P")}
_IN_DATA = re.compile(r"(?:.*/)?(\d{3}/(?:frontal|profile)/[^/]+)$")


def cfp_rows(folder: Path) -> Iterator[PairRow]:
    """Read a protocol of CFP (Sengupta et al. 2016): `Protocol/Split/FP` or `Protocol/Split/FF`.

    Parameters
    ----------
    folder : Path
        Holds a folder for each fold with `same.txt` and `diff.txt`, lines `i,j` of numbers in `Pair_list_F.txt` and
        `Pair_list_P.txt` (FF: twice the first), which lie two folders higher.

    Yields
    ------
    PairRow
        Images as `001/frontal/01.jpg`, which is also where the data set's `Data/Images` has them.

    Raises
    ------
    DatasetError
        A file is missing or a line is not of the form; the message names it.
    """
    sides = _SIDES.get(folder.name.upper())
    folds = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    if sides is None or not folds:
        raise DatasetError(f"{folder} is not a protocol of CFP: expected Split/FP or Split/FF with folders 01 to 10")
    lists = {side: _cfp_list(folder.parent.parent / f"Pair_list_{side}.txt") for side in dict.fromkeys(sides)}
    for fold in folds:
        for name, same in (("same.txt", True), ("diff.txt", False)):
            file = fold / name
            for line, text in _lines(file):
                yield _cfp_row(text, line, file, [lists[side] for side in sides], same, int(fold.name))


def is_two_line(fields: Sequence[Sequence[str]]) -> bool:
    """Whether the lines of a list are `IMAGE LABEL`, two for each pair, as in `pairs_CALFW.txt`."""
    rows = [row for row in fields if row]
    return bool(rows) and all(len(row) == 2 and row[1].isdigit() and not row[0].isdigit() for row in rows)


def two_line_rows(fields: Sequence[tuple[int, Sequence[str]]], source: str) -> Iterator[PairRow]:
    """Read a list of `IMAGE LABEL` lines, two for each pair: CALFW (Zheng et al. 2017) and CPLFW.

    Parameters
    ----------
    fields : sequence of (int, sequence of str)
        Numbers and words of the lines that hold any. The label is 0 for two people, and otherwise says that it is one.
    source : str

    Yields
    ------
    PairRow
        People are the images' names before their last `_`.

    Raises
    ------
    DatasetError
        An odd number of lines, or two labels that differ.
    """
    if len(fields) % 2:
        raise DatasetError(f"{source} has {len(fields)} lines: there must be two for each pair")
    for (line, one), (_, two) in zip(fields[::2], fields[1::2], strict=True):
        if one[1] != two[1]:
            raise DatasetError(f"{source}, line {line}: the two images of a pair have the labels {one[1]} and {two[1]}")
        yield PairRow(one[0], two[0], one[1] != "0", 0, None, line)


def _cfp_list(file: Path) -> dict[int, str]:
    found = {}
    for line, text in _lines(file):
        number, _, path = text.partition(" ")
        match = _IN_DATA.match(path.strip().replace("\\", "/"))
        if not number.isdigit() or match is None:
            raise DatasetError(f"{file}, line {line}: expected a number and .../001/frontal/01.jpg, but got {text!r}")
        found[int(number)] = match[1]
    return found


def _cfp_row(
    text: str, line: int, file: Path, lists: Sequence[dict[int, str]], same: bool, fold: int
) -> PairRow:
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 2 or not all(part.isdigit() for part in numbers):
        raise DatasetError(f"{file}, line {line}: expected two numbers with a comma, but got {text!r}")
    missing = next((part for part, table in zip(numbers, lists, strict=True) if int(part) not in table), None)
    if missing is not None:
        raise DatasetError(f"{file}, line {line}: image {missing} is not in the list of images")
    first, second = (table[int(part)] for part, table in zip(numbers, lists, strict=True))
    return PairRow(first, second, same, fold, (first.partition("/")[0], second.partition("/")[0]), line)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file") from None
    for line, row in enumerate(text.splitlines(), start=1):
        if row.strip():
            yield line, row.strip()
