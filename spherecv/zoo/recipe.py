"""Recipe: crop, colours and numbers that a model is fed with, and the form of its embedding."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from spherecv.brief import brief
from spherecv.checks import check_choice
from spherecv.errors import InvalidArgumentError
from spherecv.files import read_toml
from spherecv.zoo.mean_image import MeanImage

Color = Literal["BGR", "RGB", "GRAY"]
Alignment = Literal["cp2tform", "umeyama", "box"]
Points = tuple[tuple[float, float], ...]

TEMPLATES: Mapping[str, Points] = {
    # The SphereFace authors' five points for a 112x96 crop, counted from 1 as MATLAB does.
    "sphereface": (
        (30.2946, 51.6963),
        (65.5318, 51.5014),
        (48.0252, 71.7366),
        (33.5493, 92.3655),
        (62.7299, 92.2041),
    ),
    # The same face in the middle of a 112x112 crop: 8 columns further right.
    "arcface": (
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ),
}
"""Named templates: `x, y` in pixels, in the order of `Face.landmarks`."""

_MAX_SIDE = 4096
_MEAN_FILES = (".binaryproto", ".npy")
_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model wants its input, and how its output becomes an embedding.

    Attributes
    ----------
    size : (int, int)
        Height and width of the crop in pixels, each 1..4096.
    color : {"BGR", "RGB", "GRAY"}
        Order of the channels that the net is fed with; GRAY is one channel, 0.299 R + 0.587 G + 0.114 B.
    mean, scale : tuple of float
        Per channel (three, for GRAY one), in the order of `color`: net input = (pixel - mean) * scale, pixel 0..255. In
        `from_dict` and in files one number stands for equal ones. A mean may also be a `MeanImage`, one number for
        each pixel, or the path of one, a `.binaryproto` or `.npy` (in a TOML file relative to its folder); where it is
        larger than the crop its middle counts, as in Caffe.
    template : {"sphereface", "arcface"} or table of shape (5, 2)
        Where the five landmarks lie in the crop: `x, y` in pixels, in the order of `Face.landmarks`.
    alignment : {"cp2tform", "umeyama", "box"}
        `cp2tform` fits the template, counted from 0 (each coordinate less 1), to the image and inverts the fit, as
        the SphereFace authors' MATLAB did; `umeyama` fits the landmarks to the template as it is.
        `box` cuts out the face's box and resizes it, as FaceNet's aligner did: no landmarks, and no template.
    margin : int
        Of `box`: pixels of the image that the box is made wider and higher by, half of them on each side.
    standardize : bool
        Scale each crop by its own mean and standard deviation in place of `mean` and `scale`, which must not be given:
        (pixel - mean of all) / max(deviation of all, 1 / root of their number), as `tf.image.per_image_standardization`
        does and FaceNet's `prewhiten`.
    mirror : bool
        Concatenate the embedding of the crop and that of its mirror image, which doubles the length.
    normalize : bool
        Scale the embedding to length 1.
    output : str or None
        Name of the output that is the embedding; None for a net with one output. Of a Caffe model it may be any blob:
        what lies behind it is neither converted nor checked.
    name : str
        What people call it. Not part of the fingerprint.

    Raises
    ------
    InvalidArgumentError
        A value of the wrong type, shape or range.

    Examples
    --------
    >>> Recipe.from_dict({"size": [112, 96], "mean": 127.5, "scale": 1 / 128}).mean
    (127.5, 127.5, 127.5)
    """

    size: tuple[int, int]
    color: Color = "BGR"
    mean: tuple[float, ...] | MeanImage = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    template: str | Points = "sphereface"
    alignment: Alignment = "cp2tform"
    margin: int = 0
    standardize: bool = False
    mirror: bool = False
    normalize: bool = False
    output: str | None = None
    name: str = "custom"

    __repr__ = brief

    def __post_init__(self) -> None:
        check_choice("color", self.color, ("BGR", "RGB", "GRAY"))
        size = _checked_size(self.size)
        for attribute, value in (
            ("size", size),
            ("mean", _checked_mean(self.mean, self.channels, size)),
            ("scale", _checked_channels("scale", self.scale, self.channels)),
            ("template", _checked_template(self.template)),
        ):
            object.__setattr__(self, attribute, value)
        if not all(self.scale):
            raise InvalidArgumentError(f"scale must not be 0, but got {list(self.scale)}")
        check_choice("alignment", self.alignment, get_args(Alignment))
        for attribute in ("standardize", "mirror", "normalize"):
            # bool("false") is True: a quoted word in a recipe file must not slip through as one.
            if not isinstance(getattr(self, attribute), bool):
                raise InvalidArgumentError(f"{attribute} must be true or false, but got {getattr(self, attribute)!r}")
        _check_margin(self.margin, self.alignment)
        plain = not isinstance(self.mean, MeanImage) and not any(self.mean) and set(self.scale) == {1.0}
        if self.standardize and not plain:
            raise InvalidArgumentError("standardize takes mean and scale of each crop: leave mean and scale out")
        if self.output is not None and not (isinstance(self.output, str) and self.output):
            raise InvalidArgumentError(f"output must be the name of an output or None, but got {self.output!r}")
        if not (isinstance(self.name, str) and self.name):
            raise InvalidArgumentError(f"name must be a word, but got {self.name!r}")

    @property
    def channels(self) -> int:
        """How many channels the net is fed with."""
        return 1 if self.color == "GRAY" else 3

    @property
    def template_points(self) -> Points:
        """The template as five `(x, y)` in pixels, whichever way it was given."""
        return TEMPLATES[self.template] if isinstance(self.template, str) else self.template

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal when, and only when, two recipes treat a face alike.

        The SHA-256 of the canonical values. Thresholds, galleries and calibrations are keyed by it: the name does not
        count, and a named template counts as its table.
        """
        values = {key: value for key, value in self.to_dict().items() if key != "name"}
        values["template"] = [list(point) for point in self.template_points]
        if isinstance(self.mean, MeanImage):
            values["mean"] = self.mean.digest  # how well zlib packs it is no part of it
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain Python values, ready for JSON; `from_dict` reads them back."""
        # What older recipes did not have is named only where it is used: it must not change their fingerprints.
        newer = {name: value for name in ("margin", "standardize") if (value := getattr(self, name))}
        return {
            "name": self.name,
            "size": list(self.size),
            "color": self.color,
            "mean": self.mean.to_text() if isinstance(self.mean, MeanImage) else list(self.mean),
            "scale": list(self.scale),
            "template": self.template if isinstance(self.template, str) else [list(p) for p in self.template],
            "alignment": self.alignment,
            "mirror": self.mirror,
            "normalize": self.normalize,
            "output": self.output,
            **newer,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe of plain values, as `to_dict` gives them; what is left out has its default.

        Raises
        ------
        InvalidArgumentError
            A key that no recipe has, no `size`, or a value that a recipe cannot have.
        """
        if not isinstance(values, Mapping):
            raise InvalidArgumentError(f"a recipe must be a table of values, but got {type(values).__name__}")
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise InvalidArgumentError(f"a recipe has no {', '.join(unknown)}: it has {', '.join(known)}")
        if "size" not in values:
            raise InvalidArgumentError("a recipe needs size = [height, width]")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> Recipe:
        """Read a recipe from a TOML file whose top level holds the values of `from_dict`.

        Raises
        ------
        InvalidArgumentError
            No such file, not TOML, or not a recipe; the message names the file.
        """
        path = Path(path)
        values = read_toml(path, InvalidArgumentError, "recipe")
        if isinstance(mean := values.get("mean"), str) and not MeanImage.is_text(mean):
            values["mean"] = str(path.parent / mean)
        try:
            return cls.from_dict({"name": path.stem, **values})
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"recipe {path}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == length


def _checked_size(size: Any) -> tuple[int, int]:
    if not _is_row(size, 2) or not all(type(side) is int and 1 <= side <= _MAX_SIDE for side in size):
        raise InvalidArgumentError(f"size must be (height, width), whole numbers in 1..{_MAX_SIDE}, but got {size!r}")
    return (size[0], size[1])


def _checked_channels(name: str, value: Any, channels: int) -> tuple[float, ...]:
    row = (value,) * channels if _is_number(value) else value
    if channels == 1 and _is_row(row, 3) and row[0] == row[1] == row[2]:
        row = row[:1]  # three equal numbers, the default among them
    if not _is_row(row, channels) or not all(map(_is_number, row)):
        wanted = "one number" if channels == 1 else "one number or three, one for each channel"
        raise InvalidArgumentError(f"{name} must be {wanted}, but got {value!r}")
    return tuple(float(number) for number in row)


def _checked_mean(value: Any, channels: int, size: tuple[int, int]) -> tuple[float, ...] | MeanImage:
    if isinstance(value, str) and MeanImage.is_text(value):
        value = MeanImage.from_text(value)
    elif isinstance(value, str | Path):
        if Path(value).suffix.lower() not in _MEAN_FILES:
            raise InvalidArgumentError(f"mean must be numbers, or a file {' or '.join(_MEAN_FILES)}, but got {value!r}")
        value = MeanImage.read(value)
    if not isinstance(value, MeanImage):
        return _checked_channels("mean", value, channels)
    if value.shape[0] != channels:
        raise InvalidArgumentError(f"a mean image must have {channels} channels here, but got {value.shape[0]}")
    return value.cut(size)


def _check_margin(margin: Any, alignment: str) -> None:
    if type(margin) is not int or not 0 <= margin <= _MAX_SIDE:
        raise InvalidArgumentError(f"margin must be a whole number in 0..{_MAX_SIDE}, but got {margin!r}")
    if margin and alignment != "box":
        raise InvalidArgumentError(f"margin belongs to alignment = 'box', but alignment is {alignment!r}")


def _checked_template(template: Any) -> str | Points:
    if isinstance(template, str):
        check_choice("template", template, tuple(TEMPLATES))
        return template
    if hasattr(template, "tolist"):
        template = template.tolist()
    if not _is_row(template, 5) or not all(_is_row(point, 2) and all(map(_is_number, point)) for point in template):
        raise InvalidArgumentError(
            f"template must be {' or '.join(map(repr, TEMPLATES))} or five (x, y) in pixels, but got {template!r}"
        )
    points = tuple((float(x), float(y)) for x, y in template)
    if len(set(points)) < len(points):
        raise InvalidArgumentError(f"template must hold five different points, but got {template!r}")
    return points
