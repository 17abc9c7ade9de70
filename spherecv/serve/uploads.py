"""Uploaded images: bytes that are checked before they are decoded."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray

from spherecv.addresses import decode_base64
from spherecv.errors import ImageError
from spherecv.images import load_image
from spherecv.serve.parts import too_intricate
from spherecv.serve.problems import Problem

FORMATS = ("JPEG", "PNG", "WEBP")
"""What browsers and cameras send. A decoder that nobody needs is one more that a stranger can feed."""

_MAGIC = {"JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n\x1a\n", "WEBP": rb"RIFF....WEBP"}


class Upload(bytes):
    """The file of an image, with what messages call it and how many pixels it has, as its header says."""

    name: str
    pixels: int

    def decode_image(self) -> NDArray[np.uint8]:
        """Decode the image to BGR of shape (H, W, 3); raises `ImageError`."""
        stream = io.BytesIO(self)
        stream.name = self.name  # what load_image calls it
        return load_image(stream, max_pixels=max(self.pixels, 1))


def checked_upload(data: bytes, name: str, max_pixels: int) -> Upload:
    """Look at an image's header.

    Parameters
    ----------
    data : bytes
        A file of one of `FORMATS`.
    name : str
        What messages call it.
    max_pixels : int

    Returns
    -------
    Upload

    Raises
    ------
    Problem
        Too many pixels.
    ImageError
        Empty, of another format, or broken.
    """
    from PIL import Image

    if not data:
        raise ImageError(f"{name} is empty (0 bytes)")
    found = [kind for kind, magic in _MAGIC.items() if re.match(magic, data, re.DOTALL)]
    if not found:
        raise ImageError(f"{name} is not an image in JPEG, PNG or WebP")
    if much := too_intricate(data, found[0]):
        raise ImageError(f"{name} is a {found[0]} of {much}: save it again")
    try:
        with Image.open(io.BytesIO(data), formats=found) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Problem("too-large", f"{name} is larger than the limit of {max_pixels:,} pixels") from None
    except Exception:  # Pillow's plugins raise whatever a broken header makes them raise
        raise ImageError(f"{name} is a broken {found[0]}: its header cannot be read") from None
    if width * height > max_pixels:
        raise Problem("too-large", f"{name} is {width}x{height}, larger than the limit of {max_pixels:,} pixels")
    upload = Upload(data)
    upload.name, upload.pixels = name, width * height
    return upload


def from_base64(text: str) -> bytes:
    """Decode base64, on one line or several, with or without the head of a data URI; raises ValueError."""
    try:
        return decode_base64(text)
    except ValueError:
        raise ValueError("must be an image in base64; paths and addresses are not opened") from None
