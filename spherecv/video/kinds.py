"""Kinds of sources by their names: an image, a set of images, or a video."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from spherecv.addresses import is_text_image, is_web_address
from spherecv.images import LIST_SUFFIXES, ImageSource, LabelledImage

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
SetSource: TypeAlias = ImageSource | Sequence[ImageSource]


def is_video(source: object) -> bool:
    """Whether a path or address names a video rather than an image, by its suffix or scheme; data URIs are images."""
    if not isinstance(source, str | os.PathLike):
        return False
    text = os.fspath(source)
    if not isinstance(text, str) or (is_text_image(text) and not _is_stream(text)):
        return False
    return "://" in text or Path(text).suffix.lower() in VIDEO_SUFFIXES


def _is_stream(address: str) -> bool:
    """Whether an address is a video's: a web address by its suffix, any other but a file's by its scheme."""
    if is_web_address(address):
        return Path(re.split(r"[?#]", address)[0]).suffix.lower() in VIDEO_SUFFIXES
    return "://" in address and not address.lower().startswith("file:")


def is_set(source: SetSource) -> bool:
    """Whether a source is several images (a list or tuple, a folder, a list file) or a clip, and not one image."""
    if isinstance(source, list | tuple) and not isinstance(source, LabelledImage):
        return True
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        return False
    if is_video(source):
        return True
    if is_text_image(source):
        return False
    return Path(source).suffix.lower() in LIST_SUFFIXES or Path(source).is_dir()
