"""Bulk embedding worker: one part of the images to one shard, the same on every engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherecv.config import PipelineConfig
from spherecv.errors import SphereCVError
from spherecv.facetable import FaceRows
from spherecv.gallery.bulk.parts import Item, Part
from spherecv.gallery.bulk.shards import Format, Shard, write_shard
from spherecv.images import LabelledImage, load_or_error
from spherecv.pipeline import WhichFace

_LOADED_AT_ONCE = 16


@dataclass(frozen=True)
class Work:
    """What to do with each part; travels to other processes and machines.

    Attributes
    ----------
    out : str
        Folder of the shards, on a file system that all workers see.
    config : PipelineConfig
        Its files, likewise.
    face : {"largest", "center", "all", "whole"}
    format : {"npy", "parquet"}
    """

    out: str
    config: PipelineConfig
    face: WhichFace
    format: Format


class Worker:
    """A pipeline that embeds part after part.

    Parameters
    ----------
    work : Work
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pipeline = work.config.open()
        self._dimension = 0

    def __call__(self, part: Part) -> dict[str, Any]:
        """Embed the images of a part, write the shard, and return its note."""
        rows, failures = FaceRows(), list[tuple[str, str]]()
        for start in range(0, len(part.items), _LOADED_AT_ONCE):
            self._embed(part.items[start : start + _LOADED_AT_ONCE], rows, failures)
        shard = Shard(**vars(rows.table(self._width())), failures=tuple(failures))
        return write_shard(Path(self._work.out), part, shard, self._work.format)

    def _embed(self, items: tuple[Item, ...], rows: FaceRows, failures: list[tuple[str, str]]) -> None:
        loaded: list[tuple[Item, LabelledImage]] = []
        for item in items:
            image = load_or_error(Item.load, item)
            if isinstance(image, SphereCVError):
                failures.append((item.name, str(image)))
            else:
                loaded.append((item, image))
        answers = self._pipeline.run([image for _, image in loaded], face=self._work.face, errors="return")
        for (item, _), found in zip(loaded, answers, strict=True):
            if isinstance(found, SphereCVError):
                failures.append((item.name, str(found)))
                continue
            for embedded in found:
                rows.add(item.name, embedded.embedding, embedded.face)

    def _width(self) -> int:
        if not self._dimension:
            import numpy as np

            height, width = self._pipeline.embedder.recipe.size
            self._dimension = self._pipeline.embedder.embed(np.empty((0, height, width, 3), np.uint8)).shape[1]
        return self._dimension
