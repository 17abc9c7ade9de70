"""One loader for every kind of picture: whatever comes in, a BGR uint8 array `(H, W, 3)` goes on."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import ImageError, InvalidArgumentError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    ImageSource: TypeAlias = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | PILImage
    )
else:
    ImageSource = object

Color = Literal["bgr", "rgb"]

MAX_PIXELS = 89_478_485
"""Largest picture decoded by default, in pixels: 256 MiB of RGB, the limit that Pillow warns at too."""

_CHANNELS = (1, 3, 4)


def load_image(source: ImageSource, *, color: Color = "bgr", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Load one picture, from whatever holds it.

    Parameters
    ----------
    source : path, bytes, binary file object, ndarray or PIL image
        Files of any format that Pillow reads; the first frame of an animation; EXIF orientation is applied. Arrays of
        shape `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`, uint8, uint16 (0..65535) or float (0..1). Alpha is
        dropped.
    color : {"bgr", "rgb"}
        The channel order of an *array*; files and PIL images say theirs themselves.
    max_pixels : int
        A picture with more pixels is refused, by its header, before anything is decoded.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        BGR, C-contiguous. A uint8 BGR array is returned as it is, not copied.

    Raises
    ------
    ImageError
        The picture is missing, broken, too large, or not a picture.
    InvalidArgumentError
        `source`, `color` or an array's shape, dtype or range is none of the above.

    Examples
    --------
    >>> import numpy as np
    >>> load_image(np.zeros((4, 6), np.uint8)).shape
    (4, 6, 3)
    """
    if color not in ("bgr", "rgb"):
        raise InvalidArgumentError(f"color must be 'bgr' or 'rgb', but got {color!r}")
    if isinstance(source, np.ndarray):
        return _from_array(source, color, max_pixels)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _decode(_read_file(path), str(path), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), "the bytes given", max_pixels)
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        return _from_pil(source, "the PIL image given", max_pixels)
    if hasattr(source, "read"):
        return _decode(_read_stream(source), str(getattr(source, "name", "the file object given")), max_pixels)
    raise InvalidArgumentError(
        "an image must be a path, bytes, a binary file object, an ndarray or a PIL image, "
        f"but got {type(source).__name__}"
    )


class LabelledImage(NamedTuple):
    """A loaded image that remembers what to call it in a message."""

    image: NDArray[np.uint8]
    label: str


def load_labelled(source: ImageSource | LabelledImage) -> LabelledImage:
    """Load one picture as `load_image` does, and keep its path, if it has one, for messages."""
    if isinstance(source, LabelledImage):
        return source
    return LabelledImage(
        load_image(source), str(source) if isinstance(source, str | os.PathLike) else "the image given"
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _read_stream(stream: Any) -> bytes:
    data = stream.read()
    if not isinstance(data, bytes):
        raise InvalidArgumentError("a file object must be opened in binary mode ('rb')")
    return data


def _decode(data: bytes, label: str, max_pixels: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"{label} is empty (0 bytes)")
    try:
        # Our own limit below decides; Pillow's warning would only repeat it on the user's terminal.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(f"{label} is not an image in a known format") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{label} is larger than the limit of {max_pixels:,} pixels") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken header makes them raise
        raise ImageError(f"{label} is a broken image: {_first_line(error)}") from None
    return _from_pil(picture, label, max_pixels)


def _from_pil(picture: PILImage, label: str, max_pixels: int) -> NDArray[np.uint8]:
    from PIL import ImageOps

    _check_size(picture.width, picture.height, label, max_pixels)
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N", "F"):
            return _from_array(_deep_array(picture), "bgr", max_pixels)
        array = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except InvalidArgumentError as error:
        raise ImageError(f"{label}: {error}") from None
    except Exception as error:  # as above: decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(f"{label} is a broken image: {_first_line(error)}") from None
    return _to_bgr(array, "rgb")


def _deep_array(picture: PILImage) -> NDArray[Any]:
    array = np.asarray(picture)
    if picture.mode == "F":
        return array
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise InvalidArgumentError(f"integer pixels must be within 0..65535, but reach {array.min()}..{array.max()}")
    return array.astype(np.uint16)


def _from_array(array: NDArray[Any], color: Color, max_pixels: int) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise InvalidArgumentError(f"an image array must have shape (H, W) or (H, W, 1 | 3 | 4), but got {array.shape}")
    _check_size(array.shape[1], array.shape[0], "the array given", max_pixels)
    return _to_bgr(_to_uint8(array), color)


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise InvalidArgumentError(f"an image array must be uint8, uint16 or float in 0..1, but got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (0.0 <= low and high <= 1.0):  # written so that NaN fails too
        raise InvalidArgumentError(f"a float image must lie within 0..1, but reaches {low:g}..{high:g}")
    return np.rint(array * 255.0).astype(np.uint8)


def _to_bgr(array: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    array = np.ascontiguousarray(array[:, :, :3])
    if color == "bgr":
        return array
    import cv2

    return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), dtype=np.uint8)


def _check_size(width: int, height: int, label: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{label} has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ImageError(f"{label} is {width}x{height}, larger than the limit of {max_pixels:,} pixels")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
