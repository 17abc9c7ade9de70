"""Images: one loader for every kind of source, to BGR uint8 `(H, W, 3)`, and the image files that a path names."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from spherecv.addresses import brief, is_text_image, read_text_image
from spherecv.checks import check_count
from spherecv.colour import as_srgb
from spherecv.errors import ImageError, InvalidArgumentError, MissingDependencyError, SphereCVError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    ImageSource: TypeAlias = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | PILImage
    )
else:
    ImageSource = object

Color = Literal["bgr", "rgb"]
S = TypeVar("S")
T = TypeVar("T")

MAX_PIXELS = 89_478_485
"""Largest image decoded by default, in pixels: 256 MiB of RGB, the limit that Pillow warns at too."""

PIXELS_VARIABLE = "SPHERECV_MAX_PIXELS"
TRUNCATED_VARIABLE = "SPHERECV_TRUNCATED"
"""Of the environment, so that worker processes hold to them too."""

BATCH_PIXELS = 40_000_000
"""Decoded pixels held at once, 120 MB of BGR: a batch of camera images must not fill a small machine."""

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"}
    | {".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})

_PILLOW = threading.Lock()
_RAISE = ": max_pixels=, --max-pixels or SPHERECV_MAX_PIXELS raise it"
_FILL = "; to take what is there, grey where it breaks off: truncated=True, --truncated or SPHERECV_TRUNCATED=1"
_DEPTHS = (8, 10, 12, 14)
"""Bits of a sample, fewer than the 16 that it is kept in."""
_BRIGHTEST = 3
"""What white may be of the brightest pixel, for a depth to be guessed: darker, it may as well be a dark image."""
_DIM = 64
"""Above what the upper 8 of 16 bits hold of data of 14 bits."""
_BITS, _PHOTOMETRIC, _DESCRIPTION, _MAX_SAMPLE, _PLANAR, _WHITE_LEVEL = 258, 262, 270, 281, 284, 50717
"""Tags of a TIFF: BitsPerSample, PhotometricInterpretation, ImageDescription, MaxSampleValue, PlanarConfiguration;
and WhiteLevel of a DNG."""
_APART = 2
"""PlanarConfiguration of colours in planes."""
_SIGNIFICANT = "significant bits"
"""In what Pillow holds of an image: a PNG's sBIT, which it passes over."""
_SIGNIFICANT_BITS = re.compile(r'\bSignificantBits="(\d{1,2})"')
"""In a TIFF's description, as OME has it."""
_REPEATED = (256, 257)
"""What 8 bits were multiplied by, to fill 16."""
_LONGEST_PATH = 1024
_LEAST_SHAPE, _SQUARE_ENOUGH = 0.5, 0.01
_MAX_BYTES = 1 << 30
_CHUNK = 1 << 20
_CHANNELS = (1, 3, 4)
_ADDRESS_AS_PATH = re.compile(r"(?:https?|file|ftp):/[^/]|data:", re.IGNORECASE)
"""Addresses that somebody took for a path, which lose a slash."""
_COMMON_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM")
# Not images but programs: Pillow would hand them to Ghostscript, or to Windows.
_PROGRAMS = frozenset({"EPS", "WMF"})
# What Pillow names, and leaves to others to read; or reads the size of only.
_NO_PIXELS = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})
_HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
# What the formats begin with, for files whose names do not say that they are images.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM....\0\0\0\0|P[1-6][ \t\r\n]"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|....ftyp(?:avi[fs]|hei[cxms]|hev[cx]|mif1|msf1)",
    re.DOTALL,
)
# EXIF orientation (tag 0x0112) -> the name of Pillow's transpose method that turns the image upright.
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_TURNS_TO_SIDE = (5, 6, 7, 8)
_EXIF = 0x8769
_EXIF_SIZE = (0xA002, 0xA003)
_DENSITY_TAGS = (0x011A, 0x011B)
# Pillow's way from modes that it does not turn to RGB in one step, or only with a warning.
_DETOURS = {"P": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}


class DepthWarning(UserWarning):
    """Samples of 16 bits were taken for fewer bits, which nothing but their values says."""


