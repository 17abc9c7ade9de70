"""A net that learns: built from a prototxt, run forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spherecv.caffe.blobs import read_blob
from spherecv.caffe.graph import Layer as Spec
from spherecv.caffe.graph import check_wiring, fits_a_blob, in_phase, layers_of, open_ends, single_assignment
from spherecv.caffe.inputs import declared_inputs
from spherecv.caffe.layers import DATA
from spherecv.caffe.reader import Source, read_definition
from spherecv.caffe.spherecv_caffe_pb2 import TEST, TRAIN, NetParameter, NetState, Phase
from spherecv.caffe.upgrade import upgrade
from spherecv.errors import InvalidArgumentError
from spherecv.train.axes import internal_shape
from spherecv.train.backend.base import Array, Backend
from spherecv.train.layers import LAYERS, Context, Layer, make_layer
from spherecv.train.params import Param, Shape
from spherecv.train.stages import Stage, stages_of

_AUTOMATIC = " (automatic)"


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gives.

    Attributes
    ----------
    loss : float
        The weighted sum of the loss layers; 0 where there is none.
    blobs : dict of str to array
        The net's outputs, and the blobs that were asked for.
    """

    loss: float
    blobs: dict[str, Array]


class Net:
    """A net, its parameters and its gradients.

    Maps are arrays (images, height, width, channels); files hold Caffe's order.

    Parameters
    ----------
    definition : NetParameter
        Upgraded; training layers included.
    shapes : dict of str to tuple of int
        The shape of each input in Caffe's order, ``{"data": (32, 3, 112, 96), "label": (32,)}``. The number of images
        may change from pass to pass.
    backend : Backend
    until : str, optional
        The blob at which the net shall end; layers it does not need are left out.
    phase : {0, 1}
        Which include and exclude rules hold: TRAIN (0) or TEST (1).
    seed : int
        Of weights and dropout.
    exact_margin : bool
        Whether margin layers give the true derivative instead of the released one.
    specs : sequence of Spec, optional
        The layers of the definition with their lines, for errors.
    """

    def __init__(
        self,
        definition: NetParameter,
        shapes: Mapping[str, Shape],
        backend: Backend,
        *,
        until: str | None = None,
        phase: Phase = TRAIN,
        seed: int = 0,
        exact_margin: bool = False,
        specs: Sequence[Spec] | None = None,
    ) -> None:
        self.definition = definition
        self.name = definition.name
        self.backend = backend
        self.context = Context(
            backend, np.random.default_rng(seed), phase == TRAIN, exact_margin, forced=definition.force_backward
        )
        running = in_phase(layers_of(definition) if specs is None else specs, definition, phase)
        self.data_layers = [spec for spec in running if _reads_data(spec)]
        computing = [_with_top(spec) for spec in running if not _reads_data(spec) and spec.type != "Input"]
        if until is not None:
            computing = _needed_for(until, computing)
        self.inputs = {name: tuple(shape) for name, shape in shapes.items()}
        for name, shape in self.inputs.items():
            if not fits_a_blob(shape):
                raise InvalidArgumentError(f"the input {name!r} must have sizes from 1, but got {shape}")
        check_wiring(computing, list(self.inputs))
        ends = open_ends(computing)
        renamed, final = single_assignment(computing, list(self.inputs))
        self._final = final
        self.outputs = tuple(end for end in ends if end in final and not end.endswith(_AUTOMATIC))
        self.layers = [make_layer(spec, self.context) for spec in renamed]
        self.shapes = self._set_up()
        self.params = _distinct(param.owner for layer in self.layers for param in layer.params)
        self._fill()
        self._asked: set[str] = set()
        self._needs = self._mark()
        self._check_labels()
        if definition.force_backward:
            self.differentiate_inputs()
        self._learning = False
        self._stages: list[Stage] = []
        self._cuts: dict[tuple[Any, ...], list[Stage]] = {}
        self.losses = {top: weight for layer in self.layers for top, weight in _loss_tops(layer)}

    @classmethod
    def from_prototxt(
        cls,
        prototxt: Source,
        backend: Backend,
        *,
        shapes: Mapping[str, Shape] | None = None,
        state: NetState | None = None,
        **settings: Any,
    ) -> Net:
        """Build a net from a prototxt: a path, or its text as bytes.

        Parameters
        ----------
        prototxt : str, path or bytes
        backend : Backend
        shapes : dict, optional
            Of inputs whose shape the prototxt does not tell, such as those of an ImageData layer.
        state : NetState, optional
            A solver's `train_state`: level and stages beside the net's own.
        **settings
            As for `Net`.
        """
        definition, specs = _read(prototxt, state)
        return cls(definition, {**input_shapes(definition), **(shapes or {})}, backend, specs=specs, **settings)

    # ------------------------------------------------------------------------------------------------ running
    def forward(self, inputs: Mapping[str, Array], *, keep: Sequence[str] = (), learn: bool = True) -> Outputs:
        """Run the net.

        Parameters
        ----------
        inputs : dict of str to array
            Maps as (images, height, width, channels); labels as whole numbers, (images,).
        keep : sequence of str
            Names of blobs to return beside the outputs.
        learn : bool
            Whether a backward pass may follow. Without, less is kept in memory.
        """
        self._learning = learn
        for name, shape in self.inputs.items():
            if name not in inputs:
                raise InvalidArgumentError(f"the net {self.name!r} needs the input {name!r}")
            wanted_maps, given = internal_shape(shape)[1:], tuple(inputs[name].shape)
            if len(given) != len(shape) or given[1:] != wanted_maps:
                expected = ", ".join(("images", *(str(size) for size in wanted_maps))) if shape else ""
                raise InvalidArgumentError(f"the input {name!r} must have shape ({expected}), but got {given}")
        values: dict[str, Array] = {name: inputs[name] for name in self.inputs}
        wanted = {self._final[name]: name for name in (*self.outputs, *keep) if name in self._final}
        stages = self._cut(max((value.shape[0] for value in values.values() if value.ndim), default=1))
        if stages is not self._stages:
            self._forget_stages()  # of a pass with another number of images, whose backward pass never came
        self._stages = stages
        self._given = {name: values[name].shape for name in self._asked}
        with self.backend.active():
            for index, stage in enumerate(self._stages):
                later = set().union(*(after.reads for after in self._stages[index + 1 :]))
                stage.forward(values, {*wanted, *self.losses, *later}, learn=learn)
        xp = self.backend.xp
        self._loss_shapes = {top: values[top].shape for top in self.losses}
        loss = sum(weight * float(xp.sum(values[top])) for top, weight in self.losses.items())
        return Outputs(float(loss), {name: values[full] for full, name in wanted.items()})

    def backward(self, grads: Mapping[str, Array] | None = None, *, weight: float = 1.0) -> dict[str, Array]:
        """Run the net backwards, adding to the parameters' gradients.

        Parameters
        ----------
        grads : dict of str to array, optional
            Gradients of blobs, from a loss outside the net. The net's own loss layers start by themselves.
        weight : float
            Factor on the net's own losses.

        Returns
        -------
        dict of str to array
            The gradients of the net's inputs, where `differentiate_inputs` was called; zeros for those that lead to no
            loss.
        """
        if not self._learning:
            raise InvalidArgumentError("backward needs a forward pass before it, with learn=True")
        self._learning = False
        backend = self.backend
        due: dict[str, Array] = {self._final[name]: grad for name, grad in (grads or {}).items()}
        for top, share in self.losses.items():
            due[top] = backend.xp.full(self._loss_shapes[top], weight * share, dtype=backend.dtype)
        with backend.active():
            for stage in reversed(self._stages):
                stage.backward(due, self._needs)
        given = {name: due[name] for name in self.inputs if name in due}
        return given | {name: backend.zeros(shape) for name, shape in self._given.items() if name not in given}

    def differentiate_inputs(self) -> None:
        """Also compute the gradients of the inputs (those that are not labels), which training does not need."""
        self._asked = self._differentiable_inputs()
        self._needs = self._mark()

    def _differentiable_inputs(self) -> set[str]:
        return {name for name, shape in self.inputs.items() if len(shape) != 1}

    def forget(self) -> None:
        """Drop what was kept for a backward pass that never came, and all gradients."""
        self._forget_stages()
        for param in self.params:
            param.grad = None

    def _forget_stages(self) -> None:
        for stage in self._stages:
            stage.forget()

    # ------------------------------------------------------------------------------------------------ looking
    def layer(self, name: str) -> Layer:
        """Return a layer by its name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InvalidArgumentError(f"the net {self.name!r} has no layer {name!r}")

    def width(self, blob: str) -> int:
        """Return how many numbers a blob has per image."""
        if blob not in self._final or self._final[blob] not in self.shapes:
            raise InvalidArgumentError(f"the net {self.name!r} has no blob {blob!r}")
        return int(np.prod(self.shapes[self._final[blob]][1:]))

    def value_names(self) -> dict[str, str]:
        """Return the blobs of the definition, each with the name of its last value among the layers' tops."""
        return dict(self._final)

    def train(self, mode: bool = True) -> None:
        """Switch dropout and batch statistics on or off."""
        self.context.train = mode

    def state(self) -> dict[str, dict[str, float]]:
        """Return the numbers, beside the parameters, that a resumed run needs, by layer."""
        return {layer.name: state for layer in self.layers if (state := layer.state())}

    def restore(self, state: Mapping[str, dict[str, float]]) -> None:
        """Take back what `state` returned."""
        for layer in self.layers:
            if layer.name in state:
                layer.restore(state[layer.name])

    # ------------------------------------------------------------------------------------------------ building
    def _set_up(self) -> dict[str, Shape]:
        shapes = {name: internal_shape(shape) for name, shape in self.inputs.items()}
        for layer in self.layers:
            count = len(layer.spec.param.propagate_down)
            if count not in (0, len(layer.spec.bottoms)):
                raise layer.spec.mistake(f"propagate_down is given {count} times for {len(layer.spec.bottoms)} bottoms")
            tops = layer.setup([shapes[name] for name in layer.spec.bottoms])
            if len(tops) != len(layer.spec.tops):
                raise layer.spec.mistake(f"makes {len(tops)} tops, but {len(layer.spec.tops)} are named")
            if len(layer.spec.param.param) > len(layer.params):
                raise layer.spec.mistake(
                    f"has {len(layer.spec.param.param)} param blocks for {len(layer.params)} blobs of weights"
                )
            shapes.update(zip(layer.spec.tops, tops, strict=True))
        return shapes

    def _fill(self) -> None:
        """Take weights that the definition itself holds."""
        stored = {param.name: param.blobs for param in self.definition.layer if param.blobs}
        for layer in self.layers:
            blobs = stored.get(layer.name, ())
            if blobs and len(blobs) != len(layer.params):
                raise layer.spec.mistake(f"holds {len(blobs)} blobs, but needs {len(layer.params)}")
            for index, (param, blob) in enumerate(zip(layer.params, blobs, strict=bool(blobs))):
                values = read_blob(blob, where=f"blob {index} of {layer.spec}")
                if values.size != math.prod(param.order.caffe):
                    raise layer.spec.mistake(f"holds a blob of {values.shape} where {param.order.caffe} is needed")
                param.from_caffe(self.backend, values.reshape(param.order.caffe))

    def _mark(self) -> set[str]:
        """Return the blobs whose gradient is needed: those that depend on something learnt."""
        needs = set(self._asked)
        for layer in self.layers:
            depends = any(layer.needed(needs))
            if layer.differentiable and (depends or any(param.trainable for param in layer.params)):
                needs.update(layer.spec.tops)
        return needs

    def _check_labels(self) -> None:
        """Refuse a loss that would have to pass a gradient to its labels."""
        for layer in self.layers:
            needed, stated = layer.needed(self._needs), layer.spec.param.propagate_down
            for place in layer.ungraded if layer.is_loss else ():
                if place < len(needed) and (needed[place] or (stated and stated[place])):
                    bottom = layer.spec.param.bottom[place]
                    raise layer.spec.mistake(f"passes no gradient to {bottom!r}: give propagate_down, false there")

    def refresh_needs(self) -> None:
        """Look again at what learns, after a parameter's `lr_mult` was changed."""
        self._needs = self._mark()

    def _cut(self, images: int) -> list[Stage]:
        """Return the stages for a number of images, made once for each way of cutting."""
        key = (self.backend.lanes, images >= self.backend.lanes, *(layer.imagewise for layer in self.layers))
        if key not in self._cuts:
            self._cuts[key] = list(stages_of(self.layers, self.backend, self.shapes, images))
        return self._cuts[key]


