"""Real Caffe's answers: gradients of layers, losses, and trainings of 12 iterations.

A case is a dict of the parts that the golden set stores: ``net``, ``caffemodel``, ``in:BLOB``, ``out:BLOB``,
``dout:BLOB``, ``din:BLOB``, ``dparam:LAYER/INDEX``, ``after:LAYER/INDEX``, ``solver0``, ``losses``, ``final:*``, ...
Run as a script it prints what agrees, what is refused and what differs:
``python tests/train/test_golden.py FOLDER [NAME...]``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spherecv.caffe import read_blob, read_caffemodel, read_message
from spherecv.caffe.spherecv_caffe_pb2 import TEST, TRAIN, SolverState
from spherecv.errors import SphereCVError
from spherecv.train.backend import Backend, open_backend
from spherecv.train.data.loader import Batch
from spherecv.train.net import Net
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Trainer
from spherecv.train.weights import load_weights

Case = dict[str, np.ndarray]

CHOSEN = Path(__file__).parent / "golden"

LAYER_TOLERANCE = 1e-5
SOLVER_TOLERANCE = 1e-4
# The gradient of MVN divides by its eps where all numbers are equal; counts and places are compared exactly.
EXACT = ("ArgMax", "Accuracy", "Threshold", "Filter", "BatchReindex")


class DifferenceError(AssertionError):
    """What the trainer makes of a case is not what Caffe makes of it."""


def cases(folder: Path, *groups: str) -> Iterator[tuple[dict[str, Any], Case]]:
    """Yield the entries of a golden set, each with its parts."""
    stored: dict[str, dict[str, Case]] = {}
    for entry in json.loads((folder / "index.json").read_text(encoding="utf8")):
        if entry["group"] not in groups:
            continue
        if entry["file"] not in stored:
            stored = {entry["file"]: _parts(folder / entry["file"])}
        yield entry, stored[entry["file"]][entry["name"]]


def _parts(file: Path) -> dict[str, Case]:
    found: dict[str, Case] = {}
    with np.load(file) as archive:
        for key in archive.files:
            name, part = key.split("|")
            found.setdefault(name, {})[part] = archive[key]
    return found


def to_internal(values: np.ndarray) -> np.ndarray:
    """Return Caffe's order of axes in the trainer's."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values


