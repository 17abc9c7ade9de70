"""Request bodies, read into memory and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple, TypeVar

from fastapi import Request
from python_multipart.multipart import parse_options_header  # missing, it is missed now and not with the first form
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from spherecv.serve.forms import Form, Part, form_of_json, form_of_parts
from spherecv.serve.problems import Problem

_LONGEST_FIELD = 64 << 10
_MOST_FIELDS = 16
_F = TypeVar("_F", bound=Form)


class Body(NamedTuple):
    """A body that was read but not checked: JSON, or the parts of a form."""

    json: bytes | None
    parts: list[Part]

    def form(self, model: type[_F]) -> _F:
        """Check it; raises `Problem`."""
        return form_of_parts(model, self.parts) if self.json is None else form_of_json(model, self.json)


class _MemoryParser(MultiPartParser):
    """Faces belong on no disk: the size of the whole is bounded before it gets here."""

    spool_max_size = 1 << 40
    ended = False

    def on_end(self) -> None:
        """Note that the last boundary came."""
        self.ended = True


async def read_body(request: Request, max_files: int) -> Body:
    """Read a body of JSON or of a form with files.

    Parameters
    ----------
    request : Request
        Whose size the caller bounds.
    max_files : int
        Files in a form.

    Raises
    ------
    Problem
        Another kind of body, or one that breaks off.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem("wrong-type", "the body must not be compressed: send it without Content-Encoding")
    if kind == "application/json":
        try:
            return Body(await request.body(), [])
        except ClientDisconnect:
            raise Problem("bad-request", "the body breaks off") from None
    if kind == "multipart/form-data":
        # The parser would decode text by any codec that Python has, and some of them take seconds for 64 kB.
        charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
        if charset.lower() not in (b"utf-8", b"utf8"):
            raise Problem("wrong-type", "a form's text must be UTF-8: leave charset out of Content-Type")
        return Body(None, await _parts(request, max_files))
    raise Problem("wrong-type", "send application/json, or multipart/form-data with the images as files")


async def _parts(request: Request, max_files: int) -> list[Part]:
    parser = _MemoryParser(
        request.headers,
        _stream(request),
        max_files=max_files,
        max_fields=_MOST_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    try:
        form = await parser.parse()
    except Problem:
        raise
    except MultiPartException as error:
        raise Problem("bad-request", f"the form cannot be read: {error.message.rstrip('.')}") from None
    except Exception:  # the parser raises whatever a broken form makes it raise
        raise Problem("bad-request", "the form cannot be read: it breaks off, or its parts are not set apart") from None
    if not parser.ended:
        raise Problem("bad-request", "the form breaks off: its last boundary is missing")
    parts: list[Part] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            parts.append((name, await value.read()))
            await value.close()
        else:
            parts.append((name, value))
    return parts


async def _stream(request: Request) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        yield chunk
