"""Stopping and going on, bit for bit; and snapshots that cannot be used."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spherecv import files
from spherecv.caffe import read_caffemodel, read_message, write_caffemodel
from spherecv.caffe.spherecv_caffe_pb2 import SolverState
from spherecv.errors import SnapshotError, StorageError
from spherecv.train.losses import ASoftmax, CentreLoss, WeightedSum
from spherecv.train.run import open_run
from spherecv.train.snapshot import read_snapshot, write_snapshot
from spherecv.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]


def _bits(trainer: Trainer) -> list[bytes]:
    backend = trainer.net.backend
    weights = [param.to_caffe(backend).tobytes() for param in trainer.params]
    return weights + [backend.numpy(part).tobytes() for history in trainer.solver.history for part in history]


def _whole(solver: Path, **settings: object) -> tuple[list[bytes], list[float]]:
    losses = []
    with open_run(solver, workers=0, snapshot=0, threads=2, snapshot_after_train=False, **settings) as run:
        losses = [run.trainer.step() for _ in range(8)]
        return _bits(run.trainer), losses


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_resumed_equals_uninterrupted(small_run: Path, stop: int, kind: str) -> None:
    expected, losses = _whole(small_run, kind=kind)
    with open_run(small_run, workers=0, threads=2, kind=kind) as run:
        for _ in range(stop):
            run.trainer.step()
        state = run.trainer.snapshot()
    with open_run(small_run, workers=1, threads=2, kind=kind, resume=state) as run:
        assert run.trainer.iteration == stop
        assert [run.trainer.step() for _ in range(8 - stop)] == losses[stop:]
        assert _bits(run.trainer) == expected


def test_resumed_with_another_number_of_threads(small_run: Path) -> None:
    expected, _ = _whole(small_run)
    with open_run(small_run, workers=0, threads=2) as run:
        run.trainer.run(3)
        state = run.trainer.snapshot()
    with open_run(small_run, workers=0, threads=1, resume=state, snapshot=0, snapshot_after_train=False) as run:
        run.trainer.run()
        assert _bits(run.trainer) == expected


def test_double_precision_resumes_exactly_too(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spherecv.train.resources as module

    opened = module.open_backend
    monkeypatch.setattr(module, "open_backend", lambda *a, **k: opened(*a, **{**k, "dtype": "float64"}))
    expected, _ = _whole(small_run)
    with open_run(small_run, workers=0, threads=2) as run:
        run.trainer.run(3)
        state = run.trainer.snapshot()
    with open_run(small_run, workers=0, threads=2, resume=state, snapshot=0, snapshot_after_train=False) as run:
        run.trainer.run()
        assert _bits(run.trainer) == expected


def test_the_files_are_caffes(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run()
        params = [param.order.caffe for param in run.trainer.net.params]
    folder = small_run.parent / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"small_iter_{n}{suffix}" for n in (4, 8) for suffix in (".caffemodel", ".resume.npz", ".solverstate")
    ]
    state = read_message(folder / "small_iter_8.solverstate", SolverState)
    # The path as the prefix states it: Caffe opens it from the folder in which it is started.
    assert (state.iter, state.learned_net, state.current_step) == (8, str(folder / "small_iter_8.caffemodel"), 2)
    assert [tuple(blob.shape.dim) for blob in state.history] == params
    model = read_caffemodel(folder / "small_iter_8.caffemodel")
    assert [layer.name for layer in model.layer if layer.blobs] == ["conv1", "relu1", "conv2", "relu2", "fc5", "fc6"]
    assert tuple(model.layer[0].blobs[0].shape.dim) == (8, 3, 3, 3)


def test_a_solverstate_that_names_its_weights_by_no_text_is_refused(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
    state = small_run.parent / "run" / "small_iter_4.solverstate"
    state.write_bytes(state.read_bytes().replace(b"small_iter_4", b"small\xffiter_4"))
    with pytest.raises(SnapshotError, match="cannot be resumed from"):
        read_snapshot(state)


def test_bare_solverstate_of_caffes(small_run: Path) -> None:
    """t goes on as after `iteration` iterations of `iter_size` passes; weights and momentum are the file's."""
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
        bits = _bits(run.trainer)
    folder = small_run.parent / "run"
    (folder / "small_iter_4.resume.npz").unlink()
    with open_run(small_run, workers=0, resume=folder / "small_iter_4.solverstate") as run:
        assert run.trainer.iteration == 4
        assert run.trainer.net.state()["fc6"]["t"] == 4 * 2
        assert run.trainer.batches.next_number == 8
        assert _bits(run.trainer) == bits
        run.trainer.step()


