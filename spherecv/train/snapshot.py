"""Snapshots: a caffemodel, a Caffe solverstate, and beside them what exact resuming needs and Caffe has no field for.

The solverstate is written last: where there is one, the other two files of the snapshot are whole.
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
from spherecv.files import open_whole
from spherecv.train.state import Rest, TrainingState

_FORMAT = 1
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
    model = Path(f"{stem}.caffemodel")
    weights = serialize(state.model)
    solver = serialize(_solver_state(state, str(model)))
    path, sidecar = Path(f"{stem}.solverstate"), Path(f"{stem}.resume.npz")
    # All three are written before one takes its name, the solverstate as the last. That of an earlier run in the same
    # place goes before, as a kill in between would leave it beside files it was not written with.
    with open_whole(path) as third, open_whole(sidecar) as second, open_whole(model) as first:
        for stream, data in ((first, weights), (second, _sidecar(state, weights, solver)), (third, solver)):
            stream.write(data)
            stream.flush()
        path.unlink(missing_ok=True)
    return path


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
        "caffemodel": hashlib.sha256(weights).hexdigest(),
        "solverstate": hashlib.sha256(solver).hexdigest(),
    }
    arrays: dict[str, npt.NDArray[Any]] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8), **rest.exact}
    target = io.BytesIO()
    np.savez(target, **arrays)  # type: ignore[arg-type]  # its stub takes one array for allow_pickle
    return target.getvalue()


def _learned_net(source: Path, state: SolverState) -> Path:
    named = Path(state.learned_net)
    for candidate in (source.parent / named.name, named, source.with_suffix(".caffemodel")):
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
    return Rest(**known, exact=arrays)
