"""Every layer against central differences in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spherecv.train.backend import Backend
from spherecv.train.net import Net

DATA = np.random.default_rng(0).normal(size=(3, 6, 5, 4))
LABEL = np.array([0, 2, 1])


def _net(layer: str) -> str:
    """A convolution before the layer, so that parameters on both sides are looked at."""
    first = """layer { name: "first" type: "Convolution" bottom: "data" top: "first"
      convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" }
        bias_filler { type: "constant" value: 0.3 } } }"""
    return first + layer


@pytest.mark.parametrize(
    "settings",
    [
        "kernel_size: 3 pad: 1",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
        "kernel_size: 3 pad: 2 dilation: 2",
        "kernel_size: 3 pad: 1 group: 2",
        "kernel_size: 3 pad: 1 group: 4",
        "kernel_size: 2 bias_term: false",
    ],
)
def test_convolution(check_net: Callable, settings: str) -> None:
    check_net(
        _net(
            'layer { name: "conv" type: "Convolution" bottom: "first" top: "conv" '
            f'convolution_param {{ num_output: 8 {settings} weight_filler {{ type: "xavier" }} }} }}'
        ),
        {"data": DATA},
    )


@pytest.mark.parametrize(
    "layer",
    [
        'type: "PReLU"',
        'type: "PReLU" prelu_param { channel_shared: true filler { type: "constant" value: -0.1 } }',
        'type: "PReLU" prelu_param { filler { type: "uniform" min: -0.5 max: 0.5 } }',
        'type: "ReLU"',
        'type: "ReLU" relu_param { negative_slope: 0.2 }',
        'type: "Sigmoid"',
        'type: "TanH"',
        'type: "Dropout" dropout_param { dropout_ratio: 0.4 }',
        'type: "Softmax"',
        'type: "Flatten"',
        'type: "InnerProduct" inner_product_param { num_output: 7 weight_filler { type: "xavier" } }',
        'type: "BatchNorm"',
        'type: "BatchNorm" batch_norm_param { use_global_stats: true }',
        'type: "Scale" scale_param { bias_term: true filler { type: "uniform" min: -1 max: 1 } }',
        'type: "Scale"',
        'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 }',
        'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 round_mode: FLOOR }',
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 ceil_mode: false }',
    ],
)
def test_layers_of_one_bottom(check_net: Callable, layer: str) -> None:
    check_net(_net(f'layer {{ name: "it" bottom: "first" top: "it" {layer} }}'), {"data": DATA})


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Eltwise"',
        'type: "Eltwise" eltwise_param { operation: SUM coeff: 0.5 coeff: -2 }',
        'type: "Eltwise" eltwise_param { operation: PROD }',
        'type: "Eltwise" eltwise_param { operation: MAX }',
        'type: "Concat"',
    ],
)
def test_layers_of_two_bottoms(check_net: Callable, layer: str) -> None:
    second = """layer { name: "second" type: "Convolution" bottom: "data" top: "second"
      convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }"""
    it = f'layer {{ name: "it" bottom: "first" bottom: "second" top: "it" {layer} }}'
    check_net(_net(second + it), {"data": DATA})


def test_in_place_and_shared_bottoms(check_net: Callable) -> None:
    check_net(
        _net(
            """layer { name: "act" type: "PReLU" bottom: "first" top: "first" }
            layer { name: "two" type: "Split" bottom: "first" top: "a" top: "b" }
            layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
            layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "first" top: "sum" }"""
        ),
        {"data": DATA},
    )


def test_layers_that_share_a_weight(check_net: Callable) -> None:
    layers = "".join(
        f"""layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" param {{ name: "w" }}
          convolution_param {{ num_output: 4 kernel_size: 1 bias_term: false weight_filler {{ type: "xavier" }} }} }}"""
        for bottom, top in (("first", "a"), ("a", "b"))
    )
    net = check_net(_net(layers), {"data": DATA})
    assert [param.name for param in net.params] == ["first/0", "first/1", "a/0"]


@pytest.mark.parametrize(
    ("layer", "index"),
    [
        ('type: "BatchReindex"', [2.0, 0.0, 2.0, 1.0]),
        ('type: "Filter"', [1.0, 0.0, 3.0]),
    ],
)
def test_layers_that_choose_images(check_net: Callable, layer: str, index: list[float]) -> None:
    """Real Caffe's golden answers have no gradients of these."""
    text = _net(f'layer {{ name: "it" bottom: "first" bottom: "index" top: "it" {layer} }}')
    check_net(text, {"data": DATA, "index": np.array(index)})


