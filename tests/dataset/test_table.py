from __future__ import annotations

import csv

import pytest

from spherecv.dataset.table import Journal, TableRow, check_table, write_table
from spherecv.errors import DatasetError, InvalidArgumentError, StorageError

POINTS = [[1.0, 2.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0], [3.0, 4.5]]
ROWS = [
    TableRow("a/1.jpg", "a/1.jpg", "ok", "", 2, 0.99, [0.0, 1.0, 2.0, 3.0], POINTS),
    TableRow('b/"x",2.jpg', None, "failed", "broken, and\nmore"),
]


def test_csv_and_parquet_hold_the_same(tmp_path) -> None:
    from pyarrow import parquet
    write_table(tmp_path / "t.csv", ROWS)
    write_table(tmp_path / "t.parquet", ROWS)
    with (tmp_path / "t.csv").open(newline="") as stream:
        text = list(csv.DictReader(stream))
    table = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert list(table[0]) == list(text[0])
    assert [row["path"] for row in table] == [row["path"] for row in text] == ["a/1.jpg", 'b/"x",2.jpg']
    assert (text[0]["mouth_right_y"], table[0]["mouth_right_y"]) == ("4.5", 4.5)
    assert (text[1]["score"], table[1]["score"]) == ("", None)
    assert text[1]["reason"] == "broken, and\nmore"


def test_another_form_is_refused_before_any_work(tmp_path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"\.csv or \.parquet"):
        check_table(tmp_path / "t.xlsx")


def test_a_journal_goes_on_behind_its_last_whole_line(tmp_path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, {"size": 1})
    for row in ROWS:
        journal.add(row)
    journal.close()
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 20, whole.rfind(b"\n", 0, -1) + 1):
        path.write_bytes(whole[:cut])
        again = Journal(path, {"size": 1})
        assert list(again.rows(again.states)) == ROWS[:1]
        again.add(ROWS[1])
        again.close()
        assert path.read_bytes() == whole


def test_a_journal_cut_in_its_first_line_starts_anew(tmp_path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"settings": {"si')
    journal = Journal(path, {"size": 1})
    journal.add(ROWS[0])
    journal.close()
    again = Journal(path, {"size": 1})
    again.close()
    assert list(again.states) == ["a/1.jpg"]


def test_a_journal_of_other_settings_is_refused(tmp_path) -> None:
    Journal(tmp_path / "j.jsonl", {"size": 1}).close()
    with pytest.raises(DatasetError, match="other settings"):
        Journal(tmp_path / "j.jsonl", {"size": 2})


def test_a_folder_that_is_a_file_cannot_hold_a_journal(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "file" / "j.jsonl", {})
