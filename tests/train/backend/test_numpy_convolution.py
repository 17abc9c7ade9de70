"""Every kernel against the plain one of the base backend, and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from spherecv.train.backend import numpy_convolution as kernels
from spherecv.train.backend.base import Backend
from spherecv.train.backend.numpy_backend import NumpyBackend
from spherecv.train.geometry import Window

CASES = [
    # kernel, stride, pad, dilation, group, kernels that can do it
    (3, 1, 1, 1, 1, ("COLUMNS", "WINOGRAD2", "WINOGRAD4")),
    (3, 1, 0, 1, 1, ("COLUMNS", "WINOGRAD2", "WINOGRAD4")),
    (3, 1, 2, 1, 1, ("COLUMNS", "WINOGRAD2", "WINOGRAD4")),
    (3, 2, 1, 1, 1, ("COLUMNS",)),
    (2, 2, 0, 1, 1, ("COLUMNS",)),
    (1, 1, 0, 1, 1, ("COLUMNS",)),
    (1, 2, 0, 1, 1, ("COLUMNS",)),
    (5, 1, 2, 1, 1, ("COLUMNS",)),
    (3, 1, 2, 2, 1, ("COLUMNS",)),
    (3, 1, 1, 1, 2, ("COLUMNS",)),
    (3, 2, 1, 1, 4, ("COLUMNS", "CHANNELWISE")),
    (3, 1, 1, 1, 4, ("COLUMNS", "CHANNELWISE")),
]
RUNS = [(*case[:5], name) for case in CASES for name in case[5]]


def _problem(window: Window, height: int, width: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    channels, filters = 4, 4 if window.group == 4 else 6
    x = rng.normal(size=(5, height, width, channels))
    weight = rng.normal(size=(*window.kernel, channels // window.group, filters))
    bias = rng.normal(size=filters)
    dy = rng.normal(size=(5, *window.output(height, width), filters))
    return x, weight, bias, dy


@pytest.mark.parametrize("size", [(7, 6), (8, 8), (5, 9)])
@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "group", "name"), RUNS)
def test_kernel_equals_torch(
    kernel: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    name: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    window = Window((kernel,) * 2, (stride,) * 2, (pad,) * 2, (dilation,) * 2, group)
    x, weight, bias, dy = _problem(window, *size)
    monkeypatch.setattr(kernels, "choose", lambda *_: (getattr(kernels, name), 2))
    backend = NumpyBackend(2, "float64")
    y = backend.convolve(x, weight, bias, window)
    dx, dweight = backend.convolve_backward(x, weight, dy, window)

    tx = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    tw = torch.tensor(weight.transpose(3, 2, 0, 1), requires_grad=True)
    ty = torch.nn.functional.conv2d(tx, tw, torch.tensor(bias), stride, pad, dilation, group)
    ty.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(y, ty.detach().numpy().transpose(0, 2, 3, 1), atol=1e-11)
    np.testing.assert_allclose(dx, tx.grad.numpy().transpose(0, 2, 3, 1), atol=1e-11)
    np.testing.assert_allclose(dweight, tw.grad.numpy().transpose(2, 3, 1, 0), atol=1e-11)


@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "group", "names"), CASES)
def test_plain_backend_equals_kernels(
    kernel: int, stride: int, pad: int, dilation: int, group: int, names: tuple[str, ...]
) -> None:
    import array_api_compat.numpy as xp

    window = Window((kernel,) * 2, (stride,) * 2, (pad,) * 2, (dilation,) * 2, group)
    x, weight, bias, dy = _problem(window, 7, 6)
    plain, fast = Backend(xp, "float64"), NumpyBackend(3, "float64")
    np.testing.assert_allclose(fast.convolve(x, weight, bias, window), plain.convolve(x, weight, bias, window))
    for fast_grad, plain_grad in zip(
        fast.convolve_backward(x, weight, dy, window), plain.convolve_backward(x, weight, dy, window), strict=True
    ):
        np.testing.assert_allclose(fast_grad, plain_grad, atol=1e-12)


@pytest.mark.parametrize(("channels", "height", "width"), [(64, 56, 48), (128, 28, 24), (256, 14, 12), (512, 7, 6)])
def test_single_precision_on_sphereface_shapes(channels: int, height: int, width: int) -> None:
    """The kernels that the table picks lose no more than a few of float32's last bits."""
    rng = np.random.default_rng(0)
    window = Window((3, 3), pad=(1, 1))
    x = rng.normal(size=(2, height, width, channels))
    weight = rng.normal(size=(3, 3, channels, 8 if channels == 512 else 32)) / np.sqrt(9 * channels)
    dy = rng.normal(size=(2, height, width, weight.shape[3]))
    double, single = NumpyBackend(2, "float64"), NumpyBackend(2)
    exact = [double.convolve(x, weight, None, window), *double.convolve_backward(x, weight, dy, window)]
    args = [single.asarray(a) for a in (x, weight, dy)]
    rough = [single.convolve(args[0], args[1], None, window), *single.convolve_backward(*args, window)]
    for a, b in zip(rough, exact, strict=True):
        assert np.abs(a - b).max() < 3e-5 * np.abs(b).max()


def test_choice_depends_on_shape_alone() -> None:
    window = Window((3, 3), pad=(1, 1))
    first = kernels.choose((32, 14, 12, 256), (3, 3, 256, 256), window)
    assert first == kernels.choose((7, 14, 12, 256), (3, 3, 256, 256), window)
    assert kernels.choose((1, 56, 48, 3), (3, 3, 3, 64), window)[0] is kernels.COLUMNS


def test_gradients_that_are_not_needed_are_not_computed() -> None:
    window = Window((3, 3), pad=(1, 1))
    x, weight, _, dy = _problem(window, 7, 6)
    backend = NumpyBackend(2, "float64")
    assert backend.convolve_backward(x, weight, dy, window, need_x=False)[0] is None
    assert backend.convolve_backward(x, weight, dy, window, need_weight=False)[1] is None


def test_more_lanes_than_images() -> None:
    window = Window((3, 3), pad=(1, 1))
    x, weight, bias, dy = _problem(window, 7, 6)
    wide, narrow = NumpyBackend(8, "float64"), NumpyBackend(1, "float64")
    np.testing.assert_allclose(wide.convolve(x, weight, bias, window), narrow.convolve(x, weight, bias, window))
    np.testing.assert_allclose(
        wide.convolve_backward(x, weight, dy, window)[1], narrow.convolve_backward(x, weight, dy, window)[1]
    )
