"""Mixtures of two aligned faces: new faces for a teacher to label, where images are few.

The lines of Zhang et al., "mixup: Beyond Empirical Risk Minimization" (arXiv:1710.09412), without labels to mix: the
teacher looks at the mixture itself. As faces are aligned, eyes lie on eyes; what changes is which face shows where.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spherecv.errors import ImageError, InvalidArgumentError
from spherecv.files import open_whole
from spherecv.train.data.dataset import Dataset, from_tars
from spherecv.train.data.reading import View

Image = npt.NDArray[np.uint8]

_SHARPEST = 8.0
"""Steepness of the border between two faces, in units of half an image; 0 is the same mixture everywhere."""


def mixture(first: Image, second: Image, rng: np.random.Generator) -> Image:
    """Return a mixture of two images of one size.

    The weight of the first is a logistic function of the place along a random direction: from a fade between two
    halves to an even blend.

    Parameters
    ----------
    first, second : ndarray of uint8 (height, width, 3)
    rng : numpy Generator
    """
    height, width = first.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, steep = rng.uniform(0, 2 * np.pi), rng.uniform(0, _SHARPEST)
    along = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.5)
    # The offset keeps even blends from all being halves.
    weight = 1.0 / (1.0 + np.exp(-(steep * along + rng.uniform(-1, 1))))
    mixed = weight[..., None] * first + (1.0 - weight[..., None]) * second
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def open_mixtures(
    dataset: Dataset,
    count: int,
    folder: str | Path,
    *,
    height: int,
    width: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return mixtures of a data set's images, from a tar shard in `folder` that is written if it is not there.

    Parameters
    ----------
    dataset : Dataset
        Of aligned faces; labels are not used.
    count : int
        How many mixtures. Each image takes part about equally often.
    folder : path
    height, width : int
        Size of the images: the middle of larger ones.
    seed : int
    progress : callable, optional
        Called with the number done and in all.

    Raises
    ------
    InvalidArgumentError
        There are fewer than two images.
    """
    if len(dataset.items) < 2:
        raise InvalidArgumentError("mixtures need two images or more")
    about = [count, height, width, seed, [[Path(i.path).name, i.offset, i.size] for i in dataset.items]]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    path = Path(folder) / f"mixtures-{digest}.tar"
    if not path.exists():
        _write(dataset, count, path, View(height, width), seed, progress)
    return from_tars([path])


def _write(
    dataset: Dataset, count: int, path: Path, view: View, seed: int, progress: Callable[[int, int], None] | None
) -> None:
    import cv2

    rng = np.random.default_rng((seed, count))
    rounds = -(-2 * count // len(dataset.items))
    places = np.concatenate([rng.permutation(len(dataset.items)) for _ in range(rounds)])[: 2 * count].reshape(-1, 2)
    with open_whole(path) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for number, pair in enumerate(places):
            try:
                first, second = (view.read(dataset.items[place], rng) for place in pair)
            except ImageError:
                continue  # training counts and names what cannot be read
            _, data = cv2.imencode(".jpg", mixture(first, second, rng), [cv2.IMWRITE_JPEG_QUALITY, 95])
            about = tarfile.TarInfo(f"{number:07d}.jpg")
            about.size = data.size
            archive.addfile(about, io.BytesIO(data.tobytes()))
            if progress is not None:
                progress(number + 1, count)
