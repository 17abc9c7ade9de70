"""The exceptions of deepface's names: SphereCV's own, which are ValueErrors as there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spherecv.errors import (
    GalleryError,
    ImageError,
    InvalidArgumentError,
    MissingThresholdError,
    NoFaceError,
    SphereCVError,
)


class FaceNotDetected(NoFaceError, ValueError):  # noqa: N818 - deepface's name
    """No face in an image. Take a clearer one, or pass `enforce_detection=False` for ready-made crops."""


class ImgNotFound(ImageError, ValueError):  # noqa: N818 - deepface's name
    """An image that is missing, broken or none. Pass a readable one."""


class EmptyDatasource(GalleryError, ValueError):  # noqa: N818 - deepface's name
    """A folder without images, or a database without faces. Fill it first."""


class UnimplementedError(InvalidArgumentError):
    """Something of deepface that SphereCV does not have. The message says what to take in its place."""


class DimensionMismatchError(InvalidArgumentError):
    """An embedding of another size than the model's. Make it with the same model."""


class DataTypeError(InvalidArgumentError):
    """A list in place of an image that is no embedding. Pass numbers."""


class ThresholdUnknown(MissingThresholdError, ValueError):  # noqa: N818 - as the others
    """No threshold was measured for this model, alignment and metric. Pass `threshold=`."""


_NAMES: dict[type[SphereCVError], type[SphereCVError]] = {
    NoFaceError: FaceNotDetected,
    ImageError: ImgNotFound,
    MissingThresholdError: ThresholdUnknown,
}


@contextmanager
def deepface_errors(where: str = "") -> Iterator[None]:
    """Raise what SphereCV raises under deepface's names; `where` says what was being worked on."""
    try:
        yield
    except SphereCVError as error:
        kind = _NAMES.get(type(error))
        if kind is None:
            raise
        raise kind(f"{where}{error}") from None
