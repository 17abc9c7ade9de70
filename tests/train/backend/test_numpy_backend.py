from __future__ import annotations

import gc

import numpy as np
import pytest

from spherecv.errors import DeviceError, InvalidArgumentError
from spherecv.train.backend import open_backend
from spherecv.train.backend.blas import Accumulator
from spherecv.train.backend.memory import BufferPool
from spherecv.train.backend.numpy_backend import NumpyBackend


def test_no_gpu_is_an_error_and_never_a_cpu_run() -> None:
    from spherecv.train.backend.cupy_backend import gpu_count

    if gpu_count():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="cuda"):
        open_backend("cuda")
    assert open_backend("auto").device == "cpu"


@pytest.mark.parametrize("settings", [{"device": "tpu"}, {"dtype": "float16"}, {"threads": 0}])
def test_wrong_settings(settings: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        open_backend(**settings)


def test_blocks_equal_whole() -> None:
    rng = np.random.default_rng(0)
    backend = NumpyBackend(2, "float64")
    x, y, factor = rng.normal(size=(40, 9, 7, 64)), rng.normal(size=(40, 9, 7, 64)), rng.normal(size=64)

    def work(a: np.ndarray, b: np.ndarray, f: np.ndarray) -> tuple:
        return a * f + b, (a * b).sum(axis=0), a.max(axis=0) * 0 + len(a)

    new, total, rows = backend.blocks(work, (x, y), (factor,), sums=2)
    np.testing.assert_allclose(new, x * factor + y)
    np.testing.assert_allclose(total, (x * y).sum(axis=(0, 1, 2)))
    assert (rows == 40 * 9 * 7).all()


def test_sums_do_not_depend_on_who_finishes_first() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300_000, 3)).astype(np.float32)
    found = {NumpyBackend(2).blocks(lambda a: a.sum(axis=0), (x,), news=0, sums=1).tobytes() for _ in range(8)}
    assert len(found) == 1


@pytest.mark.parametrize(("m", "k", "n"), [(32, 21504, 512), (512, 32, 2150), (3, 4, 5), (700, 100, 90)])
def test_matmul(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    np.testing.assert_allclose(NumpyBackend(2, "float64").matmul(a, b), a @ b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_accumulator(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(dtype) for s in ((7, 3), (7, 4)))
    c = np.ones((3, 4), dtype)
    product = a.T @ b
    call = Accumulator(3, 4, 7, dtype)
    call(a, b, c, add=True)
    np.testing.assert_allclose(c, 1 + product, rtol=1e-5)
    call(a, b, c, add=False)
    np.testing.assert_allclose(c, product, rtol=1e-5)


def test_accumulator_refuses_what_would_read_outside() -> None:
    call = Accumulator(3, 4, 7, "float32")
    good = np.zeros((7, 3), np.float32), np.zeros((7, 4), np.float32), np.zeros((3, 4), np.float32)
    for place in range(3):
        for bad in (good[place][:-1], good[place].astype(np.float64), np.asfortranarray(good[place])):
            with pytest.raises(ValueError, match="BLAS needs"):
                call(*(bad if i == place else array for i, array in enumerate(good)), add=True)


def test_pool_never_hands_out_what_is_in_use() -> None:
    pool = BufferPool()
    first = pool.take((10, 10), np.float32)
    view = first[2:5].T
    first[...] = 1
    del first
    second = pool.take((10, 10), np.float32)
    second[...] = 2
    assert (view == 1).all()
    address = second.ctypes.data
    del second, view
    gc.collect()
    third = pool.take((10, 9), np.float32)
    fourth = pool.take((10, 10), np.float32)
    assert address in (third.ctypes.data, fourth.ctypes.data)
    assert not np.shares_memory(third, fourth)


def test_gather_and_scatter() -> None:
    backend = NumpyBackend(1, "float64")
    table, index = np.arange(12.0).reshape(3, 4), np.array([2, 0, 3])
    assert backend.pick(table, index).tolist() == [2, 4, 11]
    assert backend.put(table, index, np.zeros(3))[0].tolist() == [0, 1, 0, 3]
    added = backend.add_rows(np.zeros((4, 2)), np.array([1, 1, 3]), np.ones((3, 2)))
    assert added[:, 0].tolist() == [0, 2, 0, 1]