def to_caffe(values: np.ndarray) -> np.ndarray:
    """Return the trainer's order of axes in Caffe's."""
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def compare(what: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise where numbers differ by more than a share of the largest; what is infinite must be so at the same place."""
    if found.shape != expected.shape:
        raise DifferenceError(f"{what} has shape {found.shape}, not {expected.shape}")
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        raise DifferenceError(f"{what} is not infinite where Caffe's is")
    largest = float(np.abs(expected[finite]).max(initial=0.0)) or 1.0
    error = float(np.abs(found[finite] - expected[finite]).max(initial=0.0)) / largest
    if not error <= tolerance:
        raise DifferenceError(f"{what} differs by {error:.2g} of its largest number")


def run_layer(entry: dict[str, Any], case: Case, backend: Backend) -> None:
    """Run a case of `layers` or `losses` forwards and backwards and compare."""
    tolerance = 0.0 if entry["type"] in EXACT and entry["group"] == "layers" else LAYER_TOLERANCE
    phase = TRAIN if entry["phase"] == "TRAIN" else TEST
    net = Net.from_prototxt(str(case["net"]).encode(), backend, phase=phase)
    if "caffemodel" in case:
        load_weights(net, case["caffemodel"].tobytes())
    if any(part.startswith("din:") for part in case):
        net.differentiate_inputs()
    inputs = {part[3:]: backend.asarray(to_internal(case[part])) for part in case if part.startswith("in:")}
    names = [part[4:] for part in case if part.startswith("out:")]
    outputs = net.forward(inputs, keep=names)
    for name in names:
        found = to_caffe(backend.numpy(outputs.blobs[name]))
        if entry.get("random"):
            return
        compare(f"output {name}", found, case[f"out:{name}"], tolerance)
    after = {f"{layer.name}/{i}": param for layer in net.layers for i, param in enumerate(layer.params)}
    for part in case:
        if part.startswith("after:"):
            compare(part, after[part[6:]].to_caffe(backend), case[part], LAYER_TOLERANCE)
    if not any(part.startswith(("din:", "dparam:")) for part in case):
        return
    if _no_backward(case):
        return
    given = {part[5:]: backend.asarray(to_internal(case[part])) for part in case if part.startswith("dout:")}
    gradients = net.backward(given)
    for part in case:
        if part.startswith("din:"):
            if part[4:] not in gradients:
                raise DifferenceError(f"{part} is not given")
            compare(part, to_caffe(backend.numpy(gradients[part[4:]])), case[part], LAYER_TOLERANCE)
        elif part.startswith("dparam:"):
            param = after[part[7:]]
            found = np.zeros(param.order.caffe) if param.grad is None else backend.numpy(param.grad)
            found = found if param.grad is None else param.order.to_caffe(found)
            compare(part, found, case[part], LAYER_TOLERANCE)


def _no_backward(case: Case) -> bool:
    """Whether Caffe ran no backward pass: a net without a loss and force_backward has none, and zeros are stored."""
    stored = [case[part] for part in case if part.startswith(("din:", "dparam:"))]
    return not any(part.startswith("din:") for part in case) and not any(values.any() for values in stored)


class _SameBatch:
    """One batch again and again."""

    def __init__(self) -> None:
        self.next_number = 0

    def next(self) -> Batch:
        self.next_number += 1
        none = np.zeros(0, np.int64)
        return Batch(self.next_number - 1, np.zeros((0, 1, 1, 1), np.uint8), none, none, ())

    def seek(self, number: int) -> None:
        self.next_number = number


class _ConstantTrainer(Trainer):
    """Gives its net the same inputs in every pass."""

    inputs: dict[str, Any]

    def _pass(self, batch: Batch) -> tuple[float, dict[str, float], int]:
        outputs = self.net.forward(self.inputs)
        self.net.backward()
        return outputs.loss, {}, 1


def run_solver(entry: dict[str, Any], case: Case, backend: Backend, folder: Path) -> None:
    """Train 12 iterations as a case of `solvers` says and compare losses, weights and solverstate."""
    (folder / "net.prototxt").write_text(str(case["net"]))
    trainer = _trainer(case, "solver0", backend)
    load_weights(trainer.net, case["caffemodel"].tobytes(), partial=True)
    losses = []
    if "solver1" in case:
        losses = [trainer.step() for _ in range(6)]
        _compare_state(trainer, case, "half", folder)
        (folder / "half.solverstate").write_bytes(case["half:solverstate"].tobytes())
        state = read_message(folder / "half.solverstate", SolverState)
        (folder / Path(state.learned_net).name).write_bytes(case["half:caffemodel"].tobytes())
        trainer = _trainer(case, "solver1", backend)
        trainer.resume(folder / "half.solverstate")
    losses += [trainer.step() for _ in range(12 - len(losses))]
    expected = case["losses"].reshape(-1)
    compare("losses", np.array(losses)[-len(expected) :], expected, SOLVER_TOLERANCE)
    _compare_state(trainer, case, "final", folder)


def _trainer(case: Case, solver: str, backend: Backend) -> Trainer:
    settings = SolverSettings.from_prototxt(str(case[solver]).encode())
    net = Net.from_prototxt(str(case["net"]).encode(), backend)
    trainer = _ConstantTrainer(net, settings, _SameBatch())
    trainer.inputs = {part[3:]: backend.asarray(to_internal(case[part])) for part in case if part.startswith("in:")}
    return trainer


def _compare_state(trainer: Trainer, case: Case, when: str, folder: Path) -> None:
    path = trainer.snapshot(folder / "ours")
    ours, theirs = (
        {layer.name: layer.blobs for layer in read_caffemodel(source).layer if layer.blobs}
        for source in (path.with_suffix(".caffemodel"), case[f"{when}:caffemodel"].tobytes())
    )
    if set(ours) != set(theirs):
        raise DifferenceError(f"the {when} caffemodel has the layers {sorted(ours)}, not {sorted(theirs)}")
    for name, blobs in theirs.items():
        for index, (mine, blob) in enumerate(zip(ours[name], blobs, strict=True)):
            compare(f"{when} {name}/{index}", read_blob(mine), read_blob(blob), SOLVER_TOLERANCE)
    state = read_message(path, SolverState)
    wanted = SolverState.FromString(case[f"{when}:solverstate"].tobytes())
    if (state.iter, state.current_step) != (wanted.iter, wanted.current_step):
        raise DifferenceError(
            f"iter, current_step are {state.iter}, {state.current_step}, not {wanted.iter}, {wanted.current_step}"
        )
    params = trainer.solver.params
    for index, (mine, blob) in enumerate(zip(state.history, wanted.history, strict=True)):
        param = params[index % len(params)]
        # Adam's and others' history of a frozen blob grows by its decay in Caffe, and nothing ever looks at it.
        if param.trainable:
            compare(f"{when} history {index} ({param.name})", read_blob(mine), read_blob(blob), SOLVER_TOLERANCE)


def verdict(entry: dict[str, Any], case: Case, backend: Backend) -> tuple[str, str]:
    """Return agree, refused or differs, with what is to say about it."""
    refused = entry.get("refused")
    try:
        with tempfile.TemporaryDirectory() as folder:
            if entry["group"] == "solvers":
                run_solver(entry, case, backend, Path(folder))
            else:
                run_layer(entry, case, backend)
    except DifferenceError as error:
        return "differs", str(error)
    except SphereCVError as error:
        return ("agree" if refused else "refused"), str(error)
    except Exception as error:
        return "differs", f"{type(error).__name__}: {error}"
    return ("differs", f"taken, but Caffe says: {refused[:100]}") if refused else ("agree", "")


def _chosen(group: str) -> list[Any]:
    return [pytest.param(entry, case, id=entry["name"]) for entry, case in cases(CHOSEN, group)]


@pytest.mark.parametrize(("entry", "case"), [*_chosen("layers"), *_chosen("losses"), *_chosen("solvers")])
def test_chosen_cases(entry: dict[str, Any], case: Case, single: Backend) -> None:
    """With two lanes: numbers are added up in another order than with one."""
    result, why = verdict(entry, case, single)
    assert result == "agree", why


@pytest.mark.parametrize(("entry", "case"), [*_chosen("layers"), *_chosen("losses")])
def test_chosen_cases_with_nothing_but_the_array_api(entry: dict[str, Any], case: Case) -> None:
    """What runs there runs on any namespace, CuPy's too."""
    result, why = verdict(entry, case, Backend(pytest.importorskip("array_api_strict"), "float32"))
    assert result == "agree", why


@pytest.mark.parametrize("group", ["layers", "losses", "solvers"])
def test_the_whole_set(data_dir: Path, group: str) -> None:
    """Nothing differs, and what is refused are the fork's layers that have no gradients there."""
    folder, backend = data_dir / "caffe-golden", open_backend("cpu", threads=1)
    results = {entry["name"]: (entry, *verdict(entry, case, backend)) for entry, case in cases(folder, group)}
    assert len(results) > 50
    assert {name: why for name, (_, result, why) in results.items() if result == "differs"} == {}
    refused = {entry["type"]: entry["caffe"] for entry, result, _ in results.values() if result == "refused"}
    assert set(refused.values()) <= {"ssd"}
    assert not {"Normalize", "Permute", "ReLU6", "SmoothL1Loss"} & set(refused)


def main(folder: str, *wanted: str) -> None:
    """Print what does not agree, and the counts."""
    backend = open_backend("cpu", threads=1)
    for group in ("layers", "losses", "solvers"):
        counts: Counter[str] = Counter()
        for entry, case in cases(Path(folder), group):
            if wanted and not any(entry["name"].startswith(name) for name in wanted):
                continue
            gradients = any(part.startswith(("din:", "dparam:")) for part in case) and not _no_backward(case)
            result, why = verdict(entry, case, backend)
            counts[f"{result}{'' if gradients or group == 'solvers' else ' (outputs only)'}"] += 1
            if result != "agree":
                print(f"{result:8} {entry['name']}: {why[:230]}")
        print(group, dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
