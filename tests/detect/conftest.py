"""Photographs and nets that the tests of the detectors share."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

PHOTOS = ("img1.jpg", "img4.jpg", "img12.jpg", "img29.jpg", "couple.jpg", "selfie-many-people.jpg")
LFW_IMAGES = 24


@pytest.fixture(scope="session")
def plain():
    """The plain reading of MTCNN, `plain_mtcnn.py`: a module that is no test."""
    spec = importlib.util.spec_from_file_location("plain_mtcnn", Path(__file__).with_name("plain_mtcnn.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sessions():
    """P-Net, R-Net and O-Net."""
    from spherecv.zoo import mtcnn_sessions

    return mtcnn_sessions()


@pytest.fixture(scope="session")
def photos(data_dir: Path) -> list[np.ndarray]:
    """Photographs with one face or several, at most 640 pixels wide or high."""
    images = [cv2.imread(str(data_dir / "deepface-pairs" / name)) for name in PHOTOS]
    return [image if max(image.shape) <= 640 else _fitted(image) for image in images]


def _fitted(image: np.ndarray) -> np.ndarray:
    scale = 640 / max(image.shape)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def lfw(data_dir: Path) -> list[np.ndarray]:
    """The first images of LFW view 1, in the order of the archive, without unpacking it."""
    images = []
    with tarfile.open(data_dir / "lfw-view1.tar") as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                data = archive.extractfile(member).read()
                images.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
            if len(images) == LFW_IMAGES:
                return images
    raise AssertionError("too few images in lfw-view1.tar")
