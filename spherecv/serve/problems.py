"""Errors as RFC 9457 problem documents of one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from spherecv.errors import (
    GalleryLockedError,
    IdentityError,
    ImageError,
    InvalidArgumentError,
    MissingThresholdError,
    NoFaceError,
    SeveralFacesError,
    SphereCVError,
    StorageError,
)

MEDIA_TYPE = "application/problem+json"
INTERNAL = "internal error; report the request id (x-request-id) to the administrator"
_LONGEST = 400

# Slug -> status and title. The slug ends the problem's type, by which a program tells problems apart.
_KINDS = {
    "bad-request": (400, "The request cannot be read"),
    "missing-key": (401, "A key is needed"),
    "forbidden": (403, "Not from here"),
    "not-found": (404, "No such thing"),
    "unknown-identity": (404, "No such person or image"),
    "wrong-method": (405, "This address does not take that method"),
    "too-slow": (408, "The request came too slowly"),
    "exists": (409, "The person is there already"),
    "no-gallery": (404, "The service has no gallery"),
    "too-large": (413, "Too large"),
    "wrong-type": (415, "Not this kind of content"),
    "invalid": (422, "A value is not right"),
    "bad-image": (422, "Not an image that can be used"),
    "no-face": (422, "No face"),
    "several-faces": (422, "Several faces"),
    "no-threshold": (422, "No threshold"),
    "busy": (429, "Busy"),
    "internal": (500, "A fault of the service"),
    "overdue": (503, "Not in time"),
    "locked": (503, "The gallery is being written to"),
    "storage": (507, "No room"),
}


class Problem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """A request that is answered with a problem document.

    Parameters
    ----------
    kind : str
        One of `KINDS`; settles status and title.
    detail : str
        One sentence: what was wrong, and what to do.
    headers : mapping, optional
        More headers of the answer.
    """

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = _one_line(detail)
        self.headers = dict(headers or {})
        self.status, self.title = _KINDS[kind]

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": f"urn:spherecv:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }

    def response(self) -> Response:
        """The answer."""
        return Response(as_json(self.document()), self.status, self.headers, MEDIA_TYPE)


def problem_of(error: SphereCVError, *, conceal: str | None = None) -> Problem:
    """Say what a failure of the library means to the caller.

    Parameters
    ----------
    error : SphereCVError
    conceal : str, optional
        A path on the server's disk that must not be shown.
    """
    detail = str(error).removesuffix(error.advice)
    if conceal:
        detail = detail.replace(conceal, "the gallery")
    again = {"Retry-After": "1"}
    if isinstance(error, NoFaceError):
        return Problem("no-face", f"{detail}: send a sharper image, or one on which the face is larger")
    if isinstance(error, SeveralFacesError):
        return Problem("several-faces", detail)
    if isinstance(error, ImageError):
        return Problem("bad-image", detail)
    if isinstance(error, IdentityError):
        return Problem("unknown-identity", detail)
    if isinstance(error, MissingThresholdError):
        cure = "ask for another far, or have the administrator measure one (`spherecv calibrate`)"
        return Problem("no-threshold", f"{detail}: {cure}")
    if isinstance(error, InvalidArgumentError):
        return Problem("invalid", detail)
    if isinstance(error, GalleryLockedError):
        return Problem("locked", "another process is writing to the gallery: try again", headers=again)
    if isinstance(error, StorageError):
        return Problem("storage", "the gallery cannot be written; report it to the administrator")
    return Problem("internal", f"internal error ({type(error).__name__}); report it to the administrator")


def problem_of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Make the problem for a status that the framework answers with."""
    kinds = {404: "not-found", 405: "wrong-method", 413: "too-large", 415: "wrong-type"}
    kind = kinds.get(status, "bad-request" if status < 500 else "internal")
    return Problem(kind, detail, headers=headers)


def as_json(value: Any) -> bytes:
    """Write JSON of plain ASCII, so that no text of anybody's can fail to be encoded."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def kinds_of(*kinds: str) -> dict[int, list[str]]:
    """Group kinds of problems by their status, for the documentation."""
    grouped: dict[int, list[str]] = {}
    for kind in kinds:
        grouped.setdefault(_KINDS[kind][0], []).append(kind)
    return grouped
