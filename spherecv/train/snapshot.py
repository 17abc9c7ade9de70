"""Snapshots: a caffemodel, a Caffe solverstate, and beside them what exact resuming needs and Caffe has no field for.

The solverstate is written last: where there is one, the other two files of the snapshot are whole. An older snapshot of
the same name stays beside as `PREFIX_iter_N.old.*` until the new one is: a kill at any instant leaves one of the two.
"""

from __future__ import annotations

import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.caffe.blobs import read_blob, write_blob
from spherecv.caffe.reader import read_caffemodel, read_message
from spherecv.caffe.spherecv_caffe_pb2 import SolverState
from spherecv.caffe.writer import serialize
from spherecv.errors import CaffeModelError, ModelFileError, SnapshotError
from spherecv.files import open_whole, put_twin
from spherecv.train.state import Rest, TrainingState

_FORMAT = 1
_SUFFIXES = (".caffemodel", ".resume.npz", ".solverstate")
"""In the order in which they take their names; they go the other way round."""
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,  # and NotImplementedError: zipfile, of a method or password that a damaged header asks for
    tokenize.TokenError,  # and SyntaxError: NumPy, of a damaged header
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_snapshot(state: TrainingState, prefix: str | Path) -> Path:
    """Write ``PREFIX_iter_N.caffemodel``, ``.resume.npz`` and ``.solverstate``, and return the last.

    Raises
    ------
    StorageError
        The folder cannot be written to; an older snapshot of the same name is then still whole.
    """
    stem = f"{prefix}_iter_{state.iteration}"
    model, sidecar, path = _files(stem)
    older = _files(f"{stem}.old")
    weights = serialize(state.model)
    solver = serialize(_solver_state(state, str(model)))
    # All three are written before one takes its name. A solverstate of an earlier run in the same place goes before, as
    # a kill in between would leave it beside files it was not written with; until then that run's files have two names.
    with open_whole(path) as third, open_whole(sidecar) as second, open_whole(model) as first:
        for stream, data in ((first, weights), (second, _sidecar(state, weights, solver)), (third, solver)):
            stream.write(data)
            stream.flush()
        if path.exists():
            _forget(older)
            for file, twin in zip((model, sidecar, path), older, strict=True):
                if file.exists():
                    put_twin(file, twin)
            path.unlink()
    _forget(older)
    return path


def _files(stem: str) -> tuple[Path, Path, Path]:
    model, sidecar, solver = (Path(stem + suffix) for suffix in _SUFFIXES)
    return model, sidecar, solver


def _forget(files: tuple[Path, Path, Path]) -> None:
    for file in reversed(files):
        file.unlink(missing_ok=True)


def read_snapshot(path: str | Path) -> TrainingState:
    """Read what `write_snapshot`, or Caffe, wrote.

    Raises
    ------
    SnapshotError
        The snapshot is damaged or incomplete.
    """
    source = Path(path)
    if source.suffix != ".solverstate":
        raise SnapshotError(f"{source} is no .solverstate: pass the one that was written beside the caffemodel")
    older = source.with_suffix(".old.solverstate")
    if not source.exists() and older.exists():
        raise SnapshotError(f"{source} was being replaced when its process ended: resume from {older}, which is whole")
    try:
        solver = read_message(source, SolverState)
    except ModelFileError as error:
        raise SnapshotError(f"{source} cannot be resumed from: {error}") from None
    model = _learned_net(source, solver)
    try:
        message = read_caffemodel(model)
    except CaffeModelError as error:
        raise SnapshotError(f"{model} cannot be resumed from: {error}") from None
    try:
        history = [read_blob(blob, where=f"history {index}") for index, blob in enumerate(solver.history)]
    except CaffeModelError as error:
        raise SnapshotError(f"{source} cannot be resumed from: {error}") from None
    sidecar = source.with_suffix(".resume.npz")
    rest = _read_rest(sidecar, model.read_bytes(), source.read_bytes()) if sidecar.exists() else None
    return TrainingState(message, history, int(solver.iter), int(solver.current_step), rest, str(source))


def _solver_state(state: TrainingState, learned_net: str) -> SolverState:
    message = SolverState(iter=state.iteration, learned_net=learned_net, current_step=state.current_step)
    for values in state.history:
        write_blob(values, message.history.add())
    return message


def _sidecar(state: TrainingState, weights: bytes, solver: bytes) -> bytes:
    rest = state.rest
    if rest is None:
        raise SnapshotError(f"{state.origin} does not hold what resuming needs: it is of Caffe's files")
    head = {
        "format": _FORMAT,
        "iteration": state.iteration,
        "next_batch": rest.next_batch,
        "lanes": rest.lanes,
        "ranks": rest.ranks,
        "layers": rest.layers,
        "loss": rest.loss,
        "rng": rest.rng,
        "recent": list(rest.recent),
        "settings": dict(rest.settings),
        "caffemodel": hashlib.sha256(weights).hexdigest(),
        "solverstate": hashlib.sha256(solver).hexdigest(),
    }
    arrays: dict[str, npt.NDArray[Any]] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8), **rest.exact}
    target = io.BytesIO()
    np.savez(target, **arrays)  # type: ignore[arg-type]  # its stub takes one array for allow_pickle
    return target.getvalue()


def _learned_net(source: Path, state: SolverState) -> Path:
    told: object = state.learned_net
    if not isinstance(told, str):  # protobuf gives bytes where a text is none
        raise SnapshotError(f"{source} cannot be resumed from: the name of its weights is no text")
    named = Path(told)
    beside = source.with_suffix(".caffemodel")
    candidates = [source.parent / named.name, named, beside]
    if source.stem.endswith(".old"):  # it names the weights as they were called before
        candidates = [beside]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SnapshotError(f"{source} names the weights {state.learned_net!r}, which are neither there nor beside it")


def _read_rest(sidecar: Path, weights: bytes, solver: bytes) -> Rest:
    try:
        # Opened here, because NumPy leaves a file open that turns out to be a damaged archive.
        with sidecar.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            head = json.loads(stored["head"].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != "head"}
    except _UNREADABLE as error:
        raise SnapshotError(f"{sidecar} is damaged ({error}): take an earlier snapshot") from None
    if head.get("format") != _FORMAT:
        raise SnapshotError(f"{sidecar} has format {head.get('format')!r}, and this version reads {_FORMAT}")
    for name, data in (("caffemodel", weights), ("solverstate", solver)):
        if hashlib.sha256(data).hexdigest() != head[name]:
            raise SnapshotError(f"the {name} beside {sidecar} is not the one it was written with: take them together")
    known = {name: head[name] for name in ("next_batch", "lanes", "ranks", "layers", "loss", "rng", "recent")}
    return Rest(**known, exact=arrays, settings=head.get("settings", {}))
