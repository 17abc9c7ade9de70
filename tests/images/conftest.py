"""One small picture in several forms, and what a refusal must look like."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError, SphereCVError
from spherecv.images import load_image


@pytest.fixture(scope="session")
def bgr() -> np.ndarray:
    """A smooth BGR picture in which every corner, side and channel is another."""
    height, width = 40, 60
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / (width - 1), 255 * y / (height - 1), 60 + 100 * (x + y) / (width + height)]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)


@pytest.fixture(scope="session")
def rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[:, :, ::-1])


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """The bytes of a PIL image in a format: `encoded(image, "PNG", **options)`."""

    def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    return encode


@pytest.fixture(scope="session")
def png(rgb: np.ndarray, encoded: Callable[..., bytes]) -> bytes:
    """The picture as a PNG."""
    return encoded(Image.fromarray(rgb))


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """The one-line message of a source that must be refused."""

    def refused(source: object, error: type[SphereCVError] = ImageError, **options: object) -> str:
        with pytest.raises(error) as caught:
            load_image(source, **options)  # type: ignore[arg-type]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refused
