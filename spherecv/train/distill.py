"""`spherecv train distill`: a small net learns to embed as a large one does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.caffe.reader import Source
from spherecv.errors import InvalidArgumentError
from spherecv.files import read_toml
from spherecv.train.data import Augmentation, Batch, Dataset, Loader, ShuffledOrder, View, combine, open_mixtures
from spherecv.train.log import Log
from spherecv.train.losses import EmbeddingRegression
from spherecv.train.net import Net, input_shapes
from spherecv.train.parallel import group_of_environment
from spherecv.train.policies import Policy
from spherecv.train.recipes import deployed
from spherecv.train.resources import Resources, taken
from spherecv.train.solver import SolverSettings
from spherecv.train.teacher import Teacher, TeacherRecipe, centre, check_crops, targets
from spherecv.train.trainer import Feed, Pixels, Trainer
from spherecv.train.weights import load_weights


@dataclass(frozen=True)
class DistillRecipe:
    """Everything a distillation depends on, so that one file and one command repeat it.

    Attributes
    ----------
    epochs : float or tuple of float
        Several: the rate rises and falls once for each (warm restarts).
    batch_size : int
        Images per iteration, of all processes together.
    base_lr, weight_decay, momentum : float
    solver : {"Adam", "SGD", "Nesterov"}
    warmup : float
        Share of the (first) cycle's iterations over which the rate rises, before it falls along half a cosine.
    clip_gradients : float
    same_view : bool
        True: the teacher embeds the very image the student sees (function matching), which costs the teacher's time
        in every step. False: it embeds each image once, averaged with its mirror image.
    mixtures : int
        Mixtures of two faces each to add to the images.
    seed : int
    augmentation : Augmentation
    teacher : TeacherRecipe
    mean : tuple of float
    scale : float
        The student's pixels: (pixel - mean) * scale.
    """

    epochs: float | tuple[float, ...] = 10
    batch_size: int = 64
    base_lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    solver: str = "Adam"
    warmup: float = 0.1
    clip_gradients: float = -1.0
    same_view: bool = False
    mixtures: int = 0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(mirror=True))
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    mean: tuple[float, ...] = (127.5,)
    scale: float = 1.0 / 128.0

    @classmethod
    def from_toml(cls, path: str | Path) -> DistillRecipe:
        """Read a recipe: the attributes above, and tables [augmentation] and [teacher]."""
        return cls.from_dict(read_toml(path, InvalidArgumentError, "recipe"))

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> DistillRecipe:
        """Return the recipe of a table of settings; a name that is none of ours is an error."""
        known = [entry.name for entry in fields(cls)]
        unknown = [name for name in table if name not in known]
        if unknown:
            raise InvalidArgumentError(f"unknown setting {unknown[0]!r}: known are {', '.join(known)}")
        table = dict(table)
        if "augmentation" in table:
            table["augmentation"] = Augmentation.from_dict(table["augmentation"])
        if "teacher" in table:
            inner: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in table["teacher"].items()
            }
            wrong = [name for name in inner if name not in TeacherRecipe.__dataclass_fields__]
            if wrong:
                raise InvalidArgumentError(f"unknown setting of the teacher: {wrong[0]!r}")
            table["teacher"] = TeacherRecipe(**inner)
        if isinstance(table.get("epochs"), list):
            table["epochs"] = tuple(table["epochs"])
        if "mean" in table:
            mean = table["mean"]
            table["mean"] = tuple(mean) if isinstance(mean, list) else (float(mean),)
        return cls(**table)

    def solver_settings(self, images: int, **changes: Any) -> SolverSettings:
        """Return the solver for a data set of so many images."""
        cycles = self.epochs if isinstance(self.epochs, tuple) else (self.epochs,)
        lengths = [max(1, math.ceil(epochs * images / self.batch_size)) for epochs in cycles]
        *restarts, iterations = accumulate(lengths)
        warmup = int(self.warmup * lengths[0])
        policy = Policy("cosine", self.base_lr, max_iter=iterations, warmup=warmup, restarts=restarts)
        return SolverSettings(
            kind=self.solver,
            policy=policy,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            clip_gradients=self.clip_gradients,
            max_iter=iterations,
            average_loss=20,
            random_seed=self.seed,
        ).replaced(**changes)


def with_mixtures(
    dataset: Dataset,
    recipe: DistillRecipe,
    folder: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return a data set with the mixtures that a recipe asks for, which are kept in a folder."""
    if not recipe.mixtures:
        return dataset
    size = {"height": recipe.teacher.height, "width": recipe.teacher.width}
    mixed = open_mixtures(dataset, recipe.mixtures, folder, **size, seed=recipe.seed, progress=progress)
    return combine([dataset, mixed])


