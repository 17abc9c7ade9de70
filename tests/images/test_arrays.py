"""Arrays: what counts as a picture, as BGR bytes; and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import InvalidArgumentError
from spherecv.images import load_image

BGR = np.arange(40 * 60 * 3).astype(np.uint8).reshape(40, 60, 3)
RGB = np.ascontiguousarray(BGR[:, :, ::-1])


def test_a_bgr_array_is_returned_as_it_is() -> None:
    assert load_image(BGR) is BGR


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (BGR[:, :, 0], np.repeat(BGR[:, :, :1], 3, axis=2)),
        (BGR[:, :, :1], np.repeat(BGR[:, :, :1], 3, axis=2)),
        (np.dstack([BGR, BGR[:, :, 0]]), BGR),
        (BGR.astype(np.uint16) * 257, BGR),
        (BGR.astype(">u2") * np.uint16(257), BGR),
        (BGR.astype(np.float32) / 255, BGR),
        (BGR.astype(np.float64) / 255, BGR),
        (BGR.astype(np.float16) / np.float16(255), BGR),
        (BGR.astype(">f4") / np.float32(255), BGR),
        (BGR[:, ::-1], BGR[:, ::-1]),
        (np.asfortranarray(BGR), BGR),
        (BGR[:, :, 0].view(np.matrix), np.repeat(BGR[:, :, :1], 3, axis=2)),
        (np.zeros((1, 1), np.uint8), np.zeros((1, 1, 3), np.uint8)),
        (np.array([[True, False]]).astype(np.uint8), np.array([[[1] * 3, [0] * 3]])),
    ],
)
def test_arrays_of_every_kind(array: np.ndarray, wanted: np.ndarray) -> None:
    before = np.array(array)
    loaded = load_image(array)
    np.testing.assert_array_equal(loaded, wanted)
    assert type(loaded) is np.ndarray
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(array, before)


def test_rgb_arrays_say_so(encoded) -> None:
    np.testing.assert_array_equal(load_image(RGB, color="rgb"), BGR)
    np.testing.assert_array_equal(load_image(np.dstack([RGB, RGB[:, :, 0]]), color="rgb"), BGR)
    np.testing.assert_array_equal(load_image(RGB[:, :, 0], color="rgb"), load_image(RGB[:, :, 0]))
    data = encoded(Image.fromarray(RGB))
    np.testing.assert_array_equal(load_image(data, color="rgb"), BGR)  # files say themselves what they are


def test_16_bit_rounds_to_the_nearest() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(load_image(every)[:, :, 0], np.rint(every / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5, np.uint8), "must have shape (H, W) or (H, W, 1 | 3 | 4), but got (5,)"),
        (np.zeros((2, 2, 2), np.uint8), "but got (2, 2, 2)"),
        (np.zeros((3, 20, 20), np.uint8), "but got (3, 20, 20)"),
        (np.zeros((1, 2, 2, 3), np.uint8), "but got (1, 2, 2, 3)"),
        (np.array(5, np.uint8), "but got ()"),
        (np.zeros((2, 2), np.int32), "must be uint8, uint16 or float in 0..1, but got int32"),
        (np.zeros((2, 2), np.int16), "but got int16"),
        (np.zeros((2, 2), bool), "but got bool"),
        (np.zeros((2, 2), complex), "but got complex128"),
        (np.zeros((2, 2), object), "but got object"),
        (np.zeros((2, 2), "U3"), "but got <U3"),
        (np.full((2, 2), np.nan), "must lie within 0..1, but reaches nan..nan"),
        (np.array([[0.0, np.nan]]), "must lie within 0..1"),
        (np.array([[0.0, np.inf]]), "but reaches 0..inf"),
        (np.array([[-0.1, 0.5]]), "but reaches -0.1..0.5"),
        (BGR.astype(np.float32), "but reaches 0..255"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, words: str, refusal) -> None:
    assert words in refusal(array, InvalidArgumentError)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0, 0)])
def test_arrays_without_pixels(shape: tuple[int, ...], refusal) -> None:
    assert "has no pixels" in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], object(), {"a": 1}])
def test_things_that_are_no_source(source: object, refusal) -> None:
    assert "an image must be a path, bytes" in refusal(source, InvalidArgumentError)


@pytest.mark.parametrize("options", [{"color": "BGR"}, {"color": None}, {"max_pixels": 0}, {"max_pixels": "9"}])
def test_options_that_cannot_be(options: dict[str, object], refusal) -> None:
    assert next(iter(options)) in refusal(BGR, InvalidArgumentError, **options)


def test_8_bits_repeated_to_16_stay_as_dark_as_they_are() -> None:
    dark = (BGR // 64).astype(np.uint16)
    np.testing.assert_array_equal(load_image(dark * np.uint16(257)), BGR // 64)
    np.testing.assert_array_equal(load_image(dark * np.uint16(256)), BGR // 64)
    assert load_image(dark * np.uint16(255)).max() == round(255 * 765 / 1023)  # 10 bits, for all that is known
