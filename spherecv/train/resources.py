"""Resources of a training: device, threads, processes that read images, and how many images may be unreadable."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from spherecv.train.backend import Backend, open_backend


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

    @classmethod
    def taken_from(cls, settings: dict[str, Any]) -> Resources:
        """Take the resources out of a call's keywords, which keep the rest."""
        return cls(**{field.name: settings.pop(field.name) for field in fields(cls) if field.name in settings})

    def open_backend(self) -> Backend:
        """Open what computes; raises as `spherecv.train.backend.open_backend`."""
        return open_backend(self.device, threads=self.threads, index=self.gpu)