def test_a_filter_that_takes_nothing(double: object) -> None:
    from spherecv.errors import PrototxtError
    from spherecv.train.net import Net

    text = b'layer { name: "it" bottom: "data" bottom: "index" top: "it" type: "Filter" }'
    net = Net.from_prototxt(text, double, shapes={"data": (3, 4, 6, 5), "index": (3,)})  # type: ignore[arg-type]
    with pytest.raises(PrototxtError, match="none of the 3 images"):
        net.forward({"data": DATA, "index": np.zeros(3)})


def test_embed(check_net: Callable) -> None:
    """Nor have they of this one."""
    text = """layer { name: "it" type: "Embed" bottom: "index" top: "it" embed_param { num_output: 4 input_dim: 6
      weight_filler { type: "uniform" min: -1 max: 1 } } }
    layer { name: "tanh" type: "TanH" bottom: "it" top: "tanh" }"""
    check_net(text, {"index": np.array([3.0, 0.0, 3.0, 5.0])})


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layers(check_net: Callable, kind: str) -> None:
    text = f"""layer {{ name: "it" type: "{kind}" bottom: "x" bottom: "cont" bottom: "fixed" top: "it"
      recurrent_param {{ num_output: 3 weight_filler {{ type: "uniform" min: -1 max: 1 }}
        bias_filler {{ type: "uniform" min: -1 max: 1 }} }} }}"""
    rng = np.random.default_rng(2)
    # Nothing is carried over: each sequence begins anew, so that a pass does not depend on the one before.
    cont = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    inputs = {"x": rng.normal(size=(4, 2, 5)), "cont": cont, "fixed": rng.normal(size=(2, 3))}
    net = check_net(text, inputs, given_only="cont")
    assert net.state() != {}


def test_recurrent_state_is_carried_over_and_restored(double: object) -> None:
    from spherecv.train.net import Net

    text = b"""layer { name: "it" type: "LSTM" bottom: "x" bottom: "cont" top: "it"
      recurrent_param { num_output: 3 weight_filler { type: "uniform" min: -1 max: 1 } } }"""
    shapes = {"x": (4, 2, 5), "cont": (4, 2)}
    net, twin = (Net.from_prototxt(text, double, shapes=shapes) for _ in range(2))  # type: ignore[arg-type]
    long = Net.from_prototxt(text, double, shapes={"x": (8, 2, 5), "cont": (8, 2)})  # type: ignore[arg-type]
    x, cont = np.random.default_rng(0).normal(size=(8, 2, 5)), np.ones((8, 2))
    whole = long.forward({"x": x, "cont": cont}).blobs["it"]
    first = net.forward({"x": x[:4], "cont": cont[:4]}).blobs["it"]
    twin.restore(net.state())
    for after in (net, twin):
        np.testing.assert_allclose(after.forward({"x": x[4:], "cont": cont[4:]}).blobs["it"], whole[4:], rtol=1e-12)
    np.testing.assert_allclose(first, whole[:4], rtol=1e-12)


@pytest.mark.parametrize("loss", ["", "loss_param { ignore_label: 2 }", "loss_param { normalization: NONE }"])
def test_softmax_with_loss(check_net: Callable, loss: str) -> None:
    check_net(
        _net(
            f"""layer {{ name: "fc" type: "InnerProduct" bottom: "first" top: "fc"
              inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} }}
            layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
              loss_weight: 0.7 {loss} }}"""
        ),
        {"data": DATA, "label": LABEL},
    )


