"""Frames drawn with their tracks, names and distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spherecv.drawing import BOX, DIFFERENT, SAME, draw_faces
from spherecv.watch.evidence import Decision
from spherecv.watch.watcher import Seen

_COLORS = {"same": SAME, "different": DIFFERENT, "undecided": BOX}


def draw_seen(seen: Seen) -> NDArray[np.uint8]:
    """Draw the tracks of a frame: boxes, landmarks, numbers, names and distances.

    Parameters
    ----------
    seen : Seen
        With a frame.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        BGR; the frame itself is not touched. Green: who was asked about, red: somebody else, yellow: undecided.
    """
    if seen.tracked is None:
        raise ValueError("there is no frame to draw on")
    tracks = seen.tracked.tracks
    decisions = [seen.decisions.get(track.id) for track in tracks]
    drawn = draw_faces(
        seen.tracked.frame.image,
        [track.face for track in tracks],
        labels=[_label(track.id, decision) for track, decision in zip(tracks, decisions, strict=True)],
        colors=[BOX if decision is None else _COLORS[decision.state] for decision in decisions],
    )
    return np.ascontiguousarray(np.asarray(drawn)[:, :, ::-1])


def _label(number: int, decision: Decision | None) -> str:
    if decision is None:
        return f"{number}"
    who = {"same": decision.identity or "", "different": "unknown", "undecided": "?"}[decision.state]
    shown = "" if decision.distance is None else f"  {decision.distance:.2f}"
    return f"{number}  {who}{shown}"
