from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.errors import DatasetError, NoFaceError, NotEnoughDataError
from spherecv.evaluate.run import evaluate_groups, evaluate_lfw, evaluate_pairs, evaluate_ytf

_spec = importlib.util.spec_from_file_location("authors_matlab", Path(__file__).with_name("authors_matlab.py"))
matlab = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(matlab)


def replace_intervals(figures: dict) -> dict:
    """The figures without their intervals."""
    cut = {key: {**value, "interval": None} for key, value in figures.items() if key in ("accuracy", "eer", "auc")}
    return {**figures, **cut}


def features(folder: Path, names) -> np.ndarray:
    """What the stand-in for the pipeline sees of each image and of its mirror image."""
    rows = []
    for name in names:
        image = cv2.imread(str(folder / name))
        halves = [cv2.resize(half, (8, 8), interpolation=cv2.INTER_AREA) for half in (image, image[:, ::-1])]
        rows.append(np.concatenate([half.astype(np.float64).ravel() - 127.5 for half in halves]))
    return np.array(rows)


def test_view_2_from_files_is_the_authors_script_on_its_features(tmp_path, people, subject, lfw_pairs) -> None:
    found = evaluate_lfw(people, lfw_pairs(tmp_path / "pairs.txt"), subject, replicates=20)
    assert found.protocol == "LFW view 2"
    pairs = found.pairs
    left, right = (features(people, [pairs.images[i] for i in side]) for side in (pairs.first, pairs.second))
    flags = np.where(pairs.same, 1, -1)
    accuracies, _, scores = matlab.evaluate(left.T, right.T, flags, pairs.folds)
    refined, plain = found.variants
    np.testing.assert_allclose(refined.table.accuracies, accuracies, atol=1e-12)
    np.testing.assert_allclose(1 - refined.distances, scores, atol=1e-9)
    half = left.shape[1] // 2
    x, y = left[:, :half], right[:, :half]
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    np.testing.assert_allclose(1 - plain.distances, cosines, atol=1e-9)
    assert refined.figures.accuracy.value == pytest.approx(refined.table.mean)
    assert "fold\tACC" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_view_1_chooses_on_its_training_pairs(tmp_path, people, subject, lfw_pairs) -> None:
    tested = lfw_pairs(tmp_path / "test.txt", folds=0, each=20, seed=2)
    training = lfw_pairs(tmp_path / "train.txt", folds=0, each=20, seed=3)
    found = evaluate_lfw(people, tested, subject, training_pairs=training, replicates=10)
    assert found.protocol == "LFW view 1"
    assert found.variants[0].figures.accuracy_at == "threshold of train.txt"
    assert len(found.pairs) == 40
    alone = evaluate_lfw(people, tested, subject, replicates=0)
    assert "no training pairs" in alone.notes[-1]
    assert alone.variants[1].figures.accuracy.value >= found.variants[1].figures.accuracy.value


def test_embeddings_are_made_once_and_made_again_where_a_photo_changed(tmp_path, people, subject, lfw_pairs) -> None:
    pairs = lfw_pairs(tmp_path / "pairs.txt")

    def saved(_folder, _mirror):
        return tmp_path / "saved.npz"

    first = evaluate_lfw(people, pairs, subject, saved=saved, replicates=0)
    assert len(subject.stages.opened) == 1
    again = evaluate_lfw(people, pairs, subject, saved=saved, replicates=0)
    assert len(subject.stages.opened) == 1
    np.testing.assert_array_equal(again.variants[0].distances, first.variants[0].distances)
    evaluate_pairs(people, pairs, subject, saved=saved, replicates=0)
    assert len(subject.stages.opened) == 1
    changed = next(people.rglob("*.png"))
    cv2.imwrite(str(changed), np.full((32, 32, 3), 99, np.uint8))
    evaluate_lfw(people, pairs, subject, saved=saved, replicates=0)
    assert len(subject.stages.opened) == 2


def black(people: Path, count: int) -> None:
    for path in sorted(people.rglob("*.png"))[:count]:
        cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))


def test_images_without_a_face_follow_the_policy_and_are_told(tmp_path, people, subject, lfw_pairs) -> None:
    pairs = lfw_pairs(tmp_path / "pairs.txt", folds=0, each=30)
    black(people, 3)
    skipped = evaluate_lfw(people, pairs, subject, replicates=0)
    assert len(skipped.failures) == 2  # the third is in no pair
    assert skipped.left_out == 60 - len(skipped.pairs) > 0
    assert any("2 images could not be used" in note for note in skipped.notes)
    centred = evaluate_lfw(people, pairs, replace(subject, no_face="center"), replicates=0)
    assert (centred.centred, centred.left_out, centred.failures) == (2, 0, {})
    assert any("their middle was taken" in note for note in centred.notes)
    with pytest.raises(NoFaceError):
        evaluate_lfw(people, pairs, replace(subject, no_face="fail"), replicates=0)
    black(people, 100)
    with pytest.raises(NotEnoughDataError, match="no pair of"):
        evaluate_lfw(people, pairs, subject, replicates=0)


