# ruff: noqa: D102 - these methods are documented where their interface is
"""Several trainers with one net: data parallel over processes (sockets on the CPU, NCCL between GPUs).

Every process computes the gradient of its own batches; the mean over processes is what each one's solver uses, so all
stay equal. Gradients of mean losses average exactly; batch statistics (BatchNorm) and pairs (triplets) stay each
process's own.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any

import numpy as np

from spherecv.errors import DeviceError, InvalidArgumentError, TrainingError
from spherecv.runtime.ending import end_with_parent
from spherecv.train.backend.base import Array, Backend

RANK, SIZE, PORT, KEY, PARENT = (f"SPHERECV_TRAIN_{word}" for word in ("RANK", "SIZE", "PORT", "KEY", "PARENT"))

_PATIENCE = 600  # seconds until all must have joined: a process that reads a large data set first takes its time
_GRACE = 5.0  # seconds that the others get to end by themselves
_started: list[subprocess.Popen[bytes]] = []  # what `companions` runs, for the first process to look after


class Group:
    """The processes that train together; this class is the group of one.

    Attributes
    ----------
    rank, size : int
    """

    rank = 0
    size = 1

    def mean(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the mean of each array over the processes."""
        return list(arrays)

    def share(self, arrays: Sequence[Array], take: Callable[[list[Array]], None]) -> None:
        """Hand the first process's arrays to `take` in all others."""

    def close(self) -> None:
        """Leave the group."""


ALONE = Group()


class SocketGroup(Group):
    """Processes on one machine's CPU, joined by local sockets. The first adds up in the order of the ranks.

    Parameters
    ----------
    backend : Backend
    rank, size, port : int
    key : bytes
        Known to these processes only; who does not know it is turned away.
    """

    def __init__(self, backend: Backend, rank: int, size: int, port: int, key: bytes) -> None:
        if not 0 <= rank < size:
            raise InvalidArgumentError(f"rank must be in 0..{size - 1}, but got {rank}")
        self.backend, self.rank, self.size = backend, rank, size
        self._links: list[Connection] = []
        if rank == 0:
            self._links = _welcome(port, size - 1, key)
        else:
            link = _knock(port, key)
            link.send_bytes(rank.to_bytes(4, "little"))
            self._links = [link]

    def mean(self, arrays: Sequence[Array]) -> list[Array]:
        host = [self.backend.numpy(array) for array in arrays]
        flat = np.concatenate([part.reshape(-1) for part in host])
        with _all_there():
            if self.rank == 0:
                for link in self._links:
                    flat = flat + np.frombuffer(link.recv_bytes(), flat.dtype)
                flat = flat / np.asarray(self.size, flat.dtype)
                for link in self._links:
                    link.send_bytes(flat.tobytes())
            else:
                self._links[0].send_bytes(flat.tobytes())
                flat = np.frombuffer(self._links[0].recv_bytes(), flat.dtype)
        return self._split(flat, host)

    def share(self, arrays: Sequence[Array], take: Callable[[list[Array]], None]) -> None:
        host = [self.backend.numpy(array) for array in arrays]
        flat = np.concatenate([part.reshape(-1) for part in host])
        with _all_there():
            if self.rank == 0:
                for link in self._links:
                    link.send_bytes(flat.tobytes())
                return
            flat = np.frombuffer(self._links[0].recv_bytes(), flat.dtype)
        take(self._split(flat, host))

    def close(self) -> None:
        for link in self._links:
            link.close()

    def _split(self, flat: Any, like: Sequence[Any]) -> list[Array]:
        bounds = np.cumsum([0, *(part.size for part in like)])
        return [
            self.backend.asarray(flat[start:end].reshape(part.shape).copy())
            for start, end, part in zip(bounds, bounds[1:], like, strict=False)
        ]


