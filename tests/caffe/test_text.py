from __future__ import annotations

import pytest

from spherecv.caffe import text
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import PrototxtError


def test_layers_are_found_by_line():
    outline = text.outline(
        '# layer { in a comment\nname: "layer {"\nlayer {\n  param { name: "x" }\n}\n\nlayer: <\n>\nlayers { }', "net"
    )
    assert outline.layer == (3, 7)
    assert outline.layers == (9,)


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ("name: 'net'\nlayer {\n  nmae: 'x'\n}", 3, 3),
        ("layer {\n  convolution_param { num_output: many }\n}", 2, 35),
        ("layer {\n  name: 'open", 2, 9),
        ("layer {", 1, 7),
        ("layer { pooling_param { pool: MEDIAN } }", 1, 31),
        ("input_dim: 99999999999", 1, 12),
    ],
)
def test_mistakes_have_line_and_column(content, line, column):
    with pytest.raises(PrototxtError) as caught:
        text.parse(content, NetParameter(), "net.prototxt")
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"net.prototxt:{line}:{column}: ")
    assert "\n" not in str(caught.value)


def test_v0_says_how_to_upgrade():
    with pytest.raises(PrototxtError, match=r"V0.*upgrade_net_proto_text") as caught:
        text.outline('layers {\n  layer { name: "conv1" type: "conv" }\n}', "old")
    assert caught.value.line == 2


def test_nesting_is_bounded():
    with pytest.raises(PrototxtError, match="deep"):
        text.outline("layer { " * 5000, "net")


@pytest.mark.parametrize(
    ("data", "complaint", "place"),
    [
        (b"name: 'a'\nname: '\xff'", "not UTF-8", (2, 8)),
        (b"\x0a\x00\x01", "swapped", (None, None)),
        (b" " * (text.MAX_BYTES + 1), "more than any prototxt", (None, None)),
    ],
)
def test_what_is_no_text_is_refused(data, complaint, place):
    with pytest.raises(PrototxtError, match=complaint) as caught:
        text.decode(data, "net")
    assert (caught.value.line, caught.value.column) == place


def test_a_byte_order_mark_is_no_mistake():
    assert text.decode(b"\xef\xbb\xbfname: 'x'", "net") == "name: 'x'"


def test_rendered_numbers_are_read_back_exactly():
    net = NetParameter(name="Größe")
    net.layer.add().power_param.scale = 0.1
    assert text.parse(text.render(net), NetParameter(), "net") == net
    assert "0.1" in text.render(net)
