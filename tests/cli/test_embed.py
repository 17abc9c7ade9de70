"""spherecv embed into shards; the one-file form is in test_app.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from spherecv.gallery.bulk import read_shards


def test_shards_then_a_gallery(run, data_dir: Path, model, tmp_path: Path) -> None:
    for person, names in {"Angelina": ("img1", "img2"), "Mark": ("img16",)}.items():
        (tmp_path / "tree" / person).mkdir(parents=True)
        for name in names:
            shutil.copy(data_dir / "deepface-pairs" / f"{name}.jpg", tmp_path / "tree" / person)
    (tmp_path / "tree" / "Mark" / "broken.jpg").write_bytes(b"no photo")
    command = ("embed", tmp_path / "tree", "--out", tmp_path / "out", *model, "-j", 1, "--shard-images", 2)
    first = run(*command)
    assert first.exit_code == 0, first.output
    assert "wrote 3 embeddings of 4 images" in first.stdout
    assert "2 shards; 1 image failed" in first.stdout
    assert json.loads(run(*command, "--json").stdout)["resumed"] == 2
    assert [Path(path).name for shard in read_shards(tmp_path / "out") for path in shard.paths] == [
        "img1.jpg",
        "img2.jpg",
        "img16.jpg",
    ]
    enrolled = run("gallery", "enrol", tmp_path / "g.db", tmp_path / "out", *model)
    assert "3 faces of 3 images enrolled, 1 failed" in enrolled.stdout
    people = json.loads(run("gallery", "list", tmp_path / "g.db", "--json").stdout)
    assert [(person["identity"], person["images"]) for person in people] == [("Angelina", 2), ("Mark", 1)]
    other = run(*command, "--face", "center")
    assert other.exit_code == 2
    assert "another face" in other.stderr


def test_one_file_then_a_gallery(run, failure, data_dir: Path, model, tmp_path: Path) -> None:
    (tmp_path / "tree" / "Ann").mkdir(parents=True)
    shutil.copy(data_dir / "deepface-pairs" / "img1.jpg", tmp_path / "tree" / "Ann")
    file = tmp_path / "e.npz"
    assert run("embed", tmp_path / "tree", "--out", file, *model).exit_code == 0
    assert "1 face of 1 image enrolled" in run("gallery", "enrol", tmp_path / "g.db", file, *model).stdout
    assert run("gallery", "enrol", tmp_path / "g.db", file, *model, "--identity", "Bea").exit_code == 0
    assert "of 1 image enrolled" in run("gallery", "enrol", tmp_path / "g.db", file, *model, "--unknown").stdout
    listed = json.loads(run("gallery", "list", tmp_path / "g.db", "--json").stdout)
    assert [(person["identity"], person["faces"]) for person in listed] == [("Ann", 1), ("Bea", 1)]
    other = run("gallery", "enrol", tmp_path / "h.db", file, "--model", "sphereface-mini")
    assert "cannot be compared" in failure(other)
    assert "comes alone" in failure(run("gallery", "enrol", tmp_path / "g.db", file, file, *model))


def test_no_face_at_all_is_an_error(run, data_dir: Path, model, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.jpg").write_bytes(b"no photo")
    result = run("embed", tmp_path / "tree", "--out", tmp_path / "out", *model, "-j", 1)
    assert result.exit_code == 2
    assert "none of the 1 images could be used" in result.stderr
