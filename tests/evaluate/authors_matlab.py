"""The steps of the SphereFace authors' evaluation, one after the other in float64, as their MATLAB script orders them.

Written for these tests from the script's behaviour: columns are pairs, flags are 1 and -1, folds count from 1.
"""

from __future__ import annotations

import numpy as np


def accuracy(scores, flags, threshold):
    hits = 0
    for score, flag in zip(scores, flags, strict=True):
        hits += (flag == 1 and score > threshold) or (flag != 1 and score < threshold)
    return hits / len(scores)


def threshold(scores, flags, steps=10000):
    tried = [step / steps for step in range(-steps, steps + 1)]
    genuine, impostor = scores[flags == 1], scores[flags != 1]
    rates = np.array([((genuine > t).sum() + (impostor < t).sum()) / len(scores) for t in tried])
    return np.mean([t for t, rate in zip(tried, rates, strict=True) if rate == rates.max()])


def evaluate(left, right, flags, folds):
    """Accuracies, thresholds and each fold's own scores; `left` and `right` are (D, N)."""
    accuracies, thresholds, scores_of = [], [], np.empty(len(flags))
    for fold in sorted(set(folds.tolist())):
        validation, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        mu = np.concatenate([left[:, validation], right[:, validation]], axis=1).mean(axis=1, keepdims=True)
        x, y = left - mu, right - mu
        x = x / np.sqrt((x**2).sum(axis=0))
        y = y / np.sqrt((y**2).sum(axis=0))
        scores = (x * y).sum(axis=0)
        chosen = threshold(scores[validation], flags[validation])
        thresholds.append(chosen)
        accuracies.append(accuracy(scores[test], flags[test], chosen))
        scores_of[test] = scores[test]
    return np.array(accuracies), np.array(thresholds), scores_of
