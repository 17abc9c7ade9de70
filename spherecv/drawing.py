"""Drawings of results, made with Pillow alone: faces on a photo, and a verification at a glance."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spherecv.errors import InvalidArgumentError
from spherecv.files import check_writable, write_bytes

SAME = (22, 128, 74)
DIFFERENT = (190, 45, 45)
INK = (28, 32, 38)
SOFT = (110, 118, 128)
PAPER = (250, 250, 248)
BOX = (255, 200, 40)
POINT = (60, 220, 255)

_WIDTH = 1120
_PHOTO = (400, 360)
_CROP_HEIGHT = 164
_MARGIN = 30
_COSINE_END = 1.5
"""Where the scale of cosine distances ends: those of two people lie about 1, and hardly one in a million beyond it."""


class Face(Protocol):
    """What is drawn of a face; `spherecv.records.Face` has it."""

    @property
    def box(self) -> NDArray[np.float32]:
        """`x1, y1, x2, y2` in pixels."""

    @property
    def landmarks(self) -> NDArray[np.float32] | None:
        """`x, y` in pixels, shape (5, 2) or (2, 2)."""

    @property
    def score(self) -> float:
        """The detector's confidence, 0..1."""

    @property
    def quality(self) -> float | None:
        """How far the face can be trusted for recognition, 0..1."""


