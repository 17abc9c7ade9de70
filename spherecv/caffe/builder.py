"""NetBuilder: write a net in a few lines instead of a few thousand of prototxt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

from spherecv.caffe.spherecv_caffe_pb2 import (
    ConvolutionParameter,
    EltwiseParameter,
    FillerParameter,
    InnerProductParameter,
    LayerParameter,
    MarginInnerProductParameter,
    NetParameter,
    PoolingParameter,
)
from spherecv.errors import InvalidArgumentError

Multipliers = Sequence[tuple[float, float]]

# Rate and decay of weights and bias in the authors' prototxts: the bias learns twice as fast and does not decay.
WEIGHT_AND_BIAS: Multipliers = ((1, 1), (2, 0))
FROZEN: Multipliers = ((0, 0), (0, 0))


class Learning(TypedDict, total=False):
    """What only a training reads of a layer: fillers, and (lr_mult, decay_mult) of weights and bias."""

    weight_filler: FillerParameter
    bias_filler: FillerParameter
    multipliers: Multipliers


def xavier() -> FillerParameter:
    """Uniform, of variance 1 / fan-in."""
    return FillerParameter(type="xavier")


def msra() -> FillerParameter:
    """Gaussian, of variance 2 / fan-in."""
    return FillerParameter(type="msra")


def gaussian(std: float) -> FillerParameter:
    """Gaussian, of a given standard deviation."""
    return FillerParameter(type="gaussian", std=std)


def constant(value: float) -> FillerParameter:
    """One number everywhere."""
    return FillerParameter(type="constant", value=value)


class NetBuilder:
    """Builds a NetParameter layer by layer.

    Every method adds one layer and returns the builder. A layer reads what the layer before it made, unless `bottom`
    says otherwise, and its top has its own name; activations, BatchNorm, Scale and Dropout work in place.

    Parameters
    ----------
    name : str
        Of the net.

    Examples
    --------
    >>> net = NetBuilder("small").input("data", (1, 3, 12, 12)).conv("conv1", 8, 3).prelu("relu1").build()
    >>> [layer.type for layer in net.layer]
    ['Convolution', 'PReLU']
    """

    def __init__(self, name: str) -> None:
        self._net = NetParameter(name=name)
        self._last: str | None = None

    @property
    def last(self) -> str:
        """The blob made last, which the next layer reads."""
        if self._last is None:
            raise InvalidArgumentError("the net has no blob yet: declare an input or a data layer first")
        return self._last

    def build(self) -> NetParameter:
        """Return the net, a copy of its own."""
        net = NetParameter()
        net.CopyFrom(self._net)
        return net

    def input(self, name: str, shape: Sequence[int]) -> NetBuilder:
        """Declare an input of four sizes (N, C, H, W), as `input` and `input_dim`."""
        if len(shape) != 4:
            raise InvalidArgumentError(f"shape must be (N, C, H, W), but got {tuple(shape)}")
        self._net.input.append(name)
        self._net.input_dim.extend(shape)
        self._last = name
        return self

    def image_data(
        self,
        source: str,
        *,
        batch_size: int,
        mean: Sequence[float] = (),
        scale: float | None = None,
        mirror: bool = False,
        shuffle: bool = False,
        name: str = "data",
        label: str = "label",
    ) -> NetBuilder:
        """Read images and labels from a list file: `(pixel - mean) * scale`."""
        layer = self._net.layer.add(name=name, type="ImageData", top=[name, label])
        layer.transform_param.mean_value.extend(mean)
        if scale is not None:
            layer.transform_param.scale = scale
        if mirror:
            layer.transform_param.mirror = True
        layer.image_data_param.source = source
        layer.image_data_param.batch_size = batch_size
        if shuffle:
            layer.image_data_param.shuffle = True
        self._last = name
        return self

    def conv(
        self,
        name: str,
        num_output: int,
        kernel: int,
        *,
        stride: int | None = None,
        pad: int = 0,
        group: int = 1,
        bias: bool = True,
        bottom: str | None = None,
        **learning: Unpack[Learning],
    ) -> NetBuilder:
        """Add a Convolution."""
        layer = self._add(name, "Convolution", bottom, multipliers=learning.get("multipliers", ()))
        param = layer.convolution_param
        param.num_output = num_output
        param.kernel_size.append(kernel)
        if stride is not None:
            param.stride.append(stride)
        if pad:
            param.pad.append(pad)
        if group != 1:
            param.group = group
        _weights(param, bias, learning.get("weight_filler"), learning.get("bias_filler"))
        return self

    def inner_product(
        self,
        name: str,
        num_output: int,
        *,
        bias: bool = True,
        weight_filler: FillerParameter | None = None,
        bias_filler: FillerParameter | None = None,
        multipliers: Multipliers = (),
        bottom: str | None = None,
    ) -> NetBuilder:
        """Add an InnerProduct; `multipliers` are (lr_mult, decay_mult) of weights and bias."""
        layer = self._add(name, "InnerProduct", bottom, multipliers=multipliers)
        layer.inner_product_param.num_output = num_output
        _weights(layer.inner_product_param, bias, weight_filler, bias_filler)
        return self

    def prelu(self, name: str, *, shared: bool = False, propagate_down: bool | None = None) -> NetBuilder:
        """Add a PReLU, in place."""
        layer = self._add(name, "PReLU", None, top=self.last)
        if shared:
            layer.prelu_param.channel_shared = True
        if propagate_down is not None:
            layer.propagate_down.append(propagate_down)
        return self

    def relu(self, name: str, *, negative_slope: float = 0.0) -> NetBuilder:
        """Add a ReLU, in place."""
        layer = self._add(name, "ReLU", None, top=self.last)
        if negative_slope:
            layer.relu_param.negative_slope = negative_slope
        return self

    def batch_norm(self, name: str, *, eps: float | None = None) -> NetBuilder:
        """Add a BatchNorm, in place; its three blobs do not learn by gradient."""
        layer = self._add(name, "BatchNorm", None, top=self.last, multipliers=((0, 0),) * 3)
        if eps is not None:
            layer.batch_norm_param.eps = eps
        return self

    def scale(self, name: str, *, bias: bool = True) -> NetBuilder:
        """Add a Scale, in place."""
        self._add(name, "Scale", None, top=self.last).scale_param.bias_term = bias
        return self

    def dropout(self, name: str, ratio: float = 0.5) -> NetBuilder:
        """Add a Dropout, in place."""
        self._add(name, "Dropout", None, top=self.last).dropout_param.dropout_ratio = ratio
        return self

    def max_pool(self, name: str, kernel: int, stride: int, *, pad: int = 0, bottom: str | None = None) -> NetBuilder:
        """Add a maximum Pooling."""
        return self._pool(name, PoolingParameter.MAX, kernel, stride, pad, bottom)

    def average_pool(
        self, name: str, kernel: int, stride: int, *, pad: int = 0, bottom: str | None = None
    ) -> NetBuilder:
        """Add an average Pooling."""
        return self._pool(name, PoolingParameter.AVE, kernel, stride, pad, bottom)

    def global_average_pool(self, name: str, *, bottom: str | None = None) -> NetBuilder:
        """Add an average over the whole image."""
        param = self._add(name, "Pooling", bottom).pooling_param
        param.pool = PoolingParameter.AVE
        param.global_pooling = True
        return self

    def eltwise_sum(self, name: str, *bottoms: str) -> NetBuilder:
        """Add the sum of blobs."""
        self._add(name, "Eltwise", *bottoms).eltwise_param.operation = EltwiseParameter.SUM
        return self

    def softmax(self, name: str, *, bottom: str | None = None) -> NetBuilder:
        """Add a Softmax over the channels."""
        self._add(name, "Softmax", bottom)
        return self

    def margin_inner_product(
        self,
        name: str,
        num_output: int,
        *,
        margin: int = 4,
        base: float = 1000.0,
        gamma: float = 0.12,
        power: float = 1.0,
        lambda_min: float = 5.0,
        iteration: int = 0,
        label: str = "label",
        lambda_top: str = "lambda",
    ) -> NetBuilder:
        """Add the A-Softmax layer of the SphereFace fork, with the authors' annealing by default.

        Parameters
        ----------
        name : str
        num_output : int
            Number of identities.
        margin : int
            The factor m on the angle, 1..4.
        base, gamma, power, lambda_min, iteration : float
            lambda = max(base (1 + gamma t)^(-power), lambda_min), t counted from `iteration`.
        label, lambda_top : str
            Blobs read and written.
        """
        if margin not in (1, 2, 3, 4):
            raise InvalidArgumentError(f"margin must be 1, 2, 3 or 4, but got {margin!r}")
        layer = self._add(name, "MarginInnerProduct", self.last, label, multipliers=((1, 1),))
        layer.top.append(lambda_top)
        layer.margin_inner_product_param.CopyFrom(
            MarginInnerProductParameter(
                num_output=num_output,
                type=MarginInnerProductParameter.MarginType.values()[margin - 1],
                weight_filler=xavier(),
                base=base,
                gamma=gamma,
                power=power,
                lambda_min=lambda_min,
                iteration=iteration,
            )
        )
        return self

    def softmax_with_loss(self, name: str, *, label: str = "label", bottom: str | None = None) -> NetBuilder:
        """Add the cross-entropy of a softmax."""
        self._add(name, "SoftmaxWithLoss", self.last if bottom is None else bottom, label)
        return self

    def _pool(
        self, name: str, method: PoolingParameter.PoolMethod, kernel: int, stride: int, pad: int, bottom: str | None
    ) -> NetBuilder:
        param = self._add(name, "Pooling", bottom).pooling_param
        param.pool = method
        param.kernel_size = kernel
        param.stride = stride
        if pad:
            param.pad = pad
        return self

    def _add(
        self, name: str, kind: str, *bottoms: str | None, top: str | None = None, multipliers: Multipliers = ()
    ) -> LayerParameter:
        layer: LayerParameter = self._net.layer.add(name=name, type=kind)
        layer.bottom.extend(self.last if bottom is None else bottom for bottom in bottoms)
        layer.top.append(name if top is None else top)
        for lr_mult, decay_mult in multipliers:
            layer.param.add(lr_mult=lr_mult, decay_mult=decay_mult)
        self._last = layer.top[0]
        return layer


def _weights(
    param: ConvolutionParameter | InnerProductParameter,
    bias: bool,
    weight_filler: FillerParameter | None,
    bias_filler: FillerParameter | None,
) -> None:
    if not bias:
        param.bias_term = False
    if weight_filler is not None:
        param.weight_filler.CopyFrom(weight_filler)
    if bias_filler is not None and bias:
        param.bias_filler.CopyFrom(bias_filler)
