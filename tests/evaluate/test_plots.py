"""What the plots of error rates show: the artists, not the pixels."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import det_curve, roc_auc_score
from sklearn.metrics import roc_curve as scikit_roc

from spherecv.evaluate import plots
from spherecv.evaluate.calibration import calibrate_pairs
from spherecv.evaluate.curves import roc_curve
from spherecv.evaluate.run import evaluate_lfw


@pytest.fixture
def distances() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0.5, 0.15, 300), rng.normal(1.0, 0.1, 6000)]), np.arange(6300) < 300


def _names(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_roc_reaches_from_one_impostor_pair_to_all(distances) -> None:
    values, same = distances
    figure, axes = plots.draw_roc([("one", roc_curve(values, same))])
    assert axes.get_xscale() == "log"
    left, right = axes.get_xlim()
    assert 0.25 / 6000 < left <= 1 / 6000
    assert right == 1
    far, tar, _ = scikit_roc(same, -values, drop_intermediate=False)
    np.testing.assert_allclose(axes.lines[0].get_xdata()[1:], np.maximum(far, 0.5 / 6000)[1:])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), tar)
    at_none = tar[far == 0].max()
    bottom, top = axes.get_ylim()
    assert at_none - 0.1 < bottom < at_none
    assert 1 < top < 1.05
    assert _names(figure) == [f"one: AUC {roc_auc_score(same, -values):.4f}", "fewer than 30 false accepts"]
    (grey,) = axes.patches
    assert grey.get_x() + grey.get_width() == pytest.approx(30 / 6000)


def test_the_det_shows_curves_without_any_error(distances) -> None:
    values, same = distances
    perfect = roc_curve(np.where(same, 0.1, 0.9), same)
    figure, axes = plots.draw_det([("one", roc_curve(values, same)), ("perfect", perfect)])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    far, frr, _ = det_curve(same, -values)
    drawn = set(zip(axes.lines[0].get_xdata().round(9), axes.lines[0].get_ydata().round(9), strict=True))
    inside = (far > 0) & (frr > 0)
    assert set(zip(far[inside].round(9), frr[inside].round(9), strict=True)) <= drawn
    assert axes.get_ylim()[0] < axes.lines[1].get_ydata().min() == 0.5 / 300
    assert _names(figure)[1] == "perfect: EER 0.00 %"


def test_long_names_stay_whole_and_below_the_axes(distances) -> None:
    name = "a model (" + "a recipe with a long name " * 6 + ")"
    figure, axes = plots.draw_roc([(name, roc_curve(*distances))] * 3)
    figure.canvas.draw()
    assert _names(figure)[0].replace("\n", " ").startswith(name)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= axes.get_window_extent().y0


def test_every_column_of_the_table_has_a_curve(tmp_path, make_people, subject, lfw_pairs, monkeypatch) -> None:
    people = make_people(tmp_path / "noisy", noise=300)
    experiment = evaluate_lfw(people, lfw_pairs(tmp_path / "pairs.txt", each=15), subject, replicates=0)
    assert len(experiment.variants) > 1
    drawn = []
    draw = plots.draw_roc
    monkeypatch.setattr(plots, "draw_roc", lambda curves: drawn.append(curves) or draw(curves))
    assert plots.roc_png([experiment, experiment]).startswith(b"\x89PNG")
    assert [name for name, _ in drawn[0]] == [f"{experiment.model}, {v.name}" for v in experiment.variants] * 2
    assert all(roc is v.figures.roc for (_, roc), v in zip(drawn[0], experiment.variants * 2, strict=True))


def test_a_calibration_shows_distances_thresholds_and_probability(distances) -> None:
    values, same = distances
    people = np.stack([np.arange(6300) % 100, np.where(same, 0, 1) + np.arange(6300) % 100], axis=1)
    measured = calibrate_pairs(values, same, people, choose=0.01, replicates=5)
    named = {"model": "mini", "dataset": "door.csv", "metric": "cosine", "impostors": 6000}
    kept = SimpleNamespace(thresholds=measured.thresholds, probability=measured.probability, **named)
    figure, axes = plots.draw_calibration(kept, measured)
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert list(lines.values()) == [row.threshold for row in measured.thresholds]
    first = measured.thresholds[0]
    assert next(iter(lines)).startswith(f"FAR 0.01: {first.threshold:.4f}, FAR 0.01, TAR ")
    assert [line.get_linestyle() for line in axes.lines][:2] == ["-", "--"]
    areas = [sum(bar.get_width() * bar.get_height() for bar in bars) for bars in axes.containers]
    np.testing.assert_allclose(areas, 1)
    assert {"genuine (300)", "impostor (6,000)"} <= set(_names(figure))
    (right,) = [other for other in figure.axes if other is not axes]
    x, y = right.lines[0].get_data()
    np.testing.assert_allclose(y, [measured.probability.probability(place) for place in x])
    assert axes.get_title() == "mini on door.csv"
    none_seen = replace(first, false_accepts=0, measured_far=0.0, far_interval=(0.0, 0.0005))
    figure, axes = plots.draw_calibration(SimpleNamespace(**{**vars(kept), "thresholds": [none_seen]}), measured)
    assert "0 of 6,000 impostor pairs accepted (95 %: up to 0.05 %)" in axes.lines[0].get_label()