def draw_faces(
    image: NDArray[np.uint8],
    faces: Sequence[Face],
    *,
    labels: Sequence[str] | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> Image.Image:
    """Draw boxes, landmarks and scores of faces on a copy of their image.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        BGR.
    faces : sequence of Face
    labels : sequence of str, optional
        What to write at each face, instead of its score and quality.
    colors : sequence of (int, int, int), optional
        RGB of each box.

    Returns
    -------
    PIL.Image.Image
        RGB, of the image's size.
    """
    picture = _rgb(image)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    labels = [_rating(face) for face in faces] if labels is None else labels
    for face, label, color in zip(faces, labels, colors or [BOX] * len(faces), strict=True):
        x1, y1, x2, y2 = (float(value) for value in face.box)
        pen.rectangle((x1, y1, x2, y2), outline=color, width=line)
        width = x2 - x1
        font = _font(max(11.0, min(28.0, width / 7)))
        _, top, right, bottom = pen.textbbox((0, 0), label, font=font)
        base = y1 - bottom - 4 if y1 - bottom - 4 >= 0 else y2 + 2
        pen.rectangle((x1, base, x1 + right + 8, base + bottom + 4), fill=color)
        pen.text((x1 + 4, base + 2 - top / 4), label, fill=INK if color == BOX else PAPER, font=font)
        _draw_points(pen, face, 1.0, max(2.0, width / 45))
    return picture


def _rating(face: Face) -> str:
    return f"{face.score:.2f}" if face.quality is None else f"{face.score:.2f}  quality {face.quality:.2f}"


def draw_aligned(image: NDArray[np.uint8], faces: Sequence[Face], crops: NDArray[np.uint8]) -> Image.Image:
    """Draw faces on their image, with their aligned crops in a column beside it.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        BGR.
    faces : sequence of Face
    crops : ndarray of uint8, shape (N, h, w, 3)
        Of the same faces, BGR. Those that find no room in the column are left out.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    photo = draw_faces(image, faces)
    if not len(crops):
        return photo
    height = max(1, photo.height // max(3, min(5, len(crops))))
    width = max(1, round(height * crops.shape[2] / crops.shape[1]))
    sheet = Image.new("RGB", (photo.width + width, photo.height), PAPER)
    sheet.paste(photo, (0, 0))
    for row, crop in enumerate(crops):
        sheet.paste(_rgb(crop).resize((width, height), Image.Resampling.BICUBIC), (photo.width, row * height))
    return sheet


def draw_verification(
    images: Sequence[NDArray[np.uint8]],
    faces: Sequence[Face],
    crops: Sequence[NDArray[np.uint8] | None],
    *,
    distance: float,
    threshold: float,
    metric: str,
    heading: str,
    labels: Sequence[str],
    notes: Sequence[str],
) -> Image.Image:
    """Draw a verification: both images, both crops, and the distance on its scale with the threshold.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
        The two images, BGR.
    faces : sequence of Face
        The two faces that were compared.
    crops : sequence of ndarray of uint8, shape (h, w, 3), or None
        Their aligned crops, BGR.
    distance, threshold : float
        In the unit of `metric`; the people are the same up to the threshold.
    metric : {"cosine", "euclidean"}
        Decides where the scale ends: at 1.5 for cosine, at twice the threshold for Euclidean, so that the drawings of
        several pairs can be laid side by side.
    heading : str
        Drawn at the top: what compared them.
    labels : sequence of str
        Drawn under the images: what they are called; of a path its end.
    notes : sequence of str
        Drawn at the foot, each on lines of its own: what is known of the threshold.

    Returns
    -------
    PIL.Image.Image
        RGB, 1120 pixels wide.
    """
    verified = distance <= threshold
    color = SAME if verified else DIFFERENT
    top = 96
    lines = [line for note in notes for line in wrapped(note, _WIDTH - 2 * _MARGIN, 15)]
    sheet = Picture()
    height = top + _PHOTO[1] + 168 + 20 * len(lines) + 16
    sheet.__setstate__(Image.new("RGB", (_WIDTH, height), PAPER).__getstate__())
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, 0, _WIDTH, 8), fill=color)
    pen.text((_MARGIN, 26), "Same person" if verified else "Different people", fill=color, font=_font(34))
    pen.text((_WIDTH - _MARGIN, 42), heading, fill=SOFT, font=_font(17), anchor="ra")
    places = (_MARGIN, _WIDTH - _MARGIN - _PHOTO[0])
    for image, face, label, left in zip(images, faces, labels, places, strict=True):
        _paste_photo(sheet, image, face, (left, top))
        name = end_of(label, _PHOTO[0], 15)
        pen.text((left + _PHOTO[0] // 2, top + _PHOTO[1] + 6), name, fill=INK, font=_font(15), anchor="ma")
    _paste_crops(sheet, crops, top)
    _draw_scale(pen, distance, threshold, metric, top + _PHOTO[1] + 92, color)
    for row, line in enumerate(lines):
        pen.text((_MARGIN, top + _PHOTO[1] + 164 + 20 * row), line, fill=SOFT, font=_font(15))
    return sheet


def save_picture(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Save an image in the format that the path's suffix names.

    Raises
    ------
    InvalidArgumentError
        No image format has this suffix.
    StorageError
        The file cannot be written.
    """
    _check_suffix(path)
    write_bytes(path, _encoded(picture, path))


def _encoded(picture: Image.Image, path: str | os.PathLike[str], **params: Any) -> bytes:
    # In memory: Pillow writes to files by their descriptors, and says of a full disk "encoder error -2".
    stream = io.BytesIO()
    params.setdefault("format", Image.registered_extensions().get(Path(path).suffix.lower()))
    Image.Image.save(picture, stream, **params)
    return stream.getvalue()


def check_picture_path(path: str | os.PathLike[str]) -> None:
    """Refuse now what `save_picture` would refuse after the work.

    Raises
    ------
    InvalidArgumentError
        No image format has this suffix.
    StorageError
        The path is a folder, or its folder cannot be made or written to.
    """
    _check_suffix(path)
    check_writable(path)


def _check_suffix(path: str | os.PathLike[str]) -> None:
    suffix = Path(path).suffix.lower()
    registered = Image.registered_extensions()  # which fills SAVE, too
    if registered.get(suffix) not in Image.SAVE:
        raise InvalidArgumentError(f"{path}: no image format has the suffix {suffix!r}; use .png or .jpg")


class Picture(Image.Image):
    """An image whose `save` fails with one line that says what to do."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002 - Pillow's name
        """Write the image to a path or a file object, as Pillow does.

        Raises
        ------
        InvalidArgumentError
            No image format has the path's suffix.
        StorageError
            The file cannot be written.
        """
        if not isinstance(fp, str | os.PathLike):
            return super().save(fp, format, **params)
        if format is None:
            _check_suffix(fp)
        else:
            params["format"] = format
        write_bytes(fp, _encoded(self, fp, **params))
        return None


def _paste_photo(sheet: Image.Image, image: NDArray[np.uint8], face: Face, corner: tuple[int, int]) -> None:
    photo = _rgb(image)
    factor = min(_PHOTO[0] / photo.width, _PHOTO[1] / photo.height)
    photo = photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))))
    pen = ImageDraw.Draw(photo)
    pen.rectangle([float(value) * factor for value in face.box], outline=BOX, width=3)
    _draw_points(pen, face, factor, 3.0)
    sheet.paste(photo, (corner[0] + (_PHOTO[0] - photo.width) // 2, corner[1] + (_PHOTO[1] - photo.height) // 2))


def _paste_crops(sheet: Image.Image, crops: Sequence[NDArray[np.uint8] | None], top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    middle = _WIDTH // 2
    pen.text((middle, top), "what the model saw", fill=SOFT, font=_font(15), anchor="ma")
    for row, seen in enumerate(crops):
        if seen is None:
            continue
        crop = _rgb(seen)
        crop = crop.resize((round(crop.width * _CROP_HEIGHT / crop.height), _CROP_HEIGHT), Image.Resampling.BICUBIC)
        sheet.paste(crop, (middle - crop.width // 2, top + 24 + row * (_CROP_HEIGHT + 6)))


def _draw_scale(
    pen: ImageDraw.ImageDraw, distance: float, threshold: float, metric: str, y: int, color: tuple[int, int, int]
) -> None:
    largest = _COSINE_END if metric == "cosine" else 2.0 * max(threshold, 1e-6)
    left, right = _MARGIN, _WIDTH - _MARGIN

    def place(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, value / largest))

    border = place(threshold)
    pen.rectangle((left, y, right, y + 14), fill=(238, 208, 205))
    pen.rectangle((left, y, border, y + 14), fill=(196, 228, 208))
    pen.line((border, y - 8, border, y + 22), fill=INK, width=2)
    _centred(pen, border, y + 26, f"threshold {threshold:.4f}", INK, 16)
    here = place(distance)
    pen.ellipse((here - 10, y - 3, here + 10, y + 17), fill=color, outline=PAPER, width=2)
    _centred(pen, here, y - 32, f"distance {distance:.4f}", color, 18)
    pen.text((left, y + 26), "0", fill=SOFT, font=_font(14))
    pen.text((right, y + 26), f"{largest:.3g} and more", fill=SOFT, font=_font(14), anchor="ra")


def _centred(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, color: tuple[int, int, int], size: int) -> None:
    half = pen.textlength(text, font=_font(size)) / 2
    pen.text((min(max(x, _MARGIN + half), _WIDTH - _MARGIN - half), y), text, fill=color, font=_font(size), anchor="ma")


def _draw_points(pen: ImageDraw.ImageDraw, face: Face, factor: float, radius: float) -> None:
    if face.landmarks is None:
        return
    for x, y in face.landmarks * factor:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=POINT, outline=INK)


def wrapped(text: str, width: int, size: int) -> list[str]:
    """Break a text between words, into lines that are no wider than so many pixels."""
    font = _font(size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def end_of(text: str, width: int, size: int) -> str:
    """As much of the end of a text as is no wider than so many pixels: of a path, what tells it from others."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"


def _rgb(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
