"""Colour as a file means it: ICC profiles and PNG's gamma, to the sRGB that models were trained on."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""Modes of Pillow, and the colour space that a profile of such an image is for."""
_UNSEEN = 3
"""Difference, of 255, under which an image is left as it is: sRGB itself comes with many profiles."""
_DISPLAY = 2.2
"""Exponent of a display, near enough to sRGB's curve."""
_UNSEEN_EXPONENT = 0.05


def as_srgb(image: PILImage, info: dict[Any, Any]) -> PILImage:
    """Turn colours into sRGB where the file says that they are others.

    Parameters
    ----------
    image : PIL image
        Decoded, of mode RGB, L or CMYK; others are returned as they are.
    info : dict
        What the file said: `icc_profile`; `gamma` of a PNG without a profile, as its gAMA chunk has it.

    Returns
    -------
    PIL image
        RGB where something was changed; the image itself where nothing is said, or the profile is damaged or for
        another kind of image.
    """
    profile = info.get("icc_profile")
    if profile and image.mode in _SPACES:
        from PIL import ImageCms

        transform = _transform(bytes(profile), image.mode)
        return image if transform is None else ImageCms.applyTransform(image, transform) or image
    if image.mode in ("RGB", "L") and "gamma" in info and "srgb" not in info:
        return _with_gamma(image, info["gamma"])
    return image


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """LittleCMS' way to sRGB; None where there is none, or where it would change next to nothing."""
    from PIL import Image, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,  # where a printer's black is lighter
        )
        if mode == "CMYK":
            return transform
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        colours = Image.fromarray(cube if mode == "RGB" else cube[..., 0])
        turned = np.asarray(ImageCms.applyTransform(colours, transform), np.int16)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # a damaged profile says nothing against the pixels
        return None
    changed = np.abs(turned - np.asarray(colours.convert("RGB"), np.int16)).max()
    return transform if changed > _UNSEEN else None


def _with_gamma(image: PILImage, gamma: Any) -> PILImage:
    if not isinstance(gamma, float) or not gamma > 0:
        return image
    exponent = 1 / (_DISPLAY * gamma)
    if abs(exponent - 1) < _UNSEEN_EXPONENT or not 1 / _DISPLAY <= exponent <= _DISPLAY:  # nobody writes such
        return image
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(int).tolist()
    return image.point(table * len(image.getbands()))
