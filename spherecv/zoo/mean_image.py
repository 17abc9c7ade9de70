"""A mean for every pixel, as Caffe subtracts it: a `.binaryproto` of compute_image_mean, or a `.npy`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherecv.errors import InvalidArgumentError, ModelFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MARK = "float32"
_MOST_SIDE = 4096
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class MeanImage:
    """What is subtracted from every pixel of a crop.

    Attributes
    ----------
    shape : (int, int, int)
        Channels (1 or 3, in the order of the recipe's `color`), height and width.
    data : bytes
        The numbers, little-endian float32 in the order of `shape`.
    """

    shape: tuple[int, int, int]
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        channels, *sides = self.shape
        if channels not in (1, 3) or not all(1 <= side <= _MOST_SIDE for side in sides):
            raise InvalidArgumentError(
                f"a mean image must have 1 or 3 channels and sides in 1..{_MOST_SIDE}, but got the shape {self.shape}"
            )
        if len(self.data) != 4 * math.prod(self.shape):
            raise InvalidArgumentError(f"a mean image of shape {self.shape} has other data: {len(self.data):,} bytes")
        if not (abs(self.array) < math.inf).all():  # NaN is not less either
            raise InvalidArgumentError("a mean image must hold finite numbers")

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> MeanImage:
        """Take an array of shape (C, H, W) or (1, C, H, W), or (H, W) for one channel."""
        import numpy as np

        values = np.asarray(array)
        if values.ndim == 4 and len(values) == 1:
            values = values[0]
        if values.ndim == 2:
            values = values[None]
        if values.ndim != 3 or values.dtype.kind not in "fiu":
            raise InvalidArgumentError(f"a mean image must be numbers of shape (C, H, W), but got {values.shape}")
        channels, height, width = values.shape
        return cls((channels, height, width), np.ascontiguousarray(values, "<f4").tobytes())

    @classmethod
    def read(cls, path: str | Path) -> MeanImage:
        """Read a `.binaryproto` (one BlobProto) or a `.npy`.

        Raises
        ------
        ModelFileError
            The file cannot be read, or is damaged.
        InvalidArgumentError
            It holds no mean image.
        """
        import numpy as np

        path = Path(path)
        try:
            if path.suffix.lower() == ".npy":
                if path.stat().st_size > _MOST_BYTES:
                    raise InvalidArgumentError(f"{path} is larger than any mean image")
                array = np.load(path, allow_pickle=False)
            else:
                from spherecv.caffe import read_blob, read_message
                from spherecv.caffe.spherecv_caffe_pb2 import BlobProto

                array = read_blob(read_message(path, BlobProto), where=f"{path}: the mean image")
        except (OSError, ValueError, EOFError, MemoryError) as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise ModelFileError(f"{path} cannot be read as a mean image: {' '.join(str(error).split())}") from None
        try:
            return cls.from_array(array)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{path}: {error}") from None

    @classmethod
    def from_text(cls, text: str) -> MeanImage:
        """Read what `to_text` wrote."""
        try:
            mark, sizes, packed = text.split(";")
            channels, height, width = (int(size) for size in sizes.split("x"))
            if mark != _MARK or not all(0 < size <= _MOST_SIDE for size in (channels, height, width)) or channels > 3:
                raise ValueError(mark)
            unpack = zlib.decompressobj()
            data = unpack.decompress(base64.b64decode(packed, validate=True), 4 * channels * height * width + 1)
        except (ValueError, binascii.Error, zlib.error):
            raise InvalidArgumentError(f"mean must be numbers, a file or a mean image, but got {text[:40]!r}") from None
        return cls((channels, height, width), data)

    @staticmethod
    def is_text(text: str) -> bool:
        """Tell whether a text is a whole mean image and not a path."""
        return text.startswith(f"{_MARK};")

    def to_text(self) -> str:
        """Return the mean image as one line, for TOML and JSON."""
        packed = base64.b64encode(zlib.compress(self.data, 9)).decode()
        return f"{_MARK};{'x'.join(map(str, self.shape))};{packed}"

    @property
    def digest(self) -> str:
        """The SHA-256 of shape and numbers."""
        return hashlib.sha256(f"{self.shape}".encode() + self.data).hexdigest()

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """The numbers, shape (C, H, W); read-only."""
        import numpy as np

        return np.frombuffer(self.data, "<f4").reshape(self.shape)

    def cut(self, size: tuple[int, int]) -> MeanImage:
        """Return the middle, of a height and width, as Caffe cuts it in phase TEST (`crop_size`)."""
        _, height, width = self.shape
        if size == (height, width):
            return self
        if size[0] > height or size[1] > width:
            raise InvalidArgumentError(
                f"a mean image must be at least as large as the crop, {size[0]}x{size[1]}, but got {height}x{width}"
            )
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        return MeanImage.from_array(self.array[:, top : top + size[0], left : left + size[1]])
