"""Every picture format, with what it may say of itself: pixels as they are, upright, the first frame."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError, MissingDependencyError
from spherecv.images import DepthWarning, load_image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "TGA", "WEBP", "GIF", "JPEG2000"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, kind: str, bgr, rgb, encoded) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    image = Image.fromarray(rgb)
    wanted = bgr
    if kind == "GIF":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        wanted = np.asarray(image.convert("RGB"))[:, :, ::-1]
    path = tmp_path / "picture"
    path.write_bytes(encoded(image, kind, **options))
    loaded = load_image(path)
    np.testing.assert_array_equal(loaded, wanted)
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous


def test_jpeg_is_read_as_opencv_reads_it(data_dir: Path) -> None:
    path = data_dir / "deepface-pairs" / "img1.jpg"
    ours, theirs = load_image(path), cv2.imread(str(path))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 2  # two builds of libjpeg-turbo


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int, bgr, rgb, encoded) -> None:
    # How a camera stores what stands upright, by the table of the EXIF standard (6: its first row is the right side).
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    loaded = load_image(data)
    assert loaded.shape == bgr.shape
    assert np.abs(loaded.astype(int) - bgr).max() <= (6 if kind == "JPEG" else 0)
    if kind == "JPEG":
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(loaded.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int, bgr, rgb, encoded) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgb), exif=exif)), bgr)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [b"", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08", b"x" * 9])
def test_a_damaged_exif_block_does_not_spoil_the_picture(damage: bytes, bgr, rgb, encoded) -> None:
    block = b"Exif\0\0" + damage
    data = encoded(Image.fromarray(rgb), "JPEG", quality=100, subsampling=0)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    loaded = load_image(data[:2] + segment + data[2:])
    assert np.abs(loaded.astype(int) - bgr).max() <= 6


def test_the_first_frame_of_an_animation(tmp_path: Path, encoded) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(load_image(data), np.full((6, 8, 3), (0, 0, 255)))


def test_a_palette_png_with_transparency_drops_it_without_a_warning(rgb, encoded) -> None:
    image = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    wanted = np.asarray(image.convert("RGB"))[:, :, ::-1]
    for transparency in (3, bytes([0, 128, 255] * 5 + [7])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = load_image(encoded(image, transparency=transparency))
        np.testing.assert_array_equal(loaded, wanted)


def test_transparent_pixels_keep_their_colour(bgr, rgb, encoded) -> None:
    rgba = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgba))), bgr)


@pytest.mark.parametrize("ink", [(0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 128), (30, 60, 90, 40)])
def test_a_cmyk_jpeg_is_read_as_opencv_reads_it(ink: tuple[int, ...], encoded) -> None:
    data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
    assert b"Adobe" in data  # such files hold their inks upside down
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(load_image(data).astype(int) - theirs).max() <= 3


def test_16_bit_png(bgr, rgb) -> None:
    grey = rgb[:, :, 0].astype(np.uint16) * 257
    data = cv2.imencode(".png", grey)[1].tobytes()
    np.testing.assert_array_equal(load_image(data), np.repeat(rgb[:, :, :1], 3, axis=2))
    colour = cv2.imencode(".png", bgr.astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(load_image(colour), bgr)


def test_a_one_bit_and_a_one_pixel_picture(rgb, encoded) -> None:
    dots = Image.fromarray(rgb[:, :, 0] > 100).convert("1")
    np.testing.assert_array_equal(load_image(encoded(dots))[:, :, 1], (rgb[:, :, 0] > 100) * 255)
    assert load_image(encoded(Image.new("RGB", (1, 1), "red"))).tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_upright_with_its_extra(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    rows = np.zeros((64, 96, 3), np.uint8)
    rows[:, :48] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(rows)).save(out, quality=95, exif=exif.tobytes())
    loaded = load_image(out)
    red = loaded[..., 2] > 128
    assert loaded.shape == ((64, 96, 3) if orientation == 1 else (96, 64, 3))
    assert red[:40, :40].all()
    assert not red[-8:, -8:].any()
    with pytest.raises(ImageError, match="larger than the limit"):
        load_image(out, max_pixels=100)


def test_heic_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingDependencyError, match=r"spherecv\[heif\]"):
        load_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_fewer_bits_in_files_of_sixteen_are_not_black(tmp_path: Path, bits: int, suffix: str, channels: int) -> None:
    white = 2**bits - 1
    ramp = np.linspace(0, white, 40 * 60).astype(np.uint16).reshape(40, 60)
    deep = ramp if channels == 1 else np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), deep)
    wanted = np.rint(deep * (255.0 / white))
    wanted = np.repeat(wanted[:, :, None], 3, axis=2) if channels == 1 else wanted
    for source in (path, path.read_bytes(), deep):
        np.testing.assert_allclose(load_image(source), wanted, atol=1)


def test_a_depth_that_a_tiff_states_is_taken_over_a_guess(tmp_path: Path) -> None:
    dark = np.full((8, 8), 200, np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.tif", tiffinfo={281: 4095})
    assert load_image(tmp_path / "dark.tif").max() == round(200 * 255 / 4095)
    Image.fromarray(dark).save(tmp_path / "dark.tif", tiffinfo={281: 65_535})
    assert load_image(tmp_path / "dark.tif").max() == 1


@pytest.mark.parametrize(
    ("brightest", "white"),
    [(20, 65_535), (84, 65_535), (100, 255), (300, 65_535), (700, 1023), (1200, 65_535), (2000, 4095), (5000, 65_535),
     (9000, 16_383), (20_000, 65_535)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_dark_image_of_sixteen_bits_stays_dark(tmp_path: Path, brightest: int, white: int, channels: int) -> None:
    """Only where the brightest pixel reaches a third of a smaller depth's white is that depth taken."""
    ramp = np.linspace(0, brightest, 40 * 60).astype(np.uint16).reshape(40, 60)
    colour = np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])
    deep = ramp if channels == 1 else np.dstack([colour, np.full_like(ramp, 65_535)])[..., :channels]
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), deep)
    shown = colour if channels > 1 else np.repeat(ramp[:, :, None], 3, axis=2)
    for source in (path, deep):
        np.testing.assert_allclose(load_image(source), np.rint(shown * (255.0 / white)), atol=1)