def load_image(
    source: ImageSource, *, color: Color = "bgr", max_pixels: int | None = None, truncated: bool | None = None
) -> NDArray[np.uint8]:
    """Load one image, from whatever holds it.

    Parameters
    ----------
    source : path, address, data URI, bytes, binary file object, ndarray or PIL image
        Files of any format that Pillow reads, but for EPS and WMF, which are programs, and HEIC with the extra `heif`;
        the first frame of an animation; EXIF orientation is applied, and colours become sRGB where an ICC profile, or
        a PNG's gamma, says that they are others. Pixels that are not square by their file's word
        (JFIF, EXIF, TIFF, PNG and BMP state densities along both sides; a ratio of 1/2 to 2 is believed, and 0 or
        another is not; EXIF counts before a JFIF header that says 1 to 1 without a unit, as encoders do by themselves)
        are made square by enlarging the side that has too few: answers count in those pixels. A PIL
        image only as it was opened, since copies keep the note and not the shape. A `str` may be an `https://` or
        `http://` address (fetched within limits, see `spherecv.addresses`), or base64 with or without
        `data:image/...;base64,` before it.
        A file object is read from its start, where it can be, and so may be given again.
        Arrays of shape `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`, uint8, uint16 or float (0..1); alpha is
        dropped. Cameras of 12 bits write 0..4095 into samples of 16: a TIFF's MaxSampleValue, a DNG's WhiteLevel or
        OME's SignificantBits says so. Where nothing does, white is the largest value of 8, 10, 12 or 14 bits, the
        fewest that hold all pixels, if the brightest pixel reaches a third of it, and a `DepthWarning` says which.
        A PNG's sBIT says so too, unless the samples were scaled to 16 bits, as its standard asks. Everything else has
        all 16 bits, as has what was made of 8 by repeating them, and stays as dark as it is. Floats of a file, unlike
        those of an array, may also lie within 0..255.
    color : {"bgr", "rgb"}
        The channel order of an *array*; files and PIL images say theirs themselves.
    max_pixels : int, optional
        An image with more pixels, once they are square, is refused, by its header, before anything is decoded. By
        default `MAX_PIXELS`, or what the environment's `SPHERECV_MAX_PIXELS` says, in pixels: for photos of 108 or 200
        megapixels.
    truncated : bool, optional
        Take a JPEG that breaks off, with grey where its pixels are missing, in place of an `ImageError`. By default
        not, unless the environment's `SPHERECV_TRUNCATED` is 1.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        BGR, C-contiguous. A uint8 BGR array is returned as it is, not copied.

    Raises
    ------
    ImageError
        The image is missing, broken, too large, or not an image.
    InvalidArgumentError
        `source`, `color`, or an array's shape, dtype or range is not one of the above.

    Examples
    --------
    >>> import numpy as np
    >>> load_image(np.zeros((4, 6), np.uint8)).shape
    (4, 6, 3)
    """
    if color not in ("bgr", "rgb"):
        raise InvalidArgumentError(f"color must be 'bgr' or 'rgb', but got {color!r}")
    max_pixels = _largest() if max_pixels is None else check_count("max_pixels", max_pixels)
    truncated = os.environ.get(TRUNCATED_VARIABLE, "") not in ("", "0") if truncated is None else truncated
    if isinstance(source, np.ndarray):
        return _from_array(np.asarray(source), color, max_pixels)  # asarray: np.matrix has its own mind about shapes
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise ImageError("a path is empty: name an image")  # pathlib takes it for the current folder
        if is_text_image(source):
            data = read_text_image(cast("str", source))
            return _decode(_completed(io.BytesIO(data), truncated), brief(source), max_pixels)
        return _from_file(Path(os.fsdecode(source)), max_pixels, truncated)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(_completed(io.BytesIO(bytes(source)), truncated), "the bytes given", max_pixels)
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        return _from_pil(cast("PILImage", source), "the PIL image given", max_pixels)
    if hasattr(source, "read"):
        label = brief(getattr(source, "name", "the file object given"))
        return _decode(_completed(read_stream(source, label), truncated), label, max_pixels)
    raise InvalidArgumentError(
        "an image must be a path, bytes, a binary file object, an ndarray or a PIL image, "
        f"but got {type(source).__name__}"
    )


