"""`cv2.dnn.readNetFromCaffe`, which OpenCV 5 no longer has: change the import, keep the code.

    from spherecv.compat.cv2_dnn import readNetFromCaffe

or, once and before all else, ``spherecv.compat.cv2_dnn.install()``. The net that it gives runs in `cv2.dnn` on OpenCV 4
and 5: a `cv2.dnn.Net`, or where that cannot hold the net an object with the same methods, whose `repr` says so. What is
new or different:

* Layers that OpenCV's importer never knew work too (see docs/caffe.md), and every number is that of Caffe.
* Names are those of layers, as in OpenCV 4: `forward("conv1")` is the output of the layer of that name, before others
  change it in place. The object takes names of blobs too, where no layer has the name.
* An SSD net answers with as many rows as there are detections. OpenCV 4 fills up with rows of zeros.
* Faults are SphereCVErrors, not cv2.error. A device that was asked for and is not there is a fault.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from spherecv import caffe
from spherecv.caffe.cache import cached_file
from spherecv.caffe.fold import fold
from spherecv.caffe.graph import single_assignment
from spherecv.caffe.layers import kind_of
from spherecv.caffe.memory import written_through
from spherecv.caffe.shapes import infer
from spherecv.errors import DeviceError, InvalidArgumentError, ModelFileError
from spherecv.runtime import Session
from spherecv.runtime.agreement import disagreement
from spherecv.runtime.backend import Model, Settings
from spherecv.runtime.opencv_backend import OpenCVBackend, classic_reads_inside
from spherecv.runtime.opencv_settings import nets
from spherecv.runtime.signature import signature_of

__all__ = ["CaffeNet", "install", "readNetFromCaffe"]

FloatArray: TypeAlias = NDArray[np.float32]
Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | NDArray[np.uint8]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_LEGACY = "OPENCV_DNN_ONNX_USE_LEGACY_NAMES"
"""Without it OpenCV puts a word before every node's name. It reads the environment each time it reads a net."""
_environment = threading.Lock()
_FORMAT = 2
"""Of conversions in the cache."""
_OUTLINE_KEY = "spherecv.outline"
_SETTLED_NS = 2_000_000_000
"""Nanoseconds after which a file's times tell whether it was written again; they may be as coarse as two seconds."""
_MOST_PROGRAMS = 4
"""Conversions of one net that stay loaded: its outputs, and other blobs or input sizes that were asked for."""


@dataclass(frozen=True)
class _Outline:
    """What a net consists of: known without its weights.

    Attributes
    ----------
    layers : list of (name, type, blobs)
        In the order in which they run; blobs in single assignment.
    blobs : dict of str to str
        Every blob of the prototxt, and under which name its last value goes.
    outputs : list of int
        Places of the layers whose blobs no other reads.
    after : list of str
        Types of the layers that run after the net.
    whole : bool
        Whether all of it is one net with one output, whose nodes go by the names of layers.
    """

    layers: list[tuple[str, str, list[str]]]
    blobs: dict[str, str]
    inputs: dict[str, list[int]]
    outputs: list[int]
    after: list[str]
    whole: bool

    def target(self, name: str) -> str:
        """Return the blob, in single assignment, that a name means: of a layer's output, or of a blob's last value."""
        for layer, _, tops in self.layers:
            if layer == name and tops:
                return tops[0]
        if name in self.blobs:
            return self.blobs[name]
        raise InvalidArgumentError(f"the net has no layer or blob {name!r}: it ends in {', '.join(self.ends)}")

    @property
    def ends(self) -> list[str]:
        """Names of the layers that the net ends in; a layer without a name goes by its blob's."""
        return [self.layers[place][0] or self.layers[place][2][0] for place in self.outputs]

    @property
    def end_targets(self) -> tuple[str, ...]:
        """The blobs that `ends` give."""
        return tuple(self.layers[place][2][0] for place in self.outputs)


