from __future__ import annotations

import numpy as np
import pytest

from spherecv.caffe import load, write_blob
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, BlobShape, NetParameter
from spherecv.errors import CaffeModelError, PrototxtError

TEXT = (
    b'input: "x" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }\n'
    b'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 3 kernel_size: 2 } }'
)


def _weights(*shapes, name="c"):
    net = NetParameter()
    layer = net.layer.add(name=name)
    for shape in shapes:
        write_blob(np.ones(shape), layer.blobs.add())
    return net


def test_weights_are_found_by_name_and_others_passed_over():
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer.add(name="data")
    weights.layer.add(name="loss").blobs.add(data=[1])
    net = load(TEXT, weights.SerializeToString())
    assert [blob.shape for blob in net.layers[0].blobs] == [(3, 2, 2, 2), (3,)]


def test_ones_in_front_of_the_four_numbers_of_old_are_no_difference():
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer[0].blobs[1].CopyFrom(BlobProto(num=1, channels=1, height=1, width=3, data=[1, 2, 3]))
    assert load(TEXT, weights.SerializeToString()).layers[0].blobs[1].tolist() == [1, 2, 3]


def test_ones_in_front_of_a_shape_of_today_are_refused_as_in_caffe():
    with pytest.raises(CaffeModelError, match=r"blob 1 of layer 'c' .* \(1, 1, 1, 3\) .* asks for \(3,\)"):
        load(TEXT, _weights((3, 2, 2, 2), (1, 1, 1, 3)).SerializeToString())


def _dense(*layers):
    """A chain of InnerProducts from 2 to 2 without bias: (name, params)."""
    text, bottom = 'input: "x" input_shape { dim: 1 dim: 2 }\n', "x"
    for index, (name, settings) in enumerate(layers):
        text += f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "t{index}" {settings} }}\n'
        bottom = f"t{index}"
    return text.encode()


DENSE = "inner_product_param { num_output: 2 bias_term: false %s }"


def _model(*layers):
    net = NetParameter()
    for name, value in layers:
        write_blob(np.full((2, 2), value), net.layer.add(name=name).blobs.add())
    return net.SerializeToString()


def _first(net):
    return [float(layer.blobs[0].flat[0]) for layer in net.layers]


@pytest.mark.parametrize(
    ("stored", "both"),
    [((("a", 1),), 1), ((("b", 2),), 2), ((("a", 1), ("b", 2)), 2), ((("b", 2), ("a", 1)), 1)],
)
def test_a_shared_weight_is_what_was_stored_last(stored, both):
    shared = 'param { name: "w" } ' + DENSE % ""
    assert _first(load(_dense(("a", shared), ("b", shared)), _model(*stored))) == [both, both]


def test_a_shared_weight_may_be_stored_with_a_layer_that_is_not_needed():
    shared = 'param { name: "w" } ' + DENSE % ""
    text = _dense(("a", shared), ("b", shared)) + b'layer { name: "c" type: "Fancy" bottom: "t0" top: "z" }'
    text = text.replace(b'bottom: "t0" top: "t1"', b'bottom: "x" top: "t1"')
    net = load(text, _model(("a", 3)), outputs=["t1"])
    assert ([layer.name for layer in net.layers], _first(net)) == (["b"], [3])


def test_shapes_of_shared_weights():
    shared = 'param { name: "w" %s } inner_product_param { num_output: %d bias_term: false }'
    text = _dense(("a", shared % ("", 3)), ("b", shared % ("", 2)))
    weights = NetParameter()
    write_blob(np.arange(6).reshape(3, 2), weights.layer.add(name="a").blobs.add())
    with pytest.raises(PrototxtError, match=r"layer 'b' .* shares the param 'w' with layer 'a'"):
        load(text, weights.SerializeToString())
    permissive = ("share_mode: PERMISSIVE", 2)
    net = load(_dense(("a", shared % ("", 3)), ("b", shared % permissive)), weights.SerializeToString())
    assert net.layers[1].blobs[0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_first_layer_of_a_name_takes_the_weights_and_the_second_keeps_its_filler():
    text = _dense(("f", DENSE % ""), ("f", DENSE % ""))
    assert _first(load(text, _model(("f", 1), ("f", 2)))) == [2, 0]


@pytest.mark.parametrize(
    ("filler", "value"),
    [("weight_filler { value: 0.5 }", 0.5), ('weight_filler { type: "constant" }', 0)],
)
def test_a_stated_filler_fills_what_is_not_stored(filler, value):
    assert _first(load(_dense(("a", DENSE % ""), ("b", DENSE % filler)), _model(("a", 1)))) == [1, value]


@pytest.mark.parametrize(("filler", "words"), [("", "no weights"), ('weight_filler { type: "xavier" }', "by chance")])
def test_what_no_filler_gives_is_missing(filler, words):
    with pytest.raises(CaffeModelError, match=f"no weights for layer 'b' .*{words}" if filler else words):
        load(_dense(("a", DENSE % ""), ("b", DENSE % filler)), _model(("a", 1)))


def test_raw_data_of_every_width():
    for kind, code in ((np.float16, 2), (np.float32, 1), (np.float64, 0)):
        weights = NetParameter()
        blob = BlobProto(raw_data_type=code, raw_data=np.array([[1, 2], [3, 4.5]], kind).tobytes())
        blob.shape.dim.extend([2, 2])
        weights.layer.add(name="a").blobs.append(blob)
        (layer,) = load(_dense(("a", DENSE % "")), weights.SerializeToString()).layers
        assert layer.blobs[0].tolist() == [[1, 2], [3, 4.5]]
    for broken in (BlobProto(raw_data=b"123", raw_data_type=2), BlobProto(raw_data=b"1234", raw_data_type=3)):
        weights.layer[0].blobs[0].CopyFrom(broken)
        with pytest.raises(CaffeModelError, match="raw_data"):
            load(_dense(("a", DENSE % "")), weights.SerializeToString())


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (_weights((3, 2, 2, 2), (3,), name="conv_1"), r"no weights for layer 'c' .*it has conv_1$"),
        (_weights(), "no weights for layer 'c'"),
        (_weights((3, 2, 2, 2)), "needs 2 blobs, but the caffemodel has 1"),
        (_weights((3, 2, 2, 2), (3,), (1,)), "needs 2 blobs, but the caffemodel has 3"),
        (_weights((3, 2, 3, 2), (3,)), r"blob 0 of layer 'c' .* shape \(3, 2, 3, 2\) .* asks for \(3, 2, 2, 2\)"),
        (_weights((2, 3, 2, 2), (3,)), "asks for"),
        (_weights((3, 2, 2, 2), (3, 1)), "blob 1"),
    ],
)
def test_weights_of_another_net(weights, complaint):
    with pytest.raises(CaffeModelError, match=complaint):
        load(TEXT, weights.SerializeToString())


