"""What a fine-tuning came to: error rates before and after, thresholds for the new weights, and how to use them."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherecv.cli.train.sizes import Fit
from spherecv.errors import NotEnoughDataError
from spherecv.files import copy_file, write_bytes
from spherecv.train.finetune import NEARLY
from spherecv.train.validation import FEWEST_PEOPLE
from spherecv.zoo.manifest import own_dir, shipped_manifest

if TYPE_CHECKING:
    from spherecv.thresholds import Calibration
    from spherecv.train.data import Dataset
    from spherecv.train.finetune import FineTuning
    from spherecv.zoo import Recipe

_REPLICATES = 200
_TAKEN_DOWN = 20_000


@dataclass(frozen=True)
class Result:
    """The end of a fine-tuning, as text and as a table.

    Attributes
    ----------
    tuning : FineTuning
    calibration : Calibration or None
    calibrated : Path
        Where it is written.
    recipe_file : str
        What `--recipe` takes.
    files : (Path, Path)
        Prototxt and caffemodel.
    fit : Fit
    name : str
        What the model may be called.
    able : int
        People with two images or more, who could be held out.
    """

    tuning: FineTuning
    calibration: Calibration | None
    calibrated: Path
    recipe_file: str
    files: tuple[Path, Path]
    fit: Fit
    name: str
    able: int

    @property
    def worse(self) -> bool:
        """Whether the people held out are told apart worse than before: one rate is worse, and none better."""
        before, after = self.tuning.before, self.tuning.best
        if before is None or after is None:
            return False
        lost = (after.eer - before.eer, before.tar - after.tar)
        return max(lost) > 0 and min(lost) >= 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values, ready for JSON."""
        tuning = self.tuning
        return {
            "best_iteration": tuning.best_iteration if tuning.best else None,
            "held_out": 0 if tuning.held is None else tuning.held.classes,
            "before": None if tuning.before is None else asdict(tuning.before),
            "after": None if tuning.best is None else asdict(tuning.best),
            "worse": self.worse,
            "calibration": None if self.calibration is None else str(self.calibrated),
            "threshold": None if self.calibration is None else self.calibration.thresholds[0].threshold,
            "recipe": self.recipe_file,
        }

    def text(self) -> str:
        """Return the table, the thresholds and the command to use the weights."""
        return "\n".join([*self._table(), *self._thresholds(), *self._use()])

    def _table(self) -> list[str]:
        tuning = self.tuning
        before, after, held = tuning.before, tuning.best, tuning.held
        if before is None or after is None or held is None:
            return [f"nobody was held out, so what was gained is not known: {self._nobody()}"]
        rows = [
            ("equal error rate", f"{100 * before.eer:.2f} %", f"{100 * after.eer:.2f} %"),
            ("TAR at FAR 1e-2", f"{100 * before.tar:.2f} %", f"{100 * after.tar:.2f} %"),
            ("angle within people", f"{before.within:.1f} deg", f"{after.within:.1f} deg"),
            ("angle between people", f"{before.between:.1f} deg", f"{after.between:.1f} deg"),
        ]
        rows.append(("separation d'", f"{before.separation:.2f}", f"{after.separation:.2f}"))
        head = f"{len(held.items)} images of {held.classes} people who were held out:"
        lines = [head, f"  {'':24}{'before':>10}{'after':>10}"]
        lines += [f"  {name:24}{old:>10}{new:>10}" for name, old, new in rows]
        if not tuning.best_iteration:
            lines.append("no iteration did better by them: the weights are those it started from; more images may help")
        else:
            lines.append(
                f"the weights are those of iteration {tuning.best_iteration}: the latest whose separation d' is at "
                f"least {NEARLY:.0%} of the best so far, and above that before"
            )
        if self.worse:
            lines += [
                "WORSE: the new weights tell people that they have not seen apart worse than those it started from.",
                "  Keep the old net. More people and more images of each may help, a lower --base-lr, or --head-only.",
            ]
        return lines

    def _nobody(self) -> str:
        if self.able >= FEWEST_PEOPLE:
            return "--validate 0.1 holds out some people"
        return f"it takes {FEWEST_PEOPLE} people with two images each or more, and here are {self.able}"

    def _thresholds(self) -> list[str]:
        if self.calibration is None:
            return ["no threshold was measured; `spherecv calibrate` measures one on images or pairs of yours"]
        row = self.calibration.thresholds[0]
        far = "{:.1e} ({:.1e} to {:.1e})".format(row.measured_far, *row.far_interval)
        pairs = f"{self.calibration.genuine:,} genuine and {self.calibration.impostors:,} impostor pairs"
        return [
            f"threshold for {row.chosen_for}: cosine distance {row.threshold:.4f}, FAR {far}",
            f"  on {pairs} of the people held out, {self._seen()}: {self.calibrated}",
        ]

    def _seen(self) -> str:
        return "faces found as `verify` finds them" if self.fit.aligned_from else "images taken as ready-made crops"

    def _use(self) -> list[str]:
        prototxt, caffemodel = self.files
        add = f"  spherecv models add {self.name} --prototxt {prototxt} --caffemodel {caffemodel}"
        add += f" --recipe {self.recipe_file}"
        if self.calibration is not None:
            add += f" --calibration {self.calibrated}"
        lines = ["to use it all the same:" if self.worse else "to use it:"]
        if (own_dir() / self.name).exists():
            add += " --replace"
            lines = [f"{lines[0][:-1]} (a model {self.name} is there: --replace gives it up, another name keeps both):"]
        if self.fit.aligned_from:
            return [*lines, add, f"  spherecv verify A.jpg B.jpg --model {self.name}"]
        return [
            *lines,
            add,
            f"  spherecv verify A.jpg B.jpg --model {self.name} --face whole",
            "  A.jpg and B.jpg must be crops aligned like the images trained on (`spherecv align` makes them)",
            "  for photographs, measure a threshold with their faces found, on other people than those trained on:",
            f"  spherecv calibrate PHOTOS/ --model {self.name} -o photos.toml",
        ]


