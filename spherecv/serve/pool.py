"""Pool of pipelines for many threads, with batches across requests."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from time import monotonic, perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np

from spherecv.config import PipelineConfig
from spherecv.errors import SphereCVError
from spherecv.images import BATCH_PIXELS, ImageSource, LabelledImage, load_labelled, load_or_error
from spherecv.pipeline import FacePipeline, OnError, WhichFace
from spherecv.records import EmbeddedFace, Face
from spherecv.runtime.devices import usable_cores
from spherecv.serve.uploads import Upload

Task: TypeAlias = WhichFace | Literal["detect"]
Observer: TypeAlias = Callable[[int, float], None]
"""Called with the images and seconds of every batch."""

_DEEP = 4
"""Images that wait for each worker from which on they are taken in batches."""
_SMOOTHING = 0.1

DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)
"""When the request that runs in this thread must be done, by `time.monotonic`; None for never."""


class OverdueError(SphereCVError):
    """A request that was not done in time. Ask again later, with smaller images, or raise the time limit."""


class ClosedError(SphereCVError):
    """The pool was closed before the image's turn came."""


@dataclass(frozen=True)
class Detected:
    """Faces found in an image, without embeddings.

    Attributes
    ----------
    faces : list of Face
    width, height : int
        Of the image as it is looked at, turned upright.
    """

    faces: list[Face]
    width: int
    height: int


@dataclass(eq=False)
class _Job:
    task: Task
    source: ImageSource | LabelledImage
    deadline: float | None
    pixels: int = 0
    done: Future[Any] = field(default_factory=Future)


