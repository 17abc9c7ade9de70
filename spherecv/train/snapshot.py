"""Snapshots: a caffemodel, a Caffe solverstate, and beside them what exact resuming needs and Caffe has no field for.

The solverstate is written last: where there is one, the other two files of the snapshot are whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherecv.caffe.blobs import read_blob, write_blob
from spherecv.caffe.reader import read_message
from spherecv.caffe.spherecv_caffe_pb2 import SolverState
from spherecv.caffe.writer import serialize
from spherecv.errors import CaffeModelError, ModelFileError, SnapshotError
from spherecv.files import atomic_path, write_bytes
from spherecv.train.weights import load_weights, to_caffemodel

if TYPE_CHECKING:
    from spherecv.train.trainer import Trainer

_FORMAT = 1


def write_snapshot(trainer: Trainer, prefix: str | Path) -> Path:
    """Write ``PREFIX_iter_N.caffemodel``, ``.resume.npz`` and ``.solverstate``, and return the last.

    Raises
    ------
    StorageError
        The folder cannot be written to; an older snapshot of the same name is then still whole.
    """
    stem = f"{prefix}_iter_{trainer.iteration}"
    model = Path(f"{stem}.caffemodel")
    extra = []
    if trainer.loss is not None and trainer.loss.params:
        extra = [(trainer.loss.name, trainer.loss.layer_type, trainer.loss.params)]
    weights = serialize(to_caffemodel(trainer.net, extra))
    state = serialize(_solver_state(trainer, model.name))
    path, sidecar = Path(f"{stem}.solverstate"), Path(f"{stem}.resume.npz")
    # All three are written before one takes its name. A solverstate of an earlier run in the same place goes before
    # that, as a kill in between would leave it beside files it was not written with.
    ready = path.with_name(f"{path.name}.part")
    try:
        with atomic_path(sidecar) as second, atomic_path(model) as first:
            first.write_bytes(weights)
            second.write_bytes(_sidecar(trainer, weights, state))
            write_bytes(ready, state)
            path.unlink(missing_ok=True)
        ready.replace(path)
    finally:
        ready.unlink(missing_ok=True)
    return path


def read_snapshot(trainer: Trainer, path: str | Path) -> None:
    """Bring a trainer to where a snapshot was written.

    Raises
    ------
    SnapshotError
        The snapshot is damaged, incomplete, or of another net or solver.
    """
    source = Path(path)
    if source.suffix != ".solverstate":
        raise SnapshotError(f"{source} is no .solverstate: pass the one that was written beside the caffemodel")
    try:
        state = read_message(source, SolverState)
    except ModelFileError as error:
        raise SnapshotError(f"{source} cannot be resumed from: {error}") from None
    model = _learned_net(source, state)
    _restore_weights(trainer, model)
    _restore_history(trainer, source, state)
    trainer.iteration = int(state.iter)
    sidecar = source.with_suffix(".resume.npz")
    if sidecar.exists():
        _restore_rest(trainer, sidecar, model.read_bytes(), source.read_bytes())
    else:
        _guess_rest(trainer)


def _solver_state(trainer: Trainer, learned_net: str) -> SolverState:
    """Return Caffe's form of a solver: all first slots of the history, then all second ones."""
    solver, backend = trainer.solver, trainer.net.backend
    policy = trainer.settings.policy
    message = SolverState(
        iter=trainer.iteration, learned_net=learned_net, current_step=policy.step_of(trainer.iteration)
    )
    for slot in range(solver.slots):
        for param, history in zip(solver.params, solver.history, strict=True):
            values = (
                param.order.to_caffe(backend.numpy(history[slot]))
                if history
                else np.zeros(param.order.caffe, np.float32)
            )
            write_blob(values, message.history.add())
    return message


def _sidecar(trainer: Trainer, weights: bytes, state: bytes) -> bytes:
    head = {
        "format": _FORMAT,
        "iteration": trainer.iteration,
        "next_batch": trainer.batches.next_number,
        "lanes": trainer.net.backend.lanes,
        "ranks": trainer.group.size,
        "layers": trainer.net.state(),
        "loss": trainer.loss.state() if trainer.loss is not None else {},
        "rng": trainer.net.context.rng.bit_generator.state,
        "recent": list(trainer.recent),
        "caffemodel": hashlib.sha256(weights).hexdigest(),
        "solverstate": hashlib.sha256(state).hexdigest(),
    }
    arrays: dict[str, Any] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
    if trainer.net.backend.dtype_name != "float32":
        # Caffe's files hold single precision only.
        for param, history in zip(trainer.solver.params, trainer.solver.history, strict=True):
            arrays[f"data:{param.name}"] = trainer.net.backend.numpy(param.data)
            arrays |= {f"history{n}:{param.name}": trainer.net.backend.numpy(part) for n, part in enumerate(history)}
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


