"""Damage to shards of embeddings, none of which may be enrolled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import DatasetError
from spherecv.gallery.bulk.parts import Item, Part
from spherecv.gallery.bulk.shards import MANIFEST, Shard, begin, finish, finished, read_shards, write_shard


@pytest.fixture
def part(tmp_path: Path) -> Part:
    made = Part(0, (Item("a.jpg", "a.jpg"), Item("b.jpg", "b.jpg")))
    rows = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    shard = Shard(
        paths=("a.jpg", "b.jpg"),
        embeddings=rows,
        boxes=np.array([[0.1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        qualities=np.array([0.3, np.nan], np.float32),
        failures=(("c.jpg", "broken"),),
    )
    begin(tmp_path, {"model": "m", "key": "k", "detector": ""})
    finish(tmp_path, [write_shard(tmp_path, made, shard, "npy")])
    return made


def test_what_was_written_is_read(tmp_path: Path, part: Part) -> None:
    (shard,) = read_shards(tmp_path)
    assert (shard.paths, shard.failures) == (("a.jpg", "b.jpg"), (("c.jpg", "broken"),))
    assert finished(tmp_path, part, "npy") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[0][1].__setitem__(0, 0.2),
        lambda rows: rows.reverse(),
        lambda rows: rows[0].__setitem__(0, "b.jpg"),
        lambda rows: rows[1].__setitem__(2, 1.0),
        lambda rows: rows.pop(),
    ],
)
def test_a_changed_note_is_refused_and_its_images_done_again(tmp_path: Path, part: Part, change) -> None:
    place = tmp_path / f"{part.name}.json"
    note = json.loads(place.read_bytes())
    change(note["rows"])
    place.write_text(json.dumps(note))
    with pytest.raises(DatasetError, match="not what the manifest says"):
        list(read_shards(tmp_path))
    assert finished(tmp_path, part, "npy") is None


@pytest.mark.parametrize("name", ["model", "key", "detector", "faces", "shards"])
def test_a_changed_manifest_is_refused(tmp_path: Path, part: Part, name: str) -> None:
    place = tmp_path / MANIFEST
    manifest = json.loads(place.read_bytes())
    place.write_text(json.dumps({**manifest, name: [] if name == "shards" else "other"}))
    with pytest.raises(DatasetError, match="not what was written"):
        list(read_shards(tmp_path))
    del manifest["manifest_sha256"]  # of an earlier version
    place.write_text(json.dumps(manifest))
    assert len(list(read_shards(tmp_path))) == 1


@pytest.mark.parametrize("row", [{}, 7, None, {"file": 7}, {"file": "../other.npy"}, {"file": "part-000000.npy"}])
def test_a_broken_manifest_is_a_dataset_error(tmp_path: Path, part: Part, row: object) -> None:
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    manifest["shards"] = [row]
    del manifest["manifest_sha256"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DatasetError):
        list(read_shards(tmp_path))
    assert part.name == "part-000000"


def test_shards_of_earlier_versions_are_read(tmp_path: Path, part: Part) -> None:
    place = tmp_path / f"{part.name}.json"
    note = json.loads(place.read_bytes())
    del note["note_sha256"]
    place.write_text(json.dumps(note))
    finish(tmp_path, [note])
    assert [shard.paths for shard in read_shards(tmp_path)] == [("a.jpg", "b.jpg")]
    assert finished(tmp_path, part, "npy") is not None