class PipelinePool(FacePipeline):
    """A `FacePipeline` for many threads: what they ask for at the same time goes through the nets together.

    One worker thread for each pipeline takes what waits: one image as long as little does, and batches under load,
    never more than keeps all workers busy; nothing waits for a batch to fill. Measured on two cores with MTCNN and
    MobileFaceNet: two pipelines of one thread each do as much as one of two threads with batches of 16. Batches of 8
    raise the throughput by a tenth, but at half load everybody in a batch waits for its last: the slowest hundredth of
    the answers took 3.8 times the median with them, and 2.2 times one by one.

    Parameters
    ----------
    pipelines : sequence of FacePipeline
        Of the same model and detector; each is used by one thread at a time.
    batch : int
        Most images in a batch.
    observe : callable, optional
        Called with the number of images and the seconds of every batch.
    """

    def __init__(self, pipelines: Sequence[FacePipeline], *, batch: int = 8, observe: Observer | None = None) -> None:
        first = pipelines[0]
        super().__init__(first.embedder, detector=first.detector)
        self._batch = batch
        self._observe = observe or (lambda _images, _seconds: None)
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._idle = 0
        self._closed = False
        self._seconds_each = 0.05
        self._workers = [
            threading.Thread(target=self._work, args=(pipeline,), name=f"spherecv-worker-{number}", daemon=True)
            for number, pipeline in enumerate(pipelines)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def workers(self) -> int:
        """How many pipelines there are."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """How many images wait for a worker."""
        return len(self._jobs)

    @property
    def backlog(self) -> float:
        """Seconds until an image that came now would get its turn, as the last ones went."""
        return len(self._jobs) * self._seconds_each / self.workers

    def observe(self, observer: Observer) -> None:
        """Tell somebody of every batch from now on."""
        self._observe = observer

    def run(
        self,
        images: Iterable[ImageSource | LabelledImage],
        *,
        face: WhichFace = "largest",
        errors: OnError = "raise",
        batch_size: int = 16,  # noqa: ARG002 - the pool makes its own batches
    ) -> Iterator[list[EmbeddedFace] | SphereCVError]:
        """Find and embed the faces of images; as `FacePipeline.run`.

        Raises
        ------
        OverdueError
            The thread's deadline passed.
        """
        jobs = [self._submit(face, image) for image in images]
        try:
            for job in jobs:
                answer: list[EmbeddedFace] | SphereCVError = self._answer(job)
                if isinstance(answer, SphereCVError) and errors == "raise":
                    raise answer
                yield answer
        finally:
            for job in jobs:
                job.done.cancel()

    def detect(self, image: ImageSource | LabelledImage) -> Detected:
        """Find the faces of one image, without embedding them; none is an answer too."""
        job = self._submit("detect", image)
        found: Detected | SphereCVError = self._answer(job)
        if isinstance(found, SphereCVError):
            raise found
        return found

    def close(self) -> None:
        """Finish what waits, and let the workers go."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for worker in self._workers:
            worker.join()

    def _submit(self, task: Task, source: ImageSource | LabelledImage) -> _Job:
        job = _Job(task, source, DEADLINE.get(), source.pixels if isinstance(source, Upload) else 0)
        with self._wake:
            if self._closed:
                raise ClosedError("the service is being stopped")
            self._jobs.append(job)
            self._wake.notify()
        return job

    @staticmethod
    def _answer(job: _Job) -> Any:
        left = None if job.deadline is None else max(job.deadline - monotonic(), 0.0)
        try:
            return job.done.result(left)
        except (CancelledError, FutureTimeoutError):
            job.done.cancel()
            raise OverdueError("the service did not get to it in time: try again later") from None

    def _work(self, pipeline: FacePipeline) -> None:
        while jobs := self._take():
            started = perf_counter()
            _settle(pipeline, jobs)
            seconds = perf_counter() - started
            self._seconds_each += _SMOOTHING * (seconds / len(jobs) - self._seconds_each)
            self._observe(len(jobs), seconds)

    def _take(self) -> list[_Job]:
        """Take the next batch of one kind; empty when the pool is closed and nothing is left."""
        with self._wake:
            self._idle += 1
            try:
                while True:
                    while not self._jobs and not self._closed:
                        self._wake.wait()
                    if not self._jobs:
                        return []
                    if batch := self._next_batch():
                        return batch
            finally:
                self._idle -= 1

    def _next_batch(self) -> list[_Job]:
        # One by one as long as little waits; then a fair share, so that others who wait for work get theirs.
        few = len(self._jobs) < _DEEP * self.workers
        most = 1 if few else min(self._batch, math.ceil(len(self._jobs) / max(self._idle, 1)))
        batch: list[_Job] = []
        later: list[_Job] = []
        pixels = 0
        while self._jobs and len(batch) < most and pixels < BATCH_PIXELS:
            job = self._jobs.popleft()
            if batch and job.task != batch[0].task:
                later.append(job)
            elif job.deadline is not None and job.deadline < monotonic():
                job.done.cancel()
            elif job.done.set_running_or_notify_cancel():
                batch.append(job)
                pixels += job.pixels
        self._jobs.extendleft(reversed(later))
        return batch


def _settle(pipeline: FacePipeline, jobs: Sequence[_Job]) -> None:
    """Answer jobs; where a batch fails as a whole, one by one, so that one image costs nobody else the answer."""
    try:
        answers = _run(pipeline, jobs)
    except BaseException as fault:  # the caller must get it, and the worker must go on
        if len(jobs) == 1:
            jobs[0].done.set_exception(fault)
            return
        for job in jobs:
            _settle(pipeline, [job])
    else:
        for job, answer in zip(jobs, answers, strict=True):
            job.done.set_result(answer)


def _run(pipeline: FacePipeline, jobs: Sequence[_Job]) -> list[Any]:
    loaded = [load_or_error(_decoded, job.source) for job in jobs]
    usable = [item for item in loaded if not isinstance(item, SphereCVError)]
    task = jobs[0].task
    if task == "detect":
        found: Iterator[Any] = iter(_detected(pipeline, usable))
    else:
        found = pipeline.run(usable, face=task, errors="return", batch_size=max(len(usable), 1))
    return [item if isinstance(item, SphereCVError) else next(found) for item in loaded]


def _decoded(source: ImageSource | LabelledImage) -> LabelledImage:
    return LabelledImage(source.decode_image(), source.name) if isinstance(source, Upload) else load_labelled(source)


def _detected(pipeline: FacePipeline, images: Sequence[LabelledImage]) -> list[Detected | SphereCVError]:
    answers = pipeline.detector.detect_batch([item.image for item in images], errors="return")
    return [
        answer
        if isinstance(answer, SphereCVError)
        else Detected(answer, item.image.shape[1], item.image.shape[0])
        for answer, item in zip(answers, images, strict=True)
    ]


def open_pool(
    config: PipelineConfig, *, workers: int | None = None, threads: int | None = None, batch: int = 8
) -> PipelinePool:
    """Open a pool of pipelines, and run each once, so that the first caller need not wait for it.

    Parameters
    ----------
    config : PipelineConfig
    workers : int, optional
        Pipelines; by default one for each core that may be used, and one on CUDA.
    threads : int, optional
        Threads of each; by default the configuration's, or the cores shared out.
    batch : int
        Most images in a batch.

    Raises
    ------
    SphereCVError
        As for `PipelineConfig.open`.
    """
    cores = usable_cores()
    count = workers or (cores if config.device == "cpu" else 1)
    each = replace(config, threads=threads or config.threads or max(1, cores // count))
    pipelines = [each.open() for _ in range(count)]
    for pipeline in pipelines:
        pipeline.detector.detect(np.zeros((96, 96, 3), np.uint8))
        pipeline.embedder.embed(np.zeros((1, *pipeline.embedder.recipe.size, 3), np.uint8))
    return PipelinePool(pipelines, batch=batch)
