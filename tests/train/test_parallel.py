"""Two processes with half the batch each equal one with the whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import read_blob, read_caffemodel
from spherecv.errors import DeviceError, TrainingError
from spherecv.train.backend import Backend
from spherecv.train.parallel import ALONE, NcclGroup, SocketGroup, companions, group_of_environment

ROOT = Path(__file__).resolve().parents[2]

CODE = """
from spherecv.train.run import open_run
with open_run({solver!r}, workers=0, threads=1, snapshot=0, snapshot_prefix={prefix!r}, batch_size={size}) as run:
    run.trainer.run()
"""


def _weights(path: Path) -> dict[str, np.ndarray]:
    found = read_caffemodel(path)
    return {f"{layer.name}/{n}": read_blob(b) for layer in found.layer for n, b in enumerate(layer.blobs)}


def test_two_processes_equal_one(small_run: Path) -> None:
    net = small_run.parent / "train.prototxt"
    # Dropout's masks and the mirror are drawn by each process: off, so that both see the same numbers.
    net.write_text(net.read_text().replace("dropout_ratio: 0.2", "dropout_ratio: 0").replace("mirror: true", ""))
    one, two = (str(small_run.parent / name / "w") for name in ("one", "two"))
    run = [sys.executable, "-c", CODE.format(solver=str(small_run), prefix=one, size=6)]
    subprocess.run(run, cwd=ROOT, check=True, timeout=120)
    code = CODE.format(solver=str(small_run), prefix=two, size=3)
    with companions(2, ["-c", code]):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120, env=dict(os.environ))
    whole, halves = (_weights(Path(f"{prefix}_iter_8.caffemodel")) for prefix in (one, two))
    assert whole.keys() == halves.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(halves[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_process_that_ends_before_it_joins(single: Backend) -> None:
    with (
        pytest.raises(TrainingError, match="ended with code 3"),
        companions(2, ["-c", "raise SystemExit(3)"]),
    ):
        group_of_environment(single)


STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = pathlib.Path(sys.argv[1])
(folder / "deaf").touch()
while not (folder / "asked").exists():
    time.sleep(0.05)
time.sleep(30)
(folder / "ended by itself").touch()
"""


def test_a_process_that_does_not_listen_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spherecv.train.parallel._GRACE", 0.1)

    def broken_off() -> None:
        while not (tmp_path / "deaf").exists():
            time.sleep(0.05)
        (tmp_path / "asked").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), companions(2, ["-c", STUBBORN, str(tmp_path)]):
        broken_off()
    assert not (tmp_path / "ended by itself").exists()


def test_a_process_that_ends_in_between(single: Backend) -> None:
    port, key = _port(), b"key"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(SocketGroup, single, 1, 2, port, key)
        first = SocketGroup(single, 0, 2, port, key)
        other.result().close()
        with pytest.raises(TrainingError, match="another process of this training has ended"):
            first.mean([np.ones(3, np.float32)])
        first.close()


def test_who_does_not_know_the_key_is_turned_away(single: Backend) -> None:
    port, ranks = _port(), range(2)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(SocketGroup, single, 0, 2, port, b"key")
        with pytest.raises(AuthenticationError):
            SocketGroup(single, 1, 2, port, b"another")
        groups = [first, pool.submit(SocketGroup, single, 1, 2, port, b"key")]
        arrays = [[np.full((2, 2), 1.0 + rank, np.float32), np.array([rank], np.float32)] for rank in ranks]
        means = [pool.submit(groups[rank].result().mean, arrays[rank]) for rank in ranks]
        for mean in means:
            assert [part.tolist() for part in mean.result()] == [[[1.5, 1.5], [1.5, 1.5]], [0.5]]
        for group in groups:
            group.result().close()


class _Communicator:
    """What cupyx.distributed gives, between threads and over NumPy: takes contiguous arrays only, as NCCL does."""

    def __init__(self, size: int, rank: int, meeting: threading.Barrier, table: dict[int, np.ndarray]) -> None:
        self.size, self.rank, self.meeting, self.table = size, rank, meeting, table

    def all_reduce(self, given: np.ndarray, out: np.ndarray, op: str) -> None:
        assert op == "sum"
        assert given.flags.c_contiguous
        self.table[self.rank] = given
        self.meeting.wait(30)
        out[...] = sum(self.table[rank] for rank in range(self.size))
        self.meeting.wait(30)

    def broadcast(self, array: np.ndarray, root: int) -> None:
        assert array.flags.c_contiguous
        if self.rank == root:
            self.table[root] = array
        self.meeting.wait(30)
        array[...] = self.table[root]
        self.meeting.wait(30)


def test_nccl_group_averages_and_shares(double: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logic of the NCCL path beside a communicator that is none: the real one needs two GPUs."""
    meeting, table, asked = threading.Barrier(2), {}, []

    def init_process_group(size: int, rank: int, **settings: object) -> _Communicator:
        asked.append((size, rank, settings["backend"], settings["host"], settings["port"]))
        return _Communicator(size, rank, meeting, table)

    module = types.ModuleType("cupyx.distributed")
    module.init_process_group = init_process_group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupyx", types.ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", module)

    def one(rank: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        group, taken = NcclGroup(double, rank, 2, 4321), []
        mean = group.mean([np.full((2, 3), float(rank)).T, np.array([10.0 * rank])])
        group.share([np.arange(4.0).reshape(2, 2) + 100 * rank], taken.extend)
        group.close()
        return mean, taken

    with ThreadPoolExecutor(2) as pool:
        for mean, taken in pool.map(one, range(2)):
            assert [part.tolist() for part in mean] == [[[0.5, 0.5]] * 3, [5.0]]
            assert [part.tolist() for part in taken] == [[[0, 1], [2, 3]]]
    assert sorted(asked) == [(2, 0, "nccl", "127.0.0.1", 4321), (2, 1, "nccl", "127.0.0.1", 4321)]


def test_nccl_without_cupy(double: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupyx", None)
    with pytest.raises(DeviceError, match="several GPUs need CuPy"):
        NcclGroup(double, 0, 2, 4321)


def test_alone(single: Backend) -> None:
    assert group_of_environment(single) is ALONE
    arrays = [np.ones(3)]
    assert ALONE.mean(arrays)[0] is arrays[0]
