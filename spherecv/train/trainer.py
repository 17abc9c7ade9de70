"""The training loop: batches in, weights out, with snapshots from which it goes on as if never stopped."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from spherecv.caffe.blobs import read_blob
from spherecv.errors import CaffeModelError, InvalidArgumentError, SnapshotError, TrainingError
from spherecv.train.backend.base import Array
from spherecv.train.data.loader import Batch, Loader
from spherecv.train.feed import Batches, Feed, Pixels
from spherecv.train.log import Log, Progress
from spherecv.train.losses.base import Loss
from spherecv.train.net import Net
from spherecv.train.parallel import ALONE, Group
from spherecv.train.params import Param
from spherecv.train.snapshot import read_snapshot, write_snapshot
from spherecv.train.solver import Solver, SolverSettings
from spherecv.train.state import Rest, TrainingState
from spherecv.train.testing import NetTest, TestResult
from spherecv.train.weights import load_weights, to_caffemodel

__all__ = ["Batches", "Feed", "Pixels", "Trainer"]

STUCK = 87.3  # -log of the smallest normal float: what a loss reads whose softmax has died
_STUCK_FOR = 20
_DECIDING = (
    "kind", "momentum", "momentum2", "delta", "rms_decay", "weight_decay", "regularization", "clip_gradients",
    "iter_size", "random_seed",
)  # fmt: skip
_ADVICE = "lower base_lr (try a tenth), raise lambda_min or start with a larger lambda (base), or clip_gradients"


class Trainer:
    """Trains a net.

    Parameters
    ----------
    net : Net
        With loss layers of its own, or with `loss` and the `embedding` it stands on.
    settings : SolverSettings
    batches : Batches
    loss : Loss, optional
    embedding : str, optional
        The blob that `loss` looks at.
    feed : Feed, optional
    log : Log, optional
        Silent by default.
    group : Group, optional
        Other trainers with the same net, each with its own batches.
    tests : sequence of NetTest
        Run every `test_interval` iterations, by the first of several trainers.
    """

    def __init__(
        self,
        net: Net,
        settings: SolverSettings,
        batches: Batches,
        *,
        loss: Loss | None = None,
        embedding: str | None = None,
        feed: Feed | None = None,
        log: Log | None = None,
        group: Group = ALONE,
        tests: Sequence[NetTest] = (),
    ) -> None:
        if (loss is None) != (embedding is None):
            raise InvalidArgumentError("loss and embedding belong together: pass both or none")
        if loss is None and not net.losses:
            raise InvalidArgumentError(f"the net {net.name!r} has no loss layer: pass a loss and its embedding")
        self.net, self.settings, self.batches = net, settings, batches
        self.loss, self.embedding = loss, embedding
        self.feed, self.log, self.group = feed or Feed(), log or Log(), group
        self.tests = tests if group.rank == 0 else ()
        if loss is not None and embedding is not None:
            loss.build(net.backend, net.width(embedding), net.context.rng)
        self.solver = Solver(self.params, settings, net.backend)
        self.iteration = 0
        self.recent: deque[float] = deque(maxlen=settings.average_loss)
        self._stuck = 0
        self._latest: str | Path | None = None
        group.share([param.data for param in self.params], self._take_data)

    @property
    def params(self) -> list[Param]:
        """The net's parameters, then those of the loss."""
        return [*self.net.params, *(self.loss.params if self.loss is not None else [])]

    def run(self, iterations: int | None = None) -> float:
        """Train until `max_iter`, or for a number of iterations, and return the last smoothed loss.

        Raises
        ------
        TrainingError
            The loss is not a number, or stuck; with advice.
        """
        end = self.settings.max_iter if iterations is None else self.iteration + iterations
        with self.log.running(max(end, self.settings.max_iter)):
            try:
                self._run_to(end)
            except KeyboardInterrupt:
                self.log.announce(f"broken off in iteration {self.iteration}: {self._way_on()}")
                raise
            finished = iterations is None and (not self.settings.snapshot or self.iteration % self.settings.snapshot)
            if finished and self.settings.snapshot_after_train:
                self.snapshot()
            if iterations is None and self._test_is_due:
                self.test()
        return self.smoothed

    def _run_to(self, end: int) -> None:
        every = self.settings.snapshot
        while self.iteration < end:
            if self._test_is_due and (self.iteration or self.settings.test_initialization):
                self.test()
            self.step()
            if every and self.iteration % every == 0:
                self.snapshot()

    def _way_on(self) -> str:
        if self._latest is None:
            return "no snapshot was written yet (--snapshot, or the solver's field, says how often)"
        return f"--resume {self._latest} goes on from the latest snapshot"

    def test(self) -> list[TestResult]:
        """Test each of the nets for it with the weights as they are, log what Caffe logs, and return what was found."""
        found = []
        for place, test in enumerate(self.tests):
            self.log.say(f"Iteration {self.iteration}, Testing net (#{place})")
            result = test.run(self.net)
            if self.settings.test_compute_loss:
                self.log.say(f"Test loss: {result.loss:.6g}")
            for line in result.lines(test.net.losses):
                self.log.say(line)
            found.append(result)
        return found

    @property
    def _test_is_due(self) -> bool:
        return bool(self.tests) and self.iteration % self.settings.test_interval == 0

    @property
    def smoothed(self) -> float:
        """The mean of the last `average_loss` losses."""
        return sum(self.recent) / len(self.recent) if self.recent else math.nan

    def step(self) -> float:
        """Run one iteration (`iter_size` batches, one update) and return its loss."""
        started = time.perf_counter()
        parts: dict[str, float] = {}
        total, images = 0.0, 0
        for _ in range(self.settings.iter_size):
            value, parts, count = self._pass(self.batches.next())
            total, images = total + value / self.settings.iter_size, images + count
        total = self._together(total)
        self._watch(total)
        rate = self.solver.step(self.iteration)
        self.recent.append(total)
        seconds = time.perf_counter() - started
        self.log.iteration(
            Progress(self.iteration, self.smoothed, rate, images * self.group.size / seconds, seconds, parts),
            show=bool(self.settings.display) and self.iteration % self.settings.display == 0,
        )
        self.iteration += 1
        return total

    def snapshot(self, prefix: str | Path | None = None) -> Path:
        """Write a snapshot and return its `.solverstate`; only the first of several trainers writes."""
        if self.group.rank != 0:
            return Path()
        self._latest = write_snapshot(self.state(), prefix or self.settings.snapshot_prefix)
        return self._latest

    def resume(self, solverstate: str | Path) -> None:
        """Go on from a snapshot: ours, exactly; or a bare one of Caffe's, with its weights, momentum and iteration.

        Raises
        ------
        SnapshotError
            The snapshot is damaged, incomplete, or of another net or solver.
        """
        state = read_snapshot(solverstate)
        self.restore(state)
        self._latest = solverstate
        self.log.announce(f"going on from {solverstate} at iteration {self.iteration} of {self.settings.max_iter}")
        changed = [] if state.rest is None else state.rest.changed(self._given())
        if changed:
            self.log.announce(f"warning: changed since that snapshot: {', '.join(changed)}")

    # ------------------------------------------------------------------------------------------------ at rest
    def state(self) -> TrainingState:
        """Return where the training is."""
        backend, solver = self.net.backend, self.solver
        extra = []
        if self.loss is not None and self.loss.params:
            extra = [(self.loss.name, self.loss.layer_type, self.loss.params)]
        exact: dict[str, npt.NDArray[Any]] = {}
        if backend.dtype_name != "float32":
            # Caffe's files hold single precision only.
            for param, history in zip(solver.params, solver.history, strict=True):
                exact[f"data:{param.name}"] = backend.numpy(param.data)
                exact |= {f"history{n}:{param.name}": backend.numpy(part) for n, part in enumerate(history)}
        rest = Rest(
            next_batch=self.batches.next_number,
            lanes=backend.lanes,
            ranks=self.group.size,
            layers=self.net.state(),
            loss=self.loss.state() if self.loss is not None else {},
            rng=dict(self.net.context.rng.bit_generator.state),
            recent=list(self.recent),
            exact=exact,
            settings=self._given(),
        )
        model = to_caffemodel(self.net, extra)
        return TrainingState(model, solver.to_caffe(), self.iteration, solver.current_step, rest)

    def _given(self) -> dict[str, str]:
        """Return what decides the course of the training and can be changed from outside, in words."""
        settings = {name: getattr(self.settings, name) for name in _DECIDING} | vars(self.settings.policy)
        given = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in settings.items()}
        digest = hashlib.sha256()
        for layer in self.net.layers:
            digest.update(layer.spec.param.SerializeToString(deterministic=True))
        given["net"] = digest.hexdigest()[:8]
        if isinstance(self.batches, Loader):
            data = self.batches.dataset
            labels = hashlib.sha256(data.labels().tobytes()).hexdigest()[:8]
            given["batch size"] = str(self.batches.order.batch_size)
            given["data"] = f"{len(data.items)} images of {data.classes} people ({labels})"
        return given

    def restore(self, state: TrainingState) -> None:
        """Go on from where a training was; a state without its rest is Caffe's.

        Raises
        ------
        SnapshotError
            The state is of another net or solver.
        """
        if state.rest is not None and state.rest.ranks != self.group.size:
            raise SnapshotError(
                f"{state.origin} was written by {state.rest.ranks} processes side by side, and these are "
                f"{self.group.size}: resume with as many"
            )
        try:
            self._restore_weights(state)
        except CaffeModelError as error:
            raise SnapshotError(f"{state.origin} cannot be resumed from: {error}") from None
        self.solver.from_caffe(state.history, state.origin)
        self.solver.current_step = state.current_step
        self.iteration = state.iteration
        if state.rest is None:
            self._guess_rest()
        else:
            self._restore_rest(state.rest)

    def _restore_weights(self, state: TrainingState) -> None:
        load_weights(self.net, state.model)
        if self.loss is None or not self.loss.params:
            return
        stored = {layer.name: layer.blobs for layer in state.model.layer}.get(self.loss.name, [])
        if len(stored) != len(self.loss.params):
            raise SnapshotError(f"{state.origin} does not hold the weights of the loss {self.loss.name!r}")
        for param, blob in zip(self.loss.params, stored, strict=True):
            values = read_blob(blob)
            if values.shape != param.order.caffe:
                raise SnapshotError(f"{state.origin} holds {param.name} as {values.shape}, not {param.order.caffe}")
            param.from_caffe(self.net.backend, values)

    def _restore_rest(self, rest: Rest) -> None:
        backend = self.net.backend
        self.net.restore(rest.layers)
        if self.loss is not None:
            self.loss.restore(dict(rest.loss))
        self.net.context.rng.bit_generator.state = rest.rng
        self.recent.clear()
        self.recent.extend(rest.recent)
        self.batches.seek(rest.next_batch)
        backend.use_lanes(rest.lanes)
        for param, history in zip(self.solver.params, self.solver.history, strict=True):
            if f"data:{param.name}" in rest.exact:
                keys = [f"history{n}:{param.name}" for n in range(2)]
                param.data = backend.asarray(rest.exact[f"data:{param.name}"])
                history[:] = [backend.asarray(rest.exact[key]) for key in keys if key in rest.exact]

    def _guess_rest(self) -> None:
        """Set what Caffe does not store: t as after that many passes, and the order of the data as if ours."""
        passes = self.iteration * self.settings.iter_size
        counting: list[Any] = [*self.net.layers, *([] if self.loss is None else [self.loss])]
        for part in counting:
            # A sum of losses puts the name of each in front of what it counts.
            part.restore({key: value + passes for key, value in part.state().items() if key.rpartition(":")[2] == "t"})
        self.batches.seek(passes)

    # ------------------------------------------------------------------------------------------------ one batch
    def _pass(self, batch: Batch) -> tuple[float, dict[str, float], int]:
        net, backend, feed = self.net, self.net.backend, self.feed
        if self.loss is None or self.embedding is None:
            outputs = net.forward(feed.inputs(batch, backend))
            net.backward()
            parts = {name: float(value) for name, value in outputs.blobs.items() if value.ndim == 0}
            return outputs.loss, parts, len(batch.labels)
        inputs = feed.inputs(batch, backend, labels=False)
        embedding = net.forward(inputs, keep=[self.embedding]).blobs[self.embedding]
        target = batch.labels if feed.target is None else feed.target(batch)
        seen = backend.asindex(target) if self.loss.labels else backend.asarray(target)
        value = self.loss.forward(embedding, seen)
        net.backward({self.embedding: self.loss.backward()})
        return value.value, value.parts, len(batch.labels)

    def _together(self, loss: float) -> float:
        """Average gradients and loss over the group."""
        if self.group.size == 1:
            return loss
        learning = [param for param in self.params if param.trainable and param.grad is not None]
        *grads, mean = self.group.mean([*(param.grad for param in learning), self.net.backend.asarray([loss])])
        for param, grad in zip(learning, grads, strict=True):
            param.grad = grad
        return float(self.net.backend.numpy(mean)[0])

    def _take_data(self, values: list[Array]) -> None:
        for param, value in zip(self.params, values, strict=True):
            param.data = value

    def _watch(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at iteration {self.iteration}: {_ADVICE}")
        self._stuck = self._stuck + 1 if loss >= STUCK else 0
        if self._stuck >= _STUCK_FOR:
            raise TrainingError(
                f"the loss has been at {loss:.4g} for {_STUCK_FOR} iterations (iteration {self.iteration}): "
                f"the softmax has died; {_ADVICE}"
            )
