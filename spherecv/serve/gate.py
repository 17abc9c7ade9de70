"""Checks of a request before its body is read: origin, key, size, speed."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spherecv.serve.desk import Desk
from spherecv.serve.keys import ApiKeys
from spherecv.serve.problems import MEDIA_TYPE, Problem, as_json
from spherecv.serve.settings import ServiceSettings
from spherecv.serve.telemetry import trace_of

_GUARDED = ("/v1/", "/metrics")
_SAFE = ("GET", "HEAD", "OPTIONS")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_DRAIN_SECONDS = 2.0


class Gate:
    """ASGI middleware in front of the application.

    Parameters
    ----------
    app : ASGI application
    keys : ApiKeys
        None at all leaves the service open, for callers on this machine only.
    desk : Desk
    settings : ServiceSettings
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, desk: Desk, settings: ServiceSettings) -> None:
        self._app = app
        self._keys = keys
        self._desk = desk
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        meter = _Meter(receive, self._desk, self._settings)
        try:
            self._check(scope)
            meter.expect(Headers(scope=scope))
        except Problem as problem:
            trace_of(scope).problem = problem.kind
            await _refuse(problem, scope, receive, send, self._settings.max_body)
            return

        async def sending(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and meter.overfull:
                await _end(message["body"], receive, send, self._settings.max_body)
            else:
                await send(message)

        try:
            await self._app(scope, meter.receive, sending)
        finally:
            trace_of(scope).received = meter.received
            meter.release()

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if not self._keys:
            _check_local(scope["method"], headers, scope.get("client"))
        if scope["path"].startswith(_GUARDED):
            if self._keys:
                trace_of(scope).key = self._owner(headers)
            if scope["method"] not in _SAFE:
                self._desk.check()

    def _owner(self, headers: Headers) -> str:
        given = headers.get("x-api-key")
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = rest.strip()
        owner = self._keys.owner(given)
        if owner is None:
            what = "this key is not known" if given else "send a key"
            raise Problem(
                "missing-key", f"{what}: Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": 'Bearer realm="spherecv"'},
            )  # fmt: skip
        return owner


class _Meter:
    """Reads a body for the application, and stops where it is too large or too slow."""

    def __init__(self, receive: Receive, desk: Desk, settings: ServiceSettings) -> None:
        self._receive = receive
        self._desk = desk
        self._settings = settings
        self._until: float | None = None
        self._done = False
        self.received = 0
        self.overfull = False

    def expect(self, headers: Headers) -> None:
        """Refuse a body that is too large by its own account."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._settings.max_body:
            raise self._too_large()

    async def receive(self) -> Message:
        """Give the next message."""
        if self._done:
            return await self._receive()
        if self._until is None:
            self._until = monotonic() + self._settings.receive_limit
        try:
            message = await asyncio.wait_for(self._receive(), max(self._until - monotonic(), 0.001))
        except TimeoutError:
            limit = self._settings.receive_limit
            raise Problem(
                "too-slow", f"the body did not arrive within {limit:g} s", headers={"Connection": "close"}
            ) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            if self.received + size > self._settings.max_body:
                self.overfull = message.get("more_body", False)
                raise self._too_large()
            self._desk.hold(size)
            self.received += size
            self._done = not message.get("more_body", False)
        else:
            self._done = True
        return message

    def release(self) -> None:
        """Let go of the bytes."""
        self._desk.release(self.received)

    def _too_large(self) -> Problem:
        limit = self._settings.max_body
        return Problem(
            "too-large", f"the body is larger than the limit of {limit:,} bytes", headers={"Connection": "close"}
        )


def _check_local(method: str, headers: Headers, client: Sequence[Any] | None) -> None:
    """Refuse what comes from elsewhere to a service without keys: other machines, and other sites' pages.

    A page on the Internet can make its reader's browser send forms to this machine, and with a name of its
    own that points to 127.0.0.1 even read the answers. The browser says so, in `Origin`, `Sec-Fetch-Site` and `Host`.
    Where a server that is not ours listens for other machines too, they are told by their addresses; a socket in the
    file system has none.
    """
    if client is not None and not is_local(f"[{client[0]}]" if ":" in client[0] else client[0]):
        raise Problem("forbidden", "without keys the service answers this machine only: set keys up")
    if any(name in headers for name in _FORWARDED):
        raise Problem("forbidden", "without keys the service answers this machine only, not a proxy: set keys up")
    host = headers.get("host", "")
    if not is_local(host):
        raise Problem("forbidden", "without keys the service goes by localhost or 127.0.0.1 only, not by another name")
    if method in _SAFE:
        return
    site = headers.get("sec-fetch-site", "none")
    origin = headers.get("origin")
    if site not in ("same-origin", "none") or (origin is not None and _netloc(origin) != host.lower()):
        raise Problem("forbidden", "pages of other sites may not use a service without keys")


def is_local(host: str) -> bool:
    """Whether a host, with or without a port, can be nothing but this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send, most: int) -> None:
    """Answer before the body was read."""
    body = as_json(problem.document())
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close"}
    raw = [(name.lower().encode(), value.encode()) for name, value in {**headers, **problem.headers}.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    if "expect" in Headers(scope=scope):  # such a caller waits for a word before it sends anything
        await send({"type": "http.response.body", "body": body})
    else:
        await _end(body, receive, send, most)


async def _end(body: bytes, receive: Receive, send: Send, most: int) -> None:
    """Send the end of an answer, and take in what is on its way.

    A connection that is closed with bytes unread is reset, and the caller would see that instead of the answer.
    """
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        await asyncio.wait_for(_drain(receive, most), _DRAIN_SECONDS)
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive, most: int) -> None:
    taken = 0
    while taken <= most:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        taken += len(message.get("body", b""))
