"""Small nets, gradients by central differences, and pictures to train on."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherecv.train.backend import Backend, open_backend
from spherecv.train.net import Net


@pytest.fixture
def double() -> Backend:
    return open_backend("cpu", threads=2, dtype="float64")


@pytest.fixture
def single() -> Backend:
    return open_backend("cpu", threads=2)


def central_difference(
    function: Callable[[], float], array: np.ndarray, places: list[tuple[int, ...]], step: float = 1e-6
) -> np.ndarray:
    """The derivative of a function by some numbers of an array that it reads."""
    found = []
    for place in places:
        before = array[place]
        array[place] = before + step
        high = function()
        array[place] = before - step
        low = function()
        array[place] = before
        found.append((high - low) / (2 * step))
    return np.array(found)


def some_places(shape: tuple[int, ...], rng: np.random.Generator, count: int = 12) -> list[tuple[int, ...]]:
    flat = rng.choice(int(np.prod(shape)), min(count, int(np.prod(shape))), replace=False)
    return [tuple(int(i) for i in np.unravel_index(place, shape)) for place in flat]


@pytest.fixture
def check_net(double: Backend) -> Callable[..., Net]:
    """Compare all gradients of a net given as text with central differences."""

    def check(
        text: str,
        inputs: dict[str, np.ndarray],
        *,
        train: bool = True,
        tolerance: float = 1e-6,
        given_only: str = "",
        **settings: Any,
    ) -> Net:
        rng = np.random.default_rng(7)
        shapes = {
            name: (v.shape[0], v.shape[3], v.shape[1], v.shape[2]) if v.ndim == 4 else v.shape
            for name, v in inputs.items()
        }
        net = Net.from_prototxt(text.encode(), double, shapes=shapes, seed=3, **settings)
        net.train(train)
        net.differentiate_inputs()
        state = net.context.rng.bit_generator.state
        stored = net.state()
        first = net.forward(inputs)
        weights = {name: rng.normal(size=blob.shape) for name, blob in first.blobs.items() if name not in net.losses}
        statistics = [(param, param.data.copy()) for param in net.params if not param.learned]

        def objective() -> float:
            net.context.rng.bit_generator.state = state
            net.restore(stored)
            for param, value in statistics:
                param.data = value.copy()
            outputs = net.forward(inputs)
            return outputs.loss + sum(float((weights[n] * outputs.blobs[n]).sum()) for n in weights)

        objective()
        given = net.backward({name: weight for name, weight in weights.items() if weight.ndim})
        for name, array in inputs.items():
            if name in given and name != given_only:
                places = some_places(array.shape, rng)
                expected = central_difference(objective, array, places)
                found = np.array([given[name][place] for place in places])
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance, err_msg=f"input {name}")
        for param in net.params:
            if not param.trainable:
                continue
            grad, places = np.array(param.grad), some_places(param.data.shape, rng)
            data = np.array(param.data)

            def at(param: Any = param, data: np.ndarray = data) -> float:
                param.data = data.copy()
                return objective()

            expected = central_difference(at, data, places)
            at()  # the last change must not stay
            found = np.array([grad[place] for place in places])
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance, err_msg=param.name)
        return net

    return check


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Four people with five images of 12x10 each; each person has a brightness and a pattern of their own."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "people"
    for person in range(4):
        (folder / f"person{person}").mkdir(parents=True)
        pattern = rng.integers(0, 256, (12, 10, 3))
        for number in range(5):
            noisy = np.clip(pattern + rng.normal(0, 12, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"person{person}" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def orl(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ORL faces, one folder per person."""
    folder = tmp_path_factory.mktemp("orl")
    with tarfile.open(data_dir / "orl.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "orl"


SMALL_TRAINING = """
name: "small"
layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { mean_value: 127.5 scale: 0.0078125 mirror: true }
  image_data_param { source: "people.txt" batch_size: 6 shuffle: true } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu2" type: "PReLU" bottom: "conv2" top: "conv2" }
layer { name: "res" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "res" }
layer { name: "drop" type: "Dropout" bottom: "res" top: "res" dropout_param { dropout_ratio: 0.2 } }
layer { name: "fc5" type: "InnerProduct" bottom: "res" top: "fc5"
  inner_product_param { num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
  margin_inner_product_param { num_output: 4 type: QUADRUPLE weight_filler { type: "xavier" }
    base: 1000 gamma: 0.12 power: 1 lambda_min: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""


@pytest.fixture
def small_run(picture_folder: Path, tmp_path: Path) -> Path:
    """A solver with its net and list: everything `open_run` needs. Returns the solver's path."""
    lines = [
        f"{file} {label}"
        for label, person in enumerate(sorted(picture_folder.iterdir()))
        for file in sorted(person.iterdir())
    ]
    (tmp_path / "people.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "train.prototxt").write_text(SMALL_TRAINING)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(
        'net: "train.prototxt"\nbase_lr: 0.05\nlr_policy: "step"\ngamma: 0.5\nstepsize: 3\nmomentum: 0.9\n'
        f'weight_decay: 0.0005\nmax_iter: 8\nsnapshot: 4\niter_size: 2\nsnapshot_prefix: "{tmp_path}/run/small"\n'
    )
    return solver
