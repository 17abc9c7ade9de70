"""PIL images of every mode."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from spherecv.images import load_image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "YCbCr", "L", "LA", "P", "1", "CMYK", "HSV", "I;16", "PA"])
def test_pil_images_of_every_mode(mode: str, rgb) -> None:
    grey = mode in ("L", "LA", "1", "I;16")
    if mode == "I;16":
        image = Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257)
        wanted = rgb[:, :, 0]
    else:
        image = Image.fromarray(rgb).convert(mode)
        wanted = np.asarray(image.convert("RGBA" if mode == "PA" else "RGB"))[:, :, 0 if grey else slice(None)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(image)
    if grey:
        wanted = np.repeat(wanted[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(loaded, wanted[:, :, 2::-1])
    assert loaded.flags.writeable


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_pil_images(mode: str) -> None:
    straight, colour, bgr = {
        "RGBa": ("RGBA", (200, 100, 50, 255), [50, 100, 200]),
        "La": ("LA", (200, 255), [200, 200, 200]),
    }[mode]
    assert load_image(Image.new(straight, (4, 4), colour).convert(mode))[0, 0].tolist() == bgr


def test_a_float_pil_image_is_taken_as_a_float_array(refusal) -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(load_image(Image.fromarray(values))[:, :, 1], np.arange(256).reshape(16, 16))
    assert "must lie within 0..1" in refusal(Image.fromarray(values * 255))


def test_integers_beyond_16_bit_are_refused(refusal) -> None:
    assert "must be within 0..65535" in refusal(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_a_closed_pil_image_is_refused(tmp_path: Path, rgb, refusal) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    image = Image.open(path)
    image.close()
    assert "the PIL image given" in refusal(image)
    assert "has no pixels" in refusal(Image.new("RGB", (0, 4)))


def test_an_image_that_pillow_has_turned_is_not_turned_again(rgb, encoded) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0xA002: rgb.shape[1], 0xA003: rgb.shape[0]})
    lying = Image.open(io.BytesIO(encoded(Image.fromarray(rgb), "JPEG", exif=exif)))
    upright = load_image(lying)
    assert upright.shape == (60, 40, 3)
    np.testing.assert_array_equal(load_image(lying.rotate(-90, expand=True)), upright)  # its note says 6 still
    np.testing.assert_array_equal(load_image(lying.convert("RGB")), upright)
    np.testing.assert_array_equal(load_image(ImageOps.exif_transpose(lying)), upright)
