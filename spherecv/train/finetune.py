"""`spherecv train finetune`: a trained net goes on learning from a user's own faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.caffe.reader import Source
from spherecv.errors import InvalidArgumentError, NotEnoughDataError, TrainingError
from spherecv.train.data import Augmentation, BalancedOrder, Dataset, Loader, Order, ShuffledOrder, View
from spherecv.train.log import Log
from spherecv.train.losses import LambdaSchedule
from spherecv.train.net import Net, input_shapes
from spherecv.train.policies import Policy
from spherecv.train.recipes import deployed, freeze, last_layer, make_loss
from spherecv.train.rescale import Rescaling, balance_rates, rescale
from spherecv.train.resources import Resources, taken
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Feed, Pixels, Trainer
from spherecv.train.validation import Validation, embed, hold_out, read_images, validate
from spherecv.train.weights import LoadReport, load_weights

VARIED = Augmentation(mirror=True, shift=6, zoom=0.2, rotate=8, light=0.2)
"""How images are varied by default: few people are learned by heart without."""
CLIP = 5.0
"""The length at which gradients are cut by default; those of a trained net are shorter."""
_RATE, _RATE_FROM_NOTHING, _RATE_HEAD = 0.04, 0.01, 0.003
_EPOCHS, _FEWEST, _MOST = 8, 60, 4000
_LOOKS, _APART = 10, 200
_EARLY = 4
"""Looks while the rate is high, of a training's length: the net gets worse before it gets better."""
_LOOKED_AT, _FEWEST_LOOKED_AT = 1000, 4
"""Images and people that a look is content with."""
_PATIENCE = 5
NEARLY = 0.9
"""The share of the best separation so far from which on a later look at the people held out counts as the best."""
_SCALED_ON = 64
_IMPRINTED_ON = 20_000


