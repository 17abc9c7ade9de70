"""The graph of a net: which layers take part, with their bottoms, tops, settings and weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spherecv.brief import brief
from spherecv.caffe.spherecv_caffe_pb2 import TEST, LayerParameter, NetParameter, NetState, NetStateRule, Phase
from spherecv.errors import PrototxtError, UnsupportedLayerError

if TYPE_CHECKING:
    from spherecv.caffe.text import Outline

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

# What Caffe's Blob can hold: it counts elements with a C int (INT_MAX), and has kMaxBlobAxes.
_MOST_ELEMENTS = (1 << 31) - 1
_MOST_AXES = 32


def in_one_line(name: object) -> str:
    """Return the beginning of a name of a file, for an error: it may hold anything."""
    word = str(name)[:80]
    return word if word.isprintable() else repr(word)[1:-1]


def listed(names: Iterable[str]) -> str:
    """Return the first names of what may be a long list, for an error."""
    shown = [in_one_line(name) for name in names]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


def fits_a_blob(shape: Sequence[int]) -> bool:
    """Tell whether a blob can have a shape: sizes from 1, and neither too many axes nor too many elements."""
    return len(shape) <= _MOST_AXES and min(shape, default=1) >= 1 and math.prod(shape) <= _MOST_ELEMENTS


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    name, type : str
    bottoms, tops : tuple of str
        Names of the blobs read and written; the same name in both means in place.
    param : LayerParameter
        The settings, without weights.
    blobs : tuple of float32 arrays
        The weights; empty before they are merged in.
    line : int or None
        Where the layer starts in its prototxt.
    settings : dict of str to object
        Of a type of one's own: fields that Caffe's schema lacks, as ``{"cube_param": {"shift": 2}}``. A field that is
        given several times is a list, a message is a dict, and a name without quotes a string.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    param: LayerParameter = field(repr=False)
    blobs: tuple[Array, ...] = field(default=(), repr=False)
    line: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    __repr__ = brief

    @property
    def kind_name(self) -> str:
        """The name by which the layer's kind is found: its type, or module and class of a Python layer."""
        python = self.param.python_param
        return f"{python.module}.{python.layer}" if self.type == "Python" else self.type

    def __str__(self) -> str:
        place = "" if self.line is None else f", line {self.line}"
        return f"layer {self.name[:80]!r} ({in_one_line(self.type)}{place})"

    def mistake(self, reason: str) -> PrototxtError:
        """Return the error for a net that makes no sense at this layer."""
        return PrototxtError(f"{self}: {reason}", line=self.line)

    def unsupported(self, reason: str) -> UnsupportedLayerError:
        """Return the error for a setting that Caffe may know and we do not."""
        return UnsupportedLayerError(f"{self}: {reason}")


def layers_of(message: NetParameter, outline: Outline | None = None) -> list[Layer]:
    """Return every layer of an upgraded net, in the order of the file, whatever its phase.

    Parameters
    ----------
    message : NetParameter
        Without legacy `layers`: see `upgrade`.
    outline : Outline, optional
        Where the layers start, for errors.
    """
    lines: Sequence[int | None] = ()
    if outline is not None:
        lines = outline.layer or outline.layers
    if len(lines) != len(message.layer):
        lines = [None] * len(message.layer)
    return [_layer(param, line) for param, line in zip(message.layer, lines, strict=True)]


def _layer(param: LayerParameter, line: int | None) -> Layer:
    settings = param
    if param.blobs:
        settings = LayerParameter()
        settings.CopyFrom(param)
        settings.ClearField("blobs")
    return Layer(param.name, param.type, tuple(param.bottom), tuple(param.top), settings, (), line)


def in_phase(layers: Sequence[Layer], message: NetParameter, phase: Phase = TEST) -> list[Layer]:
    """Return the layers whose include and exclude rules let them take part.

    Parameters
    ----------
    layers : sequence of Layer
    message : NetParameter
        Its `state` gives level and stages.
    phase : Phase
        ``TRAIN`` (0) or ``TEST`` (1) of `spherecv_caffe_pb2`.
    """
    state = NetState()
    state.CopyFrom(message.state)
    state.phase = phase
    return [layer for layer in layers if _takes_part(layer, state)]


def _takes_part(layer: Layer, state: NetState) -> bool:
    include, exclude = layer.param.include, layer.param.exclude
    if include and exclude:
        raise layer.mistake("has both include and exclude rules: Caffe allows one kind only")
    if include:
        return any(_meets(state, rule) for rule in include)
    return not any(_meets(state, rule) for rule in exclude)


def _meets(state: NetState, rule: NetStateRule) -> bool:
    return not (
        (rule.HasField("phase") and rule.phase != state.phase)
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or any(stage not in state.stage for stage in rule.stage)
        or any(stage in state.stage for stage in rule.not_stage)
    )


def check_wiring(layers: Sequence[Layer], inputs: Sequence[str], *, names_repeat: bool = False) -> None:
    """Check that every bottom was made before it is used, and every top is made once (or in place).

    With `names_repeat` several layers may have one name, or none, as Caffe allows.
    """
    made = set(inputs)
    names: set[str] = set()
    for layer in layers:
        if layer.name in names and not names_repeat:
            raise layer.mistake("another layer has the same name: rename one, weights are found by name")
        names.add(layer.name)
        for bottom in layer.bottoms:
            if bottom not in made:
                raise layer.mistake(f"its bottom {bottom!r} is not made by an input or an earlier layer")
        if len(set(layer.tops)) != len(layer.tops):
            raise layer.mistake("names one top twice")
        bottoms = set(layer.bottoms)
        for top in layer.tops:
            if top in made and top not in bottoms:
                raise layer.mistake(f"its top {top!r} was made before: only in-place layers may write a blob again")
            made.add(top)


def check_counts(layers: Sequence[Layer]) -> None:
    """Check the settings that Caffe wants once for each bottom or top, or not at all."""
    for layer in layers:
        for setting, blobs in (("propagate_down", layer.bottoms), ("loss_weight", layer.tops)):
            given = len(getattr(layer.param, setting))
            if given not in (0, len(blobs)):
                raise layer.mistake(f"gives {setting} {given} times: Caffe wants it {len(blobs)} times, or not at all")


def open_ends(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the blobs that no layer reads after they were last written: a net's outputs."""
    ends: dict[str, None] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            ends.pop(bottom, None)
        ends.update(dict.fromkeys(layer.tops))
    return tuple(ends)


def single_assignment(layers: Sequence[Layer], inputs: Sequence[str]) -> tuple[list[Layer], dict[str, str]]:
    """Rename blobs so that each is written once.

    Returns
    -------
    layers : list of Layer
        A blob keeps its name where it is first written; in-place layers write `name@2`, `name@3`, ...
    final : dict of str to str
        For every blob, the name under which its last value goes.
    """
    taken = {*inputs, *(top for layer in layers for top in layer.tops)}
    final = {name: name for name in inputs}
    versions = dict.fromkeys(inputs, 1)
    renamed = []
    for layer in layers:
        bottoms = tuple(final[bottom] for bottom in layer.bottoms)
        for top in layer.tops:
            versions[top] = versions.get(top, 0) + 1
            while versions[top] > 1 and f"{top}@{versions[top]}" in taken:
                versions[top] += 1
            final[top] = top if versions[top] == 1 else f"{top}@{versions[top]}"
        renamed.append(replace(layer, bottoms=bottoms, tops=tuple(final[top] for top in layer.tops)))
    return renamed, final
