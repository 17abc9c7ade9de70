"""Colours that a file says are others than sRGB's, against the formulas in double precision."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from spherecv.images import load_image

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
SWAPPED = SRGB[::-1]
WHITE = (0.3127, 0.3290)
D50 = np.array([0.9642, 1, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_d50(primaries) -> np.ndarray:
    """The matrix of a space, from linear RGB to XYZ of the profiles' white (ICC.1:2022, annex E)."""
    points = np.array([*primaries, WHITE])
    columns = np.column_stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]]).T
    matrix, white = columns[:, :3], columns[:, 3]
    scaled = matrix * np.linalg.solve(matrix, white)
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD @ scaled


def profile(primaries, gamma: float) -> bytes:
    """A profile of matrix and curve."""
    s15 = [struct.pack(">3i", *np.rint(column * 65536).astype(int)) for column in (D50, *to_d50(primaries).T)]
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags = [(b"desc", b"desc\0\0\0\0\0\0\0\x02a\0" + bytes(82)), (b"cprt", b"text\0\0\0\0a\0\0\0")]
    xyz = (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ")
    tags += [(name, b"XYZ \0\0\0\0" + value) for name, value in zip(xyz, s15, strict=True)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI", 128 + len(table) + len(body), b"lcms", 0x02400000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15[0]
    return head.ljust(128, b"\0") + table + body


def in_srgb(values: np.ndarray, primaries, gamma: float) -> np.ndarray:
    """What the values of a space are in sRGB, 0..255."""
    linear = (values / 255.0) ** gamma @ (np.linalg.inv(to_d50(SRGB)) @ to_d50(primaries)).T
    clipped = np.clip(linear, 0, 1)
    return 255 * np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)


def chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one chunk more, before its pixels."""
    return (
        data[:33] + struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) + data[33:]
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [(ADOBE, 2.2), (PROPHOTO, 1.8), (SRGB, 1.0), (SWAPPED, 2.2)],
    ids=["adobe", "prophoto", "linear", "swapped"],
)
def test_a_profile_is_followed(primaries, gamma: float, kind: str, rgb, encoded) -> None:
    loaded = load_image(encoded(Image.fromarray(rgb), kind, icc_profile=profile(primaries, gamma)))
    wanted = in_srgb(rgb.astype(float), primaries, gamma)
    assert np.abs(wanted - rgb).max() > 10
    assert np.abs(loaded[:, :, ::-1] - wanted).max() <= 2.5


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_a_profile_is_followed_in_every_format(kind: str, rgb, encoded) -> None:
    plain = load_image(encoded(Image.fromarray(rgb), kind, quality=95))
    loaded = load_image(encoded(Image.fromarray(rgb), kind, quality=95, icc_profile=profile(SWAPPED, 2.2)))
    wanted = in_srgb(plain[:, :, ::-1].astype(float), SWAPPED, 2.2)
    assert np.abs(loaded[:, :, ::-1] - wanted).mean() <= 1


def test_an_opened_image_has_its_files_profile(rgb, encoded, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(rgb), icc_profile=profile(SRGB, 1.0)))
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(load_image(opened), load_image(tmp_path / "a.png"))


@pytest.mark.parametrize("data", [b"", b"nonsense" * 40, profile(ADOBE, 2.2)[:200]])
def test_a_damaged_profile_changes_nothing(data: bytes, rgb, encoded) -> None:
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgb), icc_profile=data)), rgb[:, :, ::-1])


def test_srgb_and_a_profile_of_another_space_change_nothing(rgb, encoded) -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgb), icc_profile=srgb)), rgb[:, :, ::-1])
    grey = Image.fromarray(rgb[:, :, 0])
    np.testing.assert_array_equal(load_image(encoded(grey, icc_profile=profile(SWAPPED, 2.2)))[:, :, 0], rgb[:, :, 0])


def test_alpha_and_palettes_have_profiles_too(rgb, encoded) -> None:
    straight = Image.fromarray(rgb)
    straight.putalpha(128)
    linear = profile(SRGB, 1.0)
    wanted = load_image(encoded(Image.fromarray(rgb), icc_profile=linear))
    np.testing.assert_array_equal(load_image(encoded(straight, icc_profile=linear)), wanted)
    palette = Image.fromarray(rgb).quantize(64)
    wanted = load_image(encoded(palette.convert("RGB"), icc_profile=linear))
    np.testing.assert_array_equal(load_image(encoded(palette, icc_profile=linear)), wanted)


def test_the_gamma_of_a_png_is_followed_where_there_is_no_profile(rgb, png, encoded) -> None:
    linear = (255 * (rgb / 255.0) ** 2.2).round().astype(np.uint8)
    loaded = load_image(chunk(encoded(Image.fromarray(linear)), b"gAMA", struct.pack(">I", 100_000)))
    bright = rgb[:, :, ::-1] > 40
    assert np.abs(loaded.astype(int) - rgb[:, :, ::-1])[bright].max() <= 4
    for gamma in (45_455, 0, 1, 10**9):  # of a display; and values that nobody means
        data = chunk(png, b"gAMA", struct.pack(">I", gamma))
        np.testing.assert_array_equal(load_image(data), rgb[:, :, ::-1])
    with_both = chunk(chunk(png, b"gAMA", struct.pack(">I", 100_000)), b"sRGB", b"\0")
    np.testing.assert_array_equal(load_image(with_both), rgb[:, :, ::-1])
