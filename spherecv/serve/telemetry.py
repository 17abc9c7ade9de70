"""Telemetry: JSON log lines and Prometheus metrics, without faces, names or addresses."""

from __future__ import annotations

import json
import logging
import re
import secrets
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spherecv import __version__
from spherecv.serve.desk import Desk
from spherecv.serve.problems import INTERNAL, MEDIA_TYPE, Problem, as_json
from spherecv.serve.service import FaceService

LOGGER = logging.getLogger("spherecv.serve")

_METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass
class Trace:
    """What is noted of a request on its way.

    Attributes
    ----------
    id : str
    key : str or None
        What the caller's key is called.
    problem : str or None
        Kind of the problem it was answered with.
    received : int
        Bytes of its body.
    """

    id: str
    key: str | None = None
    problem: str | None = None
    received: int = 0


def trace_of(scope: Scope) -> Trace:
    """The notes on a request."""
    trace: Trace = scope.setdefault("spherecv.trace", Trace(secrets.token_hex(8)))
    return trace


class Metrics:
    """Counters of one service, in a registry of their own.

    Parameters
    ----------
    service : FaceService
    desk : Desk
    """

    def __init__(self, service: FaceService, desk: Desk) -> None:
        self._service = service
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "spherecv_requests", "Requests answered.", ("operation", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "spherecv_request_seconds", "Seconds to the answer.", ("operation",), buckets=_SECONDS, registry=registry
        )
        self._problems = Counter("spherecv_problems", "Requests refused or failed.", ("problem",), registry=registry)
        self._batches = Histogram(
            "spherecv_batch_images", "Images of a batch.", buckets=_BATCHES, registry=registry
        )
        self._busy = Counter("spherecv_worker_seconds", "Seconds that workers worked.", registry=registry)
        self._held = {
            name: Gauge(f"spherecv_gallery_{name}", f"What the gallery holds: {name}.", registry=registry)
            for name in ("identities", "images", "faces")
            if service.has_gallery
        }
        build = Gauge("spherecv_build_info", "What serves.", ("version", "model", "detector"), registry=registry)
        build.labels(__version__, service.pool.embedder.name, service.pool.detector.name).set(1)
        for name, text, function in (
            ("spherecv_workers", "Pipelines.", lambda: service.pool.workers),
            ("spherecv_waiting_images", "Images that wait for a worker.", lambda: service.pool.waiting),
            ("spherecv_inside_requests", "Requests at work or waiting for it.", lambda: desk.inside),
            ("spherecv_held_bytes", "Bytes of bodies in memory.", lambda: desk.held),
        ):
            Gauge(name, text, registry=registry).set_function(function)
        service.pool.observe(self._observe)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        counts = self._service.counts()
        for name, gauge in self._held.items():
            gauge.set(counts[name])
        return generate_latest(self._registry)

    def note(self, operation: str, method: str, status: int, seconds: float, problem: str | None) -> None:
        """Count a request."""
        self._requests.labels(operation, method, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)
        if problem is not None:
            self._problems.labels(problem).inc()

    def _observe(self, images: int, seconds: float) -> None:
        self._batches.observe(images)
        self._busy.inc(seconds)


class Telemetry:
    """The outermost ASGI middleware: gives each request a number, and tells of it when it is done.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope["spherecv.trace"] = Trace(_request_id(scope))
        started = perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as fault:
            trace.problem = "internal"
            _report(fault, trace)
            if not status:
                await _apologise(sending)
        finally:
            self._tell(scope, trace, status, perf_counter() - started)

    def _tell(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        endpoint = scope.get("endpoint")
        operation = getattr(endpoint, "__name__", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.note(operation, method, status, seconds, trace.problem)
        log(
            logging.ERROR if status >= 500 else logging.INFO,
            "request",
            id=trace.id,
            method=method,
            operation=operation,
            status=status,
            seconds=round(seconds, 4),
            received=trace.received,
            key=trace.key,
            problem=trace.problem,
        )


def log(level: int, event: str, **fields: Any) -> None:
    """Write a line of the log."""
    LOGGER.log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Log records as JSON, a line each: nothing that is logged can forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
        if record.exc_info and record.exc_info[1] is not None:
            line["trace"] = _frames(record.exc_info[1])
        return json.dumps(line)


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _frames(fault: BaseException) -> list[str]:
    """Where it happened. Not the message: it may repeat what a caller sent."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(fault.__traceback__)]


def _report(fault: BaseException, trace: Trace) -> None:
    log(logging.ERROR, "fault", id=trace.id, kind=type(fault).__name__, trace=_frames(fault))


async def _apologise(send: Any) -> None:
    body = as_json(Problem("internal", INTERNAL).document())
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
