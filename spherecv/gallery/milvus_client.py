"""Milvus by address: a server or cluster, or Milvus Lite in a folder on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from spherecv.checks import check_choice
from spherecv.errors import (
    GalleryError,
    GalleryLockedError,
    InvalidArgumentError,
    MissingDependencyError,
    SphereCVError,
)
from spherecv.gallery.milvus_patience import Patient

TOKEN_VARIABLE = "SPHERECV_MILVUS_TOKEN"  # noqa: S105 - the name of a variable, not a secret
LITE_INDEXES = ("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
SERVER_INDEXES = (*LITE_INDEXES, "IVF_PQ", "IVF_RABITQ", "SCANN", "DISKANN", "GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ")
_AT_ONCE = 500
_CHANNEL = {"grpc.use_local_subchannel_pool": 1}
"""gRPC's channels to one server share the wait after a failed connection, one second and growing: a new channel, which
pymilvus makes for each try, would then fail without having dialled, although the server is back."""
_LITE_USERS: Counter[Path] = Counter()
_LITE_LOCK = threading.Lock()


@dataclass(frozen=True)
class Address:
    """Where a gallery on Milvus is.

    Attributes
    ----------
    uri : str
        As pymilvus takes it.
    collection : str
    index : str
        Its index type, in capitals.
    lite : bool
        Whether it is Milvus Lite, a folder of this machine that one process at a time may open.
    """

    uri: str
    collection: str
    index: str
    lite: bool

    @classmethod
    def of(cls, location: str) -> Address:
        """Read `milvus://host:port/collection?index=HNSW` or `milvus:folder.db?collection=name&index=FLAT`.

        Raises
        ------
        InvalidArgumentError
            Not such an address, or an index type that does not exist. Milvus Lite takes any word for one, and then
            fails or searches otherwise than was asked.
        """
        parts = urlsplit(location)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        unknown = sorted(set(asked) - {"collection", "index"})
        if unknown or parts.scheme not in ("milvus", "milvus+http", "milvus+https"):
            raise InvalidArgumentError(
                f"a gallery on Milvus is milvus://host:port/collection or milvus:folder.db?collection=name, each with "
                f"&index=... if wanted, but got {location!r}"
            )
        lite = not parts.netloc
        path = parts.path.strip("/") if not lite else parts.path
        collection = asked.get("collection", path if not lite else "") or "spherecv"
        if not collection.isidentifier() or not collection.isascii():
            raise InvalidArgumentError(f"a collection is named by letters, digits and _, but got {collection!r}")
        if lite and not path.endswith(".db"):
            raise InvalidArgumentError(f"Milvus Lite wants a name that ends in .db, but got {path!r}")
        index = asked.get("index", "FLAT" if lite else "AUTOINDEX").upper()
        known = LITE_INDEXES if lite else SERVER_INDEXES
        check_choice("index", index, known)
        scheme = "https" if parts.scheme.endswith("https") else "http"
        return cls(path if lite else f"{scheme}://{parts.netloc}", collection, index, lite)

    def settled(self) -> Address:
        """The same with the folder's absolute path: the process may go to another folder before it closes this one."""
        return replace(self, uri=os.path.abspath(self.uri)) if self.lite else self  # noqa: PTH100 - no links followed


def connect(address: Address, *, create: bool, timeout: float) -> Any:
    """Open a client.

    Raises
    ------
    MissingDependencyError
        pymilvus, or milvus-lite for a folder, is not installed.
    GalleryLockedError
        Another process has the folder open.
    GalleryError
        The server cannot be reached, or there is no such folder.
    """
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise MissingDependencyError("pymilvus", "milvus", "a gallery on Milvus") from None
    # Every refusal would be logged with its traceback, and then again in our own one line.
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if address.lite:
        _check_lite(Path(address.uri), create)
    with _LITE_LOCK, explained(address):  # not while another thread ends the server of the same folder
        token = os.environ.get(TOKEN_VARIABLE, "")
        settings = {"token": token} if token else {}
        client = MilvusClient(address.uri, timeout=timeout, grpc_options=dict(_CHANNEL), **settings)
        if address.lite:
            _LITE_USERS[Path(address.uri)] += 1
            return client
        return Patient(client, address.uri, timeout)


def release(client: Any, address: Address) -> None:
    """Close a client; of Milvus Lite its server too, which otherwise keeps the folder locked as long as this process.

    A server of Lite serves every client of its folder in a process: it ends with the last of them.
    """
    client.close()
    if not address.lite:
        return
    from milvus_lite.server_manager import server_manager_instance

    path = Path(address.uri)
    with _LITE_LOCK:
        _LITE_USERS[path] -= 1
        if _LITE_USERS[path] <= 0:
            del _LITE_USERS[path]
            server_manager_instance.release_server(address.uri)


def _check_lite(folder: Path, create: bool) -> None:
    from importlib.util import find_spec

    if find_spec("milvus_lite") is None:
        raise MissingDependencyError("milvus-lite", "milvus", "a gallery on Milvus Lite")
    if not create and not folder.exists():
        raise GalleryError(f"{folder}: no such gallery (make one with `spherecv gallery enrol`)")
    if folder.is_file():
        raise GalleryError(f"{folder} is a file, and Milvus Lite keeps a folder: leave out milvus: to open it")


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Say what a failure of Milvus means for the user."""
    from grpc import RpcError  # type: ignore[import-untyped]
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except SphereCVError:
        raise
    except MilvusException as error:
        text = " ".join(str(error.message if hasattr(error, "message") else error).split())
        if address.lite and "Open local milvus failed" in text:
            if _is_locked(Path(address.uri) / "LOCK"):
                raise GalleryLockedError(
                    f"{address.uri} is open in another process, and Milvus Lite serves one at a time: close it there, "
                    "or use a server"
                ) from None
            raise GalleryError(f"{address.uri} cannot be opened by Milvus Lite: damaged, or not its own") from None
        raise GalleryError(f"Milvus at {address.uri}: {text}") from None
    except RpcError as error:  # of a call that ran out of time
        raise GalleryError(f"Milvus at {address.uri} did not answer in time: {error.code().name}") from None


def _is_locked(lock: Path) -> bool:
    try:
        import fcntl

        with lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def word(text: str) -> str:
    """Thirty-two hexadecimal digits for a name or path, to filter by: no text of a user stands in an expression."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def one_of(field: str, values: Sequence[str | int]) -> str:
    """Expression that is true where a field is one of some words or numbers."""
    return f"{field} in {json.dumps(list(values))}"


def all_rows(client: Any, collection: str, expression: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Go through the rows that an expression picks, however many."""
    cursor = client.query_iterator(collection, filter=expression, output_fields=list(fields), batch_size=_AT_ONCE)
    try:
        while rows := cursor.next():
            yield from rows
    finally:
        cursor.close()


def rows_of(
    client: Any, collection: str, field: str, values: Sequence[str | int], fields: Sequence[str], *, key: bool = False
) -> Iterator[dict[str, Any]]:
    """Go through the rows where a field is one of many values; for a key, of which each has one row, in one query."""
    for start in range(0, len(values), _AT_ONCE):
        part = one_of(field, values[start : start + _AT_ONCE])
        if key:
            yield from client.query(collection, filter=part, output_fields=list(fields))
        else:
            yield from all_rows(client, collection, part, fields)
