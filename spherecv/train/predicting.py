"""Classes of images by a net and the head that it was trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError
from spherecv.train.data import Dataset, View
from spherecv.train.trainer import Trainer

_BATCH = 32


def predict(trainer: Trainer, dataset: Dataset, view: View) -> npt.NDArray[np.intp]:
    """Return for each image the class whose weights it makes the smallest angle with.

    Parameters
    ----------
    trainer : Trainer
        With a loss that has a row of weights for each class, such as A-Softmax. Its net is left in its test phase.
    dataset : Dataset
        Of images of the net's size.
    view : View
        How images are read; an augmentation is not wanted here.

    Returns
    -------
    array of int (count,)

    Raises
    ------
    InvalidArgumentError
        A loss without class weights.
    ImageError
        An image cannot be read.
    """
    if trainer.loss is None or trainer.embedding is None or not trainer.loss.params:
        raise InvalidArgumentError("only a loss with class weights tells classes")
    net, backend = trainer.net, trainer.net.backend
    weights = _unit(backend.numpy(trainer.loss.params[0].data))
    net.train(False)
    found: list[npt.NDArray[np.intp]] = []
    unused = np.random.default_rng(0)
    for start in range(0, len(dataset.items), _BATCH):
        images = np.stack([view.read(item, unused) for item in dataset.items[start : start + _BATCH]])
        inputs = {trainer.feed.data: backend.asarray(trainer.feed.pixels(images))}
        blobs = net.forward(inputs, keep=[trainer.embedding], learn=False).blobs
        rows = _unit(backend.numpy(blobs[trainer.embedding]).reshape(len(images), -1))
        found.append(np.asarray((rows @ weights.T).argmax(axis=1), dtype=np.intp))
    return np.concatenate(found)


def _unit(rows: Any) -> npt.NDArray[np.float64]:
    table = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(lengths > 0, lengths, 1.0))