class RedFirst(Pixels):
    """Pixels for a net that takes RGB; `mean` in that order."""

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (images, height, width, channels) as float32, red first."""
        return super().__call__(np.ascontiguousarray(images[..., ::-1]))


def plan(
    images: int,
    *,
    batch_size: int = 32,
    iterations: int | None = None,
    base_lr: float | None = None,
    head_only: bool = False,
    from_nothing: bool = False,
    **changes: Any,
) -> SolverSettings:
    """Return the solver that fits what is trained.

    Parameters
    ----------
    images : int
        In the data set.
    batch_size : int
    iterations : int, optional
        Eight times through the data by default, but 60 at least and 4,000 at most.
    base_lr : float, optional
        0.04 by default, 0.003 where only the last layer learns, 0.01 from nothing. It rises over the first tenth and
        falls along half a cosine.
    head_only, from_nothing : bool
    **changes
        Other settings of `SolverSettings`.
    """
    count = iterations or min(_MOST, max(_FEWEST, math.ceil(_EPOCHS * images / batch_size)))
    rate = base_lr or (_RATE_FROM_NOTHING if from_nothing else _RATE_HEAD if head_only else _RATE)
    policy = Policy("cosine", rate, max_iter=count, warmup=max(1, count // 10))
    settings = SolverSettings(
        policy=policy, momentum=0.9, weight_decay=5e-4, clip_gradients=CLIP, max_iter=count, average_loss=20
    )
    return settings.replaced(**changes)


def annealed(
    iterations: int, *, base: float | None = None, minimum: float | None = None, from_nothing: bool = False
) -> LambdaSchedule:
    """Return a lambda that falls from `base` to `minimum` over the first half of the iterations.

    Parameters
    ----------
    iterations : int
    base : float, optional
        20 by default: a trained net with imprinted class weights bears the margin at once. 1000 from nothing, as in
        SphereFace's own prototxt.
    minimum : float, optional
        5 by default.
    from_nothing : bool
    """
    least = 5.0 if minimum is None else minimum
    start = (1000.0 if from_nothing else 20.0) if base is None else base
    if not (0 <= least < math.inf and 0 <= start < math.inf):
        raise InvalidArgumentError(f"lambda must be at least 0, but base is {start} and the minimum {least}")
    gamma = max(0.0, start / max(least, 0.1) - 1.0) / max(1.0, iterations / 2)
    return LambdaSchedule(base=start, gamma=gamma, lambda_min=least)


@dataclass
class FineTuning:
    """A fine-tuning that is ready to start.

    Attributes
    ----------
    trainer : Trainer
        ``trainer.run()`` trains alone; `recipes.save` writes ``trainer.net`` for use.
    weights : LoadReport or None
        What was taken from the caffemodel and what was not.
    rescaling : Rescaling or None
        What was done to the lengths of the features.
    known, held : Dataset, and Dataset or None
        The people to learn, and those held out.
    before, best : Validation or None
        Of the people held out, by image and mirror image: before the first iteration and with the weights kept.
    best_iteration : int
    looks : list of (int, Validation)
        Every look at the people held out, with the iterations done: by the images alone, and of very many by a
        thousand or so. Weights that are the best by them and yet worse than before by `best` are given up.
    look, measure : callable or None
        Look at the people held out; measure them as `before` and `best` say.
    """

    trainer: Trainer
    weights: LoadReport | None
    known: Dataset
    rescaling: Rescaling | None = None
    held: Dataset | None = None
    before: Validation | None = None
    best: Validation | None = None
    best_iteration: int = 0
    looks: list[tuple[int, Validation]] = field(default_factory=list)
    look: Callable[[], Validation] | None = None
    measure: Callable[[], Validation] | None = None
    _best_weights: list[Any] = field(default_factory=list, repr=False)

    def run(self, *, on_best: Callable[[], None] | None = None) -> float:
        """Train, look at the people held out now and then, stop when they gain no more, and keep the best weights.

        Parameters
        ----------
        on_best : callable, optional
            Called whenever the net holds the best weights so far: the place to write them.

        Returns
        -------
        float
            The last smoothed loss.

        Raises
        ------
        TrainingError
            The loss exploded; the message says what mends it. The net holds the best weights before that.
        """
        # An explosion is told by its loss and its features; NumPy's own warnings of it would only come before.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._run(on_best or (lambda: None))

    def _run(self, save: Callable[[], None]) -> float:
        trainer = self.trainer
        if self.look is None or self.measure is None:
            try:
                loss = trainer.run()
            except TrainingError as error:
                raise TrainingError(self._advice(error)) from None
            save()
            return loss
        self.before = self.measure()
        self._note(save)
        first = self._best_weights
        end, since = trainer.settings.max_iter, 0
        try:
            while trainer.iteration < end and since < _PATIENCE:
                trainer.run(_until_look(trainer.iteration, end))
                gained = self._note(save)
                # While the rate is high the net gets worse before it gets better: that is no reason to stop.
                since = since + 1 if not gained and trainer.iteration > end // 2 else 0
        except TrainingError as error:
            self._restore()
            raise TrainingError(self._advice(error)) from None
        if trainer.settings.snapshot_after_train:
            trainer.snapshot()
        self._restore()
        self.best = self.measure()
        if self.best.separation < self.before.separation:
            self.best, self.best_iteration, self._best_weights = self.before, 0, first
            self._restore()
            save()
        return trainer.smoothed

    def _note(self, save: Callable[[], None]) -> bool:
        """Look, keep the weights where they are the best so far, and return whether they are."""
        assert self.look is not None  # noqa: S101 - `run` looks first
        found = self.look()
        self.looks.append((self.trainer.iteration, found))
        done = self.trainer.iteration
        # Of a few people a rate is a matter of single pairs, and the separation one of all of them. Of looks that are
        # nearly as good the latest counts: weights under a falling rate are the better ones for people not looked at.
        top = max(look.separation for _, look in self.looks)
        first = self.looks[0][1].separation
        gained = not self._best_weights or found.separation > max(first, NEARLY * top)
        if gained:
            self.best_iteration = done
            backend = self.trainer.net.backend
            self._best_weights = [np.array(backend.numpy(param.data)) for param in self.trainer.net.params]
            save()
        return gained

    def _restore(self) -> None:
        backend = self.trainer.net.backend
        for param, values in zip(self.trainer.net.params, self._best_weights, strict=True):
            param.data = backend.asarray(values)

    def _advice(self, error: TrainingError) -> str:
        settings = self.trainer.settings
        what = str(error).partition(":")[0]
        rate = settings.policy.base_lr
        mends = [f"a base_lr of {rate / 10:g} in place of {rate:g} (--base-lr {rate / 10:g})"]
        if not 0 < settings.clip_gradients <= CLIP:
            mends.append(f"gradients cut at {CLIP:g} (--clip-gradients {CLIP:g})")
        schedule = getattr(self.trainer.loss, "schedule", None)
        if schedule is not None:
            least = max(10.0, 2 * schedule.lambda_min)
            mends.append(f"a weaker margin (--lambda-min {least:g})")
        kept = f"the weights of iteration {self.best_iteration} stay" if self._best_weights else "no weights are kept"
        return f"{what}: the steps are too long for these weights; {', or '.join(mends)} mends it; {kept}"


@dataclass(frozen=True)
class Objective:
    """What a fine-tuning minimises.

    Attributes
    ----------
    loss : str
        See `recipes.LOSSES`.
    margin : int
        Of A-Softmax.
    schedule : LambdaSchedule or None
        Of A-Softmax; `annealed` gives it by default.
    pictures : int
        K of the batches that triplets need; P is ``batch_size // K``.
    """

    loss: str = "a-softmax"
    margin: int = 4
    schedule: LambdaSchedule | None = None
    pictures: int = 4


@dataclass(frozen=True)
class Sight:
    """How images reach the net.

    Attributes
    ----------
    augmentation : Augmentation
        The mirror by default.
    pixels : Pixels
        SphereFace's by default: (pixel - 127.5) / 128.
    resize : bool
        Scale images to the net's size, where they are not aligned to it.
    """

    augmentation: Augmentation = field(default_factory=lambda: Augmentation(mirror=True))
    pixels: Pixels = field(default_factory=Pixels)
    resize: bool = False


@dataclass(frozen=True)
class Course:
    """From where a training goes on, and where it is logged; see `open_run`."""

    resume: str | Path | None = None
    log: Log | None = None


@contextmanager
def open_finetuning(
    prototxt: Source,
    caffemodel: Source | None,
    dataset: Dataset,
    settings: SolverSettings | None = None,
    *,
    batch_size: int = 32,
    frozen: Sequence[str] = (),
    head_only: bool = False,
    validate_share: float = 0.0,
    **more: Any,
) -> Iterator[FineTuning]:
    """Make ready to train a net on the identities of a data set.

    With a caffemodel, the net is rescaled so that its features have the length that margins are made for (see
    `rescale`), every layer learns at one pace (`balance_rates`), and the class weights start from the mean features of
    their identities.

    Parameters
    ----------
    prototxt : path or bytes
        The net, of use or of training; its loss is replaced by `loss`.
    caffemodel : path or bytes, optional
        Its weights; without, the net starts from nothing. What does not fit is left out and listed.
    dataset : Dataset
        Aligned faces of the net's size, with identities.
    settings : SolverSettings, optional
        `plan` makes them by default.
    batch_size : int
    frozen : sequence of str
        Layers that stay as they are.
    head_only : bool
        Whether all layers stay but the last, which makes the features.
    validate_share : float
        Of the identities, held out of the training to choose the best weights by (`FineTuning.run`).
    **more
        The fields of `Objective` (``loss``, ``margin``, ``schedule``, ``pictures``), `Sight` (``augmentation``,
        ``pixels``, ``resize``), `Course` (``resume``, ``log``) and `Resources` (``device``, ``threads``, ...).
    """
    aim, sight = taken(Objective, more), taken(Sight, more)
    course, resources = taken(Course, more), taken(Resources, more)
    if more:
        raise InvalidArgumentError(f"a fine-tuning has no setting {', '.join(more)}")
    definition, shape, embedding = deployed(prototxt)
    backend = resources.open_backend()
    _, channels, height, width = shape
    (data,) = input_shapes(definition)
    known, held = hold_out(dataset.check(), validate_share, seed=0 if settings is None else settings.random_seed)
    if known.classes < 2:
        raise NotEnoughDataError("all images are of one person: a net learns to tell people apart, so give two or more")
    settings = settings or plan(
        len(known.items), batch_size=batch_size, head_only=head_only, from_nothing=caffemodel is None
    )
    seed = settings.random_seed
    net = Net(definition, {data: (batch_size, *shape[1:])}, backend, seed=seed)
    report = None if caffemodel is None else load_weights(net, caffemodel, partial=True)
    if head_only:
        frozen = [*frozen, *(layer.name for layer in net.layers if layer.params and layer is not last_layer(net))]
    freeze(net, frozen)
    order: Order
    if aim.loss == "triplet":
        people = batch_size // aim.pictures
        order = BalancedOrder(known.labels(), identities=people, pictures=aim.pictures, seed=seed)
    else:
        order = ShuffledOrder(len(known.items), batch_size, seed=seed)
    plain = View(height, width, resize=(height, width) if sight.resize else (0, 0), colour=channels == 3)
    view = View(**{**vars(plain), "augmentation": sight.augmentation})
    falling = annealed(settings.max_iter, from_nothing=caffemodel is None)
    objective = make_loss(aim.loss, known.classes, margin=aim.margin, schedule=aim.schedule or falling)
    feed = Feed(sight.pixels, data=data)
    rescaling = None
    if report is not None:
        images, _ = read_images(known, plain, most=_SCALED_ON, seed=seed)
        rescaling = rescale(net, embedding, {data: backend.asarray(feed.pixels(images))})
        balance_rates(net)
    with Loader(known, order, view, workers=resources.workers, seed=seed, limit=resources.skip_limit) as loader:
        trainer = Trainer(net, settings, loader, loss=objective, embedding=embedding, feed=feed, log=course.log)
        if report is not None and not report.differing and not report.missing:
            images, labels = read_images(known, plain, most=_IMPRINTED_ON, seed=seed)
            objective.imprint(embed(net, embedding, data, images, feed.pixels), labels)
        if course.resume is not None:
            trainer.resume(course.resume)
        tuning = FineTuning(trainer, report, known, rescaling, held)
        if held is not None:
            tuning.look, tuning.measure = _looking(trainer, embedding, held, plain)
        yield tuning


def _until_look(done: int, end: int) -> int:
    """Return how many iterations there are until the next look at the people held out."""
    early, late = max(1, end // _EARLY), max(1, min(_APART, end // _LOOKS))
    every = early if done + early <= end // 2 else late
    return min(every, end - done)


def _looking(
    trainer: Trainer, embedding: str, held: Dataset, view: View
) -> tuple[Callable[[], Validation], Callable[[], Validation]]:
    """Return what looks at the people held out and what measures them. Their images are read once."""
    images, labels = read_images(held, view)
    step = max(1, min(math.ceil(len(images) / _LOOKED_AT), held.classes // _FEWEST_LOOKED_AT))
    some = labels % step == 0  # whole people: of single images few pairs would be genuine

    def embedded(part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        rows = embed(trainer.net, embedding, trainer.feed.data, part, trainer.feed.pixels)
        if not np.isfinite(rows).all():
            raise TrainingError(f"the features are not numbers after iteration {trainer.iteration}")
        return rows

    def look() -> Validation:
        return validate(embedded(images[some]), labels[some])

    def measure() -> Validation:
        sides = [embedded(images), embedded(np.ascontiguousarray(images[:, :, ::-1]))]
        return validate(np.concatenate(sides, axis=1), labels)

    return look, measure
