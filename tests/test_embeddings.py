from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.embeddings import write_embeddings
from spherecv.records import EmbeddedFace, Face


def face(seed: int, quality: float | None = 0.5) -> EmbeddedFace:
    box = (seed, 0, seed + 10, 20)
    return EmbeddedFace(Face(box=box, score=0.5, quality=quality), None, np.full(8, seed, np.float32))


def test_numpy_reads_what_was_written(tmp_path: Path) -> None:
    with write_embeddings(tmp_path / "out.npz", model="net", recipe="abc") as writer:
        for seed in range(5):
            writer.add(tmp_path / f"ö{seed}.jpg", face(seed, None if seed == 2 else 0.5))
        assert writer.rows == 5
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert saved["embeddings"].dtype == np.float32
        assert saved["embeddings"][:, 0].tolist() == [0, 1, 2, 3, 4]
        assert saved["boxes"][3].tolist() == [3, 0, 13, 20]
        assert saved["paths"][4] == str(tmp_path / "ö4.jpg")
        assert np.isnan(saved["qualities"]).tolist() == [False, False, True, False, False]
        assert (str(saved["model"]), str(saved["recipe"])) == ("net", "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_nothing_is_written_when_the_work_fails(tmp_path: Path) -> None:
    def broken() -> None:
        with write_embeddings(tmp_path / "out.npz", model="net", recipe="abc") as writer:
            writer.add("a.jpg", face(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_no_face_at_all_is_an_empty_table(tmp_path: Path) -> None:
    with write_embeddings(tmp_path / "out.npz", model="net", recipe="abc"):
        pass
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["embeddings"].shape == (0, 0)
        assert saved["boxes"].shape == (0, 4)
