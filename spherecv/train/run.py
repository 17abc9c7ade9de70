"""`spherecv train run`: train as a solver prototxt says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.backend import open_backend
from spherecv.train.data import Augmentation, Loader
from spherecv.train.data.dataset import Location
from spherecv.train.imagedata import source_of
from spherecv.train.log import Log
from spherecv.train.net import Net, data_layers
from spherecv.train.parallel import group_of_environment
from spherecv.train.solver import SolverSettings, beside, net_path
from spherecv.train.trainer import Trainer
from spherecv.train.weights import LoadReport, load_weights


@dataclass(frozen=True)
class Run:
    """A run that is ready to start.

    Attributes
    ----------
    trainer : Trainer
    weights : LoadReport or None
        What was taken of the weights the run starts from.
    """

    trainer: Trainer
    weights: LoadReport | None


@contextmanager
def open_run(
    solver: str | Path,
    *,
    data: tuple[Location, ...] = (),
    weights: str | Path | None = None,
    resume: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    gpu: int = 0,
    workers: int = 1,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    exact_margin: bool = False,
    skip_limit: int = 100,
    log: Log | None = None,
    **changes: Any,
) -> Iterator[Run]:
    """Make everything that a solver prototxt asks for; closes the workers at the end.

    Parameters
    ----------
    solver : path
        The net it names is looked for from the working folder, then beside the solver.
    data : tuple of path
        Folders, tar shards or lists in place of the prototxt's list.
    weights : path, optional
        A caffemodel to start from, in place of the solver's; blobs that do not fit keep their start values (see
        `Run.weights`).
    resume : path, optional
        A solverstate to go on from.
    device, threads, gpu
        As for `open_backend`.
    workers : int
        Processes that read pictures.
    batch_size : int, optional
        In place of the prototxt's.
    augmentation : Augmentation, optional
        In place of the prototxt's mirror.
    exact_margin : bool
        Use the true gradient of the margin in place of the released one.
    skip_limit : int
        Pictures that may be unreadable.
    log : Log, optional
    **changes
        Settings of the solver to change: ``base_lr``, ``max_iter``, ``snapshot_prefix``, ...
    """
    if weights is not None and resume is not None:
        raise InvalidArgumentError("pass weights to start from, or a solverstate to resume, not both")
    path = Path(solver)
    settings = SolverSettings.from_prototxt(path).replaced(**changes)
    prototxt = settings.net_text or net_path(settings, path)
    folder = prototxt.parent if isinstance(prototxt, Path) else path.parent
    found = data_layers(prototxt, state=settings.state)
    if len(found) != 1:
        where = prototxt if isinstance(prototxt, Path) else f"the net in {path}"
        raise PrototxtError(f"{where} has {len(found)} data layers for training: exactly one is needed")
    seed = settings.random_seed
    source = source_of(
        found[0],
        folder=folder,
        data=data,
        batch_size=batch_size,
        augmentation=augmentation,
        seed=seed,
    )
    backend = open_backend(device, threads=threads, index=gpu)
    net = Net.from_prototxt(
        prototxt, backend, shapes=source.shapes(), state=settings.state, seed=seed, exact_margin=exact_margin
    )
    _check_classes(net, source.dataset.classes)
    starts = [beside(name, path) for name in settings.weights] if weights is None else [weights]
    report = None
    for start in starts if resume is None else ():
        report = load_weights(net, start, partial=True)
    group = group_of_environment(backend)
    with Loader(
        source.dataset,
        source.order,
        source.view,
        workers=workers,
        seed=seed,
        rank=group.rank,
        ranks=group.size,
        limit=skip_limit,
    ) as loader:
        trainer = Trainer(net, settings, loader, feed=source.feed, log=log, group=group)
        if resume is not None:
            trainer.resume(resume)
        try:
            yield Run(trainer, report)
        finally:
            group.close()


def _check_classes(net: Net, classes: int) -> None:
    for layer in net.layers:
        outputs = getattr(layer, "classes", None)
        if layer.spec.type == "MarginInnerProduct" and outputs is not None and outputs < classes:
            raise InvalidArgumentError(
                f"{layer.spec} has {outputs} outputs, but the data has {classes} identities: set num_output: {classes}"
            )
