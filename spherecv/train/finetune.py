"""`spherecv train finetune`: a trained net goes on learning from a user's own faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spherecv.caffe.reader import Source
from spherecv.train.backend import open_backend
from spherecv.train.data import Augmentation, BalancedOrder, Dataset, Loader, Order, ShuffledOrder, View
from spherecv.train.log import Log
from spherecv.train.losses import LambdaSchedule
from spherecv.train.net import Net, input_shapes
from spherecv.train.recipes import deployed, freeze, make_loss
from spherecv.train.solver import SolverSettings
from spherecv.train.trainer import Feed, Pixels, Trainer
from spherecv.train.weights import LoadReport, load_weights


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning that is ready to start.

    Attributes
    ----------
    trainer : Trainer
        ``trainer.run()`` trains; `recipes.save` writes ``trainer.net`` for use.
    weights : LoadReport or None
        What was taken from the caffemodel and what was not.
    """

    trainer: Trainer
    weights: LoadReport | None


@contextmanager
def open_finetuning(
    prototxt: Source,
    caffemodel: Source | None,
    dataset: Dataset,
    settings: SolverSettings,
    *,
    loss: str = "a-softmax",
    margin: int = 4,
    schedule: LambdaSchedule | None = None,
    batch_size: int = 32,
    pictures: int = 4,
    frozen: Sequence[str] = (),
    augmentation: Augmentation | None = None,
    pixels: Pixels | None = None,
    resize: bool = False,
    resume: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    workers: int = 1,
    skip_limit: int = 100,
    log: Log | None = None,
) -> Iterator[FineTuning]:
    """Make ready to train a net on the identities of a data set.

    Parameters
    ----------
    prototxt : path or bytes
        The net, of use or of training; its loss is replaced by `loss`.
    caffemodel : path or bytes, optional
        Its weights; without, the net starts from nothing. What does not fit is left out and listed.
    dataset : Dataset
        Aligned faces of the net's size, with identities.
    settings : SolverSettings
    loss : str
        See `recipes.LOSSES`.
    margin, schedule
        Of A-Softmax. Lambda falls from 1000 to 5 over the first half of the iterations by default.
    batch_size : int
    pictures : int
        K of the batches that triplets need; P is ``batch_size // K``.
    frozen : sequence of str
        Layers that stay as they are.
    augmentation : Augmentation, optional
        The mirror by default.
    pixels : Pixels, optional
        SphereFace's by default: (pixel - 127.5) / 128.
    resize : bool
        Scale pictures to the net's size, where they are not aligned to it.
    resume, device, threads, workers, skip_limit, log
        As for `open_run`.
    """
    definition, shape, embedding = deployed(prototxt)
    backend = open_backend(device, threads=threads)
    _, channels, height, width = shape
    (data,) = input_shapes(definition)
    net = Net(definition, {data: (batch_size, *shape[1:])}, backend, seed=settings.random_seed)
    report = None if caffemodel is None else load_weights(net, caffemodel, partial=True)
    freeze(net, frozen)
    schedule = schedule or LambdaSchedule(gamma=max(0.12, 400.0 / max(1, settings.max_iter)))
    order: Order
    if loss == "triplet":
        order = BalancedOrder(
            dataset.check().labels(),
            identities=batch_size // pictures,
            pictures=pictures,
            seed=settings.random_seed,
        )
    else:
        order = ShuffledOrder(len(dataset.check().items), batch_size, seed=settings.random_seed)
    view = View(
        height,
        width,
        resize=(height, width) if resize else (0, 0),
        colour=channels == 3,
        augmentation=augmentation or Augmentation(mirror=True),
    )
    objective = make_loss(loss, dataset.classes, margin=margin, schedule=schedule)
    feed = Feed(pixels or Pixels(), data=data)
    with Loader(dataset, order, view, workers=workers, seed=settings.random_seed, limit=skip_limit) as loader:
        trainer = Trainer(net, settings, loader, loss=objective, embedding=embedding, feed=feed, log=log)
        if resume is not None:
            trainer.resume(resume)
        yield FineTuning(trainer, report)
