"""The GPU against the CPU; these skip where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from spherecv.train.backend import open_backend
from spherecv.train.backend.cupy_backend import gpu_count
from spherecv.train.geometry import Window

pytestmark = pytest.mark.skipif(gpu_count() == 0, reason="no GPU, or no CuPy")


@pytest.mark.parametrize(
    "window",
    [
        Window((3, 3), pad=(1, 1)),
        Window((3, 3), (2, 2), (1, 1)),
        Window((1, 1)),
        Window((3, 3), pad=(1, 1), group=2),
        Window((3, 3), pad=(2, 2), dilation=(2, 2)),
    ],
)
def test_convolution(window: Window) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(3, 7, 6, 4)), rng.normal(size=(*window.kernel, 4 // window.group, 6))
    dy = rng.normal(size=(3, *window.output(7, 6), 6))
    gpu, cpu = open_backend("cuda", dtype="float64"), open_backend("cpu", dtype="float64")

    def run(backend) -> list[np.ndarray]:
        a, w, g = (backend.asarray(v) for v in (x, weight, dy))
        return [
            backend.numpy(v)
            for v in (backend.convolve(a, w, None, window), *backend.convolve_backward(a, w, g, window))
        ]

    for mine, other in zip(run(gpu), run(cpu), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-10)


def test_gather_and_scatter() -> None:
    gpu = open_backend("cuda", dtype="float64")
    table, index = gpu.asarray(np.arange(12.0).reshape(3, 4)), gpu.asindex([2, 0, 3])
    assert gpu.numpy(gpu.pick(table, index)).tolist() == [2, 4, 11]
    added = gpu.add_rows(gpu.zeros((4, 2)), gpu.asindex([1, 1, 3]), gpu.asarray(np.ones((3, 2))))
    assert gpu.numpy(added)[:, 0].tolist() == [0, 2, 0, 1]


def test_training_equals_the_cpus() -> None:
    from spherecv.caffe.architectures import sphereface_training
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.solver import Solver, SolverSettings

    found = []
    for device in ("cpu", "cuda"):
        backend, rng = open_backend(device, dtype="float64"), np.random.default_rng(0)
        definition = sphereface_training(4, identities=5, batch_size=2)
        net = Net(definition, {"data": (2, 3, 32, 32), "label": (2,)}, backend)
        solver = Solver(net.params, SolverSettings(policy=Policy(base_lr=0.01), momentum=0.9), backend)
        losses = []
        for iteration in range(3):
            data, labels = rng.normal(size=(2, 32, 32, 3)), rng.integers(0, 5, 2)
            losses.append(net.forward({"data": backend.asarray(data), "label": backend.asindex(labels)}).loss)
            net.backward()
            solver.step(iteration)
        found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)
