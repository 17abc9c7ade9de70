"""People held out of a training: before and after, how well a net tells apart those it never learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spherecv.errors import ImageError, InvalidArgumentError
from spherecv.train.angles import measure_angles, pair_distances
from spherecv.train.data import Dataset, View
from spherecv.train.net import Net

FAR = 1e-2
"""The false accept rate at which a validation states the true accept rate."""
FEWEST_PEOPLE = 6
"""With two images each: of fewer nobody is held out."""
_FEWEST = 4
_MOST_IMAGES = 4000
_BATCH = 32


@dataclass(frozen=True)
class Validation:
    """What a net makes of the people held out, by cosine of the features of image and mirror image.

    Attributes
    ----------
    eer : float
        Equal error rate over all their pairs, 0..1.
    tar : float
        Share of genuine pairs accepted where `FAR` of the impostor pairs are, 0..1.
    within, between : float
        Mean angles in degrees between images of one person, and of different people.
    separation : float
        Distance of the two means of the cosine over their spread (d'): of few people, a finer measure than a rate.
    """

    eer: float
    tar: float
    within: float
    between: float
    separation: float


def hold_out(dataset: Dataset, share: float, *, seed: int = 0) -> tuple[Dataset, Dataset | None]:
    """Split a data set by people.

    Parameters
    ----------
    dataset : Dataset
    share : float
        Of the people to hold out, in [0, 1); at least four of them, and at most a third, where it is not 0.
    seed : int
        Of the choice.

    Returns
    -------
    known : Dataset
        To learn from.
    held : Dataset or None
        None where nobody is held out: `share` is 0, or there are fewer than `FEWEST_PEOPLE` with two images.
    """
    if not 0 <= share < 1:
        raise InvalidArgumentError(f"validate must be a share of the identities, 0 to below 1, but got {share}")
    able = with_pairs(dataset)
    if not share or len(able) < FEWEST_PEOPLE:
        return dataset, None
    wanted = min(max(_FEWEST, round(share * dataset.classes)), max(2, dataset.classes // 3), len(able) - 2)
    chosen = np.sort(np.random.default_rng(seed).permutation(able)[:wanted])
    rest = np.setdiff1d(np.arange(dataset.classes), chosen)
    return dataset.of_classes(rest.tolist()), dataset.of_classes(chosen.tolist())


def with_pairs(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the labels of the people with two images or more, in order: those who can be held out."""
    return np.flatnonzero(np.bincount(dataset.labels(), minlength=dataset.classes) >= 2)


def read_images(
    dataset: Dataset, view: View, *, most: int = _MOST_IMAGES, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the images of a data set that can be read, and their labels.

    Parameters
    ----------
    dataset : Dataset
    view : View
    most : int
        A larger set is thinned out evenly at random, so that memory is bounded.
    seed : int
    """
    rng = np.random.default_rng(seed)
    places = np.arange(len(dataset.items))
    if len(places) > most:
        places = np.sort(rng.choice(places, most, replace=False))
    images, labels = [], []
    for place in places:
        item = dataset.items[place]
        try:
            images.append(view.read(item, rng))
        except ImageError:
            continue  # the loader counts them, and ends the training where they are too many
        labels.append(item.label)
    if not images:
        raise ImageError(f"none of {len(places)} images can be read, the first: {dataset.items[0].path}")
    return np.stack(images), np.array(labels, dtype=np.int64)


def embed(
    net: Net,
    embedding: str,
    data: str,
    images: npt.NDArray[np.uint8],
    pixels: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return a net's features of images (count, height, width, channels), as they are in use: (count, width)."""
    training = net.context.train
    net.train(False)
    try:
        rows = []
        for start in range(0, len(images), _BATCH):
            inputs = {data: net.backend.asarray(pixels(images[start : start + _BATCH]))}
            found = net.forward(inputs, keep=[embedding], learn=False).blobs[embedding]
            rows.append(np.array(net.backend.numpy(found), dtype=np.float32).reshape(found.shape[0], -1))
    finally:
        net.train(training)
    return np.concatenate(rows)


def validate(embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Validation:
    """Measure how well people are told apart.

    Parameters
    ----------
    embeddings : ndarray (count, width)
        Finite.
    labels : ndarray of int (count,)
    """
    genuine, impostor = pair_distances(embeddings, labels)
    cuts = np.concatenate([genuine, impostor])
    rejected = 1.0 - np.searchsorted(genuine, cuts, side="right") / len(genuine)
    accepted = np.searchsorted(impostor, cuts, side="right") / len(impostor)
    nearest = int(np.argmin(np.maximum(rejected, accepted)))
    allowed = int(FAR * len(impostor))
    # The largest cut that accepts no more than `allowed` impostors lies just below the next of them.
    tar = np.searchsorted(genuine, impostor[allowed], side="left") / len(genuine)
    angles = measure_angles(embeddings, labels)
    spread = float(np.sqrt((genuine.var() + impostor.var()) / 2)) or 1e-12
    return Validation(
        eer=float(rejected[nearest] + accepted[nearest]) / 2,
        tar=float(tar),
        within=angles.within,
        between=angles.between,
        separation=float(impostor.mean() - genuine.mean()) / spread,
    )
