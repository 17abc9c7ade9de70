"""What a solver prototxt says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spherecv.caffe.reader import Source, read_message
from spherecv.caffe.spherecv_caffe_pb2 import NetState, SolverParameter
from spherecv.errors import InvalidArgumentError
from spherecv.train.policies import Policy

KINDS = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


# The fields that are neither here nor in `SolverSettings` change no number: solver_mode and device_id, as the device is
# that of `open_backend`, and layer_wise_reduce, which says when the gradients of several GPUs are added up.
_UNKNOWN = {
    "snapshot_diff": "snapshots hold no gradients: remove it",
    "debug_info": "it is not known: remove it",
}
_NETS = ("net", "net_param", "train_net", "train_net_param")


@dataclass(frozen=True)
class NetUnderTest:
    """A net that is tested while another one learns, with its weights.

    Attributes
    ----------
    iterations : int
        Batches whose outputs are averaged.
    net : str
        Its prototxt, as the solver names it.
    net_text : bytes
        The net itself, where the solver holds it.
    state : NetState
        Level and stages, to be laid over the net's own.
    """

    iterations: int
    net: str = ""
    net_text: bytes = field(default=b"", repr=False)
    state: NetState = field(default_factory=NetState)


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
    tests : sequence of NetUnderTest
    test_interval : int
        Iterations between tests.
    test_initialization : bool
        Whether there is a test before the first iteration.
    test_compute_loss : bool
        Whether the loss of a test is logged beside the outputs.
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
    tests: Sequence[NetUnderTest] = ()
    test_interval: int = 0
    test_initialization: bool = True
    test_compute_loss: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidArgumentError(f"solver type must be one of {', '.join(KINDS)}, but got {self.kind!r}")
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
        if self.test_interval < 0 or (self.tests and not self.test_interval):
            raise InvalidArgumentError(f"test_interval must be at least 1, but got {self.test_interval}")

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
            kind=message.lr_policy,
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
            kind=message.type if message.HasField("type") else KINDS[message.solver_type],
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
            tests=tuple(_tests(message)),
            test_interval=message.test_interval,
            test_initialization=message.test_initialization,
            test_compute_loss=message.test_compute_loss,
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
    if not message.lr_policy:
        raise InvalidArgumentError('the solver has no lr_policy: add lr_policy: "fixed", or another')
    if message.snapshot_format != SolverParameter.BINARYPROTO:
        raise InvalidArgumentError("snapshot_format: only BINARYPROTO is known")


def _tests(message: SolverParameter) -> Iterator[NetUnderTest]:
    """Return the nets to test as Caffe finds them: those for testing, then `net` for what is left of `test_iter`."""
    nets = [{"net_text": str(param).encode()} for param in message.test_net_param]
    named: list[dict[str, Any]] = [*nets, *({"net": name} for name in message.test_net)]
    general: dict[str, Any] = {}
    if message.HasField("net_param"):
        general = {"net_text": str(message.net_param).encode()}
    elif message.HasField("net"):
        general = {"net": message.net}
    counts, states = list(message.test_iter), list(message.test_state)
    if len(counts) < len(named) or (len(counts) > len(named) and not general):
        raise InvalidArgumentError(f"test_iter is given {len(counts)} times for {len(named)} nets to test")
    named += [general] * (len(counts) - len(named))
    if len(states) not in (0, len(counts)):
        raise InvalidArgumentError(f"test_state is given {len(states)} times for {len(counts)} nets to test")
    if any(count < 1 for count in counts):
        raise InvalidArgumentError(f"test_iter must be at least 1, but got {counts}")
    for place, (count, source) in enumerate(zip(counts, named, strict=True)):
        yield NetUnderTest(count, **source, state=states[place] if states else NetState())


def _prefix(message: SolverParameter, source: Source) -> str:
    """Return the prefix of snapshots, as Caffe makes it of what is stated and of the solver's own path."""
    own = Path("snapshot") if isinstance(source, bytes) else Path(source).with_suffix("")
    if not message.HasField("snapshot_prefix"):
        return str(own)
    if message.snapshot_prefix and Path(message.snapshot_prefix).is_dir():
        return str(Path(message.snapshot_prefix) / own.name)
    return message.snapshot_prefix


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
