"""Weights between a net and a caffemodel, with a list of what was taken and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spherecv.caffe.blobs import blob_shape, read_weights, write_blob
from spherecv.caffe.reader import Source, read_caffemodel
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.caffe.upgrade import upgrade
from spherecv.errors import CaffeModelError
from spherecv.train.net import Net
from spherecv.train.params import Param, Shape


@dataclass(frozen=True)
class LoadReport:
    """What happened to each blob of a net when weights were loaded.

    Attributes
    ----------
    taken : tuple of str
        Blobs that came from the file, as ``layer/index``.
    differing : tuple of str
        Blobs whose shape in the file is another, with both shapes.
    missing : tuple of str
        Blobs the file does not have.
    """

    taken: tuple[str, ...]
    differing: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every blob came from the file."""
        return not self.differing and not self.missing

    def __str__(self) -> str:
        parts = [f"{len(self.taken)} blobs taken"]
        if self.differing:
            parts.append(f"not taken, as their shapes differ: {', '.join(self.differing)}")
        if self.missing:
            parts.append(f"not in the file: {', '.join(self.missing)}")
        return "; ".join(parts)


def load_weights(net: Net, source: Source | NetParameter, *, partial: bool = False) -> LoadReport:
    """Take a net's weights from a caffemodel, by the names of layers.

    Parameters
    ----------
    net : Net
    source : str, path, bytes or NetParameter
    partial : bool
        Whether blobs that are missing or have another shape keep their start values; else that is an error.

    Returns
    -------
    LoadReport

    Raises
    ------
    CaffeModelError
        The file is damaged, or holds weights that are NaN or infinite; or, without `partial`, does not fit; or holds
        nothing that fits.
    """
    message = upgrade(source if isinstance(source, NetParameter) else read_caffemodel(source))
    stored = {layer.name: layer.blobs for layer in message.layer if layer.blobs}
    places = {name: place for place, name in enumerate(stored)}
    taken, differing, missing, ready = [], [], [], []
    # In the order of the file: of layers that share a blob, the last one's numbers stay, as in Caffe.
    for layer in sorted(net.layers, key=lambda layer: places.get(layer.name, -1)):
        blobs = stored.get(layer.name, ())
        if len(blobs) > len(layer.params):
            differing.append(f"{layer.name} has {len(blobs)} blobs in the file for {len(layer.params)}")
        for index, param in enumerate(layer.params):
            if index >= len(blobs):
                missing.append(param.name)
                continue
            shape = blob_shape(blobs[index])
            if _significant(shape) != _significant(param.order.caffe):
                differing.append(f"{param.name} {shape} for {param.order.caffe}")
                continue
            values = read_weights(blobs[index], where=f"blob {index} of layer {layer.name!r}")
            ready.append((param, values.reshape(param.order.caffe)))
            taken.append(param.name)
    report = LoadReport(tuple(taken), tuple(differing), tuple(missing))
    if not taken or (not partial and not report.complete):
        raise CaffeModelError(f"the weights do not fit the net {net.name!r}: {report}")
    for param, values in ready:
        param.from_caffe(net.backend, values)
    return report


def to_caffemodel(net: Net, extra: Sequence[tuple[str, str, Sequence[Param]]] = ()) -> NetParameter:
    """Return a net's layers with their weights, as a caffemodel.

    Parameters
    ----------
    net : Net
    extra : sequence of (name, type, params)
        Layers that a loss outside the net has.
    """
    message = NetParameter(name=net.name)
    for layer in net.layers:
        entry = message.layer.add()
        entry.CopyFrom(layer.spec.param)
        for param in layer.params:
            write_blob(param.to_caffe(net.backend), entry.blobs.add())
    for name, kind, params in extra:
        entry = message.layer.add(name=name, type=kind)
        for param in params:
            write_blob(param.to_caffe(net.backend), entry.blobs.add())
    return message


def _significant(shape: Shape) -> Shape:
    """Return a shape without the ones in front: legacy blobs are (1, 1, 1, 64) where today's are (64,)."""
    leading = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[leading:])
