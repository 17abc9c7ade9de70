"""One layer at a time: converted, run in every runtime, compared with an oracle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spherecv.caffe import load
from spherecv.errors import PrototxtError

Array = npt.NDArray[Any]
Oracle = Callable[..., Array | Sequence[Array]]


@pytest.fixture(scope="session")
def check_layer(
    convert: Callable[..., Any],
    run_onnxruntime: Callable[..., Any],
    run_opencv: Callable[..., Any],
    deviation: Callable[[Array, Array], float],
) -> Callable[..., None]:
    """`check_layer(type, settings, bottoms, oracle, ...)`: compare a layer with its oracle.

    The oracle gets the bottoms and blobs in float64 and returns the tops. `opencv` runs the engines of OpenCV too, and
    `batches` further batch sizes through the same model.
    """

    def check(
        kind: str,
        settings: str,
        bottoms: Sequence[Array],
        oracle: Oracle,
        *,
        blobs: Sequence[Array] = (),
        tops: int = 1,
        opencv: bool = False,
        batches: Sequence[int] = (),
        tolerance: float = 1e-5,
        **fold: bool,
    ) -> None:
        names = [f"in{index}" for index in range(len(bottoms))]
        outs = [f"out{index}" for index in range(tops)]
        prototxt = "".join(_input(name, bottom.shape) for name, bottom in zip(names, bottoms, strict=True))
        prototxt += f'layer {{ name: "layer" type: "{kind}" '
        prototxt += " ".join(f'bottom: "{name}"' for name in names) + " "
        prototxt += " ".join(f'top: "{name}"' for name in outs) + f" {settings} }}\n"
        weights = {"layer": [blob.astype(np.float32) for blob in blobs]} if blobs else {}
        net, model = convert(prototxt, weights, **fold)
        assert net.outputs == tuple(outs)
        feeds = [dict(zip(names, bottoms, strict=True))]
        for batch in batches:
            feeds.append({name: np.resize(array, (batch, *array.shape[1:])) for name, array in feeds[0].items()})
        expected = [_run(oracle, list(feed.values()), blobs) for feed in feeds]
        results = [("onnxruntime", [run_onnxruntime(model, feed) for feed in feeds])]
        if opencv:
            results += run_opencv(model, feeds, outs)
        for runtime, outputs in results:
            for wanted, got in zip(expected, outputs, strict=True):
                for name, array in zip(outs, wanted, strict=True):
                    off = deviation(got[name], array)
                    assert off < tolerance, f"{runtime}: {got[name].shape} for {array.shape}, off by {off:.3g}"

    return check


def _input(name: str, shape: Sequence[int]) -> str:
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {_dims(shape)} }} }} }}\n'


def _dims(shape: Sequence[int]) -> str:
    return " ".join(f"dim: {size}" for size in shape)


def _run(oracle: Oracle, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
    doubles = [array.astype(np.float64) for array in (*bottoms, *(blob.astype(np.float32) for blob in blobs))]
    tops = oracle(*doubles)
    return [tops] if isinstance(tops, np.ndarray) else list(tops)


@pytest.fixture(scope="session")
def one_layer() -> Callable[[str, str], str]:
    """`one_layer(type, settings)`: a net whose line 3 is a layer "it", over 4 channels of 6 x 6."""

    def text(kind: str, settings: str) -> str:
        head = 'input: "data" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 }\n\n'
        return head + f'layer {{ name: "it" type: "{kind}" bottom: "data" top: "it" {settings} }}'

    return text


@pytest.fixture(scope="session")
def check_mistake() -> Callable[[str, str, int, str], None]:
    """`check_mistake(prototxt, type, line, complaint)`: the layer "it" is refused by its name, type and line."""

    def check(prototxt: str, kind: str, line: int, complaint: str) -> None:
        with pytest.raises(PrototxtError, match=complaint) as caught:
            load(prototxt.encode())
        assert f"layer 'it' ({kind}, line {line})" in str(caught.value)
        assert caught.value.line == line

    return check


@pytest.fixture(scope="session")
def draw_array() -> Callable[..., Array]:
    """`draw_array(seed, shape)`: float32 from a standard normal."""

    def make(seed: int, shape: Sequence[int]) -> Array:
        count = math.prod(shape)
        return np.random.default_rng(seed).standard_normal(count).astype(np.float32).reshape(tuple(shape))

    return make


@pytest.fixture(scope="session")
def dims() -> Callable[[Sequence[int]], str]:
    """`dims(shape)`: a shape as prototxt text."""
    return _dims