def _name_of(out: Path) -> str:
    """Make a model's name of a folder's: one that no model of SphereCV has."""
    name = re.sub("[^a-z0-9.-]+", "-", out.resolve().name.lower()).strip("-.") or "mine"
    return f"{name}-tuned" if name in shipped_manifest().models else name


def conclude(
    tuning: FineTuning,
    files: tuple[Path, Path],
    recipe: Recipe,
    fit: Fit,
    out: Path,
    *,
    able: int,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Measure thresholds on the people held out, and sum up.

    Parameters
    ----------
    tuning : FineTuning
        That has ended.
    files : (Path, Path)
        Prototxt and caffemodel of the new weights.
    recipe : Recipe
    fit : Fit
    out : Path
        Where `held-out` and `calibration.toml` go.
    able : int
        People with two images or more, who could be held out.
    progress : callable, optional
    """
    calibrated = out / "calibration.toml"
    calibration = None
    if tuning.held is not None:
        folder = _images_of(tuning.held, recipe, fit, out)
        try:
            calibration = _calibrate(folder, files, recipe, fit, progress)
        except NotEnoughDataError:
            calibration = None
        else:
            calibration.save(calibrated)
        _write_looks(tuning, out / "held-out.csv")
    return Result(tuning, calibration, calibrated, _written(recipe, out), files, fit, _name_of(out), able)


def _written(recipe: Recipe, out: Path) -> str:
    """Return what names a recipe: its name where the package knows it, else a file that is written."""
    from spherecv.files import write_toml

    known = shipped_manifest().recipes.get(recipe.name)
    if known is not None and known.fingerprint == recipe.fingerprint:
        return recipe.name
    path = out / "recipe.toml"
    write_toml(path, recipe.to_dict())
    return str(path)


def _write_looks(tuning: FineTuning, table: Path) -> None:
    """Write what every look at the people held out found, a line each."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["iteration", *asdict(tuning.looks[0][1])])
    rows.writerows([done, *(f"{value:.6g}" for value in asdict(found).values())] for done, found in tuning.looks)
    write_bytes(table, text.getvalue().encode())


def _calibrate(
    folder: Path,
    files: tuple[Path, Path],
    recipe: Recipe,
    fit: Fit,
    progress: Callable[[int, int], None] | None,
) -> Calibration:
    from spherecv.evaluate.calibrating import Choice, calibrate_subject
    from spherecv.evaluate.subject import Subject
    from spherecv.zoo import ModelSource

    source = ModelSource.from_caffe(*files, recipe=recipe)
    subject = Subject.of(source, face="largest" if fit.aligned_from else "whole", preset=None)
    return calibrate_subject(folder, subject, Choice(replicates=_REPLICATES), progress=progress)


def contents_of(known: Dataset, fit: Fit, out: Path) -> Iterator[bytes]:
    """Yield the files of the images learnt, of very many some: crops, and the images that they were cut out of."""
    from spherecv.errors import ImageError
    from spherecv.train.data.reading import bytes_of

    for item in known.items[:: max(1, len(known.items) // _TAKEN_DOWN)]:
        photo = _photo_of(Path(item.path), fit, out) if fit.aligned_from else None
        for path in filter(None, (None if item.size else Path(item.path), photo)):
            with suppress(OSError):
                yield path.read_bytes()
        if item.size:
            with suppress(ImageError):
                yield bytes_of(item)


def _images_of(held: Dataset, recipe: Recipe, fit: Fit, out: Path) -> Path:
    """Write the images of the people held out, a folder each: images where faces were found in them, else crops."""
    import cv2
    import numpy as np

    from spherecv.errors import ImageError
    from spherecv.train.data import View

    folder = out / "held-out"
    shutil.rmtree(folder, ignore_errors=True)
    height, width = recipe.size
    view = View(height, width, resize=(height, width) if fit.resize else (0, 0))
    for number, item in enumerate(held.items):
        person = folder / f"{item.label:04d}-{Path(held.names[item.label]).name}"
        person.mkdir(parents=True, exist_ok=True)
        if fit.aligned_from:
            photo = _photo_of(Path(item.path), fit, out)
            if photo is not None:
                copy_file(photo, person / f"{number:06d}{photo.suffix}")
            continue
        try:
            crop = view.read(item, np.random.default_rng(0))
        except ImageError:
            continue
        write_bytes(person / f"{number:06d}.png", cv2.imencode(".png", crop)[1].tobytes())
    return folder


def _photo_of(crop: Path, fit: Fit, out: Path) -> Path | None:
    """Return the image that a crop was cut out of: of the same name in the folder it was aligned from."""
    inside = crop.relative_to(out / "aligned")
    for folder in fit.aligned_from:
        place = folder.joinpath(*inside.parts[1:])
        found = sorted(place.parent.glob(f"{place.stem}.*"))
        if found:
            return found[0]
    return None
