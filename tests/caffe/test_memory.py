"""Blobs that Caffe keeps in one memory: a layer in place on one changes the others.

The answers were checked with a real Caffe (the SSD fork as packaged in brocolli-caffe 9.0.2).
"""

from __future__ import annotations

import numpy as np
import pytest

from spherecv.runtime import Session

IMAGE = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }\n'


def layer(kind, bottom, top, more=""):
    tops = " ".join(f'top: "{name}"' for name in top.split())
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom.split())
    return f'layer {{ name: "{kind}-{top}" type: "{kind}" {bottoms} {tops} {more} }}\n'


FLAT = layer("Flatten", "x", "f")
SIGMOID = layer("Sigmoid", "f", "f")


@pytest.mark.parametrize("backend", ["opencv", "onnxruntime"])
@pytest.mark.parametrize(
    ("text", "blob"),
    [
        (FLAT + SIGMOID + layer("Power", "x", "p"), "p"),
        (layer("Reshape", "x", "f", "reshape_param { shape { dim: 0 dim: -1 } }") + SIGMOID
         + layer("Power", "x", "p"), "p"),
        (layer("Split", "x", "f g") + SIGMOID + layer("Power", "g", "p"), "p"),
        (layer("Concat", "x", "f") + SIGMOID + layer("Power", "x", "p"), "p"),
        (layer("Slice", "x", "f") + SIGMOID + layer("Power", "x", "p"), "p"),
        (layer("Permute", "x", "f", "permute_param { order: 0 order: 1 }") + SIGMOID + layer("Power", "x", "p"), "p"),
        # From the bottom's side: what was made flat before is changed too.
        (layer("Power", "x", "y") + layer("Flatten", "y", "f") + layer("Sigmoid", "y", "y") + layer("Power", "f", "p"),
         "p"),
        # A blob that is itself an end of the net.
        (layer("Split", "x", "f g") + SIGMOID, "g"),
    ],
)  # fmt: skip
def test_in_place_changes_all_blobs_of_one_memory(backend, text, blob, convert, numbers):
    x = numbers((2, 3, 4, 5))
    got = Session(convert(IMAGE + text)[1], backend=backend).run(x)[blob]
    assert np.allclose(got.reshape(-1), 1 / (1 + np.exp(-x.reshape(-1))), atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        FLAT + layer("Sigmoid", "f", "s") + layer("Power", "x", "p"),
        layer("Power", "x", "f") + SIGMOID + layer("Power", "x", "p"),
        layer("Permute", "x", "f", "permute_param { order: 1 }") + SIGMOID + layer("Power", "x", "p"),
        layer("Power", "x", "p") + FLAT + SIGMOID,
    ],
)
def test_what_has_memory_of_its_own_or_was_read_before_stays(text, convert, numbers):
    x = numbers((2, 3, 4, 5))
    assert np.allclose(Session(convert(IMAGE + text)[1]).run(x)["p"], x, atol=1e-6)


def test_a_size_that_a_mask_gives_is_no_input_of_the_net_behind(convert, numbers):
    """MaxPool's mask is computed after the net, and Crop reads it for its size alone."""
    pool = layer("Pooling", "x", "m k", "pooling_param { kernel_size: 2 stride: 2 }")
    x = numbers((2, 3, 4, 6))
    text = IMAGE.replace("dim: 5", "dim: 6") + pool + layer("Crop", "m k", "c")
    wanted = x.reshape(2, 3, 2, 2, 3, 2).max((3, 5))
    assert np.array_equal(Session(convert(text)[1]).run(x)["c"], wanted)


@pytest.mark.parametrize("backend", ["opencv", "onnxruntime"])
def test_elu_between_a_division_and_a_product(backend, convert, numbers):
    """OpenCV 5.0 takes the three for a Celu and ends the process."""
    text = (
        IMAGE + layer("MVN", "x", "m") + layer("ELU", "m", "e") + layer("Power", "e", "p", "power_param { scale: 2 }")
    )
    x = numbers((2, 3, 4, 5))
    m = x - x.mean((2, 3), keepdims=True)
    m = m / m.std((2, 3), keepdims=True)
    got = Session(convert(text)[1], backend=backend).run(x)["p"]
    assert np.allclose(got, 2 * np.where(m > 0, m, np.expm1(m)), atol=1e-5)
