"""Readers of pair files: LFW's form, CSV, `path path label` lists, and the authors' pairs.mat."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spherecv.dataset.matlab import read_structure
from spherecv.errors import DatasetError
from spherecv.evaluate.fieldlists import cfp_rows, is_two_line, two_line_rows
from spherecv.evaluate.pairs import PairList, PairRow, make_pairs

_LABELS = {
    **dict.fromkeys(("1", "yes", "true", "same", "genuine", "y"), True),
    **dict.fromkeys(("0", "-1", "no", "false", "different", "impostor", "n"), False),
}
_FIRST = ("file_x", "first", "a", "img1", "image1", "path1", "left", "file1", "filel")
_SECOND = ("file_y", "second", "b", "img2", "image2", "path2", "right", "file2", "filer")
_LABEL = ("decision", "same", "label", "is_same", "issame", "genuine", "match", "flag")
_PEOPLE = (("identity1", "identity2"), ("identity_a", "identity_b"), ("person1", "person2"), ("id1", "id2"))


def read_pairs(path: str | os.PathLike[str], *, fold_size: int | None = None) -> PairList:
    """Read a list of pairs, by its form.

    Parameters
    ----------
    path : path
        `.csv` or `.tsv`: two columns of paths and one of labels (yes/no, 1/0, same/different, ...), with or without a
        header, and optionally the columns `fold`, `identity1` and `identity2`. `.mat`: the structure `pairs` with
        `fileL, fileR, fold, flag` that the SphereFace authors save. Anything else: LFW's `pairs.txt` and
        `pairsDev*.txt` (tabs), a `path path label` line each, or CALFW's two `IMAGE LABEL` lines for each pair. Of a
        folder: a protocol of CFP, as `Protocol/Split/FP`.
    fold_size : int, optional
        Pairs of a fold, in the order of the file, for files without folds of their own.

    Returns
    -------
    PairList

    Raises
    ------
    DatasetError
        The file cannot be read, a line is not a pair, the counts in LFW's first line do not hold, or the pairs
        contradict each other; the message names the line.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix == ".mat":
        rows = list(_matlab_rows(file))
    elif file.is_dir():
        rows = list(cfp_rows(file))
    else:
        lines = _read_lines(file)
        if suffix in (".csv", ".tsv"):
            rows = list(_table_rows(lines, "\t" if suffix == ".tsv" else ",", str(file)))
        elif _is_lfw(lines):
            rows = _lfw_rows(lines, str(file))
        elif is_two_line([_fields(line) for line in lines]):
            fields = [(number, words) for number, line in enumerate(lines, start=1) if (words := _fields(line))]
            rows = list(two_line_rows(fields, str(file)))
        else:
            rows = list(_path_rows(lines, str(file)))
    if fold_size is not None:
        rows = [row._replace(fold=i // fold_size + 1) for i, row in enumerate(rows)]
    return make_pairs(rows, str(file))


def lfw_image(person: str, number: int) -> str:
    """Path of an LFW image, without its suffix."""
    return f"{person}/{person}_{number:04d}"


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file of pairs") from None


def _fields(line: str) -> list[str]:
    return [part.strip() for part in line.split("\t")] if "\t" in line else line.split()


def _is_lfw(lines: Sequence[str]) -> bool:
    """LFW's form: its first line counts, or its pairs are `name n n` and `name n name n`."""
    first = next((line for line in lines if line.strip()), "")
    fields = _fields(first)
    if fields and len(fields) <= 2 and all(field.isdigit() for field in fields):
        return True
    return _lfw_row(fields, 0, 0) is not None


def _lfw_row(fields: Sequence[str], fold: int, line: int) -> PairRow | None:
    if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit() and not _looks_like_path(fields[0]):
        person, one, two = fields[0], int(fields[1]), int(fields[2])
        return PairRow(lfw_image(person, one), lfw_image(person, two), True, fold, (person, person), line)
    if len(fields) == 4 and fields[1].isdigit() and fields[3].isdigit():
        first, second = fields[0], fields[2]
        return PairRow(
            lfw_image(first, int(fields[1])), lfw_image(second, int(fields[3])), False, fold, (first, second), line
        )
    return None


def _looks_like_path(text: str) -> bool:
    return "/" in text or bool(re.search(r"\.[A-Za-z]{3,4}$", text))


def _lfw_rows(lines: Sequence[str], source: str) -> list[PairRow]:
    """Rows of LFW's form: view 2 begins with `folds pairs` and goes fold by fold, view 1 begins with `pairs` alone."""
    numbered = [(i, _fields(line)) for i, line in enumerate(lines, start=1) if line.strip()]
    head = [int(field) for field in numbered[0][1]] if len(numbered[0][1]) <= 2 else []
    body = numbered[1:] if head else numbered
    folds, each = (head[0], head[1]) if len(head) == 2 else (0, head[0] if head else 0)
    rows = []
    for i, (line, fields) in enumerate(body):
        row = _lfw_row(fields, i // (2 * each) + 1 if folds and each else 0, line)
        if row is None:
            raise DatasetError(f"{source}, line {line}: expected `name n n` or `name n name n`, but got {fields}")
        rows.append(row)
    wanted = 2 * each * max(folds, 1)
    if head and len(rows) != wanted:
        raise DatasetError(f"{source} announces {wanted} pairs in its first line, but holds {len(rows)}")
    matched = Counter(row.fold for row in rows if row.same)
    for fold in range(1, folds + 1):
        if matched[fold] != each:
            raise DatasetError(f"{source}: fold {fold} does not hold {each} matched and {each} mismatched pairs")
    return rows


def _table_rows(lines: Sequence[str], delimiter: str, source: str) -> Iterator[PairRow]:
    numbered = [(i, row) for i, row in enumerate(csv.reader(lines, delimiter=delimiter), start=1) if any(row)]
    if not numbered:
        raise DatasetError(f"{source} holds no pairs")
    header = [cell.strip().lower() for cell in numbered[0][1]]
    if len(header) < 3:
        raise DatasetError(f"{source}: a pair needs two paths and a label, but line 1 has {len(header)} columns")
    columns = {"first": 0, "second": 1, "label": 2}
    if header[2] in _LABELS and not {*header[:2]} & {*_FIRST, *_SECOND}:
        body = numbered
    else:
        body = numbered[1:]
        columns = {
            "first": _column(header, _FIRST, 0),
            "second": _column(header, _SECOND, 1),
            "label": _column(header, _LABEL, 2),
        }
        columns.update({"fold": header.index("fold")} if "fold" in header else {})
        for one, two in _PEOPLE:
            if one in header and two in header:
                columns.update(one=header.index(one), two=header.index(two))
    for line, row in body:
        yield _table_row(row, columns, line, source)


def _column(header: Sequence[str], names: Sequence[str], default: int) -> int:
    return next((header.index(name) for name in names if name in header), default)


def _table_row(row: Sequence[str], columns: Mapping[str, int], line: int, source: str) -> PairRow:
    if len(row) <= max(columns.values()):
        raise DatasetError(f"{source}, line {line}: expected at least {max(columns.values()) + 1} columns: {list(row)}")
    cells = {name: row[column].strip() for name, column in columns.items()}
    fold = cells.get("fold", "0")
    if not fold.isdigit():
        raise DatasetError(f"{source}, line {line}: fold must be a whole number, but got {fold!r}")
    people = (cells["one"], cells["two"]) if "one" in cells else None
    return PairRow(
        _clean(cells["first"]), _clean(cells["second"]), _label(cells["label"], line, source), int(fold), people, line
    )


def _path_rows(lines: Sequence[str], source: str) -> Iterator[PairRow]:
    for line, text in enumerate(lines, start=1):
        fields = _fields(text)
        if not fields or text.startswith("#"):
            continue
        if len(fields) != 3:
            raise DatasetError(f"{source}, line {line}: expected `path path label`, but got {text.strip()!r}")
        yield PairRow(_clean(fields[0]), _clean(fields[1]), _label(fields[2], line, source), 0, None, line)


def _label(text: str, line: int, source: str) -> bool:
    if text.lower() not in _LABELS:
        raise DatasetError(f"{source}, line {line}: a label must be yes or no, 1 or 0, same or different: {text!r}")
    return _LABELS[text.lower()]


def _clean(path: str) -> str:
    return re.sub(r"^(\./)+", "", path.replace("\\", "/"))


def _matlab_rows(file: Path) -> Iterator[PairRow]:
    """Rows of the authors' structure; of the paths the last two parts count: the rest is their machine's."""
    pairs = read_structure(file, "pairs", ("fileL", "fileR", "fold", "flag"))
    for line, row in enumerate(pairs, start=1):
        first, second = (_last_two(str(row[side])) for side in ("fileL", "fileR"))
        people = first.partition("/")[0], second.partition("/")[0]
        yield PairRow(first, second, int(row["flag"]) == 1, int(row["fold"]), people, line)


def _last_two(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])
