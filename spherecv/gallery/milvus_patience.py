"""Patience with a Milvus server that goes away, comes back, or answers slowly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from time import sleep
from typing import Any

WAITS_S = (0.5, 1.0, 2.0)
"""Seconds before the second try of a call, the third and the last."""
_LONG_S = 120.0
_LONG = ("create_collection", "load_collection", "flush")
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED")


class ServerWarning(UserWarning):
    """A server that did not answer, and is asked again."""


class Patient:
    """A client whose calls are tried again while the server is away, and end at a time limit.

    pymilvus waits for a call without any limit, and tries one to a server that is away for minutes, in silence. Every
    call that is made through here may be made twice: rows are written under their keys (`upsert`), deleted by them.

    Parameters
    ----------
    client : pymilvus.MilvusClient
    name : str
        Of the server, for warnings.
    timeout : float
        Seconds that the first try of a call may take; every next may take twice as long. Calls that make, load or
        flush a collection may take two minutes each time.
    """

    def __init__(self, client: Any, name: str, timeout: float) -> None:
        self._client = client
        self._name = name
        self._timeout = timeout

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name in ("close", "create_schema", "prepare_index_params"):
            return call
        if name == "query_iterator":
            return self._iterator
        return partial(self._try, name, call)

    def _iterator(self, *args: Any, **kwargs: Any) -> _Cursor:
        cursor = self._try("query_iterator", self._client.query_iterator, *args, **kwargs)
        return _Cursor(cursor, partial(self._try, "query", _without_timeout(cursor.next)))

    def _try(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        limit = _LONG_S if name in _LONG else self._timeout
        for attempt, wait in enumerate((*WAITS_S, None)):
            try:
                return call(*args, **kwargs, timeout=limit if name in _LONG else limit * 2**attempt)
            except Exception as error:
                if wait is None or not is_passing(error):
                    raise
                text = f"Milvus at {self._name} does not answer ({name}): asked again in {wait:g} s"
                warnings.warn(f"{text}, try {attempt + 2} of {len(WAITS_S) + 1}", ServerWarning, stacklevel=3)
                sleep(wait)
        raise AssertionError  # the last try returns or raises


class _Cursor:
    """An iterator of pymilvus over rows; a step that failed has not moved it, and is made again."""

    def __init__(self, cursor: Any, step: Callable[[], Any]) -> None:
        self._cursor = cursor
        self.next = step

    def close(self) -> None:
        self._cursor.close()


def _without_timeout(call: Callable[[], Any]) -> Callable[..., Any]:
    return lambda timeout: call()  # noqa: ARG005 - it has that of the call that made it


def is_passing(error: Exception) -> bool:
    """Whether a failure is of the connection, so that the same call may succeed later."""
    import grpc  # type: ignore[import-untyped]
    from pymilvus.client.types import Status
    from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

    if isinstance(error, grpc.RpcError):
        return error.code().name in _PASSING
    if isinstance(error, ConnectError | MilvusUnavailableException):
        return True
    if not isinstance(error, MilvusException):
        return False
    code = error.code
    return bool(error.retriable) or code == Status.CONNECT_FAILED or getattr(code, "name", "") in _PASSING
