"""Events of a video and their log: a line of JSON each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from spherecv.brief import brief
from spherecv.files import append_bytes, refused

_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON lets stand, and some readers or terminals take for the end of a line or for a command."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    kind : {"start", "appeared", "decided", "ended", "lost", "back", "stop"}
        Somebody appears, is decided about (again, where a decision changes), and goes; a live source is lost and found.
    frame : int or None
        The frame at which it happened.
    time : float or None
        Seconds since the video's first frame.
    at : str or None
        Wall-clock time, ISO 8601 in UTC; of frames only for live sources.
    details : mapping
        Ready for JSON. Never embeddings or pixels.
    """

    kind: str
    frame: int | None = None
    time: float | None = None
    at: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The event as plain Python values, ready for JSON."""
        moment = {"frame": self.frame, "time": None if self.time is None else round(self.time, 3), "at": self.at}
        return {"event": self.kind, **moment, **self.details}


class EventLog:
    """Events appended to a file, a line of JSON each, that can be read at any time.

    Every line is handed to the system as a whole before the next event: what was logged outlives a killed process. A
    line that such a process left unfinished is ended before the first new one.

    Parameters
    ----------
    path : path
        Its folder is made. A pipe will do.

    Raises
    ------
    StorageError
        It cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with refused(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self._path.open("ab", buffering=0)
            if self._file.seekable() and self._file.tell() and not self._ends_in_newline():
                self._file.write(b"\n")

    def write(self, event: Event) -> None:
        """Append an event; raises `StorageError` where that fails."""
        text = _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(event.to_dict(), ensure_ascii=False))
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        with refused(self._path):
            append_bytes(self._file, line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ends_in_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
