"""Sets of several groups: Racial Faces in the Wild."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherecv.errors import DatasetError
from spherecv.evaluate.cropsets import FolderSet

RFW_GROUPS = ("African", "Asian", "Caucasian", "Indian")


def rfw_sets(root: str | os.PathLike[str]) -> list[FolderSet]:
    """Open the four groups of RFW (Wang et al. 2019).

    Parameters
    ----------
    root : path
        Holds `data/GROUP/PERSON/PERSON_0001.jpg` and `txts/GROUP/GROUP_pairs.txt`, the pairs in LFW's form.

    Returns
    -------
    list of FolderSet

    Raises
    ------
    DatasetError
        A list is missing or broken, or none of its images is there.
    """
    folder = Path(root)
    missing = [group for group in RFW_GROUPS if not (folder / "txts" / group / f"{group}_pairs.txt").is_file()]
    if missing:
        raise DatasetError(f"{folder} lacks txts/{missing[0]}/{missing[0]}_pairs.txt: it is not RFW's folder")
    sets = []
    for group in RFW_GROUPS:
        found = FolderSet(folder / "data" / group, folder / "txts" / group / f"{group}_pairs.txt")
        found.name = group
        sets.append(found)
    return sets


def spread(accuracies: Sequence[float]) -> dict[str, float | None]:
    """How far groups lie apart, as RFW's papers print it.

    Parameters
    ----------
    accuracies : sequence of float
        Of the groups, 0..1.

    Returns
    -------
    dict
        `mean`; `deviation` over the groups (divided by their number); `error_ratio`, the largest error over the
        smallest, None where the smallest is 0.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    errors = 1.0 - values
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "error_ratio": float(errors.max() / errors.min()) if errors.min() > 0 else None,
    }
