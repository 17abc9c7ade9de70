"""The one family of exceptions that SphereCV raises on purpose. Each class's docstring says the cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class SphereCVError(Exception):
    """Anything SphereCV refuses, in one line. Catch this to catch all of them; the command line exits 2.

    Parameters
    ----------
    *words
        As for any exception.
    advice : str, optional
        What callers of the library and the command line can set; it ends the message. Kept as `advice`, so that the
        service, whose callers cannot set it, leaves it out.
    """

    advice = ""

    def __init__(self, *words: object, advice: str = "") -> None:
        super().__init__(*((f"{words[0]}{advice}",) if advice else words))
        if advice:
            self.advice = advice

    def __reduce__(self) -> tuple[Callable[..., SphereCVError], tuple[Any, ...], dict[str, Any]]:
        """Travel between processes, whatever a class asks for to be made."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class InvalidArgumentError(SphereCVError, ValueError):
    """An argument of the wrong type, shape, range or name. Pass what the message asks for."""


class ImageError(SphereCVError):
    """An image that is missing, broken, too large or not an image. Pass a readable image."""


class VideoError(SphereCVError):
    """A video, camera or stream that cannot be opened, read or written. Check the path, the address or the cable."""


class NoFaceError(SphereCVError):
    """No face was found. Use a clearer image, a smaller `min_size`, or `face="whole"` for ready-made crops."""


class SeveralFacesError(SphereCVError):
    """An image with several faces where one was to be there. Say which (`face="largest"`, `"center"`), or crop it."""


class ModelFileError(SphereCVError):
    """A model file that cannot be read or does not fit. Download it again, or pass the file that belongs to it."""


class PrototxtError(ModelFileError):
    """A `.prototxt` with a mistake in it. Mend the line and column that the message names.

    Attributes
    ----------
    line, column : int or None
        Where in the text, counted from 1.
    """

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class CaffeModelError(ModelFileError):
    """A `.caffemodel` that is truncated, damaged, or of another net. Take the file that goes with the prototxt."""


class UnsupportedLayerError(ModelFileError):
    """A layer, or a setting of one, that the converter does not know. The message lists what is supported."""


class ModelNotFoundError(SphereCVError):
    """A model name that the manifest does not hold, or files that are not on this machine. See `spherecv models`."""


class DownloadError(SphereCVError):
    """A download that failed on every mirror. Check the network, or put the file where the message says by hand."""


class HashMismatchError(DownloadError):
    """A file whose size or hash is not the manifest's. Delete it and download it again."""


class StorageError(SphereCVError):
    """A folder or file that cannot be written: read-only, full, or not permitted. Free space or choose another."""


class DeviceError(SphereCVError):
    """A device that was asked for and is not there. Choose another, or run `spherecv doctor` to see what is."""


class BackendError(SphereCVError):
    """An inference backend that failed on a model or an input. Try another `backend`."""


class MissingDependencyError(SphereCVError, ImportError):
    """An optional package that is not installed. Install the extra that the message names."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'spherecv[{extra}]'")


class MissingThresholdError(SphereCVError):
    """No threshold is known for this model, recipe and metric. Pass one, or measure it: `spherecv calibrate`."""


class DatasetError(SphereCVError):
    """A data set, pair file or list that does not hold what it must. Mend the line or file that the message names."""


class NotEnoughDataError(SphereCVError):
    """Too few pairs, images or identities for the figure asked for. Bring more, or ask for a coarser one."""


class CalibrationError(SphereCVError):
    """A calibration that cannot be read, or belongs to another model, recipe, metric or detector. Measure it again."""


class GalleryError(SphereCVError):
    """A gallery that is missing, damaged, or no gallery. Pass one, or bring back a copy; nothing was changed."""


class GalleryMismatchError(GalleryError):
    """A gallery of another model, recipe, embedding size or version. Open it with the one it was made with."""


class GalleryLockedError(GalleryError):
    """Another process is writing to the gallery. Try again, or give a longer `timeout`; nothing was changed."""


class GalleryKeyError(GalleryError):
    """A gallery that is encrypted with another key, or whose key is not there. Set SPHERECV_GALLERY_KEY to it."""


class IdentityError(SphereCVError, LookupError):
    """An identity or image that the gallery does not hold, or holds already. `spherecv gallery list` shows them."""


class TrainingError(SphereCVError):
    """A training run that cannot go on: the loss diverged or got stuck. The message says what to change."""


class SnapshotError(SphereCVError):
    """A snapshot that is damaged or of another run. Resume from an earlier one."""