def data_layers(prototxt: Source, phase: Phase = TRAIN, *, state: NetState | None = None) -> list[Spec]:
    """Return a prototxt's layers of a phase that read data; what a DummyData layer gives, it makes itself."""
    definition, specs = _read(prototxt, state)
    return [spec for spec in in_phase(specs, definition, phase) if _reads_data(spec)]


def input_shapes(definition: NetParameter, phase: Phase = TRAIN) -> dict[str, Shape]:
    """Return the inputs whose shapes a prototxt states by itself, outside data layers."""
    found = {name: shape for name, shape in declared_inputs(definition).items() if shape is not None}
    for spec in in_phase(layers_of(definition), definition, phase):
        if spec.type == "Input":
            stated = [tuple(shape.dim) for shape in spec.param.input_param.shape]
            stated = stated * len(spec.tops) if len(stated) == 1 else stated
            found |= dict(zip(spec.tops, stated, strict=False))
    return found


def _read(prototxt: Source, state: NetState | None) -> tuple[NetParameter, list[Spec]]:
    """Read a prototxt, with a solver's state laid over the net's own."""
    source = read_definition(prototxt)
    definition = upgrade(source.message)
    if state is not None:
        definition.state.MergeFrom(state)
    return definition, layers_of(definition, source.outline)


