"""Alignment of images to crops, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spherecv.align import FaceAligner
from spherecv.config import PipelineConfig, Stages
from spherecv.dataset.crops import NoFacePolicy, center_crop
from spherecv.dataset.jobs import Job
from spherecv.dataset.table import TableRow
from spherecv.errors import ImageError, NoFaceError, SphereCVError, StorageError
from spherecv.files import write_bytes
from spherecv.images import load_image
from spherecv.pipeline import choose_faces
from spherecv.processes import run_in_processes
from spherecv.records import Face
from spherecv.zoo import Recipe

_FEW = 8
"""Images for which starting processes is not worth it."""


@dataclass(frozen=True)
class Work:
    """Everything that decides what a crop looks like, and where it goes.

    Attributes
    ----------
    out : Path
    stages : PipelineConfig or FacePipeline
        The detector. Of several processes each opens its own.
    recipe : Recipe
        Its template, alignment and size.
    face : {"center", "largest"}
    no_face : {"skip", "center", "fail"}
    quality : int
        Of JPEG.
    suffix : str
        `.jpg` or `.png`.
    """

    out: Path
    stages: Stages
    recipe: Recipe
    face: Literal["center", "largest"]
    no_face: NoFacePolicy
    quality: int
    suffix: str

    @property
    def threads(self) -> int:
        """Of each process; changes nothing in the crops."""
        return (self.stages.threads if isinstance(self.stages, PipelineConfig) else None) or 1

    def settings(self) -> dict[str, Any]:
        """What crops depend on, as plain values."""
        return {
            "template": [list(point) for point in self.recipe.template_points],
            "size": list(self.recipe.size),
            "alignment": self.recipe.alignment,
            **({"margin": self.recipe.margin} if self.recipe.margin else {}),
            **self._detector(),
            "face": self.face,
            "no_face": self.no_face,
            "quality": self.quality,
            "suffix": self.suffix,
        }

    def _detector(self) -> dict[str, Any]:
        if not isinstance(self.stages, PipelineConfig):
            return {"detector": self.stages.detector_name, "preset": None}
        config = self.stages  # the smallest face is named only where it was given: older journals do not have it
        least = {} if config.min_size is None else {"min_size": config.min_size}
        return {"detector": config.detector, "preset": config.preset, **least}


class Aligning:
    """Detector and aligner of one process.

    Parameters
    ----------
    work : Work
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        stages = work.stages
        self._detector = stages.open_detector() if isinstance(stages, PipelineConfig) else stages.detector
        recipe = work.recipe
        self._aligner = FaceAligner(
            recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin
        )

    def row(self, job: Job) -> TableRow:
        """Align one image and write its crop.

        Raises
        ------
        NoFaceError, ImageError
            With the policy `"fail"`.
        StorageError
            The crop cannot be written.
        """
        try:
            return self._row(job)
        except StorageError:
            raise
        except SphereCVError as error:
            if self._work.no_face == "fail":
                raise
            return TableRow(job.name, None, "failed", str(error))

    def _row(self, job: Job) -> TableRow:
        image = load_image(job.path)
        if job.landmarks is not None:
            points = np.array(job.landmarks, dtype=np.float32)
            found = [Face(box=np.concatenate([points.min(axis=0), points.max(axis=0)]), landmarks=points)]
        else:
            found = [] if job.known else self._detector.detect(image)
        if not found:
            return self._without_face(job, image)
        (face,) = choose_faces(found, image.shape, self._work.face)
        self._write(job, self._aligner.align(image, [face])[0])
        values = face.to_dict()
        known = job.landmarks is not None
        return TableRow(
            job.name,
            job.crop,
            "ok",
            faces=len(found),
            score=None if known else values["score"],
            box=None if known else values["box"],
            landmarks=values["landmarks"],
        )

    def _without_face(self, job: Job, image: NDArray[np.uint8]) -> TableRow:
        if self._work.no_face == "fail":
            raise NoFaceError(f"no face found in {job.path}")
        if self._work.no_face == "skip":
            return TableRow(job.name, None, "no face")
        self._write(job, center_crop(image, self._work.recipe.size))
        return TableRow(job.name, job.crop, "center crop")

    def _write(self, job: Job, crop: NDArray[np.uint8]) -> None:
        import cv2

        options = [cv2.IMWRITE_JPEG_QUALITY, self._work.quality] if self._work.suffix == ".jpg" else []
        fine, data = cv2.imencode(self._work.suffix, crop, options)
        if not fine:
            raise ImageError(f"the crop of {job.path} cannot be encoded as {self._work.suffix}")
        write_bytes(self._work.out / job.crop, data.tobytes())


def run_jobs(work: Work, jobs: Sequence[Job], processes: int) -> Generator[TableRow, None, None]:
    """Do the work, and give a row for each image as it is done.

    Parameters
    ----------
    work : Work
    jobs : sequence of Job
    processes : int
        1 works in this process.

    Yields
    ------
    TableRow
        In the order of their completion.

    Raises
    ------
    SphereCVError
        What `Aligning.row` raises, or a process was killed.
    """
    few = len(jobs) <= _FEW
    done = run_in_processes(partial(_opened, work), jobs, 1 if few else processes, threads=work.threads)
    with closing(done):
        for _, row in done:
            yield row


def _opened(work: Work) -> Callable[[Job], TableRow]:
    return Aligning(work).row
