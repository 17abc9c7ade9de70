"""Service limits."""

from __future__ import annotations

from dataclasses import dataclass, fields

from spherecv.errors import InvalidArgumentError

DAY = 86_400
LEAST = {"max_body": 1024, "max_pixels": 96 * 96, "time_limit": 0.1, "receive_limit": 0.1}
"""Below these no photo of a face gets in, or no answer comes in time."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Limits of the service. Every one bounds memory, time or both.

    Attributes
    ----------
    max_body : int
        Bytes of a request's body; an image in base64 takes a third more than as a file.
    max_pixels : int
        Pixels of an image, read off its header before anything is decoded.
    max_images : int
        Images in one enrolment.
    queue : int
        Requests that may be at work or wait for it. The next one is answered 429.
    max_held : int
        Bytes of all bodies that are held at once, at least `max_body`. What goes beyond is answered 429.
    time_limit : float
        Seconds from a request's arrival in the queue to its answer; then 503. Where what waits takes more than half of
        them, as the last images went, the next request is answered 429 at once.
    receive_limit : float
        Seconds for a request's head, and again for its body; then 408.
    batch : int
        Images that one worker takes at once.
    connections : int
        Connections open at once.

    Raises
    ------
    InvalidArgumentError
        A limit under which no request could ever be answered, or a time of more than a day.
    """

    max_body: int = 16 << 20
    max_pixels: int = 25_000_000
    max_images: int = 16
    queue: int = 64
    max_held: int = 128 << 20
    time_limit: float = 30.0
    receive_limit: float = 30.0
    batch: int = 8
    connections: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise InvalidArgumentError(f"{field.name} must be above 0, but got {value!r}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise InvalidArgumentError(
                    f"{name} must be at least {least}, or no photo would ever be answered, but got "
                    f"{getattr(self, name)!r}"
                )
        if self.max_held < self.max_body:
            raise InvalidArgumentError(
                f"max_held must be at least max_body ({self.max_body}), or the largest body would never be let in, "
                f"but got {self.max_held}"
            )
        for name in ("time_limit", "receive_limit"):
            if getattr(self, name) > DAY:
                raise InvalidArgumentError(f"{name} must be at most {DAY} seconds, but got {getattr(self, name)!r}")
