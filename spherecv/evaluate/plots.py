"""Curves and histograms of experiments, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import MissingDependencyError
from spherecv.evaluate.calibration import Measured
from spherecv.evaluate.curves import MIN_FALSE_ACCEPTS, BoolArray, FloatArray, Roc, area_under, equal_error
from spherecv.evaluate.experiment import Experiment
from spherecv.evaluate.groups import GroupRates
from spherecv.evaluate.identification import Identification
from spherecv.evaluate.nist import DISCARDED, DiscardCurve
from spherecv.thresholds import Calibration, accepted_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_BINS = 60
_MOST_NAMES = 20
_LINE = 90


def roc_png(experiments: Sequence[Experiment]) -> bytes:
    """ROC curves of every variant of each experiment, FAR on a log axis."""
    return _png(*draw_roc(_curves(experiments)))


def det_png(experiments: Sequence[Experiment]) -> bytes:
    """DET curves of every variant of each experiment, both axes logarithmic."""
    return _png(*draw_det(_curves(experiments)))


def det_curves_png(curves: Sequence[tuple[str, Roc]]) -> bytes:
    """DET curves of names and ROC points, both axes logarithmic, in the words of NIST."""
    return _png(*draw_det(curves, rates=("false match rate", "false non-match rate")))


def draw_roc(curves: Sequence[tuple[str, Roc]]) -> tuple[Figure, Axes]:
    """Draw ROC curves, from the rate of half an impostor pair to 1."""
    figure, axes = _canvas(len(curves))
    shown = [1.0]
    for name, roc in curves:
        far, tar = np.maximum(roc.far, _floor(roc.impostors)), roc.tar
        axes.step(far, tar, where="post", label=f"{name}: AUC {area_under(roc):.4f}", solid_capstyle="butt")
        shown += tar[np.flatnonzero(roc.far == 0)[-1:]].tolist()
    least = max(0.0, np.floor(20 * np.nanmin(shown) - 0.5) / 20)
    axes.set(xlabel="false accept rate", ylabel="true accept rate", title="ROC", ylim=(least, 1.0 + (1 - least) / 50))
    _rate_axis(axes, [roc for _, roc in curves])
    _legend(figure, axes)
    return figure, axes


def draw_det(
    curves: Sequence[tuple[str, Roc]], rates: tuple[str, str] = ("false accept rate", "false reject rate")
) -> tuple[Figure, Axes]:
    """Draw DET curves, each axis from the rate of half a pair of its kind to 1, with the line of equal errors."""
    figure, axes = _canvas(len(curves))
    for name, roc in curves:
        far, frr = np.maximum(roc.far, _floor(roc.impostors)), np.maximum(roc.frr, _floor(roc.genuine))
        axes.step(far, frr, where="post", label=f"{name}: EER {100 * equal_error(roc)[0]:.2f} %")
    least = min(_floor(roc.genuine) for _, roc in curves)
    axes.set(yscale="log", xlabel=rates[0], ylabel=rates[1], title="DET", ylim=(0.8 * least, 1.2))
    _rate_axis(axes, [roc for _, roc in curves])
    axes.plot([1e-9, 1], [1e-9, 1], color="grey", linestyle=":", linewidth=0.8, label="equal errors")
    _legend(figure, axes)
    return figure, axes


def rates_png(curves: Sequence[tuple[str, FloatArray, FloatArray]]) -> bytes:
    """ROC curves given as a name, false accept rates and true accept rates; FAR on a log axis."""
    figure, axes = _canvas(len(curves))
    for name, far, tar in curves:
        axes.plot(far, tar, marker=".", label=name)
    least = min(float(np.min(far[far > 0])) for _, far, _ in curves)
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", title="ROC", xlim=(least, 1))
    _legend(figure, axes)
    return _png(figure, axes)


def discard_png(curves: Sequence[tuple[str, DiscardCurve]]) -> bytes:
    """Error-versus-discard curves: false non-match rate by the share of pairs discarded."""
    figure, axes = _canvas()
    for model, curve in curves:
        label = f"{model}, {curve.name}: {100 * curve.area:.2f} % to {DISCARDED:g}"
        axes.step(curve.discarded, curve.fnmr, where="post", label=label)
    axes.set(xlabel="share of genuine pairs discarded", ylabel="false non-match rate", title="error versus discard")
    axes.legend(loc="upper right", fontsize=7)
    return _png(figure, axes)


def histogram_png(experiment: Experiment) -> bytes:
    """Distances of genuine and impostor pairs, with the threshold."""
    figure, axes = _canvas()
    variant = experiment.variants[0]
    _histograms(axes, variant.distances, experiment.pairs.same)
    axes.axvline(variant.threshold, color="black", linestyle="--", label=f"threshold {variant.threshold:.4f}")
    axes.set(xlabel="distance", ylabel="density", title=f"{experiment.model}: {variant.name}")
    axes.legend()
    return _png(figure, axes)


def calibration_png(calibration: Calibration, measured: Measured) -> bytes:
    """Distances behind a calibration, with its thresholds and its probability."""
    return _png(*draw_calibration(calibration, measured))


def draw_calibration(calibration: Calibration, measured: Measured) -> tuple[Figure, Axes]:
    """Draw the distances of genuine and impostor pairs, a line at each threshold, and the probability at prior 0.5."""
    rows = calibration.thresholds
    figure, axes = _canvas(len(rows) + 3)
    _histograms(axes, measured.distances, measured.same)
    for number, row in enumerate(rows):
        rate = f"FAR {row.measured_far:.2g}" if row.false_accepts else accepted_text(row, calibration.impostors)
        label = f"{row.chosen_for}: {row.threshold:.4f}, {rate}, TAR {row.measured_tar:.4f}"
        style = "-" if number == 0 else "--"
        axes.axvline(row.threshold, color=f"C{number + 2}", linestyle=style, linewidth=1.2, label=label)
    axes.set(xlabel=f"{calibration.metric} distance", ylabel="density")
    axes.set_title(fill(f"{calibration.model} on {calibration.dataset}", _LINE // 2))
    curve = calibration.probability
    if curve is not None:
        places = np.linspace(*axes.get_xlim(), 300)
        right = axes.twinx()
        right.plot(places, [curve.probability(place) for place in places], color="black", linewidth=1)
        right.set(ylabel="probability of the same person (black)", ylim=(0, 1.02))
    _legend(figure, axes)
    return figure, axes


def groups_png(rates: GroupRates) -> bytes:
    """False match rates within and between groups, as a table of colours."""
    figure, axes = _canvas()
    shown = axes.imshow(rates.rates, cmap="viridis")
    figure.colorbar(shown, ax=axes, label=f"false match rate at {rates.threshold:.4f}")
    axes.set_xticks(range(len(rates.names)), rates.names, rotation=45, ha="right")
    axes.set_yticks(range(len(rates.names)), rates.names)
    for row, values in enumerate(rates.rates):
        for column, value in enumerate(values):
            if np.isfinite(value):
                axes.text(column, row, f"{value:.1e}", ha="center", va="center", color="white", fontsize=7)
    axes.set_title(f"false match rate by {rates.column}")
    return _png(figure, axes, grid=False)


def confusion_png(names: Sequence[str], confusion: NDArray[np.int64]) -> bytes:
    """What was taken for what: shares of each row as colours, with the counts of up to 20 classes."""
    figure, axes = _canvas()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, label="share of the class")
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (row, column), count in np.ndenumerate(confusion):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    axes.set(xlabel="taken for", ylabel="class")
    return _png(figure, axes, grid=False)


def cmc_png(results: Sequence[tuple[str, Identification]], depth: int = 100) -> bytes:
    """CMC curves: one line for each model and number of distractors."""
    figure, axes = _canvas()
    for model, result in results:
        for count, curve in zip(result.distractors, result.cmc(depth), strict=True):
            axes.plot(np.arange(1, depth + 1), curve, label=f"{model}, {count:,} distractors")
    axes.set(xscale="log", xlabel="rank", ylabel="found at this rank or before", title="CMC")
    axes.legend(loc="lower right", fontsize=7)
    return _png(figure, axes)


def _histograms(axes: Axes, distances: FloatArray, same: BoolArray) -> None:
    edges = np.histogram_bin_edges(distances, bins=_BINS).tolist()
    for kind, label, color in ((True, "genuine", "tab:blue"), (False, "impostor", "tab:orange")):
        chosen = distances[same == kind]
        if len(chosen):
            axes.hist(chosen, edges, density=True, alpha=0.6, label=f"{label} ({len(chosen):,})", color=color)


def _curves(experiments: Sequence[Experiment]) -> list[tuple[str, Roc]]:
    """Return a curve for every column of the report's table, with its name."""
    return [
        (f"{experiment.model}, {variant.name}", variant.figures.roc)
        for experiment in experiments
        for variant in experiment.variants
    ]


