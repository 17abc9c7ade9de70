"""Evaluation of sets of crops: figures by definition, work that is broken off and resumed, and what is kept of it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.errors import CalibrationError, DatasetError, NotEnoughDataError
from spherecv.evaluate.croprun import combined, evaluate_crops, print_table
from spherecv.evaluate.cropsets import BinSet
from spherecv.evaluate.gridfolds import grid_figures, split_folds
from spherecv.evaluate.paired import compare_experiments
from spherecv.evaluate.report import write_report
from spherecv.evaluate.rowstore import RowStore


@pytest.fixture
def crops() -> tuple[list[bytes], list[bool]]:
    """Sixty pairs of patterns that are alike in every second one."""
    generator = np.random.default_rng(0)
    images, same = [], []
    for pair in range(60):
        base = generator.integers(0, 255, (8, 8, 3))
        other = base if pair % 2 == 0 else generator.integers(0, 255, (8, 8, 3))
        for pattern in (base, other + generator.normal(scale=90, size=other.shape)):
            image = np.clip(pattern, 0, 255).astype(np.uint8).repeat(14, axis=0).repeat(14, axis=1)
            images.append(cv2.imencode(".png", image)[1].tobytes())
        same.append(pair % 2 == 0)
    return images, same


@pytest.fixture
def bin_set(tmp_path: Path, crops) -> BinSet:
    (tmp_path / "set.bin").write_bytes(pickle.dumps(crops))
    return BinSet(tmp_path / "set.bin")


def pattern(image) -> np.ndarray:
    return (cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32) - 127.5).ravel()


def test_flips_are_added_as_insightface_adds_them(bin_set: BinSet, crops, subject) -> None:
    size = subject.source.recipe.size
    left = (112 - size[1]) // 2
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), 1)[:, left : left + size[1]] for data in crops[0]]
    sums = np.array([pattern(image).astype(np.float64) + pattern(image[:, ::-1]) for image in images])
    rows = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    expected = grid_figures(rows[0::2], rows[1::2], crops[1], split_folds(60))
    found = evaluate_crops(bin_set, subject, replicates=20)
    np.testing.assert_allclose(found.figures.accuracies, expected.accuracies, atol=1e-12)
    np.testing.assert_allclose(found.figures.distances, expected.distances, atol=1e-12)
    assert 0.7 < found.figures.accuracy[0] < 1.0
    low, high = found.experiment.variants[0].figures.accuracy.interval
    assert low <= found.figures.accuracy[0] <= high
    assert "120 crops: the middle" in " ".join(found.experiment.notes)
    assert found.to_dict()["set"] == "set"


def test_broken_off_and_resumed_the_figures_are_equal(bin_set: BinSet, subject, tmp_path: Path, monkeypatch) -> None:
    whole = evaluate_crops(bin_set, subject, saved=str(tmp_path / "a.f32"), replicates=0)
    load, seen = BinSet.load, []

    def interrupted(self, number):
        seen.append(number)
        if len(seen) == 100:
            raise KeyboardInterrupt
        return load(self, number)

    monkeypatch.setattr(BinSet, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_crops(bin_set, subject, saved=str(tmp_path / "b.f32"), replicates=0)
    again = evaluate_crops(bin_set, subject, saved=str(tmp_path / "b.f32"), replicates=0)
    assert seen[100] == 64  # the batch that was whole is kept
    assert (tmp_path / "a.f32").read_bytes() == (tmp_path / "b.f32").read_bytes()
    assert again.figures.to_dict() == whole.figures.to_dict()
    assert evaluate_crops(bin_set, subject, saved=str(tmp_path / "b.f32"), replicates=0).figures.accuracy
    assert len(seen) == 156  # nothing is embedded twice


def test_broken_crops_are_counted_and_their_pairs_left_out(tmp_path: Path, crops, subject) -> None:
    images, same = crops
    images[3] = b"no image"
    images[7] = b""
    (tmp_path / "set.bin").write_bytes(pickle.dumps((images, same)))
    found = evaluate_crops(BinSet(tmp_path / "set.bin"), subject, replicates=0).experiment
    assert sorted(found.failures) == ["#3", "#7"]
    assert found.left_out == 2
    assert len(found.pairs) == 58
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([b"no image %d" % i for i in range(120)], same)))
    with pytest.raises(NotEnoughDataError, match="no pair"):
        evaluate_crops(BinSet(tmp_path / "set.bin"), subject, replicates=0)


def test_several_models_side_by_side(bin_set: BinSet, subject, tmp_path: Path) -> None:
    other = replace(subject, stages=type(subject.stages)(replace(subject.source, name="other")))
    added = evaluate_crops(bin_set, subject, replicates=20)
    plain = evaluate_crops(bin_set, other, flip="none", replicates=20)
    text = print_table([[added], [plain]])
    assert text.splitlines()[0].split() == ["model", "set"]
    assert "other" in text
    (test,) = compare_experiments([added.experiment, plain.experiment], replicates=20)
    assert test.pairs == 60
    assert test.both_right + test.first_only + test.second_only + test.both_wrong == 60
    page = write_report(tmp_path / "report", [added.experiment, plain.experiment], comparisons=[test])
    assert "McNemar" in page.read_text()
    assert "data:image/jpeg" in page.read_text()  # the worst pairs are shown


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "a.f32", {"model": "one"}, 5)
    store.append(np.ones((2, 3), np.float32), {1: "broken"})
    store.flush()
    again = RowStore(tmp_path / "a.f32", {"model": "one"}, 5)
    assert (again.done, again.width, again.failures) == (2, 3, {1: "broken"})
    np.testing.assert_array_equal(again.rows(), [[1, 1, 1], [np.nan] * 3])
    with pytest.raises(CalibrationError, match="another model"):
        RowStore(tmp_path / "a.f32", {"model": "two"}, 5)
    with pytest.raises(CalibrationError, match="5 images, not 6"):
        RowStore(tmp_path / "a.f32", {"model": "one"}, 6)
    with pytest.raises(DatasetError, match="must have 3 numbers"):
        again.append(np.ones((1, 4), np.float32))
    (tmp_path / "a.f32").write_bytes(b"short")
    with pytest.raises(DatasetError, match="truncated"):
        RowStore(tmp_path / "a.f32", {"model": "one"}, 5)
    for text in ("{", "[]", '{"format": 1}', '{"format":2,"width":1,"done":1,"count":5,"meta":{},"failures":{}}'):
        (tmp_path / "a.f32.json").write_text(text)
        with pytest.raises(DatasetError):
            RowStore(tmp_path / "a.f32", {"model": "one"}, 5)


@pytest.mark.parametrize("name", ["a.f32", "a.f32.json"])
def test_a_changed_byte_of_the_journal_is_seen(tmp_path: Path, name: str) -> None:
    store = RowStore(tmp_path / "a.f32", {"model": "one"}, 9)
    for start in range(3):
        store.append(np.full((2, 3), start, np.float32), {2 * start: "broken"})
        store.flush()
    assert RowStore(tmp_path / "a.f32", {"model": "one"}, 9).done == 6
    data = (tmp_path / name).read_bytes()
    changed = data.replace(b'"4": "broken"', b'"5": "broken"') if name.endswith("json") else data[:-1] + b"\x01"
    assert changed != data
    (tmp_path / name).write_bytes(changed)
    with pytest.raises(DatasetError, match="not what was written"):
        RowStore(tmp_path / "a.f32", {"model": "one"}, 9)


def test_rows_behind_the_last_saving_do_not_count(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "a.f32", {}, 3)
    store.append(np.ones((1, 2), np.float32))
    store.flush()
    with (tmp_path / "a.f32").open("ab") as stream:
        stream.write(b"half a row")
    again = RowStore(tmp_path / "a.f32", {}, 3)
    again.append(np.full((2, 2), 5, np.float32))
    np.testing.assert_array_equal(again.rows(), [[1, 1], [5, 5], [5, 5]])


def test_flips() -> None:
    rows = np.array([[3.0, 0.0, 1.0, 4.0]])
    np.testing.assert_allclose(combined(rows, "add"), np.array([[4, 4]]) / np.sqrt(32))
    np.testing.assert_allclose(combined(rows, "concatenate"), rows / np.sqrt(26))
    with pytest.raises(ValueError, match="flip must be one of"):
        combined(rows, "sideways")
