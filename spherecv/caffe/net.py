"""CaffeNet: a net as it is deployed, from its prototxt and its caffemodel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike

from spherecv.brief import brief
from spherecv.caffe.cache import CONVERTER_VERSION
from spherecv.caffe.graph import Layer, Shape, check_counts, check_wiring, in_phase, layers_of, listed, open_ends
from spherecv.caffe.inputs import deployed
from spherecv.caffe.layers import kind_of
from spherecv.caffe.onnx_export import export
from spherecv.caffe.reader import Definition, Source, read_caffemodel, read_definition, refusal
from spherecv.caffe.registry import is_registered
from spherecv.caffe.shapes import infer
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.caffe.summary import Summary, summarize
from spherecv.caffe.text import gather
from spherecv.caffe.upgrade import upgrade
from spherecv.caffe.weights import merge
from spherecv.caffe.writer import write_caffemodel, write_prototxt
from spherecv.errors import InvalidArgumentError, ModelFileError


@dataclass(frozen=True)
class CaffeNet:
    """A net as it is deployed: phase TEST, without data, loss and other training layers. Made by `load`.

    Attributes
    ----------
    name : str
    inputs : dict of str to tuple of int
        The declared shape of every input, (N, C, H, W) for images.
    outputs : tuple of str
        The blobs asked for; else those that no layer reads, and no Silence layer hides.
    layers : tuple of Layer
        In the order in which they run, with weights if a caffemodel was given.
    definition : NetParameter
        The whole prototxt as it was read, training layers included, but for fields that the schema lacks (of layers
        that are not used: in others they are refused).
    weights : NetParameter or None
        The whole caffemodel as it was read.
    """

    name: str
    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    definition: NetParameter = field(repr=False)
    weights: NetParameter | None = field(repr=False)

    __repr__ = brief

    def summary(self) -> Summary:
        """Return the table of layers, output shapes, parameters and multiply-accumulates; ``str()`` prints it."""
        return summarize(self.name, self.layers, self.inputs)

    def to_onnx(self, *, outputs: Sequence[str] | None = None, fold: bool = True) -> bytes:
        """Convert the net to ONNX.

        Parameters
        ----------
        outputs : sequence of str, optional
            Names of the blobs wanted; all of `outputs` by default. Layers that none of them needs are left out.
        fold : bool
            Fold BatchNorm, Scale and Bias into the layers before them, where nothing else sees what lies between.

        Returns
        -------
        bytes
            An ONNX model, float32, opset 13; the same net gives the same bytes. Its inputs and outputs have the
            names of the blobs. The batch is symbolic, and so are height and width where the net works at any size.

        Raises
        ------
        InvalidArgumentError
            If the net has no weights, or no blob of a name asked for.
        """
        for layer, (bottoms, _) in zip(self.layers, infer(self.layers, self.inputs), strict=True):
            if not layer.blobs and kind_of(layer).stored_shapes(layer, bottoms, 0):
                raise InvalidArgumentError(f"{layer} has no weights to convert: load the net with its caffemodel")
        wanted = self.outputs if outputs is None else tuple(dict.fromkeys(outputs))
        blobs = dict.fromkeys(top for layer in self.layers for top in layer.tops)
        for name in wanted:
            if name not in blobs:
                raise InvalidArgumentError(f"the net has no blob {name!r} to output; it has {listed(blobs)}")
        if not wanted:
            raise InvalidArgumentError(f"the net {self.name!r} has no layers to convert")
        return export(self.name, self.layers, self.inputs, wanted, fold=fold, version=CONVERTER_VERSION)

    def save(self, prototxt: str | PathLike[str], caffemodel: str | PathLike[str] | None = None) -> None:
        """Write the files that the net was read from: the whole definition, and the whole caffemodel.

        Parameters
        ----------
        prototxt : path
            Comments and layout of the original are gone; nothing else.
        caffemodel : path, optional
            Left out for a net without weights.

        Raises
        ------
        StorageError
            If a file cannot be written; what was there before is then still there.
        InvalidArgumentError
            If a caffemodel is asked of a net without weights.
        """
        if caffemodel is not None and self.weights is None:
            raise InvalidArgumentError(f"the net {self.name!r} has no weights to save")
        write_prototxt(self.definition, prototxt)
        if caffemodel is not None and self.weights is not None:
            write_caffemodel(self.weights, caffemodel)


def load(
    prototxt: Source,
    caffemodel: Source | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    stages: Sequence[str] = (),
) -> CaffeNet:
    """Read a Caffe model for deployment.

    Parameters
    ----------
    prototxt : str, path or bytes
        The definition: a file, or its text as bytes. A training prototxt will do: its data layer becomes the input, its
        loss layers (MarginInnerProduct among them, and what else is called a loss) and all that reads labels are
        dropped. The forms V0, V1 and that of today are read as Caffe reads them.
    caffemodel : str, path or bytes, optional
        The weights, a caffemodel or Caffe's HDF5 (which needs the extra `hdf5`); without them the net can be looked at
        but not converted.
    input_shapes : dict of str to sequence of int, optional
        Shapes of inputs in place of the declared ones, or where none is declared.
    outputs : sequence of str, optional
        Blobs to end at, any of the net. What lies behind them is neither checked nor converted, and may be of types
        that nobody knows.
    stages : sequence of str
        Stages for `include` and `exclude` rules, besides those of the prototxt's own `state`: "deploy" for files
        that hold a net for training and for deployment, as DIGITS writes them.

    Returns
    -------
    CaffeNet

    Raises
    ------
    PrototxtError
        For a mistake in the prototxt, with its line.
    CaffeModelError
        For a caffemodel that is damaged or of another net.
    UnsupportedLayerError
        For a layer the converter does not know.
    ModelFileError
        If a file cannot be read.
    """
    definition = read_definition(prototxt, strict=False)
    wanted = None if outputs is None else tuple(dict.fromkeys(outputs))
    with _named(definition.name):
        message = upgrade(definition.message)
        net = _with_settings(layers_of(message, definition.outline), definition)
        layers = in_phase(net, _staged(message, stages))
        taking_part = {id(layer) for layer in layers}
        others = [layer for layer in net if id(layer) not in taking_part]
        whole = deployed(layers, message, input_shapes, others)
    _check_fields(definition, net, [layer for layer in whole.origin.values() if layer.type == "Input"])
    with _named(definition.name):
        running, inputs = whole.needed(wanted)
    _check_fields(definition, net, running)
    with _named(definition.name):
        check_wiring(running, list(inputs), names_repeat=True)
        check_counts(running)
        shapes = infer(running, inputs)
        silenced = {bottom for layer in layers if layer.type == "Silence" for bottom in layer.bottoms}
    weights = None
    if caffemodel is not None:
        weights = read_caffemodel(caffemodel)
        with _named("<caffemodel>" if isinstance(caffemodel, bytes) else str(caffemodel)):
            running = merge(running, shapes, upgrade(weights), whole.layers)
    ends = wanted or tuple(blob for blob in open_ends(running) if blob not in silenced)
    return CaffeNet(message.name, inputs, ends, tuple(running), definition.message, weights)


def _staged(message: NetParameter, stages: Sequence[str]) -> NetParameter:
    """Return a net without layers whose state has some stages more."""
    staged = NetParameter()
    staged.state.CopyFrom(message.state)
    staged.state.stage.extend(stages)
    return staged


def _check_fields(definition: Definition, net: Sequence[Layer], used: Sequence[Layer]) -> None:
    """Refuse fields that the schema lacks in layers that compute something."""
    faults = definition.outline.unknown
    if faults and len(net) != max(len(definition.outline.layer), len(definition.outline.layers)):
        raise refusal(definition, faults[0])  # V0's padding layers are gone: places no longer tell which layer it is
    computing = {id(layer) for layer in used}
    for fault in faults:
        if fault.layer is None or id(net[fault.layer]) not in computing:
            continue
        if fault.field is None or fault.field not in net[fault.layer].settings:
            raise refusal(definition, fault)


def _with_settings(net: list[Layer], definition: Definition) -> list[Layer]:
    """Give layers of registered types the settings that Caffe's schema lacks."""
    faults = definition.outline.unknown
    if not faults or len(net) != max(len(definition.outline.layer), len(definition.outline.layers)):
        return net
    found: dict[int, dict[str, object]] = {}
    for fault in faults:
        if fault.layer is not None and fault.field is not None and is_registered(net[fault.layer].kind_name):
            gather(found.setdefault(fault.layer, {}), fault.field, fault.value)
    return [replace(layer, settings=found[index]) if index in found else layer for index, layer in enumerate(net)]


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ModelFileError as error:
        error.args = (f"{file}: {error}",)
        raise
