"""Bulk embedding jobs: the parts that are left, run by processes of this machine or by Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from spherecv.checks import check_choice, check_count
from spherecv.config import ModelName, PipelineConfig, PipelineSettings, describe
from spherecv.errors import InvalidArgumentError, SphereCVError, StorageError
from spherecv.gallery.bulk.parts import Part, parts_of
from spherecv.gallery.bulk.shards import JOB, begin, check_format, finish, finished
from spherecv.gallery.bulk.work import Work, Worker
from spherecv.pipeline import WhichFace
from spherecv.processes import run_in_processes
from spherecv.runtime.devices import usable_cores
from spherecv.zoo import DEFAULT_MODEL, ModelSource

Engine = Literal["local", "ray"]
SHARD_IMAGES = 2000
"""Images of a shard: some minutes of work, which is what a kill costs, and a few megabytes."""

Note = dict[str, Any]
_Done = Generator[tuple[int, Note], None, None]


class BulkSettings(PipelineSettings, total=False):
    """The settings of `PipelineConfig`, and the address of the Ray cluster."""

    address: str | None


@dataclass(frozen=True)
class EmbedSummary:
    """What came of a job.

    Attributes
    ----------
    images, faces, failures : int
        In all shards.
    shards, resumed : int
        Shards in all, and of them those that an earlier run had finished.
    """

    images: int
    faces: int
    failures: int
    shards: int
    resumed: int

    def to_dict(self) -> dict[str, int]:
        """The counts as plain Python values, ready for JSON."""
        return dict(self.__dict__)


def embed_images(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: ModelName | ModelSource | PipelineConfig = DEFAULT_MODEL,
    face: WhichFace = "largest",
    format: str = "npy",  # noqa: A002 - what users call it
    shard_images: int = SHARD_IMAGES,
    engine: Engine = "local",
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Unpack[BulkSettings],
) -> EmbedSummary:
    """Embed very many images into a folder of shards with a manifest; an interrupted job resumes.

    Parameters
    ----------
    source : path
        A folder, a list, an image; or uncompressed `.tar` shards of images: one, a folder or a list of them.
    out : path
        Folder of the shards. With `engine="ray"` every machine must see it, the source and the model under this path.
    model : str, path, (path, path), ModelSource or PipelineConfig
    face : {"largest", "center", "all", "whole"}
    format : {"npy", "parquet"}
        `.npy` with a `.json` of the rows beside it, or Parquet (extra `gallery`).
    shard_images : int
        Images to a shard.
    engine : {"local", "ray"}
        Processes of this machine, or Ray Data with a model for each actor (extra `ray`). The embeddings are equal to
        the last bit.
    processes : int, optional
        Workers; by default one for each core, or whatever the Ray cluster has.
    progress : callable, optional
        Called with the numbers of shards done and found so far.
    **settings
        As for `PipelineConfig`, of each worker. One thread by default: many workers with one thread each are faster
        than few with many, and a sum whose order does not depend on the number of threads is the same everywhere.
        Of Ray also `address`, `"auto"` or `"ray://..."`; by default Ray is started on this machine.

    Returns
    -------
    EmbedSummary

    Raises
    ------
    ImageError
        No images in the source.
    GalleryMismatchError
        The folder holds embeddings made otherwise.
    StorageError, MissingDependencyError
    BackendError
        A worker died.
    """
    check_choice("face", face, get_args(WhichFace))
    check_choice("engine", engine, get_args(Engine))
    check_count("shard_images", shard_images)
    check_count("processes", 1 if processes is None else processes)
    kind = check_format(format)
    address = settings.pop("address", None)
    config = _config(model, settings)
    folder = _made(Path(out))
    claimed = begin(
        folder,
        {
            "model": config.fingerprint.model,
            "key": config.fingerprint.key,
            "detector": config.fingerprint.detector,
            "face": face,
            "format_of_shards": kind,
            "shard_images": shard_images,
            "backend": config.embedder_backend,
        },
        free=() if config.backend else ("backend",),  # what is usual may change: embeddings agree to 1e-6
    )
    job = Work(str(folder.resolve()), config, face, kind)
    notes: dict[int, Note] = {}
    todo = _left(parts_of(source, shard_images), folder, job, notes)
    done = _by_ray(job, todo, processes, address) if engine == "ray" else _by_processes(job, todo, processes)
    new = 0
    try:
        for number, note in done:
            notes[number] = note
            new += 1
            if progress is not None:
                progress(len(notes), max(notes) + 1)
    except SphereCVError:
        if claimed and not notes:
            (folder / JOB).unlink(missing_ok=True)  # no reason to refuse the same folder to a job without the mistake
        raise
    finally:
        done.close()
    ordered = [notes[number] for number in sorted(notes)]
    finish(folder, ordered)
    return EmbedSummary(
        images=sum(int(note["images"]) for note in ordered),
        faces=sum(int(note["faces"]) for note in ordered),
        failures=sum(len(note["failures"]) for note in ordered),
        shards=len(ordered),
        resumed=len(ordered) - new,
    )


def _config(model: ModelName | ModelSource | PipelineConfig, settings: Mapping[str, Any]) -> PipelineConfig:
    config = describe(model, **settings)
    if not isinstance(config, PipelineConfig):
        raise InvalidArgumentError("workers open their own stages: give a model and a detector by name, or a config")
    return config if config.threads else replace(config, threads=1)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror or error}") from None
    return folder


def _left(parts: Iterator[Part], folder: Path, job: Work, notes: dict[int, Note]) -> Iterator[Part]:
    """Parts that are not finished; the notes of the others are gathered on the way."""
    for part in parts:
        note = finished(folder, part, job.format)
        if note is None:
            yield part
        else:
            notes[part.number] = note


def _by_processes(job: Work, todo: Iterator[Part], processes: int | None) -> _Done:
    count = processes or usable_cores()
    with closing(run_in_processes(partial(Worker, job), todo, count, threads=job.config.threads or 1)) as done:
        for part, note in done:
            yield part.number, note


def _by_ray(job: Work, todo: Iterator[Part], processes: int | None, address: str | None) -> _Done:
    from spherecv.gallery.bulk.on_ray import embed_parts

    return embed_parts(job, list(todo), processes, address)