@dataclass(frozen=True)
class _Files:
    """The two sources of a net."""

    prototxt: str | bytes
    caffemodel: str | bytes | None

    @property
    def key(self) -> str:
        """What conversions are kept under: the contents, or for files that lie still their place and their times."""
        parts = [_identity(source) for source in (self.prototxt, self.caffemodel)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def name(self) -> str:
        return Path(self.prototxt).name if isinstance(self.prototxt, str) else "a prototxt"

    def load(self, shapes: Shapes | None) -> caffe.CaffeNet:
        return caffe.load(self.prototxt, self.caffemodel, input_shapes=shapes)


@dataclass(frozen=True)
class _Conversion:
    """A net as ONNX, for some of its blobs and sizes of its input."""

    model: Path | bytes

    @cached_property
    def outline(self) -> _Outline:
        """What the whole net consists of."""
        return _outline_of(self.model)


def readNetFromCaffe(  # noqa: N802 - OpenCV's name
    prototxt: Source | None = None,
    caffeModel: Source | None = None,  # noqa: N803 - OpenCV's name
    *,
    bufferProto: Source | None = None,  # noqa: N803
    bufferModel: Source | None = None,  # noqa: N803
    every_blob: bool = False,
) -> cv2.dnn.Net | CaffeNet:
    """Read a Caffe net, as `cv2.dnn.readNetFromCaffe` of OpenCV 4 does.

    The first time a net is converted, which takes some tenths of a second, and kept in the cache; later it is loaded as
    fast as OpenCV loads any net.

    Parameters
    ----------
    prototxt : str, path, bytes, bytearray or ndarray of uint8
        A path; or the text itself.
    caffeModel : str, path, bytes, bytearray or ndarray of uint8, optional
        A path; or the content itself. May be left out for a net without weights.
    bufferProto, bufferModel
        The same two, by the names that OpenCV has for contents.
    every_blob : bool
        Give a `CaffeNet` in any case: it has every layer and blob by name, and works at sizes of the input that the net
        must be converted for.

    Returns
    -------
    cv2.dnn.Net or CaffeNet
        A `cv2.dnn.Net` of OpenCV's own where that holds the whole net: one output, and operators that keep their
        meaning when the input's size changes. Its layers have Caffe's names, but for BatchNorm, Scale and Bias:
        they and the layer before them are one, which has the name of the last. Else a `CaffeNet`, which has the same
        methods: SSD nets, nets with several outputs.

    Raises
    ------
    InvalidArgumentError
        No prototxt, two of them, or something else than a source.
    ModelFileError
        A file cannot be read, is damaged or belongs to another, or has layers that cannot be converted.
    BackendError
        OpenCV cannot load the net.
    """
    none = isinstance(caffeModel, str | bytes) and not caffeModel  # as OpenCV's own default is
    weights = _source("caffeModel", None if none else caffeModel, bufferModel, needed=False)
    files = _Files(_source("prototxt", prototxt, bufferProto), weights)
    net = CaffeNet(files)
    own = None if every_blob else net.own_net()
    return net if own is None else own


def install(*, replace: bool = False) -> None:
    """Put `readNetFromCaffe` into `cv2.dnn`, where OpenCV has none, and let `cv2.dnn.readNet` take Caffe's files.

    Parameters
    ----------
    replace : bool
        In place of OpenCV 4's own too.
    """
    if replace or not hasattr(cv2.dnn, "readNetFromCaffe"):
        vars(cv2.dnn)["readNetFromCaffe"] = readNetFromCaffe
        vars(cv2)["dnn_readNetFromCaffe"] = readNetFromCaffe
        if not isinstance(cv2.dnn.readNet, _ReadNet):
            vars(cv2.dnn)["readNet"] = _ReadNet(cv2.dnn.readNet)


class _ReadNet:
    """`cv2.dnn.readNet`, which tells a net's framework by the suffixes of its files, with Caffe among them."""

    def __init__(self, others: Callable[..., cv2.dnn.Net]) -> None:
        self._others = others

    def __call__(self, *given: Any, **named: Any) -> cv2.dnn.Net | CaffeNet:
        """Read a net: `(model, config, framework)` in either order of the files, or `(framework, model, config)`."""
        sources = [*given, *named.values()]
        words = [source for source in sources if isinstance(source, str)]
        files = [word for word in words if word and word.lower() != "caffe"]
        suffixes = [Path(word).suffix.lower() for word in files]
        if {".prototxt", ".caffemodel"} & {*suffixes}:
            # As OpenCV 4 does, by one of the two suffixes: deploy.prototxt.txt is a usual name.
            weights = [file for file, suffix in zip(files, suffixes, strict=True) if suffix == ".caffemodel"]
            texts = [file for file, suffix in zip(files, suffixes, strict=True) if suffix == ".prototxt"]
            rest = [file for file in files if file not in (*weights, *texts)]
            return readNetFromCaffe(next(iter(texts + rest), None), next(iter(weights + rest), None))
        framework = next((word for word in words if word.lower() == "caffe"), None)
        if framework is not None:
            weights, prototxt, *_ = [*(source for source in sources if source is not framework), None, None]
            return readNetFromCaffe(prototxt, weights)
        return self._others(*given, **named)


class CaffeNet:
    """A Caffe net with the methods of `cv2.dnn.Net`, for what that cannot hold; made by `readNetFromCaffe`.

    OpenCV runs it, by ONNX. What is beyond it, as the DetectionOutput of an SSD net, runs in NumPy after it; `repr`
    says so. Like every net of OpenCV, an object belongs to one thread at a time.
    """

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._key: str | None = None
        self._given: dict[str, FloatArray] = {}
        self._winograd: bool | None = None
        self._backend, self._target = cv2.dnn.DNN_BACKEND_DEFAULT, cv2.dnn.DNN_TARGET_CPU
        self._programs: OrderedDict[object, Session] = OrderedDict()
        self._seconds = 0.0
        self._main = _Conversion(self._converted(None, None))
        if self._outline.after or len(self._outline.outputs) > 1:
            self._session((None, None), self._main.model)

    def __repr__(self) -> str:
        outline = self._outline
        after = f"; {', '.join(outline.after)} in NumPy after cv2.dnn.Net" if outline.after else ""
        return f"<Caffe net {self._files.name}: {len(outline.layers)} layers -> {', '.join(outline.ends)}{after}>"

    def own_net(self) -> cv2.dnn.Net | None:
        """Return the whole net as OpenCV's own, where it can be that and answer as OpenCV 4 did; else None."""
        outline, model = self._outline, self._main.model
        if not outline.whole:
            return None
        if isinstance(model, Path):
            return _read_classic(model)
        with tempfile.TemporaryDirectory(prefix="spherecv-") as folder:
            path = Path(folder) / "net.onnx"
            path.write_bytes(model)
            return _read_classic(path)

    def setInput(  # noqa: N802
        self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Any = ()
    ) -> None:
        """Set an input: scalefactor (blob - mean), the mean one number for each channel.

        Parameters
        ----------
        blob : ndarray of float32 or uint8
            Of any size that the net works at, whatever its prototxt declares.
        name : str
            Of the input; the first by default.
        scalefactor : float
        mean : sequence of float
            Per channel.

        Raises
        ------
        InvalidArgumentError
            Another type, or no such input.
        """
        array = np.asarray(blob.get() if isinstance(blob, cv2.UMat) else blob)
        if array.dtype not in (np.float32, np.uint8):
            raise InvalidArgumentError(f"blob must be float32 or uint8, but got {array.dtype}")
        inputs = self._outline.inputs
        if name and name not in inputs:
            raise InvalidArgumentError(f"the net has no input {name!r}: it has {', '.join(inputs)}")
        values = np.array(array, np.float32, order="C")
        levels = np.atleast_1d(np.asarray(mean, np.float32)).reshape(-1)
        if levels.any():
            if values.ndim < 2 or len(levels) < values.shape[1]:
                wanted = f"mean must have a number for each channel of {array.shape}"
                raise InvalidArgumentError(f"{wanted}, but got {mean}")
            values -= levels[: values.shape[1]].reshape(1, -1, *(1,) * (values.ndim - 2))
        if scalefactor != 1.0:
            values *= np.float32(scalefactor)
        self._given[name or next(iter(inputs))] = values

    def forward(self, outputBlobs: Any = None, outputName: Any = None, *, outBlobNames: Any = None) -> Any:  # noqa: N803
        """Run the net.

        Parameters
        ----------
        outputBlobs : str or sequence of str, optional
            The name of a layer or blob, or several; by default the net's last output. A list of arrays, as OpenCV takes
            to write into, is passed over.
        outputName : str, optional
            A name, after such a list.
        outBlobNames : sequence of str, optional
            Names.

        Returns
        -------
        ndarray of float32, or tuple of ndarray
            A tuple for several names.

        Raises
        ------
        InvalidArgumentError
            No such layer or blob, no input, or one that the net does not take.
        BackendError
            OpenCV failed.
        """
        name = outputName if outputName is not None else outBlobNames if outBlobNames is not None else outputBlobs
        if name is None or (isinstance(name, str) and not name):
            return self._run([self._outline.ends[-1]])[0]
        if isinstance(name, str):
            return self._run([name])[0]
        names = list(name)
        if not all(isinstance(one, str) for one in names):
            raise InvalidArgumentError(f"forward takes names of layers and blobs, but got {name!r}")
        return tuple(self._run(names))

    def forwardAndRetrieve(self, outBlobNames: Sequence[str]) -> Any:  # noqa: N802, N803
        """Run the net; for each name a list of its one blob."""
        return [[blob] for blob in self._run(list(outBlobNames))]

    def empty(self) -> bool:
        """Tell whether the net has no layers."""
        return not self._outline.layers

    def getLayerNames(self) -> tuple[str, ...]:  # noqa: N802
        """Return the names of the layers, as the prototxt has them, without inputs and what only training needs."""
        return tuple(name for name, _, _ in self._outline.layers)

    def getLayerId(self, layer: str) -> int:  # noqa: N802
        """Return a layer's number, from 1; -1 where there is none."""
        names = self.getLayerNames()
        return names.index(layer) + 1 if layer in names else -1

    def getLayerTypes(self) -> tuple[str, ...]:  # noqa: N802
        """Return the types of layers that there are."""
        return tuple(sorted({kind for _, kind, _ in self._outline.layers}))

    def getLayersCount(self, layerType: str) -> int:  # noqa: N802, N803
        """Return how many layers of a type there are."""
        return sum(kind == layerType for _, kind, _ in self._outline.layers)

    def getUnconnectedOutLayers(self) -> NDArray[np.int32]:  # noqa: N802
        """Return the numbers of the layers that the net ends in."""
        return np.array([place + 1 for place in self._outline.outputs], np.int32)

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:  # noqa: N802
        """Return the names of the layers that the net ends in."""
        return tuple(self._outline.ends)

    def getPerfProfile(self) -> tuple[int, NDArray[np.float64]]:  # noqa: N802
        """Return the ticks that the last forward pass took, and that number once more as those of its one part."""
        ticks = round(self._seconds * cv2.getTickFrequency())
        return ticks, np.array([[float(ticks)]])

    def setPreferableBackend(self, backendId: int) -> None:  # noqa: N802, N803
        """Choose what runs the net: OpenCV, on CUDA where its target is that.

        Raises
        ------
        DeviceError
            Another backend.
        """
        known = (cv2.dnn.DNN_BACKEND_DEFAULT, cv2.dnn.DNN_BACKEND_OPENCV, cv2.dnn.DNN_BACKEND_CUDA)
        if backendId not in known:
            raise DeviceError(f"a Caffe net runs on DNN_BACKEND_OPENCV or DNN_BACKEND_CUDA, not on backend {backendId}")
        self._backend = backendId

    def setPreferableTarget(self, targetId: int) -> None:  # noqa: N802, N803
        """Choose the device.

        Raises
        ------
        DeviceError
            Neither DNN_TARGET_CPU nor DNN_TARGET_CUDA; at the next forward pass also where this OpenCV has no CUDA.
        """
        if targetId not in (cv2.dnn.DNN_TARGET_CPU, cv2.dnn.DNN_TARGET_CUDA):
            raise DeviceError(f"a Caffe net runs on DNN_TARGET_CPU or DNN_TARGET_CUDA, not on target {targetId}")
        if targetId != self._target:
            self._programs.clear()
        self._target = targetId

    def enableWinograd(self, useWinograd: bool) -> None:  # noqa: N802, N803
        """Allow or forbid Winograd's transform, which is faster and a digit less exact; on by default."""
        if useWinograd != (self._winograd is not False):
            self._programs.clear()
        self._winograd = useWinograd

    def enableFusion(self, fusion: bool) -> None:  # noqa: N802
        """Do nothing: BatchNorm and Scale are part of the layers before them from the start."""

    def _run(self, names: Sequence[str]) -> list[FloatArray]:
        """Return what the names mean, on the inputs that were set."""
        outline = self._outline
        missing = [name for name in outline.inputs if name not in self._given]
        if missing:
            raise InvalidArgumentError(f"the input {missing[0]!r} was not set: call setInput before forward")
        wanted = [outline.target(name) for name in names]
        inputs = [blob for blob in wanted if blob in outline.inputs]
        computed = tuple(dict.fromkeys(blob for blob in wanted if blob not in outline.inputs))
        if inputs and not computed:
            return [self._given[blob].copy() for blob in wanted]
        targets = None if set(computed) <= set(outline.end_targets) else computed
        start = time.perf_counter()
        session = self._suited(targets)
        found = session.run({name: self._given[name] for name in session.inputs})
        self._seconds = time.perf_counter() - start
        blobs = outline.end_targets if targets is None else targets
        made = dict(zip(blobs, (found[name] for name in session.outputs), strict=True))
        return [self._given[blob].copy() if blob in inputs else made[blob] for blob in wanted]

    def _suited(self, targets: tuple[str, ...] | None) -> Session:
        """Return a session that gives the blobs and takes inputs of the sizes that were set."""
        session = self._session((targets, None), self._main.model if targets is None else None)
        if _takes(session, self._given):
            return session
        shapes = tuple((name, array.shape) for name, array in self._given.items())
        return self._session((targets, shapes), None)

    def _session(self, which: tuple[Any, Any], model: Path | bytes | None) -> Session:
        if which in self._programs:
            self._programs.move_to_end(which)
            return self._programs[which]
        if model is None or (isinstance(model, Path) and not model.exists()):
            model = self._converted(*which)
        device = "cuda" if self._target == cv2.dnn.DNN_TARGET_CUDA else "cpu"
        session = Session(model, device=device, winograd=self._winograd)
        self._programs[which] = session
        while len(self._programs) > _MOST_PROGRAMS:
            self._programs.popitem(last=False)
        return session

    def _converted(self, targets: tuple[str, ...] | None, shapes: tuple[tuple[str, Any], ...] | None) -> Path | bytes:
        """Return a conversion, from the cache or made now."""
        key = self._files.key
        if self._key not in (None, key):
            raise ModelFileError(f"{self._files.name} or its weights changed since the net was read: read it again")
        self._key = key
        more = hashlib.sha256(repr((targets, shapes)).encode()).hexdigest()[:16]
        entry = f"net{_FORMAT}-{key[:40]}-{more}"
        return cached_file(entry, lambda: _convert(self._files, targets, dict(shapes or ())))

    @property
    def _outline(self) -> _Outline:
        return self._main.outline


def _source(what: str, value: object, other: object, *, needed: bool = True) -> Any:
    """Return a path as a string and contents as bytes."""
    if value is not None and other is not None:
        raise InvalidArgumentError(f"{what} was given twice")
    value = other if value is None else value
    if value is None and not needed:
        return None
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray) and value.dtype in (np.uint8, np.int8):
        return value.tobytes()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidArgumentError(f"{what} must be a path, bytes or an array of uint8, but got {type(value).__name__}")


