"""`spherecv train run`: train as a solver prototxt says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherecv.caffe.spherecv_caffe_pb2 import NetState, Phase
from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.backend import Backend
from spherecv.train.data import Augmentation, Loader
from spherecv.train.data.dataset import Location
from spherecv.train.feed import Batches, Feed, NoBatches
from spherecv.train.imagedata import Source, source_of
from spherecv.train.log import Log
from spherecv.train.net import TEST, TRAIN, Net, data_layers
from spherecv.train.parallel import group_of_environment
from spherecv.train.resources import Resources, taken
from spherecv.train.settings import SolverSettings, beside, net_path
from spherecv.train.testing import NetTest
from spherecv.train.trainer import Trainer
from spherecv.train.weights import LoadReport, load_weights

_PURPOSE = {TRAIN: "training", TEST: "testing"}


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
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    exact_margin: bool = False,
    log: Log | None = None,
    **settings: Any,
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
    batch_size : int, optional
        In place of the prototxt's.
    augmentation : Augmentation, optional
        In place of the prototxt's mirror.
    exact_margin : bool
        Use the true gradient of the margin in place of the released one.
    log : Log, optional
    **settings
        `Resources`: ``device``, ``threads``, ``gpu``, ``workers``, ``skip_limit``; and settings of the solver:
        ``base_lr``, ``max_iter``, ``snapshot_prefix``, ...
    """
    if weights is not None and resume is not None:
        raise InvalidArgumentError("pass weights to start from, or a solverstate to resume, not both")
    path = Path(solver)
    resources = taken(Resources, settings)
    solving = SolverSettings.from_prototxt(path).replaced(**settings)
    seed = solving.random_seed
    backend = resources.open_backend()
    with ExitStack() as stack:
        given = {"workers": resources.workers, "seed": seed, "limit": resources.skip_limit}
        prototxt = solving.net_text or net_path(solving, path)
        where = {"data": data, "batch_size": batch_size, "augmentation": augmentation, "seed": seed}
        source = _source(prototxt, path, solving.state, TRAIN, **where)
        net = _net(prototxt, backend, source, state=solving.state, seed=seed, exact_margin=exact_margin)
        if source is not None:
            _check_classes(net, source.dataset.classes)
        starts = [beside(name, path) for name in solving.weights] if weights is None else [weights]
        report = None
        for start in starts if resume is None else ():
            report = load_weights(net, start, partial=True)
        group = group_of_environment(backend)
        stack.callback(group.close)
        tests = []
        for entry in solving.tests if group.rank == 0 else ():
            text = entry.net_text or beside(entry.net, path)
            of_test = _source(text, path, entry.state, TEST, seed=seed)
            tested = _net(text, backend, of_test, state=entry.state, seed=seed, phase=TEST)
            tests.append(NetTest(tested, *_batches(of_test, stack, **given), entry.iterations))
        batches, feed = _batches(source, stack, rank=group.rank, ranks=group.size, **given)
        trainer = Trainer(net, solving, batches, feed=feed, log=log, group=group, tests=tests)
        if resume is not None:
            trainer.resume(resume)
        yield Run(trainer, report)


def _source(prototxt: Path | bytes, solver: Path, state: NetState, phase: Phase, **given: Any) -> Source | None:
    """Return the images of a net; none where it makes its own data."""
    name = str(prototxt) if isinstance(prototxt, Path) else f"the net in {solver}"
    found = data_layers(prototxt, phase, state=state)
    if len(found) > 1:
        raise PrototxtError(f"{name} has {len(found)} data layers for {_PURPOSE[phase]}: exactly one is needed")
    if not found:
        return None
    folder = prototxt.parent if isinstance(prototxt, Path) else solver.parent
    return source_of(found[0], folder=folder, training=phase == TRAIN, **given)


def _net(prototxt: Path | bytes, backend: Backend, source: Source | None, **settings: Any) -> Net:
    net = Net.from_prototxt(prototxt, backend, shapes=None if source is None else source.shapes(), **settings)
    if source is None and net.inputs:
        purpose = _PURPOSE[settings.get("phase", TRAIN)]
        raise PrototxtError(f"the net {net.name!r} has 0 data layers for {purpose}: exactly one is needed")
    return net


def _batches(source: Source | None, stack: ExitStack, **given: Any) -> tuple[Batches, Feed]:
    """Open the loader of a net's images, to be closed with the others."""
    if source is None:
        return NoBatches(), Feed(data="", label="")
    return stack.enter_context(Loader(source.dataset, source.order, source.view, **given)), source.feed


def _check_classes(net: Net, classes: int) -> None:
    for layer in net.layers:
        outputs = getattr(layer, "classes", None)
        if layer.spec.type == "MarginInnerProduct" and outputs is not None and outputs < classes:
            raise InvalidArgumentError(
                f"{layer.spec} has {outputs} outputs, but the data has {classes} identities: set num_output: {classes}"
            )
