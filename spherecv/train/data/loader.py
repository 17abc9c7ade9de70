"""Batches, decoded and varied in other processes while the trainer computes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import ImageError, InvalidArgumentError
from spherecv.train.data.dataset import Dataset
from spherecv.train.data.order import Order
from spherecv.train.data.reading import View

_ENDED = "a process that reads images has ended: see its message above, or use workers=0"
_AHEAD = 2  # batches each worker prepares beforehand
_PIPE = 1 << 20  # bytes


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes
    ----------
    number : int
        The batch's place in the order, from 0.
    images : ndarray of uint8 (count, height, width, channels)
        BGR.
    labels : ndarray of int64 (count,)
    indices : ndarray of int64 (count,)
        Places in the data set.
    skipped : tuple of str
        Why images are missing.
    """

    number: int
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    skipped: tuple[str, ...]


class Loader:
    """An endless run of batches. Use it in a `with` block, or call `close`.

    The variation of an image depends on the seed, the batch's number and its place in it: neither the number of
    workers nor a stop in between changes it.

    Parameters
    ----------
    dataset : Dataset
    order : Order
    view : View
    workers : int
        Processes; 0 reads in the trainer's own.
    seed : int
    start : int
        The first batch's number.
    rank, ranks : int
        With several trainers side by side: each batch of this one is number ``n ranks + rank`` of the order.
    limit : int
        Images that may be unreadable before that is an error.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Order,
        view: View,
        *,
        workers: int = 1,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        limit: int = 100,
    ) -> None:
        if workers < 0 or limit < 0:
            raise InvalidArgumentError(f"workers and limit must not be negative, but got {workers} and {limit}")
        self.dataset, self.order, self.view = dataset, order, view
        self.seed, self.limit, self.rank, self.ranks = seed, limit, rank, ranks
        self.next_number = start
        self.skipped: dict[str, None] = {}
        self._labels = dataset.labels()
        self._pending: deque[tuple[int, npt.NDArray[np.int64], _Worker]] = deque()
        self._asked = start
        self._workers = [_Worker(dataset, view) for _ in range(workers)]

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.next()

    def next(self) -> Batch:
        """Return the next batch, without those images that could not be read."""
        while True:
            batch = self._read()
            self.next_number = batch.number + 1
            for reason in batch.skipped:
                self.skipped[reason] = None
            if len(self.skipped) > self.limit:
                raise ImageError(
                    f"{len(self.skipped)} images cannot be read, more than the {self.limit} allowed; the last: "
                    f"{batch.skipped[-1] if batch.skipped else next(reversed(self.skipped))}"
                )
            if len(batch.labels):
                return batch
            if len(self.skipped) >= len(self.dataset.items):
                raise ImageError(f"none of the {len(self.dataset.items)} images can be read: {batch.skipped[0]}")

    def seek(self, number: int) -> None:
        """Go to a batch; the next one has this number."""
        for _, _, worker in self._pending:
            worker.receive(self.view, discard=True)
        self._pending.clear()
        self.next_number = self._asked = number

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._pending.clear()

    def _read(self) -> Batch:
        if not self._workers:
            number = self.next_number
            indices = self._indices(number)
            images, failures = read_batch(self.dataset, self.view, indices, (self.seed, self._place(number)))
            return self._batch(number, indices, images, failures)
        while len(self._pending) < _AHEAD * len(self._workers):
            number, worker = self._asked, self._workers[self._asked % len(self._workers)]
            indices = self._indices(number)
            worker.send(indices, (self.seed, self._place(number)))
            self._pending.append((number, indices, worker))
            self._asked += 1
        number, indices, worker = self._pending.popleft()
        images, failures = worker.receive(self.view)
        return self._batch(number, indices, images, failures)

    def _place(self, number: int) -> int:
        return number * self.ranks + self.rank

    def _indices(self, number: int) -> npt.NDArray[np.int64]:
        return self.order.batch(self._place(number))

    def _batch(
        self, number: int, indices: npt.NDArray[np.int64], images: npt.NDArray[np.uint8], failures: dict[int, str]
    ) -> Batch:
        read = np.array([place for place in range(len(indices)) if place not in failures], dtype=np.int64)
        kept = indices[read]
        return Batch(number, images, self._labels[kept], kept, tuple(failures.values()))


def read_batch(
    dataset: Dataset, view: View, indices: npt.NDArray[np.int64], seed: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """Return the images that can be read, and for each place that cannot, why.

    Parameters
    ----------
    dataset : Dataset
    view : View
    indices : ndarray of int
    seed : (int, int)
        The loader's seed and the batch's number.
    """
    images, failures = [], {}
    for place, index in enumerate(indices):
        try:
            images.append(view.read(dataset.items[index], np.random.default_rng((*seed, place))))
        except ImageError as error:
            failures[place] = str(error)
    shape = (len(images), view.height, view.width, view.channels)
    return np.stack(images) if images else np.empty(shape, np.uint8), failures


class _Worker:
    """A process of its own (not a fork: BLAS threads do not survive one), spoken to in JSON and raw bytes."""

    def __init__(self, dataset: Dataset, view: View) -> None:
        root = str(Path(__file__).resolve().parents[3])
        code = f"import sys; sys.path.insert(0, {root!r}); from spherecv.train.data.worker import main; main()"
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        _widen(self._process.stdout)
        self._write({"view": view.to_dict(), "items": dataset.items, "names": dataset.names})

    def send(self, indices: npt.NDArray[np.int64], seed: tuple[int, int]) -> None:
        self._write({"indices": indices.tolist(), "seed": seed})

    def receive(self, view: View, *, discard: bool = False) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
        stream = self._process.stdout
        line = stream.readline() if stream is not None else b""
        if not line or stream is None:
            raise ImageError(_ENDED)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ImageError(f"a process that reads images said {line[:60]!r} in place of an answer") from None
        shape = (answer["count"], view.height, view.width, view.channels)
        size = int(np.prod(shape))
        data = stream.read(size)
        if len(data) != size and not discard:
            raise ImageError(_ENDED)
        failures = {int(place): reason for place, reason in answer["failures"].items()}
        return np.frombuffer(data, np.uint8).reshape(shape), failures

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        self._process.terminate()
        self._process.wait()

    def _write(self, message: dict[str, Any]) -> None:
        stream = self._process.stdin
        if stream is None:
            return
        try:
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
        except OSError:
            raise ImageError(_ENDED) from None


def _widen(pipe: Any) -> None:
    """Make a pipe hold most of a batch, where the system allows it: it then lies ready when it is asked for."""
    with suppress(ImportError, AttributeError, OSError):
        from fcntl import F_SETPIPE_SZ, fcntl

        fcntl(pipe, F_SETPIPE_SZ, _PIPE)
