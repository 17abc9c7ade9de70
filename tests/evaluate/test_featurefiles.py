"""Files of features: by the header's definition, the devkit's lists, submissions; and the four groups of RFW."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import DatasetError
from spherecv.evaluate.croprun import combined
from spherecv.evaluate.featurefiles import gather_features, read_feature_list, read_features, write_features
from spherecv.evaluate.featureruns import read_listed, write_submission
from spherecv.evaluate.fieldsets import rfw_sets, spread


def feature_file(path: Path, values) -> Path:
    """What the field's scripts write: `struct.pack("4i", len(values), 1, 4, 5)` and the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("4i", len(values), 1, 4, 5) + struct.pack(f"{len(values)}f", *values))
    return path


@settings(deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 9))
def test_what_is_written_is_read(tmp_path_factory, rows: int, columns: int) -> None:
    file = tmp_path_factory.mktemp("features") / "a.bin"
    table = np.arange(rows * columns, dtype=np.float64).reshape(rows, columns) / 7
    write_features(file, table)
    np.testing.assert_array_equal(read_features(file), table.astype(np.float32))
    assert struct.unpack("4i", file.read_bytes()[:16]) == (rows, columns, 4 * columns, 5)


def test_a_megaface_feature_is_a_column(tmp_path: Path) -> None:
    assert read_features(feature_file(tmp_path / "a.bin", [1.0, 2.5, -3.0])).ravel().tolist() == [1.0, 2.5, -3.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"), (b"\0" * 15, "truncated"), (struct.pack("4i", 2, 1, 4, 5) + b"\0" * 7, "need 24"),
        (struct.pack("4i", 2, 1, 4, 5) + b"\0" * 9, "need 24"), (struct.pack("4i", 2, 1, 4, 0), "type 0"),
        (struct.pack("4i", -2, 1, 4, 5), "not a feature file"),
        (struct.pack("4i", 2, 3, 4, 5) + b"\0" * 24, "stride 4"),
    ],
)  # fmt: skip
def test_broken_feature_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_features(tmp_path / "a.bin")


def test_no_matrix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="must be a matrix"):
        write_features(tmp_path / "a.bin", np.zeros(3))
    assert not list(tmp_path.iterdir())


def test_lists(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"path": ["A/A_1.png", "B/B_1.png"], "id": ["a", "b"]}))
    assert read_feature_list(file) == (["A/A_1.png", "B/B_1.png"], ["a", "b"])
    file.write_text(json.dumps({"path": ["A/A_1.png"]}))
    assert read_feature_list(file) == (["A/A_1.png"], ["A"])
    file.write_text("A/A_1.png\n\nB/B_1.png\n")
    assert read_feature_list(file)[1] == ["A", "B"]
    for text, message in (
        ('{"path": [1]}', 'no "path"'),
        ("{", "not a list"),
        ('{"path": ["a"], "id": []}', "1 paths"),
        ("", "no features"),
    ):
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_feature_list(file)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_feature_list(tmp_path / "no.json")


def test_gathered_with_gaps(tmp_path: Path) -> None:
    names = [f"p/{i}.jpg" for i in range(1200)]
    for i, name in enumerate(names[:15]):
        feature_file(tmp_path / f"{name}_x.bin", [i, 2 * i, 0.5])
    (tmp_path / "p" / "3.jpg_x.bin").write_bytes(b"short")
    feature_file(tmp_path / "p" / "4.jpg_x.bin", [np.nan, 1, 2])
    rows, kept, failures = gather_features(
        tmp_path, names, tmp_path / "all.npy", suffix="_x.bin", without=["p/0.jpg", "p/5.jpg"]
    )
    assert kept == [1, 2, *range(6, 15)]
    np.testing.assert_array_equal(rows, [[i, 2 * i, 0.5] for i in kept])
    assert len(failures) == 1187
    assert "not finite" in failures["p/4.jpg"]
    feature_file(tmp_path / "p" / "7.jpg_x.bin", [1, 2])
    with pytest.raises(DatasetError, match="2 features, but the files before it have 3"):
        gather_features(tmp_path, names, tmp_path / "other.npy", suffix="_x.bin")
    assert not (tmp_path / "other.npy").exists()
    with pytest.raises(DatasetError, match="could be used"):
        gather_features(tmp_path, names, tmp_path / "other.npy", suffix="_y.bin")


def test_a_submission(tmp_path: Path, subject) -> None:
    generator = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), generator.integers(0, 255, (112, 96, 3)).astype(np.uint8))
    (tmp_path / "list.txt").write_text("2.png\n0.png\nno.png\n1.png\n")
    source = read_listed(tmp_path, tmp_path / "list.txt", subject)
    failures = write_submission(source, subject, tmp_path / "out.bin", saved=str(tmp_path / "rows.f32"))
    assert list(failures) == [2]
    found = read_features(tmp_path / "out.bin")
    rows = np.fromfile(tmp_path / "rows.f32", "<f4").reshape(4, -1)
    assert (found[2] == 0).all()
    np.testing.assert_allclose(found[[0, 1, 3]], combined(rows[[0, 1, 3]], "add"), atol=1e-7)
    for text, message in (
        ("", "no images"),
        ("a b\n", "ten numbers"),
        ("a\nb 1\n", "line 2"),
        ("a" + " x" * 10, "must be numbers"),
    ):
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_listed(tmp_path, tmp_path / "list.txt", subject)


def test_the_groups_of_rfw(tmp_path: Path) -> None:
    for group in ("African", "Asian", "Caucasian", "Indian"):
        folder = tmp_path / "data" / group / "m.01"
        folder.mkdir(parents=True)
        (folder / "m.01_0001.jpg").write_bytes(b"x")
        (tmp_path / "txts" / group).mkdir(parents=True)
        lines = ["m.01\t1\t2", "m.01\t1\tm.02\t1"] * 10
        (tmp_path / "txts" / group / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
    found = rfw_sets(tmp_path)
    assert [one.name for one in found] == ["African", "Asian", "Caucasian", "Indian"]
    assert found[0].pairs.images[0] == "m.01/m.01_0001.jpg"
    assert len(found[0].pairs) == 20
    (tmp_path / "txts" / "Indian" / "Indian_pairs.txt").unlink()
    with pytest.raises(DatasetError, match="lacks txts/Indian"):
        rfw_sets(tmp_path)
    # ArcFace on RFW as its papers print it: 94.64 on the mean, deviation 0.96.
    values = spread([0.9618, 0.9467, 0.9372, 0.9398])
    assert values["mean"] == pytest.approx(0.9464, abs=5e-5)
    assert values["deviation"] == pytest.approx(0.0096, abs=5e-5)
    assert values["error_ratio"] == pytest.approx(0.0628 / 0.0382)
    assert spread([1.0, 0.9])["error_ratio"] is None