def _identity(source: str | bytes | None) -> str:
    """Name a content: by its hash, or by place, size and times of a file that was not written a moment ago."""
    if source is None:
        return "none"
    if isinstance(source, bytes):
        return f"sha256 {hashlib.sha256(source).hexdigest()}"
    try:
        path = os.path.realpath(source)
        state = os.stat(path)  # noqa: PTH116 - with the path as it is
        written = max(state.st_mtime_ns, state.st_ctime_ns)
        if time.time_ns() - written > _SETTLED_NS:
            return f"file {path} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
        return f"sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None


def _convert(files: _Files, targets: tuple[str, ...] | None, shapes: Shapes) -> bytes:
    """Return a net as ONNX, with its outline in the metadata."""
    net = files.load(shapes or None)
    layers = written_through(net.layers, net.inputs, net.outputs)
    unique, final = single_assignment(layers, list(net.inputs))
    makers = {top: place for place, layer in enumerate(unique) for top in layer.tops}
    ends = sorted({makers[final[blob]] for blob in net.outputs if final[blob] in makers})
    after = [
        layer.type
        for layer, (bottoms, _) in zip(unique, infer(unique, net.inputs), strict=True)
        if kind_of(layer).step(layer, bottoms) is not None
    ]
    shapes_of = infer(unique, net.inputs)
    outline = _Outline(
        [(layer.name, layer.type, list(layer.tops)) for layer in unique],
        final,
        {name: list(shape) for name, shape in net.inputs.items()},
        ends,
        after,
        whole=False,
    )
    wanted = outline.end_targets if targets is None else targets
    model = replace(net, layers=tuple(unique), outputs=wanted).to_onnx()
    if targets is None and len(ends) == 1 and not after:
        owners = {top: layer.name for layer in unique for top in layer.tops}
        folded = {layer.name: owners[layer.tops[0]] for layer in fold(unique, shapes_of, wanted) if layer.tops}
        (last,) = ends
        blob = next(blob for blob in net.outputs if final[blob] in unique[last].tops)
        taken = any(layer.name == blob for layer in unique[:last]) or blob in net.inputs
        model = _with_layer_names(model, folded, unique[last].name if taken else blob)
        outline = replace(outline, whole=True)
    return model + _metadata(_OUTLINE_KEY, json.dumps(vars(outline)))