def test_a_depth_that_was_guessed_is_said_once(tmp_path: Path) -> None:
    ramp = np.linspace(0, 700, 40 * 60).astype(np.uint16).reshape(40, 60)
    with pytest.warns(DepthWarning, match=r"taken for one of 10: white is 1,023"):
        load_image(ramp)
    Image.fromarray(ramp).save(tmp_path / "stated.tif", tiffinfo={281: 1023})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "stated.tif").max() == round(700 * 255 / 1023)
        load_image(ramp // 10)  # dark, and left so
        load_image(ramp * 90)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("up", "white"), [(lambda v: v, 4095), (lambda v: v << 4, 65_535), (lambda v: (v << 4) | (v >> 8), 65_535),
                      (lambda v: np.rint(v * (65_535 / 4095)).astype(np.uint16), 65_535)],
)  # fmt: skip
@pytest.mark.parametrize("brightest", [250, 4000])
def test_what_a_png_says_of_its_significant_bits(channels: int, up, white: int, brightest: int) -> None:
    """Scaled to 16 bits, as the standard asks, or not, as cameras do: a dark image stays dark either way."""
    ramp = np.linspace(0, brightest, 40 * 60).astype(np.uint16).reshape(40, 60)
    deep = up(ramp) if channels == 1 else np.dstack([up(ramp)] * 3 + [np.full_like(ramp, 65_535)])[..., :channels]
    data = cv2.imencode(".png", deep)[1].tobytes()
    chunk = b"sBIT" + bytes([12] * channels)
    block = struct.pack(">I", channels) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_image(data[:33] + block + data[33:])
    np.testing.assert_allclose(found, np.repeat((up(ramp) * (255.0 / white))[:, :, None], 3, axis=2), atol=1)


@pytest.mark.parametrize("orientation", [3, 6])
def test_twelve_bits_are_turned_upright_too(orientation: int) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    exif = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = b"eXIf" + exif
    block = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    wanted = np.rot90(deep, 2 if orientation == 3 else -1) * (255.0 / 4095)
    np.testing.assert_allclose(load_image(data[:33] + block + data[33:]), wanted, atol=1)  # after the header


def tiff(pixels: np.ndarray, *tags: tuple[int, int, int]) -> bytes:
    """A TIFF without compression: of `(H, W)`, or of `(3, H, W)` in planes; `tags` are (tag, type, value)."""
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    count, height, width = planes.shape
    bits, size = 8 * pixels.itemsize, planes[0].nbytes
    entries = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, 2 if count > 1 else 1),
        273: (4, 1, 8), 277: (3, 1, count), 278: (4, 1, height), 279: (4, 1, size),
    }  # fmt: skip
    data = planes.astype(planes.dtype.newbyteorder("<")).tobytes()
    if count > 1:
        far = 8 + len(data)
        data += struct.pack("<3H", *[bits] * 3) + struct.pack("<3I", *(8 + plane * size for plane in range(3)))
        data += struct.pack("<3I", *[size] * 3)
        entries |= {258: (3, 3, far), 273: (4, 3, far + 6), 279: (4, 3, far + 18), 284: (3, 1, 2)}
    entries |= {tag: (kind, 1, value) for tag, kind, value in tags}
    table = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


def test_16_bits_whose_white_is_0(rgb) -> None:
    grey = rgb[:, :, 0].astype(np.uint16) * 257
    np.testing.assert_array_equal(load_image(tiff(grey))[:, :, 0], rgb[:, :, 0])
    np.testing.assert_array_equal(load_image(tiff(65535 - grey, (262, 3, 0)))[:, :, 0], rgb[:, :, 0])


@pytest.mark.parametrize("tag", [281, 50717])
def test_the_value_of_white_that_a_tiff_states(tag: int, rgb) -> None:
    dark = rgb[:, :, 0].astype(np.uint16)  # as if of 8 bits
    np.testing.assert_array_equal(load_image(tiff(dark, (tag, 3, 4095)))[:, :, 0], np.rint(dark * 255 / 4095))


def test_planes_of_8_bits_are_colours_and_of_16_are_refused(rgb, refusal) -> None:
    planes = np.moveaxis(rgb, 2, 0).copy()
    np.testing.assert_array_equal(load_image(tiff(planes)), rgb[:, :, ::-1])
    assert "in planes" in refusal(tiff(planes.astype(np.uint16) * 257))


def test_floats_of_a_file_may_reach_255(rgb, encoded, refusal) -> None:
    grey = rgb[:, :, 0]
    for most in (1, 255):
        data = encoded(Image.fromarray(grey.astype(np.float32) / np.float32(255 / most)), "TIFF")
        np.testing.assert_array_equal(load_image(data)[:, :, 2], grey)
    assert "must lie within 0..1" in refusal(encoded(Image.fromarray(grey.astype(np.float32) * 2), "TIFF"))
