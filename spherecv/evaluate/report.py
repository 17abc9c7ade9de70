"""Reports: one self-contained HTML page, and its plots as PNG beside it."""

from __future__ import annotations

import base64
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv import __version__
from spherecv.errors import InvalidArgumentError, SphereCVError
from spherecv.evaluate import plots
from spherecv.evaluate.experiment import Experiment
from spherecv.evaluate.groups import GroupRates
from spherecv.evaluate.paired import PairedTest
from spherecv.files import write_bytes

_PACKAGES = ("numpy", "scipy", "opencv-contrib-python-headless", "onnxruntime", "openvino", "pillow")
_THUMBNAIL = 112
_WORST = 8

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
body { overflow-wrap: anywhere } .wide { overflow-x: auto; margin: 1rem 0 } .wide th, .wide td { overflow-wrap: normal }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse } th, td { border: 1px solid #ccc; padding: .25rem .6rem }
th { background: #f4f4f4; text-align: left } td.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; height: auto } .side { display: flex; flex-wrap: wrap; gap: 1rem }
.pair { text-align: center; font-size: 12px; max-width: 100% }
.pair img { height: 112px } pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } .note { color: #853 }
@media (max-width: 30rem) { body { margin: 1rem auto; padding: 0 .6rem } th, td { padding: .2rem; font-size: .8rem }
  h1 { font-size: 1.5rem } .wide th { overflow-wrap: anywhere; min-width: 5rem } }
"""


def write_report(
    folder: str | os.PathLike[str],
    experiments: Sequence[Experiment],
    *,
    comparisons: Sequence[PairedTest] = (),
    command: Sequence[str] | None = None,
    worst: int = _WORST,
) -> Path:
    """Write `report.html`, `report.json` and the plots of one or more experiments.

    Parameters
    ----------
    folder : path
        Made if it is not there; files of the same names are replaced.
    experiments : sequence of Experiment
        Shown side by side, in this order.
    comparisons : sequence of PairedTest
        Of two of the models each.
    command : sequence of str, optional
        What made them; by default the command line of this process.
    worst : int
        How many of the worst false accepts and false rejects to show.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InvalidArgumentError
        No experiments.
    MissingDependencyError
        Without matplotlib.
    StorageError
        It cannot be written.
    """
    if not experiments:
        raise InvalidArgumentError("a report needs at least one experiment")
    root = Path(folder)
    pictures = {"roc.png": plots.roc_png(experiments), "det.png": plots.det_png(experiments)}
    for number, experiment in enumerate(experiments, start=1):
        pictures[f"histogram-{number}.png"] = plots.histogram_png(experiment)
        for rates in experiment.groups:
            pictures[f"groups-{number}-{rates.column}.png"] = plots.groups_png(rates)
    for name, data in pictures.items():
        write_bytes(root / name, data)
    facts = provenance(command)
    body = [
        f"<h1>{escape(experiments[0].protocol)}: {escape(', '.join(e.model for e in experiments))}</h1>",
        _figures_table(experiments),
        _side([_picture(pictures["roc.png"], "ROC"), _picture(pictures["det.png"], "DET")]),
        *(f"<h2>Two models compared</h2><pre>{escape(str(test))}</pre>" for test in comparisons),
        *(_section(number, experiment, pictures, worst) for number, experiment in enumerate(experiments, start=1)),
        _reproduction(experiments, facts),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>SphereCV evaluation</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_bytes(root / "report.html", page.encode())
    answers = {
        "experiments": [experiment.to_dict() for experiment in experiments],
        "comparisons": [test.to_dict() for test in comparisons],
        "provenance": facts,
    }
    write_bytes(root / "report.json", (json.dumps(answers, indent=1) + "\n").encode())
    return root / "report.html"


def provenance(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Versions, machine, time and command: what another person needs to repeat a measurement."""
    return {
        "spherecv": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "command": shlex.join(command if command is not None else ["spherecv", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def worst_pairs(experiment: Experiment, count: int = _WORST) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the most mistaken pairs by the first variant.

    Returns
    -------
    false_accepts, false_rejects : ndarray of int
        Impostor pairs accepted, nearest first; genuine pairs rejected, farthest first; at most `count` each.
    """
    variant, same = experiment.variants[0], experiment.pairs.same
    accepted = variant.distances <= np.asarray(variant.thresholds)
    order = np.argsort(variant.distances, kind="stable")
    false = order[(accepted & ~same)[order]][:count]
    missed = order[::-1][(~accepted & same)[order[::-1]]][:count]
    return false, missed


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _figures_table(experiments: Sequence[Experiment]) -> str:
    columns = [(experiment, variant) for experiment in experiments for variant in experiment.variants]
    names = list(dict.fromkeys(name for _, variant in columns for name, _ in variant.figures.rows()))
    head = "".join(f"<th>{escape(e.model)}<br><small>{escape(v.name)}</small></th>" for e, v in columns)
    values = [dict(variant.figures.rows()) for _, variant in columns]
    rows = [_row(name, [value.get(name, "") for value in values]) for name in names]
    spread = [_spread(variant.table) for _, variant in columns]
    if any(spread):
        rows.append(_row("folds: mean &plusmn; standard deviation; &plusmn; standard error", spread, raw=True))
    counts = [f"{variant.figures.genuine} + {variant.figures.impostors}" for _, variant in columns]
    rows.append(_row("pairs (genuine + impostor)", counts))
    left = sorted({far for _, variant in columns for far in variant.figures.unsupported}, reverse=True)
    note = ""
    if left:
        rates = ", ".join(f"{far:g}" for far in left)
        note = f'<p class="note">Too few impostor pairs for a TAR at FAR {rates}: fewer than 30 false accepts.</p>'
    return (
        f"{_table(f'<tr><th></th>{head}</tr>', *rows)}{note}"
        "<p>In brackets: 95 % bootstrap intervals, identities resampled.</p>"
    )


def _spread(table: Any) -> str:
    if table is None or len(table.folds) < 2:
        return ""
    return f"{table.mean:.5f} &plusmn; {table.standard_deviation:.5f}; &plusmn; {table.standard_error:.5f}"


def _table(*rows: str) -> str:
    """A table that scrolls in its box where the screen is narrow."""
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _row(name: str, values: Sequence[str], *, raw: bool = False) -> str:
    cells = "".join(f'<td class="n">{value if raw else escape(value)}</td>' for value in values)
    return f"<tr><th>{name if raw else escape(name)}</th>{cells}</tr>"


def _section(number: int, experiment: Experiment, pictures: dict[str, bytes], worst: int) -> str:
    parts = [f"<h2>{escape(experiment.model)}</h2>", _picture(pictures[f"histogram-{number}.png"], "distances")]
    parts += [
        f"<h3>Folds: {escape(variant.name)}</h3><pre>{escape(str(variant.table))}</pre>"
        for variant in experiment.variants
        if variant.table is not None and len(variant.table.folds) > 1
    ]
    for title, chosen in zip(("false accepts", "false rejects"), worst_pairs(experiment, worst), strict=True):
        parts.append(f"<h3>Worst {title}</h3>{_pairs(experiment, chosen)}")
    parts += [_groups(rates, pictures[f"groups-{number}-{rates.column}.png"]) for rates in experiment.groups]
    parts += [f'<p class="note">{escape(note)}</p>' for note in experiment.notes]
    if experiment.failures:
        rows = [_row(name, [why]) for name, why in list(experiment.failures.items())[:100]]
        parts.append(f"<h3>Images that could not be used ({len(experiment.failures)})</h3>{_table(*rows)}")
    return "".join(parts)


def _groups(rates: GroupRates, picture: bytes) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rates.names)
    rows = [
        _row(
            name,
            [
                f"{rates.rates[i, j]:.2e} ({rates.low[i, j]:.1e} to {rates.high[i, j]:.1e}), "
                f"{rates.false_matches[i, j]:,} of {rates.pairs[i, j]:,}"
                for j in range(len(rates.names))
            ],
        )
        for i, name in enumerate(rates.names)
    ]
    worst = "not known, since a group has none" if np.isnan(rates.ratio) else f"{rates.ratio:.2f}"
    ratio = f"worst within a group over the geometric mean of the groups: {worst}"
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in (*rates.notes, ratio))
    return (
        f"<h3>False match rate by {escape(rates.column)}, threshold {rates.threshold:.4f}</h3>"
        f"{_picture(picture, rates.column)}{_table(f'<tr><th></th>{head}</tr>', *rows)}{notes}"
    )


def _pairs(experiment: Experiment, chosen: NDArray[np.intp]) -> str:
    if not len(chosen):
        return "<p>None.</p>"
    pairs, distances = experiment.pairs, experiment.variants[0].distances
    return _side(
        [
            '<div class="pair">'
            f"{_photo(experiment.folder, pairs.images[pairs.first[i]])}"
            f"{_photo(experiment.folder, pairs.images[pairs.second[i]])}"
            f"<br>{distances[i]:.4f}<br>{escape(pairs.images[pairs.first[i]])}"
            f"<br>{escape(pairs.images[pairs.second[i]])}</div>"
            for i in chosen
        ]
    )


def _photo(folder: Path, name: str) -> str:
    """Thumbnail of an image, or of the middle frame of a video."""
    import cv2

    from spherecv.evaluate.cropsets import load_crop
    from spherecv.images import find_images, load_image

    try:
        path = folder / name
        if path.is_dir():
            frames = find_images(path)
            path = frames[len(frames) // 2]
        image = load_crop(folder, name) if folder.is_file() else load_image(path)
    except SphereCVError as error:
        return f"<i>{escape(str(error))}</i>"
    scale = _THUMBNAIL * 2 / max(image.shape[:2])
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _picture(png: bytes, title: str) -> str:
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _side(parts: Sequence[str]) -> str:
    return f'<div class="side">{"".join(parts)}</div>'


def _reproduction(experiments: Sequence[Experiment], facts: dict[str, Any]) -> str:
    subjects = [
        {**experiment.subject, "pairs": experiment.pairs.source, "images": str(experiment.folder)}
        for experiment in experiments
    ]
    text = json.dumps({**facts, "experiments": subjects}, indent=1)
    return f"<h2>To repeat this</h2><pre>{escape(facts['command'])}</pre><pre>{escape(text)}</pre>"
