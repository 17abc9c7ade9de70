"""One pool of processes: what comes back, how errors travel, and how it ends."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import cv2
import pytest

from spherecv.errors import BackendError, MissingDependencyError, PrototxtError, SphereCVError
from spherecv.processes import run_in_processes


class Doubling:
    """A worker; it notes the processes that opened it."""

    def __init__(self, folder: Path | None = None, missing: str = "") -> None:
        if missing:
            raise MissingDependencyError(missing, "extra", "this test")
        if folder is not None:
            (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def __call__(self, item: int) -> tuple[int, int]:
        if item == -1:
            raise PrototxtError("a mistake", line=3, column=7)
        if item == -2:
            os._exit(9)
        if item == -3:
            raise ZeroDivisionError("a fault of ours")
        return 2 * item, cv2.getNumThreads()


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_comes_back_once_with_its_result(tmp_path: Path, processes: int) -> None:
    before = cv2.getNumThreads()
    found = dict(run_in_processes(partial(Doubling, tmp_path), range(20), processes, threads=1))
    assert found == {item: (2 * item, 1) for item in range(20)}
    opened = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert len(opened) == len(set(opened)) <= processes
    assert (str(os.getpid()) in opened) is (processes == 1)
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_to_do_opens_nothing(processes: int) -> None:
    assert list(run_in_processes(partial(Doubling, None, "package"), [], processes, threads=1)) == []


def test_items_are_taken_as_they_are_needed() -> None:
    taken = itertools.count()
    done = run_in_processes(Doubling, taken, 2, threads=1)
    for _ in range(5):
        next(done)
    done.close()
    assert next(taken) <= 5 + 2 * 2 + 1


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_back_as_what_they_are(processes: int) -> None:
    with pytest.raises(PrototxtError, match="a mistake") as caught:
        list(run_in_processes(Doubling, [1, 2, -1], processes, threads=1))
    assert (caught.value.line, caught.value.column) == (3, 7)
    with pytest.raises(MissingDependencyError, match=r"package: pip install 'spherecv\[extra\]'"):
        list(run_in_processes(partial(Doubling, None, "package"), [1], processes, threads=1))
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        list(run_in_processes(Doubling, [-3], processes, threads=1))


def test_a_process_that_dies_is_one_error() -> None:
    with pytest.raises(BackendError, match="a worker process died"):
        list(run_in_processes(Doubling, [1, -2, 3], 2, threads=1))


def _classes(base: type[SphereCVError]) -> list[type[SphereCVError]]:
    return [base, *(found for kind in base.__subclasses__() for found in _classes(kind))]


@pytest.mark.parametrize("kind", _classes(SphereCVError), ids=lambda kind: kind.__name__)
def test_every_error_travels(kind: type[SphereCVError]) -> None:
    error = kind.__new__(kind, "what went wrong")
    error.note = ["more"]  # type: ignore[attr-defined]
    travelled = pickle.loads(pickle.dumps(error))
    assert type(travelled) is kind
    assert (str(travelled), travelled.note) == ("what went wrong", ["more"])


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from spherecv.processes import run_in_processes

class Slow:
    def __init__(self):
        Path(sys.argv[1], str(os.getpid())).touch()
    def __call__(self, item):
        time.sleep({seconds})
        Path(sys.argv[1], f"done-{{item}}").touch()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
    try:
        list(run_in_processes(Slow, range(100), 2, threads=1))
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        sys.exit(7)
"""


def _started(tmp_path: Path, seconds: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(seconds=seconds)))
    (tmp_path / "notes").mkdir()
    running = subprocess.Popen([sys.executable, str(script), str(tmp_path / "notes")])
    deadline = time.monotonic() + 120
    while len(workers := [int(path.name) for path in (tmp_path / "notes").iterdir() if path.name.isdigit()]) < 2:
        assert running.poll() is None
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.05)
    return running, workers


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


@needs_proc
@pytest.mark.parametrize("seconds", [0.5, 500])
def test_workers_end_when_the_parent_is_killed(tmp_path: Path, seconds: float) -> None:
    running, workers = _started(tmp_path, seconds)
    running.kill()
    running.wait(60)
    deadline = time.monotonic() + 60
    while any(map(_lives, workers)):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.5, 500])
def test_a_signal_ends_the_work_and_its_workers(tmp_path: Path, how: signal.Signals, seconds: float) -> None:
    running, workers = _started(tmp_path, seconds)
    running.send_signal(how)
    assert running.wait(120) == 7
    assert not any(map(_lives, workers))
    done = [path for path in (tmp_path / "notes").iterdir() if path.name.startswith("done-")]
    assert (0 < len(done) < 100) if seconds < 1 else not done


BUSY = """
import ctypes, os, sys
from pathlib import Path
from spherecv.processes import run_in_processes

class Busy:
    def __call__(self, item):
        Path(sys.argv[1], str(os.getpid())).touch()
        ctypes.PyDLL(None).sleep(500)  # without letting other threads of Python run

if __name__ == "__main__":
    list(run_in_processes(Busy, range(2), 2, threads=1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends them")
def test_workers_that_compute_in_c_end_with_the_parent_too(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(BUSY)
    (tmp_path / "notes").mkdir()
    running = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(tmp_path / "notes")])
    _until(lambda: len(os.listdir(tmp_path / "notes")) == 2, "the workers did not start")
    running.kill()
    running.wait(60)
    workers = [int(name) for name in os.listdir(tmp_path / "notes")]
    _until(lambda: not any(map(_lives, workers)), "workers outlive their parent")


def _until(true, problem: str) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, problem
        time.sleep(0.05)