def _with_top(spec: Spec) -> Spec:
    """Return a loss layer that names no top with one, which counts as any other loss and is no output."""
    if spec.tops or spec.type not in LAYERS or not LAYERS[spec.type].is_loss:
        return spec
    return replace(spec, tops=(f"{spec.name}{_AUTOMATIC}",))


def _reads_data(spec: Spec) -> bool:
    return spec.type in DATA and spec.type not in LAYERS


def _loss_tops(layer: Layer) -> list[tuple[str, float]]:
    spec = layer.spec
    # A loss layer has one weight of its own; Caffe then wants as many as there are tops.
    weights = list(spec.param.loss_weight) or ([1.0] if layer.is_loss else [])
    if weights and len(weights) != len(spec.tops):
        raise spec.mistake(f"has {len(weights)} loss_weight for {len(spec.tops)} tops: give one for each")
    return [(top, weight) for top, weight in zip(spec.tops, weights, strict=False) if weight]


def _needed_for(blob: str, specs: Sequence[Spec]) -> list[Spec]:
    """Return the layers that lead to a blob's last value."""
    wanted, kept = {blob}, []
    if not any(blob in spec.tops for spec in specs):
        made = ", ".join(dict.fromkeys(top for spec in specs for top in spec.tops))
        raise InvalidArgumentError(f"the net makes no blob {blob!r}; it makes {made}")
    for spec in reversed(specs):
        if wanted & set(spec.tops):
            kept.append(spec)
            wanted |= set(spec.bottoms)
    return kept[::-1]


def _distinct(params: Any) -> list[Param]:
    return list({id(param): param for param in params}.values())


__all__ = ["TEST", "TRAIN", "Net", "Outputs", "data_layers", "input_shapes"]
