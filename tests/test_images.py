"""load_image on everything that can come in, and on everything that should not."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spherecv.errors import ImageError, InvalidArgumentError, SphereCVError
from spherecv.images import LabelledImage, load_image, load_labelled


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth BGR picture in which every corner, side and channel is another."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / (width - 1), 255 * y / (height - 1), 60 + 100 * (x + y) / (width + height)]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)


BGR = picture()
RGB = np.ascontiguousarray(BGR[:, :, ::-1])


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_header(width: int, height: int) -> bytes:
    """A whole small JPEG whose frame header claims another size."""
    data = bytearray(encoded(Image.fromarray(RGB), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def refusal(source: object, error: type[SphereCVError] = ImageError, **options: object) -> str:
    """The one-line message of a source that must be refused."""
    with pytest.raises(error) as caught:
        load_image(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------------------------- paths, bytes, streams


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "TGA", "WEBP", "GIF", "JPEG2000"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, kind: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    image = Image.fromarray(RGB)
    wanted = BGR
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


NAMES = ["Gesicht ä ö ü.png", "顔 写真.png", "лицо.png", "😀.png", "a'b\"c.png", " .png", "%20#?.png", "x" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(Image.fromarray(RGB)))
    np.testing.assert_array_equal(load_image(path), BGR)
    np.testing.assert_array_equal(load_image(str(path)), BGR)


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text exist on Linux only")
def test_a_name_that_is_no_text_works(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(encoded(Image.fromarray(RGB)))

    class BytesPath:
        def __fspath__(self) -> bytes:
            return path

    np.testing.assert_array_equal(load_image(os.fsdecode(path)), BGR)
    np.testing.assert_array_equal(load_image(BytesPath()), BGR)


def test_bytes_and_streams(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(load_image(source), BGR)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(load_image(stream), BGR)


def test_a_stream_that_gives_a_little_at_a_time_and_cannot_seek() -> None:
    class Trickle(io.RawIOBase):
        left = encoded(Image.fromarray(RGB))

        def read(self, size: int = -1) -> bytes:
            chunk, self.left = self.left[:7], self.left[7:]
            return chunk

    np.testing.assert_array_equal(load_image(Trickle()), BGR)


def test_a_pipe_works(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encoded(Image.fromarray(RGB)),))
    writer.start()
    np.testing.assert_array_equal(load_image(path), BGR)
    writer.join()


def test_files_are_closed(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(encoded(Image.fromarray(RGB)))
    bad.write_bytes(encoded(Image.fromarray(RGB))[:60])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        load_image(good)
        refusal(bad)


# -------------------------------------------------------------------------------------------------------------- arrays


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


def test_rgb_arrays_say_so() -> None:
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
def test_arrays_that_are_no_images(array: np.ndarray, words: str) -> None:
    assert words in refusal(array, InvalidArgumentError)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0, 0)])
def test_arrays_without_pixels(shape: tuple[int, ...]) -> None:
    assert "has no pixels" in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], object(), {"a": 1}])
def test_things_that_are_no_source(source: object) -> None:
    assert "an image must be a path, bytes" in refusal(source, InvalidArgumentError)


@pytest.mark.parametrize("options", [{"color": "BGR"}, {"color": None}, {"max_pixels": 0}, {"max_pixels": "9"}])
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    assert next(iter(options)) in refusal(BGR, InvalidArgumentError, **options)


# ----------------------------------------------------------------------------------------------------------------- PIL


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "YCbCr", "L", "LA", "P", "1", "CMYK", "HSV", "I;16", "PA"])
def test_pil_images_of_every_mode(mode: str) -> None:
    grey = mode in ("L", "LA", "1", "I;16")
    if mode == "I;16":
        image = Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)
        wanted = RGB[:, :, 0]
    else:
        image = Image.fromarray(RGB).convert(mode)
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


def test_a_float_pil_image_is_taken_as_a_float_array() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(load_image(Image.fromarray(values))[:, :, 1], np.arange(256).reshape(16, 16))
    assert "must lie within 0..1" in refusal(Image.fromarray(values * 255))


def test_integers_beyond_16_bit_are_refused() -> None:
    assert "must be within 0..65535" in refusal(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_a_closed_pil_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    image = Image.open(path)
    image.close()
    assert "the PIL image given" in refusal(image)
    assert "has no pixels" in refusal(Image.new("RGB", (0, 4)))


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
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
    }[orientation](RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    loaded = load_image(data)
    assert loaded.shape == BGR.shape
    assert np.abs(loaded.astype(int) - BGR).max() <= (6 if kind == "JPEG" else 0)
    if kind == "JPEG":
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(loaded.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(RGB), exif=exif)), BGR)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [b"", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08", b"x" * 9])
def test_a_damaged_exif_block_does_not_spoil_the_picture(damage: bytes) -> None:
    block = b"Exif\0\0" + damage
    data = encoded(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    loaded = load_image(data[:2] + segment + data[2:])
    assert np.abs(loaded.astype(int) - BGR).max() <= 6


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(load_image(data), np.full((6, 8, 3), (0, 0, 255)))


def test_a_palette_png_with_transparency_drops_it_without_a_warning() -> None:
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    wanted = np.asarray(image.convert("RGB"))[:, :, ::-1]
    for transparency in (3, bytes([0, 128, 255] * 5 + [7])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = load_image(encoded(image, transparency=transparency))
        np.testing.assert_array_equal(loaded, wanted)


def test_transparent_pixels_keep_their_colour() -> None:
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgba))), BGR)


@pytest.mark.parametrize("ink", [(0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 128), (30, 60, 90, 40)])
def test_a_cmyk_jpeg_is_read_as_opencv_reads_it(ink: tuple[int, ...]) -> None:
    data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
    assert b"Adobe" in data  # such files hold their inks upside down
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(load_image(data).astype(int) - theirs).max() <= 3


def test_16_bit_png() -> None:
    grey = RGB[:, :, 0].astype(np.uint16) * 257
    data = cv2.imencode(".png", grey)[1].tobytes()
    np.testing.assert_array_equal(load_image(data), np.repeat(RGB[:, :, :1], 3, axis=2))
    colour = cv2.imencode(".png", BGR.astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(load_image(colour), BGR)


def test_a_one_bit_and_a_one_pixel_picture() -> None:
    dots = Image.fromarray(RGB[:, :, 0] > 100).convert("1")
    np.testing.assert_array_equal(load_image(encoded(dots))[:, :, 1], (RGB[:, :, 0] > 100) * 255)
    assert load_image(encoded(Image.new("RGB", (1, 1), "red"))).tolist() == [[[0, 0, 255]]]


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_a_header_of_60000_by_60000_is_refused_before_decoding(tmp_path: Path, header) -> None:
    path = tmp_path / "huge"
    path.write_bytes(header(60_000, 60_000))
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"  # the picture would take 10 GiB
        "from spherecv import load_image, SphereCVError\n"
        "try: load_image(sys.argv[1])\n"
        "except SphereCVError as error: print(error)\n"
    )
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=env)
    assert "larger than the limit of 89,478,485 pixels" in run.stdout
    assert not run.stderr


@pytest.mark.parametrize("header", [png_header, jpeg_header])
@pytest.mark.parametrize("warn", ["ignore", "error"])
def test_a_header_just_above_the_limit(header, warn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(warn)
        assert "larger than the limit of 89,478,485 pixels" in refusal(header(10_000, 9_000))


def test_the_limit_is_the_callers() -> None:
    data = encoded(Image.fromarray(RGB))
    for make in (lambda: data, lambda: BGR, lambda: Image.fromarray(RGB), lambda: io.BytesIO(data)):
        assert load_image(make(), max_pixels=2400).shape == BGR.shape
        assert "60x40, larger than the limit of 2,399 pixels" in refusal(make(), max_pixels=2399)


def test_a_limit_above_pillows_own_says_pillows() -> None:
    limit = f"{2 * Image.MAX_IMAGE_PIXELS:,}"
    assert f"larger than the limit of {limit} pixels" in refusal(png_header(60_000, 60_000), max_pixels=10**12)


# ----------------------------------------------------------------------------------------------------------- bad files


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.jpg") == f"{tmp_path / 'gone.jpg'}: no such file"
    assert refusal(tmp_path / "no" / "such" / "folder.jpg").endswith("no such file")


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a folder, not an image"
    assert "is a folder" in refusal("")


def test_names_that_cannot_be(tmp_path: Path) -> None:
    assert "cannot be read" in refusal("a\0b.jpg")
    assert "cannot be read" in refusal("x" * 5000)
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read" in refusal(tmp_path / "file" / "below.jpg")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    assert refusal(tmp_path / "a.jpg") == f"{tmp_path / 'a.jpg'} cannot be read: Permission denied"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_text_named_as_a_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("this is not a picture, whatever its name says\n" * 100)
    assert refusal(path) == f"{path} is not an image in a known format"


@pytest.mark.parametrize("source", [b"", bytearray(), io.BytesIO()])
def test_nothing_at_all(source: object) -> None:
    assert refusal(source).endswith("is empty (0 bytes)")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.jpg").write_bytes(b"")
    assert refusal(tmp_path / "e.jpg") == f"{tmp_path / 'e.jpg'} is empty (0 bytes)"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "TGA"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert "broken image" in refusal(data[: int(len(data) * share)])


def test_a_truncated_photograph(data_dir: Path, tmp_path: Path) -> None:
    whole = (data_dir / "deepface-pairs" / "img2.jpg").read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path).startswith(f"{path} is a broken image: image file is truncated")


def test_a_postscript_file_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(RGB), "EPS")
    assert data.startswith(b"%!PS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", pytest.fail)
    assert refusal(data) == "the bytes given is not an image in a known format"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without end")
def test_a_device_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spherecv.images._MAX_BYTES", 1 << 24)
    assert refusal("/dev/zero") == "/dev/zero is longer than the limit of 16,777,216 bytes"


def test_streams_that_are_no_binary_files() -> None:
    assert "binary mode" in refusal(io.StringIO("text"), InvalidArgumentError)
    closed = io.BytesIO(b"x")
    closed.close()
    assert "cannot be read: I/O operation on closed file" in refusal(closed)

    class Broken(io.RawIOBase):
        name = "the camera"

        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    assert refusal(Broken()).startswith("the camera cannot be read: ")


# ------------------------------------------------------------------------------------------------------ damaged bytes

KINDS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "TGA", "JPEG2000", "ICO", "PCX", "SGI")
MAGICS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF", b"BM", b"P6 "]
SEEDS = {kind: encoded(Image.fromarray(picture(20, 24)), kind) for kind in KINDS}


def check_outcome(data: bytes) -> None:
    """Either a picture of the right form, or an ImageError of one line; anything else goes through and fails."""
    message = ""
    try:
        loaded = load_image(data, max_pixels=1_000_000)
    except ImageError as error:
        message = str(error)
    else:
        assert (loaded.dtype, loaded.ndim, loaded.shape[2]) == (np.uint8, 3, 3)
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    raw = bytearray(SEEDS[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(raw) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if what == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del raw[place : place + data.draw(st.integers(1, 40))]
        elif what == "insert":
            raw[place:place] = data.draw(st.binary(max_size=16))
        else:
            raw += raw[place : place + 64]
        if not raw:
            break
    check_outcome(bytes(raw))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MAGICS), st.binary())
def test_arbitrary_bytes_give_a_picture_or_an_image_error(magic: bytes, rest: bytes) -> None:
    check_outcome(magic + rest)


# -------------------------------------------------------------------------------------------------------------- labels


def test_labelled_images_remember_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    labelled = load_labelled(path)
    assert labelled.label == str(path)
    np.testing.assert_array_equal(labelled.image, BGR)
    assert load_labelled(labelled) is labelled
    without = load_labelled(BGR)
    assert isinstance(without, LabelledImage)
    assert (without.image is BGR, without.label) == (True, "the image given")
