"""Data set preparation: aligned crops in the same tree, a table of the faces found, lists for training."""

from spherecv.dataset.crops import NO_FACE_POLICIES, NoFacePolicy, center_crop
from spherecv.dataset.lists import PRESETS, excluded_identities, write_training_list
from spherecv.dataset.prepare import AlignSummary, align_dataset

__all__ = [
    "NO_FACE_POLICIES",
    "PRESETS",
    "AlignSummary",
    "NoFacePolicy",
    "align_dataset",
    "center_crop",
    "excluded_identities",
    "write_training_list",
]
