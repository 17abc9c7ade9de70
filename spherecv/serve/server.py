"""uvicorn server: time limits for slow clients, a clean end of requests under way."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import math
import os
import ssl
import warnings
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from spherecv.errors import InvalidArgumentError
from spherecv.serve.app import create_app
from spherecv.serve.gate import is_local
from spherecv.serve.keys import ApiKeys
from spherecv.serve.problems import MEDIA_TYPE, Problem, as_json
from spherecv.serve.service import FaceService
from spherecv.serve.settings import ServiceSettings
from spherecv.serve.telemetry import LOGGER, JsonLines, log

_KEEP_ALIVE = 15
_LARGEST_HEAD = 32 << 10
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h
_LARGE_BLOCK = 1 << 20


def run(
    service: FaceService,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: ApiKeys | None = None,
    certificate: str | os.PathLike[str] | None = None,
    private_key: str | os.PathLike[str] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until a signal (SIGINT, SIGTERM) ends it; what was let in until then is finished.

    Parameters
    ----------
    service : FaceService
        Closed at the end.
    host, port
        Where to listen; port 0 takes a free one.
    keys : ApiKeys, optional
        May be left out on loopback only.
    certificate, private_key : path, optional
        For HTTPS, in PEM.
    ready : callable, optional
        Called with the address when the service listens.

    Raises
    ------
    InvalidArgumentError
        No keys, and a host that other machines can reach; an address that cannot be listened on; or a certificate that
        cannot be used.
    """
    check_open(host, keys)
    check_certificate(certificate, private_key)
    server = make_server(
        create_app(service, keys=keys), service.settings, host=host, port=port,
        ssl_certfile=certificate, ssl_keyfile=private_key,
    )  # fmt: skip
    server.ready = ready
    give_memory_back()
    _log_to_stderr()
    try:
        server.run()
    except SystemExit:  # how uvicorn says that it could not start
        server.started = False
    finally:
        service.close()
    if not server.started:
        raise InvalidArgumentError(f"cannot listen on {host}, port {port}: it is taken, or not this machine's")


def check_open(host: str, keys: ApiKeys | None) -> None:
    """Refuse to be open to other machines without keys."""
    if not keys and not is_local(f"[{host}]" if ":" in host else host):
        raise InvalidArgumentError(
            f"{host} can be reached by other machines: give --keys FILE (`spherecv serve --new-key NAME --keys FILE` "
            "makes one), or listen on 127.0.0.1"
        )


def check_certificate(
    certificate: str | os.PathLike[str] | None, private_key: str | os.PathLike[str] | None
) -> None:
    """Refuse files that HTTPS cannot be spoken with; neither is fine."""
    if certificate is None:
        if private_key is not None:
            raise InvalidArgumentError(f"a private key ({private_key}) needs its certificate: --tls-cert")
        return

    def ask() -> str:
        raise InvalidArgumentError("the private key asks for a passphrase, which nobody could type: take it off")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, ask)
    except OSError as error:  # what OpenSSL says is one too, and is no sentence
        why = "it is not in PEM, or the two do not belong together"
        said = why if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        files = certificate if private_key is None else f"{certificate} with {private_key}"
        raise InvalidArgumentError(f"the certificate {files} cannot be used: {said}") from None


class Server(uvicorn.Server):
    """A uvicorn server that tells when it listens, and where."""

    ready: Callable[[str], None] | None = None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            log(logging.INFO, "listening", address=self.address)
            if self.ready is not None:
                self.ready(self.address)

    @property
    def address(self) -> str:
        """Where the page is."""
        name = self.servers[0].sockets[0].getsockname()
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{'https' if self.config.is_ssl else 'http'}://{host}:{name[1]}"


def make_server(app: ASGIApp, settings: ServiceSettings, **options: Any) -> Server:
    """Make the server for an application.

    Parameters
    ----------
    app : ASGI application
    settings : ServiceSettings
    **options
        More of uvicorn's.
    """

    class Protocol(ImpatientProtocol):
        receive_limit = settings.receive_limit

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.time_limit + settings.receive_limit),
        h11_max_incomplete_event_size=_LARGEST_HEAD,
        **options,
    )
    return Server(config)


class ImpatientProtocol(H11Protocol):
    """HTTP that closes a connection whose request does not come to an end of its head; uvicorn waits for good."""

    receive_limit = 30.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._calm()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP with a problem document, as every other mistake."""
        body = as_json(Problem("bad-request", f"malformed HTTP request: {msg}").document())
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._calm()
        elif self._patience is None:
            self._patience = self.loop.call_later(self.receive_limit, self.transport.abort)

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def give_memory_back() -> bool:
    """Have large blocks given back to the system when they are freed; False where the C library is another.

    glibc raises its threshold with every large block that is freed, up to 32 MB, and then keeps such blocks in an arena
    of each thread: 16 threads with one verifier hold 350 MB so, and 210 MB with a fixed threshold, at the same speed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return all(mallopt(which, _LARGE_BLOCK) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\b")  # of metadata that callers made up, by the thousand
    loggers = ((LOGGER.name, logging.INFO), ("uvicorn.error", logging.WARNING), ("py.warnings", logging.WARNING))
    for name, level in loggers:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # repeats what callers sent
