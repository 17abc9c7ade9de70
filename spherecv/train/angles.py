"""What margins are for: the angles within and between identities, and how well pairs are told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError


@dataclass(frozen=True)
class Angles:
    """Mean angles in degrees.

    Attributes
    ----------
    within : float
        Between embeddings of one identity.
    between : float
        Between embeddings of different identities.
    """

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """Between over within: the higher, the better the identities lie apart."""
        return self.between / self.within if self.within else float("inf")


def measure_angles(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Angles:
    """Return the mean angles over all pairs.

    Parameters
    ----------
    embeddings : array (count, width)
    labels : array of int (count,)
    """
    cosine, same, other = _pairs(embeddings, labels)
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return Angles(float(degrees[same].mean()), float(degrees[other].mean()))


def pair_accuracy(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the share of pairs told apart by cosine at the best threshold, both kinds of pairs weighing the same.

    Parameters
    ----------
    embeddings : array (count, width)
    labels : array of int (count,)
    """
    cosine, same, other = _pairs(embeddings, labels)
    genuine, impostor = np.sort(cosine[same]), np.sort(cosine[other])
    thresholds = np.concatenate([genuine, impostor])
    accepted = 1 - np.searchsorted(genuine, thresholds, side="left") / len(genuine)
    rejected = np.searchsorted(impostor, thresholds, side="left") / len(impostor)
    return float(((accepted + rejected) / 2).max())


def pair_distances(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the cosine distances of all genuine and of all impostor pairs, each sorted.

    Parameters
    ----------
    embeddings : array (count, width)
    labels : array of int (count,)
    """
    cosine, same, other = _pairs(embeddings, labels)
    return np.sort(1.0 - cosine[same]), np.sort(1.0 - cosine[other])


def _pairs(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], ...]:
    rows, names = np.asarray(embeddings, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or names.shape != rows.shape[:1]:
        raise InvalidArgumentError(f"embeddings (count, width) and as many labels, but got {rows.shape}, {names.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1)
    upper = np.triu(np.ones((len(rows), len(rows)), dtype=bool), k=1)
    same = names[:, None] == names[None, :]
    if not (same & upper).any() or not (~same & upper).any():
        raise InvalidArgumentError("angles need two identities, one of them with two embeddings")
    return unit @ unit.T, same & upper, ~same & upper
