from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.facetable import FaceRows, FaceTable, read_embeddings, write_embeddings
from spherecv.records import Face, Fingerprint

MADE_BY = Fingerprint("net", "0123-abc", "mtcnn")
LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)


def face(seed: int, quality: float | None = 0.5, landmarks: object = LANDMARKS) -> Face:
    return Face(box=(seed, 0, seed + 10, 20), score=0.5, quality=quality, landmarks=landmarks)


def fill(rows: FaceRows) -> FaceRows:
    for seed in range(5):
        lacks = None if seed == 3 else LANDMARKS[:2] if seed == 1 else LANDMARKS
        found = None if seed == 4 else face(seed, None if seed == 2 else 0.5, lacks)
        rows.add(Path(f"ö{seed}.jpg"), np.full(8, seed, np.float32), found)
    return rows


def assert_filled(table: FaceTable) -> None:
    assert len(table) == 5
    assert table.paths[4] == "ö4.jpg"
    assert table.embeddings.dtype == np.float32
    assert table.embeddings[:, 7].tolist() == [0, 1, 2, 3, 4]
    assert table.boxes[3].tolist() == [3, 0, 13, 20]
    assert np.isnan(table.boxes).any(axis=1).tolist() == [False] * 4 + [True]
    assert np.isnan(table.scores).tolist() == [False] * 4 + [True]
    assert np.isnan(table.qualities).tolist() == [False, False, True, False, True]
    np.testing.assert_array_equal(table.landmarks[0], LANDMARKS)
    np.testing.assert_array_equal(table.landmarks[1, :2], LANDMARKS[:2])
    assert np.isnan(table.landmarks).sum(axis=(1, 2)).tolist() == [0, 6, 0, 10, 10]


def test_rows_become_columns() -> None:
    assert_filled(fill(FaceRows()).table())
    empty = FaceRows().table(7)
    assert (empty.embeddings.shape, empty.boxes.shape, empty.landmarks.shape) == ((0, 7), (0, 4), (0, 5, 2))


def test_what_was_written_is_read_again_by_numpy_too(tmp_path: Path) -> None:
    with write_embeddings(tmp_path / "out.npz", MADE_BY) as writer:
        assert len(fill(writer)) == 5
    table, made_by = read_embeddings(tmp_path / "out.npz")
    assert_filled(table)
    assert made_by == MADE_BY
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["embeddings"], table.embeddings)
        assert (str(saved["model"]), str(saved["recipe"]), str(saved["key"])) == ("net", "abc", "0123-abc")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_a_file_of_earlier_versions_names_the_recipe(tmp_path: Path) -> None:
    table = fill(FaceRows()).table()
    columns = {"embeddings": table.embeddings, "boxes": table.boxes, "scores": table.scores}
    columns |= {"paths": np.array(table.paths), "qualities": table.qualities}
    np.savez(tmp_path / "old.npz", **columns, model=np.array("net"), recipe=np.array("abc"))
    read, made_by = read_embeddings(tmp_path / "old.npz")
    assert made_by == Fingerprint("net", "-abc", "")
    np.testing.assert_array_equal(read.boxes, table.boxes)
    assert np.isnan(read.landmarks).all()


def test_nothing_is_written_when_the_work_fails(tmp_path: Path) -> None:
    def broken() -> None:
        with write_embeddings(tmp_path / "out.npz", MADE_BY) as writer:
            fill(writer)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_no_face_at_all_is_an_empty_table(tmp_path: Path) -> None:
    with write_embeddings(tmp_path / "out.npz", MADE_BY):
        pass
    table, _ = read_embeddings(tmp_path / "out.npz")
    assert (table.embeddings.shape, table.boxes.shape) == ((0, 0), (0, 4))


def test_tables_are_cut_and_put_together() -> None:
    table = fill(FaceRows()).table()
    assert_filled(table.take(np.arange(2)).followed_by(table.take(np.arange(2, 5))))
    nothing = table.take(np.array([], np.intp))
    assert_filled(nothing.followed_by(table))
    assert_filled(table.followed_by(FaceRows().table()))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embeddings": np.zeros((2, 8))}, r"embeddings must have shape \(3, D\), a row for each path"),
        ({"embeddings": np.zeros(3)}, "embeddings must have shape"),
        ({"boxes": np.zeros((3, 5))}, r"boxes must have shape \(3, 4\), but got \(3, 5\)"),
        ({"scores": np.zeros(2)}, r"scores must have shape \(3,\)"),
        ({"landmarks": np.zeros((3, 2, 2))}, r"landmarks must have shape \(3, 5, 2\)"),
    ],
)
def test_columns_that_do_not_fit(columns, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        FaceTable(**{"paths": ("a", "b", "c"), "embeddings": np.zeros((3, 8)), **columns})


def test_files_that_are_no_embeddings(tmp_path: Path) -> None:
    with write_embeddings(tmp_path / "out.npz", MADE_BY) as writer:
        fill(writer)
    whole = (tmp_path / "out.npz").read_bytes()
    np.savez(tmp_path / "other.npz", embeddings=np.ones((3, 4)))
    np.savez(tmp_path / "short.npz", embeddings=np.ones((3, 4)), paths=np.array(["a"]), recipe="r", model="m")
    (tmp_path / "text.npz").write_bytes(b"no zip")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("other", "short", "text", "cut"):
        with pytest.raises(DatasetError, match=rf"{name}\.npz cannot be read as embeddings"):
            read_embeddings(tmp_path / f"{name}.npz")
    with pytest.raises(DatasetError, match="no such file"):
        read_embeddings(tmp_path / "missing.npz")
