"""Solvers against PyTorch, and the prototxt of the authors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.backend import Backend
from spherecv.train.params import BlobOrder, Param
from spherecv.train.policies import Policy
from spherecv.train.solver import Solver, SolverSettings, net_path


def _run(backend: Backend, settings: SolverSettings, grads: list[np.ndarray], **multipliers: float) -> np.ndarray:
    start = np.linspace(-1, 1, 12).reshape(3, 4)
    param = Param("p/0", backend.asarray(start), BlobOrder.plain((3, 4)), **multipliers)
    solver = Solver([param], settings, backend)
    for iteration, grad in enumerate(grads):
        param.grad = backend.asarray(grad)
        solver.step(iteration)
    return backend.numpy(param.data)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "Adam"])
def test_against_torch(double: Backend, kind: str) -> None:
    torch = pytest.importorskip("torch")
    grads = list(np.random.default_rng(0).normal(size=(6, 3, 4)))
    settings = SolverSettings(kind=kind, policy=Policy(base_lr=0.1), momentum=0.9, weight_decay=0.01, delta=0.0)
    found = _run(double, settings, grads)
    w = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    if kind == "Adam":
        optimizer = torch.optim.Adam([w], 0.1, betas=(0.9, 0.999), eps=0.0, weight_decay=0.01)
    else:
        optimizer = torch.optim.SGD([w], 0.1, momentum=0.9, weight_decay=0.01, nesterov=kind == "Nesterov")
    for grad in grads:
        w.grad = torch.tensor(grad)
        optimizer.step()
    np.testing.assert_allclose(found, w.detach().numpy(), rtol=1e-9)


def test_the_rate_is_inside_the_velocity(double: Backend) -> None:
    """Where the rate falls, Caffe's momentum goes on at the old rate: v2 = 0.9 * 0.1 g + 0.01 g."""
    settings = SolverSettings(policy=Policy("step", 0.1, gamma=0.1, stepsize=1), momentum=0.9)
    found = _run(double, settings, [np.ones((3, 4))] * 2)
    np.testing.assert_allclose(np.linspace(-1, 1, 12).reshape(3, 4) - found, 0.1 + 0.09 + 0.01)


def test_multipliers_clip_and_iter_size(double: Backend) -> None:
    grad = np.full((3, 4), 2.0)
    start = np.linspace(-1, 1, 12).reshape(3, 4)
    plain = SolverSettings(policy=Policy(base_lr=0.1), weight_decay=0.5)
    np.testing.assert_allclose(_run(double, plain, [grad], lr_mult=2, decay_mult=0), start - 0.4)
    np.testing.assert_allclose(_run(double, plain, [grad], decay_mult=2), start - 0.1 * (grad + start))
    np.testing.assert_allclose(_run(double, plain, [grad], lr_mult=0), start)
    clipped = SolverSettings(policy=Policy(base_lr=1), clip_gradients=1.0)
    assert np.linalg.norm(_run(double, clipped, [grad]) - start) == pytest.approx(1)
    # Caffe's limit is on the sum over iter_size batches, before it is divided.
    both = SolverSettings(policy=Policy(base_lr=1), clip_gradients=1.0, iter_size=2)
    assert np.linalg.norm(_run(double, both, [grad]) - start) == pytest.approx(0.5)
    halved = SolverSettings(policy=Policy(base_lr=1), iter_size=2)
    np.testing.assert_allclose(_run(double, halved, [grad]), start - 1)


def test_the_authors_solver(data_dir: Path) -> None:
    path = data_dir / "sphereface-prototxt" / "sphereface_solver.prototxt"
    settings = SolverSettings.from_prototxt(path)
    assert settings.kind == "SGD"
    assert settings.policy(23999) == pytest.approx(0.01)
    assert (settings.momentum, settings.max_iter, settings.display) == (pytest.approx(0.9), 28000, 100)
    assert settings.weight_decay == pytest.approx(0.0005)
    assert net_path(settings, path).name == "sphereface_model.prototxt"


def test_changes_reach_the_policy() -> None:
    settings = SolverSettings().replaced(base_lr=0.5, max_iter=7, momentum=0.8)
    assert (settings.policy.base_lr, settings.policy.max_iter, settings.max_iter) == (0.5, 7, 7)


