"""Images brought to a net's size before a training: as they are, cut, scaled, or their faces found and aligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spherecv.cli.counting import counted
from spherecv.errors import ImageError, InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.train.data import Dataset
    from spherecv.train.trainer import Pixels
    from spherecv.zoo import Recipe

_LOOKED_AT = 20
_WIDER = 16  # columns by which crops of the 112x112 template exceed those of the 112x96 one
_PHOTO = 1.5  # how much larger than the net's, or how much another shape, makes an image an image


@dataclass(frozen=True)
class Fit:
    """How images come to the net's size.

    Attributes
    ----------
    resize : bool
        They are scaled.
    aligned_from : tuple of Path
        The folders whose faces were cut out; empty where none were.
    notes : tuple of str
        What the user is to know.
    """

    resize: bool = False
    aligned_from: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def fitted(
    dataset: Dataset, folders: Sequence[Path], recipe: Recipe, out: Path, *, align: bool | None, resize: bool
) -> tuple[Dataset, Fit]:
    """Return a data set whose images suit a recipe, and how they came to.

    Parameters
    ----------
    dataset : Dataset
    folders : sequence of Path
        What it was opened from.
    recipe : Recipe
    out : Path
        Where aligned faces go, in a folder `aligned`.
    align : bool, optional
        By default, images that look like images are aligned.
    resize : bool
        Scale all, whatever their size.
    """
    if align and resize:
        raise InvalidArgumentError("--align and --resize are two ways to the net's size: choose one")
    height, width = recipe.size
    sizes = _sizes(dataset)
    (rows, columns), _ = sizes.most_common(1)[0]
    alike = all(h == height and 0 <= w - width <= _WIDER for h, w in sizes)
    shape = (columns / rows) / (width / height)
    photos = max(rows / height, columns / width) > _PHOTO or not 1 / _PHOTO < shape < _PHOTO
    if align or (align is None and not resize and not alike and photos):
        return _aligned(dataset, folders, recipe, out)
    if resize or not alike:
        note = f"images are {columns}x{rows}, and the net takes {width}x{height}: scaled"
        better = "; if they are more than the face, --align finds the faces and cuts them out as `verify` does"
        return dataset, Fit(resize=True, notes=() if resize else (note + better,))
    return dataset, Fit()


def _sizes(dataset: Dataset) -> Counter[tuple[int, int]]:
    """Return how often each (height, width) occurs among some images from all over the data set."""
    from spherecv.images import load_image
    from spherecv.train.data.reading import bytes_of

    found: Counter[tuple[int, int]] = Counter()
    step = max(1, len(dataset.items) // _LOOKED_AT)
    failure: ImageError | None = None
    for item in dataset.items[::step][:_LOOKED_AT]:
        try:
            found[load_image(bytes_of(item) if item.size else item.path).shape[:2]] += 1
        except ImageError as error:
            failure = error
    if not found:
        raise failure or ImageError("the data set has no image")
    return found


def _aligned(dataset: Dataset, folders: Sequence[Path], recipe: Recipe, out: Path) -> tuple[Dataset, Fit]:
    from spherecv.dataset import align_dataset
    from spherecv.train.data import open_dataset

    if not all(folder.is_dir() for folder in folders) or any(item.size for item in dataset.items):
        raise InvalidArgumentError("--align takes folders PERSON/IMAGE: unpack the shards, or use `spherecv align`")
    goals = [out / "aligned" / (folder.resolve().name or str(place)) for place, folder in enumerate(folders)]
    if len(set(goals)) < len(goals):
        goals = [out / "aligned" / str(place) for place in range(len(folders))]
    missed = 0
    for folder, goal in zip(folders, goals, strict=True):
        with counted("aligning") as progress:
            summary = align_dataset(
                folder, goal, recipe=recipe, preset=None, face="largest", image_format="png", progress=progress
            )
        missed += summary.images - summary.counts.get("ok", 0)
        if not summary.counts.get("ok"):
            raise InvalidArgumentError(f"no face was found in the images of {folder}: pass --resize if they are crops")
    note = f"faces found, aligned and kept in {out / 'aligned'}"
    if missed:
        note += f"; {missed} of {len(dataset.items)} images without a face are left out"
    return open_dataset(*goals).check(), Fit(aligned_from=tuple(folders), notes=(note,))


def pixels_of(recipe: Recipe) -> Pixels:
    """Return how a recipe turns uint8 pixels into the net's numbers."""
    from spherecv.train.finetune import RedFirst
    from spherecv.train.trainer import Pixels

    if len(set(recipe.scale)) > 1:
        raise InvalidArgumentError(f"scale must be one number for all channels to fine-tune, but is {recipe.scale}")
    if not isinstance(recipe.mean, tuple):
        raise InvalidArgumentError("mean must be a number for each channel to fine-tune, but is an image")
    kind = RedFirst if recipe.color == "RGB" else Pixels
    return kind(recipe.mean, recipe.scale[0])