def test_pairs_are_compared_as_the_recipe_says(tmp_path, people, subject, lfw_pairs) -> None:
    pairs = lfw_pairs(tmp_path / "pairs.txt")
    for metric in ("cosine", "euclidean"):
        found = evaluate_pairs(people, pairs, subject, metric=metric, replicates=0)
        listed = found.pairs
        x, y = (features(people, [listed.images[i] for i in side]) for side in (listed.first, listed.second))
        cosine = 1 - (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        expected = cosine if metric == "cosine" else np.linalg.norm(x - y, axis=1)
        np.testing.assert_allclose(found.variants[0].distances, expected, rtol=1e-5)
        assert found.variants[0].figures.accuracy_at == "threshold of the other folds"
    given = evaluate_pairs(people, pairs, subject, threshold=0.4, replicates=0)
    assert given.variants[0].table is None
    assert given.variants[0].threshold == 0.4


def test_videos_are_compared_by_their_templates(tmp_path, subject, make_people) -> None:
    photos = make_people(tmp_path / "photos", people=8, photos=6, noise=90)
    frames = tmp_path / "frames"
    for path in photos.rglob("*.png"):
        person, number = path.parent.name, int(path.stem[-4:])
        goal = frames / person / str(number % 2) / f"{number}.png"
        goal.parent.mkdir(parents=True, exist_ok=True)
        path.rename(goal)
    lines = ["split number, first name, second name, is same"]
    for person in range(8):
        lines.append(f"{person % 2 + 1}, P{person:02d}/0, P{person:02d}/1, 1")
        lines.append(f"{person % 2 + 1}, P{person:02d}/0, P{(person + 2) % 8:02d}/1, 0")
    (tmp_path / "splits.txt").write_text("\n".join(lines))
    found = evaluate_ytf(frames, tmp_path / "splits.txt", subject, replicates=10)
    assert len(found.pairs) == 16
    assert found.variants[0].table.mean > 0.6
    (tmp_path / "faulty.txt").write_text("# noise\nP01/0\nP01/0\n")
    both = evaluate_ytf(frames, tmp_path / "splits.txt", subject, faulty=tmp_path / "faulty.txt", replicates=0)
    assert [len(variant.distances) for variant in both.variants] == [16, 16, 14, 14]
    assert both.variants[2].name.endswith("without 1 faulty videos, 2 pairs")
    assert both.variants[1].figures.to_dict() == replace_intervals(found.variants[1].figures.to_dict())
    kept = ~np.isin(np.array(both.pairs.images)[np.stack([both.pairs.first, both.pairs.second])], ["P01/0"]).any(axis=0)
    np.testing.assert_allclose(both.variants[3].distances, both.variants[1].distances[kept])  # no mean is subtracted
    assert "without 1 faulty videos" in str(both)
    (tmp_path / "faulty.txt").write_text("P99/0\n")
    with pytest.raises(DatasetError, match="P99/0, a video that the splits do not hold"):
        evaluate_ytf(frames, tmp_path / "splits.txt", subject, faulty=tmp_path / "faulty.txt")
    single = evaluate_ytf(frames, tmp_path / "splits.txt", subject, frames=1, pooling="quality", replicates=0)
    assert not np.allclose(single.variants[0].distances, found.variants[0].distances)
    for path in (frames / "P00" / "0").iterdir():
        cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "wrong.csv").write_text("P01/0, P01/1, drop\n")
    fewer = evaluate_ytf(
        frames, tmp_path / "splits.txt", subject, corrections=tmp_path / "wrong.csv", replicates=0
    )
    assert len(fewer.pairs) == 13
    assert fewer.left_out == 2


def test_groups_compare_every_person_of_the_table_that_is_there(tmp_path, subject, make_people) -> None:
    photos = make_people(tmp_path / "crops", people=20, photos=1)
    names = sorted(path.name for path in photos.rglob("*.png"))
    rows = ["file,age,sex", *(f"{name},{7 * i},{i % 2}" for i, name in enumerate(names)), "gone.png,4,1"]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    age, sex = evaluate_groups(photos, tmp_path / "table.csv", subject, 0.9)
    assert age.names == ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
    assert sex.pairs.tolist() == [[45, 100], [100, 45]]
    (only,) = evaluate_groups(photos, tmp_path / "table.csv", subject, 0.9, columns=("sex",))
    np.testing.assert_array_equal(only.rates, sex.rates)
    with pytest.raises(DatasetError, match="has no column origin"):
        evaluate_groups(photos, tmp_path / "table.csv", subject, 0.9, columns=("origin",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image of"):
        evaluate_groups(tmp_path / "empty", tmp_path / "table.csv", subject, 0.9)
