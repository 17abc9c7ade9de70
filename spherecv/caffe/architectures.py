"""The nets of the MTCNN and SphereFace papers, equal in structure to the prototxts that their authors released.

``python -m spherecv.caffe.architectures FOLDER`` writes the prototxts that the package ships into a folder.
"""

from __future__ import annotations

from collections.abc import Callable

from spherecv.caffe.builder import FROZEN, WEIGHT_AND_BIAS, Multipliers, NetBuilder, constant, gaussian, xavier
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.checks import check_choice

# Residual units in each of the four stages: table 2 of the SphereFace paper, but for 64 layers, where the released
# prototxt has 7 units in the second stage and the table 8. Files are what must fit, so the prototxt wins.
SPHEREFACE_UNITS: dict[int, tuple[int, int, int, int]] = {
    4: (0, 0, 0, 0),
    10: (0, 1, 2, 0),
    20: (1, 2, 4, 1),
    36: (2, 4, 8, 2),
    64: (3, 7, 16, 3),
}
_SPHEREFACE_CHANNELS = (64, 128, 256, 512)
_SPHEREFACE_DIMENSIONS = 512
# What fits into 12 MB and 250 million multiply-adds; widths are multiples of 16, which suit vector units.
_MINI_UNITS = (0, 1, 2, 1)
_MINI_CHANNELS = (32, 64, 144, 192)
_MINI_DIMENSIONS = 128
_CASIA_IDENTITIES = 10572

_DECAYING_BIAS: Multipliers = ((1, 1), (2, 1))
# In the authors' residual units the bias stays at zero: its rate is zero.
_BIAS_STAYS: Multipliers = ((1, 1), (0, 0))


def mtcnn_pnet() -> NetParameter:
    """Return MTCNN's first net (det1): faces and boxes at every place of an image of any size."""
    net = NetBuilder("PNet").input("data", (1, 3, 12, 12))
    _mtcnn_conv(net, "conv1", 10, 3, WEIGHT_AND_BIAS).prelu("PReLU1").max_pool("pool1", 2, 2)
    _mtcnn_conv(net, "conv2", 16, 3, WEIGHT_AND_BIAS).prelu("PReLU2")
    _mtcnn_conv(net, "conv3", 32, 3, WEIGHT_AND_BIAS).prelu("PReLU3")
    _mtcnn_conv(net, "conv4-1", 2, 1, WEIGHT_AND_BIAS, bottom="conv3")
    _mtcnn_conv(net, "conv4-2", 4, 1, WEIGHT_AND_BIAS, bottom="conv3")
    return net.softmax("prob1", bottom="conv4-1").build()


def mtcnn_rnet() -> NetParameter:
    """Return MTCNN's second net (det2): 24x24 candidates looked at again."""
    net = NetBuilder("RNet").input("data", (1, 3, 24, 24))
    _mtcnn_conv(net, "conv1", 28, 3, FROZEN).prelu("prelu1", propagate_down=True).max_pool("pool1", 3, 2)
    _mtcnn_conv(net, "conv2", 48, 3, FROZEN).prelu("prelu2", propagate_down=True).max_pool("pool2", 3, 2)
    _mtcnn_conv(net, "conv3", 64, 2, FROZEN).prelu("prelu3", propagate_down=True)
    _mtcnn_dense(net, "conv4", 128, FROZEN).prelu("prelu4")
    _mtcnn_dense(net, "conv5-1", 2, FROZEN, bottom="conv4")
    _mtcnn_dense(net, "conv5-2", 4, _DECAYING_BIAS, bottom="conv4")
    return net.softmax("prob1", bottom="conv5-1").build()


def mtcnn_onet() -> NetParameter:
    """Return MTCNN's third net (det3): 48x48 candidates, with landmarks."""
    net = NetBuilder("ONet").input("data", (1, 3, 48, 48))
    _mtcnn_conv(net, "conv1", 32, 3, _DECAYING_BIAS).prelu("prelu1").max_pool("pool1", 3, 2)
    _mtcnn_conv(net, "conv2", 64, 3, _DECAYING_BIAS).prelu("prelu2").max_pool("pool2", 3, 2)
    _mtcnn_conv(net, "conv3", 64, 3, _DECAYING_BIAS, stride=None).prelu("prelu3").max_pool("pool3", 2, 2)
    _mtcnn_conv(net, "conv4", 128, 2, _DECAYING_BIAS, stride=None).prelu("prelu4")
    _mtcnn_dense(net, "conv5", 256, _DECAYING_BIAS).dropout("drop5", 0.25).prelu("prelu5")
    for name, size in (("conv6-1", 2), ("conv6-2", 4), ("conv6-3", 10)):
        _mtcnn_dense(net, name, size, _DECAYING_BIAS, bottom="conv5")
    return net.softmax("prob1", bottom="conv6-1").build()


def sphereface(depth: int = 20) -> NetParameter:
    """Return a SphereFace net for use: image `data` (1, 3, 112, 96) to embedding `fc5` (1, 512).

    Parameters
    ----------
    depth : int
        4, 10, 20, 36 or 64 layers.

    Raises
    ------
    InvalidArgumentError
        For another depth.
    """
    net = NetBuilder(f"SpherefaceNet-{_depth(depth)}").input("data", (1, 3, 112, 96))
    return _sphereface_body(net, SPHEREFACE_UNITS[depth]).build()