def _floor(pairs: int) -> float:
    """Where a rate of nothing is drawn on a log axis: half of one pair."""
    return 0.5 / max(pairs, 1)


def _rate_axis(axes: Axes, rocs: Sequence[Roc]) -> None:
    """Make the x axis that of false accept rates: logarithmic; grey where no curve has enough of them behind it."""
    least = min(_floor(roc.impostors) for roc in rocs)
    supported = min(1.0, MIN_FALSE_ACCEPTS / max(*(roc.impostors for roc in rocs), 1))
    axes.set(xscale="log", xlim=(0.8 * least, 1.0))
    few = f"fewer than {MIN_FALSE_ACCEPTS} false accepts"
    axes.axvspan(0.8 * least, supported, color="black", alpha=0.06, linewidth=0, label=few)


def _legend(figure: Figure, axes: Axes) -> None:
    """Explain what is drawn below the axes, where it hides nothing; long names go over several lines."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, [fill(name, _LINE) for name in names], loc="outside lower center", fontsize=8, frameon=False)


def _canvas(curves: int = 0) -> tuple[Figure, Axes]:
    """Return an empty figure, higher by what the names of so many curves take below it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("matplotlib", "plot", "a report") from None
    figure = Figure(figsize=(6.4, 4.6 + 0.2 * curves), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any, axes: Any, *, grid: bool = True) -> bytes:
    if grid:
        axes.grid(visible=True, which="major", alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
