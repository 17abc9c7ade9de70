"""Figures in the manner of NIST, each against its definition written out pair by pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean

from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.groups import worst_over_mean
from spherecv.evaluate.nist import (
    DISCARDED,
    discard_curve,
    error_rates,
    group_errors,
    read_columns,
)
from spherecv.evaluate.nistrun import ImageTable, evaluate_nist
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairRow, make_pairs


def listed(seed: int, people: int = 8, images: int = 3):
    """All pairs of some images, their distances, and two images that failed."""
    generator = np.random.default_rng(seed)
    names = [f"{p}/{i}.jpg" for p in range(people) for i in range(images)]
    rows = [PairRow(a, b, a[0] == b[0], 0, (a[0], b[0]), 1) for k, a in enumerate(names) for b in names[k + 1 :]]
    pairs = make_pairs(rows, "list")
    distances = (generator.normal(size=len(rows)) + 1.5 * ~pairs.same).round(1)
    return pairs, distances, ["0/0.jpg", "1/0.jpg", "1/1.jpg", "1/2.jpg"]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), rate=st.sampled_from([0.05, 0.2, 0.5]))
def test_rates_with_and_without_failures(seed: int, rate: float) -> None:
    pairs, distances, failed = listed(seed)
    found = error_rates(distances, pairs, failed, rates=[rate], replicates=0)
    rows = [
        (d, s, pairs.images[a] in failed or pairs.images[b] in failed)
        for d, s, a, b in zip(distances, pairs.same, pairs.first, pairs.second, strict=True)
    ]
    for table, chosen in ((found.fnmr, [r for r in rows if not r[2]]), (found.frr, rows)):
        impostors = [np.inf if lost else d for d, same, lost in chosen if not same]
        genuine = [np.inf if lost else d for d, same, lost in chosen if same]
        cuts = [
            c for c in {d for d, _, lost in chosen if not lost} if np.mean(np.array(impostors) <= c) <= rate + 1e-12
        ]
        least = min(np.mean(np.array(genuine) > c) for c in cuts) if cuts else 1.0
        assert table[rate].value == pytest.approx(least, abs=1e-12)
    assert found.frr[rate].value >= found.fnmr[rate].value - 1e-12 or found.failed_pairs
    assert (found.images, found.failed_images, found.people, found.failed_people) == (24, 4, 8, 1)
    assert found.failed_pairs == sum(lost for *_, lost in rows)
    assert found.to_dict()["failure_to_enrol"] == 1 / 8


def test_intervals_are_those_of_the_bootstrap_of_tar() -> None:
    from spherecv.evaluate.intervals import bootstrap

    pairs, distances, _ = listed(3)
    found = error_rates(distances, pairs, [], rates=[0.1], replicates=50)
    low, high = bootstrap(distances, pairs.same, pairs.people, rates=[0.1], replicates=50).tar[0.1]
    assert found.fnmr[0.1].interval == (1 - high, 1 - low)
    assert found.frr[0.1].interval == found.fnmr[0.1].interval


def test_nothing_left_is_refused() -> None:
    pairs, distances, _ = listed(1)
    with pytest.raises(NotEnoughDataError):
        error_rates(distances, pairs, pairs.images)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 4))
def test_errors_by_group_by_definition(seed: int, size: int) -> None:
    pairs, distances, _ = listed(seed)
    generator = np.random.default_rng(seed)
    of = generator.choice(["", "a", "b", "c"][: size + 1], len(pairs.images))
    groups = np.stack([of[pairs.first], of[pairs.second]], axis=1)
    if not (groups != "").all(axis=1).any():
        return
    found = group_errors(distances, pairs.same, pairs.people, groups, 0.5, replicates=5)
    names = found.matches.names
    for i, one in enumerate(names):
        for j, two in enumerate(names):
            mine = [
                d <= 0.5
                for d, s, (g, h) in zip(distances, pairs.same, groups, strict=True)
                if not s and sorted((g, h)) == sorted((one, two))
            ]
            assert found.matches.pairs[i, j] == len(mine)
            assert found.matches.false_matches[i, j] == sum(mine)
        misses = [d > 0.5 for d, s, (g, h) in zip(distances, pairs.same, groups, strict=True) if s and g == one and h]
        assert found.genuine[one] == len(misses)
        if misses:
            assert found.misses[one].value == pytest.approx(np.mean(misses))
    diagonal = np.diag(found.matches.rates)
    diagonal = diagonal[~np.isnan(diagonal)]
    if len(diagonal) and diagonal.min() > 0:
        assert found.fmr_ratio == pytest.approx(diagonal.max() / gmean(diagonal))
    else:
        assert np.isnan(found.fmr_ratio)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=9))
def test_worst_over_the_geometric_mean(rates) -> None:
    assert worst_over_mean([*rates, np.nan]) == pytest.approx(max(rates) / gmean(rates))
    assert np.isnan(worst_over_mean([*rates, 0.0]))
    assert np.isnan(worst_over_mean([]))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), pairs=st.integers(1, 60))
def test_discards_by_definition(seed: int, pairs: int) -> None:
    generator = np.random.default_rng(seed)
    distances = generator.normal(size=pairs)
    distances[generator.random(pairs) < 0.1] = np.inf
    scores = generator.integers(0, 9, (pairs, 2)).astype(float)
    scores[generator.random((pairs, 2)) < 0.1] = np.nan
    found = discard_curve(distances, scores, 0.3)
    least = [-np.inf if np.isnan(row).any() else row.min() for row in scores]
    levels = sorted(set(least))
    kept = [[d for d, q in zip(distances, least, strict=True) if q >= level] for level in levels]
    assert found.discarded.tolist() == pytest.approx([1 - len(left) / pairs for left in kept])
    assert found.fnmr.tolist() == pytest.approx([np.mean(np.array(left) > 0.3) for left in kept])
    fine = (np.arange(20_000) + 0.5) / 20_000 * DISCARDED
    steps = found.fnmr[np.searchsorted(found.discarded, fine, side="right") - 1]
    assert found.area == pytest.approx(steps.mean(), abs=1e-3)
    assert len(found.to_dict()["fnmr"]) == 100


def test_a_good_quality_is_told_from_a_worthless_one() -> None:
    generator = np.random.default_rng(0)
    quality = generator.random((2000, 2))
    distances = 1.2 - quality.min(axis=1) + 0.1 * generator.normal(size=2000)
    good = discard_curve(distances, quality, 1.05)
    worthless = discard_curve(distances, generator.random((2000, 2)), 1.05)
    assert good.area < 0.8 * worthless.area
    assert worthless.area == pytest.approx(worthless.fnmr[0], abs=0.02)


def test_refusals() -> None:
    with pytest.raises(InvalidArgumentError, match=r"qualities \(N, 2\)"):
        discard_curve([1.0], [1.0], 0.5)
    with pytest.raises(InvalidArgumentError, match="NaN"):
        discard_curve([np.nan], [[1.0, 1.0]], 0.5)
    with pytest.raises(InvalidArgumentError, match=r"must be \(N, 2\)"):
        group_errors([1.0], [True], [[0, 0]], ["a"], 0.5)
    with pytest.raises(NotEnoughDataError, match="no pair has a sex"):
        group_errors([1.0], [True], [[0, 0]], [["", "a"]], 0.5, column="sex")


def test_tables(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("file,sex,sharp\nx/1.jpg,f,2\n2.jpg,m,\n")
    found = read_columns(file, ["x/1.jpg", "y/2.jpg", "z/3.jpg"])
    assert found == {"sex": ["f", "m", ""], "sharp": ["2", "", ""]}
    with pytest.raises(DatasetError, match="names none"):
        read_columns(file, ["no.jpg"])
    for text in ("", "file\n", "file\na\n"):
        file.write_text(text)
        with pytest.raises(DatasetError, match="no rows"):
            read_columns(file, ["a"])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_columns(tmp_path / "no.csv", ["a"])


def test_from_images_to_figures(people: Path, subject, lfw_pairs, tmp_path: Path) -> None:
    import cv2

    listing = lfw_pairs(tmp_path / "pairs.txt", folds=4)
    names = sorted(path.relative_to(people).as_posix() for path in people.rglob("*.png"))
    lines = [f"{name},{'ab'[k % 2]},{k}" for k, name in enumerate(names)]
    (tmp_path / "table.csv").write_text("\n".join(["path,group,score", *lines]) + "\n")
    dark, gone = read_pairs(listing).images[:2]
    cv2.imwrite(str(people / f"{dark}.png"), np.zeros((8, 8, 3), np.uint8))  # no face
    (people / f"{gone}.png").unlink()
    found = evaluate_nist(
        people,
        listing,
        subject,
        table=ImageTable(tmp_path / "table.csv", group_by=["group"], qualities=["score"]),
        fmr=0.1,
        replicates=10,
    )
    assert len(found.failures) == found.rates.failed_images == 2
    assert found.failures[gone] == "no such file"
    assert found.rates.pairs == 72
    assert found.rates.failed_pairs > 0
    assert [curve.name for curve in found.discards] == ["Face.quality", "score"]
    assert found.groups[0].matches.names == ("a", "b")
    text = str(found)
    assert "failure to acquire: 2 of" in text
    assert "worst over geometric mean" in text
    assert found.to_dict()["error_versus_discard"][0]["quality"] == "Face.quality"
    for column in ("no", "group"):
        with pytest.raises(DatasetError, match=r"column no is not|must hold numbers"):
            evaluate_nist(people, listing, subject, table=ImageTable(tmp_path / "table.csv", qualities=[column]))
    with pytest.raises(DatasetError, match="none of the"):
        evaluate_nist(tmp_path / "none", listing, subject)
