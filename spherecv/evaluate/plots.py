"""Curves and histograms of experiments, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import MissingDependencyError
from spherecv.evaluate.curves import FloatArray, Roc
from spherecv.evaluate.experiment import Experiment
from spherecv.evaluate.groups import GroupRates
from spherecv.evaluate.identification import Identification
from spherecv.evaluate.nist import DISCARDED, DiscardCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_BINS = 60
_MOST_NAMES = 20


def roc_png(experiments: Sequence[Experiment]) -> bytes:
    """ROC curves of the first variant of each experiment, FAR on a log axis."""
    figure, axes = _canvas()
    for experiment in experiments:
        roc = experiment.variants[0].figures.roc
        axes.step(np.maximum(roc.far, _least(experiment)), roc.tar, where="post", label=experiment.model)
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", title="ROC")
    axes.legend(loc="lower right")
    return _png(figure, axes)


def det_png(experiments: Sequence[Experiment]) -> bytes:
    """DET curves of the first variant of each experiment, both axes logarithmic."""
    figure, axes = _canvas()
    for experiment in experiments:
        roc = experiment.variants[0].figures.roc
        least = 0.5 / max(roc.genuine, 1)
        axes.step(
            np.maximum(roc.far, _least(experiment)), np.maximum(roc.frr, least), where="post", label=experiment.model
        )
    axes.set(xscale="log", yscale="log", xlabel="false accept rate", ylabel="false reject rate", title="DET")
    axes.legend(loc="lower left")
    return _png(figure, axes)


def rates_png(curves: Sequence[tuple[str, FloatArray, FloatArray]]) -> bytes:
    """ROC curves given as a name, false accept rates and true accept rates; FAR on a log axis."""
    figure, axes = _canvas()
    for name, far, tar in curves:
        axes.plot(far, tar, label=name)
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", title="ROC")
    axes.legend(loc="lower right")
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


def det_curves_png(curves: Sequence[tuple[str, Roc]]) -> bytes:
    """DET curves of names and ROC points, both axes logarithmic."""
    figure, axes = _canvas()
    for name, roc in curves:
        floors = (0.5 / max(count, 1) for count in (roc.impostors, roc.genuine))
        far, frr = (np.maximum(rate, floor) for rate, floor in zip((roc.far, roc.frr), floors, strict=True))
        axes.step(far, frr, where="post", label=name)
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate", title="DET")
    axes.legend(loc="lower left")
    return _png(figure, axes)


def histogram_png(experiment: Experiment) -> bytes:
    """Distances of genuine and impostor pairs, with the threshold."""
    figure, axes = _canvas()
    variant = experiment.variants[0]
    edges = np.histogram_bin_edges(variant.distances, bins=_BINS).tolist()
    for same, label, color in ((True, "genuine", "tab:blue"), (False, "impostor", "tab:orange")):
        chosen = variant.distances[experiment.pairs.same == same]
        if len(chosen):
            axes.hist(chosen, edges, density=True, alpha=0.6, label=f"{label} ({len(chosen):,})", color=color)
    axes.axvline(variant.threshold, color="black", linestyle="--", label=f"threshold {variant.threshold:.4f}")
    axes.set(xlabel="distance", ylabel="density", title=f"{experiment.model}: {variant.name}")
    axes.legend()
    return _png(figure, axes)


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


def _least(experiment: Experiment) -> float:
    """Where a rate of nothing is drawn on a log axis: half of one pair."""
    return 0.5 / max(experiment.variants[0].figures.impostors, 1)


def _canvas() -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("matplotlib", "plot", "a report") from None
    figure = Figure(figsize=(6.4, 4.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any, axes: Any, *, grid: bool = True) -> bytes:
    if grid:
        axes.grid(visible=True, which="major", alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