def _learned_net(source: Path, state: SolverState) -> Path:
    named = Path(state.learned_net)
    for candidate in (source.parent / named.name, named, source.with_suffix(".caffemodel")):
        if candidate.is_file():
            return candidate
    raise SnapshotError(f"{source} names the weights {state.learned_net!r}, which are neither there nor beside it")


def _restore_weights(trainer: Trainer, model: Path) -> None:
    from spherecv.caffe.reader import read_caffemodel

    try:
        message = read_caffemodel(model)
        load_weights(trainer.net, message)
        if trainer.loss is None or not trainer.loss.params:
            return
        stored = {layer.name: layer.blobs for layer in message.layer}.get(trainer.loss.name, [])
        if len(stored) != len(trainer.loss.params):
            raise SnapshotError(f"{model} does not hold the weights of the loss {trainer.loss.name!r}")
        for param, blob in zip(trainer.loss.params, stored, strict=True):
            values = read_blob(blob)
            if values.shape != param.order.caffe:
                raise SnapshotError(f"{model} holds {param.name} as {values.shape}, not {param.order.caffe}")
            param.from_caffe(trainer.net.backend, values)
    except CaffeModelError as error:
        raise SnapshotError(f"{model} cannot be resumed from: {error}") from None


def _restore_history(trainer: Trainer, source: Path, state: SolverState) -> None:
    solver, backend = trainer.solver, trainer.net.backend
    wanted = [param for _ in range(solver.slots) for param in solver.params]
    if len(state.history) != len(wanted):
        raise SnapshotError(
            f"{source} holds {len(state.history)} blobs of history, but this net and solver have {len(wanted)}: "
            "it is of another run"
        )
    restored: list[list[Any]] = [[] for _ in solver.params]
    try:
        for index, (param, blob) in enumerate(zip(wanted, state.history, strict=True)):
            values = read_blob(blob, where=f"history {index}")
            if values.size != np.prod(param.order.caffe, dtype=int):
                raise SnapshotError(
                    f"{source} holds the history of {param.name} as {values.shape}: it is of another run"
                )
            values = values.reshape(param.order.caffe)
            restored[index % len(solver.params)].append(backend.asarray(param.order.to_internal(values)))
    except CaffeModelError as error:
        raise SnapshotError(f"{source} cannot be resumed from: {error}") from None
    solver.history = restored


def _restore_rest(trainer: Trainer, sidecar: Path, weights: bytes, state: bytes) -> None:
    try:
        # Opened here, because NumPy leaves a file open that turns out to be a damaged archive.
        with sidecar.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            head = json.loads(stored["head"].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != "head"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SnapshotError(f"{sidecar} is damaged ({error}): take an earlier snapshot") from None
    if head.get("format") != _FORMAT:
        raise SnapshotError(f"{sidecar} has format {head.get('format')!r}, and this version reads {_FORMAT}")
    if head["ranks"] != trainer.group.size:
        raise SnapshotError(
            f"{sidecar} was written by {head['ranks']} processes side by side, and these are {trainer.group.size}: "
            "resume with as many"
        )
    for name, data in (("caffemodel", weights), ("solverstate", state)):
        if hashlib.sha256(data).hexdigest() != head[name]:
            raise SnapshotError(f"the {name} beside {sidecar} is not the one it was written with: take them together")
    backend = trainer.net.backend
    trainer.net.restore(head["layers"])
    if trainer.loss is not None:
        trainer.loss.restore(head["loss"])
    trainer.net.context.rng.bit_generator.state = head["rng"]
    trainer.recent.clear()
    trainer.recent.extend(head["recent"])
    trainer.batches.seek(int(head["next_batch"]))
    backend.use_lanes(int(head["lanes"]))
    for param, history in zip(trainer.solver.params, trainer.solver.history, strict=True):
        if f"data:{param.name}" in arrays:
            param.data = backend.asarray(arrays[f"data:{param.name}"])
            history[:] = [
                backend.asarray(arrays[key]) for n in range(2) if (key := f"history{n}:{param.name}") in arrays
            ]


def _guess_rest(trainer: Trainer) -> None:
    """Set what Caffe does not store: t as after that many passes, and the order of the data as if ours."""
    passes = trainer.iteration * trainer.settings.iter_size
    counting: list[Any] = [*trainer.net.layers, *([] if trainer.loss is None else [trainer.loss])]
    for part in counting:
        # A sum of losses puts the name of each in front of what it counts.
        part.restore({key: value + passes for key, value in part.state().items() if key.rpartition(":")[2] == "t"})
    trainer.batches.seek(passes)