@pytest.mark.parametrize("suffix", [".caffemodel", ".resume.npz", ".solverstate"])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "noise"])
def test_damaged_snapshots(small_run: Path, suffix: str, harm: str) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
    file = small_run.parent / "run" / f"small_iter_4{suffix}"
    data = bytearray(file.read_bytes())
    if harm == "cut":
        data = data[: len(data) // 2]
    elif harm == "flip":
        data[len(data) // 2] ^= 0xFF
    elif harm == "empty":
        data = bytearray()
    else:
        data = bytearray(np.random.default_rng(0).bytes(500))
    file.write_bytes(data)
    with (
        pytest.raises(SnapshotError),
        open_run(small_run, workers=0, resume=file.with_name("small_iter_4.solverstate")),
    ):
        pass


def test_snapshots_of_other_runs(small_run: Path, tmp_path: Path) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
    state = small_run.parent / "run" / "small_iter_4.solverstate"
    with pytest.raises(SnapshotError, match="another run"), open_run(small_run, workers=0, resume=state, kind="Adam"):
        pass
    net = small_run.parent / "train.prototxt"
    net.write_text(net.read_text().replace("num_output: 16", "num_output: 17"))
    with pytest.raises(SnapshotError, match="do not fit"), open_run(small_run, workers=0, resume=state):
        pass
    state.with_name("small_iter_4.caffemodel").unlink()
    with pytest.raises(SnapshotError, match="names the weights"), open_run(small_run, workers=0, resume=state):
        pass
    with pytest.raises(SnapshotError, match=r"no \.solverstate"), open_run(small_run, workers=0, resume=net):
        pass


def test_a_kill_leaves_a_usable_snapshot(small_run: Path) -> None:
    """Killed while it snapshots after every iteration, again and again: every solverstate there is can be resumed."""
    code = (
        "from spherecv.train.run import open_run\n"
        f"with open_run({str(small_run)!r}, workers=0, threads=1, snapshot=1, max_iter=100000) as run:\n"
        "    run.trainer.run()\n"
    )
    folder = small_run.parent / "run"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 180
    while len(list(folder.glob("*.solverstate"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    states = sorted(folder.glob("small_iter_*.solverstate"))
    assert len(states) >= 5
    last = max(states, key=lambda path: int(path.stem.split("_")[-1]))
    for state in (states[0], last):
        with open_run(small_run, workers=0, resume=state) as run:
            run.trainer.step()


class _Killed(BaseException):
    """What a kill is to the code it hits."""


@pytest.mark.parametrize(("how", "hit"), [(how, hit) for how in ("killed", "full") for hit in range(3)])
def test_a_snapshot_in_the_place_of_an_older_one(
    small_run: Path, monkeypatch: pytest.MonkeyPatch, how: str, hit: int
) -> None:
    """Killed anywhere, or with a full disk: what solverstate there is can be resumed."""
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
    state = small_run.parent / "run" / "small_iter_4.solverstate"
    name, whole, calls = files._name, files.open_whole, itertools.count()

    def put(descriptor: int, goal: Path) -> None:
        if next(calls) == hit:
            raise _Killed
        name(descriptor, goal)

    @contextmanager
    def opened(path: Path):
        with whole(path) as stream, Path("/dev/full").open("wb", buffering=0) as full:
            yield full if next(calls) == hit else stream

    with open_run(small_run, workers=0, base_lr=0.01) as run:
        run.trainer.run(3)
        if how == "killed":
            monkeypatch.setattr(files, "_name", put)
        else:
            monkeypatch.setattr("spherecv.train.snapshot.open_whole", opened)
        with pytest.raises(_Killed if how == "killed" else StorageError):
            run.trainer.run(1)
        monkeypatch.undo()
    assert next(calls) > hit
    if how == "full":
        assert state.exists()  # nothing of the older one was touched
    if state.exists():
        with open_run(small_run, workers=0, resume=state) as run:
            run.trainer.step()
    assert not [path for path in state.parent.iterdir() if path.name[0] == "." or path.suffix == ".part"]


def test_a_kill_between_any_two_steps_leaves_one_whole_snapshot(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step that changes a name is the last of the process, once: the older state or the newer can be read."""
    with open_run(small_run, workers=0, snapshot_after_train=False, snapshot=0) as run:
        run.trainer.run(3)
        older = run.trainer.state()
        run.trainer.step()
        newer = replace(run.trainer.state(), iteration=older.iteration)
    states = [state.model.SerializeToString() for state in (older, newer)]
    assert states[0] != states[1]
    seen, ended = [], False
    for hit in itertools.count(1):
        prefix = tmp_path / f"kill{hit}" / "net"
        write_snapshot(older, prefix)
        left = hit

        def step(real, *args, **kwargs) -> None:
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            real(*args, **kwargs)

        with monkeypatch.context() as patched:
            for owner, name in ((os, "link"), (os, "replace"), (os, "unlink"), (Path, "unlink"), (Path, "replace")):
                real = getattr(owner, name)
                patched.setattr(owner, name, lambda *args, real=real, **kwargs: step(real, *args, **kwargs))
            try:
                write_snapshot(newer, prefix)
                ended = True
            except _Killed:
                pass
        found = sorted(prefix.parent.glob("*.solverstate"))
        assert found, f"nothing is left after step {hit}"
        read = [read_snapshot(path) for path in found]
        assert all(one.rest is not None for one in read)
        seen.append([states.index(one.model.SerializeToString()) for one in read])
        if not (prefix.parent / "net_iter_3.solverstate").exists():
            with pytest.raises(SnapshotError, match=r"resume from .*net_iter_3\.old\.solverstate"):
                read_snapshot(prefix.parent / "net_iter_3.solverstate")
        write_snapshot(newer, prefix)  # the next run writes there again, and leaves nothing beside
        names = {path.name for path in prefix.parent.iterdir()}
        assert {f"net_iter_3{suffix}" for suffix in (".caffemodel", ".resume.npz", ".solverstate")} == names
        if ended:
            break
    assert seen[0] == [0]
    assert seen[-1] == [1]
    assert hit > 8


def test_bare_solverstate_with_a_sum_of_losses(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        trainer = run.trainer
        trainer.loss = WeightedSum([(1.0, ASoftmax(4)), (0.1, CentreLoss(4))])
        trainer.loss.build(trainer.net.backend, 16, np.random.default_rng(0))
        trainer.iteration = 5
        trainer.restore(replace(trainer.state(), rest=None))
        assert trainer.loss.state() == {"fc6:t": 5 * 2}
        assert trainer.net.state()["fc6"]["t"] == 5 * 2


def test_foreign_history_in_legacy_shape(small_run: Path) -> None:
    """Old Caffe wrote (1, 1, 1, n) where today's shape is (n,)."""
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
        bits = _bits(run.trainer)
    path = small_run.parent / "run" / "small_iter_4.solverstate"
    path.with_suffix(".resume.npz").unlink()
    state = read_message(path, SolverState)
    for blob in state.history:
        dims = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
        blob.ClearField("shape")
        blob.num, blob.channels, blob.height, blob.width = dims
    write_caffemodel(state, path)
    with open_run(small_run, workers=0, resume=path) as run:
        assert _bits(run.trainer) == bits
