"""Solvers: what turns gradients into new weights. Caffe's six, and what a solver prototxt says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.caffe.reader import Source, read_message
from spherecv.caffe.spherecv_caffe_pb2 import NetState, SolverParameter
from spherecv.errors import InvalidArgumentError, SnapshotError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.params import Param
from spherecv.train.policies import Policy

_OLD_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


# The fields that are neither here nor in `SolverSettings` change no number: solver_mode and device_id, as the device is
# that of `open_backend`, and layer_wise_reduce, which says when the gradients of several GPUs are added up.
_UNKNOWN = {
    "test_net": "testing while training is not known: remove it, and test a snapshot",
    "test_net_param": "testing while training is not known: remove it, and test a snapshot",
    "test_state": "testing while training is not known: remove it, and test a snapshot",
    "test_iter": "testing while training is not known: remove it, and test a snapshot",
    "test_interval": "testing while training is not known: remove it, and test a snapshot",
    "snapshot_diff": "snapshots hold no gradients: remove it",
    "debug_info": "it is not known: remove it",
}
_NETS = ("net", "net_param", "train_net", "train_net_param")


@dataclass(frozen=True)
class SolverSettings:
    """What a solver prototxt says.

    Attributes
    ----------
    kind : {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"}
    policy : Policy
    momentum, momentum2, delta, rms_decay : float
        `momentum2` is Adam's, `rms_decay` RMSProp's, `delta` of all but SGD and Nesterov. `momentum` is AdaDelta's
        decay, and 0 for AdaGrad and RMSProp.
    weight_decay : float
    regularization : {"L2", "L1"}
        Whether the decay is that of the weights or of their signs.
    clip_gradients : float
        The largest length of all gradients together, as summed over `iter_size` batches; below 0 there is none.
    iter_size : int
        Batches whose gradients are averaged into one update.
    max_iter, snapshot, display, average_loss : int
        `snapshot` and `display` of 0 mean never.
    snapshot_prefix : str
        Where the solver states none, its own path without the suffix, as in Caffe.
    random_seed : int
        Below 0: 0, so that a run can be repeated.
    net : str
        The train prototxt, as the solver names it.
    net_text : bytes
        The net itself, where the solver holds it.
    stages : sequence of str
    level : int or None
        The `train_state`, which include and exclude rules of the net's layers look at.
    weights : sequence of str
        Caffemodels to start from.
    """

    kind: str = "SGD"
    policy: Policy = field(default_factory=Policy)
    momentum: float = 0.0
    momentum2: float = 0.999
    delta: float = 1e-8
    rms_decay: float = 0.99
    weight_decay: float = 0.0
    regularization: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1
    max_iter: int = 0
    snapshot: int = 0
    display: int = 0
    average_loss: int = 1
    snapshot_prefix: str = "snapshot"
    snapshot_after_train: bool = True
    random_seed: int = 0
    net: str = ""
    net_text: bytes = field(default=b"", repr=False)
    stages: Sequence[str] = ()
    level: int | None = None
    weights: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.kind not in _UPDATES:
            raise InvalidArgumentError(f"solver type must be one of {', '.join(_UPDATES)}, but got {self.kind!r}")
        if self.regularization not in ("L1", "L2"):
            raise InvalidArgumentError(f"regularization_type must be L1 or L2, but got {self.regularization!r}")
        if self.iter_size < 1:
            raise InvalidArgumentError(f"iter_size must be at least 1, but got {self.iter_size}")
        if not 0 <= self.momentum < 1 or not 0 <= self.momentum2 < 1:
            raise InvalidArgumentError(f"momenta must be in [0, 1), but got {self.momentum} and {self.momentum2}")
        if self.momentum and self.kind in ("AdaGrad", "RMSProp"):
            raise InvalidArgumentError(f"{self.kind} has no momentum, but got {self.momentum}: remove it")
        if not 0 <= self.rms_decay < 1:
            raise InvalidArgumentError(f"rms_decay must be in [0, 1), but got {self.rms_decay}")
        if self.max_iter < 0 or self.snapshot < 0 or self.display < 0:
            raise InvalidArgumentError("max_iter, snapshot and display must not be negative")

    @classmethod
    def from_prototxt(cls, source: Source) -> SolverSettings:
        """Read a solver prototxt: a path, or its text as bytes.

        Raises
        ------
        PrototxtError
            The text cannot be read.
        InvalidArgumentError
            Caffe would refuse it, or it asks for what the trainer does not do; no field is passed over.
        """
        message = read_message(source, SolverParameter)
        _check_fields(message)
        policy = Policy(
            kind=message.lr_policy or "fixed",
            base_lr=message.base_lr,
            gamma=message.gamma,
            power=message.power,
            stepsize=message.stepsize,
            stepvalue=tuple(message.stepvalue),
            max_iter=message.max_iter,
        )
        inline = next((name for name in _NETS if name.endswith("param") and message.HasField(name)), None)
        state = message.train_state
        return cls(
            kind=message.type if message.HasField("type") else _OLD_TYPES[message.solver_type],
            policy=policy,
            momentum=message.momentum,
            momentum2=message.momentum2,
            delta=message.delta,
            rms_decay=message.rms_decay,
            weight_decay=message.weight_decay,
            regularization=message.regularization_type,
            clip_gradients=message.clip_gradients,
            iter_size=message.iter_size,
            max_iter=message.max_iter,
            snapshot=message.snapshot,
            display=message.display,
            average_loss=max(1, message.average_loss),
            snapshot_prefix=_prefix(message, source),
            snapshot_after_train=message.snapshot_after_train,
            random_seed=max(0, message.random_seed),
            net=message.train_net or message.net,
            net_text=b"" if inline is None else str(getattr(message, inline)).encode(),
            stages=tuple(state.stage),
            level=state.level if state.HasField("level") else None,
            weights=tuple(name.strip() for names in message.weights for name in names.split(",")),
        )

    @property
    def state(self) -> NetState:
        """The `train_state`, to be laid over a net's own."""
        return NetState(stage=self.stages, level=self.level)

    def replaced(self, **changes: Any) -> SolverSettings:
        """Return the settings with some changed; ``lr_policy`` and the policy's own settings work too."""
        known = {*self.__dataclass_fields__, *Policy.__dataclass_fields__, "lr_policy"}
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise InvalidArgumentError(f"unknown setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
        own = {name: value for name, value in changes.items() if name in self.__dataclass_fields__}
        of_policy = {name: value for name, value in changes.items() if name not in own and name != "lr_policy"}
        if "lr_policy" in changes:
            of_policy["kind"] = changes["lr_policy"]
        if "max_iter" in own:
            of_policy["max_iter"] = own["max_iter"]
        policy = own.pop("policy", self.policy)
        return replace(self, policy=replace(policy, **of_policy), **own)


def _check_fields(message: SolverParameter) -> None:
    """Refuse what the trainer does not do, and what Caffe refuses."""
    if message.HasField("type") and message.HasField("solver_type"):
        raise InvalidArgumentError("the solver has both type and solver_type: keep one")
    nets = [name for name in _NETS if message.HasField(name)]
    if len(nets) > 1:
        raise InvalidArgumentError(f"the solver has {' and '.join(nets)}: keep one")
    for name, reason in _UNKNOWN.items():
        if getattr(message, name):
            raise InvalidArgumentError(f"{name}: {reason}")
    if message.snapshot_format != SolverParameter.BINARYPROTO:
        raise InvalidArgumentError("snapshot_format: only BINARYPROTO is known")


def _prefix(message: SolverParameter, source: Source) -> str:
    """Return the prefix of snapshots, as Caffe makes it of what is stated and of the solver's own path."""
    own = Path("snapshot") if isinstance(source, bytes) else Path(source).with_suffix("")
    if not message.HasField("snapshot_prefix"):
        return str(own)
    if message.snapshot_prefix and Path(message.snapshot_prefix).is_dir():
        return str(Path(message.snapshot_prefix) / own.name)
    return message.snapshot_prefix


class Solver:
    """Updates parameters and holds their history.

    Parameters
    ----------
    params : sequence of Param
        All of a net's: those that do not learn are passed over, and have a history of zeros in files, as in Caffe.
    settings : SolverSettings
    backend : Backend

    Attributes
    ----------
    current_step : int
        The counter of the policies ``step`` and ``multistep``, at the last update.
    """

    def __init__(self, params: Sequence[Param], settings: SolverSettings, backend: Backend) -> None:
        self.settings, self.backend = settings, backend
        self.params = list(params)
        self.slots = 2 if settings.kind in ("Adam", "AdaDelta") else 1
        self.current_step = 0
        self.history: list[list[Array]] = [[] for _ in self.params]  # filled when first needed: frozen nets need none

    def step(self, iteration: int) -> float:
        """Update every parameter from its gradient, drop the gradients, and return the rate used.

        Parameters
        ----------
        iteration : int
            Counted from 0.
        """
        settings, backend = self.settings, self.backend
        self.current_step = settings.policy.advance(self.current_step, iteration)
        rate = settings.policy(iteration, self.current_step)
        factor = self._clip_factor() / settings.iter_size
        update = _UPDATES[settings.kind]
        with backend.active():
            for param, history in zip(self.params, self.history, strict=True):
                if param.grad is not None and param.trainable:
                    if not history:
                        history[:] = [backend.zeros(param.data.shape) for _ in range(self.slots)]
                    decay = settings.weight_decay * param.decay_mult
                    update(_Update(backend, settings, param, history, rate * param.lr_mult, decay, factor, iteration))
                param.grad = None
        return rate

    def to_caffe(self) -> list[npt.NDArray[np.float32]]:
        """Return the history as Caffe's files hold it: all first slots, then all second ones."""
        return [
            param.order.to_caffe(self.backend.numpy(history[slot]))
            if history
            else np.zeros(param.order.caffe, np.float32)
            for slot in range(self.slots)
            for param, history in zip(self.params, self.history, strict=True)
        ]

    def from_caffe(self, history: Sequence[npt.NDArray[Any]], origin: str = "the state") -> None:
        """Take a history as Caffe's files hold it.

        Raises
        ------
        SnapshotError
            It is of another net or solver.
        """
        if len(history) != self.slots * len(self.params):
            raise SnapshotError(
                f"{origin} holds {len(history)} blobs of history, but this net and solver have "
                f"{self.slots * len(self.params)}: it is of another run"
            )
        restored: list[list[Array]] = [[] for _ in self.params]
        for index, values in enumerate(history):
            param = self.params[index % len(self.params)]
            if values.size != np.prod(param.order.caffe, dtype=int):
                raise SnapshotError(
                    f"{origin} holds the history of {param.name} as {values.shape}: it is of another run"
                )
            values = param.order.to_internal(values.reshape(param.order.caffe))
            restored[index % len(self.params)].append(self.backend.asarray(values))
        self.history = restored

    def gradient_length(self) -> float:
        """Return the length of all gradients together, summed over `iter_size` batches as Caffe's limit sees them."""
        total = 0.0
        for param in self.params:
            if param.grad is not None and param.trainable:
                flat = self.backend.xp.reshape(param.grad, (-1, 1))
                total += float(self.backend.xp.sum(flat * flat))
        return math.sqrt(total)

    def _clip_factor(self) -> float:
        limit = self.settings.clip_gradients
        if limit < 0:
            return 1.0
        length = self.gradient_length()
        return limit / length if length > limit else 1.0


@dataclass(frozen=True)
class _Update:
    """What one parameter's update depends on."""

    backend: Backend
    settings: SolverSettings
    param: Param
    history: list[Array]
    rate: float
    decay: float
    factor: float
    iteration: int

    def rows(self, array: Array) -> Array:
        """Return an array as rows, so that `blocks` can cut it whatever its shape."""
        return self.backend.xp.reshape(array, (-1, array.shape[-1]))

    def gradient(self, g: Array, w: Array) -> Array:
        """Return the gradient with its factor and the weight decay, as an array of its own."""
        if not self.decay:
            return self.factor * g
        own = self.decay * (w if self.settings.regularization == "L2" else self.backend.xp.sign(w))
        own += g if self.factor == 1 else self.factor * g
        return own

    def apply(self, weight: Array, *history: Array) -> None:
        """Store the new weight and history."""
        shape, xp = self.param.data.shape, self.backend.xp
        self.param.data = xp.reshape(weight, shape)
        self.history[:] = [xp.reshape(part, shape) for part in history]


def _sgd(at: _Update) -> None:
    """Caffe's SGD: v = momentum v + rate (g + decay w); w = w - v. The rate is inside the velocity."""

    def update(w: Array, g: Array, v: Array) -> tuple[Array, Array]:
        step = at.gradient(g, w)
        step *= at.rate
        step += at.settings.momentum * v
        return w - step, step

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _nesterov(at: _Update) -> None:
    """Nesterov's: v' = momentum v + rate (g + decay w); w = w - ((1 + momentum) v' - momentum v)."""
    momentum = at.settings.momentum

    def update(w: Array, g: Array, old: Array) -> tuple[Array, Array]:
        v = momentum * old + at.rate * at.gradient(g, w)
        return w - ((1 + momentum) * v - momentum * old), v

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _adam(at: _Update) -> None:
    """Adam with Caffe's correction: rate sqrt(1 - b2^t) / (1 - b1^t), delta outside the root, decay in the gradient."""
    b1, b2, delta = at.settings.momentum, at.settings.momentum2, at.settings.delta
    t, xp = at.iteration + 1, at.backend.xp
    rate = at.rate * math.sqrt(1 - b2**t) / (1 - b1**t)

    def update(w: Array, g: Array, m: Array, s: Array) -> tuple[Array, Array, Array]:
        g = at.gradient(g, w)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g * g)
        return w - rate * m / (xp.sqrt(s) + delta), m, s

    arrays = (at.param.data, at.param.grad, *at.history)
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=3))