def cached_targets(
    teacher: Teacher,
    dataset: Dataset,
    recipe: DistillRecipe,
    cache: str | Path | None,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the teacher's embeddings of a data set as `open_distillation` uses them: (items, width)."""
    plain = View(teacher.recipe.height, teacher.recipe.width)
    return targets(teacher, dataset, plain, cache, batch_size=recipe.batch_size, progress=progress)


@contextmanager
def open_distillation(
    teacher: Teacher,
    dataset: Dataset,
    student: Source,
    recipe: DistillRecipe,
    *,
    weights: Source | None = None,
    cache: str | Path | None = None,
    resume: str | Path | None = None,
    log: Log | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Iterator[Trainer]:
    """Make ready to distil a teacher into a student.

    Parameters
    ----------
    teacher : Teacher
    dataset : Dataset
        Faces aligned to the teacher's crop; the student sees its middle (112x96 of 112x112). Labels are not used.
    student : path or bytes
        The student's prototxt.
    recipe : DistillRecipe
    weights : path or bytes, optional
        A caffemodel the student starts from.
    cache : path, optional
        Where the teacher's embeddings are kept.
    resume, log
        As for `open_run`.
    progress : callable, optional
        Called while the teacher embeds the data set.
    **settings
        `Resources`, and settings of the solver, ``snapshot`` and ``snapshot_prefix`` among them.

    Raises
    ------
    InvalidArgumentError
        The batch cannot be shared equally by the processes, among others.
    """
    definition, shape, embedding = deployed(student)
    _, _, height, width = shape
    check_crops(teacher, dataset, (height, width))
    whole = View(teacher.recipe.height, teacher.recipe.width, augmentation=recipe.augmentation)
    resources = taken(Resources, settings)
    backend = resources.open_backend()
    solving = recipe.solver_settings(len(dataset.items), **settings)
    group = group_of_environment(backend)
    share, rest = divmod(recipe.batch_size, group.size)
    if rest or not share:
        raise InvalidArgumentError(f"{group.size} processes cannot share batches of {recipe.batch_size} equally")
    (data,) = input_shapes(definition)
    net = Net(definition, {data: (share, *shape[1:])}, backend, seed=recipe.seed)
    if weights is not None:
        load_weights(net, weights, partial=True)
    if recipe.same_view:
        width_of_teacher = teacher.embed(np.zeros((1, whole.height, whole.width, 3), np.uint8)).shape[1]

        def target(batch: Batch) -> Any:
            return teacher.embed(batch.images)
    else:
        stored = cached_targets(teacher, dataset, recipe, cache, progress)
        width_of_teacher = stored.shape[1]

        def target(batch: Batch) -> Any:
            return stored[batch.indices]

    feed = Feed(
        Pixels(recipe.mean, recipe.scale),
        data=data,
        target=target,
        crop=lambda images: centre(images, height, width),
    )
    order = ShuffledOrder(len(dataset.items), share, seed=recipe.seed)
    place = {"rank": group.rank, "ranks": group.size, "workers": resources.workers, "limit": resources.skip_limit}
    with Loader(dataset, order, whole, seed=recipe.seed, **place) as loader:
        loss = EmbeddingRegression(width_of_teacher)
        trainer = Trainer(net, solving, loader, loss=loss, embedding=embedding, feed=feed, log=log, group=group)
        if resume is not None:
            trainer.resume(resume)
        try:
            yield trainer
        finally:
            group.close()