def _with_layer_names(model: bytes, names: Mapping[str, str], output: str) -> bytes:
    """Name the node that ends a layer after the layer.

    Parameters
    ----------
    model : bytes
        Its nodes are called after their layers, a slash and the operator.
    names : dict of str to str
        For every layer the name of the last that is folded into it.
    output : str
        What the output shall be called.
    """
    from onnx import load_model_from_string

    parsed = load_model_from_string(model)
    last = {node.name.rpartition("/")[0]: node for node in parsed.graph.node}
    for layer, node in last.items():
        if names.get(layer):
            node.name = names[layer]
    (port,) = parsed.graph.output
    if output:
        for node in parsed.graph.node:
            for values in (node.input, node.output):
                values[:] = [output if value == port.name else value for value in values]
        port.name = output
    return bytes(parsed.SerializeToString())


class _Classic:
    """The engine that keeps the names of layers, loaded when it is asked to show what it computes."""

    name = "opencv"
    limit = OpenCVBackend.limit
    doubted = True
    threads = 1

    def __init__(self, model: Model, settings: Settings, engine: int) -> None:
        self._opened = model, settings, engine
        self.version = f"{cv2.__version__} engine {engine}, by itself"

    def run(self, feeds: dict[str, FloatArray]) -> list[Any]:
        model, settings, engine = self._opened
        self._net = getattr(self, "_net", None) or OpenCVBackend(model, "cpu", settings, engine=engine)
        return self._net.run(feeds)


