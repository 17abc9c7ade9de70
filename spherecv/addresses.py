"""Sources given as text that is no path: addresses of images, data URIs and base64."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from typing import IO, Any
from urllib.parse import unquote

from spherecv.errors import ImageError

MAX_BYTES = 64 << 20
"""Largest image fetched from an address, in bytes."""
TIMEOUT_S = 20.0
"""Longest silence of a server, and the time a whole image may take, in seconds."""
MAX_REDIRECTS = 4
LONGEST_SHOWN = 80
"""Characters of a source that a message quotes at most."""

_WEB = re.compile(r"https?://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_DATA = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)
# Shorter text is a path; longer text of nothing but this alphabet, without a dot, is hardly one.
_BARE = re.compile(r"[A-Za-z0-9+/\s]{256,}={0,2}\s*")
_OPENING = r"(?i)([?&;][^=&;#]*(?:pass|pwd|user|login|token|key|secret|auth|sig)[^=&;#]*=)[^&;#]*"
_LONGEST_READ = 4096
_SPACE = re.compile(r"\s+")
_CHUNK = 1 << 16


def is_offline() -> bool:
    """Whether `SPHERECV_OFFLINE` forbids the network: set, and not to 0, false, no or off."""
    return os.environ.get("SPHERECV_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def is_web_address(source: object) -> bool:
    """Whether a source is an `http://` or `https://` address."""
    return isinstance(source, str) and _WEB.match(source) is not None


def is_text_image(source: object) -> bool:
    """Whether a source is text that holds or addresses an image, and so names no file or folder."""
    if not isinstance(source, str):
        return False
    if _SCHEME.match(source) or _DATA.match(source):
        return True
    return _BARE.fullmatch(source) is not None and not os.path.exists(source)  # noqa: PTH110 - may be too long a name


def without_password(address: str) -> str:
    """Hide the credentials of an address, for messages and logs; rather too much than too little."""
    # A password may hold an @, and one that nobody encoded a / or ?, after which nothing is an address any more.
    shown = re.sub(r"(?<=://)[^/?#]*@|(?<=://)[^/?#@]*:(?!\d*[/?#]).*@", "***@", address)
    return re.sub(_OPENING, r"\1***", shown)


def brief(source: object) -> str:
    """A source as a message quotes it: at most 80 characters, without the password of an address."""
    text = _SPACE.sub(" ", without_password(str(source)[:_LONGEST_READ]))
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def read_text_image(source: str) -> bytes:
    """Read what an address, a data URI or base64 text stands for.

    Parameters
    ----------
    source : str
        For which `is_text_image` holds. Addresses are fetched within 64 MiB, 20 seconds and 4 redirects, and not at
        all where `SPHERECV_OFFLINE` is set.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        It cannot be fetched or decoded, or is an address of another kind.
    """
    if is_web_address(source):
        return _fetch(source)
    scheme = _SCHEME.match(source)
    if scheme:
        cure = ": name the file by its path" if scheme[1].lower() == "file" else ""
        raise ImageError(f"{brief(source)}: images are read from http:// and https:// addresses only{cure}")
    try:
        return decode_base64(source)
    except ValueError:
        raise ImageError(f"{brief(source)} is not an image in base64") from None


def decode_base64(text: str) -> bytes:
    """Decode base64 on one line or several, with or without the head of a data URI; raises ValueError."""
    head = _DATA.match(text)
    if head and not head[0].rstrip(", \t\r\n").lower().endswith(";base64"):
        raise ValueError("a data URI must be in base64")
    body = text[head.end() :] if head else text
    try:
        # An address may write any character as %XX.
        return base64.b64decode(_SPACE.sub("", unquote(body) if head and "%" in body else body), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _fetch(address: str) -> bytes:
    import http.client
    import urllib.error

    if is_offline():
        raise ImageError(f"{brief(address)} is not fetched: SPHERECV_OFFLINE forbids the network")
    try:
        with _opener().open(address, timeout=TIMEOUT_S) as answer:
            return _read(answer, brief(address))
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(f"{brief(address)} cannot be fetched: {brief(f'{error.code} {error.reason}')}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ImageError(f"{brief(address)} cannot be fetched: {brief(reason) or type(error).__name__}") from None


def _read(answer: IO[bytes], label: str) -> bytes:
    end = time.monotonic() + TIMEOUT_S
    data = bytearray()
    read: Any = getattr(answer, "read1", answer.read)  # what has come, not a whole chunk of a slow server
    while chunk := read(_CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            raise ImageError(f"{label} is longer than the limit of {MAX_BYTES:,} bytes")
        if time.monotonic() > end:
            raise ImageError(f"{label} takes longer than the limit of {TIMEOUT_S:g} seconds")
    return bytes(data)


def _opener() -> Any:
    from urllib import request
    from urllib.error import HTTPError

    class Redirects(request.HTTPRedirectHandler):
        max_redirections = MAX_REDIRECTS

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            weaker = req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:")
            if weaker or not is_web_address(newurl):
                raise HTTPError(req.full_url, code, "a redirect to another kind of address", headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPDefaultErrorHandler,
        Redirects, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener
