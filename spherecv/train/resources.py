"""Resources of a training, device, threads and workers; and how a call's keywords are sorted into records."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from spherecv.train.backend import Backend, open_backend

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """What a training runs on.

    Attributes
    ----------
    device : {"cpu", "cuda"}
    threads : int or None
        All cores by default.
    gpu : int
        Index of the GPU.
    workers : int
        Processes that read images; 0 reads in this one.
    skip_limit : int
        Images that may be unreadable.
    """

    device: str = "cpu"
    threads: int | None = None
    gpu: int = 0
    workers: int = 1
    skip_limit: int = 100

    def open_backend(self) -> Backend:
        """Open what computes; raises as `spherecv.train.backend.open_backend`."""
        return open_backend(self.device, threads=self.threads, index=self.gpu)


def taken(kind: type[T], settings: dict[str, Any]) -> T:
    """Make a record of those of a call's keywords that are its fields; the rest stay."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: settings.pop(name) for name in names if name in settings})