class NcclGroup(Group):
    """One process per GPU, joined by NCCL through `cupyx.distributed`. Written without GPUs at hand.

    Parameters
    ----------
    backend : CupyBackend
    rank, size, port : int
    """

    def __init__(self, backend: Backend, rank: int, size: int, port: int) -> None:
        try:
            from cupyx.distributed import init_process_group
        except ImportError:
            raise DeviceError("several GPUs need CuPy with NCCL: pip install 'spherecv[cuda]'") from None
        self.backend, self.rank, self.size = backend, rank, size
        with backend.active():
            self._comm = init_process_group(size, rank, backend="nccl", host="127.0.0.1", port=port)

    def mean(self, arrays: Sequence[Array]) -> list[Array]:
        out = []
        with self.backend.active():
            for array in arrays:
                array = self.backend.xp.ascontiguousarray(array)  # NCCL takes nothing else
                total = self.backend.xp.empty_like(array)
                self._comm.all_reduce(array, total, op="sum")
                out.append(total / self.size)
        return out

    def share(self, arrays: Sequence[Array], take: Callable[[list[Array]], None]) -> None:
        with self.backend.active():
            shared = [self.backend.xp.ascontiguousarray(array) for array in arrays]
            for array in shared:
                self._comm.broadcast(array, root=0)
        take(shared)

    def close(self) -> None:
        # The first process's communicator holds a process that answers the others; it ends when nobody refers to it,
        # and a Python that is about to exit would wait for it.
        self._comm = None


def group_of_environment(backend: Backend) -> Group:
    """Return the group that the environment of this process names; the group of one where it names none."""
    if SIZE not in os.environ or os.environ[SIZE] == "1":
        return ALONE
    rank, size, port = (int(os.environ[name]) for name in (RANK, SIZE, PORT))
    if rank and PARENT in os.environ:
        end_with_parent(int(os.environ[PARENT]))
    if backend.device == "cuda":
        return NcclGroup(backend, rank, size, port)
    return SocketGroup(backend, rank, size, port, bytes.fromhex(os.environ[KEY]))


@contextmanager
def companions(size: int, arguments: Sequence[str]) -> Iterator[None]:
    """Make this process the first of `size`: start the others with the same command line, and end them with it.

    Parameters
    ----------
    size : int
    arguments : sequence of str
        The command line of the others, without the interpreter.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {SIZE: str(size), PORT: str(port), KEY: secrets.token_hex(32), PARENT: str(os.getpid())}
    others = [
        subprocess.Popen([sys.executable, *arguments], env={**os.environ, **shared, RANK: str(rank)})  # noqa: S603
        for rank in range(1, size)
    ]
    before = {name: os.environ.get(name) for name in (*shared, RANK)}
    os.environ.update({**shared, RANK: "0"})
    _started.extend(others)
    try:
        yield
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(timeout=60)
    finally:
        _started[:] = [other for other in _started if other not in others]
        _end(others)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all at once to end, and end those that have not after some seconds: one may be deep in a product of C."""
    for other in others:
        other.terminate()
    until = time.monotonic() + _GRACE
    for other in others:
        with suppress(subprocess.TimeoutExpired):
            other.wait(timeout=max(0.0, until - time.monotonic()))
        other.kill()
        other.wait()


def _welcome(port: int, count: int, key: bytes) -> list[Connection]:
    """Wait until the others have joined, in the order of their ranks; one that ended before is an error at once."""
    joined: dict[int, Connection] = {}
    end = time.monotonic() + _PATIENCE
    with socket.create_server(("127.0.0.1", port), backlog=count) as server:
        server.settimeout(0.2)
        while len(joined) < count:
            gone = [other.returncode for other in _started if other.poll() is not None]
            if gone:
                raise TrainingError(f"a process of this training ended with code {gone[0]}: see its message above")
            if time.monotonic() > end:
                raise TrainingError(f"only {len(joined)} of {count} other processes joined within {_PATIENCE} s")
            try:
                accepted, _ = server.accept()
            except TimeoutError:
                continue
            accepted.setblocking(True)
            link = Connection(accepted.detach())
            try:
                deliver_challenge(link, key)
                answer_challenge(link, key)
                joined[int.from_bytes(link.recv_bytes(4), "little")] = link
            except (AuthenticationError, EOFError, OSError):
                link.close()  # somebody else, who does not know the key
    return [joined[other] for other in sorted(joined)]


def _knock(port: int, key: bytes) -> Connection:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            return Client(("127.0.0.1", port), authkey=key)
        except (ConnectionRefusedError, ConnectionResetError):
            time.sleep(0.1)
    raise TrainingError(f"the first training process did not answer on port {port} within {_PATIENCE} s")


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise TrainingError("another process of this training has ended: see its message above") from None
