"""Interface between a Session and its backends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import BackendError
from spherecv.runtime.signature import Signature

FloatArray = NDArray[np.float32]

_LONGEST_REASON = 300


@dataclass(frozen=True)
class Model:
    """What a backend loads: an ONNX model as bytes or as a file, with its signature already read."""

    source: bytes | Path
    signature: Signature
    where: str
    digest: str = ""
    """SHA-256 of the file as it came, of a model that was normalised."""


@dataclass(frozen=True)
class Settings:
    """How a backend is to run a model; see `Session`."""

    outputs: tuple[str, ...]
    threads: int | None
    winograd: bool | None
    precision: str = "float32"


@dataclass(frozen=True)
class ChunkLimit:
    """The most that one call of a backend is given: `items` of the batch, and `numbers` in all inputs together."""

    items: int
    numbers: int


class Backend(Protocol):
    """A loaded model. May be called from any number of threads."""

    name: str
    limit: ChunkLimit
    version: str
    """Of the package, and of the engine within it: what a verdict on it holds for."""
    doubted: bool
    """Whether it is checked with every model, those of the converter too, which are under test elsewhere."""

    @property
    def threads(self) -> int:
        """How many threads one call may use."""

    def run(self, feeds: dict[str, FloatArray]) -> list[NDArray[np.generic]]:
        """Run on checked, contiguous inputs; return the outputs asked for, in that order, owned by the caller.

        Raises
        ------
        BackendError
            It failed.
        """


def backend_error(what: str, reason: object) -> BackendError:
    """Make one line of what a library said, which may be a page of source positions."""
    line = " ".join(str(reason).split())
    if len(line) > _LONGEST_REASON:
        line = line[: _LONGEST_REASON - 4].rstrip() + " ..."
    return BackendError(f"{what}: {line or type(reason).__name__}")
