"""Films made of still photographs: people who walk, come nearer, turn, blur and cross, with the truth of each frame.

No test itself: the tests of `spherecv.video` and `benchmarks/video.py` make their films here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Path2 = Callable[[float], tuple[float, float, float, float]]
"""Time 0..1 -> x and y of the face's middle in pixels, its size (1: as in the still), its turn in degrees."""

_FACE = np.array((125.0, 128.0))
"""Middle of the face in an LFW still of 250x250."""
_HALF = (52.0, 62.0)
"""Half the width and height of a face in such a still."""


@dataclass(frozen=True)
class Actor:
    """Somebody who moves; the still changes along the way where there are several."""

    name: str
    stills: Sequence[Image]
    path: Path2

    def still(self, t: float) -> Image:
        return self.stills[min(int(t * len(self.stills)), len(self.stills) - 1)]


@dataclass(frozen=True)
class Scene:
    """A film: iterate over its frames; `truth(i)` says who is where in frame i."""

    actors: Sequence[Actor]
    length: int
    size: tuple[int, int] = (480, 640)
    noise: float = 4.0
    blur: Callable[[float], float] = lambda t: 0.0
    shake: float = 0.0
    seed: int = 0
    name: str = ""
    _offsets: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        object.__setattr__(self, "_offsets", generator.normal(0, self.shake, (self.length, 2)))

    def __iter__(self) -> Iterator[Image]:
        generator = np.random.default_rng(self.seed)
        height, width = self.size
        rough = generator.integers(60, 190, (height // 40, width // 40, 3)).astype(np.uint8)
        wall = cv2.resize(rough, (width + 80, height + 80), interpolation=cv2.INTER_CUBIC)
        grain = generator.normal(0, self.noise, (7, height, width, 3)).astype(np.float32)
        for number in range(self.length):
            t = self.time(number)
            dx, dy = self._offsets[number]
            left, top = (int(np.clip(40 - value, 0, 80)) for value in (dx, dy))
            frame = wall[top : top + height, left : left + width].astype(np.float32)
            for actor in self.actors:
                _paste(frame, actor.still(t), *self._place(actor, number))
            if self.blur(t) > 0.3:
                frame = cv2.GaussianBlur(frame, (0, 0), self.blur(t))
            yield np.clip(frame + grain[number % 7], 0, 255).astype(np.uint8)

    def time(self, number: int) -> float:
        return number / max(1, self.length - 1)

    def truth(self, number: int) -> dict[str, NDArray[np.float64]]:
        """Box of each face, by name, of those whose middle is in the frame and who are not hidden behind another."""
        boxes: dict[str, NDArray[np.float64]] = {}
        nearer: list[NDArray[np.float64]] = []
        for actor in reversed(self.actors):
            x, y, size, _ = self._place(actor, number)
            half = np.array(_HALF) * size
            box = np.hstack([(x, y) - half, (x, y) + half])
            if 0 <= x < self.size[1] and 0 <= y < self.size[0] and not any(_hidden(box, other) for other in nearer):
                boxes[actor.name] = box
            nearer.append(box)
        return boxes

    def _place(self, actor: Actor, number: int) -> tuple[float, float, float, float]:
        x, y, size, turn = actor.path(self.time(number))
        return x + self._offsets[number, 0], y + self._offsets[number, 1], size, turn


def _hidden(box: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether a third of a face and more is behind another."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return bool(np.prod(np.clip(sides, 0, None)) > np.prod(box[2:] - box[:2]) / 3)


def _paste(frame: NDArray[np.float32], still: Image, x: float, y: float, size: float, turn: float) -> None:
    """Blend the head of a still in, within a soft ellipse, over whoever is there."""
    height, width = frame.shape[:2]
    move = cv2.getRotationMatrix2D((float(_FACE[0]), float(_FACE[1])), turn, size)
    move[:, 2] += np.array((x, y)) - _FACE
    reach = 130 * size
    x1, y1 = max(0, int(x - reach)), max(0, int(y - reach))
    x2, y2 = min(width, int(x + reach)), min(height, int(y + reach))
    if x2 <= x1 or y2 <= y1:
        return
    move[:, 2] -= (x1, y1)
    head = cv2.warpAffine(still, move, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(_MASK, move, (x2 - x1, y2 - y1))[:, :, None]
    part = frame[y1:y2, x1:x2]
    part += mask * (head.astype(np.float32) - part)


def _soft_ellipse() -> NDArray[np.float32]:
    mask = np.zeros((250, 250), np.float32)
    cv2.ellipse(mask, (125, 122), (78, 104), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 4), np.float32)


_MASK = _soft_ellipse()


def line(start: tuple[float, float], end: tuple[float, float], sizes: tuple[float, float] = (1.0, 1.0)) -> Path2:
    """Walk straight, growing or shrinking on the way."""

    def at(t: float) -> tuple[float, float, float, float]:
        x, y = ((1 - t) * a + t * b for a, b in zip(start, end, strict=True))
        return x, y, (1 - t) * sizes[0] + t * sizes[1], 0.0

    return at


def sway(
    middle: tuple[float, float], reach: float, *, size: float = 1.0, times: float = 2.0, turn: float = 8.0
) -> Path2:
    """Stand and sway."""

    def at(t: float) -> tuple[float, float, float, float]:
        wave = np.sin(2 * np.pi * times * t)
        return middle[0] + reach * wave, middle[1] + reach / 3 * np.cos(4 * np.pi * times * t), size, turn * wave

    return at


def people_of(images: Path, least: int) -> dict[str, list[Path]]:
    """People of a folder PERSON/IMAGE with at least so many photographs, in a stable order."""
    folders = sorted(folder for folder in images.iterdir() if folder.is_dir())
    found = {folder.name: sorted(folder.iterdir()) for folder in folders}
    return {name: files for name, files in found.items() if len(files) >= least}


def read(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def crossing(a: Actor, b: Actor, length: int = 75, seed: int = 0, *, speed: float = 1.0) -> Scene:
    """Two people who pass in front of each other."""
    middle, reach = 320, 210 * speed
    first = Actor(a.name, a.stills, line((middle - reach, 235), (middle + reach, 245), (0.9, 0.9)))
    second = Actor(b.name, b.stills, line((middle + reach, 225), (middle - reach, 250), (1.0, 1.0)))
    return Scene((first, second), length, seed=seed, name="crossing")


def scenes(cast: Sequence[tuple[str, Sequence[Image]]], length: int = 75, seed: int = 0) -> Iterator[Scene]:
    """One film of each kind after the other, until the cast is used up: two people in each."""
    actors = iter(Actor(name, stills, sway((0, 0), 0)) for name, stills in cast)
    for number, (a, b) in enumerate(zip(actors, actors, strict=False)):
        place = seed + number
        kind = number % 6
        if kind in (0, 3):
            yield crossing(a, b, length, place, speed=1.0 if kind else 0.7)
        elif kind == 1:  # the camera pans: both move the same way, and one leaves
            one = Actor(a.name, a.stills, line((560, 220), (140, 220), (0.8, 0.9)))
            two = Actor(b.name, b.stills, line((330, 260), (-120, 260), (0.9, 1.0)))
            yield Scene((one, two), length, seed=place, name="pan")
        elif kind == 2:  # zoom
            one = Actor(a.name, a.stills, line((190, 200), (150, 240), (0.6, 1.3)))
            two = Actor(b.name, b.stills, line((420, 240), (470, 230), (1.2, 0.7)))
            yield Scene((one, two), length, seed=place, name="zoom")
        elif kind == 4:  # the focus is lost and found again
            one = Actor(a.name, a.stills, sway((190, 230), 40))
            two = Actor(b.name, b.stills, sway((450, 240), 50))
            yield Scene(
                (one, two), length, seed=place, name="blur", blur=lambda t: 3.2 * max(0.0, float(np.sin(3 * np.pi * t)))
            )
        else:  # by hand
            one = Actor(a.name, a.stills, sway((200, 230), 45))
            two = Actor(b.name, b.stills, line((620, 240), (380, 240), (0.9, 0.9)))
            yield Scene((one, two), length, seed=place, name="shake", shake=5.0)