def test_a_shape_that_overflows():
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer[0].blobs[0].CopyFrom(BlobProto(shape=BlobShape(dim=[1 << 62, 4]), data=[1]))
    with pytest.raises(CaffeModelError, match="states the shape 4611686018427387904x4 but holds 1 numbers"):
        load(TEXT, weights.SerializeToString())


def test_the_models_of_two_nets_swapped(data_dir):
    folder = data_dir / "mtcnn-caffe"
    with pytest.raises(CaffeModelError, match=r"det3.caffemodel: .*layer 'conv1' \(Convolution, line 11\)"):
        load(folder / "det2.prototxt", folder / "det3.caffemodel")


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ('param { name: "w" lr_mult: 1 }', 'param { name: "w" lr_mult: 0.5 }', "layer 'b' .*another lr_mult"),
        ('param { name: "w" decay_mult: 1 }', 'param { name: "w" decay_mult: 0 }', "another decay_mult"),
        ("param { } param { }", "", "layer 'a' .*2 params for 1 blobs"),
        ("propagate_down: true propagate_down: false", "", "gives propagate_down 2 times"),
        ("", "loss_weight: 1 loss_weight: 1", "gives loss_weight 2 times"),
    ],
)
def test_settings_of_params_that_caffe_refuses(first, second, complaint):
    text = _dense(("a", f"{first} {DENSE % ''}"), ("b", f"{second} {DENSE % ''}"))
    with pytest.raises(PrototxtError, match=complaint):
        load(text, _model(("a", 1), ("b", 2)))


def test_one_multiplier_counts_for_both():
    shared = 'param { name: "w" %s } ' + DENSE % ""
    assert _first(load(_dense(("a", shared % ""), ("b", shared % "lr_mult: 2")), _model(("a", 1)))) == [1, 1]


def test_names_in_any_encoding_find_their_weights():
    text = _dense(("卷积/1-a", DENSE % "")).decode().encode("gbk")
    weights = _model(("xxxxxxxx", 3)).replace(b"xxxxxxxx", "卷积/1-a".encode("gbk"))
    (layer,) = load(text, weights).layers
    assert (layer.name, layer.blobs[0].flat[0]) == ("卷积/1-a", 3)
    with pytest.raises(CaffeModelError, match=r"no weights for layer '卷积/1-a' .*it has other"):
        load(text, _model(("other", 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(bad):
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer[0].blobs[1].data[1] = bad
    with pytest.raises(CaffeModelError, match=r"blob 1 of layer 'c' .*holds 1 weights of 3 that are NaN or infinite"):
        load(TEXT, weights.SerializeToString())


def test_a_double_beyond_single_precision_is_refused_too():
    weights = _weights((3, 2, 2, 2), (3,))
    blob = weights.layer[0].blobs[1]
    blob.ClearField("data")
    blob.double_data.extend([1, 1e300, 2])
    with pytest.raises(CaffeModelError, match="1 weights of 3 that are NaN or infinite"):
        load(TEXT, weights.SerializeToString())


def test_layers_that_the_net_lacks_may_hold_anything():
    weights = _weights((3, 2, 2, 2), (3,))
    write_blob(np.full((2,), np.nan), weights.layer.add(name="loss").blobs.add())
    assert load(TEXT, weights.SerializeToString()).layers[0].blobs[1].tolist() == [1, 1, 1]