@pytest.mark.parametrize(
    "text", ['type: "Magic"', "iter_size: 0", "momentum: 1.5", 'regularization_type: "L3"', "max_iter: -1"]
)
def test_senseless(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        SolverSettings.from_prototxt(f'lr_policy: "fixed" {text}'.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "SGD" solver_type: ADAM', "keep one"),
        ('net: "a" train_net: "b"', "net and train_net"),
        ('type: "AdaGrad" momentum: 0.9', "has no momentum"),
        ('type: "RMSProp" rms_decay: 1', "rms_decay"),
        ("snapshot_diff: true", "snapshot_diff"),
        ("snapshot_format: HDF5", "BINARYPROTO"),
        ("debug_info: true", "debug_info"),
    ],
)
def test_no_field_is_passed_over(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SolverSettings.from_prototxt(f'lr_policy: "fixed" {text}'.encode())
    with pytest.raises(InvalidArgumentError, match="no lr_policy"):
        SolverSettings.from_prototxt(b"base_lr: 1")


def test_names_of_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the solver's file where nothing is stated, inside a folder that is stated: as Caffe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for text, prefix in (("", "my.solver"), ('snapshot_prefix: "out"', "out/my.solver"), ('snapshot_prefix: "o"', "o")):
        Path("my.solver.prototxt").write_text(f'lr_policy: "fixed" {text}')
        assert SolverSettings.from_prototxt(Path("my.solver.prototxt")).snapshot_prefix == prefix


def test_against_torchs_adaptive_solvers(double: Backend) -> None:
    """AdaDelta and, from a rest of 0, RMSProp and AdaGrad are PyTorch's."""
    torch = pytest.importorskip("torch")
    grads = list(np.random.default_rng(1).normal(size=(6, 3, 4)))
    shared = {"policy": Policy(base_lr=0.1), "weight_decay": 0.01, "delta": 1e-6}
    for kind, settings, theirs, their_settings in (
        ("AdaGrad", {}, torch.optim.Adagrad, {}),
        ("RMSProp", {"rms_decay": 0.9}, torch.optim.RMSprop, {"alpha": 0.9}),
        ("AdaDelta", {"momentum": 0.9}, torch.optim.Adadelta, {"rho": 0.9}),
    ):
        found = _run(double, SolverSettings(kind=kind, **shared, **settings), grads)
        w = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
        optimizer = theirs([w], 0.1, weight_decay=0.01, eps=1e-6, **their_settings)
        for grad in grads:
            w.grad = torch.tensor(grad)
            optimizer.step()
        np.testing.assert_allclose(found, w.detach().numpy(), rtol=1e-9, err_msg=kind)


def test_a_counter_that_was_not_given(double: Backend) -> None:
    settings = SolverSettings(policy=Policy("multistep", 1.0, gamma=0.1, stepvalue=(2, 3, 9)))
    solver = Solver([], settings, double)
    assert [solver.step(iteration) for iteration in (5, 6)] == pytest.approx([0.01, 0.01])
    given = Solver([], settings, double)
    given.current_step = 0
    assert [given.step(iteration) for iteration in (5, 6)] == pytest.approx([0.1, 0.01])


def test_decay_of_signs(double: Backend) -> None:
    start = np.linspace(-1, 1, 12).reshape(3, 4)
    settings = SolverSettings(policy=Policy(base_lr=0.1), weight_decay=0.5, regularization="L1")
    np.testing.assert_allclose(_run(double, settings, [np.zeros((3, 4))]), start - 0.05 * np.sign(start))


def test_mistakes_have_a_line() -> None:
    with pytest.raises(PrototxtError, match="2:"):
        SolverSettings.from_prototxt(b"base_lr: 0.1\nbase_rl: 3")


def test_a_net_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"gone\.prototxt"):
        net_path(SolverSettings(net="gone.prototxt"), tmp_path / "solver.prototxt")
    with pytest.raises(InvalidArgumentError, match="names no net"):
        net_path(SolverSettings(), tmp_path / "solver.prototxt")