def _largest() -> int:
    """The limit of pixels that the environment sets, or the one that is built in."""
    text = os.environ.get(PIXELS_VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise InvalidArgumentError(f"{PIXELS_VARIABLE} must be a whole number of pixels, but is {text[:40]!r}")
    return int(text) if text else MAX_PIXELS


class LabelledImage(NamedTuple):
    """A loaded image that remembers what to call it in a message."""

    image: NDArray[np.uint8]
    label: str


def load_labelled(source: ImageSource | LabelledImage) -> LabelledImage:
    """Load one image as `load_image` does, and keep its path, if it has one, for messages."""
    if isinstance(source, LabelledImage):
        return source
    return LabelledImage(load_image(source), shown_source(source))


def load_both(first: ImageSource, second: ImageSource) -> list[LabelledImage]:
    """Load two images, side by side where both are files or bytes: decoding keeps one core busy, and needs no lock."""
    if not all(isinstance(source, str | os.PathLike | bytes) for source in (first, second)):
        return [load_labelled(first), load_labelled(second)]
    with ThreadPoolExecutor(1, thread_name_prefix="spherecv-load") as other:
        waiting = other.submit(load_labelled, second)
        return [load_labelled(first), waiting.result()]


def shown_source(source: object) -> str:
    """What to call an image in an answer: a path in full, an address or base64 in 80 characters at most."""
    if not isinstance(source, str | os.PathLike):
        return "the image given"
    return brief(source) if is_text_image(source) else str(source)


def load_or_error(load: Callable[[S], T], source: S) -> T | SphereCVError:
    """Load one image of a batch, or return why it cannot be: the rest of the batch goes on."""
    try:
        return load(source)
    except SphereCVError as error:
        return error


def load_batches(
    sources: Iterable[ImageSource | LabelledImage], size: int
) -> Iterator[list[LabelledImage | SphereCVError]]:
    """Load images, `size` at a time or fewer where they are large, each with its error in its place."""
    remaining = iter(sources)
    while True:
        batch: list[LabelledImage | SphereCVError] = []
        pixels = 0
        for source in islice(remaining, size):
            item = load_or_error(load_labelled, source)
            batch.append(item)
            pixels += 0 if isinstance(item, SphereCVError) else item.image.shape[0] * item.image.shape[1]
            if pixels >= BATCH_PIXELS:
                break
        if not batch:
            return
        yield batch


def _from_file(path: Path, max_pixels: int, truncated: bool) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as stream:
            # Decoded from where it lies: a file that is no image, or too large a one, is never read as a whole.
            regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            whole = stream if regular and not truncated else read_stream(stream, str(path))
            return _decode(_completed(whole, truncated), str(path), max_pixels)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image") from None
    except (OSError, ValueError) as error:
        shown = path if len(str(path)) < _LONGEST_PATH else brief(path)
        raise ImageError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _completed(stream: IO[bytes], truncated: bool) -> IO[bytes]:
    """With `truncated`, end a JPEG's bytes as the standard asks: its decoder then fills what is missing with grey."""
    if truncated and stream.read(3) == b"\xff\xd8\xff":
        stream.seek(0, os.SEEK_END)
        stream.write(b"\xff\xd9")
    stream.seek(0)
    return stream


def read_stream(stream: Any, label: str = "the file object given") -> io.BytesIO:
    """Read a file object from its start, where it has one, to its end, which a device need not have."""
    data = io.BytesIO()
    with contextlib.suppress(AttributeError, OSError, ValueError):  # a pipe begins where it stands
        stream.seek(0)
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except (OSError, ValueError) as error:
            raise ImageError(f"{label} cannot be read: {_first_line(error)}") from None
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise InvalidArgumentError(
                f"a file object must be opened in binary mode ('rb'), but {label} gives {type(chunk).__name__}"
            )
        if not chunk:
            break
        data.write(chunk)
        if data.tell() > _MAX_BYTES:
            raise ImageError(f"{label} is longer than the limit of {_MAX_BYTES:,} bytes")
    data.seek(0)
    return data


def _decode(stream: IO[bytes], label: str, max_pixels: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        if not stream.read(1):
            raise ImageError(f"{label} is empty (0 bytes)")
        with _pillows_limit(max_pixels):
            picture = _identify(stream, max_pixels)
    except SphereCVError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{label} is not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{label} is larger than the limit of {max_pixels:,} pixels{_RAISE}") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken header makes them raise
        raise ImageError(f"{label} is a broken image: {_first_line(error)}") from None
    tile, planes = str(getattr(picture, "tile", "")), getattr(picture, "tag_v2", {}).get(_PLANAR) == _APART
    deep = picture.mode in ("RGB", "RGBA", "LA") and ";16" in tile
    halved = planes and "'raw'" in tile and max(getattr(picture, "tag_v2", {}).get(_BITS, (8,))) > 8
    image = _from_pil(picture, label, max_pixels)
    if halved or (planes and deep and image.max() < _DIM):
        # Pillow takes half of each plane for one of 8 bits, and OpenCV mixes the planes.
        raise ImageError(f"{label} keeps colours of 16 bits in planes, which cannot be read: save them pixel by pixel")
    return _deep_colour(stream, image, picture) if deep and image.max() < _DIM else image


def _deep_colour(stream: IO[bytes], image: NDArray[np.uint8], opened: PILImage) -> NDArray[np.uint8]:
    """Read colours of 16 bits again, of which Pillow keeps the upper 8: of 12-bit data that is next to nothing."""
    import cv2

    stream.seek(0)
    # Without alpha, whose white would hide the depth of the colours, and turned upright, as `image` is.
    found = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if found is None or found.dtype != np.uint16 or found.shape != image.shape:
        return image
    samples = np.asarray(found, np.uint16)
    return _to_bgr(_to_uint8(samples, _stated_depth(opened, samples)), "bgr")


@contextlib.contextmanager
def _pillows_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow open what is allowed here: it has one limit for the process, and warns, or refuses, beyond it."""
    from PIL import Image

    with _PILLOW:  # under which another thread may have raised it for a while
        enough = Image.MAX_IMAGE_PIXELS is None or max_pixels <= Image.MAX_IMAGE_PIXELS
    if enough:
        yield
        return
    with _PILLOW:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _identify(stream: IO[bytes], max_pixels: int) -> PILImage:
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(stream, formats=_COMMON_FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        if _HEIF.match(stream.read(16)):
            return _open_heif(stream, max_pixels)
        Image.init()  # imports all of Pillow's readers, which the common formats need not wait for
        return Image.open(stream, formats=[name for name in Image.ID if name not in _PROGRAMS])
    if picture.format == "PNG" and ";16" in str(getattr(picture, "tile", "")):
        picture.info[_SIGNIFICANT] = _significant_bits(stream)
    return picture


def _significant_bits(stream: IO[bytes]) -> int:
    """Bits of a colour's sample of 16, as a PNG's sBIT states them; 0 without it. The stream stays where it stands."""
    place = stream.tell()
    stream.seek(8)
    bits = 0
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT" and 1 <= size <= 4:
            bits = max(stream.read(size)[: 1 if size < 3 else 3], default=0)
            break
        stream.seek(size + 4, os.SEEK_CUR)
    stream.seek(place)
    return bits if _DEPTHS[0] <= bits <= 16 else 0


def _open_heif(stream: IO[bytes], max_pixels: int) -> PILImage:
    try:
        import pillow_heif
    except ImportError:
        raise MissingDependencyError("pillow-heif", "heif", "reading HEIC images") from None
    stream.seek(0)
    opened = pillow_heif.open_heif(stream)
    width, height = opened.size
    _check_size(width, height, "the HEIC image", max_pixels)  # before it is decoded
    picture: PILImage = opened.to_pillow()
    picture.getexif().pop(_ORIENTATION, None)  # the decoder has turned it already
    picture.info.pop("exif", None)
    return picture


def _from_pil(picture: PILImage, label: str, max_pixels: int) -> NDArray[np.uint8]:
    _check_size(picture.width, picture.height, label, max_pixels)
    opened = picture
    try:
        shape = _pixel_shape(picture)
        _check_size(*square_size(picture.width, picture.height, shape), label, max_pixels)
        info = dict(picture.info)
        picture = _upright(picture)
        if picture.mode.startswith(("I", "F")):
            return make_square(_to_bgr(_deep_grey(picture, opened), "bgr"), shape)
        if picture.mode in _DETOURS:
            picture = picture.convert(_DETOURS[picture.mode])
        if picture.mode in ("LA", "RGBA", "RGBX"):
            picture = picture.convert(picture.mode[:-1])
        picture = as_srgb(picture, info)
        array = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except InvalidArgumentError as error:
        raise ImageError(f"{label}: {error}") from None
    except ImageError:
        raise
    except Exception as error:  # as above: decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        reason = _first_line(error)
        cure = _FILL if opened.format in ("JPEG", "MPO") and "truncated" in reason else ""
        raise ImageError(f"{label} is a broken image: {reason}", advice=cure) from None
    return make_square(_to_bgr(array, "rgb"), shape)


def believed_shape(across: Any, down: Any) -> float:
    """Width of a pixel over its height, where a source states it as a fraction; 1 where it states none."""
    try:
        shape = float(across) / float(down)
    except (TypeError, ValueError, ArithmeticError):
        return 1.0
    return shape if _LEAST_SHAPE <= shape <= 1 / _LEAST_SHAPE and abs(shape - 1) > _SQUARE_ENOUGH else 1.0


def square_size(width: int, height: int, shape: float) -> tuple[int, int]:
    """Width and height of an image once its pixels are square: the side that has too few is enlarged."""
    return (round(width * shape), height) if shape > 1 else (width, round(height / shape))


def make_square(image: NDArray[np.uint8], shape: float) -> NDArray[np.uint8]:
    """Enlarge an image of pixels of this shape (width over height) to square ones."""
    if shape == 1:
        return image
    import cv2

    size = square_size(image.shape[1], image.shape[0], shape)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _pixel_shape(picture: PILImage) -> float:
    """What an opened file says of its pixels' shape, as they stand once the image is upright; before it is decoded."""
    if picture.format is None:  # made by Pillow from another: it has that one's note, and may have been resized
        return 1.0
    info, tags = picture.info, {}
    if picture.format in ("JPEG", "MPO", "TIFF"):
        with contextlib.suppress(Exception):  # a damaged EXIF block says nothing
            tags = dict(picture.getexif())
    stated = [info.get(name) for name in ("jfif_density", "aspect", "dpi")]
    by_default = info.get("jfif_density", (1, 1)) == (1, 1) and not info.get("jfif_unit")
    if by_default and all(tag in tags for tag in _DENSITY_TAGS):
        stated.insert(0, tuple(tags[tag] for tag in _DENSITY_TAGS))
    across, down = next((pair for pair in stated if isinstance(pair, tuple) and len(pair) == 2), (1, 1))
    shape = believed_shape(down, across)  # many pixels along an inch are narrow
    return 1 / shape if tags.get(_ORIENTATION) in _TURNS_TO_SIDE else shape


def _upright(picture: PILImage) -> PILImage:
    """Decode, and apply the EXIF orientation; Pillow has done so already for TIFF."""
    from PIL import Image

    picture.load()
    try:
        exif = picture.getexif()
        turn = _TURNS.get(exif.get(_ORIENTATION, 1))
        if picture.format is None and _is_turned(picture.size, exif.get_ifd(_EXIF)):
            turn = None
    except Exception:  # a damaged EXIF block says nothing against the pixels, which are decoded by now
        turn = None
    return picture if turn is None else picture.transpose(Image.Transpose[turn])


def _is_turned(size: tuple[int, int], noted: dict[int, Any]) -> bool:
    """Whether an image made by Pillow from a file stands where that one lay, or the other way round."""
    across, down = (noted.get(tag, 0) for tag in _EXIF_SIZE)
    return bool(across and down and (size[0] - size[1]) * (across - down) < 0)


def _deep_grey(picture: PILImage, opened: PILImage) -> NDArray[np.uint8]:
    """Grey of more than 8 bits, turned upright; `opened` knows what the file says of it."""
    array = np.asarray(picture)
    if picture.mode == "F":
        bytes_like = opened.format is not None and 1 < array.max() <= 255
        return _to_uint8(array / np.float32(255) if bytes_like else array)
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise InvalidArgumentError(f"integer pixels must be within 0..65535, but reach {array.min()}..{array.max()}")
    samples = array.astype(np.uint16)
    grey = _to_uint8(samples, _stated_depth(opened, samples))
    tags = getattr(opened, "tag_v2", {})
    return 255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey  # Pillow turns white to black for 8 bits only


def _from_array(array: NDArray[Any], color: Color, max_pixels: int) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise InvalidArgumentError(f"an image array must have shape (H, W) or (H, W, 1 | 3 | 4), but got {array.shape}")
    _check_size(array.shape[1], array.shape[0], "the array given", max_pixels)
    return _to_bgr(_to_uint8(array[..., :3] if array.ndim == 3 and array.shape[2] == 4 else array), color)


def _stated_depth(picture: PILImage, samples: NDArray[np.uint16]) -> int:
    """Bits of a sample, as a TIFF or PNG states it; 0 where nothing is stated."""
    significant = picture.info.get(_SIGNIFICANT)
    if significant:
        return 16 if _is_scaled(samples, significant) else significant
    tags = getattr(picture, "tag_v2", {})
    told = tags.get(_MAX_SAMPLE, tags.get(_WHITE_LEVEL, 0))
    values = [value for value in (told if isinstance(told, tuple) else (told,)) if isinstance(value, int)]
    described = _SIGNIFICANT_BITS.search(str(tags.get(_DESCRIPTION, "")))
    return max(values, default=0).bit_length() or (int(described[1]) if described else 0)


def _is_scaled(samples: NDArray[np.uint16], bits: int) -> bool:
    """Whether samples of so many bits fill 16: shifted up, or with their upper bits, rounded or not, below."""
    below = samples & (2 ** (16 - bits) - 1)
    repeated = np.abs(below.astype(np.int32) - (samples >> bits)) <= 1
    return bool(not below.any() or repeated.all())


def _white(brightest: int, depth: int) -> int:
    """The value of white: of the depth that is stated and holds all pixels, or of one that they make likely."""
    needed = max(depth, brightest.bit_length())
    white: int = 2 ** next((bits for bits in _DEPTHS if bits >= needed), 16) - 1
    if depth or white == 65_535:
        return white
    if brightest * _BRIGHTEST < white:
        return 65_535
    warnings.warn(
        f"an image of 16 bits whose samples fill {white.bit_length()} is taken for one of {white.bit_length()}: white "
        f"is {white:,}; if that is wrong, scale its samples to 16 bits, or state their depth (a TIFF's MaxSampleValue)",
        DepthWarning,
        stacklevel=2,
    )
    return white


def _filled_depth(array: NDArray[Any]) -> int:
    """16 where all values are 8 bits that were repeated to fill 16, however dark; 0 where that is not known."""
    brightest = int(array.max())
    if brightest > 2 ** _DEPTHS[-1] or brightest <= 2 ** _DEPTHS[0]:  # as deep as it looks
        return 0
    return 16 if any(not (array % step).any() for step in _REPEATED) else 0


def _to_uint8(array: NDArray[Any], depth: int = 0) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # in either byte order
        white = _white(int(array.max()), depth or _filled_depth(array))
        scaled: NDArray[np.uint8] = ((array.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
        return scaled
    if array.dtype.kind != "f":
        raise InvalidArgumentError(f"an image array must be uint8, uint16 or float in 0..1, but got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (0.0 <= low and high <= 1.0):  # written so that NaN fails too
        raise InvalidArgumentError(f"a float image must lie within 0..1, but reaches {low:g}..{high:g}")
    return np.rint(array * 255.0).astype(np.uint8)


def _to_bgr(array: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    array = np.ascontiguousarray(array if array.shape[2] == 3 else array[:, :, :3])
    if color == "bgr":
        return array
    import cv2

    return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), dtype=np.uint8)


def _check_size(width: int, height: int, label: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{label} has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ImageError(f"{label} is {width}x{height}, larger than the limit of {max_pixels:,} pixels{_RAISE}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """List the image files that a source names, in a stable order.

    Parameters
    ----------
    source : path
        An image; a folder, searched through all its levels for files that are images by their suffix or their content,
        hidden ones left out, linked folders followed once; or a list (`.txt`, `.lst`): a path a line, relative to the
        list's folder, where a trailing Caffe label
        (`path 17`), blank lines and lines that start with `#` are passed over.

    Returns
    -------
    list of Path
        Sorted by name for a folder, in the list's order for a list. Files of a list are not checked to exist.

    Raises
    ------
    ImageError
        The source is missing, an empty text, or holds no image.
    """
    if not os.fspath(source):
        # pathlib takes it for the current folder, with whatever lies there
        raise ImageError("a path is empty: name an image, a folder or a list")
    if is_text_image(source):
        raise ImageError(f"{brief(source)} is an address or base64: name an image, a folder or a list by its path")
    return survey_images(Path(source)).images


class Survey(NamedTuple):
    """What a source names: its images, and its other files."""

    images: list[Path]
    passed_over: list[Path]


def survey_images(path: Path) -> Survey:
    """List images as `find_images` does, and the files of a folder that were passed over, hidden ones left out."""
    passed_over: list[Path] = []
    if _is_folder(path):
        found, passed_over = _walk(path)
    elif not path.exists():
        if _ADDRESS_AS_PATH.match(str(path)):
            raise ImageError(f"{brief(path)} is an address: name an image, a folder or a list by its path")
        raise ImageError(f"{path}: no such file or folder")
    elif path.suffix.lower() in LIST_SUFFIXES:
        found = _read_list(path)
    else:
        return Survey([path], [])
    if not found:
        others = f"; passed over {passed_over_text(passed_over)}" if passed_over else ""
        raise ImageError(f"{path} holds no images{others}")
    return Survey(found, passed_over)


def passed_over_text(files: Sequence[str | os.PathLike[str]]) -> str:
    """The number and the first names of files that are no images."""
    names = ", ".join(brief(Path(file).name) for file in files[:3])
    return f"{len(files)} file{'s' * (len(files) > 1)} that hold no image: {names}{', ...' * (len(files) > 3)}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        shown = path if len(str(path)) < _LONGEST_PATH else brief(path)
        raise ImageError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _walk(folder: Path) -> Survey:
    # Texts until the end: paths as objects cost several times as much to make and to sort, which `find` waits for.
    found: list[str] = []
    others: list[str] = []
    root = os.path.realpath(folder)
    seen = {root}
    for parent, folders, files in os.walk(folder, followlinks=True):
        shown = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [name for name in shown if _is_new(parent, name, root, seen)]
        for name in files:
            if not name.startswith("."):
                path = os.path.join(parent, name)  # noqa: PTH118
                (found if _names_image(path) else others).append(path)
    return Survey(*([Path(name) for name in sorted(names, key=_in_tree)] for names in (found, others)))


def _in_tree(name: str) -> list[str]:
    return os.path.normcase(name).split(os.sep)  # noqa: PTH206


def _is_new(parent: str, name: str, root: str, seen: set[str]) -> bool:
    """Whether a folder is to be entered: no link to what the walk reaches without it, and none twice."""
    path = os.path.join(parent, name)  # noqa: PTH118
    real = os.path.realpath(path)
    inside = real == root or real.startswith(os.path.join(root, ""))  # noqa: PTH118
    if real in seen or (inside and os.path.islink(path)):  # noqa: PTH114
        return False
    seen.add(real)
    return True


def _names_image(path: str) -> bool:
    """Whether a file is an image by its suffix, where a broken one is then reported, or else by its content."""
    if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
        return True
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - a pipe would wait
            return False
        with open(path, "rb") as stream:  # noqa: PTH123
            head = stream.read(32)
            return _BEGINNINGS.match(head) is not None or _is_rare_image(stream, head)
    except OSError:
        return False


def _is_rare_image(stream: IO[bytes], head: bytes) -> bool:
    """Whether one of Pillow's other readers knows how a file begins, and reads its header."""
    from PIL import Image

    Image.init()
    known = []
    for name in set(Image.ID) - _PROGRAMS - _NO_PIXELS:
        begins = Image.OPEN[name][1]
        with contextlib.suppress(Exception):  # of heads shorter than a reader looks at
            if begins is not None and begins(head) is True:
                known.append(name)
    if not known:
        return False
    stream.seek(0)
    try:
        return Image.open(stream, formats=known).size > (0, 0)
    except Exception:  # whatever a broken header makes a reader raise
        return False


def _read_list(path: Path) -> list[Path]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} cannot be read as a list of images: {error}") from None
    lines = (line.strip() for line in text.splitlines())
    return [path.parent / _without_label(line) for line in lines if line and not line.startswith("#")]


def _without_label(line: str) -> str:
    head, _, tail = line.rpartition(" ")
    return head.rstrip() if head and tail.lstrip("-").isdigit() else line
