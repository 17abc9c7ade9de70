"""Features without what all faces share: the mean and the directions between groups, taken out of the last layer.

Features of an embedder have a common part: a mean, and, of each group of people (children most of all), a direction of
its own. Two strangers of one group share it, so they look alike, and false matches are many within the group. The last
layer is linear: ``features - mean``, less their projection on the groups' directions, is the same layer with other
numbers, at no cost when it runs. The mean over a training set is what the SphereFace authors' evaluation takes off as
well (wy1iu/sphereface, test/code/evaluation.m); the directions between groups' means are those of Fisher's discriminant
analysis without its whitening.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError
from spherecv.train.layers.dense import InnerProduct
from spherecv.train.net import Net
from spherecv.train.recipes import last_layer

Floats = npt.NDArray[np.floating[Any]]


def group_directions(features: Floats, groups: npt.NDArray[np.integer[Any]], count: int) -> npt.NDArray[np.float64]:
    """Return the directions along which the means of groups differ most.

    Parameters
    ----------
    features : ndarray (images, width)
    groups : ndarray of int (images,)
        Negative: in none.
    count : int
        How many directions, fewer than there are groups.

    Returns
    -------
    ndarray of float64 (count, width)
        Orthonormal rows.

    Raises
    ------
    InvalidArgumentError
        The groups are not one for each image, or too few.
    """
    if groups.shape != (len(features),):
        raise InvalidArgumentError(f"groups must have shape ({len(features)},), but got {groups.shape}")
    names = np.unique(groups[groups >= 0])
    if not 0 <= count < max(1, len(names)):
        raise InvalidArgumentError(f"{len(names)} groups differ in fewer than {len(names)} directions, not {count}")
    if not count:
        return np.zeros((0, features.shape[1]))
    means = np.stack([features[groups == name].mean(axis=0, dtype=np.float64) for name in names])
    return np.asarray(np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][:count])


def centre(
    net: Net, features: Floats, groups: npt.NDArray[np.integer[Any]] | None = None, *, directions: int = 1
) -> None:
    """Take the mean of features, and the directions between groups, out of a net's last layer.

    Parameters
    ----------
    net : Net
        Its last layer is an inner product with a bias; its numbers are changed.
    features : ndarray (images, width)
        What the net gives for a training set as it is; those of mirror images beside them where both are used.
    groups : ndarray of int (images,), optional
        The group of each image; negative: in none.
    directions : int
        How many directions to take out where groups are given.

    Raises
    ------
    InvalidArgumentError
        The last layer is of another kind or has no bias, or arrays do not fit together.
    """
    layer = last_layer(net)
    if not isinstance(layer, InnerProduct) or layer.bias is None:
        raise InvalidArgumentError(
            f"the last layer, {layer.name!r}, is no InnerProduct with a bias: it cannot be centred"
        )
    weight, bias = (net.backend.numpy(param.data).astype(np.float64) for param in (layer.weight, layer.bias))
    if features.ndim != 2 or features.shape[1] != bias.size:
        raise InvalidArgumentError(f"features must have shape (images, {bias.size}), but got {features.shape}")
    taken = np.zeros((0, bias.size)) if groups is None else group_directions(features, groups, directions)
    keep = np.eye(bias.size) - taken.T @ taken
    layer.weight.data = net.backend.asarray(keep @ weight)
    layer.bias.data = net.backend.asarray(keep @ (bias - features.mean(axis=0, dtype=np.float64)))
