"""Pixels that are not square: what files say of them, and what is believed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from spherecv.images import believed_shape, load_image, square_size


def jpeg_of_ratio(data: bytes, across: int, down: int) -> bytes:
    """A JPEG whose JFIF header states no unit, but how densities relate."""
    place = data.index(b"JFIF\0") + 7
    return data[:place] + b"\0" + across.to_bytes(2, "big") + down.to_bytes(2, "big") + data[place + 5 :]


@pytest.mark.parametrize(
    ("density", "size"),
    [((1, 2), (40, 120)), ((3, 2), (60, 60)), ((2, 1), (80, 60)), ((45, 64), (40, 85)), ((1, 1), (40, 60))]
    + [((0, 2), (40, 60)), ((2, 0), (40, 60)), ((1, 3), (40, 60)), ((300, 301), (40, 60))],
)
def test_a_jfif_ratio_is_believed_where_it_can_be(density, size, rgb, encoded) -> None:
    data = encoded(Image.fromarray(rgb), "JPEG", quality=100, subsampling=0)
    loaded, plain = load_image(jpeg_of_ratio(data, *density)), load_image(data)
    assert loaded.shape == (*size, 3)
    wanted = cv2.resize(plain, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(loaded, wanted)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_densities_along_both_sides(kind: str, rgb, encoded) -> None:
    picture = Image.fromarray(rgb)
    assert load_image(encoded(picture, kind, dpi=(200, 100))).shape == (80, 60, 3)
    assert load_image(encoded(picture, kind, dpi=(72, 108))).shape == (40, 90, 3)
    assert load_image(encoded(picture, kind, dpi=(96, 96))).shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_densities_are_of_the_sides_as_stored(kind: str, orientation: int, rgb, encoded) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "TIFF":
        exif[0x011A], exif[0x011B], exif[0x0128] = 200.0, 100.0, 2
    loaded = load_image(encoded(Image.fromarray(rgb), kind, exif=exif, dpi=(200, 100)))
    assert loaded.shape == ((80, 60, 3) if orientation < 5 else (60, 80, 3))


def test_exif_densities_count_where_jfif_states_none(rgb, encoded) -> None:
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 200.0, 100.0, 2
    data = encoded(Image.fromarray(rgb), "JPEG", exif=exif)
    place = data.index(b"\xff\xe0")
    bare = data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]
    assert load_image(bare).shape == (80, 60, 3)
    assert load_image(data).shape == (80, 60, 3)  # JFIF says 1 to 1 without a unit: as encoders do by themselves
    assert load_image(encoded(Image.fromarray(rgb), "JPEG", exif=exif, dpi=(72, 72))).shape == (40, 60, 3)


def test_a_copy_in_memory_keeps_the_note_but_not_the_shape(rgb, encoded, tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(encoded(Image.fromarray(rgb), "TIFF", dpi=(200, 100)))
    with Image.open(tmp_path / "a.tif") as opened:
        assert load_image(opened.resize((60, 80))).shape == (80, 60, 3)
        assert load_image(opened).shape == (80, 60, 3)


def test_the_limit_is_of_square_pixels(rgb, encoded, refusal) -> None:
    data = encoded(Image.fromarray(rgb), "PNG", dpi=(200, 100))
    assert load_image(data, max_pixels=4800).shape == (80, 60, 3)
    assert "60x80, larger than the limit of 4,799" in refusal(data, max_pixels=4799)


@pytest.mark.parametrize("stated", [(None, 1), (0, 0), (float("nan"), 1), (-4, -3.99), ("x", 1), (5, 1), (-1, 1)])
def test_nonsense_is_square(stated) -> None:
    assert believed_shape(*stated) == 1


def test_sides_are_only_enlarged() -> None:
    assert square_size(720, 576, 64 / 45) == (1024, 576)
    assert square_size(720, 480, 8 / 9) == (720, 540)
    assert square_size(7, 5, 1.0) == (7, 5)