def _read_classic(path: Path) -> cv2.dnn.Net | None:
    """Read a net with the engine that keeps the names of layers; None where OpenCV has none such or it is wrong."""
    engine = getattr(cv2.dnn, "ENGINE_CLASSIC", None) if hasattr(cv2.dnn, "ENGINE_NEW") else 0
    if engine is None:
        return None
    model = Model(path, signature_of(path), str(path))
    if engine and not classic_reads_inside(model.signature):
        return None
    settings = Settings(tuple(port.name for port in model.signature.outputs), None, None)
    if disagreement(model, _Classic(model, settings, engine), settings):
        return None
    options = [engine] if engine else []
    with _environment:
        before = os.environ.get(_LEGACY)
        os.environ[_LEGACY] = "1"
        try:
            with nets.running(cv2, None):
                return cv2.dnn.readNetFromONNX(str(path), *options)
        except cv2.error:
            return None
        finally:
            if before is None:
                del os.environ[_LEGACY]
            else:
                os.environ[_LEGACY] = before


def _metadata(key: str, value: str) -> bytes:
    """Return an entry of an ONNX model's metadata, to be put behind the model's bytes: protobuf joins them."""
    from onnx import ModelProto

    part = ModelProto()
    part.metadata_props.add(key=key, value=value)
    return bytes(part.SerializeToString())


def _outline_of(model: Path | bytes) -> _Outline:
    """Read the outline alone: it is what a conversion ends in."""
    if isinstance(model, bytes):
        end = model[model.rindex(_OUTLINE_KEY.encode()) :]
    else:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end = content[content.rfind(_OUTLINE_KEY.encode()) :]
    fields = json.loads(end[end.index(b"{") :])
    return _Outline(**{**fields, "layers": [(name, kind, tops) for name, kind, tops in fields["layers"]]})


def _takes(session: Session, given: Mapping[str, FloatArray]) -> bool:
    """Tell whether a session takes arrays of these shapes."""
    for name, shape in session.inputs.items():
        array = given[name]
        fits = len(shape) == array.ndim and all(
            want in (None, side) for want, side in zip(shape, array.shape, strict=True)
        )
        if not fits:
            return False
    return True
