"""Alignment of a data set as the SphereFace authors did it, in several processes, resumable."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypedDict, Unpack

from spherecv.brief import brief
from spherecv.checks import check_choice, check_count
from spherecv.config import PipelineConfig, Stages
from spherecv.dataset.crops import NoFacePolicy, check_policy
from spherecv.dataset.jobs import jobs_of
from spherecv.dataset.table import Journal, State, TableRow, check_table, is_inside, write_table
from spherecv.dataset.work import Work, run_jobs
from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.runtime.devices import usable_cores
from spherecv.zoo import Recipe, get_recipe

JOURNAL = ".align.jsonl"
SUFFIXES = {"jpg": ".jpg", "png": ".png"}
_NAMED = 5
"""Images without a crop that a summary names."""


class AlignSettings(TypedDict, total=False):
    """How a data set is aligned.

    Attributes
    ----------
    recipe : Recipe or str
        How to align: `"sphereface"` gives 112x96, `"mobilefacenet"` 112x112; any recipe's template and size.
    detector : str
        The kind of detector.
    preset : str or None
        Of MTCNN: `"sphereface"`, the default, is how the authors ran it (min size 20, factor 0.85, thresholds 0.6,
        0.7, 0.9).
    min_size : float or None
        Of MTCNN: side of the smallest face, in pixels.
    face : {"center", "largest"}
        Which of several: the nearest to the middle, as the authors took, or the largest.
    no_face : {"skip", "center", "fail"}
        What becomes of an image without a face: left out, its middle taken, or the run ended.
    image_format : {"jpg", "png"}
    quality : int
        Of JPEG, 1..100; 95 by default.
    threads : int
        Of each process; 1 by default.
    """

    recipe: Recipe | str
    detector: str
    preset: str | None
    min_size: float | None
    face: Literal["center", "largest"]
    no_face: NoFacePolicy
    image_format: Literal["jpg", "png"]
    quality: int
    threads: int


@dataclass(frozen=True)
class AlignSummary:
    """What was done.

    Attributes
    ----------
    table : Path
        One row for each image: path, crop, status, reason, faces, score, box, landmarks.
    counts : dict of str to int
        Images by status: `"ok"`, `"no face"`, `"center crop"`, `"failed"`.
    resumed : int
        Images that an earlier run had done.
    processes : int
    seconds : float
        Wall time of this run.
    policy : str
        What was done with images without a face.
    lost : tuple of TableRow
        The first images of which there is no crop; the table has all.
    """

    table: Path
    counts: dict[str, int]
    resumed: int
    processes: int
    seconds: float
    policy: NoFacePolicy
    lost: tuple[TableRow, ...] = ()

    __repr__ = brief

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain Python values, ready for JSON."""
        return {
            "table": str(self.table),
            "images": self.images,
            **{status.replace(" ", "_"): count for status, count in self.counts.items()},
            "resumed": self.resumed,
            "processes": self.processes,
            "seconds": round(self.seconds, 3),
            "no_face": self.policy,
        }


def align_dataset(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    stages: Stages | None = None,
    processes: int | None = None,
    restart: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **settings: Unpack[AlignSettings],
) -> AlignSummary:
    """Cut the faces out of a data set, into the same tree.

    An interrupted run resumes at the next image when it is called again with the same settings. Every crop is
    written whole or not at all.

    Parameters
    ----------
    source : path
        A folder (`identity/image`, any depth, any image type), a list, one image, or a `dataList.mat` of the authors'
        detection, whose landmarks are taken as they are.
    out : path
        Where the crops, the table and the journal go.
    table : path, optional
        `.csv` or `.parquet`; by default `faces.csv` in `out`.
    images : path, optional
        Where the images of a `dataList.mat` are, as `identity/image`.
    stages : PipelineConfig or FacePipeline, optional
        Whose detector and recipe are taken, in place of those settings.
    processes : int, optional
        As many as this process may use cores by default. More than one are started afresh, so a script of your own
        needs `if __name__ == "__main__":`.
    restart : bool
        Forget what an earlier run did.
    progress : callable, optional
        Called with the number of images done and in all.
    **settings
        `AlignSettings`.

    Returns
    -------
    AlignSummary

    Raises
    ------
    DatasetError
        The source is not what it should be; `out` lies in it; or `out` holds crops of other settings.
    NoFaceError, ImageError
        With `no_face="fail"`, an image without a face, or one that cannot be read.
    InvalidArgumentError
        An option out of range.
    StorageError
        Nothing can be written, or the disk is full; what is done stays, and the next run goes on from there.
    """
    started = perf_counter()
    origin, goal = Path(source), Path(out)
    image_format = settings.get("image_format", "jpg")
    work = _checked_work(goal, stages, image_format, settings)
    count = _processes(processes)
    sheet = Path(table) if table is not None else goal / "faces.csv"
    check_table(sheet)
    if origin.is_dir() and is_inside(goal, origin):
        raise DatasetError(f"{goal} lies in {origin}: its crops would be taken for images of the data set")
    if origin.suffix.lower() == ".mat" and work.recipe.alignment == "box":
        raise InvalidArgumentError(f"{origin} holds landmarks, but {work.recipe.name} aligns by boxes: give a folder")
    jobs = jobs_of(origin, SUFFIXES[image_format], None if images is None else Path(images))
    if restart:
        (goal / JOURNAL).unlink(missing_ok=True)
    journal = Journal(goal / JOURNAL, work.settings())
    try:
        waiting = [job for job in jobs if not _is_done(journal.states.get(job.name), goal)]
        done = resumed = len(jobs) - len(waiting)
        with closing(run_jobs(work, waiting, count)) as rows:
            for row in rows:
                journal.add(row)
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
    finally:
        journal.close()
    write_table(sheet, journal.rows(job.name for job in jobs))
    counts = Counter(journal.states[job.name].status for job in jobs)
    without = [job.name for job in jobs if journal.states[job.name].crop is None]
    lost = tuple(journal.rows(without[:_NAMED]))
    return AlignSummary(sheet, dict(counts), resumed, count, perf_counter() - started, work.no_face, lost)


def _checked_work(goal: Path, stages: Stages | None, image_format: str, settings: AlignSettings) -> Work:
    face, quality = settings.get("face", "center"), settings.get("quality", 95)
    check_choice("face", face, ("center", "largest"))
    check_choice("image_format", image_format, SUFFIXES)
    if not 1 <= quality <= 100:
        raise InvalidArgumentError(f"quality must be within 1..100, but got {quality}")
    return Work(
        out=goal,
        stages=_detecting(settings) if stages is None else stages,
        recipe=get_recipe(settings.get("recipe", "sphereface")) if stages is None else stages.source.recipe,
        face=face,
        no_face=check_policy(settings.get("no_face", "skip")),
        quality=quality,
        suffix=SUFFIXES[image_format],
    )


def _detecting(settings: AlignSettings) -> PipelineConfig:
    """Describe the detector alone: its model is never asked for."""
    detector = settings.get("detector", "mtcnn")
    preset = settings.get("preset", "sphereface") if detector == "mtcnn" else None
    least, threads = settings.get("min_size"), settings.get("threads", 1)
    return PipelineConfig(detector=detector, preset=preset, min_size=least, threads=threads)


def _processes(processes: int | None) -> int:
    return usable_cores() if processes is None else check_count("processes", processes)


def _is_done(row: State | None, goal: Path) -> bool:
    """Failures are tried again: the disk may be back, the file repaired."""
    if row is None or row.status == "failed":
        return False
    return row.crop is None or (goal / row.crop).is_file()