def sphereface_mini() -> NetParameter:
    """Return the small SphereFace net that travels with the package: image `data` (1, 3, 112, 96) to `fc5` (1, 128).

    Twelve layers of SphereFace's blocks, with biases that learn.
    """
    net = NetBuilder("SpherefaceNet-mini").input("data", (1, 3, 112, 96))
    _sphereface_body(
        net, _MINI_UNITS, _MINI_CHANNELS, dimensions=_MINI_DIMENSIONS, unit_multipliers=WEIGHT_AND_BIAS
    )
    return net.build()


def sphereface_training(
    depth: int = 20,
    *,
    source: str = "data/CASIA-WebFace-112X96.txt",
    identities: int = _CASIA_IDENTITIES,
    batch_size: int = 256,
    margin: int = 4,
    base: float = 1000.0,
    gamma: float = 0.12,
    power: float = 1.0,
    lambda_min: float = 5.0,
) -> NetParameter:
    """Return a SphereFace net for training, with the authors' data layer and A-Softmax loss.

    Parameters
    ----------
    depth : int
        4, 10, 20, 36 or 64 layers.
    source : str
        List file: a path and a label on each line.
    identities : int
        Number of labels.
    batch_size : int
        Images per iteration.
    margin, base, gamma, power, lambda_min : number
        As in `NetBuilder.margin_inner_product`.

    Raises
    ------
    InvalidArgumentError
        For another depth or margin.
    """
    net = NetBuilder(f"SpherefaceNet-{_depth(depth)}").image_data(
        source, batch_size=batch_size, mean=(127.5,) * 3, scale=1 / 128, mirror=True, shuffle=True
    )
    _sphereface_body(net, SPHEREFACE_UNITS[depth]).margin_inner_product(
        "fc6", identities, margin=margin, base=base, gamma=gamma, power=power, lambda_min=lambda_min
    )
    return net.softmax_with_loss("softmax_loss").build()


SHIPPED: dict[str, Callable[[], NetParameter]] = {
    "mtcnn-pnet": mtcnn_pnet,
    "mtcnn-rnet": mtcnn_rnet,
    "mtcnn-onet": mtcnn_onet,
    "sphereface-20": lambda: sphereface(20),
    "sphereface-64": lambda: sphereface(64),
    "sphereface-mini": sphereface_mini,
}


def _mtcnn_conv(
    net: NetBuilder,
    name: str,
    num_output: int,
    kernel: int,
    multipliers: Multipliers,
    *,
    stride: int | None = 1,
    bottom: str | None = None,
) -> NetBuilder:
    return net.conv(
        name,
        num_output,
        kernel,
        stride=stride,
        weight_filler=xavier(),
        bias_filler=constant(0),
        multipliers=multipliers,
        bottom=bottom,
    )


def _mtcnn_dense(
    net: NetBuilder, name: str, num_output: int, multipliers: Multipliers, *, bottom: str | None = None
) -> NetBuilder:
    return net.inner_product(
        name, num_output, weight_filler=xavier(), bias_filler=constant(0), multipliers=multipliers, bottom=bottom
    )


def _depth(depth: int) -> int:
    check_choice("depth", depth, SPHEREFACE_UNITS)
    return depth


def _sphereface_body(
    net: NetBuilder,
    stages: tuple[int, ...],
    widths: tuple[int, ...] = _SPHEREFACE_CHANNELS,
    *,
    dimensions: int = _SPHEREFACE_DIMENSIONS,
    unit_multipliers: Multipliers = _BIAS_STAYS,
) -> NetBuilder:
    for stage, (units, channels) in enumerate(zip(stages, widths, strict=True), start=1):
        first = f"conv{stage}_1"
        net.conv(
            first,
            channels,
            3,
            stride=2,
            pad=1,
            weight_filler=xavier(),
            bias_filler=constant(0),
            multipliers=WEIGHT_AND_BIAS,
        ).prelu(f"relu{stage}_1")
        shortcut = first
        for unit in range(units):
            for index in (2 * unit + 2, 2 * unit + 3):
                net.conv(
                    f"conv{stage}_{index}",
                    channels,
                    3,
                    stride=1,
                    pad=1,
                    weight_filler=gaussian(0.01),
                    bias_filler=constant(0),
                    multipliers=unit_multipliers,
                ).prelu(f"relu{stage}_{index}")
            net.eltwise_sum(f"res{stage}_{2 * unit + 3}", shortcut, net.last)
            shortcut = net.last
    return net.inner_product(
        "fc5",
        dimensions,
        weight_filler=xavier(),
        bias_filler=constant(0),
        multipliers=WEIGHT_AND_BIAS,
    )


def main(folder: str) -> None:
    """Write every prototxt that the package ships into a folder."""
    from pathlib import Path

    from spherecv.caffe.writer import write_prototxt

    for name, build in SHIPPED.items():
        write_prototxt(build(), Path(folder) / f"{name}.prototxt")


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