@pytest.mark.parametrize("margin", ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
def test_margin_inner_product_exact(check_net: Callable, margin: str) -> None:
    """Through the normalisation of the weights, too: the numbers are changed before it."""
    check_net(
        _net(
            f"""layer {{ name: "fc" type: "InnerProduct" bottom: "first" top: "fc"
              inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
            layer {{ name: "fc6" type: "MarginInnerProduct" bottom: "fc" bottom: "label" top: "fc6" top: "lambda"
              margin_inner_product_param {{ num_output: 4 type: {margin} weight_filler {{ type: "xavier" }}
                base: 1 gamma: 1 power: 1 lambda_min: 0.5 }} }}
            layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }}"""
        ),
        {"data": DATA, "label": LABEL},
        exact_margin=True,
    )


def test_batch_norm_keeps_caffes_statistics(double: object) -> None:
    """The stored sums decay by 0.999 a step, the variance is unbiased, and TEST divides by the third blob."""
    from spherecv.train.net import Net

    text = b'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }'
    net = Net.from_prototxt(text, double, shapes={"data": (3, 4, 6, 5)})  # type: ignore[arg-type]
    mean = np.zeros(4)
    for _ in range(2):
        net.forward({"data": DATA})
        mean = mean * 0.999 + DATA.mean(axis=(0, 1, 2))
    blobs = [param.data for param in net.params]
    np.testing.assert_allclose(blobs[0], mean)
    np.testing.assert_allclose(blobs[1], DATA.var(axis=(0, 1, 2), ddof=1) * 1.999)
    np.testing.assert_allclose(blobs[2], [1.999])
    net.train(False)
    y = net.forward({"data": DATA}).blobs["bn"]
    expected = (DATA - DATA.mean(axis=(0, 1, 2))) / np.sqrt(DATA.var(axis=(0, 1, 2), ddof=1) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_dropout_keeps_the_mean_and_rests_outside_training(double: object) -> None:
    from spherecv.train.net import Net

    text = b'layer { name: "d" type: "Dropout" bottom: "data" top: "d" dropout_param { dropout_ratio: 0.25 } }'
    net = Net.from_prototxt(text, double, shapes={"data": (1, 1, 200, 200)})  # type: ignore[arg-type]
    ones = np.ones((1, 200, 200, 1))
    dropped = net.forward({"data": ones}).blobs["d"]
    assert set(np.unique(dropped)) == {0.0, 1 / 0.75}
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    net.train(False)
    assert (net.forward({"data": ones}).blobs["d"] == 1).all()


def test_a_loss_that_died_reads_as_in_caffe(double: object) -> None:
    from spherecv.train.net import Net

    text = b'layer { name: "l" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "l" }'
    net = Net.from_prototxt(text, double, shapes={"data": (1, 2), "label": (1,)})  # type: ignore[arg-type]
    assert net.forward({"data": np.array([[0.0, 1e4]]), "label": np.array([0])}).loss == pytest.approx(
        87.3365, abs=1e-3
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5, 2)])
def test_inner_product_from_any_axis_in_caffes_order(
    double: Backend, shape: tuple[int, ...], axis: int, transposed: bool
) -> None:
    """A transposed weight had been taken for one over maps wherever three axes are summed over."""
    sizes = " ".join(f"dim: {size}" for size in shape)
    settings = f"num_output: 3 axis: {axis} transpose: {str(transposed).lower()}"
    layer = f'name: "l" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {settings} }}'
    text = f'input: "x" input_shape {{ {sizes} }} layer {{ {layer} }}'
    net, random = Net.from_prototxt(text.encode(), double), np.random.default_rng(0)
    x, length = random.normal(size=shape), int(np.prod(shape[axis:]))
    weight = random.normal(size=(length, 3) if transposed else (3, length))
    net.params[0].from_caffe(double, weight)
    net.params[1].from_caffe(double, np.zeros(3))
    given = np.moveaxis(x, 1, -1) if len(shape) == 4 else x
    y = net.forward({"x": np.ascontiguousarray(given)}).blobs["y"]
    y = np.moveaxis(y, -1, 1) if y.ndim == 4 else y
    expected = x.reshape(*shape[: axis % len(shape)], length) @ (weight if transposed else weight.T)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