def _adagrad(at: _Update) -> None:
    """AdaGrad: h = h + g^2; w = w - rate g / (sqrt(h) + delta)."""
    _scaled(at, 1.0, 1.0)


def _rmsprop(at: _Update) -> None:
    """RMSProp: h = decay h + (1 - decay) g^2; w = w - rate g / (sqrt(h) + delta)."""
    _scaled(at, at.settings.rms_decay, 1.0 - at.settings.rms_decay)


def _scaled(at: _Update, keep: float, share: float) -> None:
    xp, delta = at.backend.xp, at.settings.delta

    def update(w: Array, g: Array, h: Array) -> tuple[Array, Array]:
        g = at.gradient(g, w)
        h = keep * h + share * (g * g)
        return w - at.rate * (g / (xp.sqrt(h) + delta)), h

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _adadelta(at: _Update) -> None:
    """AdaDelta: h of g^2 and s of step^2 decay by `momentum`, step = sqrt((delta + s) / (delta + h)) g."""
    xp, keep, delta = at.backend.xp, at.settings.momentum, at.settings.delta

    def update(w: Array, g: Array, h: Array, s: Array) -> tuple[Array, Array, Array]:
        g = at.gradient(g, w)
        h = keep * h + (1 - keep) * (g * g)
        step = g * xp.sqrt((delta + s) / (delta + h))
        s = keep * s + (1 - keep) * (step * step)
        return w - at.rate * step, h, s

    arrays = (at.param.data, at.param.grad, *at.history)
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=3))


_UPDATES: dict[str, Callable[[_Update], None]] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}


def net_path(settings: SolverSettings, solver: Path) -> Path:
    """Return the train prototxt a solver names: as it stands, or beside the solver's file."""
    if not settings.net:
        raise InvalidArgumentError(f"{solver} names no net: add a line net: 'train.prototxt'")
    return beside(settings.net, solver)


def beside(name: str | Path, solver: Path) -> Path:
    """Return a file that a solver names: as it stands, or beside the solver's file."""
    named = Path(name)
    for candidate in (named, solver.parent / named, solver.parent / named.name):
        if candidate.is_file():
            return candidate
    raise InvalidArgumentError(f"{solver} names {str(name)!r}, which is neither there nor beside it")
