# ruff: noqa: D102 - these methods are documented where their interface is
"""In which order images come: a function of the seed and the batch's number, so resuming needs nothing else."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError

Indices = npt.NDArray[np.int64]


class Order(Protocol):
    """Which images make up a batch."""

    batch_size: int

    def batch(self, number: int) -> Indices:
        """Return the indices of batch `number`, counted from 0; the same number always gives the same."""


class SequentialOrder:
    """As in the list, over and over; a batch may cross the end."""

    def __init__(self, count: int, batch_size: int) -> None:
        _check(count, batch_size)
        self.count, self.batch_size = count, batch_size

    def batch(self, number: int) -> Indices:
        return (number * self.batch_size + np.arange(self.batch_size)) % self.count


class ShuffledOrder:
    """Every image once per epoch, in another order each time; a batch may cross the end, as in Caffe."""

    def __init__(self, count: int, batch_size: int, *, seed: int = 0) -> None:
        _check(count, batch_size)
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epochs: dict[int, Indices] = {}

    def batch(self, number: int) -> Indices:
        places = number * self.batch_size + np.arange(self.batch_size)
        epochs, within = places // self.count, places % self.count
        return np.array([self._epoch(int(e))[w] for e, w in zip(epochs, within, strict=True)], dtype=np.int64)

    def _epoch(self, number: int) -> Indices:
        if number not in self._epochs:
            for old in [epoch for epoch in self._epochs if epoch < number - 1]:
                del self._epochs[old]
            self._epochs[number] = np.random.default_rng((self.seed, number)).permutation(self.count)
        return self._epochs[number]


class BalancedOrder:
    """P identities with K images each in every batch, for losses on pairs and triplets.

    Parameters
    ----------
    labels : ndarray of int
    identities, pictures : int
        P and K. Identities with fewer than K images show some of them twice.
    seed : int
    """

    def __init__(self, labels: Indices, *, identities: int, pictures: int, seed: int = 0) -> None:
        if identities < 2 or pictures < 2:
            raise InvalidArgumentError(f"a balanced batch needs P, K of at least 2, but got {identities}, {pictures}")
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._members = [places for places in members if len(places) >= 2]
        if len(self._members) < identities:
            raise InvalidArgumentError(
                f"{identities} identities with two images or more are wanted, but there are {len(self._members)}"
            )
        self.identities, self.pictures, self.seed = identities, pictures, seed
        self.batch_size = identities * pictures

    def batch(self, number: int) -> Indices:
        rng = np.random.default_rng((self.seed, number))
        chosen = rng.choice(len(self._members), self.identities, replace=False)
        picked = [self._pick(self._members[place], rng) for place in chosen]
        return np.concatenate(picked)

    def _pick(self, members: Indices, rng: np.random.Generator) -> Indices:
        if len(members) >= self.pictures:
            return rng.choice(members, self.pictures, replace=False)
        again = rng.choice(members, self.pictures - len(members), replace=True)
        return np.concatenate([members, again])


def _check(count: int, batch_size: int) -> None:
    if count < 1 or batch_size < 1:
        raise InvalidArgumentError(f"an order needs images and a batch size, but got {count} and {batch_size}")
